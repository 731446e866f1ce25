"""COCO instances JSON: boxes become image-level labels.

Format: https://cocodataset.org/#format-data. `images`, `annotations` and `categories` are read. Of an annotation only its category
counts, and by option the size of its box.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, Dataset, LabelSet
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import (
    TREATMENTS,
    child_names,
    note,
    read_json,
    read_text,
    relative_id,
    require_classes,
    split_of,
)
from polytag.data.formats.records import ReadingContext
from polytag.errors import AnnotationError, DataError

_ROOT_FILES = ("_annotations.coco.json", "labels.json", "annotations.json", "instances.json", "coco.json")


@dataclass(frozen=True, kw_only=True)
class _File:
    """One JSON file, its split, and the folders to search its images in."""

    path: Path
    split: str
    image_folders: tuple[str, ...]


def is_coco(data: Path) -> bool:
    """Whether a folder contains COCO JSON files in one of their usual places."""
    return bool(_files(data))


def read_coco(data: Path, *, crowd: str, small: str, min_box_area_px: float, context: ReadingContext) -> Dataset:
    """Read one JSON file, or all of `annotations/instances_<split>.json`, `<split>/_annotations.coco.json` and the like.

    Classes are in the order of their category ids. `crowd` and `small` are the treatments of a class of which an image contains
    only crowd regions, or only boxes of fewer than `min_box_area_px` square pixels.
    Raises AnnotationError for invalid content, and where two files disagree about the categories.
    """
    contents = _contents(data)
    root = contents[0].file.path.parent if data.is_file() else data
    if root.name == "annotations":
        root = root.parent
    names = _classes(contents)
    context.log.found("labels", "annotations of " + ", ".join(content.file.path.name for content in contents))
    ids: list[str] = []
    paths: list[Path] = []
    split_N: list[str] = []
    blocks: list[np.ndarray] = []
    for content in contents:
        found = _images(content, index=context.index)
        rows = {image_id: row for row, image_id in enumerate(found)}
        paths += found.values()
        ids += [relative_id(path, root) for path in found.values()]
        split_N += [content.file.split] * len(found)
        blocks.append(_targets(content, rows=rows, names=names, crowd=crowd, small=small, min_box_area_px=min_box_area_px))
    return Dataset(
        ids=tuple(ids),
        paths=tuple(paths),
        target_NC=np.concatenate(blocks),
        split_N=tuple(split_N),
        label_set=LabelSet(names=names),
        source=f"coco {data}",
    )


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One image of a COCO file: its entry, and its annotations with the class name of each."""

    split: str
    path: Path
    image: Mapping[str, object]
    annotations: Sequence[tuple[str, Mapping[str, object]]]


def read_annotated(data: Path, *, image_dirs: Sequence[str]) -> Iterator[Annotated]:
    """Every image of the files with its annotations, in order; raises as `read_coco`, except that it skips unknown classes."""
    index = FileIndex(first=image_dirs, must_exist=False)
    for content in _contents(data):
        of_image: dict[object, list[tuple[str, Mapping[str, object]]]] = {}
        for annotation in content.annotations:
            if category := content.categories.get(annotation.get("category_id")):
                of_image.setdefault(annotation.get("image_id"), []).append((str(category["name"]), annotation))
        found = _images(content, index=index)
        for image, (image_id, path) in zip(content.images, found.items(), strict=True):
            yield Annotated(split=content.file.split, path=path, image=image, annotations=of_image.get(image_id, ()))


def _contents(data: Path) -> list["_Content"]:
    files = [_single(data)] if data.is_file() else _files(data)
    if not files:
        raise DataError(
            "no COCO annotations",
            where=str(data),
            got="no JSON file in annotations, in train, val or test, or in the folder itself",
            expected="such as annotations/instances_train2017.json or train/_annotations.coco.json",
        )
    return [_content(file) for file in files]


def _images(content: "_Content", *, index: FileIndex) -> dict[object, Path]:
    """The file of each image id, in the order of the list; raises AnnotationError for an image listed twice."""
    found: dict[object, Path] = {}
    listed: set[str] = set()
    for number, image in enumerate(content.images):
        where = f"{content.file.path}: images[{number}]"
        image_id, file_name = _field(image, "id", where), str(_field(image, "file_name", where))
        if image_id in found or file_name in listed:
            raise AnnotationError(
                "an image is listed twice", where=where, got=f"id {image_id!r}, {file_name!r}", expected="every image once"
            )
        found[image_id] = index.require(file_name, content.file.image_folders, where=where)
        listed.add(file_name)
    return found


# ---- files ----


def _files(data: Path) -> list[_File]:
    """The JSON files of a folder, from the first of COCO's usual places that has any."""
    json_names = [name for name in child_names(data / "annotations") if name.endswith(".json")]
    if instances := [name for name in json_names if name.startswith("instances_")]:
        json_names = instances  # the others are captions and key points of the same images
    if json_names:
        return _named_files(data, [data / "annotations" / name for name in json_names])
    names = child_names(data)
    if inside := [data / name / "_annotations.coco.json" for name in names if split_of(name)]:
        inside = [path for path in inside if os.path.isfile(path)]
    if inside:
        return [_File(path=path, split=split_of(path.parent.name) or "", image_folders=(str(path.parent),)) for path in inside]
    json_names = [
        name for name in names
        if name in _ROOT_FILES or (name.endswith(".json") and (name.startswith("instances_") or split_of(name[:-5])))
    ]  # fmt: skip
    return _named_files(data, [data / name for name in json_names])


def _named_files(data: Path, paths: Sequence[Path]) -> list[_File]:
    files = [_file(data, path) for path in paths]
    if len(files) == 1 and not split_of(files[0].split):  # one file of all images, such as CVAT's instances_default.json
        return [replace(files[0], split="")]
    return files


def _single(path: Path) -> _File:
    file = _file(path.parent.parent if path.parent.name == "annotations" else path.parent, path)
    return replace(file, split="", image_folders=(*file.image_folders, str(path.parent)))


def _file(root: Path, path: Path) -> _File:
    """A file named after its split; images are searched in `<name>/`, `images/<name>/`, `images/`, `data/` and the root."""
    name = path.stem.removeprefix("instances_")
    split = "" if path.name in _ROOT_FILES else split_of(name) or name
    stems = dict.fromkeys((name, split)) if split else {}
    folders = [root / stem for stem in stems] + [root / "images" / stem for stem in stems]
    folders += [root / "images", root / "data", root]
    return _File(path=path, split=split, image_folders=tuple(str(folder) for folder in folders))


# ---- contents ----


@dataclass(frozen=True, kw_only=True)
class _Content:
    """The content of one file: three lists of objects, checked to be such."""

    file: _File
    images: Sequence[Mapping[str, object]]
    annotations: Sequence[Mapping[str, object]]
    categories: Mapping[object, Mapping[str, object]]


def _content(file: _File) -> _Content:
    values = read_json(read_text(file.path), path=file.path)
    lists: dict[str, Sequence[Mapping[str, object]]] = {}
    for key in ("images", "annotations", "categories"):
        items = values.get(key) if isinstance(values, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise AnnotationError(
                "not a COCO instances file",
                where=str(file.path),
                got=f"no list {key!r}",
                expected="images, annotations, categories",
            )
        lists[key] = items
    categories: dict[object, Mapping[str, object]] = {}
    for number, category in enumerate(lists["categories"]):
        where = f"{file.path}: categories[{number}]"
        category_id, name = _field(category, "id", where), _field(category, "name", where)
        if category_id in categories or any(other["name"] == name for other in categories.values()):
            raise AnnotationError(
                "a category is given twice", where=where, got=f"id {category_id!r}, {name!r}", expected="every category once"
            )
        categories[category_id] = category
    return _Content(file=file, images=lists["images"], annotations=lists["annotations"], categories=categories)


def _field(item: Mapping[str, object], key: str, where: str) -> object:
    value = item.get(key)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise AnnotationError(
            f"no usable {key!r}", where=where, got=repr(value) if key in item else "nothing", expected="a number or a text"
        )
    return value


def _classes(contents: Sequence[_Content]) -> tuple[str, ...]:
    """Category names by id, the same in every file; raises AnnotationError for the first difference."""
    first = contents[0]
    for other in contents[1:]:
        table, expected = ({key: item["name"] for key, item in content.categories.items()} for content in (other, first))
        for key in dict.fromkeys((*expected, *table)):
            if table.get(key) != expected.get(key):
                raise AnnotationError(
                    "two files disagree about the categories",
                    where=str(other.file.path),
                    got=f"category {key!r}: {table.get(key, 'nothing')!r}",
                    expected=f"{expected.get(key, 'nothing')!r}, as in {first.file.path}",
                )
    groups = _unused_groups(contents)
    in_order = sorted(first.categories, key=lambda key: (isinstance(key, str), key))
    names = tuple(str(first.categories[key]["name"]) for key in in_order if key not in groups)
    require_classes(names, where=first.file.path)
    return names


def _unused_groups(contents: Sequence[_Content]) -> set[object]:
    """Ids of categories that only group others: the supercategory of another, without annotations (Roboflow's 0)."""
    categories = contents[0].categories
    groups = {
        key
        for key, item in categories.items()
        if any(other.get("supercategory") == item["name"] for k, other in categories.items() if k != key)
    }
    for content in contents if groups else ():
        groups -= {annotation.get("category_id") for annotation in content.annotations}
    return groups


def _targets(
    content: _Content,
    *,
    rows: Mapping[object, int],
    names: Sequence[str],
    crowd: str,
    small: str,
    min_box_area_px: float,
) -> np.ndarray:
    column = {name: c for c, name in enumerate(names)}
    column_of = {key: column.get(str(item["name"]), -1) for key, item in content.categories.items()}
    target_NC = np.full((len(rows), len(names)), ABSENT, dtype=np.int8)
    for number, annotation in enumerate(content.annotations):
        where = f"{content.file.path}: annotations[{number}]"
        image_id, category_id = _field(annotation, "image_id", where), _field(annotation, "category_id", where)
        if image_id not in rows:
            raise AnnotationError(
                "an annotation of an unknown image", where=where, got=f"image_id {image_id!r}", expected="an id from images"
            )
        if category_id not in column_of:
            raise AnnotationError(
                "an annotation of an unknown class",
                where=where,
                got=f"category_id {category_id!r}",
                expected="an id from categories",
            )
        if annotation.get("iscrowd"):
            value = TREATMENTS[crowd]
        elif min_box_area_px and _area_px(annotation, where) < min_box_area_px:
            value = TREATMENTS[small]
        else:
            value = PRESENT
        note(target_NC[rows[image_id]], column_of[category_id], value)
    return target_NC


def _area_px(annotation: Mapping[str, object], where: str) -> float:
    """Width times height of the box, in square pixels; infinite for an annotation of the whole image, without a box."""
    box = annotation.get("bbox")
    if box is None or box == []:
        return float("inf")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        raise AnnotationError("a box that cannot be read", where=where, got=repr(box), expected="[x, y, width, height]")
    return float(box[2]) * float(box[3])
