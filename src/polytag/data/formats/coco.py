"""COCO instances JSON and its family: annotations of boxes, or of whole images, become image-level labels.

Format: https://cocodataset.org/#format-data. `images`, `annotations` and `categories` are read. Of an annotation only its category
counts, and by option the size of its box. LVIS: https://www.lvisdataset.org/dataset. COCO Camera Traps: https://lila.science/coco-camera-traps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.formats.coco_files import (
    CocoContent,
    Values,
    class_names,
    coco_files,
    images_of,
    key_of,
    other_splits_note,
    read_contents,
)
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import TREATMENTS, UNSAID
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext, Record, dataset_of, with_folder_splits
from polytag.errors import AnnotationError
from polytag.text import counted

_GROUP_KEYS = ("location", "seq_id")  # of COCO Camera Traps: images of one place, and of one moment
_EMPTY = "empty"  # its category of images without an animal


@dataclass(frozen=True, kw_only=True)
class Doubtful:
    """The targets of classes of which an image has only crowd regions, or only boxes of fewer than `min_box_area_px`."""

    crowd: int
    small: int
    min_box_area_px: float


def is_coco(data: Path) -> bool:
    """Whether a folder contains COCO JSON files in one of their usual places."""
    return bool(coco_files(data))


def read_coco(
    data: Path, *, crowd: str, small: str, min_box_area_px: float, context: ReadingContext, group_key: str = ""
) -> Dataset:
    """Read one JSON file, or all of `annotations/instances_<split>.json`, `<split>/_annotations.coco.json` and the like.

    Classes are in the order of their category ids. `crowd` and `small` are the treatments of a class of which an image contains
    only crowd regions, or only boxes of fewer than `min_box_area_px` square pixels. Images that name `neg_category_ids`, as LVIS's
    do, are UNKNOWN for every class that they neither have nor name. `group_key` is the key of the images with their group.
    Raises AnnotationError for invalid content, and where two files give one category two names.
    """
    contents = read_contents(data)
    root = contents[0].file.path.parent if data.is_file() else data
    if root.name.lower() == "annotations":
        root = root.parent
    names = class_names(contents, log=context.log)
    context.log.found("labels", "annotations of " + ", ".join(content.file.path.name for content in contents))
    if any(content.file.split for content in contents):
        context.log.found("split", "the names of files and folders")
    context.log.note(other_splits_note(data, [content.file for content in contents]))
    _note_groups(contents, group_key=group_key, log=context.log)
    empty = _empty_category(contents)
    if empty:
        context.log.note(f"the category {_EMPTY!r} is no class: COCO Camera Traps gives it to images without an animal")
    doubtful = Doubtful(crowd=TREATMENTS[crowd], small=TREATMENTS[small], min_box_area_px=min_box_area_px)
    records = (
        record
        for content in contents
        for record in _records(content, empty=empty, doubtful=doubtful, group_key=group_key, context=context)
    )
    dataset = dataset_of(
        records,
        source=f"coco {data}",
        context=context,
        declared=[name for name in names if name != empty],
        id_root=root,
        join=len({content.file.split for content in contents}) < len(contents),
    )
    return with_folder_splits(dataset, context)


def _records(content: CocoContent, *, empty: str, doubtful: Doubtful, group_key: str, context: ReadingContext) -> Iterator[Record]:
    targets = _targets(content, doubtful=doubtful, log=context.log)
    if content.annotations and not any(targets.values()):
        keys = ", ".join(content.annotations[0])[:160]
        context.log.doubt(
            AnnotationError(
                "no annotation has a category",
                where=str(content.file.path),
                got=f"{counted(len(content.annotations), 'annotations')}, such as one with {keys}",
                expected="a category_id in each",
                next_step="give a file of objects, such as instances_train2017.json; or accept images that show nothing with --yes",
            )
        )
    name_of = {key: str(item["name"]) for key, item in content.categories.items()}
    found = images_of(content, index=context.index)
    for image, (image_id, image_name, path, where) in zip(content.images, found, strict=True):
        target_of = {name: target for name, target in targets[image_id].items() if name != empty}
        negative = image.get("neg_category_ids")
        if isinstance(negative, list):
            context.log.note("of each image some classes were checked (neg_category_ids, as in LVIS); the others are unknown")
        yield Record(
            image=image_name,
            path=path,
            where=where,
            split=content.file.split,
            group=str(image.get(group_key, "")) if group_key else "",
            present=[name for name, target in target_of.items() if target == PRESENT],
            unknown=[name for name, target in target_of.items() if target == UNKNOWN],
            absent=[
                *(name for name, target in target_of.items() if target == ABSENT),
                *(name_of[key] for key in (negative if isinstance(negative, list) else ()) if key in name_of),
            ],
            others=UNKNOWN if isinstance(negative, list) else UNSAID,
        )


def _targets(content: CocoContent, *, doubtful: Doubtful, log: ReadingLog) -> Mapping[object, Mapping[str, int]]:
    """The target of each class that annotations name, by image id; a certain object outweighs a doubtful one in any order."""
    found: dict[object, dict[str, int]] = {
        key_of(image, "id", f"{content.file.path}: images[{number}]"): {} for number, image in enumerate(content.images)
    }
    place = f"{content.file.path}: annotations"
    for number, annotation in enumerate(content.annotations):
        where = f"{place}[{number}]"
        if annotation.get("category_id") is None and "image_id" in annotation:
            log.note("annotations without a category are left out")
            continue
        image_id, category_id = key_of(annotation, "image_id", where), key_of(annotation, "category_id", where)
        if image_id not in found:
            raise AnnotationError(
                "an annotation of an unknown image", where=where, got=f"image_id {image_id!r}", expected="an id from images"
            )
        if category_id not in content.categories:
            raise AnnotationError(
                "an annotation of an unknown class",
                where=where,
                got=f"category_id {category_id!r}",
                expected="an id from categories",
            )
        if annotation.get("iscrowd"):
            value = doubtful.crowd
        elif doubtful.min_box_area_px and _area_px(annotation, where) < doubtful.min_box_area_px:
            value = doubtful.small
        else:
            value = PRESENT
        name = str(content.categories[category_id]["name"])
        if value == PRESENT or found[image_id].get(name, ABSENT) == ABSENT:
            found[image_id][name] = value
    return found


def _area_px(annotation: Values, where: str) -> float:
    """Width times height of the box, in square pixels; infinite for an annotation of the whole image, without a box."""
    box = annotation.get("bbox")
    if box is None or box == []:
        return float("inf")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        raise AnnotationError("a box that cannot be read", where=where, got=repr(box), expected="[x, y, width, height]")
    return float(box[2]) * float(box[3])


# ---- COCO Camera Traps ----


def _empty_category(contents: Sequence[CocoContent]) -> str:
    """The name of the category of images that show nothing, or "": its id is 0, it has no boxes and no other class beside it."""
    empty = next((str(item["name"]) for key, item in contents[0].categories.items() if key in (0, "0")), "")
    if empty.lower() != _EMPTY:
        return ""
    for content in contents:
        ids = {key for key, item in content.categories.items() if item["name"] == empty}
        images = {annotation.get("image_id") for annotation in content.annotations if annotation.get("category_id") in ids}
        for annotation in content.annotations:
            is_empty = annotation.get("category_id") in ids
            if (is_empty and annotation.get("bbox")) or (not is_empty and annotation.get("image_id") in images):
                return ""
    return empty


def _note_groups(contents: Sequence[CocoContent], *, group_key: str, log: ReadingLog) -> None:
    if group_key:
        log.found("groups", f"{group_key!r} of the images")
    elif keys := [key for key in _GROUP_KEYS if any(key in image for content in contents for image in content.images[:100])]:
        log.found("groups", f"not used: images of one {keys[0]} depend on each other, which --group {keys[0]} keeps together")


# ---- boxes ----


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One image of a COCO file: its entry, and its annotations with the class name of each."""

    split: str
    path: Path
    image: Values
    annotations: Sequence[tuple[str, Values]]


def read_annotated(data: Path, *, image_dirs: Sequence[str]) -> Iterator[Annotated]:
    """Every image of the files with its annotations, in order; raises as `read_coco`, except that it skips unknown classes."""
    log = ReadingLog(accept_doubts=True)
    index = FileIndex(first=image_dirs, below=data.parent if data.is_file() else data, log=log)
    for content in read_contents(data):
        of_image: dict[object, list[tuple[str, Values]]] = {}
        for annotation in content.annotations:
            if category := content.categories.get(annotation.get("category_id")):
                of_image.setdefault(annotation.get("image_id"), []).append((str(category["name"]), annotation))
        for image, (image_id, _, path, _) in zip(content.images, images_of(content, index=index), strict=True):
            yield Annotated(split=content.file.split, path=path, image=image, annotations=of_image.get(image_id, ()))
