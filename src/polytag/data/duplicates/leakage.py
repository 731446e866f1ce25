"""Leakage: scored images that are also training images, as the same file, the same bytes or another version."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import Dataset
from polytag.data.duplicates.near_duplicates import fingerprints_of, near_pairs, orientation, small_copy
from polytag.data.images.read import read_image
from polytag.data.images.stored import open_image
from polytag.errors import ImageError
from polytag.machine import num_cores


@dataclass(frozen=True, kw_only=True)
class LeakedImage:
    """A scored image and the training image that it duplicates.

    row                                         of the scored image
    path                                        of the training image
    bits, correlation, is_mirrored, is_turned   of the nearest version; 0, 1 and False for the same bytes
    """

    row: int
    path: str
    is_exact: bool
    bits: int = 0
    correlation: float = 1.0
    is_mirrored: bool = False
    is_turned: bool = False

    @property
    def orientation(self) -> str:
        """ ", mirrored", ", turned", both, or nothing: what follows in a line about the image."""
        return orientation(is_mirrored=self.is_mirrored, is_turned=self.is_turned)


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """The result of `find_leakage`.

    images             leaked images, in the order of their rows
    num_trained_on     readable training images, the same bytes counted once
    num_unread         training files that cannot be read
    num_not_compared   scored images that cannot be compared: no path, no such file, broken, or with too little detail
    """

    images: tuple[LeakedImage, ...]
    num_scored: int
    num_trained_on: int
    num_unread: int
    num_not_compared: int

    @property
    def is_leaked_N(self) -> np.ndarray:
        """bool, one per scored image."""
        leaked_N = np.zeros(self.num_scored, bool)
        leaked_N[[each.row for each in self.images]] = True
        return leaked_N


def training_images(dataset: Dataset, *, scored: Sequence[str]) -> Dataset:
    """Training images of a data set: its split `train`, or without one all images except the scored files."""
    if "train" in dataset.splits:
        return dataset.split("train")
    scored_paths = {os.path.abspath(path) for path in scored if path}
    return dataset.take(np.array([os.path.abspath(path) not in scored_paths for path in dataset.paths], bool))


def find_leakage(
    scored: Sequence[str], trained_on: Sequence[Path], *, on_image: Callable[[], None] = lambda: None, num_threads: int = 0
) -> Leakage:
    """Compare every scored image with every training image: by SHA-256, then by fingerprint.

    `scored` are paths, "" where none is known. `on_image` is called once per distinct file. Images that cannot be read are counted
    and not compared.
    """
    paths = [Path(os.path.abspath(path)) if path else None for path in scored]
    distinct = list(dict.fromkeys([path for path in paths if path] + [Path(os.path.abspath(path)) for path in trained_on]))
    contents: dict[Path, tuple[str, bytes]] = {}
    with ThreadPoolExecutor(num_threads or num_cores()) as pool:
        for path, content in zip(distinct, pool.map(digest_and_copy, distinct), strict=True):
            on_image()
            if content:
                contents[path] = content
    train = {contents[path][0]: path for path in map(Path, map(os.path.abspath, reversed(trained_on))) if path in contents}
    leakage: dict[int, LeakedImage] = {}
    other_rows: list[int] = []
    for row, path in enumerate(paths):
        if path not in contents:
            continue
        if (same_bytes := train.get(contents[path][0])) is not None:
            leakage[row] = LeakedImage(row=row, path=str(same_bytes), is_exact=True)
        else:
            other_rows.append(row)
    train_paths = list(train.values())
    copies = [contents[path][1] for path in train_paths] + [contents[path][1] for row in other_rows if (path := paths[row])]
    fingerprints = fingerprints_of(copies)
    pairs = near_pairs(fingerprints, part_N=np.arange(len(copies)) >= len(train_paths))
    nearest_first = np.lexsort((-pairs.correlation_P, pairs.bits_P))
    for pair in nearest_first.tolist():
        row = other_rows[int(pairs.second_P[pair]) - len(train_paths)]
        leakage.setdefault(
            row,
            LeakedImage(
                row=row,
                path=str(train_paths[int(pairs.first_P[pair])]),
                is_exact=False,
                bits=int(pairs.bits_P[pair]),
                correlation=float(pairs.correlation_P[pair]),
                is_mirrored=bool(pairs.is_mirrored_P[pair]),
                is_turned=bool(pairs.is_turned_P[pair]),
            ),
        )
    num_read = len(leakage.keys() | set(other_rows))
    return Leakage(
        images=tuple(leakage[row] for row in sorted(leakage)),
        num_scored=len(paths),
        num_trained_on=len(train_paths),
        num_unread=len({os.path.abspath(path) for path in trained_on} - set(map(str, contents))),
        num_not_compared=len(paths) - num_read + int(fingerprints.is_flat_N[len(train_paths) :].sum()),
    )


def digest_and_copy(path: Path) -> tuple[str, bytes] | None:
    """SHA-256 and small copy of an image; None where it cannot be read."""
    try:
        copy = small_copy(read_image(path))
        with open_image(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), copy
    except (ImageError, OSError):
        return None
