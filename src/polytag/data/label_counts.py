"""How often each class is present, absent and unknown in each split, in memory that does not grow with the images.

Shapes: N images, S splits, C classes, B rows of a block, V targets.
"""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset

_BLOCK = 65_536  # rows


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelCounts:
    """int64: images of each split and class by target, images by their number of present classes, images without a known label."""

    present_SC: np.ndarray
    absent_SC: np.ndarray
    unknown_SC: np.ndarray
    num_images_of_count: np.ndarray
    num_without_label: int


def label_counts(dataset: Dataset) -> LabelCounts:
    """Count all labels in one pass, a block of rows at a time."""
    number_of = {split: s for s, split in enumerate(dataset.splits)}
    split_N = np.array([number_of[split] for split in dataset.split_N], np.int64)
    count_VSC = np.zeros((3, len(number_of), len(dataset.label_set)), np.int64)
    count_N = np.zeros(len(dataset), np.int64)
    num_without_label = 0
    for start in range(0, len(dataset), _BLOCK):
        rows = slice(start, start + _BLOCK)
        for v, value in enumerate((PRESENT, ABSENT, UNKNOWN)):
            is_value_BC = dataset.target_NC[rows] == value
            for s in range(len(number_of)):
                count_VSC[v, s] += is_value_BC[split_N[rows] == s].sum(axis=0)
            if value == PRESENT:
                count_N[rows] = is_value_BC.sum(axis=1)
            elif value == UNKNOWN:
                num_without_label += int(is_value_BC.all(axis=1).sum())
    present_SC, absent_SC, unknown_SC = count_VSC
    return LabelCounts(
        present_SC=present_SC,
        absent_SC=absent_SC,
        unknown_SC=unknown_SC,
        num_images_of_count=np.bincount(count_N),
        num_without_label=num_without_label,
    )
