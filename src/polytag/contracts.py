"""The values that the packages exchange: frozen, keyword-only, validated on creation. NumPy and the standard library only.

Shapes: N images, C classes, K thresholds. A target is PRESENT (1), ABSENT (0) or UNKNOWN (-1): VOC's "difficult only" labels and
missing labels are UNKNOWN, and count in no numerator and no denominator.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from polytag.errors import DataError, PredictionsError, UsageError
from polytag.logits import inexact, sigmoid
from polytag.path_list import PathList
from polytag.text import control_character, is_blank, storable

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
_SHOWN = 100  # characters of a name in a message
_BLOCK = 65_536  # rows of labels that are checked at a time
SCALES = ("logit", "probability", "rank")
ABSENT_MEANS = ("absent", "unknown")


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """Ordered, unique class names: the columns of every table.

    Raises DataError for no class, an empty name, a name with a control character (`polytag.text`) or a duplicate name.
    """

    names: tuple[str, ...]

    def __post_init__(self):
        if not self.names:
            raise DataError("no class names", expected="at least one class")
        seen: set[str] = set()
        for name in self.names:
            require_class_name(name)
            if name in seen:
                raise DataError("a class name is given twice", got=repr(name), expected="every class once")
            seen.add(name)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any name or with their order."""
        return hashlib.sha256("\0".join(self.names).encode()).hexdigest()[:16]

    def index(self, name: str) -> int:
        """Column of a class; raises UsageError, with the known names, for an unknown one."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UsageError("unknown class name", got=repr(name), expected="one of " + ", ".join(self.names)) from None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


def require_class_name(name: str, *, where: str = "") -> None:
    """Raises DataError, with the place where it is written, for a class name that cannot be shown."""
    if is_blank(name):
        raise DataError("an empty class name", where=where, got=ascii(name), expected="a name for every class")
    if control := control_character(name):
        raise DataError(
            "a class name with a control character",
            where=where,
            got=f"{control} in {name[:_SHOWN]!a}",
            expected="text in one line",
            next_step="rename the class, for example without its line break",
        )


@dataclass(frozen=True, kw_only=True)
class Interpretation:
    """What annotations were read as, which people see before the data set is used.

    format   such as "csv"; "" for a data set that was not read
    found    pairs of what was looked for and where it was found: ("images", "column 'file_name'")
    notes    sentences about what was left out, corrected or assumed
    """

    format: str = ""
    found: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images with their labels, from any annotation format.

    ids        N names from the annotations, unique within a split
    paths      N image files (not opened here), kept as a `PathList`
    target_NC  int8 in {1, 0, -1}, read-only
    split_N    N split names ("train", "val", "test", ...), or "" if the annotations have none
    group_N    N values of what dependent images share, such as a patient; "" for an image that depends on no other
    source     a readable description of the source: "voc /path/to/VOC2012"
    interpretation  what the annotations were read as
    absent_means   what a label is that nobody gave: "absent", or "unknown" where the annotations name only what is present

    Raises DataError for different shapes, a target outside {1, 0, -1}, an id, path, split or group that is not UTF-8, or a
    duplicate id in one split. The same id may be in two splits; `polytag data check` reports it.
    """

    ids: tuple[str, ...]
    paths: Sequence[Path]
    target_NC: np.ndarray
    split_N: tuple[str, ...]
    label_set: LabelSet
    source: str
    group_N: tuple[str, ...] = ()
    interpretation: Interpretation = Interpretation()
    absent_means: str = "absent"

    def __post_init__(self):
        target_NC = _checked_targets(self.target_NC, num_rows=len(self.ids), label_set=self.label_set, source=self.source)
        object.__setattr__(self, "target_NC", target_NC)
        object.__setattr__(self, "paths", PathList(self.paths))
        object.__setattr__(self, "group_N", self.group_N or ("",) * len(self.ids))
        assert len(self.paths) == len(self.split_N) == len(self.group_N) == len(self.ids)
        assert self.absent_means in ABSENT_MEANS
        _require_utf8(self.ids, self.source)
        _require_utf8(PathList(self.paths).texts, self.source)
        _require_utf8(self.splits, self.source, kind="a split")
        _require_utf8(set(self.group_N), self.source, kind="a group")
        seen: dict[str, set[str]] = {}
        for split, name in zip(self.split_N, self.ids, strict=True):
            in_split = seen.setdefault(split, set())
            if name in in_split:
                raise DataError(
                    "an image id is given twice in one split",
                    where=self.source,
                    got=f"{name!r} in split {split!r}",
                    expected="every id once",
                    next_step="remove the duplicate, or merge its labels",
                )
            in_split.add(name)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The split names that occur, in order of first appearance."""
        return tuple(dict.fromkeys(self.split_N))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over ids, splits, targets and class names, which a resumed run compares. Paths may change."""
        digest = hashlib.sha256(self.label_set.fingerprint.encode())
        for split, name in zip(self.split_N, self.ids, strict=True):
            digest.update(f"{split}\0{name}\0".encode())
        digest.update(self.target_NC.tobytes())
        return digest.hexdigest()[:16]

    def take(self, rows: np.ndarray | Sequence[int]) -> "Dataset":
        """The data set of these rows, in this order (indices, or a boolean mask of length N)."""
        rows = np.asarray(rows)
        index = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(int)
        texts = PathList(self.paths).texts
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            paths=PathList(texts[i] for i in index),
            target_NC=_read_only(self.target_NC[index]),
            split_N=tuple(self.split_N[i] for i in index),
            group_N=tuple(self.group_N[i] for i in index),
        )

    def split(self, name: str) -> "Dataset":
        """The images of one split; raises DataError, with the existing splits, if it has none."""
        return self.take(self.rows_of(name))

    def rows_of(self, name: str) -> np.ndarray:
        """The rows of one split, in order; raises DataError, with the existing splits, if it has none."""
        rows = [i for i, split in enumerate(self.split_N) if split == name]
        if not rows:
            raise DataError(
                f"the split {name!r} is missing",
                where=self.source,
                got=", ".join(repr(split) for split in self.splits) or "no images",
                expected=f"images in split {name!r}",
                next_step="add the split to the annotations; `polytag data check` shows what was read",
            )
        return np.asarray(rows)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Converts a decoded RGB image to the input of a backbone; the same in training and prediction.

    image_size_px   side of the square input
    fit             "squash": the whole image, aspect ratio not preserved (objects at the border count in multi-label work);
                    "crop": shorter side to image_size_px / crop_fraction, then the centre
    interpolation   "bilinear" or "bicubic", antialiased
    mean, std       per channel of RGB in [0, 1]; the mean is in 0 to 1, the standard deviation in 0.001 to 10
    crops           views of an image, whose logits are averaged: "center" (1), "flip" (2: the view and its mirror),
                    "five" (centre and corners), "ten" (those and their mirrors)
    """

    image_size_px: int = 224
    fit: str = "squash"
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crops: str = "center"

    def __post_init__(self):
        _one_of("fit", self.fit, ("squash", "crop"))
        _one_of("interpolation", self.interpolation, ("bilinear", "bicubic"))
        _one_of("crops", self.crops, ("center", "flip", "five", "ten"))
        if not 8 <= self.image_size_px <= 4096:
            raise UsageError("image size out of range", got=str(self.image_size_px), expected="8 to 4096 pixels")
        if not 0.1 <= self.crop_fraction <= 1:
            raise UsageError("crop fraction out of range", got=str(self.crop_fraction), expected="0.1 to 1")
        for name, values, low, high in (("mean", self.mean, 0, 1), ("standard deviation", self.std, 0.001, 10)):
            if len(values) != 3 or not all(low <= value <= high for value in values):
                raise UsageError(f"{name} out of range", got=str(values), expected=f"three numbers from {low} to {high}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Scores of images for classes: the output of training, prediction and external programs, and the input of every evaluation.

    ids            N unique image names
    logit_NC       finite; float32, or float64 if created from float64; every ranking uses its order
    target_NC      int8 in {1, 0, -1}; all -1 without labels
    image_paths    N paths as text, "" without an image file
    checkpoint_id  the first 16 digits of the SHA-256 of the weights, or "" for external scores
    source         a readable description of the scored images
    calibration    the id of the Calibration of the logits, or "" for none
    absent_means   what a label was that nobody gave: "absent" or "unknown", as of the Dataset
    scale          the original scale: "logit"; "probability", stored in `given_probability_NC` (float64 in [0, 1]), with logits in
                   exactly the same order; or "rank": any real numbers, stored in `logit_NC`, of which only the order is meaningful

    The probability is the given one, or sigmoid(logit). For a rank it is NaN, and nothing that needs a threshold is defined.
    Raises PredictionsError for NaN or infinite logits, integers that are no float64, different shapes or a duplicate id, DataError
    for an id or path that is not UTF-8.
    """

    ids: tuple[str, ...]
    logit_NC: np.ndarray
    target_NC: np.ndarray
    label_set: LabelSet
    image_paths: tuple[str, ...] = ()
    checkpoint_id: str = ""
    source: str = ""
    calibration: str = ""
    absent_means: str = "absent"
    scale: str = "logit"
    given_probability_NC: np.ndarray | None = None

    def __post_init__(self):
        logit_NC = np.asarray(self.logit_NC)
        if logit_NC.shape == (len(self.ids), len(self.label_set)) and (inexact_NC := inexact(logit_NC)).any():
            row, column = np.argwhere(inexact_NC)[0]
            raise PredictionsError(
                "an integer score is too large",
                where=self.source,
                got=f"{logit_NC[row, column]} for image {self.ids[row]!r}, class {self.label_set.names[column]!r}",
                expected="integers that a float64 holds: all up to 2^53, 9007199254740992",
                next_step="ranks can be replaced by their positions, 0, 1, 2, ..., in the same order",
            )
        # integers and long doubles become float64; a copy, since it becomes read-only and the caller's array does not
        is_float32 = logit_NC.dtype.kind == "f" and logit_NC.dtype.itemsize <= 4
        logit_NC = np.array(logit_NC, dtype=np.float32 if is_float32 else np.float64, order="C")
        shape = (len(self.ids), len(self.label_set))
        if logit_NC.shape != shape:
            raise PredictionsError(
                "the scores have the wrong shape", where=self.source, got=str(logit_NC.shape), expected=f"{shape} (images, classes)"
            )
        if not np.isfinite(logit_NC).all():
            row, column = np.argwhere(~np.isfinite(logit_NC))[0]
            raise PredictionsError(
                "a score is not a finite number",
                where=self.source,
                got=f"{logit_NC[row, column]} for image {self.ids[row]!r}, class {self.label_set.names[column]!r}",
                expected="finite logits",
            )
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(name for name in self.ids if name in seen or seen.add(name))
            raise PredictionsError("an image id is scored twice", where=self.source, got=repr(twice), expected="every id once")
        _require_utf8((*self.ids, *self.image_paths), self.source)
        logit_NC.setflags(write=False)
        object.__setattr__(self, "logit_NC", logit_NC)
        target_NC = _checked_targets(self.target_NC, num_rows=len(self.ids), label_set=self.label_set, source=self.source)
        object.__setattr__(self, "target_NC", target_NC)
        object.__setattr__(self, "image_paths", self.image_paths or ("",) * len(self.ids))
        assert len(self.image_paths) == len(self.ids)
        assert self.scale in SCALES
        assert self.absent_means in ABSENT_MEANS
        assert (self.given_probability_NC is not None) == (self.scale == "probability")
        if self.given_probability_NC is not None:
            probability_NC = np.array(self.given_probability_NC, dtype=np.float64, order="C")
            assert probability_NC.shape == shape
            probability_NC.setflags(write=False)
            object.__setattr__(self, "given_probability_NC", probability_NC)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray | Sequence[int]) -> "Predictions":
        """The predictions of these rows, in this order (indices, or a boolean mask of length N)."""
        rows = np.asarray(rows)
        index = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(int)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            logit_NC=self.logit_NC[index],
            target_NC=self.target_NC[index],
            image_paths=tuple(self.image_paths[i] for i in index),
            given_probability_NC=None if self.given_probability_NC is None else self.given_probability_NC[index],
        )

    @cached_property
    def ids_fingerprint(self) -> str:
        """16 hexadecimal digits over the ids, in any order: of files with the same, the images have the same ids."""
        return hashlib.sha256("\0".join(sorted(self.ids)).encode()).hexdigest()[:16]

    @property
    def has_probabilities(self) -> bool:
        """False for ranks, which have no threshold, decision or calibration."""
        return self.scale != "rank"

    @property
    def probability_NC(self) -> np.ndarray:
        """float64 in [0, 1]: the given probabilities, or the sigmoid of the logits; NaN for ranks."""
        if self.given_probability_NC is not None:
            return self.given_probability_NC
        if not self.has_probabilities:
            return np.full(self.logit_NC.shape, np.nan)
        return sigmoid(self.logit_NC)


def _checked_targets(target_NC: np.ndarray, *, num_rows: int, label_set: LabelSet, source: str) -> np.ndarray:
    """These targets if nobody can change them, else a read-only copy, int8.

    Raises DataError for a wrong shape or a value outside {1, 0, -1}.
    """
    values = np.asarray(target_NC)
    if values.shape != (num_rows, len(label_set)):
        raise DataError(
            "the labels have the wrong shape",
            where=source,
            got=str(values.shape),
            expected=f"{(num_rows, len(label_set))} (images, classes)",
        )
    for start in range(0, num_rows, _BLOCK):  # a whole mask of 5,000,000 x 1,000 labels would take as much memory as they do
        block = values[start : start + _BLOCK]
        bad = (block != PRESENT) & (block != ABSENT) & (block != UNKNOWN)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise DataError(
                "a label outside 1, 0, -1",
                where=source,
                got=f"{block[row, column]} in row {start + row}, class {label_set.names[column]!r}",
                expected="1 (present), 0 (absent) or -1 (unknown)",
            )
    is_given_away = values.dtype == np.int8 and values.base is None and not values.flags.writeable
    return values if is_given_away else _read_only(np.array(values, dtype=np.int8))


def _read_only(values: np.ndarray) -> np.ndarray:
    values.setflags(write=False)
    return values


def _require_utf8(names: Iterable[str], source: str, *, kind: str = "an image") -> None:
    """Raises DataError for a name that no table, JSON or report can hold."""
    rename_file = "rename the file; `convmv` renames whole folders of an old encoding"
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the name of {kind} is not UTF-8",
                where=source,
                got=storable(name)[-_SHOWN:],
                expected="names in UTF-8",
                next_step=rename_file if kind == "an image" else "correct the annotations",
            ) from error


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"unknown {name}", got=repr(value), expected="one of " + ", ".join(allowed))
