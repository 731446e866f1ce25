"""Labels that arrive one at a time, in several rows for an image: joined to one record for each image."""

from array import array
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.data.formats.listing import UNSAID
from polytag.data.formats.records import Record


@dataclass(kw_only=True)
class Votes:
    """Collects answers on images and classes; `records` joins those of an image.

    An image and class with both PRESENT and ABSENT are UNKNOWN: `num_contradicted` of them. One answer given twice counts once:
    `num_repeated`.
    """

    others: int = UNSAID
    num_contradicted: int = 0
    num_repeated: int = 0
    _images: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    _where_N: list[str] = field(default_factory=list[str])
    _group_N: list[str] = field(default_factory=list[str])
    _labels: dict[str, int] = field(default_factory=dict[str, int])
    _image_L: "array[int]" = field(default_factory=lambda: array("q"))
    _label_L: "array[int]" = field(default_factory=lambda: array("q"))
    _answer_L: "array[int]" = field(default_factory=lambda: array("b"))

    def image(self, name: str, *, where: str, split: str = "", group: str = "") -> int:
        """The number of an image, which exists from then on, with or without an answer."""
        number = self._images.setdefault((split, name), len(self._images))
        if number == len(self._where_N):
            self._where_N.append(where)
            self._group_N.append(group)
        return number

    def add(self, image: int, label: str, answer: int) -> None:
        """One answer: PRESENT, ABSENT or UNKNOWN."""
        self._image_L.append(image)
        self._label_L.append(self._labels.setdefault(label, len(self._labels)))
        self._answer_L.append(answer)

    @property
    def labels(self) -> Set[str]:
        """The classes that have an answer."""
        return self._labels.keys()

    def records(self) -> Iterator[Record]:
        """One record for each image, in the order of their first rows."""
        names = list(self._labels)
        key_L = np.asarray(self._image_L, np.int64) * max(len(names), 1) + np.asarray(self._label_L, np.int64)
        key_P, pair_L = np.unique(key_L, return_inverse=True)  # P pairs of image and class
        answer_L = np.asarray(self._answer_L, np.int8)
        has_PA = np.zeros((len(key_P), 3), bool)
        has_PA[pair_L, answer_L.astype(np.intp)] = True  # UNKNOWN is -1, the last column
        contradicted_P = has_PA[:, PRESENT] & has_PA[:, ABSENT]
        answer_P = np.where(has_PA[:, PRESENT], PRESENT, np.where(has_PA[:, UNKNOWN], UNKNOWN, ABSENT))
        answer_P = np.where(contradicted_P, UNKNOWN, answer_P)
        self.num_contradicted = int(contradicted_P.sum())
        self.num_repeated = len(key_L) - int(has_PA.sum())
        image_P, label_P = np.divmod(key_P, max(len(names), 1))
        start_N = np.searchsorted(image_P, np.arange(len(self._images) + 1))
        for number, (split, name) in enumerate(self._images):
            rows = slice(start_N[number], start_N[number + 1])
            found: dict[int, list[str]] = {PRESENT: [], ABSENT: [], UNKNOWN: []}
            for label, answer in zip(label_P[rows].tolist(), answer_P[rows].tolist(), strict=True):
                found[answer].append(names[label])
            yield Record(
                image=name,
                where=self._where_N[number],
                present=found[PRESENT],
                absent=found[ABSENT],
                unknown=found[UNKNOWN],
                others=self.others,
                split=split,
                group=self._group_N[number],
            )
