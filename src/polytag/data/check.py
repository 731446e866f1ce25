"""`check`: what a data set contains and what is wrong with it, before hours of training. Shapes: S splits, C classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, Dataset, Interpretation
from polytag.data.duplicates.groups import (
    DatasetImage,
    DuplicateGroup,
    FeatureDuplicateGroup,
    ModelFeatures,
    across_splits,
    duplicate_groups,
    feature_duplicates,
)
from polytag.data.groups import divided_groups, divided_groups_note
from polytag.data.image_contents import ImageContent, existing, read_contents
from polytag.data.label_counts import label_counts
from polytag.data.load import dataset_of_data
from polytag.data.read_options import ReadOptions
from polytag.data.splits import ONLY_POSITIVE, lacks_validation, large_group_note, why_not_trainable, with_validation_split
from polytag.errors import DataError, UsageError
from polytag.path_list import PathList

_NUM_NAMED = 5  # names shown in a sentence; the lists hold them all


@dataclass(frozen=True, kw_only=True)
class UnreadableImage:
    """An image that training would skip, and the reason."""

    image: DatasetImage
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class DataCheck:
    """The result of `check`.

    source               where the data came from, as text
    interpretation       what the annotations were read as
    classes              C names
    splits               S names; "" where the annotations name none
    num_images_S         rows of each split
    present_SC, absent_SC, unknown_SC   images of a split in which the class is present, absent or unknown
    labels_per_image     number of present classes: number of images; every count from 0 to the largest
    images_were_read     False where only the existence of the files was checked; equal content is then unknown
    unreadable           images that cannot be decoded (or, unread, do not exist)
    duplicates           groups of different files with the same bytes (SHA-256)
    in_two_splits        groups of rows that are one image in more than one split: the same content, or unread the same id
    divided_groups       images in each split of every group of dependent images that lies in more than one; None without groups
    near_duplicates      groups of different files that show one image; None without the search
    num_flat             distinct files without enough detail for that comparison (blank pages); None without the search
    feature_duplicates   groups of images that a model finds nearly the same; None without a model
    problems             sentences; any of them prevents training
    warnings             sentences; training is possible
    """

    source: str
    interpretation: Interpretation
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    num_images_S: tuple[int, ...]
    present_SC: np.ndarray
    absent_SC: np.ndarray
    unknown_SC: np.ndarray
    labels_per_image: Mapping[int, int]
    images_were_read: bool
    unreadable: tuple[UnreadableImage, ...]
    duplicates: tuple[tuple[DatasetImage, ...], ...]
    in_two_splits: tuple[tuple[DatasetImage, ...], ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    divided_groups: Mapping[str, Mapping[str, int]] | None = None
    near_duplicates: tuple[DuplicateGroup, ...] | None = None
    num_flat: int | None = None
    feature_duplicates: tuple[FeatureDuplicateGroup, ...] | None = None

    @property
    def can_train(self) -> bool:
        """Whether training can start."""
        return not self.problems

    @property
    def num_images(self) -> int:
        """Rows of all splits."""
        return sum(self.num_images_S)

    @property
    def unknown_share(self) -> float:
        """The share of (image, class) pairs without a label, in [0, 1]; NaN without images."""
        num_pairs = self.num_images * len(self.classes)
        return float(self.unknown_SC.sum()) / num_pairs if num_pairs else float("nan")

    @property
    def mean_labels_per_image(self) -> float:
        """Mean number of present classes per image; NaN without images."""
        return float(self.present_SC.sum()) / self.num_images if self.num_images else float("nan")

    def to_json(self) -> dict[str, object]:
        """The result as a JSON object; `docs/reference/data-check.md` lists its keys. NaN becomes None."""
        return {
            "source": self.source,
            "interpretation": {
                "format": self.interpretation.format,
                "found": dict(self.interpretation.found),
                "notes": list(self.interpretation.notes),
            },
            "can_train": self.can_train,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "num_images": self.num_images,
            "num_classes": len(self.classes),
            "splits": dict(zip(self.splits, self.num_images_S, strict=True)),
            "classes": {
                name: {
                    split: {
                        "present": int(self.present_SC[s, c]),
                        "absent": int(self.absent_SC[s, c]),
                        "unknown": int(self.unknown_SC[s, c]),
                    }
                    for s, split in enumerate(self.splits)
                }
                for c, name in enumerate(self.classes)
            },
            "unknown_share": self.unknown_share if self.num_images else None,
            "labels_per_image": {
                "mean": self.mean_labels_per_image if self.num_images else None,
                "num_images": {str(count): images for count, images in self.labels_per_image.items()},
            },
            "images_were_read": self.images_were_read,
            "unreadable": [item.image.to_json() | {"reason": item.reason} for item in self.unreadable],
            "duplicates": [[image.to_json() for image in group] for group in self.duplicates],
            "in_two_splits": [[image.to_json() for image in group] for group in self.in_two_splits],
            "divided_groups": None
            if self.divided_groups is None
            else {group: dict(counts) for group, counts in self.divided_groups.items()},
            "near_duplicates": None if self.near_duplicates is None else [group.to_json() for group in self.near_duplicates],
            "num_flat": self.num_flat,
            "feature_duplicates": None
            if self.feature_duplicates is None
            else [group.to_json() for group in self.feature_duplicates],
        }


def check(
    data: Dataset | str | Path,
    *,
    options: ReadOptions = ReadOptions(),
    read_images: bool = True,
    near: bool = False,
    features: ModelFeatures | None = None,
    num_threads: int = 0,
    on_image: Callable[[], None] | None = None,
) -> DataCheck:
    """Count the labels, decode and compare every image, and decide whether training can start.

    `data` is a Dataset, or what `load_dataset` reads with `options`.
    `read_images=False` checks only that the files exist. `near` also searches near duplicates among the images that are read;
    `features` searches near duplicates by a model. `num_threads` 0 means one per core. `on_image` is called once per distinct file
    that was read, in order. Raises UsageError for `near` without reading. Problems of the data are part of the result.
    """
    if near and not read_images:
        raise UsageError("near duplicates are found by reading the images", got="near, and images that are not read")
    dataset = dataset_of_data(data, options=options)
    paths = PathList(dataset.paths).texts
    contents = read_contents(paths, near=near, num_threads=num_threads, on_image=on_image) if read_images else existing(paths)
    content_N = [contents[path] for path in paths]

    def image(row: int) -> DatasetImage:
        return DatasetImage(id=dataset.ids[row], split=dataset.split_N[row], path=paths[row])

    images = [image(row) for row in range(len(dataset))] if near or features else []
    in_two_splits, duplicates = _exact_duplicates(dataset, content_N, paths)
    key_N = [content.sha256 or path for content, path in zip(content_N, paths, strict=True)]
    copies = {key: content.copy for key, content in zip(key_N, content_N, strict=True) if content.copy}
    near_duplicates, num_flat = duplicate_groups(images, content_N=key_N, copies=copies) if near else (None, None)
    counts = label_counts(dataset)
    warnings = [
        *_image_warnings(dataset, content_N, duplicates, in_two_splits),
        *_group_warnings(dataset),
        *_near_warnings(near_duplicates or (), num_flat or 0),
        *_class_warnings(dataset, counts.present_SC, counts.absent_SC),
        *_label_warnings(counts.num_without_label),
    ]
    return DataCheck(
        source=dataset.source,
        interpretation=dataset.interpretation,
        classes=dataset.label_set.names,
        splits=dataset.splits,
        num_images_S=tuple(dataset.split_N.count(split) for split in dataset.splits),
        present_SC=counts.present_SC,
        absent_SC=counts.absent_SC,
        unknown_SC=counts.unknown_SC,
        labels_per_image=dict(enumerate(counts.num_images_of_count.tolist())),
        images_were_read=read_images,
        unreadable=tuple(
            UnreadableImage(image=image(row), reason=content.reason) for row, content in enumerate(content_N) if content.reason
        ),
        duplicates=tuple(tuple(image(row) for row in rows) for rows in duplicates),
        in_two_splits=tuple(tuple(image(row) for row in rows) for rows in in_two_splits),
        problems=tuple(_problems(dataset, content_N)),
        warnings=tuple(warnings),
        divided_groups=divided_groups(dataset) if any(dataset.group_N) else None,
        near_duplicates=near_duplicates,
        num_flat=num_flat,
        feature_duplicates=feature_duplicates(images, content_N=key_N, features=features) if features else None,
    )


def _exact_duplicates(
    dataset: Dataset, content_N: Sequence[ImageContent], paths: Sequence[str]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Groups of rows that are one image in several splits, and groups of rows with the same bytes in different files.

    Two splits may use one id for two images, so the id identifies an image only where its content is unknown.
    """
    same_image = _groups([content.sha256 or name for content, name in zip(content_N, dataset.ids, strict=True)])
    in_two_splits = [rows for rows in same_image if len({dataset.split_N[row] for row in rows}) > 1]
    duplicates = [rows for rows in same_image if content_N[rows[0]].sha256 and len({paths[row] for row in rows}) > 1]
    return in_two_splits, duplicates


def _groups(key_N: Sequence[str]) -> list[tuple[int, ...]]:
    """Groups of two or more rows with the same key."""
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(key_N):
        groups.setdefault(key, []).append(row)
    return [tuple(rows) for rows in groups.values() if len(rows) > 1]


def _problems(dataset: Dataset, content_N: Sequence[ImageContent]) -> Iterator[str]:
    """Reasons that training cannot start; data without splits are checked with the validation split that training would make."""
    if not len(dataset):
        yield "there are no images"
        return
    split_N, made = dataset.split_N, ""
    if lacks_validation(dataset):
        try:
            split_N, made = with_validation_split(dataset).split_N, ", which training would make"
        except DataError as error:
            yield error.what
            return
    for split in ("train", "val"):
        row_M = np.flatnonzero([name == split for name in split_N])
        if not len(row_M):
            yield f"the split {split!r} is missing; there are: {', '.join(repr(name) for name in dataset.splits)}"
            continue
        if reason := why_not_trainable(dataset, row_M, split=split):
            yield f"{reason} in split {split!r}{made}" + (f": {ONLY_POSITIVE}" if dataset.absent_means == "unknown" else "")
        if all(content_N[row].reason for row in row_M.tolist()):
            yield f"no image can be read in split {split!r}{made}"


def _class_warnings(dataset: Dataset, present_SC: np.ndarray, absent_SC: np.ndarray) -> Iterator[str]:
    for split, present_C, absent_C in zip(dataset.splits, present_SC, absent_SC, strict=True):
        place = f" in split {split!r}" if split else ""
        if not present_C.any():
            continue  # reported as a problem
        for lacking_C, kind in ((present_C == 0, "positive"), (absent_C == 0, "negative")):
            if lacking_C.any():
                names = [name for name, lacks in zip(dataset.label_set, lacking_C, strict=True) if lacks]
                yield f"{_number(len(names), 'class has', 'classes have')} no {kind}{place}: {_some(names)}"


def _image_warnings(
    dataset: Dataset,
    content_N: Sequence[ImageContent],
    duplicates: Sequence[tuple[int, ...]],
    in_two_splits: Sequence[tuple[int, ...]],
) -> Iterator[str]:
    unreadable = list(
        dict.fromkeys(path for path, content in zip(PathList(dataset.paths).texts, content_N, strict=True) if content.reason)
    )
    if unreadable:
        yield f"{_number(len(unreadable), 'image', 'images')} cannot be read and will be skipped: {_some(unreadable)}"
    if in_two_splits:
        names = [dataset.ids[rows[0]] for rows in in_two_splits]
        number = _number(len(names), "image is", "images are")
        yield f"{number} in more than one split, so validation scores are too high: {_some(names)}"
    if duplicates:
        names = [" = ".join(dict.fromkeys(dataset.ids[row] for row in rows)) for rows in duplicates]
        yield f"{_number(len(names), 'image has', 'images have')} several names with the same bytes: {_some(names)}"
    unlike = [
        " = ".join(dataset.ids[row] for row in rows)
        for rows in duplicates
        if any({PRESENT, ABSENT} <= set(target_n.tolist()) for target_n in dataset.target_NC[list(rows)].T)
    ]
    if unlike:
        yield f"{_number(len(unlike), 'of them has', 'of them have')} contradictory labels: {_some(unlike)}"


def _group_warnings(dataset: Dataset) -> Iterator[str]:
    if note := divided_groups_note(dataset):
        yield note
    if lacks_validation(dataset) and (note := large_group_note(dataset)):
        yield note


def _near_warnings(groups: Sequence[DuplicateGroup], num_flat: int) -> Iterator[str]:
    for several, place in (
        (True, "different versions in more than one split, so validation scores are too high"),
        (False, "several versions"),
    ):
        chosen = [group for group in groups if across_splits(group.images) == several]
        if chosen:
            names = [" ≈ ".join(dict.fromkeys(image.id for image in group.images)) for group in chosen]
            yield f"{_number(len(chosen), 'image has', 'images have')} {place}: {_some(names)}"
    if num_flat:
        yield f"{_number(num_flat, 'image has', 'images have')} too little detail to be compared with others"


def _label_warnings(num_silent: int) -> Iterator[str]:
    if num_silent:
        yield f"{_number(num_silent, 'image has', 'images have')} no known label and cannot be learned from"


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {more:,} more" if more > 0 else "")
