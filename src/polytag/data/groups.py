"""Groups of dependent images in a data set: the images of one patient, scene or video, which belong in one split."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from polytag.contracts import Dataset
from polytag.data.columns import values_by_id
from polytag.errors import DataError
from polytag.text import counted

_NUM_NAMED = 5  # groups named in a sentence
SOURCE = "source"
"""The column that is in no table: the folder of each image."""


def with_groups(dataset: Dataset, column: str, *, file: str = "") -> Dataset:
    """The data set with the groups of this column: of `file`, a table by image id, of its own table, where it has them, or SOURCE.

    Raises UsageError for an unknown column of the file, DataError where no image has a value.
    """
    if file:
        values = values_by_id(Path(file), column, ids=dataset.ids)
        dataset = replace(dataset, group_N=tuple(value or "" for value in values))
    elif column == SOURCE:
        dataset = replace(dataset, group_N=tuple(str(path.parent) for path in dataset.paths))
    if not any(dataset.group_N):
        raise DataError(
            "no image has a value in the column of groups",
            where=f"{file or dataset.source}, column {column!r}",
            expected="a value for some images",
        )
    return dataset


def group_numbers(dataset: Dataset) -> np.ndarray:
    """int N: the group of each image, numbered from 0 by its first image; an image without a value is a group of its own."""
    number_of: dict[object, int] = {}
    keys = [group or row for row, group in enumerate(dataset.group_N)]
    return np.array([number_of.setdefault(key, len(number_of)) for key in keys], np.int64)


def several_groups(dataset: Dataset, *, what: str, why: str) -> np.ndarray:
    """`group_numbers`; raises DataError, with what is wrong and why several are needed, for a single group."""
    group_N = group_numbers(dataset)
    if group_N.max() == 0:
        raise DataError(
            what,
            where=dataset.source,
            got=f"{counted(len(dataset), 'images')} in group {dataset.group_N[0]!r}",
            expected=f"two groups or more: the images of a group {why}",
        )
    return group_N


def divided_groups_note(dataset: Dataset) -> str:
    """A sentence on the groups that lie in more than one split, with their images in each; "" where there is none."""
    divided = divided_groups(dataset)
    if not divided:
        return ""
    shown = [f"{group} ({', '.join(f'{counts[split]:,} {split}' for split in counts)})" for group, counts in divided.items()]
    more = f" and {len(shown) - _NUM_NAMED:,} more" if len(shown) > _NUM_NAMED else ""
    number = f"{counted(len(divided), 'groups')} of dependent images {'is' if len(divided) == 1 else 'are'} in more than one split"
    return f"{number}, so validation scores are too high: {', '.join(shown[:_NUM_NAMED])}{more}"


def divided_groups(dataset: Dataset) -> dict[str, dict[str, int]]:
    """The images in each split of every group that lies in more than one."""
    count_of = Counter((group, split) for group, split in zip(dataset.group_N, dataset.split_N, strict=True) if group)
    found: dict[str, dict[str, int]] = {}
    for (group, split), count in count_of.items():
        found.setdefault(group, {})[split] = count
    return {group: counts for group, counts in found.items() if len(counts) > 1}
