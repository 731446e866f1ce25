"""Pascal VOC devkits of 2007 to 2012, and folders of VOC's XML files as annotation tools write them.

The lists `ImageSets/Main/<class>_<split>.txt` take precedence: one line per image, its id and 1 (present), -1 (absent) or 0 (only
difficult objects). Without lists, the XML annotations are read. Format: the VOC2012 development kit, section 4.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import (
    TREATMENTS,
    child_names,
    class_order,
    note,
    read_bytes,
    read_text,
    require_classes,
    split_of,
)
from polytag.data.formats.records import ReadingContext
from polytag.errors import AnnotationError, DataError

_SPLITS = ("train", "val", "trainval", "test")
_CLASS_LIST = re.compile(r"(.+)_(train|val|trainval|test)\.txt", re.DOTALL)
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")


def is_voc(data: Path) -> bool:
    """Whether a folder is a devkit, or contains devkits or VOC's XML files."""
    return bool(_devkits(data) or _xml_places(data))


def read_voc(data: Path, *, difficult: str, context: ReadingContext) -> Dataset:
    """Read `VOCdevkit` with one year in it, `VOC2012` itself, or a folder of XML files; classes in alphabetical order.

    `difficult` is the treatment of a class of which an image contains only difficult objects. An image that is not in a class's
    list is UNKNOWN for that class. `trainval` is ignored where `train` and `val` exist; alone, it is data without a split.
    Raises AnnotationError for invalid content of a list or XML file, DataError where the folder is ambiguous or empty.
    """
    folder = _one_devkit(data)
    lists = _class_lists(folder / "ImageSets" / "Main")
    if lists:
        context.log.found("labels", "lists in ImageSets/Main")
        return _read_lists(folder, lists, difficult=difficult, index=context.index)
    context.log.found("labels", "the objects of XML files")
    return _read_xml(folder, difficult=difficult, index=context.index)


def _devkits(data: Path) -> list[Path]:
    """The folder itself, or the years in it or in its folder VOCdevkit."""
    if _has_main(data):
        return [data]
    for folder in (data, data / "VOCdevkit"):
        years = [folder / name for name in child_names(folder) if re.fullmatch(r"VOC\d{4}", name)]
        if years := [year for year in years if _has_main(year) or _xml_places(year)]:
            return years
    return []


def _has_main(folder: Path) -> bool:
    return (folder / "ImageSets" / "Main").is_dir()


def _one_devkit(data: Path) -> Path:
    devkits = _devkits(data)
    if len(devkits) > 1:
        raise DataError(
            "several years of VOC in one folder",
            where=str(data),
            got=", ".join(devkit.name for devkit in devkits),
            expected="one",
            next_step=f"give the year's own folder, such as {devkits[-1]}",
        )
    return devkits[0] if devkits else data


# ---- lists ----


def _class_lists(main: Path) -> dict[str, dict[str, Path]]:
    """Files by split and class."""
    found: dict[str, dict[str, Path]] = {}
    for name in child_names(main):
        if match := _CLASS_LIST.fullmatch(name):
            found.setdefault(match[2], {})[match[1]] = main / name
    if "train" in found and "val" in found:
        found.pop("trainval", None)
    return {split: found[split] for split in _SPLITS if split in found}


def _read_lists(folder: Path, lists: Mapping[str, Mapping[str, Path]], *, difficult: str, index: FileIndex) -> Dataset:
    names = tuple(sorted({name for files in lists.values() for name in files}))
    values = {"1": PRESENT, "-1": ABSENT, "0": TREATMENTS[difficult]}
    image_folders = [str(folder / "JPEGImages")]
    ids: list[str] = []
    paths: list[Path] = []
    split_N: list[str] = []
    blocks: list[np.ndarray] = []
    for split, files in lists.items():
        listed = _listed(folder / "ImageSets" / "Main" / f"{split}.txt")  # id -> file:line that first names it
        columns = [_column(_file_of(name, split, files), values=values, listed=listed) for name in names]
        block = np.full((len(listed), len(names)), UNKNOWN, dtype=np.int8)
        row_of = {name: row for row, name in enumerate(listed)}
        for c, column in enumerate(columns):
            block[[row_of[name] for name in column], c] = list(column.values())
        ids += listed
        paths += [index.require(name, image_folders, where=where) for name, where in listed.items()]
        split_N += ["" if list(lists) == ["trainval"] else split] * len(listed)
        blocks.append(block)
    return Dataset(
        ids=tuple(ids),
        paths=tuple(paths),
        target_NC=np.concatenate(blocks),
        split_N=tuple(split_N),
        label_set=LabelSet(names=names),
        source=f"voc {folder}",
    )


def _file_of(name: str, split: str, files: Mapping[str, Path]) -> Path:
    if name in files:
        return files[name]
    raise AnnotationError(
        "a class has no list for one of the splits",
        where=str(next(iter(files.values())).parent),
        got=f"no {name}_{split}.txt",
        expected=f"a list of class {name!r} for every split",
    )


def _listed(path: Path) -> dict[str, str]:
    """Ids of `<split>.txt`, if it exists, with file and line."""
    listed: dict[str, str] = {}
    if os.path.isfile(path):
        for line, text in enumerate(read_text(path).splitlines(), start=1):
            if words := text.split():
                _refuse_twice(words[0], listed, where=f"{path}:{line}")
                listed[words[0]] = f"{path}:{line}"
    return listed


def _column(path: Path, *, values: Mapping[str, int], listed: dict[str, str]) -> dict[str, int]:
    """Targets by id of one class's list; adds new ids to `listed`."""
    column: dict[str, int] = {}
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if not words:
            continue
        if len(words) != 2:
            raise AnnotationError(
                "a line of a VOC list cannot be read",
                where=f"{path}:{line}",
                got=repr(text.strip()),
                expected="an image id and 1, 0 or -1",
            )
        name, label = words
        if label not in values:
            raise AnnotationError(
                "a label outside 1, 0, -1",
                where=f"{path}:{line}",
                got=repr(label),
                expected="1 (present), -1 (absent) or 0 (only difficult objects)",
            )
        if name in column:
            _refuse_twice(name, column, where=f"{path}:{line}")
        column[name] = values[label]
        if name not in listed:
            listed[name] = f"{path}:{line}"
    return column


def _refuse_twice(name: str, seen: Mapping[str, object], *, where: str) -> None:
    if name in seen:
        raise AnnotationError(
            "an image id is listed twice",
            where=where,
            got=repr(name),
            expected="every id once",
            next_step="remove one of the lines",
        )


# ---- XML ----


def annotation_files(data: Path) -> Mapping[str, Path]:
    """The folder of the XML files of each split, named `<id>.xml`; the key is "" for one folder of all splits."""
    return {place.split: place.folder for place in _xml_places(_one_devkit(data))}


@dataclass(frozen=True, kw_only=True)
class _XmlPlace:
    """A folder of XML files, the folders of their images, and their split ("" where no folder names one)."""

    split: str
    folder: Path
    image_folders: tuple[str, ...]


def _xml_places(data: Path) -> list[_XmlPlace]:
    names = child_names(data)
    for name in ("Annotations", "annotations"):
        if name in names and _has_xml(data / name):
            images = tuple(str(data / folder) for folder in _IMAGE_FOLDERS if folder in names)
            return [_XmlPlace(split="", folder=data / name, image_folders=(*images, str(data / name)))]
    if _has_xml(data):
        return [_XmlPlace(split="", folder=data, image_folders=(str(data),))]
    return [
        _XmlPlace(split=split, folder=data / name, image_folders=(str(data / name),))
        for name in names
        if (split := split_of(name)) and _has_xml(data / name)
    ]


def _has_xml(folder: Path) -> bool:
    return any(name.lower().endswith(".xml") for name in child_names(folder))


def _read_xml(folder: Path, *, difficult: str, index: FileIndex) -> Dataset:
    places = _xml_places(folder)
    if not places:
        raise DataError(
            "no VOC annotations",
            where=str(folder),
            got="no file such as ImageSets/Main/cat_train.txt, and no XML file in Annotations",
            expected="VOC's class lists, or XML annotations",
        )
    value = TREATMENTS[difficult]
    ids: list[str] = []
    paths: list[Path] = []
    split_N: list[str] = []
    objects_N: list[list[tuple[str, bool]]] = []
    for place in places:
        for split, xml, where in _xml_files(folder, place):
            objects, file_name = _parse(xml, where=where)
            path = index.find(xml.stem, place.image_folders)
            if path is None:  # a renamed image is found by the name inside the XML
                path = index.require(file_name or xml.stem, place.image_folders, where=where or str(xml))
            ids.append(xml.stem)
            paths.append(path)
            split_N.append(split)
            objects_N.append(objects)
    names = class_order(name for objects in objects_N for name, _ in objects)
    require_classes(names, where=folder)
    column = {name: c for c, name in enumerate(names)}
    target_NC = np.full((len(ids), len(names)), ABSENT, dtype=np.int8)
    for target_C, objects in zip(target_NC, objects_N, strict=True):
        for name, is_difficult in objects:
            note(target_C, column[name], value if is_difficult else PRESENT)
    return Dataset(
        ids=tuple(ids),
        paths=tuple(paths),
        target_NC=target_NC,
        split_N=tuple(split_N),
        label_set=LabelSet(names=names),
        source=f"voc {folder}",
    )


def _xml_files(folder: Path, place: _XmlPlace) -> Iterator[tuple[str, Path, str]]:
    """(split, XML file, where it is listed), by ImageSets/Main/<split>.txt if it exists, else every XML file."""
    main = folder / "ImageSets" / "Main"
    listed = {split: _listed(main / f"{split}.txt") for split in _SPLITS}
    if listed["train"] and listed["val"]:
        listed["trainval"] = {}
    if not any(listed.values()):
        for name in child_names(place.folder):
            if name.lower().endswith(".xml"):
                yield place.split, place.folder / name, ""
        return
    alone = [split for split in _SPLITS if listed[split]] == ["trainval"]
    for split in _SPLITS:
        for name, where in listed[split].items():
            yield "" if alone else split, place.folder / f"{name}.xml", where


def _parse(path: Path, *, where: str) -> tuple[list[tuple[str, bool]], str]:
    """The objects of one XML file, as (class, difficult), and its image's file name."""
    if where and not os.path.isfile(path):
        raise AnnotationError(
            "a listed image has no annotation", where=where, got=f"no {path.name}", expected=f"an XML file in {path.parent}"
        )
    try:
        root = ET.fromstring(read_bytes(path))
    except ET.ParseError as error:
        line, column = error.position
        raise AnnotationError(
            "malformed XML",
            where=f"{path}:{line}",
            got=f"{str(error).split(':')[0]}, at column {column + 1}",
            expected="a VOC annotation",
        ) from error
    except (ValueError, LookupError) as error:  # an encoding that the parser lacks
        raise AnnotationError(
            "malformed XML", where=f"{path}:1", got=str(error), expected="a VOC annotation", next_step="save the file as UTF-8"
        ) from error
    if root.tag != "annotation":
        raise AnnotationError("not a VOC annotation", where=f"{path}:1", got=f"<{root.tag}>", expected="<annotation>")
    objects: list[tuple[str, bool]] = []
    for number, item in enumerate(root.findall("object"), start=1):
        name, flag = (item.findtext("name") or "").strip(), (item.findtext("difficult") or "0").strip()
        if not name:
            raise AnnotationError(
                "an object without a class name", where=str(path), got=f"object {number}", expected="a <name> in every <object>"
            )
        if flag not in ("0", "1"):
            raise AnnotationError(
                "a difficult flag outside 0 and 1", where=str(path), got=f"{flag!r} in object {number}", expected="0 or 1"
            )
        objects.append((name, flag == "1"))
    return objects, os.path.basename((root.findtext("filename") or "").strip().replace("\\", "/"))
