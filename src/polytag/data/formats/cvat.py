"""CVAT for images: `annotations.xml` with tags and shapes, as CVAT itself, datumaro and FiftyOne write it.

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/: the labels of `<meta>` are the classes, in their order.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.export import image_folders
from polytag.data.formats.listing import child_names, split_of
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext, Record, dataset_of, with_folder_splits
from polytag.data.formats.references import ImageFinder
from polytag.data.formats.xml_elements import root_tag, xml_elements
from polytag.errors import AnnotationError, DataError
from polytag.text import counted

_SHAPES = ("tag", "box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")
_MAX_FILES = 12  # of one folder: more are a file for each image


@dataclass(frozen=True, kw_only=True)
class _Image:
    """An image of a file: the labels of its shapes; and of its tags, whether each checkbox is ticked."""

    name: str
    where: str
    split: str
    folders: Sequence[str]
    labels: Sequence[str]
    has_shapes: bool
    attributes: Sequence[str]
    ticks: Sequence[tuple[str, bool]]


def is_cvat(data: Path) -> bool:
    """Whether a folder has an XML file of CVAT."""
    return bool(_files(data))


def read_cvat(data: Path, *, context: ReadingContext) -> Dataset:
    """Read one file, or the files of a folder that have the names of splits; the attribute `subset` of an image is its split.

    Where a task has one label, and its tags have checkboxes, these are the classes. Other attributes are not read.
    Raises AnnotationError for invalid content and for CVAT's format for videos.
    """
    files = [data] if data.is_file() else _files(data)
    if not files:
        raise DataError(
            "no file of CVAT",
            where=str(data),
            got=", ".join(child_names(data)[:8]),
            expected="annotations.xml, which begins with <annotations>",
            next_step="export the task from CVAT as 'CVAT for images 1.1'",
        )
    splits = [split_of(path.stem) or "" for path in files] if len(files) > 1 else [""]
    if not all(splits) and len(files) > 1:
        raise DataError(
            "several files of CVAT in one folder",
            where=str(data),
            got=", ".join(path.name for path in files),
            expected="one file, or files with the names of splits",
            next_step=f"give the file itself, such as {files[0]}",
        )
    root = data.parent if data.is_file() else data
    declared: dict[str, None] = {}
    images = [image for path, split in zip(files, splits, strict=True) for image in _images(path, split, declared)]
    context.log.found("images", "<image> in " + ", ".join(path.name for path in files))
    if any(splits):
        context.log.found("split", "the names of the files")
    elif any(image.split for image in images):
        context.log.found("split", "the attribute 'subset'")
    root = data.parent if data.is_file() else data
    finder = ImageFinder(context=context, below=root)
    records = list(_records(images, declared, log=context.log))  # they change the classes
    dataset = dataset_of(
        (
            replace(record, path=finder.path(image.name, image.folders, split=image.split, where=image.where))
            for image, record in records
        ),
        source=f"cvat {data}",
        context=context,
        declared=tuple(declared),
        id_root=root,
    )
    return with_folder_splits(dataset, context)


def _files(data: Path) -> list[Path]:
    names = [name for name in child_names(data) if name.lower().endswith(".xml") and os.path.isfile(data / name)]
    return [data / name for name in names[:_MAX_FILES] if root_tag(data / name) == "annotations"]


def _images(path: Path, split: str, declared: dict[str, None]) -> Iterator[_Image]:
    """The images of one file; adds the labels of its task to `declared`."""
    folders = image_folders(path)
    for number, element in enumerate(xml_elements(path)):
        if number == 0 and element.tag != "annotations":
            raise AnnotationError(
                "not a file of CVAT",
                where=f"{path}:1",
                got=f"<{element.tag}>",
                expected="<annotations>",
                next_step="give the folder of all files for the XML of VOC or LabelMe",
            )
        if element.tag == "meta":
            declared |= dict.fromkeys(_labels_of(element))
        elif element.tag == "track":
            raise AnnotationError(
                "CVAT's format for videos",
                where=str(path),
                got="<track>",
                expected="an <image> for each image",
                next_step="export the task as 'CVAT for images 1.1'",
            )
        elif element.tag == "image":
            yield _image(element, split, folders, where=f"{path}: image {element.get('name', number)!r}")


def _labels_of(meta: ET.Element) -> Iterator[str]:
    for label in meta.iterfind(".//labels/label"):
        name = (label.findtext("name") or "").strip()
        if name and not (label.findtext("parent") or "").strip():  # points of a skeleton have a parent
            yield name


def _image(element: ET.Element, split: str, folders: Sequence[str], *, where: str) -> _Image:
    name = (element.get("name") or "").strip()
    if not name:
        raise AnnotationError("an image without a name", where=where, got=str(dict(element.attrib))[:80], expected="a name")
    labels: list[str] = []
    attributes: list[str] = []
    ticks: list[tuple[str, bool]] = []
    has_shapes = False
    for shape in element:
        if shape.tag not in _SHAPES:
            continue
        label = (shape.get("label") or "").strip()
        if not label:
            raise AnnotationError("a shape without a label", where=where, got=f"<{shape.tag}>", expected="a label in every shape")
        labels.append(label)
        has_shapes |= shape.tag != "tag"
        for attribute in shape.iterfind("attribute"):
            attributes.append((attribute.get("name") or "").strip())
            value = (attribute.text or "").strip().lower()
            if value in ("true", "false"):
                ticks.append((attributes[-1], value == "true"))
    subset = (element.get("subset") or "").strip()
    return _Image(
        name=name,
        where=where,
        split=split or ("" if subset.lower() == "default" else split_of(subset) or subset),
        folders=tuple(os.path.join(folder, subset) for folder in folders if subset) + tuple(folders),
        labels=labels,
        has_shapes=has_shapes,
        attributes=attributes,
        ticks=ticks,
    )


def _records(images: Sequence[_Image], declared: dict[str, None], *, log: ReadingLog) -> Iterator[tuple[_Image, Record]]:
    """A record for each image; makes `declared` the classes, in order."""
    ticked = list(dict.fromkeys(name for image in images for name, _ in image.ticks))
    labels = {label for image in images for label in image.labels}
    if len(declared or labels) == 1 and ticked and not any(image.has_shapes for image in images):
        only = next(iter(declared or labels))
        log.found("labels", f"the checkboxes of the only label {only!r}")
        declared.clear()
        declared |= dict.fromkeys(ticked)
        if num_without := sum(not image.labels for image in images):
            log.note(f"{counted(num_without, 'images')} left out, because they have no tag {only!r}")
        for image in images:
            if image.labels:
                present = [name for name, is_ticked in image.ticks if is_ticked]
                absent = [name for name, is_ticked in image.ticks if not is_ticked]
                yield image, _record(image, present=present, absent=absent)
        return
    log.found("labels", "tags and shapes")
    if attributes := list(dict.fromkeys(name for image in images for name in image.attributes)):
        log.note(f"attributes are not read, such as {attributes[0]!r}")
        if len(labels) == 1 and all(image.labels for image in images):
            log.doubt(
                AnnotationError(
                    "every image has the only label, and what differs are attributes",
                    where=images[0].where,
                    got=f"label {next(iter(labels))!r} with " + ", ".join(map(repr, attributes[:5])),
                    expected="labels as tags, or as checkboxes of one tag",
                    next_step="make each value a tag in CVAT, or write a CSV file with the columns image and labels",
                )
            )
    if num_empty := sum(not image.labels for image in images):
        log.note(f"{counted(num_empty, 'images')} without a tag or shape: all classes count as absent")
    for image in images:
        yield image, _record(image, present=image.labels)


def _record(image: _Image, *, present: Sequence[str], absent: Sequence[str] = ()) -> Record:
    return Record(image=image.name, where=image.where, present=present, absent=absent, split=image.split)
