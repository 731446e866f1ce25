"""labelme's JSON and LabelMe's XML: a file for each image, with flags of the image or shapes with a label.

https://github.com/wkentaro/labelme (also AnyLabeling and X-AnyLabeling); http://labelme.csail.mit.edu, as datumaro writes it too.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.contracts import ABSENT, UNKNOWN, Dataset
from polytag.data.formats.export_content import ExportFile, chosen_field, items_of, object_of, text_of, told_left_out, told_without
from polytag.data.formats.export_kinds import LABELME, kind_of
from polytag.data.formats.json_outline import file_head
from polytag.data.formats.listing import child_names, is_clutter, read_bytes, read_json, read_text
from polytag.data.formats.records import ReadingContext, Record, dataset_of, with_folder_splits
from polytag.data.formats.references import ImageFinder
from polytag.data.formats.xml_elements import parse_xml
from polytag.errors import AnnotationError, DataError

_XML = re.compile(r"\s*(?:<\?(?>.*?\?>)\s*)?<annotation>.*<(?:deleted|sourceImage|sourceAnnotation|nrows)\b", re.DOTALL)
_ANNOTATIONS = ("annotations", "annotation", "labels", "json", "jsons")
_IMAGES = ("Images", "images", "JPEGImages", "imgs", "img", "data")
_MAX_PROBES, _MAX_FILES = 40, 5  # folders that are looked for files, and files that are looked at


@dataclass(frozen=True, kw_only=True)
class _File:
    """What one file says: the names under which its image may be, flags of the image, and labels of its shapes."""

    where: str
    images: Sequence[str]
    folders: Sequence[str]
    flags: Mapping[str, bool]
    shapes: Sequence[str]


def is_labelme(data: Path) -> bool:
    """Whether one of the first JSON or XML files of the first folder that has any is labelme's or LabelMe's."""
    for place, names in itertools.islice(_folders(data), _MAX_PROBES):
        if names:
            return any(_is_one(place / name) for name in names[:_MAX_FILES] if os.path.isfile(place / name))
    return False


def read_labelme(data: Path, *, label_field: str, context: ReadingContext) -> Dataset:
    """Read every file in the folder and below. Labels are the flags, or the labels of the shapes; of both, `label_field` chooses.

    A flag that a file does not have is UNKNOWN; a class without a shape is ABSENT. An image without a file is not part of the data.
    Raises AnnotationError for invalid content, DataError where no file has a label.
    """
    files = list(_files(data))
    if not files:
        raise DataError(
            "no file of labelme or LabelMe",
            where=str(data),
            got=", ".join(child_names(data)[:8]),
            expected="a.json with 'shapes' and 'imagePath' for a.jpg, or LabelMe's a.xml",
        )
    fields: dict[str, str] = {}
    if any(any(file.flags.values()) for file in files):
        fields["flags"] = "of images"
    if any(file.shapes for file in files):
        fields["shapes"] = "with labels"
    if not fields:
        raise DataError(
            "files without any label",
            where=files[0].where,
            got=f"neither a flag that is true nor a shape, in {len(files):,} files",
            expected="at least one",
            next_step="LabelMe's XML holds only polygons and boxes: export labels of whole images in another format",
        )
    options = ExportFile(path=data, label_field=label_field, log=context.log)
    is_flags = chosen_field(fields, options) == "flags"
    context.log.found("images", "the image of each file")
    context.log.found("labels", "flags that are true" if is_flags else "the labels of shapes")
    declared = tuple(dict.fromkeys(flag for file in files for flag in file.flags)) if is_flags else ()
    used = [file for file in files if file.flags or not is_flags]
    told_left_out(options, len(files) - len(used), why="because their files have no flags")
    finder = ImageFinder(context=context, below=data)
    records = [_record(file, finder, context, is_flags=is_flags) for file in used]
    if not is_flags:
        told_without(options, records)
    dataset = dataset_of(records, source=f"labelme {data}", context=context, declared=declared, id_root=data)
    return with_folder_splits(dataset, context)


def _record(file: _File, finder: ImageFinder, context: ReadingContext, *, is_flags: bool) -> Record:
    found = (context.index.find(name, file.folders, elsewhere=False) for name in file.images)
    path = next((path for path in found if path), None)
    reference = str(path) if path else file.images[0]
    return Record(
        image=reference,
        where=file.where,
        path=finder.path(reference, file.folders, split="", where=file.where),
        present=[name for name, is_present in file.flags.items() if is_present] if is_flags else file.shapes,
        absent=[name for name, is_present in file.flags.items() if not is_present] if is_flags else (),
        others=UNKNOWN if is_flags else ABSENT,
    )


# ---- files ----


def _folders(data: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with its JSON and XML files, links left alone."""
    for place, folders, names in os.walk(data):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        found = sorted(name for name in names if name.lower().endswith((".json", ".xml")) and not is_clutter(name))
        yield Path(place), found


def _is_one(path: Path) -> bool:
    if path.suffix.lower() == ".json":
        return kind_of(path) is LABELME
    return bool(_XML.match(file_head(path)))


def _files(data: Path) -> Iterator[_File]:
    for place, names in _folders(data):
        folders = _image_folders(data, place)
        for name in names:
            path = place / name
            if os.path.isfile(path) and _is_one(path):
                yield _json_file(path, folders) if path.suffix.lower() == ".json" else _xml_file(path, folders)


def _image_folders(data: Path, place: Path) -> tuple[str, ...]:
    """The folder of the files, and the folders of images that mirror it: Annotations/train, Images/train."""
    found = [place]
    parts = place.relative_to(data).parts
    for at, part in enumerate(parts):
        if part.lower() in _ANNOTATIONS:
            found += [data.joinpath(*parts[:at], images, *parts[at + 1 :]) for images in _IMAGES]
            found.append(data.joinpath(*parts[:at], *parts[at + 1 :]))
    found += [place / images for images in _IMAGES] + [data]
    return tuple(dict.fromkeys(map(str, found)))


def _json_file(path: Path, folders: Sequence[str]) -> _File:
    values = object_of(read_json(read_text(path), path=path), where=str(path))
    flags = object_of(values.get("flags") or {}, where=f"{path}: flags")
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise AnnotationError("a flag that is neither true nor false", where=f"{path}: flags.{name}", got=str(value)[:80])
    shapes = items_of(values.get("shapes") or [], where=f"{path}: shapes")
    image = values.get("imagePath")
    names = [image.replace("\\", "/")] if isinstance(image, str) and image else []
    return _File(
        where=str(path),
        images=(*names, *(os.path.basename(name) for name in names), path.stem),
        folders=folders,
        flags={name: value is True for name, value in flags.items()},
        shapes=[text_of(shape.get("label"), where=f"{path}: shapes[{number}].label") for number, shape in enumerate(shapes)],
    )


def _xml_file(path: Path, folders: Sequence[str]) -> _File:
    root = parse_xml(read_bytes(path), where=str(path))
    shapes: list[str] = []
    for number, item in enumerate(root.findall("object"), start=1):
        if (item.findtext("deleted") or "0").strip() == "1":
            continue
        name = (item.findtext("name") or "").strip()
        if not name:
            raise AnnotationError("an object without a name", where=str(path), got=f"object {number}", expected="a <name>")
        shapes.append(name)
    file_name = (root.findtext("filename") or "").strip().replace("\\", "/")
    return _File(
        where=str(path),
        images=(*((file_name,) if file_name else ()), path.stem),
        folders=folders,
        flags={},
        shapes=shapes,
    )
