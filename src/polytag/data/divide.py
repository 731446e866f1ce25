"""A data set divided into parts of given shares, by labels or by time, or into folds; the images of a group stay together.

Shapes: N images, G groups of images, each of one image where no groups are known, P parts, T distinct times.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polytag.contracts import Dataset, require_class_name
from polytag.data.formats.listing import split_of
from polytag.data.groups import group_numbers
from polytag.data.stratify import part_sizes, stratified_parts
from polytag.errors import DataError, UsageError
from polytag.text import counted

DEFAULT_PARTS: Mapping[str, float] = {"train": 0.8, "val": 0.2}
MAX_FOLDS = 100
_UNDIVIDED = ("", "trainval")  # what such a split holds is divided, whatever the parts are called
_TOLERANCE = 1e-6


def divided(dataset: Dataset, *, share_of: Mapping[str, float], seed: int = 0) -> Dataset:
    """Divide a data set into parts of these shares, stratified by label; the same seed gives the same parts.

    Images of a split that is no part, such as "test", keep it; all others are divided anew. Raises UsageError for shares that do
    not sum to 1, DataError for fewer images or groups than parts.
    """
    require_shares(share_of)
    row_N = _rows_to_divide(dataset, share_of)
    part_N = _stratified(dataset.take(row_N), share_P=tuple(share_of.values()), seed=seed)
    return _with_parts(dataset, row_N, part_N, names=tuple(share_of))


def divided_by_time(dataset: Dataset, *, time_N: np.ndarray, share_of: Mapping[str, float]) -> Dataset:
    """Divide a data set by time: the earliest images are the first part, the latest the last.

    Images of one time stay together, so the shares are as near as the times allow. A group counts as a whole at the time of its
    latest image: no image of a part is later than any group of the next. Splits and errors as of `divided`.
    """
    require_shares(share_of)
    row_N = _rows_to_divide(dataset, share_of)
    number_N = group_numbers(dataset.take(row_N))
    latest_G = np.full(int(number_N.max()) + 1, -math.inf)
    np.maximum.at(latest_G, number_N, time_N[row_N])
    time_T, at_N = np.unique(latest_G[number_N], return_inverse=True)
    if len(time_T) < len(share_of):
        raise _too_few(dataset, len(row_N), got=counted(len(time_T), "times"), num_parts=len(share_of))
    before_T = np.cumsum(np.bincount(at_N))
    wanted_P = np.cumsum(part_sizes(len(row_N), tuple(share_of.values())))
    last_P: list[int] = []  # of each part but the last, the last time in it
    for place, wanted in enumerate(wanted_P[:-1].tolist()):
        possible = np.arange(last_P[-1] + 1 if last_P else 0, len(time_T) - (len(share_of) - 1 - place))
        last_P.append(int(possible[np.abs(before_T[possible] - wanted).argmin()]))
    return _with_parts(dataset, row_N, np.searchsorted(last_P, at_N), names=tuple(share_of))


@dataclass(frozen=True, kw_only=True, eq=False)
class Folds:
    """A data set in K folds.

    dataset    with the splits fold-1 to fold-K; other splits, such as "test", are in no fold
    names      what each fold is called in the annotations; fold-1 to fold-K where it was made here
    is_made    whether the folds were made here, stratified by label
    replaced   the splits of the annotations that were divided anew for them
    """

    dataset: Dataset
    names: tuple[str, ...]
    is_made: bool
    replaced: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        """The images in all folds."""
        return sum(self.dataset.split_N.count(fold_name(number)) for number in range(1, len(self.names) + 1))

    def fold(self, number: int) -> Dataset:
        """The data set with this fold, from 1, as "val" and the others as "train"."""
        names = {fold_name(other): "train" for other in range(1, len(self.names) + 1)} | {fold_name(number): "val"}
        return replace(self.dataset, split_N=tuple(names.get(split, split) for split in self.dataset.split_N))


def fold_name(number: int) -> str:
    """The split of a fold, from 1."""
    return f"fold-{number}"


def with_folds(dataset: Dataset, *, num_folds: int, seed: int = 0) -> Folds:
    """Divide a data set into folds, stratified by label; or find those that its splits are.

    Images without a split and those of train, val and trainval are divided; other splits, such as "test", are in no fold. Where the
    annotations name as many other splits (besides "test") as folds, those are the folds. Raises UsageError for fewer than 2 folds,
    DataError for other splits, an id in two of them, or too few images or groups.
    """
    if not 2 <= num_folds <= MAX_FOLDS:
        raise UsageError("the number of folds is out of range", got=str(num_folds), expected=f"2 to {MAX_FOLDS}")
    names = [name for name in dataset.splits if name not in ("train", "val", "test", *_UNDIVIDED)]
    if names and len(names) == len(set(dataset.splits) - {"test"}):
        if len(names) != num_folds:
            raise DataError(
                "the annotations name another number of folds",
                where=dataset.source,
                got=", ".join(map(repr, sorted(names, key=_natural)[:10])) + (", ..." if len(names) > 10 else ""),
                expected=f"{num_folds} splits, one for each fold; or train and val, or none, whose images are divided",
                next_step=f"give {counted(len(names), 'folds')}" if len(names) > 1 else "",
            )
        names.sort(key=_natural)
        number_of = {name: fold_name(number) for number, name in enumerate(names, start=1)}
        found = replace(dataset, split_N=tuple(number_of.get(split, split) for split in dataset.split_N))
        _require_distinct_ids(found)
        return Folds(dataset=found, names=tuple(names), is_made=False)
    folds = tuple(fold_name(number) for number in range(1, num_folds + 1))
    row_N = _rows_to_divide(dataset, ("train", "val"))
    part_N = _stratified(dataset.take(row_N), share_P=(1 / num_folds,) * num_folds, seed=seed)
    found = _with_parts(dataset, row_N, part_N, names=folds)
    _require_distinct_ids(found)
    replaced = tuple(split for split in dataset.splits if split and split not in found.splits)
    return Folds(dataset=found, names=folds, is_made=True, replaced=replaced)


def require_shares(share_of: Mapping[str, float]) -> None:
    """Raises UsageError unless these are two or more named parts, with positive shares that sum to 1."""
    total = sum(share_of.values())
    if len(share_of) < 2 or not all(share > 0 for share in share_of.values()) or not abs(total - 1) < _TOLERANCE:
        raise UsageError(
            "the shares of the parts do not make a whole",
            got=", ".join(f"{name}={share:g}" for name, share in share_of.items()) + f", which sum to {total:g}",
            expected="two or more parts with shares above 0 that sum to 1, such as train=0.7,val=0.15,test=0.15",
        )
    for name in share_of:
        require_class_name(name, where="the name of a part")
        if (usual := split_of(name)) not in (None, name):
            raise UsageError("an unusual name of a split", got=repr(name), expected=repr(usual))


def _rows_to_divide(dataset: Dataset, names: Mapping[str, float] | Sequence[str]) -> np.ndarray:
    row_N = np.flatnonzero([split in names or split in _UNDIVIDED for split in dataset.split_N])
    if not len(row_N):
        raise DataError(
            "there is no image to divide",
            where=dataset.source,
            got="the splits " + ", ".join(map(repr, dataset.splits[:10])),
            expected="images without a split, or in " + ", ".join(map(repr, names)),
            next_step="name the parts after the splits that are to be divided anew",
        )
    return row_N


def _stratified(pool: Dataset, *, share_P: Sequence[float], seed: int) -> np.ndarray:
    number_N = group_numbers(pool)
    num_groups = int(number_N.max()) + 1
    if num_groups < len(share_P):
        what = counted(num_groups, "groups") if num_groups < len(pool) else counted(num_groups, "images")
        raise _too_few(pool, len(pool), got=what, num_parts=len(share_P))
    return stratified_parts(pool.target_NC, number_N=number_N, share_P=share_P, seed=seed)


def _too_few(dataset: Dataset, num_images: int, *, got: str, num_parts: int) -> DataError:
    return DataError(
        "too few images to divide",
        where=dataset.source,
        got=f"{got}, of {counted(num_images, 'images')}" if "image" not in got else got,
        expected=f"at least one for each of {num_parts} parts",
        next_step="divide into fewer parts or folds",
    )


def _with_parts(dataset: Dataset, row_N: np.ndarray, part_N: np.ndarray, *, names: Sequence[str]) -> Dataset:
    split_N = list(dataset.split_N)
    for row, part in zip(row_N.tolist(), part_N.tolist(), strict=True):
        split_N[row] = names[part]
    return replace(dataset, split_N=tuple(split_N))


def _require_distinct_ids(dataset: Dataset) -> None:
    """Raises DataError for an id in two folds, whose scores no predictions file can hold."""
    number_of = Counter(name for name, split in zip(dataset.ids, dataset.split_N, strict=True) if split.startswith("fold-"))
    twice = [name for name, number in number_of.items() if number > 1]
    if twice:
        raise DataError(
            f"{counted(len(twice), 'image ids')} {'is' if len(twice) == 1 else 'are'} in two splits",
            where=dataset.source,
            got=", ".join(map(repr, twice[:3])) + (", ..." if len(twice) > 3 else ""),
            expected="every image in one fold",
            next_step="remove the images from one of the splits; `polytag data check` lists them",
        )


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """ "10" comes after "9"."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part)
