"""What corrected training labels change: two linear probes on the same features, fitted alike, of which only the labels differ.

Shapes: N training images, M validation images, D features, C classes.
"""

from collections.abc import Callable

import numpy as np
import torch

from polytag.contracts import Dataset, Predictions
from polytag.data.groups import group_numbers
from polytag.inference.probe import fit_probe
from polytag.metrics.compare import compare
from polytag.metrics.comparison import Comparison
from polytag.metrics.groups import Groups

FITS = ("as they are", "corrected")
"""The labels of the two probes, as the comparison names them."""


def compare_relabelled(
    train_set: Dataset,
    corrected_NC: np.ndarray,
    train_ND: np.ndarray,
    *,
    val_set: Dataset,
    val_MD: np.ndarray,
    seed: int = 0,
    groups: Groups | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """Fit a probe on the training labels and one on the corrected ones, and compare both on the same validation labels.

    The difference is that of the corrected labels minus those as they are, paired over the validation images. `groups` are those of
    the validation images. `on_step` receives what begins; an exception that it raises ends the work. Raises what `compare` raises.
    """
    tables: list[Predictions] = []
    for name, target_NC in zip(FITS, (train_set.target_NC, corrected_NC), strict=True):
        on_step(f"Fitting a probe on the labels {name}.")
        probe = fit_probe(train_ND, target_NC, group_N=group_numbers(train_set), seed=seed)
        logit_MC = (torch.from_numpy(val_MD) @ probe.weight_CD.T + probe.bias_C).numpy()
        tables.append(
            Predictions(ids=val_set.ids, logit_NC=logit_MC, target_NC=val_set.target_NC, label_set=val_set.label_set, source=name)
        )
    on_step("Comparing the two on the validation images.")
    return compare(*tables, names=FITS, num_permutations=99, seed=seed, groups=groups)  # the page shows no p
