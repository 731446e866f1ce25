"""Near duplicates as groups of a data set, so that no division separates two versions of one image."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polytag.contracts import Dataset
from polytag.data.duplicates.leakage import digest_and_copy
from polytag.data.duplicates.near_duplicates import fingerprints_of, groups_of, near_pairs
from polytag.data.groups import group_numbers
from polytag.machine import num_cores


@dataclass(frozen=True, kw_only=True)
class JoinedDuplicates:
    """What `with_duplicates_joined` found.

    num_groups, num_images   groups of images that are versions of each other, and the images in them
    num_unread               images that cannot be read, and are compared with no other
    """

    num_groups: int
    num_images: int
    num_unread: int


def with_duplicates_joined(
    dataset: Dataset, *, on_image: Callable[[], None] = lambda: None, num_threads: int = 0
) -> tuple[Dataset, JoinedDuplicates]:
    """The data set with groups that also hold exact and near duplicates: the groups that it has are joined where these link them.

    Reads every image; `on_image` is called once per distinct file.
    """
    distinct = list(dict.fromkeys(dataset.paths))
    keys: dict[Path, str] = {}
    copies: dict[str, bytes] = {}
    with ThreadPoolExecutor(num_threads or num_cores()) as pool:
        for path, found in zip(distinct, pool.map(digest_and_copy, distinct), strict=True):
            on_image()
            if found is not None:
                keys[path] = found[0]
                copies.setdefault(*found)
    number_of = {key: number for number, key in enumerate(copies)}
    content_N = np.array([number_of.get(keys.get(path, ""), -1) for path in dataset.paths], np.int64)
    first_row = _first_rows(content_N, num_contents=len(copies))
    row_N = np.flatnonzero(content_N >= 0)
    link_P2 = np.stack([first_row[content_N[row_N]], row_N], axis=1)  # of one content
    if copies:
        near = near_pairs(fingerprints_of(list(copies.values())))
        link_P2 = np.concatenate([link_P2, first_row[np.stack([near.first_P, near.second_P], axis=1)]])
    version_N = groups_of(link_P2[link_P2[:, 0] != link_P2[:, 1]], num_rows=len(dataset))
    size_N = np.bincount(version_N, minlength=len(dataset))
    is_several = size_N > 1
    found = JoinedDuplicates(
        num_groups=int(is_several.sum()),
        num_images=int(size_N[is_several].sum()),
        num_unread=len(distinct) - len(keys),
    )
    return replace(dataset, group_N=_joined(dataset, version_N, has_versions_N=is_several[version_N])), found


def _joined(dataset: Dataset, version_N: np.ndarray, *, has_versions_N: np.ndarray) -> tuple[str, ...]:
    """A name for the group of each image, "" for one on its own: that of the first image's own group, or of the first image."""
    number_N = group_numbers(dataset)
    first_of_group = _first_rows(number_N, num_contents=int(number_N.max()) + 1)
    row_N = np.arange(len(dataset))
    link_P2 = np.concatenate([np.stack([version_N, row_N], axis=1), np.stack([first_of_group[number_N], row_N], axis=1)])
    joined_N = groups_of(link_P2[link_P2[:, 0] != link_P2[:, 1]], num_rows=len(dataset)).tolist()
    name_of: dict[int, str] = {}
    for row, group in enumerate(joined_N):
        if dataset.group_N[row]:
            name_of.setdefault(group, dataset.group_N[row])
    return tuple(
        name_of.get(group) or (f"versions of {dataset.ids[group]}" if has_versions else "")
        for group, has_versions in zip(joined_N, has_versions_N.tolist(), strict=True)
    )


def _first_rows(number_N: np.ndarray, *, num_contents: int) -> np.ndarray:
    """The first row of each number from 0; -1, of no content, is passed over."""
    first = np.zeros(num_contents, np.int64)
    rows = np.flatnonzero(number_N >= 0)[::-1]
    first[number_N[rows]] = rows
    return first
