"""A validation split for data without one, and the check that a data set can be trained on."""

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.errors import DataError, UsageError


def with_validation_split(dataset: Dataset, *, fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Divide data without splits into "train" and "val"; the same seed gives the same division.

    Iterative stratification divides rare classes in proportion: Sechidis, Tsoumakas, Vlahavas (2011), "On the stratification of
    multi-label data", algorithm 1. `fraction` of the images, in (0, 1), go to "val". The order of the rows does not change.
    Raises UsageError for a fraction outside (0, 1), DataError for data that already name splits or for fewer than two images.
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
    is_val_N = _stratified(dataset.target_NC == PRESENT, fraction=fraction, rng=np.random.default_rng(seed))
    return Dataset(
        ids=dataset.ids,
        paths=dataset.paths,
        target_NC=dataset.target_NC,
        split_N=tuple("val" if is_val else "train" for is_val in is_val_N),
        label_set=dataset.label_set,
        source=dataset.source,
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


def _stratified(positive_NC: np.ndarray, *, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """bool, N: whether each image is for validation. Part 0 is training, part 1 validation."""
    num_images = len(positive_NC)
    num_val = min(max(round(fraction * num_images), 1), num_images - 1)
    wanted_P = np.array([num_images - num_val, num_val], dtype=float)
    wanted_PC = wanted_P[:, None] / num_images * positive_NC.sum(axis=0)
    part_N = np.full(num_images, -1, dtype=np.int8)
    order = rng.permutation(num_images)
    remaining_C = positive_NC.sum(axis=0)
    while (remaining_C > 0).any():
        rarest = int(np.argmin(np.where(remaining_C > 0, remaining_C, num_images + 1)))
        for row in order[positive_NC[order, rarest] & (part_N[order] < 0)]:
            part = _neediest(wanted_PC[:, rarest], wanted_P, rng)
            part_N[row] = part
            wanted_PC[part] -= positive_NC[row]
            wanted_P[part] -= 1
            remaining_C = remaining_C - positive_NC[row]
    for row in order[part_N[order] < 0]:  # images without a label fill both parts up to their size
        part_N[row] = _neediest(wanted_P, wanted_P, rng)
        wanted_P[part_N[row]] -= 1
    if part_N.min() == part_N.max():  # few images, all of one class
        part_N[order[0]] = 1 - part_N[order[0]]
    return part_N == 1


def _neediest(wanted_of_class_P: np.ndarray, wanted_P: np.ndarray, rng: np.random.Generator) -> int:
    """The part that lacks most images of the class; ties are broken by the images it lacks, then at random."""
    for wanted in (wanted_of_class_P, wanted_P):
        if abs(wanted[0] - wanted[1]) > 1e-9:
            return int(wanted[1] > wanted[0])
    return int(rng.integers(2))
