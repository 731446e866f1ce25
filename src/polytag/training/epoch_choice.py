"""What choosing the best epoch on the validation images adds to their mAP."""

import numpy as np
import torch
from torch import Tensor

from polytag.contracts import Dataset, Predictions
from polytag.data.groups import group_numbers
from polytag.metrics.groups import Groups
from polytag.metrics.optimism import replicate_map
from polytag.training.state import State

_LEAST = 0.0005  # less is not seen in three decimals


def replicates_of_epoch(predictions: Predictions, val_set: Dataset) -> Tensor:
    """float64 B: the epoch's validation mAP in bootstrap replicates; dependent images are drawn together."""
    groups = None
    if any(val_set.group_N):
        row_of = {name: row for row, name in enumerate(val_set.ids)}
        scored = val_set.take([row_of[name] for name in predictions.ids])
        groups = Groups(column="", group_N=group_numbers(scored), is_without_N=np.array([not each for each in scored.group_N]))
    return torch.from_numpy(replicate_map(predictions, groups=groups))


def optimism_note(state: State) -> str:
    """A sentence on it; "" where it is too small to be seen."""
    optimism, num_epochs = state.optimism, len(state.rows)
    if optimism < _LEAST:
        return ""
    return f"the best of {num_epochs} epochs is chosen on the validation images: their mAP is about {optimism:.3f} too high for it"
