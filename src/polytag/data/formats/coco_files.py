"""The JSON files of the COCO family: which files of a folder they are, their splits, their images and their categories.

Places: `annotations/` (COCO, LVIS, datumaro, Objects365), a file in each split's folder (Roboflow, supervision) and the folder
itself (FiftyOne, kwcoco, COCO Camera Traps). Of a file of an unusual name the first 64 kB decide.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from polytag.data.formats.export_kinds import COCO, OTHER_JSON, kind_of
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import (
    child_names,
    other_folders_note,
    read_json,
    read_text,
    require_classes,
    split_folders,
    split_of,
)
from polytag.data.formats.reading_log import ReadingLog
from polytag.errors import AnnotationError, DataError

Values = Mapping[str, object]

_ROOT_FILES = ("_annotations.coco.json", "labels.json", "annotations.json", "instances.json", "coco.json")
_OF_BOXES, _OF_IMAGES = "instances_", "labels_"  # datumaro writes both
_NO_LABELS = re.compile(r"(captions|person_keypoints|panoptic|stuff|image_info)_")
_KNOWN_START = re.compile(r"(instances|labels|person_keypoints|panoptic|stuff|lvis(_v[\d.]+)?)_")
_SHAPES = ("segmentation", "keypoints")  # nine tenths of a file of COCO, and no label
_NOTES = "notes.json"  # Label Studio puts categories beside its YOLO files
_MAX_PEEKED = 50  # JSON files in one folder: more are a file for each image


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """One JSON file, its split, and the folders to search its images in."""

    path: Path
    split: str
    image_folders: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CocoContent:
    """The content of one file: three lists of objects, checked to be such."""

    file: CocoFile
    images: Sequence[Values]
    annotations: Sequence[Values]
    categories: Mapping[object, Values]


# ---- files ----


def coco_files(data: Path) -> list[CocoFile]:
    """The JSON files of a folder, from the first of COCO's usual places that has any."""
    for place in (data / "annotations", data / "Annotations"):
        if paths := _chosen(place, usual=lambda name: not _NO_LABELS.match(name)):
            return _named_files(data, paths)
    inside = [
        CocoFile(path=path, split=split, image_folders=_folders_of_split(data, folder))
        for split, folder in split_folders(data)
        for path in _in_split(folder)
    ]
    if inside:
        return inside
    return _named_files(data, _chosen(data, usual=lambda name: name in _ROOT_FILES or split_of(name[:-5]) is not None))


def other_splits_note(data: Path, files: Sequence[CocoFile]) -> str:
    """A sentence about folders with a file beside those of the splits; "" for none."""
    if not all(file.path.parent.parent == data and split_of(file.path.parent.name) for file in files):
        return ""
    return other_folders_note(data, holds=lambda folder: bool(_in_split(folder)))


def _in_split(folder: Path) -> list[Path]:
    return _chosen(folder, usual=lambda name: name == "_annotations.coco.json")


def _chosen(folder: Path, *, usual: Callable[[str], bool]) -> list[Path]:
    """The files with labels: of boxes and of whole images where names say so; else those of usual names, and of COCO's content."""
    names = [name for name in child_names(folder) if name.lower().endswith(".json") and name != _NOTES]
    found = [name for name in names if name.startswith((_OF_BOXES, "lvis_v")) or name.endswith(".kwcoco.json")]
    of_images = [name for name in names if name.startswith(_OF_IMAGES) and _is_coco(folder / name)]
    if not found and not of_images:
        peeked = names[:_MAX_PEEKED]
        content = [name for name in peeked if not _NO_LABELS.match(name) and _is_coco(folder / name)]
        found = content or [name for name in names if usual(name)] or [name for name in peeked if _is_coco(folder / name)]
    paths = [folder / name for name in (*found, *of_images)]
    splits = {_split_from(path, alone=False) for path in paths}
    return [path for path in paths if not (_split_from(path, alone=False) == "trainval" and {"train", "val"} <= splits)]


def _is_coco(path: Path) -> bool:
    with suppress(AnnotationError):  # a file that cannot be read is named when it is needed
        return kind_of(path) is COCO
    return False


def _named_files(data: Path, paths: Sequence[Path]) -> list[CocoFile]:
    alone = len(paths) == 1
    files = [_file(data, path, split=_split_from(path, alone=alone)) for path in paths]
    if alone and not split_of(files[0].split):  # one file of all images, such as CVAT's instances_default.json
        return [replace(files[0], split="")]
    return files


def single_file(path: Path) -> CocoFile:
    """A file that is given without its folder."""
    root = path.parent.parent if path.parent.name.lower() == "annotations" else path.parent
    file = _file(root, path, split=_split_from(path, alone=True))
    return replace(file, split="", image_folders=(*file.image_folders, str(path.parent)))


def _split_from(path: Path, *, alone: bool) -> str:
    """The split in a file's name; of several files, the only word of the name that is one counts, as in `labels_v2_train.json`."""
    stem = re.sub(r"\.(kwcoco|coco|mscoco)$", "", path.name[:-5])
    name = _KNOWN_START.sub("", stem, count=1)
    words = {split for word in re.split(r"[-_. ]+", stem) if (split := split_of(word))}
    if path.name in _ROOT_FILES or name == "default":
        return ""
    return split_of(name) or (words.pop() if len(words) == 1 and not alone else name)


def _file(root: Path, path: Path, *, split: str) -> CocoFile:
    """A file of a split; images are searched in `<name>/`, `images/<name>/`, `images/`, `data/` and the root."""
    name = _KNOWN_START.sub("", path.name[:-5], count=1)
    stems = dict.fromkeys((name, split)) if split else {}
    folders = [root / stem for stem in stems] + [root / "images" / stem for stem in stems]
    folders += [root / "images", root / "data", root]
    return CocoFile(path=path, split=split, image_folders=tuple(str(folder) for folder in folders))


def _folders_of_split(data: Path, folder: Path) -> tuple[str, ...]:
    folders = [folder, folder / "images", folder / "data", data / "images" / folder.name, data / "images"]
    return tuple(str(place) for place in folders if place == folder or place.is_dir())


# ---- contents ----


def read_contents(data: Path) -> list[CocoContent]:
    """Every file of a folder, or the one file; raises DataError where there is none, AnnotationError for invalid content."""
    files = [single_file(data)] if data.is_file() else coco_files(data)
    if not files:
        raise DataError(
            "no COCO annotations",
            where=str(data),
            got="no JSON file in annotations, in train, val or test, or in the folder itself",
            expected="such as annotations/instances_train2017.json or train/_annotations.coco.json",
        )
    return [_content(file) for file in files]


def _content(file: CocoFile) -> CocoContent:
    values = read_json(read_text(file.path), path=file.path, without=_SHAPES)
    lists: dict[str, Sequence[Values]] = {}
    for key in ("images", "annotations", "categories"):
        items = values.get(key) if isinstance(values, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise AnnotationError(
                "not a COCO instances file",
                where=str(file.path),
                got=f"no list {key!r}",
                expected="images, annotations, categories",
                next_step=OTHER_JSON,
            )
        lists[key] = items
    categories: dict[object, Values] = {}
    of_name: dict[object, list[Values]] = {}
    for number, category in enumerate(lists["categories"]):
        where = f"{file.path}: categories[{number}]"
        category_id, name = key_of(category, "id", where), key_of(category, "name", where)
        others = of_name.setdefault(name, [])
        if category_id in categories or not all(_is_group_of(other, category) for other in others):
            raise AnnotationError(
                "a category is given twice", where=where, got=f"id {category_id!r}, {name!r}", expected="every category once"
            )
        categories[category_id] = category
        others.append(category)
    return CocoContent(file=file, images=lists["images"], annotations=_objects(lists["annotations"]), categories=categories)


def _objects(annotations: Sequence[Values]) -> Sequence[Values]:
    """The annotations, one for each object: a panoptic file lists the objects of an image inside a single one."""
    if not annotations or "segments_info" not in annotations[0]:
        return annotations
    found: list[Values] = []
    for each in annotations:
        segments = each.get("segments_info")
        inside = segments if isinstance(segments, list) else []
        found += [{**segment, "image_id": each.get("image_id")} for segment in inside if isinstance(segment, dict)]
    return found


def _is_group_of(one: Values, other: Values) -> bool:
    """Whether one of two categories of a name is the group of the other: Roboflow calls the group of a class like the class."""
    return one["name"] in (one.get("supercategory"), other.get("supercategory"))


def key_of(item: Values, key: str, where: str) -> str | int:
    """A number or a text; raises AnnotationError for anything else. pandas writes whole numbers as 1.0."""
    value = item.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise AnnotationError(
            f"no usable {key!r}", where=where, got=repr(value) if key in item else "nothing", expected="a number or a text"
        )
    return value


def images_of(content: CocoContent, *, index: FileIndex) -> Iterator[tuple[str | int, str, Path, str]]:
    """The id, name, file and place of each image, in order; raises AnnotationError for an image listed twice or missing."""
    ids: set[object] = set()
    names: set[str] = set()
    for number, image in enumerate(content.images):
        where = f"{content.file.path}: images[{number}]"
        image_id, spellings = key_of(image, "id", where), _names_of(image, where)
        if image_id in ids or spellings[0] in names:
            raise AnnotationError(
                "an image is listed twice", where=where, got=f"id {image_id!r}, {spellings[0]!r}", expected="every image once"
            )
        ids.add(image_id)
        names.add(spellings[0])
        folders = content.file.image_folders
        found = next((path for name in spellings[:-1] if (path := index.find(name, folders, elsewhere=False))), None)
        yield image_id, spellings[0], found or index.require(spellings[-1], folders, where=where), where


def _names_of(image: Values, where: str) -> tuple[str, ...]:
    """The name of an image; LVIS gives the end of its address, with its folder, and PyLabel the folder apart."""
    if image.get("file_name") is None and isinstance(image.get("coco_url"), str):
        folder, name = str(image["coco_url"]).split("/")[-2:] if "/" in str(image["coco_url"]) else ("", str(image["coco_url"]))
        return (f"{folder}/{name}", name)
    name = str(key_of(image, "file_name", where))
    folder = image.get("folder")
    return (name, f"{folder}/{name}", name) if isinstance(folder, str) and folder else (name,)


# ---- categories ----


def class_names(contents: Sequence[CocoContent], *, log: ReadingLog) -> tuple[str, ...]:
    """Category names by id; those that only other files than the first list come last."""
    first = contents[0]
    names: dict[str, None] = {}
    groups = _unused_groups(contents)
    for content in contents:
        for key in sorted(content.categories, key=lambda key: (isinstance(key, str), key)):
            name = str(content.categories[key]["name"])
            if key in first.categories and first.categories[key]["name"] != name:
                log.doubt(
                    AnnotationError(
                        "two files disagree about the categories",
                        where=str(content.file.path),
                        got=f"category {key!r}: {name!r}",
                        expected=f"{first.categories[key]['name']!r}, as in {first.file.path}",
                        next_step="correct the categories; or go by their names with --yes",
                    )
                )
            if name not in groups:
                names.setdefault(name)
    for content in contents:
        listed = {str(item["name"]) for item in content.categories.values()}
        if missing := [name for name in names if name not in listed]:
            log.note(f"{content.file.path.name} does not list all classes, so its images have none of {', '.join(missing[:5])}")
    require_classes(tuple(names), where=first.file.path)
    return tuple(names)


def _unused_groups(contents: Sequence[CocoContent]) -> set[str]:
    """Names of categories that only group others: the supercategory of another, without annotations (Roboflow's 0)."""
    groups: set[str] = set()
    for content in contents:
        above = {item.get("supercategory") for item in content.categories.values() if item.get("supercategory") != item["name"]}
        groups |= {str(item["name"]) for item in content.categories.values() if item["name"] in above}
    for content in contents if groups else ():
        groups -= {str(content.categories.get(each.get("category_id"), {}).get("name")) for each in content.annotations}
    return groups
