"""A validation split for data without one, and the check that a data set can be trained on.

Shapes: N images, G groups of images, each of one image where no groups are known, C classes, M images
that are divided.
"""

from dataclasses import replace

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.groups import group_numbers, several_groups
from polytag.data.stratify import stratified_parts
from polytag.errors import DataError, UsageError

VAL_FRACTION = 0.2
_BLOCK = 65_536  # rows whose labels are looked at at a time
ONLY_POSITIVE = (
    "absent means unknown here, so only an explicit absence is a negative, and without one no model can be validated: give "
    "validation images some (0 in a column of the class), or read the labels with --absent-means absent, which takes every label "
    "that nobody gave for absent"
)
"""What to do where labels are only positive and nothing is absent."""


def with_validation_split(dataset: Dataset, *, fraction: float = VAL_FRACTION, seed: int = 0) -> Dataset:
    """Divide data that lack a validation split into "train" and "val"; the same seed gives the same division.

    Iterative stratification divides rare classes in proportion: see stratify.py. `fraction` of the images, in (0, 1), go to "val".
    The order of the rows does not change. The images of a group stay together. Those of "test" stay there.
    Raises UsageError for a fraction outside (0, 1), DataError for data that do not lack it, for fewer than two images, or for a
    single group.
    """
    if not 0 < fraction < 1:
        raise UsageError("a validation share outside 0 and 1", got=str(fraction), expected="more than 0 and less than 1")
    if len(dataset) and not lacks_validation(dataset):
        raise DataError(
            "the annotations name splits already",
            where=dataset.source,
            got=", ".join(repr(split) for split in dataset.splits),
            expected="annotations without splits, or with train and test only",
        )
    row_M = [row for row, split in enumerate(dataset.split_N) if split != "test"]
    if len(row_M) < 2:
        raise DataError("too few images for a validation split", where=dataset.source, got=str(len(row_M)), expected="2 or more")
    divided = dataset if len(row_M) == len(dataset) else dataset.take(row_M)
    number_M = several_groups(divided, what="all images are in a single group", why="stay in one split")
    part_M = stratified_parts(divided.target_NC, number_N=number_M, share_P=(1 - fraction, fraction), seed=seed)
    split_N = list(dataset.split_N)
    for row, part in zip(row_M, part_M.tolist(), strict=True):
        split_N[row] = "val" if part else "train"
    return replace(dataset, split_N=tuple(split_N))


def lacks_validation(dataset: Dataset) -> bool:
    """Whether training makes the validation split: there is one undivided split, "", "train" or "trainval", and at most "test"."""
    undivided = set(dataset.splits) - {"test"}
    return len(undivided) == 1 and undivided <= {"", "train", "trainval"}


def large_group_note(dataset: Dataset, *, fraction: float = VAL_FRACTION) -> str:
    """A sentence on the largest group where it has more images than the validation split should have; else ""."""
    if "test" in dataset.splits:
        dataset = dataset.take([row for row, split in enumerate(dataset.split_N) if split != "test"])
    number_N = group_numbers(dataset)
    size_G = np.bincount(number_N)
    wanted, largest = round(fraction * len(dataset)), int(size_G.argmax())
    if size_G[largest] <= max(wanted, 1):
        return ""
    name = dataset.group_N[int(np.flatnonzero(number_N == largest)[0])]
    return (
        f"the largest group, {name!r}, has {size_G[largest]:,} of {len(dataset):,} images, more than the {wanted:,} of a "
        "validation split: labels and sizes cannot be divided in proportion"
    )


def require_trainable(dataset: Dataset) -> None:
    """Raises DataError unless there are images in "train" and in "val", and a positive and a negative of some class in each.

    Where a label that nobody gave is unknown, "train" needs no negative: training takes unknown labels for absent then.
    """
    for split in ("train", "val"):
        row_M = dataset.rows_of(split)
        if reason := why_not_trainable(dataset, row_M, split=split):
            part = dataset.take(row_M)
            counts = [int((part.target_NC == label).sum()) for label in (PRESENT, ABSENT, UNKNOWN)]
            raise DataError(
                f"{reason} in split {split!r}",
                where=dataset.source,
                got="{} images with {} present, {} absent and {} unknown labels".format(len(part), *counts),
                expected="present and absent labels: a class that every image has cannot be told from anything",
                next_step=ONLY_POSITIVE
                if part.absent_means == "unknown"
                else "`polytag data check` shows what was read; in a table 0 is absent and -1 is unknown; of folders, "
                "one for each class, there are at least two",
            )


def why_not_trainable(dataset: Dataset, row_M: np.ndarray, *, split: str) -> str:
    """Why these rows of a split teach nothing: "no class has a positive", or "... a negative"; "" if some class has each."""
    is_positive_only = split == "train" and dataset.absent_means == "unknown"
    wanted = {(PRESENT,): "positive", (ABSENT, UNKNOWN) if is_positive_only else (ABSENT,): "negative"}
    for start in range(0, len(row_M), _BLOCK):  # which ends with the first block for all but empty labels
        block = dataset.target_NC[row_M[start : start + _BLOCK]]
        wanted = {labels: kind for labels, kind in wanted.items() if not np.isin(block, labels).any()}
        if not wanted:
            return ""
    return f"no class has a {next(iter(wanted.values()))}"
