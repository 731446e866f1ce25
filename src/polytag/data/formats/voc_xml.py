"""VOC's XML files as annotation tools write them: one for each image, with a class name for each object.

Layouts: `Annotations` beside `JPEGImages` with or without ImageSets (the devkit, CVAT, datumaro), a folder of both (LabelImg),
folders of splits (Roboflow, supervision) and `labels` beside `data` (FiftyOne). Folders inside mirror those of the images.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.formats.listing import (
    TREATMENTS,
    child_names,
    class_order,
    is_clutter,
    more,
    other_folders_note,
    read_bytes,
    split_folders,
    split_of,
)
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.errors import AnnotationError
from polytag.files import open_regular

_ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "xml", "xmls")
_IMAGE_FOLDERS = ("jpegimages", "images", "data", "imgs", "img")
_FLAGS = {"0": False, "false": False, "1": True, "true": True}
_HEAD_BYTES = 4096
_OTHER_XML = re.compile(rb"<annotations[\s>]|<deleted>")  # CVAT for images; LabelMe


@dataclass(frozen=True, kw_only=True)
class XmlPlace:
    """A folder of XML files, the folders of their images, and their split ("" where no folder names one)."""

    split: str
    folder: Path
    image_folders: tuple[str, ...]

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """XML files by their path in the folder, without the ending."""
        return {os.path.relpath(path, self.folder).replace(os.sep, "/")[:-4]: path for path in sorted(_xml_files(self.folder))}

    @cached_property
    def _ids_of_name(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for id in self.files:
            found.setdefault(id.rpartition("/")[2], []).append(id)
        return found

    def id_of(self, listed: str) -> str:
        """The id of a listed image: its own, or that of the one file of its name in a folder inside."""
        ids = self._ids_of_name.get(listed, ())
        return ids[0] if listed not in self.files and len(ids) == 1 else listed


def xml_places(data: Path) -> list[XmlPlace]:
    """The folders of XML files in a folder; empty where there are none."""
    names = child_names(data)
    images = [data / name for name in names if name.lower() in _IMAGE_FOLDERS]
    for name in sorted(names, key=lambda name: (name != "Annotations", name)):
        if name.lower() in _ANNOTATION_FOLDERS and _has_xml(data / name):
            inside = [(split_of(inner) or "", data / name / inner) for inner in child_names(data / name)]
            if not all(split and folder.is_dir() for split, folder in inside):
                return [_place("", data / name, images)]
            mirrored = [[image / folder.name for image in images] + [data / folder.name] for _, folder in inside]
            return [
                _place(split, folder, [*own, *images])
                for (split, folder), own in zip(inside, mirrored, strict=True)
                if _has_xml(folder)
            ]
    if _has_xml(data, deep=False):
        return [_place("", data, images)]
    inner = [(split, xml_places(folder)) for split, folder in split_folders(data)]
    return [replace(places[0], split=split) for split, places in inner if len(places) == 1]


def _place(split: str, folder: Path, image_folders: Sequence[Path]) -> XmlPlace:
    return XmlPlace(split=split, folder=folder, image_folders=tuple(map(str, (*image_folders, folder))))


def _has_xml(folder: Path, *, deep: bool = True) -> bool:
    """Whether the first XML file that is found may be VOC's."""
    path = next(_xml_files(folder, deep=deep), None)
    if path is None:
        return False
    try:
        with open_regular(path) as file:
            return not _OTHER_XML.search(file.read(_HEAD_BYTES))
    except OSError:
        return True  # reading it says what is wrong


def _xml_files(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if deep and not is_clutter(name))
        yield from (Path(place, name) for name in sorted(files) if name.lower().endswith(".xml") and not is_clutter(name))


def read_xml(
    folder: Path,
    *,
    lists: Mapping[str, Mapping[str, str]],
    label_map: Sequence[str],
    difficult: str,
    context: ReadingContext,
) -> Dataset:
    """The data set of XML files. `lists` are the ids of each split, with the place that lists them; without any, all files count.

    `label_map` are the classes of datumaro's and CVAT's `labelmap.txt`; with it, a listed image without a file shows nothing.
    """
    places = xml_places(folder)
    records: list[Record] = []
    listed = {id for split in lists.values() for id in split}
    for place in places:
        ids = {split: {place.id_of(id): where for id, where in images.items()} for split, images in lists.items()}
        ids = ids or {place.split: dict.fromkeys(place.files, "")}
        for split, images in ids.items():
            for id, where in images.items():
                records.append(
                    _record(id, place, split=split, where=where, difficult=difficult, label_map=label_map, context=context)
                )
        if listed and (left := [id for id in place.files if all(id not in images for images in ids.values())]):
            context.log.note(f"left out, in no list of a split: {left[0]}.xml" + more(len(left) - 1))
    used = class_order({name for record in records for name in (*record.present, *record.unknown, *record.absent)})
    declared = [name for name in label_map if name != "background" or name in used]
    if label_map:
        context.log.found("classes", "labelmap.txt" + ("" if "background" in declared else ", without its background"))
        if undeclared := [name for name in used if name not in declared]:
            context.log.note("classes that labelmap.txt does not list are added: " + ", ".join(undeclared[:5]))
            declared += undeclared
    if any(record.split for record in records):
        context.log.found("split", "lists of ids" if lists else "the names of folders")
    if all(place.split for place in places):
        read = {parent for place in places for parent in (place.folder, *place.folder.parents)}
        context.log.note(other_folders_note(folder, holds=lambda inner: inner not in read and _has_xml(inner)))
    return dataset_of(records, source=f"voc {folder}", context=context, declared=declared)


def _record(
    id: str, place: XmlPlace, *, split: str, where: str, difficult: str, label_map: Sequence[str], context: ReadingContext
) -> Record:
    path = place.files.get(id)
    if path is None and label_map:
        context.log.note("listed images without an XML file show nothing, as datumaro and CVAT write it")
        image = context.index.require(id, place.image_folders, where=where)
        return Record(image=id, id=id, path=image, split=split, where=where)
    if path is None:
        raise AnnotationError(
            "a listed image has no annotation",
            where=where,
            got=f"no {id.rpartition('/')[2]}.xml",
            expected=f"an XML file in {(place.folder / id).parent}",
        )
    objects, file_name = parse_xml(path)
    spellings = dict.fromkeys((id, file_name or id, id.rpartition("/")[2]))  # a renamed image has its name inside the XML
    found = (context.index.find(name, place.image_folders, elsewhere=False) for name in spellings)
    image = next((image for image in found if image), None) or context.index.find(id, place.image_folders)
    image = image or context.index.require(file_name or id, place.image_folders, where=where or str(path))
    doubtful = [name for name, is_difficult in objects if is_difficult]
    value = TREATMENTS[difficult]
    certain = [name for name, is_difficult in objects if not is_difficult]
    return Record(
        image=id, id=id, path=image, split=split, where=where or str(path),
        present=certain + (doubtful if value == PRESENT else []),
        unknown=doubtful if value == UNKNOWN else (),
        absent=doubtful if value == ABSENT else (),
    )  # fmt: skip


def parse_xml(path: Path) -> tuple[list[tuple[str, bool]], str]:
    """The objects of one XML file, as (class, difficult), and its image's file name."""
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
        if flag.lower() not in _FLAGS:
            raise AnnotationError(
                "a difficult flag outside 0 and 1", where=str(path), got=f"{flag!r} in object {number}", expected="0 or 1"
            )
        objects.append((name, _FLAGS[flag.lower()]))
    return objects, os.path.basename((root.findtext("filename") or "").strip().replace("\\", "/"))
