"""Iterative stratification: images, or whole groups of them, divided into parts with every class in proportion.

Sechidis, Tsoumakas, Vlahavas (2011), "On the stratification of multi-label data", algorithm 1, for groups of images as well.
Shapes: N images, G groups of images, each of one image where no groups are known, C classes, P parts, E pairs of a group and a
class that it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import PRESENT

_EQUAL = 1e-9
_ROWS = 1 << 16  # looked at together, so that the labels of millions of images are never copied whole
_MAX_WORK = 5e8  # pairs of a group and a class that improving a division looks at: seconds


def stratified_parts(target_NC: np.ndarray, *, number_N: np.ndarray, share_P: Sequence[float], seed: int) -> np.ndarray:
    """int N: the part of each image. The same seed gives the same parts; the images of a group, by its number, share one.

    `share_P` are positive and sum to 1; no part is empty, so there are at least P groups. Groups with most positives of a class
    come first. What is not in the paper: then, as long as that helps, the group changes parts that brings the shares of the
    classes, and of the images, closest to `share_P`.
    """
    size_G = np.bincount(number_N)
    assert len(share_P) <= len(size_G)
    counts = _counts_of(target_NC, number_N)
    part_G = _iterative(counts, size_G, share_P=share_P, rng=np.random.default_rng(seed))
    return _improved(part_G, counts, size_G, share_P=np.asarray(share_P))[number_N]


def part_sizes(num_images: int, share_P: Sequence[float]) -> list[int]:
    """The images of each part, which sum to all: the largest remainders are rounded up, and no part is empty."""
    exact_P = num_images * np.asarray(share_P)
    size_P = np.floor(exact_P + _EQUAL).astype(int)
    largest_first = np.argsort(size_P - exact_P, kind="stable")
    size_P[largest_first[: num_images - int(size_P.sum())]] += 1
    while size_P.min() == 0 and size_P.max() > 1:
        size_P[size_P.argmax()] -= 1
        size_P[size_P.argmin()] += 1
    return size_P.tolist()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counts:
    """The positives of each group, without the zeros: entries ordered by group, then by class.

    group_E, class_E, count_E   an entry: this group has so many positives of this class
    start_G                     the first entry of each group, and at the end E
    total_C                     positives of each class
    """

    group_E: np.ndarray
    class_E: np.ndarray
    count_E: np.ndarray
    start_G: np.ndarray
    total_C: np.ndarray


def _counts_of(target_NC: np.ndarray, number_N: np.ndarray) -> _Counts:
    num_groups, num_classes = int(number_N.max()) + 1, target_NC.shape[1]
    keys = [
        number_N[start + row_E] * num_classes + class_E
        for start in range(0, len(target_NC), _ROWS)
        for row_E, class_E in [np.nonzero(target_NC[start : start + _ROWS] == PRESENT)]
    ]
    key_E, count_E = np.unique(np.concatenate(keys), return_counts=True)
    group_E, class_E = np.divmod(key_E, num_classes)
    return _Counts(
        group_E=group_E,
        class_E=class_E,
        count_E=count_E,
        start_G=np.searchsorted(group_E, np.arange(num_groups + 1)),
        total_C=np.bincount(class_E, weights=count_E, minlength=num_classes).astype(np.int64),
    )


def _iterative(counts: _Counts, size_G: np.ndarray, *, share_P: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """int G: the part of each group, by the algorithm of the paper. Plain lists: an image has few labels."""
    num_images, num_parts = int(size_G.sum()), len(share_P)
    wanted_P = np.array(part_sizes(num_images, share_P), dtype=float)
    wanted_CP: list[list[float]] = (wanted_P / num_images * counts.total_C[:, None]).tolist()
    lacking_P: list[float] = wanted_P.tolist()
    order = rng.permutation(len(size_G))
    rank_G = np.empty_like(order)
    rank_G[order] = np.arange(len(order))
    by_class_E = np.lexsort((rank_G[counts.group_E], -counts.count_E, counts.class_E))  # of a class, those with most come first
    first_C = np.searchsorted(counts.class_E[by_class_E], np.arange(len(counts.total_C) + 1))
    start_G, class_E, count_E = counts.start_G.tolist(), counts.class_E.tolist(), counts.count_E.tolist()
    remaining: dict[int, int] = {c: total for c, total in enumerate(counts.total_C.tolist()) if total}
    part_G = [-1] * len(size_G)
    while remaining:
        rarest = min(remaining, key=lambda c: (remaining[c], c))
        for group in counts.group_E[by_class_E[first_C[rarest] : first_C[rarest + 1]]].tolist():
            if part_G[group] >= 0:
                continue
            part = part_G[group] = _neediest(wanted_CP[rarest], lacking_P, rng)
            for entry in range(start_G[group], start_G[group + 1]):
                c, count = class_E[entry], count_E[entry]
                wanted_CP[c][part] -= count
                remaining[c] -= count
            lacking_P[part] -= int(size_G[group])
        remaining = {c: left for c, left in remaining.items() if left}
    unlabelled = order[np.array(part_G)[order] < 0]
    for group in unlabelled[np.argsort(-size_G[unlabelled], kind="stable")].tolist():  # they fill the parts up to their sizes
        part = part_G[group] = _neediest(lacking_P, lacking_P, rng)
        lacking_P[part] -= int(size_G[group])
    return _without_empty(np.array(part_G), order, num_parts=num_parts)


def _neediest(wanted_of_class_P: Sequence[float], lacking_P: Sequence[float], rng: np.random.Generator) -> int:
    """The part that lacks most images of the class; ties are broken by the images it lacks, then at random."""
    most = max(wanted_of_class_P) - _EQUAL
    equal = [part for part, wanted in enumerate(wanted_of_class_P) if wanted >= most]
    if len(equal) > 1:
        most = max(lacking_P[part] for part in equal) - _EQUAL
        equal = [part for part in equal if lacking_P[part] >= most]
    return equal[0] if len(equal) == 1 else equal[int(rng.integers(len(equal)))]


def _without_empty(part_G: np.ndarray, order: np.ndarray, *, num_parts: int) -> np.ndarray:
    """Few groups may all have gone to few parts: an empty part gets the first group whose own part has another."""
    count_P = np.bincount(part_G, minlength=num_parts)
    for part in np.flatnonzero(count_P == 0):
        group = next(group for group in order if count_P[part_G[group]] > 1)
        count_P[part_G[group]] -= 1
        part_G[group], count_P[part] = part, 1
    return part_G


def _improved(part_G: np.ndarray, counts: _Counts, size_G: np.ndarray, *, share_P: np.ndarray) -> np.ndarray:
    """Groups change parts, one at a time, the best first, while the squared error of the counts, each over its total, falls.

    The counts of a part are its positives of each class, and its images. No part is left empty.
    """
    part_G, num_parts, num_images = part_G.copy(), len(share_P), int(size_G.sum())
    weight_C = 1 / np.maximum(counts.total_C, 1)

    def summed(per_class_C: np.ndarray, count_E: np.ndarray) -> np.ndarray:
        """For each group, the sum over its classes of a number per class times its count."""
        return np.bincount(counts.group_E, weights=per_class_C[counts.class_E] * count_E, minlength=len(size_G))

    own_error_G = summed(weight_C, counts.count_E**2) + size_G**2 / num_images
    excess_PC = -share_P[:, None] * counts.total_C
    np.add.at(excess_PC, (part_G[counts.group_E], counts.class_E), counts.count_E)
    excess_P = np.bincount(part_G, weights=size_G, minlength=num_parts) - share_P * num_images
    pull_PG = np.stack(
        [summed(weight_C * excess_PC[p], counts.count_E) + size_G * excess_P[p] / num_images for p in range(num_parts)]
    )
    for _ in range(max(20, int(_MAX_WORK / (len(counts.group_E) + len(size_G) * num_parts)))):
        change_PG = pull_PG - pull_PG[part_G, np.arange(len(part_G))] + own_error_G  # half of that of the squared error
        change_PG[part_G, np.arange(len(part_G))] = 0
        count_P = np.bincount(part_G, minlength=num_parts)
        change_PG[:, count_P[part_G] == 1] = 0
        part, group = np.unravel_index(int(change_PG.argmin()), change_PG.shape)
        if change_PG[part, group] > -_EQUAL:
            break
        before, entries = part_G[group], slice(counts.start_G[group], counts.start_G[group + 1])
        for p, sign in ((before, -1), (part, 1)):
            excess_PC[p, counts.class_E[entries]] += sign * counts.count_E[entries]
            excess_P[p] += sign * size_G[group]
            pull_PG[p] = summed(weight_C * excess_PC[p], counts.count_E) + size_G * excess_P[p] / num_images
        part_G[group] = part
    return part_G
