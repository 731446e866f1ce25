"""NUS-WIDE: lists of images, and for each concept a file with a 0 or 1 in each line.

Chua et al. (2009), "NUS-WIDE: a real-world web image database from National University of Singapore". The image lists are in
`ImageList`, the labels in `TrainTestLabels` or `AllLabels`, the names of the concepts in `ConceptsList`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, Dataset
from polytag.data.formats.listing import child_folders, child_names, class_order, read_bytes, read_text
from polytag.data.formats.on_disk import only_on_disk
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.errors import AnnotationError, DataError
from polytag.text import counted

_LABELS_OF_SPLIT = re.compile(r"Labels_(.+)_(Train|Test)\.txt", re.IGNORECASE)
_LABELS_OF_ALL = re.compile(r"Labels_(.+)\.txt", re.IGNORECASE)
_LIST = re.compile(r"(train|test|)image_?list\.txt", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One list of images, its split, and the file of each concept."""

    images: Path
    split: str
    labels: Mapping[str, Path]


def is_nuswide(data: Path) -> bool:
    """Whether there are a folder of image lists and one of labels, under the names that NUS-WIDE gives them."""
    return bool(_child(data, "ImageList") and (_labels_folder(data, "TrainTestLabels") or _labels_folder(data, "AllLabels")))


def read_nuswide(data: Path, *, need_images: bool, context: ReadingContext) -> Dataset:
    """Read the training and test lists with their labels, or else the list of all images.

    The classes are in the order of the list of concepts, or by name. Images that are not on the disk are left out, because many
    have gone from the web. Raises AnnotationError, with file and line, for a file of labels that does not fit its list.
    """
    parts = _parts(data)
    names = _concepts(data, parts)
    context.log.found("images", "the lists in ImageList: " + ", ".join(part.images.name for part in parts))
    context.log.found("labels", f"{counted(len(names), 'files')} of 0 and 1 in {parts[0].labels[names[0]].parent.name}")
    if parts[0].split:
        context.log.found("split", "the names of the lists")
    places = [folder for name in ("Flickr", "images", "image") if (folder := _child(data, name))]
    folders = tuple(map(str, (*places, data)))
    records = only_on_disk(_records(parts, names), context=context, folders=folders, need_images=need_images)
    return dataset_of(records, source=f"nuswide {data}", context=context, folders=folders, declared=names)


def _child(folder: Path, name: str) -> Path | None:
    """The folder of this name, in any letter case."""
    return next((folder / child for child in child_folders(folder) if child.lower() == name.lower()), None)


def _labels_folder(data: Path, name: str) -> Path | None:
    truth = _child(data, "Groundtruth")
    return _child(data, name) or (_child(truth, name) if truth else None)


def _parts(data: Path) -> list[_Part]:
    place = _child(data, "ImageList")
    by_split = _labels_folder(data, "TrainTestLabels")
    of_all = _labels_folder(data, "AllLabels")
    lists = {match[1].lower(): place / name for name in child_names(place) if (match := _LIST.fullmatch(name))} if place else {}
    if by_split and {"train", "test"} & set(lists):
        found: dict[str, dict[str, Path]] = {split: {} for split in ("train", "test") if split in lists}
        for name in child_names(by_split):
            match = _LABELS_OF_SPLIT.fullmatch(name)
            if match and match[2].lower() in found:
                found[match[2].lower()][match[1]] = by_split / name
        parts = [_Part(images=lists[split], split=split, labels=labels) for split, labels in found.items()]
    elif of_all and "" in lists:
        labels = {match[1]: of_all / name for name in child_names(of_all) if (match := _LABELS_OF_ALL.fullmatch(name))}
        parts = [_Part(images=lists[""], split="", labels=labels)]
    else:
        parts = []
    if not parts or not parts[0].labels:
        raise DataError(
            "an image list of NUS-WIDE without its labels",
            where=str(data),
            got=", ".join(path.name for path in lists.values()) or "no list",
            expected="ImageList/TrainImagelist.txt with TrainTestLabels/Labels_CONCEPT_Train.txt, "
            "or ImageList/Imagelist.txt with AllLabels/Labels_CONCEPT.txt",
        )
    for part in parts[1:]:
        if different := set(part.labels) ^ set(parts[0].labels):
            name = min(different)
            raise AnnotationError(
                "a concept that only one of the lists has labels for",
                where=str((part.labels.get(name) or parts[0].labels[name]).parent),
                got=f"labels of {name!r} for one of " + ", ".join(each.images.name for each in parts),
                expected="a file of each concept for each list",
            )
    return parts


def _concepts(data: Path, parts: Sequence[_Part]) -> tuple[str, ...]:
    """The classes: in the order of the list of concepts where it has the same names."""
    found = parts[0].labels
    place = _child(data, "ConceptsList")
    for name in child_names(place) if place else ():
        names = tuple(line.strip() for line in read_text(place / name).splitlines() if line.strip()) if place else ()
        if len(names) == len(found) and set(names) == set(found):
            return names
    return class_order(found)


def _records(parts: Sequence[_Part], names: Sequence[str]) -> Iterator[Record]:
    for part in parts:
        images = [(n, line.strip()) for n, line in enumerate(read_text(part.images).splitlines(), start=1) if line.strip()]
        present_CN = np.array([_answers(part.labels[name], part.images, len(images)) for name in names])
        for column, (line, image) in enumerate(images):
            present = [names[row] for row in np.flatnonzero(present_CN[:, column]).tolist()]
            yield Record(image=image, where=f"{part.images}:{line}", present=present, others=ABSENT, split=part.split)


def _answers(path: Path, images: Path, num_images: int) -> np.ndarray:
    """bool N: the lines of a file of labels."""
    lines = read_bytes(path).split()
    if len(lines) != num_images:
        raise AnnotationError(
            "a file of labels does not fit the list of images",
            where=str(path),
            got=f"{len(lines):,} lines",
            expected=f"{num_images:,}, as in {images}",
        )
    for number, line in enumerate(lines, start=1):
        if line not in (b"0", b"1"):
            raise AnnotationError("a label outside 0 and 1", where=f"{path}:{number}", got=repr(line[:80])[1:], expected="0 or 1")
    return np.array([line == b"1" for line in lines], bool)
