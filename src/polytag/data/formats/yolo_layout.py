"""Where a YOLO data set names its classes and its images: in a yaml, in `classes.txt` or `obj.names`, in lists or in folders."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.data.formats.class_lists import require_whole_lines
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import (
    child_names,
    images_below,
    is_clutter,
    is_image,
    more,
    other_folders_note,
    read_text,
    read_text_yaml,
    split_folders,
    split_of,
)
from polytag.data.formats.reading_log import ReadingLog
from polytag.errors import AnnotationError, DataError
from polytag.files import open_regular

_NAMES_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "data/obj.names")
_HEAD_BYTES = 65_536
_NAMES_KEY = re.compile(rb"(?i)(?:^|[\n{,])\s*[\"']?names[\"']?\s*:")
_SPLIT_KEY = re.compile(rb"(?i)(?:^|[\n{,])\s*[\"']?(?:train|training|val|valid|validation|dev|test|testing)[\"']?\s*:")
_NUM_PEEKED = 20  # label files


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Class names, and for each split the listed images as (path, where it is listed)."""

    source: Path
    names: tuple[str, ...]
    images: Mapping[str, Sequence[tuple[Path, str]]]


def is_yolo(data: Path) -> bool:
    """Whether a folder contains a YOLO yaml, or a names file and label files."""
    return bool(_yaml_files(data) or _names_file(data))


def has_yolo_labels(data: Path) -> bool:
    """Whether there are label files, with or without names, in one of their usual places."""
    folders = [data, *(folder for _, folder in split_folders(data))]
    return any(_are_labels(folder / "labels") for folder in folders) or any(_are_labels(folder, deep=False) for folder in folders)


def find_layout(data: Path, *, log: ReadingLog) -> Layout:
    """The layout of a folder or yaml; raises AnnotationError or DataError where it names no classes or no images."""
    path = _yaml_of(data)
    return _yaml_layout(path, log=log) if path else _plain_layout(data, log=log)


def yolo_names(data: Path) -> tuple[str, ...]:
    """The class names of a folder or yaml, in the order of their numbers; raises as `find_layout`, and looks at no image."""
    path = _yaml_of(data)
    return _yaml_names(_yaml_content(path), path) if path else _plain_names(data)[1]


def _yaml_of(data: Path) -> Path | None:
    files = [data] if data.is_file() else _yaml_files(data)
    if len(files) > 1:
        raise DataError(
            "several YOLO yaml files in one folder",
            where=str(data),
            got=", ".join(file.name for file in files),
            expected="one",
            next_step=f"give the file itself, such as {files[0]}",
        )
    return files[0] if files else None


# ---- data.yaml ----


def _yaml_files(data: Path) -> list[Path]:
    """The yaml files of a folder that name classes, and images if no folder of labels is there."""
    found: list[Path] = []
    for name in child_names(data):
        if name.lower().endswith((".yaml", ".yml")):
            head = _head(data / name)
            if _NAMES_KEY.search(head) and (_SPLIT_KEY.search(head) or has_yolo_labels(data)):
                found.append(data / name)
    return found


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _yaml_content(path: Path) -> dict[str, object]:
    content = read_text_yaml(read_text(path), path=path)
    return {_key(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _yaml_layout(path: Path, *, log: ReadingLog) -> Layout:
    content = _yaml_content(path)
    root = str(content.get("path") or "").replace("\\", "/")
    roots = list(dict.fromkeys((path.parent / root, path.parent)))
    places: dict[str, list[Path]] = {}
    for key, value in content.items():
        split = split_of(key) or _subset_of(key, value, roots)
        if split is None or value in ("", "~", "null", None, []):
            continue
        for entry in value if isinstance(value, list) else [value]:
            place = _place(str(entry), roots, log=log)
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
            places.setdefault(split, []).append(place)
    if not places:
        images = _plain_images(path.parent, log=log) if has_yolo_labels(path.parent) else {}
        log.note(f"{path.name} names no images: they are found by the usual names of folders and lists")
        if not images:
            raise DataError(
                "the yaml names no images", where=str(path), got="neither train, val nor test", expected="train and val"
            )
        return Layout(source=path, names=_yaml_names(content, path), images=images)
    _add_beside_train(places, name=path.name, log=log)
    places = _without_useless_splits(places, name=path.name, log=log)
    images = {split: [image for place in found for image in _images_of(place, log=log)] for split, found in places.items()}
    if any(images):
        log.found("split", f"the keys of {path.name}")
    return Layout(source=path, names=_yaml_names(content, path), images=images)


def _key(key: object) -> str:
    """A key as Ultralytics spells it."""
    lower = str(key).lower()
    return lower if split_of(lower) or lower in ("path", "names", "nc") else str(key)


def _subset_of(key: str, value: object, roots: Sequence[Path]) -> str | None:
    """A split of another name, as CVAT's subsets have: a key with a list or folder of images. CVAT's `default` is none."""
    spelled = value.replace("\\", "/") if isinstance(value, str) else ""
    may_be_images = spelled.endswith(".txt") or "images" in spelled.lower().split("/")
    if key in ("path", "names", "nc", "download") or not may_be_images or not any((root / spelled).exists() for root in roots):
        return None
    return "" if key == "default" else key


def _add_beside_train(places: dict[str, list[Path]], *, name: str, log: ReadingLog) -> None:
    """Splits that the yaml forgets: the folders neighbour that of train, such as images/val, or valid/images."""
    if list(places) != ["train"] or len(places["train"]) != 1 or not places["train"][0].is_dir():
        return
    train = places["train"][0]
    inner = () if split_of(train.name) else (train.name,)
    around = train.parent.parent if inner else train.parent
    if split_of(train.parent.name if inner else train.name) != "train":
        return
    for neighbour in child_names(around):
        split, place = split_of(neighbour), around.joinpath(neighbour, *inner)
        if split in ("val", "test") and images_below(place):
            log.note(f"{name} does not name the images of {split}: those in {'/'.join((neighbour, *inner))} are taken")
            places.setdefault(split, []).append(place)


def _without_useless_splits(places: dict[str, list[Path]], *, name: str, log: ReadingLog) -> dict[str, list[Path]]:
    """The places, with one that has no split where the yaml names the same images for training and for validation."""
    train = places.get("train")
    same = [split for split, found in places.items() if found == train]
    if len(same) < 2 or ("val" in places and "val" not in same):
        return places
    log.note(f"{name} names the same images for {' and '.join(same)}: they have no split")
    return {"": places["train"], **{split: found for split, found in places.items() if split not in same}}


def _yaml_names(content: Mapping[str, object], path: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        by_number = {int(key) if str(key).isdecimal() else -1: name for key, name in names.items()}
        names = [by_number.get(number) for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise AnnotationError(
            "the yaml's class names cannot be read",
            where=str(path),
            got=f"names: {content.get('names')!r}",
            expected="a list of names, or a name for each number from 0",
        )
    number = content.get("nc", str(len(names)))
    if number != str(len(names)):
        raise AnnotationError(
            "the yaml's number of classes is wrong", where=str(path), got=f"nc: {number}", expected=f"{len(names)}, as in names"
        )
    return tuple(map(str, names))


def _place(entry: str, roots: Sequence[Path], *, log: ReadingLog) -> Path | None:
    """The folder or list. A leading "../" may be superfluous, as Roboflow writes it; of another machine's path the end counts."""
    spelled = entry.replace("\\", "/")
    for inside in dict.fromkeys((spelled.removeprefix("../"), spelled)):
        for root in roots:
            if os.path.exists(path := Path(os.path.normpath(root / inside))):
                return path
    parts = spelled.strip("/").split("/")
    for start in range(1, len(parts)):
        if os.path.exists(path := Path(os.path.normpath(roots[-1].joinpath(*parts[start:])))):
            log.note(f"{entry!r} does not exist; {'/'.join(parts[start:])!r} is taken instead")
            return path
    return None


def _images_of(place: Path, *, log: ReadingLog) -> Iterator[tuple[Path, str]]:
    """Every image in a folder and below, or every image of a list."""
    if os.path.isdir(place):
        for name in images_below(place):
            yield place / name, str(place)
        return
    yield from _listed_in(place, folders=[str(place.parent)], log=log)


def _listed_in(path: Path, *, folders: Sequence[str], log: ReadingLog) -> Iterator[tuple[Path, str]]:
    """The images of a list. CVAT writes `data/` before each for any folder name; a path of another machine counts by its end."""
    index = FileIndex(log=log)
    first = 0  # the parts of a path before it that were left out last
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if name := text.strip().removeprefix("./"):
            parts = name.replace("\\", "/").strip("/").split("/")
            starts = [first, *range(1, len(parts) - 1), *([1] if parts[0] == "data" else [])]
            found = index.find(name, folders)
            for start in starts if found is None else ():
                if found := index.find("/".join(parts[start:]), folders):
                    first = start
                    if parts[:start] != ["data"]:
                        log.note(f"images of {path.name} are found by the end of their paths, such as {'/'.join(parts[start:])!r}")
                    break
            yield found or index.require(name, folders, where=f"{path}:{line}"), f"{path}:{line}"


# ---- without a yaml ----


def _names_file(data: Path) -> Path | None:
    """A names file of a folder that also has label files or lists."""
    for name in _NAMES_FILES:
        if (data / name).is_file() and (name.endswith(".names") or has_yolo_labels(data)):
            return data / name
    return None


def _are_labels(folder: Path, *, deep: bool = True) -> bool:
    """Whether the first text files of a folder are label files; without `deep`, whether one of them is."""
    num_empty = 0
    for path in _text_files(folder, deep=deep):
        line = next((line for line in _head(path)[:4096].splitlines() if line.strip()), b"")
        if line and is_label_line(line.decode(errors="replace")):
            return True
        if line and deep:
            return False
        num_empty += 1
    return deep and num_empty > 0


def _text_files(folder: Path, *, deep: bool) -> Iterator[Path]:
    """At most `_NUM_PEEKED` text files that may be of labels."""
    number = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if deep and not is_clutter(name))
        for name in sorted(files):
            if name.lower().endswith(".txt") and not name.lower().startswith(("classes", "readme")) and not is_clutter(name):
                yield Path(place, name)
                number += 1
                if number == _NUM_PEEKED:
                    return


def is_label_line(line: str) -> bool:
    """Whether a line is a class number and at least four numbers."""
    try:
        number, *rest = map(float, line.split())
    except ValueError:
        return False
    return len(rest) >= 4 and number.is_integer()


def _plain_names(data: Path) -> tuple[Path, tuple[str, ...]]:
    """The file of the class names, and the names."""
    path = _names_file(data)
    if path is None:
        raise DataError(
            "no YOLO class names",
            where=str(data),
            got="no yaml with names, no classes.txt and no obj.names",
            expected="one of them",
            next_step="write the names into classes.txt, one per line, in the order of their numbers",
        )
    names = tuple(name.strip() for name in read_text(path).rstrip().splitlines())
    if not names:
        raise DataError("no YOLO class names", where=str(path), got="an empty file", expected="one class name per line")
    require_whole_lines(names, path=path)
    return path, names


def _plain_layout(data: Path, *, log: ReadingLog) -> Layout:
    path, names = _plain_names(data)
    log.found("classes", path.name)
    return Layout(source=data, names=names, images=_plain_images(data, log=log))


def _images_by_folder(parent: Path, *, log: ReadingLog) -> dict[str, list[tuple[Path, str]]]:
    """The images of folders named after splits; empty where they hold none."""
    split_in = {parent / name: split_of(name.removeprefix("obj_").removesuffix("_data")) for name in child_names(parent)}
    found: dict[str, list[tuple[Path, str]]] = {}
    for folder, split in split_in.items():
        if split and folder.is_dir():
            found.setdefault(split, []).extend(_images_of(folder, log=log))
    if not any(found.values()):
        return {}
    log.found("split", "the names of folders")
    log.note(other_folders_note(parent, holds=lambda folder: not split_in[folder] and _is_of_split(folder)))
    if loose := [folder.name for folder in split_in if is_image(folder.name)]:
        log.note(f"left out, in no folder of a split: {loose[0]}" + more(len(loose) - 1))
    return found


def _is_of_split(folder: Path) -> bool:
    """Whether a folder, such as images/holdout or holdout, has label files in the place where those of a split are."""
    mirrored = folder.parent.with_name("labels") / folder.name if folder.parent.name == "images" else folder / "labels"
    return _are_labels(mirrored)


def _plain_images(data: Path, *, log: ReadingLog) -> dict[str, list[tuple[Path, str]]]:
    """Images by lists (Darknet), by split folders inside or around `images`, or all in one folder."""
    found: dict[str, list[tuple[Path, str]]] = {}
    if lists := [name for name in child_names(data) if name.lower().endswith(".txt") and split_of(name[:-4])]:
        log.found("split", "the lists " + ", ".join(lists))
        for name in lists:
            listed = _listed_in(data / name, folders=[str(data), str(data.parent)], log=log)
            found.setdefault(split_of(name[:-4]) or "", []).extend(listed)
        return found
    for parent in (data / "images", data):
        if found := _images_by_folder(parent, log=log):
            return found
    place = data / "images" if (data / "images").is_dir() else data
    return {"": list(_images_of(place, log=log))}
