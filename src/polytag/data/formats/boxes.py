"""Bounding boxes of the annotations, for display only; training never reads them.

Coordinates are shares, 0 to 1 from left and top, of the upright image, so a box fits an image displayed at any size.

Tools disagree about images with an EXIF orientation. CVAT, labelme and all tools in a browser draw on the upright image; older
LabelImg, coco-annotator and tools with OpenCV's old default draw on the stored pixels. The annotation's width and height decide:
where they are those of the stored pixels and not of the upright image, boxes are rotated with the image. Where they are
inconclusive (YOLO, squares, no size, half turns), boxes are read as upright.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.coco import Annotated, read_annotated
from polytag.data.formats.kitti import kitti_label_file, split_line
from polytag.data.formats.listing import read_bytes, read_text
from polytag.data.formats.recognise import recognise
from polytag.data.formats.voc import annotation_files
from polytag.data.formats.yolo import label_file
from polytag.data.formats.yolo_layout import yolo_names
from polytag.data.images.read import read_frame
from polytag.data.read_options import ReadOptions
from polytag.data.settings import with_settings
from polytag.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Box:
    """One object of an image.

    left, top, right, bottom   shares of the upright image's width and height, 0 <= left < right <= 1, 0 <= top < bottom <= 1
    is_doubtful                difficult (VOC) or a crowd region (COCO): objects that labels may leave out
    """

    class_name: str
    left: float
    top: float
    right: float
    bottom: float
    is_doubtful: bool = False


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """The boxes of one image; `note` is a sentence about why some or all are missing, or ""."""

    boxes: tuple[Box, ...] = ()
    note: str = ""


BoxesReader = Callable[[int], Boxes]


def boxes_reader(data: Path, *, dataset: Dataset, options: ReadOptions) -> BoxesReader | None:
    """A function from a row of the data set to its boxes, or None for an annotation format without boxes.

    `data` and `options` are those that the data set was read with: boxes have the names that classes have after renaming and
    merging. The function opens VOC's XML and YOLO's text files per row, and reads COCO's files at the first row. It is thread-safe.
    For a missing or broken annotation it returns no boxes and a note; it never raises.
    """
    try:
        options = with_settings(options, data)[0]
        read = _reader(recognise(data) if options.format == "auto" else options.format, data, dataset=dataset, options=options)
    except DataError:  # moved or changed since the data set was read
        return None
    if read is None:
        return None
    new_name = cache(options.shaping.new_name)

    def named(row: int) -> Boxes:
        found = read(row)
        return replace(found, boxes=tuple(replace(box, class_name=new_name(box.class_name)) for box in found.boxes))

    return named


def _reader(format: str, data: Path, *, dataset: Dataset, options: ReadOptions) -> BoxesReader | None:
    """The boxes with the names that the annotations give them."""
    match format:
        case "voc":
            return _voc_reader(data, dataset)
        case "coco":
            return _coco_reader(data, dataset, image_dirs=options.image_dirs)
        case "yolo":
            return _yolo_reader(dataset, names=yolo_names(data))
        case "kitti":
            return _kitti_reader(dataset)
        case _:
            return None


# ---- VOC ----


def _voc_reader(data: Path, dataset: Dataset) -> BoxesReader | None:
    folders = annotation_files(data)
    if not folders:
        return None

    def read(row: int) -> Boxes:
        name = f"{dataset.ids[row]}.xml"
        split = dataset.split_N[row]
        candidates = [folders[split]] if split in folders else list(folders.values())
        path = next((path for path in (folder / name for folder in candidates) if os.path.isfile(path)), None)
        if path is None:
            return Boxes(note="no annotation file of this image")
        try:
            root = ET.fromstring(read_bytes(path))
        except (DataError, ET.ParseError, ValueError, LookupError):
            return Boxes(note="the annotation file of this image cannot be read")
        size = _size(root.findtext("size/width"), root.findtext("size/height"))
        found = [_voc_box(item, size or _upright_size(dataset.paths[row])) for item in root.findall("object")]
        return _turned(_collected(found), declared=size, path=dataset.paths[row])

    return read


def _voc_box(item: ET.Element, size: tuple[float, float] | None) -> Box | None:
    """VOC counts pixels from 1 and includes the last."""
    corners = [_number(item.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
    name = (item.findtext("name") or "").strip()
    if size is None or None in corners or not name:
        return None
    left, top, right, bottom = (value for value in corners if value is not None)
    doubtful = (item.findtext("difficult") or "").strip() == "1"
    return _box(name, (left - 1, top - 1, right, bottom), size, is_doubtful=doubtful)


# ---- COCO ----


def _coco_reader(data: Path, dataset: Dataset, *, image_dirs: Sequence[str]) -> BoxesReader:
    @cache
    def index() -> Mapping[tuple[str, Path], Annotated]:
        try:
            found = list(read_annotated(data, image_dirs=image_dirs))
        except DataError:
            return {}
        # the key with split "" finds images whose split was drawn after reading
        return {("", each.path): each for each in reversed(found)} | {(each.split, each.path): each for each in found}

    def read(row: int) -> Boxes:
        path = dataset.paths[row]
        annotated = index().get((dataset.split_N[row], path)) or index().get(("", path))
        if annotated is None:
            return Boxes(note="no annotation of this image")
        size = _size(annotated.image.get("width"), annotated.image.get("height"))
        measured = size or _upright_size(path)
        found = [_coco_box(name, values, measured) for name, values in annotated.annotations if values.get("bbox")]
        return _turned(_collected(found), declared=size, path=path)

    return read


def _coco_box(name: str, values: Mapping[str, object], size: tuple[float, float] | None) -> Box | None:
    bbox = values.get("bbox")
    numbers = [_number(value) for value in bbox] if isinstance(bbox, list) else []
    if size is None or len(numbers) != 4 or None in numbers:
        return None
    left, top, width, height = (value for value in numbers if value is not None)
    return _box(name, (left, top, left + width, top + height), size, is_doubtful=bool(values.get("iscrowd")))


# ---- YOLO ----


def _yolo_reader(dataset: Dataset, *, names: tuple[str, ...]) -> BoxesReader:
    def read(row: int) -> Boxes:
        try:
            path = label_file(dataset.paths[row], os.path.isfile)
            lines = read_text(path).splitlines() if path else []
        except DataError:
            return Boxes(note="the label file of this image cannot be read")
        if path is None:
            return Boxes(note="no label file of this image")
        return _collected([_yolo_box(line, names) for line in lines if line.strip()])

    return read


def _yolo_box(line: str, names: tuple[str, ...]) -> Box | None:
    """Class number, then centre and size, or a polygon of at least three points, all in shares of the image."""
    numbers = [value for value in map(_number, line.split()) if value is not None]
    if len(numbers) != len(line.split()) or not numbers[0].is_integer() or not 0 <= numbers[0] < len(names):
        return None
    name, rest = names[int(numbers[0])], numbers[1:]
    if len(rest) in (4, 5):  # the fifth is the confidence of a detector
        x, y, width, height = rest[:4]
        return _box(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), (1, 1))
    if len(rest) >= 6 and len(rest) % 2 == 0:
        return _box(name, (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2])), (1, 1))
    return None


# ---- KITTI ----


def _kitti_reader(dataset: Dataset) -> BoxesReader:
    def read(row: int) -> Boxes:
        path = kitti_label_file(dataset.paths[row])
        if path is None:
            return Boxes(note="no label file of this image")
        try:
            lines = [split_line(line) for line in read_text(path).splitlines() if line.strip()]
        except DataError:
            return Boxes(note="the label file of this image cannot be read")
        size = _upright_size(dataset.paths[row])
        return _collected([_kitti_box(line, size) for line in lines if not line or line[0] != "DontCare"])

    return read


def _kitti_box(line: tuple[str, list[float]] | None, size: tuple[float, float] | None) -> Box | None:
    """The fourth to the seventh number are the left, top, right and bottom pixel, from 0."""
    if line is None or size is None:
        return None
    left, top, right, bottom = line[1][3:7]
    return _box(line[0], (left, top, right, bottom), size)


# ---- all formats ----


def _box(
    name: str, corners: tuple[float, float, float, float], size: tuple[float, float], *, is_doubtful: bool = False
) -> Box | None:
    """A box in shares, clipped to the image; None where it is outside."""
    left, right = (min(max(value / size[0], 0.0), 1.0) for value in (corners[0], corners[2]))
    top, bottom = (min(max(value / size[1], 0.0), 1.0) for value in (corners[1], corners[3]))
    if not (left < right and top < bottom):
        return None
    return Box(class_name=name, left=left, top=top, right=right, bottom=bottom, is_doubtful=is_doubtful)


def _collected(found: list[Box | None]) -> Boxes:
    boxes = tuple(box for box in found if box is not None)
    num_lost = len(found) - len(boxes)
    lost = "1 object has" if num_lost == 1 else f"{num_lost} objects have"
    return Boxes(boxes=boxes, note=f"{lost} no box that can be shown" if num_lost else "")


def _size(width: object, height: object) -> tuple[float, float] | None:
    """Width and height above zero, or None: many tools write 0 or nothing."""
    size = _number(width), _number(height)
    return (size[0], size[1]) if size[0] and size[1] and min(size[0], size[1]) > 0 else None


def _number(value: object) -> float | None:
    """A finite number, or None."""
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _upright_size(path: Path) -> tuple[float, float] | None:
    """The upright size, which is assumed for annotations without a size."""
    try:
        (width, height), orientation = read_frame(path)
    except DataError:
        return None
    return (height, width) if orientation >= 5 else (width, height)


def _turned(found: Boxes, *, declared: tuple[float, float] | None, path: Path) -> Boxes:
    """Boxes rotated with the image where the annotation's size is that of the stored pixels and not of the upright image."""
    if declared is None or declared[0] == declared[1] or not found.boxes:
        return found
    try:
        stored, orientation = read_frame(path)
    except DataError:
        return found
    if orientation < 5 or declared != stored:
        return found
    return replace(found, boxes=tuple(_upright(box, orientation) for box in found.boxes))


def _upright(box: Box, orientation: int) -> Box:
    """EXIF 5 to 8: rows become columns, then one or both axes are reversed."""
    across, down = (box.top, box.bottom), (box.left, box.right)
    if orientation in (6, 7):
        across = 1 - across[1], 1 - across[0]
    if orientation in (7, 8):
        down = 1 - down[1], 1 - down[0]
    return replace(box, left=across[0], right=across[1], top=down[0], bottom=down[1])
