"""YOLO label folders: one text file per image, one line per object that starts with the class number.

Layouts: Ultralytics (`data.yaml`; `images/` mirrored by `labels/`), Roboflow's (`train/images`, `train/labels`), LabelImg's
(`classes.txt`), and Darknet's and CVAT's (`obj.names`, `train.txt`). Format: https://docs.ultralytics.com/datasets/detect.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, Dataset, LabelSet
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import (
    child_names,
    images_below,
    read_text,
    read_yaml,
    relative_id,
    require_classes,
    split_of,
)
from polytag.data.formats.records import ReadingContext
from polytag.errors import AnnotationError, DataError

_NAMES_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "data/obj.names")
_LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Class names, and for each split the listed images as (path, where it is listed)."""

    source: Path
    names: tuple[str, ...]
    images: Mapping[str, Sequence[tuple[Path, str]]]


def is_yolo(data: Path) -> bool:
    """Whether a folder contains a YOLO yaml, or a names file and label files."""
    return bool(_yaml_files(data) or _names_file(data))


def read_yolo(data: Path, *, context: ReadingContext) -> Dataset:
    """Read a YOLO folder, or the yaml in it; classes in the order of their numbers.

    An image whose label file is empty or missing has no objects: all its classes are ABSENT. Boxes, polygons and key points are
    dropped. Raises AnnotationError for a line that cannot be read or has an unknown class number.
    """
    root = data.parent if data.is_file() else data
    layout = _yaml_layout(_one_yaml(data)) if data.is_file() or _yaml_files(data) else _plain_layout(data)
    context.log.found("labels", "the class numbers of label files")
    require_classes(layout.names, where=layout.source)
    label_index = FileIndex()
    ids: list[str] = []
    paths: list[Path] = []
    split_N: list[str] = []
    label_files: list[Path | None] = []
    for split, images in layout.images.items():
        seen: set[Path] = set()
        for path, where in images:
            if path in seen:
                raise AnnotationError("an image is listed twice", where=where, got=repr(str(path)), expected="every image once")
            seen.add(path)
            ids.append(relative_id(path, root))
            paths.append(path)
            split_N.append(split)
            label_files.append(label_file(path, label_index))
    if not any(label_files):
        raise DataError(
            "no YOLO label file was found",
            where=str(data),
            got=f"{len(paths)} images, none with labels",
            expected="labels/NAME.txt for images/NAME.jpg, or NAME.txt next to NAME.jpg",
        )
    target_NC = np.full((len(ids), len(layout.names)), ABSENT, dtype=np.int8)
    for target_C, path in zip(target_NC, label_files, strict=True):
        if path:
            target_C[list(_classes_in(path, names=layout.names))] = PRESENT
    return Dataset(
        ids=tuple(ids),
        paths=tuple(paths),
        target_NC=target_NC,
        split_N=tuple(split_N),
        label_set=LabelSet(names=layout.names),
        source=f"yolo {layout.source}",
    )


# ---- labels ----


def label_file(image: Path, index: FileIndex) -> Path | None:
    """The label file of an image, or None.

    The last "images" in the path becomes "labels" (as Ultralytics does); otherwise the file is next to the image.
    """
    parts = list(image.parts)
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        parts[at] = "labels"
    mirrored = Path(*parts).with_suffix(".txt")
    return next((path for path in (mirrored, image.with_suffix(".txt")) if index.exists(path)), None)


def _classes_in(path: Path, *, names: Sequence[str]) -> set[int]:
    classes: set[int] = set()
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if not words:
            continue
        try:
            number, *rest = (float(word) for word in words)
        except ValueError:
            number, rest = float("nan"), []
        if len(rest) < 4 or not number.is_integer():
            raise AnnotationError(
                "a line of a YOLO label file cannot be read",
                where=f"{path}:{line}",
                got=repr(text.strip()),
                expected="a class number and a box (x y width height) or a polygon, in numbers",
            )
        if not 0 <= number < len(names):
            raise AnnotationError(
                "an unknown class number",
                where=f"{path}:{line}",
                got=words[0],
                expected=f"0 to {len(names) - 1}, for {len(names)} class names",
            )
        classes.add(int(number))
    return classes


# ---- data.yaml ----


def _yaml_files(data: Path) -> list[Path]:
    """The yaml files of a folder that name classes and images."""
    found: list[Path] = []
    for name in child_names(data):
        if name.endswith((".yaml", ".yml")):
            content = _yaml(data / name)
            if "names" in content and ("train" in content or "val" in content):
                found.append(data / name)
    return found


def _one_yaml(data: Path) -> Path:
    files = [data] if data.is_file() else _yaml_files(data)
    if len(files) > 1:
        raise DataError(
            "several YOLO yaml files in one folder",
            where=str(data),
            got=", ".join(file.name for file in files),
            expected="one",
            next_step=f"give the file itself, such as {files[0]}",
        )
    return files[0]


def _yaml(path: Path) -> Mapping[object, object]:
    content = read_yaml(read_text(path), path=path)
    return content if isinstance(content, dict) else {}


def _yaml_layout(path: Path) -> _Layout:
    content = _yaml(path)
    roots = [path.parent / str(content["path"]), path.parent] if content.get("path") else [path.parent]
    images: dict[str, list[tuple[Path, str]]] = {}
    for key, value in content.items():
        split = split_of(str(key))
        if split is None or not value:
            continue
        for entry in value if isinstance(value, list) else [value]:
            place = _place(str(entry), roots)
            if place is None and split == "test":
                continue  # Roboflow names a test folder in every yaml, even where it does not exist
            if place is None:
                raise DataError(
                    f"the images of split {split!r} do not exist",
                    where=str(path),
                    got=repr(str(entry)),
                    expected="a folder or a list, relative to " + " or ".join(str(root) for root in roots),
                    next_step=f"correct {key!r} or 'path' in {path.name}",
                )
            images.setdefault(split, []).extend(_images_of(place))
    if not images:
        raise DataError("the yaml names no images", where=str(path), got="neither train, val nor test", expected="train and val")
    return _Layout(source=path, names=_yaml_names(content, path), images=images)


def _yaml_names(content: Mapping[object, object], path: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        by_number = {_number(key): name for key, name in names.items()}
        names = [by_number.get(number) for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str | int) and not isinstance(n, bool) for n in names):
        raise AnnotationError(
            "the yaml's class names cannot be read",
            where=str(path),
            got=f"names: {content.get('names')!r}",
            expected="a list of names, or a name for each number from 0",
        )
    number = content.get("nc", len(names))
    if number != len(names):
        raise AnnotationError(
            "the yaml's number of classes is wrong", where=str(path), got=f"nc: {number!r}", expected=f"{len(names)}, as in names"
        )
    return tuple(str(name) for name in names)


def _number(key: object) -> int:
    return int(key) if isinstance(key, int) or (isinstance(key, str) and key.isdecimal()) else -1


def _place(entry: str, roots: Sequence[Path]) -> Path | None:
    """The folder or list; a superfluous leading "../", as Roboflow writes it, is ignored as Ultralytics does."""
    for spelled in (entry, entry.removeprefix("../")):
        for root in roots:
            if os.path.exists(path := Path(os.path.normpath(root / spelled))):
                return path
    return None


def _images_of(place: Path) -> Iterator[tuple[Path, str]]:
    """Every image in a folder and below, or every image of a list."""
    if os.path.isdir(place):
        for name in images_below(place):
            yield place / name, str(place)
        return
    yield from _listed_in(place, folders=[str(place.parent)])


def _listed_in(path: Path, *, folders: Sequence[str]) -> Iterator[tuple[Path, str]]:
    index = FileIndex()
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if name := text.strip():
            yield index.require(name.removeprefix("./"), folders, where=f"{path}:{line}"), f"{path}:{line}"


# ---- without a yaml ----


def _names_file(data: Path) -> Path | None:
    """A names file of a folder that also has label files or lists."""
    for name in _NAMES_FILES:
        if (data / name).is_file() and (name.endswith(".names") or _has_labels(data)):
            return data / name
    return None


def _has_labels(data: Path) -> bool:
    names = child_names(data)
    has_text_files = any(name.endswith(".txt") and name != "classes.txt" for name in names)
    return "labels" in names or has_text_files or any(split_of(name) and (data / name / "labels").is_dir() for name in names)


def _plain_layout(data: Path) -> _Layout:
    path = _names_file(data)
    if path is None:
        raise DataError(
            "no YOLO class names",
            where=str(data),
            got="no yaml with names, no classes.txt and no obj.names",
            expected="one of them",
        )
    names = tuple(name.strip() for name in read_text(path).splitlines() if name.strip())
    if not names:
        raise DataError("no YOLO class names", where=str(path), got="an empty file", expected="one class name per line")
    return _Layout(source=data, names=names, images=_plain_images(data))


def _plain_images(data: Path) -> dict[str, list[tuple[Path, str]]]:
    """Images by lists (Darknet), by split folders inside or around `images`, or all in one folder."""
    found: dict[str, list[tuple[Path, str]]] = {}
    if lists := [name for name in _LISTS if (data / name).is_file()]:
        for name in lists:
            listed = _darknet_list(data, data / name)
            found.setdefault(split_of(name[:-4]) or "", []).extend(listed)
        return found
    for parent in (data / "images", data):
        for name in child_names(parent):
            split = split_of(name.removeprefix("obj_").removesuffix("_data"))
            if split and (parent / name).is_dir():
                found.setdefault(split, []).extend(_images_of(parent / name))
        if any(found.values()):
            return found
    place = data / "images" if (data / "images").is_dir() else data
    return {"": list(_images_of(place))}


def _darknet_list(data: Path, path: Path) -> Iterator[tuple[Path, str]]:
    """The images of a Darknet list; CVAT writes `data/obj_train_data/NAME` for any folder name."""
    index, folders = FileIndex(), [str(data), str(data.parent)]
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if name := text.strip():
            inner = name.removeprefix("data/")
            found = index.find(inner, folders)
            yield found or index.require(name, folders, where=f"{path}:{line}"), f"{path}:{line}"
