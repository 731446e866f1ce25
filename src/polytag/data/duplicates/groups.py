"""Groups of images that are the same, or nearly: by fingerprint, and by a model's features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polytag.data.duplicates.near_duplicates import feature_pairs, fingerprints_of, groups_of, near_pairs


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """One row of the data set, as the lists of a check name it."""

    id: str
    split: str
    path: str

    def to_json(self) -> dict[str, str]:
        """The same as a JSON object."""
        return {"id": self.id, "split": self.split, "path": self.path}


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """One image in several versions: saved anew, resized, mirrored.

    bits          most bits of the 64-bit hash that two versions, joined as one, differ in
    correlation   least correlation of their detail, up to 1
    is_mirrored   a mirror image is among them
    """

    images: tuple[ListedImage, ...]
    bits: int
    correlation: float
    is_mirrored: bool

    def to_json(self) -> dict[str, object]:
        """The same as a JSON object."""
        return {
            "bits": self.bits,
            "correlation": self.correlation,
            "is_mirrored": self.is_mirrored,
            "images": [image.to_json() for image in self.images],
        }


@dataclass(frozen=True, kw_only=True)
class FeatureDuplicateGroup:
    """Images that a model takes for much the same; `cosine` is the least of the features of two that are joined."""

    images: tuple[ListedImage, ...]
    cosine: float

    def to_json(self) -> dict[str, object]:
        """The same as a JSON object."""
        return {"cosine": self.cosine, "images": [image.to_json() for image in self.images]}


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What a model sees in the images: feature_ND, the row of the data set of each, and the cosine from which two are alike."""

    feature_ND: np.ndarray
    row_N: np.ndarray
    cosine: float


def duplicate_groups(
    images: Sequence[ListedImage], *, content_N: Sequence[str], copies: Mapping[str, bytes]
) -> tuple[tuple[DuplicateGroup, ...], int]:
    """Groups of different contents that show one image, and how many contents are too plain to be compared.

    `content_N` names what each image's file holds, such as its SHA-256; equal ones are one. `copies` has the `small_copy` of each
    content that could be read; images of another are in no group. A group has all images of its contents, in their order, and
    is held together pair by pair: of the first and the last of a chain, nothing is promised.
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
                bits=int(pairs.bits_P[joined].max()),
                correlation=float(pairs.correlation_P[joined].min()),
                is_mirrored=bool(pairs.is_mirrored_P[joined].any()),
            ),
        )
        for members, joined in _joined(np.stack([pairs.first_P, pairs.second_P], axis=1), num_rows=len(keys))
        for rows in [sorted(row for member in members for row in rows_of[keys[member]])]
    ]
    groups.sort(key=lambda group: group[0])
    return tuple(group for _, group in groups), int(fingerprints.is_flat_N.sum())


def feature_duplicates(
    images: Sequence[ListedImage], *, content_N: Sequence[str], features: Features
) -> tuple[FeatureDuplicateGroup, ...]:
    """Groups of different contents whose features have at least the cosine.

    A model is good at likeness and knows no identity: two shots of one scene, or of one bus, are near duplicates by a model.
    """
    first_of: dict[str, int] = {}
    for place, row in enumerate(map(int, features.row_N)):
        first_of.setdefault(content_N[row], place)
    keys: list[str] = list(first_of)
    places = np.array(list(first_of.values()), np.int64)
    pair_P2, cosine_P = feature_pairs(features.feature_ND[places], cosine=features.cosine)
    rows_of = _rows_of(content_N)
    groups = [
        (sorted(row for member in members for row in rows_of[keys[member]]), float(cosine_P[joined].min()))
        for members, joined in _joined(pair_P2, num_rows=len(keys))
    ]
    return tuple(FeatureDuplicateGroup(images=tuple(images[row] for row in rows), cosine=cosine) for rows, cosine in sorted(groups))


def across_splits(images: Iterable[ListedImage]) -> bool:
    """Whether they stand in more than one split."""
    return len({image.split for image in images}) > 1


def _rows_of(content_N: Sequence[str]) -> dict[str, list[int]]:
    rows_of: dict[str, list[int]] = {}
    for row, content in enumerate(content_N):
        rows_of.setdefault(content, []).append(row)
    return rows_of


def _joined(pair_P2: np.ndarray, *, num_rows: int) -> list[tuple[list[int], np.ndarray]]:
    """The members of each group of two or more, and the pairs that hold it together."""
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
