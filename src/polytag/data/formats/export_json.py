"""JSON files of annotation tools, each a small description: where the images are, and where the labels of each.

FiftyOne (image classification, image detection, dataset), datumaro, MMPretrain, iMaterialist, kohya's metadata, CreateML, and plain
lists of images with labels. Every reader takes the values of one file and returns its records.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from polytag.data.formats.column_names import IMAGE_COLUMNS, LABELS_COLUMNS, SPLIT_COLUMNS
from polytag.data.formats.export_content import (
    Content,
    ExportFile,
    chosen_field,
    class_of,
    divided_labels,
    items_of,
    object_of,
    text_of,
    texts_of,
    told_left_out,
    told_without,
    wrong,
)
from polytag.data.formats.listing import split_of
from polytag.data.formats.records import Record
from polytag.errors import AnnotationError

# ---- FiftyOne ----


def read_fiftyone_labels(values: object, file: ExportFile) -> Content:
    """`{"classes": ..., "labels": {name: ...}}`: FiftyOneImageClassificationDataset and FiftyOneImageDetectionDataset.

    A label is a name, the number of a class, or an object with `label`; null is an image without a label, and of single labels one
    that nobody has labelled.
    """
    table = object_of(values, where=str(file.path))
    declared = () if table.get("classes") is None else texts_of(table["classes"], where=f"{file.path}: classes")
    labels = object_of(table.get("labels"), where=f"{file.path}: labels")
    is_single = any(label is not None for label in labels.values()) and not any(
        isinstance(label, list) for label in labels.values()
    )
    records: list[Record] = []
    for name, label in labels.items():
        where = f"{file.path}: labels.{name}"
        if label is None and is_single:
            continue
        items = label if isinstance(label, list) else [] if label is None else [label]
        present = [_fiftyone_label(item, declared, where) for item in items]
        records.append(Record(image=name, where=where, present=present, split=file.split))
    told_left_out(file, len(labels) - len(records), why="because their label is null")
    told_without(file, records)
    return Content(records=records, labels="'labels' of FiftyOne", declared=declared)


def _fiftyone_label(item: object, declared: Sequence[str], where: str) -> str:
    value = item.get("label") if isinstance(item, dict) else item
    return class_of(value, declared, where=where) if isinstance(value, int) else text_of(value, where=where)


_FIFTYONE_LISTS = {name.title(): name for name in ("classifications", "detections", "polylines", "keypoints")}
_FIFTYONE_SINGLE = ("Classification", "Detection", "Polyline", "Keypoint")


def read_fiftyone_dataset(values: object, file: ExportFile) -> Content:
    """`samples.json` of a FiftyOneDataset: the label field of each sample; the tags train, val and test are splits.

    Of several fields, `ground_truth` counts; or the first, where all name the same classes. A sample without the field is left out.
    """
    samples = items_of(object_of(values, where=str(file.path)).get("samples"), where=f"{file.path}: samples")
    fields: dict[str, str] = {}
    named: dict[str, list[frozenset[str] | None]] = {}
    for number, sample in enumerate(samples):
        for name, field in sample.items():
            if isinstance(field, dict) and field.get("_cls") in (*_FIFTYONE_LISTS, *_FIFTYONE_SINGLE):
                fields.setdefault(name, str(field["_cls"]))
                found = named.setdefault(name, [None] * len(samples))
                found[number] = frozenset(_fiftyone_field(field, f"{file.path}: samples[{number}].{name}"))
    if not fields:
        raise AnnotationError(
            "samples without a field of labels",
            where=str(file.path),
            got="no Classification, Detection, Polyline or Keypoint",
            expected="at least one",
        )
    agree = not file.label_field and all(found == next(iter(named.values())) for found in named.values())
    field = next(iter(fields)) if agree else chosen_field(fields, file, usual=("ground_truth",))
    records: list[Record] = []
    for number, (sample, labels) in enumerate(zip(samples, named[field], strict=True)):
        where = f"{file.path}: samples[{number}]"
        if labels is not None:
            image = text_of(sample.get("filepath"), where=f"{where}.filepath")
            records.append(Record(image=image, where=where, present=sorted(labels), split=_fiftyone_split(sample, file, where)))
    told_left_out(file, len(samples) - len(records), why=f"because their field {field!r} is empty")
    return Content(records=records, labels=f"field {field!r} of FiftyOne's samples")


def _fiftyone_field(field: Mapping[str, object], where: str) -> list[str]:
    key = _FIFTYONE_LISTS.get(str(field["_cls"]))
    items = items_of(field.get(key), where=f"{where}.{key}") if key else [field]
    return [text_of(item.get("label"), where=where) for item in items if item.get("label") is not None]


def _fiftyone_split(sample: Mapping[str, object], file: ExportFile, where: str) -> str:
    tags = sample.get("tags")
    splits = {split_of(tag) or "" for tag in tags if isinstance(tag, str)} - {""} if isinstance(tags, list) else set[str]()
    if len(splits) > 1:
        raise AnnotationError("a sample in two splits", where=where, got=", ".join(sorted(splits)), expected="one tag of a split")
    return next(iter(splits), file.split)


# ---- datumaro ----


def read_datumaro(values: object, file: ExportFile) -> Content:
    """`categories.label.labels` and `items`: labels and the classes of boxes, polygons, masks and the like; no attributes."""
    table = object_of(values, where=str(file.path))
    label = object_of(
        object_of(table.get("categories"), where=f"{file.path}: categories").get("label", {}), where=f"{file.path}: label"
    )
    where = f"{file.path}: categories.label.labels"
    declared = [
        text_of(item.get("name"), where=f"{where}[{n}]") for n, item in enumerate(items_of(label.get("labels"), where=where))
    ]
    records: list[Record] = []
    for number, item in enumerate(items_of(table.get("items"), where=f"{file.path}: items")):
        where = f"{file.path}: items[{number}]"
        media = next((item[key] for key in ("image", "media") if isinstance(item.get(key), dict)), {})
        path = media.get("path") if isinstance(media, dict) else ""
        annotations = items_of(item.get("annotations"), where=f"{where}.annotations")
        records.append(
            Record(
                image=text_of(path or item.get("id"), where=f"{where}.id"),
                where=where,
                present=[
                    class_of(annotation["label_id"], declared, where=f"{where}.annotations[{a}]")
                    for a, annotation in enumerate(annotations)
                    if annotation.get("label_id") is not None
                ],
                split=file.split,
            )
        )
    told_without(file, records)
    return Content(records=records, labels="annotations of datumaro's items", declared=declared)


# ---- MMPretrain, iMaterialist ----


def read_mmpretrain(values: object, file: ExportFile) -> Content:
    """`metainfo.classes` and `data_list`, with the numbers of the classes of each image in `gt_label`."""
    table = object_of(values, where=str(file.path))
    metainfo = object_of(table.get("metainfo", {}), where=f"{file.path}: metainfo")
    names = metainfo.get("classes", metainfo.get("CLASSES"))
    declared = [] if names is None else texts_of(names, where=f"{file.path}: metainfo.classes")
    items = items_of(table.get("data_list"), where=f"{file.path}: data_list")
    records: list[Record] = []
    for number, item in enumerate(items):
        where = f"{file.path}: data_list[{number}]"
        labels = item.get("gt_label")
        if labels is None:
            continue
        numbers = labels if isinstance(labels, list) else [labels]
        present = [class_of(label, declared, where=where) for label in numbers] if declared else texts_of(numbers, where=where)
        image = text_of(item.get("img_path", item.get("img")), where=f"{where}.img_path")
        records.append(Record(image=image, where=where, present=present, split=file.split))
    told_left_out(file, len(items) - len(records), why="because they have no 'gt_label'")
    return Content(records=records, labels="'gt_label' of MMPretrain's data_list", declared=declared)


def read_imaterialist(values: object, file: ExportFile) -> Content:
    """`annotations` with `imageId` and a list `labelId`; the classes are these ids, because the names are in a file of its own."""
    table = object_of(values, where=str(file.path))
    labels_of: dict[str, list[str]] = {}
    for number, item in enumerate(items_of(table.get("annotations", []), where=f"{file.path}: annotations")):
        where = f"{file.path}: annotations[{number}]"
        image = text_of(item.get("imageId", item.get("image_id")), where=f"{where}.imageId")
        labels_of.setdefault(image, []).extend(texts_of(item.get("labelId", item.get("label_id", [])), where=f"{where}.labelId"))
    records: list[Record] = []
    images = items_of(table.get("images"), where=f"{file.path}: images")
    for number, item in enumerate(images):
        where = f"{file.path}: images[{number}]"
        image = text_of(item.get("imageId", item.get("image_id")), where=f"{where}.imageId")
        if (present := labels_of.pop(image, None)) is not None:
            records.append(Record(image=image, where=where, present=present, split=file.split))
    if labels_of:
        raise AnnotationError(
            "an annotation of an unknown image",
            where=str(file.path),
            got=f"imageId {next(iter(labels_of))!r}",
            expected="an id from images, once",
        )
    told_left_out(file, len(images) - len(records), why="because they have no annotation")
    file.log.note("classes have the numbers of 'labelId' as names")
    return Content(records=records, labels="'labelId' of iMaterialist's annotations")


# ---- lists of images with labels ----


def read_kohya(values: object, file: ExportFile) -> Content:
    """Metadata of kohya's sd-scripts, `{image: {"tags": "a, b", "caption": ...}}`; captions are no labels."""
    table = object_of(values, where=str(file.path))
    entries = {name: object_of(value, where=f"{file.path}: {name}") for name, value in table.items()}
    records = [
        Record(
            image=name,
            where=f"{file.path}: {name}",
            present=_separated(entry["tags"], file, where=f"{file.path}: {name}.tags"),
            split=file.split,
        )
        for name, entry in entries.items()
        if entry.get("tags") is not None
    ]
    if not records:
        raise AnnotationError(
            "captions, but no tags",
            where=str(file.path),
            got="entries without 'tags'",
            expected='such as {"img/1.jpg": {"tags": "cat, dog"}}',
            next_step="tag the images first, for example with tag_images_by_wd14_tagger.py of sd-scripts",
        )
    told_left_out(file, len(entries) - len(records), why="because they have no tags")
    return Content(records=records, labels="'tags' of kohya's metadata")


def _separated(value: object, file: ExportFile, *, where: str) -> list[str]:
    if isinstance(value, list):
        return texts_of(value, where=where)
    if not isinstance(value, str):
        raise wrong(value, where=where, expected="tags with commas between them")
    separator = "," if file.separator == "auto" else file.separator
    return [tag.strip() for tag in ([value] if separator == "none" else value.split(separator)) if tag.strip()]


def read_names(values: object, file: ExportFile) -> Content:
    """`{image: [labels]}`, or `{image: labels in one text}`."""
    table = object_of(values, where=str(file.path))
    named = {name: labels for name, labels in table.items() if labels is not None}
    present = divided_labels({f"{file.path}: {name}": labels for name, labels in named.items()}, file, name="the values")
    records = [
        Record(image=name, where=f"{file.path}: {name}", present=labels, split=file.split)
        for name, labels in zip(named, present, strict=True)
    ]
    told_left_out(file, len(table) - len(records), why="because their label is null")
    return Content(records=records, labels="the values of each image's name")


_OBJECTS = ("annotations", "annotation", "objects", "labels", "tags", "boxes")
_OBJECT_NAMES = ("label", "name", "class", "category", "displayName", "tag")


def read_list(values: object, file: ExportFile) -> Content:
    """A list of objects with an image and labels: texts, or objects with a name each, such as CreateML's annotations."""
    items = items_of(values, where=str(file.path))
    keys = Counter(key for item in items for key in item)
    image_key = next((key for key in (*IMAGE_COLUMNS, "imagefilename", "url", "image_url") if key in keys), "")
    if not image_key:
        raise AnnotationError(
            "a list without images", where=str(file.path), got=", ".join(list(keys)[:12]), expected="such as 'image' or 'file_name'"
        )
    fields = {key: "" for key in keys if key in (file.label_field, *LABELS_COLUMNS, *_OBJECTS)}
    if not fields:
        raise AnnotationError(
            "a list of images without labels",
            where=str(file.path),
            got=", ".join(list(keys)[:12]),
            expected="such as 'labels' or 'annotations'",
            next_step="name the field of the labels with the option labels_column (--labels-column)",
        )
    field = chosen_field(fields, file)
    split_key = next((key for key in SPLIT_COLUMNS if key in keys and key != "is_valid"), "")
    places = {f"{file.path}: [{number}]": item for number, item in enumerate(items) if item.get(field) is not None}
    named = {f"{where}.{field}": _named(item[field], f"{where}.{field}") for where, item in places.items()}
    labels = divided_labels(named, file, name=field)
    records: list[Record] = []
    for (where, item), present in zip(places.items(), labels, strict=True):
        split = item.get(split_key) or file.split
        split = split_of(split) or split if isinstance(split, str) else text_of(split, where=f"{where}.{split_key}")
        image = text_of(item.get(image_key), where=f"{where}.{image_key}")
        records.append(Record(image=image, where=where, present=present, split=split))
    told_left_out(file, len(items) - len(records), why=f"because they have no {field!r}")
    return Content(records=records, labels=f"{field!r} of each image")


def _named(value: object, where: str) -> object:
    """The names of the classes where a list holds objects or texts; any other value as it is."""
    if not isinstance(value, list):
        return value
    found: list[str] = []
    for number, item in enumerate(value):
        name = next((item[key] for key in _OBJECT_NAMES if key in item), None) if isinstance(item, dict) else item
        found.append(text_of(name, where=f"{where}[{number}]", expected="a label, or an object with the name of its class"))
    return found
