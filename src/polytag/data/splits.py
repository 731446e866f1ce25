"""A validation split for data without one, and the check that a data set can be trained on.

Shapes: N images, G groups of images, each of one image where no groups are known, C classes, 2 parts P: training and validation.
"""

from dataclasses import replace

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.groups import group_numbers, several_groups
from polytag.errors import DataError, UsageError

VAL_FRACTION = 0.2


def with_validation_split(dataset: Dataset, *, fraction: float = VAL_FRACTION, seed: int = 0) -> Dataset:
    """Divide data without splits into "train" and "val"; the same seed gives the same division.

    Iterative stratification divides rare classes in proportion: Sechidis, Tsoumakas, Vlahavas (2011), "On the stratification of
    multi-label data", algorithm 1. `fraction` of the images, in (0, 1), go to "val". The order of the rows does not change.
    The images of a group stay together. Groups are divided by the same algorithm, those with most positives of a class first; then,
    as long as that helps, the group changes sides that brings the shares of the classes, and of the images, closest to `fraction`.
    Raises UsageError for a fraction outside (0, 1), DataError for data that already name splits, for fewer than two images, or for
    a single group.
    """
    if not 0 < fraction < 1:
        raise UsageError("a validation share outside 0 and 1", got=str(fraction), expected="more than 0 and less than 1")
    if any(dataset.split_N):
        raise DataError(
            "the annotations name splits already",
            where=dataset.source,
            got=", ".join(repr(split) for split in dataset.splits),
            expected="annotations without splits",
        )
    if len(dataset) < 2:
        raise DataError("too few images for a validation split", where=dataset.source, got=str(len(dataset)), expected="2 or more")
    number_N = several_groups(dataset, what="all images are in a single group", why="stay in one split")
    size_G = np.bincount(number_N)
    present_NC = (dataset.target_NC == PRESENT)[np.argsort(number_N, kind="stable")]
    positive_GC = np.add.reduceat(present_NC, np.cumsum(size_G) - size_G, axis=0, dtype=np.int32)
    is_val_G = _stratified(positive_GC, size_G, fraction=fraction, rng=np.random.default_rng(seed))
    return replace(dataset, split_N=tuple("val" if is_val else "train" for is_val in is_val_G[number_N]))


def large_group_note(dataset: Dataset, *, fraction: float = VAL_FRACTION) -> str:
    """A sentence on the largest group where it has more images than the validation split should have; else ""."""
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
    """Raises DataError unless there are images in "train" and in "val", and a positive and a negative of some class in each."""
    for split in ("train", "val"):
        part = dataset.split(split)
        if reason := why_not_trainable(part.target_NC):
            counts = [int((part.target_NC == label).sum()) for label in (PRESENT, ABSENT, UNKNOWN)]
            raise DataError(
                f"{reason} in split {split!r}",
                where=dataset.source,
                got="{} images with {} present, {} absent and {} unknown labels".format(len(part), *counts),
                expected="present and absent labels: a class that every image has cannot be told from anything",
                next_step="`polytag data check` shows what was read; in a table 0 is absent and -1 is unknown; of folders, "
                "one for each class, there are at least two",
            )


def why_not_trainable(target_NC: np.ndarray) -> str:
    """Why nothing can be learned from these labels: "no class has a positive", or "... a negative"; "" if some class has each."""
    lacking = [kind for label, kind in ((PRESENT, "positive"), (ABSENT, "negative")) if not (target_NC == label).any()]
    return f"no class has a {lacking[0]}" if lacking else ""


def _stratified(positive_GC: np.ndarray, size_G: np.ndarray, *, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """bool, G: whether each group is for validation. Part 0 is training, part 1 validation."""
    num_images = int(size_G.sum())
    num_val = min(max(round(fraction * num_images), 1), num_images - 1)
    wanted_P = np.array([num_images - num_val, num_val], dtype=float)
    wanted_PC = wanted_P[:, None] / num_images * positive_GC.sum(axis=0)
    part_G = np.full(len(size_G), -1, dtype=np.int8)
    order = rng.permutation(len(size_G))
    remaining_C = positive_GC.sum(axis=0)
    while (remaining_C > 0).any():
        rarest = int(np.argmin(np.where(remaining_C > 0, remaining_C, num_images + 1)))
        count_G = positive_GC[:, rarest]
        for group in _largest_first(order[(count_G[order] > 0) & (part_G[order] < 0)], count_G):
            part = _neediest(wanted_PC[:, rarest], wanted_P, rng)
            part_G[group] = part
            wanted_PC[part] -= positive_GC[group]
            wanted_P[part] -= size_G[group]
            remaining_C = remaining_C - positive_GC[group]
    for group in _largest_first(order[part_G[order] < 0], size_G):  # those without a label fill both parts up to their size
        part_G[group] = _neediest(wanted_P, wanted_P, rng)
        wanted_P[part_G[group]] -= size_G[group]
    if part_G.min() == part_G.max():  # few groups, all of one class
        part_G[order[0]] = 1 - part_G[order[0]]
    if size_G.max() == 1:
        return part_G == 1
    return _improved(part_G == 1, np.column_stack([positive_GC, size_G]), fraction=fraction)


def _largest_first(group_K: np.ndarray, count_G: np.ndarray) -> np.ndarray:
    """These groups by descending count; ties keep their order."""
    return group_K[np.argsort(-count_G[group_K], kind="stable")]


def _neediest(wanted_of_class_P: np.ndarray, wanted_P: np.ndarray, rng: np.random.Generator) -> int:
    """The part that lacks most images of the class; ties are broken by the images it lacks, then at random."""
    for wanted in (wanted_of_class_P, wanted_P):
        if abs(wanted[0] - wanted[1]) > 1e-9:
            return int(wanted[1] > wanted[0])
    return int(rng.integers(2))


def _improved(is_val_G: np.ndarray, count_GK: np.ndarray, *, fraction: float) -> np.ndarray:
    """Groups change sides, one at a time, the best first, while the squared error of the K counts, each over its total, falls."""
    total_K = count_GK.sum(axis=0)
    weight_K = 1 / np.maximum(total_K, 1)
    own_error_G = np.square(count_GK) @ weight_K
    while True:
        excess_K = count_GK[is_val_G].sum(axis=0) - fraction * total_K
        sign_G = np.where(is_val_G, -1, 1)
        change_G = 2 * sign_G * (count_GK @ (weight_K * excess_K)) + own_error_G  # of the squared error
        for side_G in (is_val_G, ~is_val_G):
            if side_G.sum() == 1:
                change_G[side_G] = np.inf  # neither part is left empty
        best = int(change_G.argmin())
        if change_G[best] > -1e-9:
            return is_val_G
        is_val_G = is_val_G ^ (np.arange(len(is_val_G)) == best)
