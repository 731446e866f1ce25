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
        return np.array([len(np.unique(self.group_N[is_true_N])) for is_true_N in is_true_NC.T], np.int64)

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


def others_at_least(target_N: np.ndarray, score_N: np.ndarray, group_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of P positives: how many images of other groups are scored at least as high, and how many of them are positive."""
    known = np.flatnonzero(target_N >= 0)
    is_positive = target_N[known] == 1
    _, rank_K = np.unique(-score_N[known].astype(np.float64), return_inverse=True)  # 0 for the highest score
    first_K = group_N[known].astype(np.int64) * (len(known) + 1)  # in one order: by group, and within it by rank
    rank_P, first_P = rank_K[is_positive], first_K[is_positive]

    def others(rank_J: np.ndarray, first_J: np.ndarray) -> np.ndarray:
        place_J = np.sort(first_J + rank_J)
        own_P = np.searchsorted(place_J, first_P + rank_P, side="right") - np.searchsorted(place_J, first_P)
        return np.searchsorted(np.sort(rank_J), rank_P, side="right") - own_P

    return others(rank_K, first_K), others(rank_P, first_P)


def _numbered(keys: Sequence[object]) -> np.ndarray:
    """Each key as a number from 0, in the order of first appearance."""
    number_of: dict[object, int] = {}
    return np.array([number_of.setdefault(key, len(number_of)) for key in keys], np.int64)
