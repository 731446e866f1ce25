"""Groups of duplicate images: by fingerprint, and by a model's features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polytag.data.duplicates.near_duplicates import feature_pairs, fingerprints_of, groups_of, near_pairs, orientation


@dataclass(frozen=True, kw_only=True)
class DatasetImage:
    """One row of a data set: its id, split and path."""

    id: str
    split: str
    path: str

    def to_json(self) -> dict[str, str]:
        """The image as a JSON object."""
        return {"id": self.id, "split": self.split, "path": self.path}


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Different files that show one image: re-encoded, resized, tinted, cropped, mirrored or turned versions.

    bits          largest number of bits, of the 64-bit hash, in which two linked versions differ
    correlation   smallest correlation of their detail, at most 1
    is_mirrored   whether one of them is mirrored
    is_turned     whether one of them is turned by a quarter or a half
    """

    images: tuple[DatasetImage, ...]
    bits: int
    correlation: float
    is_mirrored: bool
    is_turned: bool

    @property
    def orientation(self) -> str:
        """ ", mirrored", ", turned", both, or nothing: what follows in a line about the group."""
        return orientation(is_mirrored=self.is_mirrored, is_turned=self.is_turned)

    def to_json(self) -> dict[str, object]:
        """The group as a JSON object."""
        return {
            "bits": self.bits,
            "correlation": self.correlation,
            "is_mirrored": self.is_mirrored,
            "is_turned": self.is_turned,
            "images": [image.to_json() for image in self.images],
        }


@dataclass(frozen=True, kw_only=True)
class FeatureDuplicateGroup:
    """Images with similar features; `cosine` is the smallest cosine of two linked images."""

    images: tuple[DatasetImage, ...]
    cosine: float

    def to_json(self) -> dict[str, object]:
        """The group as a JSON object."""
        return {"cosine": self.cosine, "images": [image.to_json() for image in self.images]}


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelFeatures:
    """A model's features of images, and the threshold for duplicates.

    feature_ND   features, one row per image
    row_N        the data set's row of each
    cosine       smallest cosine of two duplicates
    """

    feature_ND: np.ndarray
    row_N: np.ndarray
    cosine: float


def duplicate_groups(
    images: Sequence[DatasetImage], *, content_N: Sequence[str], copies: Mapping[str, bytes]
) -> tuple[tuple[DuplicateGroup, ...], int]:
    """Groups of different contents that show one image, and the number of contents with too little detail to be compared.

    `content_N` identifies the content of each image's file, such as its SHA-256. `copies` maps each readable content to its
    `small_copy`; images of other contents are in no group. A group contains all images of its contents, in their order. Its pairs
    link it: the first and the last image of a chain may differ more.
    """
    keys = list(copies)
    fingerprints = fingerprints_of([copies[key] for key in keys])
    pairs = near_pairs(fingerprints)
    rows_of = _rows_of(content_N)
    groups = [
        (
            rows,
            DuplicateGroup(
                images=tuple(images[row] for row in rows),
                bits=int(pairs.bits_P[links].max()),
                correlation=float(pairs.correlation_P[links].min()),
                is_mirrored=bool(pairs.is_mirrored_P[links].any()),
                is_turned=bool(pairs.is_turned_P[links].any()),
            ),
        )
        for members, links in _linked(np.stack([pairs.first_P, pairs.second_P], axis=1), num_rows=len(keys))
        for rows in [sorted(row for member in members for row in rows_of[keys[member]])]
    ]
    groups.sort(key=lambda group: group[0])
    return tuple(group for _, group in groups), int(fingerprints.is_flat_N.sum())


def feature_duplicates(
    images: Sequence[DatasetImage], *, content_N: Sequence[str], features: ModelFeatures
) -> tuple[FeatureDuplicateGroup, ...]:
    """Groups of different contents whose features have at least the cosine.

    A model measures similarity and not identity: it also finds two shots of one scene, or of one bus.
    """
    first_of: dict[str, int] = {}
    for index, row in enumerate(map(int, features.row_N)):
        first_of.setdefault(content_N[row], index)
    keys: list[str] = list(first_of)
    indices = np.array(list(first_of.values()), np.int64)
    pair_P2, cosine_P = feature_pairs(features.feature_ND[indices], cosine=features.cosine)
    rows_of = _rows_of(content_N)
    groups = [
        (sorted(row for member in members for row in rows_of[keys[member]]), float(cosine_P[pairs].min()))
        for members, pairs in _linked(pair_P2, num_rows=len(keys))
    ]
    return tuple(FeatureDuplicateGroup(images=tuple(images[row] for row in rows), cosine=cosine) for rows, cosine in sorted(groups))


def across_splits(images: Iterable[DatasetImage]) -> bool:
    """Whether the images are in more than one split."""
    return len({image.split for image in images}) > 1


def _rows_of(content_N: Sequence[str]) -> dict[str, list[int]]:
    rows_of: dict[str, list[int]] = {}
    for row, content in enumerate(content_N):
        rows_of.setdefault(content, []).append(row)
    return rows_of


def _linked(pair_P2: np.ndarray, *, num_rows: int) -> list[tuple[list[int], np.ndarray]]:
    """The members of each group of two or more, and the pairs that link it."""
    if not len(pair_P2):
        return []
    group_N = groups_of(pair_P2, num_rows=num_rows)
    members: dict[int, list[int]] = {}
    for row in np.unique(pair_P2).tolist():
        members.setdefault(int(group_N[row]), []).append(row)
    pairs: dict[int, list[int]] = {}
    for pair, first in enumerate(pair_P2[:, 0].tolist()):
        pairs.setdefault(int(group_N[first]), []).append(pair)
    return [(members[group], np.array(pairs[group])) for group in members]
