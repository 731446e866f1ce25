"""Groups of dependent images: the images of one patient, scene or video, which the bootstrap draws together.

Shapes: N images, C classes, P positives of a class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.errors import UsageError
from polytag.text import counted

Value = str | float | None
"""The value of an image in a column: a text or a number; None, "", NaN and infinity are missing values."""


def is_missing(value: Value) -> bool:
    """Whether an image has no value."""
    return value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """N images in groups: those of a group depend on each other, those of different groups do not.

    column        the name of what they share, such as "patient"; may be ""
    group_N       the group of each image, numbered from 0 in the order of its first image
    is_without_N  images without a value, each a group of its own
    """

    column: str
    group_N: np.ndarray
    is_without_N: np.ndarray

    @property
    def num_groups(self) -> int:
        """How many groups the images are in."""
        return int(self.group_N.max(initial=-1)) + 1

    def take(self, rows: np.ndarray) -> "Groups":
        """The groups of these images, numbered again."""
        return Groups(column=self.column, group_N=_numbered(self.group_N[rows].tolist()), is_without_N=self.is_without_N[rows])

    def num_with(self, is_true_NC: np.ndarray) -> np.ndarray:
        """int C: how many groups have an image that is true."""
        return np.array([np.count_nonzero(np.bincount(self.group_N[is_true_N])) for is_true_N in is_true_NC.T], np.int64)

    def one_of_each(self, is_eligible_N: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """int: the rows of one image, drawn at random, of each group that has an eligible one. Those of different groups are
        independent."""
        row_N = np.random.default_rng(seed).permutation(len(self.group_N))
        row_N = row_N[is_eligible_N[row_N]]
        _, first_G = np.unique(self.group_N[row_N], return_index=True)
        return row_N[first_G]

    @property
    def note(self) -> str:
        """A sentence on what the intervals draw."""
        of_column = f" of {self.column}" if self.column else ""
        num_without = int(self.is_without_N.sum())
        without = f" {num_without:,} without a value: each image a group of its own." if num_without else ""
        return f"Intervals draw {counted(self.num_groups, 'groups')}{of_column}, not images.{without}"

    def to_json(self) -> dict[str, object]:
        """The keys that groups add to a file of metrics or of a comparison."""
        return {"group": self.column, "num_groups": self.num_groups}


def groups_of(value_N: Sequence[Value], *, column: str = "") -> Groups:
    """Groups by the N values of a column; images without a value (None, "", NaN, infinity) are groups of their own.

    Raises UsageError if no image has a value, or if all are in a single group.
    """
    where = f"--group {column}" if column else "groups"
    is_without_N = np.array([is_missing(value) for value in value_N], bool)
    if is_without_N.all():
        raise UsageError("no image has a value in the column", where=where, expected="a value for some images")
    keys = [("without", row) if is_without_N[row] else value for row, value in enumerate(value_N)]
    groups = Groups(column=column, group_N=_numbered(keys), is_without_N=is_without_N)
    require_several(groups, where=where)
    return groups


def require_several(groups: Groups, *, where: str) -> None:
    """Raise UsageError for a single group, which says nothing about how groups differ."""
    if groups.num_groups < 2:
        raise UsageError(
            "all images are in a single group",
            where=where,
            got=counted(len(groups.group_N), "images"),
            expected="two groups or more: an interval is over the groups that might have been drawn",
        )


def paired_groups(groups: Groups, ids: Sequence[str], paired_ids: Sequence[str]) -> Groups:
    """The groups of the images that are paired. Raises UsageError if it is a single one."""
    assert len(groups.group_N) == len(ids)
    if tuple(paired_ids) != tuple(ids):
        row_of = {name: row for row, name in enumerate(ids)}
        groups = groups.take(np.array([row_of[name] for name in paired_ids]))
    require_several(groups, where="the paired images")
    return groups


def effective_number(is_true_NC: np.ndarray, weight_N: np.ndarray | None, groups: Groups | None) -> np.ndarray:
    """C: how many equally weighted images, or groups, are worth as much as the true ones (Kish 1965, Survey Sampling).

    (sum w)^2 / sum w^2, with the mean weight of a group's true images; 0 where none is true with a weight above 0. Without weights
    their number.
    """
    if weight_N is None:
        return is_true_NC.sum(axis=0) if groups is None else groups.num_with(is_true_NC)
    if groups is None:
        sum_C, square_C = weight_N @ is_true_NC, weight_N**2 @ is_true_NC
    else:

        def of_groups(value_N: np.ndarray) -> np.ndarray:
            return np.bincount(groups.group_N, weights=value_N, minlength=groups.num_groups)

        mean_CG = [of_groups(weight_N * true_N) / np.maximum(of_groups(true_N), 1) for true_N in is_true_NC.T]
        sum_C, square_C = (np.array([(mean_G**power).sum() for mean_G in mean_CG]) for power in (1, 2))
    return np.divide(sum_C**2, square_C, out=np.zeros(len(sum_C)), where=square_C > 0)


def others_at_least(
    target_N: np.ndarray, score_N: np.ndarray, group_N: np.ndarray, *, weight_N: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each of P positives: how many images of other groups are scored at least as high, and how many of them are positive.

    With weights, how much they weigh; 0 for what is less than rounding.
    """
    known = np.flatnonzero(target_N >= 0)
    is_positive = target_N[known] == 1
    _, rank_K = np.unique(-score_N[known].astype(np.float64), return_inverse=True)  # 0 for the highest score
    first_K = group_N[known].astype(np.int64) * (len(known) + 1)  # in one order: by group, and within it by rank
    rank_P, first_P = rank_K[is_positive], first_K[is_positive]

    def others(is_counted_K: np.ndarray) -> np.ndarray:
        rank_J, place_J = rank_K[is_counted_K], (first_K + rank_K)[is_counted_K]
        weight_J = None if weight_N is None else weight_N[known[is_counted_K]]
        every_P = _total(rank_J, weight_J, up_to=rank_P)
        own_P = _total(place_J, weight_J, up_to=first_P + rank_P) - _total(place_J, weight_J, up_to=first_P - 1)
        return np.where(every_P - own_P > 1e-12 * every_P, every_P - own_P, 0)

    return others(np.ones(len(known), bool)), others(is_positive)


def _total(key_J: np.ndarray, weight_J: np.ndarray | None, *, up_to: np.ndarray) -> np.ndarray:
    """For each of P integers: how many of J keys are at most that, or how much they weigh."""
    if weight_J is None:
        return np.searchsorted(np.sort(key_J), up_to, side="right")
    order_J = np.argsort(key_J)
    return np.append(0, np.cumsum(weight_J[order_J]))[np.searchsorted(key_J[order_J], up_to, side="right")]


def _numbered(keys: Sequence[object]) -> np.ndarray:
    """Each key as a number from 0, in the order of first appearance."""
    number_of: dict[object, int] = {}
    return np.array([number_of.setdefault(key, len(number_of)) for key in keys], np.int64)
