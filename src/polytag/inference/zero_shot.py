"""Zero-shot scores by vectors of class names, and their combination with a probe in the proportion that held-out images choose.

A text tower such as CLIP's gives a vector of each class name in the space of its image vectors; the cosine of both is a score that
no label was needed for. Shapes: N images, D features of length 1, C classes.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021; the weighted mean of
zero-shot and trained classifiers is that of Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, for a linear head.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polytag.inference.probe import Probe
from polytag.metrics.ap import mean_average_precision, mean_over_defined

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Combined:
    """A linear head that is the weighted mean of a probe's and the zero-shot one.

    share      of the zero-shot scores, from 0 to 1
    fold_map   held-out mAP of every share, the mean over the folds
    """

    weight_CD: Tensor
    bias_C: Tensor
    share: float
    fold_map: dict[float, float]


def unit_length(feature_ND: np.ndarray) -> np.ndarray:
    """float32 N x D: every vector divided by its length; a vector of zeros stays."""
    length_N1 = np.linalg.norm(feature_ND, axis=1, keepdims=True)
    return feature_ND / np.maximum(length_N1, np.finfo(np.float32).tiny)


def combine_with_zero_shot(probe: Probe, feature_ND: np.ndarray, target_NC: np.ndarray, class_CD: np.ndarray) -> Combined:
    """The head (1 - share) x probe + share x zero-shot, on the training images that the probe was fitted on.

    Zero-shot scores of a class get the mean and the deviation of the probe's held-out logits. A class that the probe could not
    learn, because it has no positive or no negative, has none: it gets the median deviation of the others. The share is the one of
    the highest mAP on the folds that the probe's regressions left out, if it is better than the probe alone by more than two
    standard errors of the paired difference between folds; else 0. Deterministic.
    """
    held_out_NC = probe.held_out_logit_NC
    cosine_NC = feature_ND @ class_CD.T
    deviation_C, spread_C = held_out_NC.std(axis=0), cosine_NC.std(axis=0)
    is_learned_C = (target_NC == 1).any(axis=0) & (target_NC == 0).any(axis=0)
    usual = float(np.median(deviation_C[is_learned_C])) if is_learned_C.any() else 1.0
    factor_C = np.where(is_learned_C, deviation_C, usual) / np.maximum(spread_C, 1e-6)
    offset_C = held_out_NC.mean(axis=0) - factor_C * cosine_NC.mean(axis=0)
    zero_shot_NC = factor_C * cosine_NC + offset_C

    folds = [np.flatnonzero(probe.fold_N == fold) for fold in range(int(probe.fold_N.max()) + 1)]
    map_SF = np.array(
        [
            [mean_average_precision(target_NC[rows], ((1 - share) * held_out_NC + share * zero_shot_NC)[rows]) for rows in folds]
            for share in SHARES
        ]
    )
    share = _chosen(map_SF)
    factor, offset, vector = (torch.from_numpy(each.astype(np.float32)) for each in (factor_C, offset_C, class_CD))
    return Combined(
        weight_CD=(1 - share) * probe.weight_CD + share * factor[:, None] * vector,
        bias_C=(1 - share) * probe.bias_C + share * offset,
        share=share,
        fold_map={each: mean_over_defined(values) for each, values in zip(SHARES, map_SF, strict=True)},
    )


def _chosen(map_SF: np.ndarray) -> float:
    """The share of the highest mean over the folds that have a mAP, if its gain exceeds two standard errors; else 0."""
    map_SF = map_SF[:, ~np.isnan(map_SF).any(axis=0)]
    if map_SF.shape[1] < 2:
        return 0.0
    best = int(map_SF.mean(axis=1).argmax())
    gain_F = map_SF[best] - map_SF[0]
    error = gain_F.std(ddof=1) / np.sqrt(len(gain_F))
    return SHARES[best] if gain_F.mean() > 2 * error else 0.0
