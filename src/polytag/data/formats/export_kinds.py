"""Which tool or service wrote a file, by the keys at its beginning: those that are read, and those that are only known by name."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from polytag.data.formats.column_names import IMAGE_COLUMNS, LABELS_COLUMNS
from polytag.data.formats.delimited import dialect_of
from polytag.data.formats.export_content import Content, ExportFile, items_of
from polytag.data.formats.export_json import (
    read_datumaro,
    read_fiftyone_dataset,
    read_fiftyone_labels,
    read_imaterialist,
    read_kohya,
    read_list,
    read_mmpretrain,
    read_names,
)
from polytag.data.formats.export_lines import read_azure, read_sagemaker, read_vertex
from polytag.data.formats.export_via import is_via_table, read_via_json, read_via_table
from polytag.data.formats.headerless import is_headerless, read_headerless
from polytag.data.formats.json_outline import KeyPath, file_head, has, outline
from polytag.data.formats.label_studio import read_label_studio, read_label_studio_min
from polytag.data.formats.label_studio_table import is_label_studio_table, read_label_studio_table
from polytag.data.formats.listing import is_image, read_json, read_text
from polytag.data.formats.rows import CSV_SUFFIXES, JSONL_SUFFIXES, read_table
from polytag.errors import AnnotationError

LINES_SUFFIXES = (*JSONL_SUFFIXES, ".ndjson", ".manifest")
SUFFIXES = (".json", *LINES_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One tool's layout.

    fits    whether the paths of keys at the beginning of a file are its
    read    from a file to its content; None: known by name only, and `advice` says what to do
    names_splits   the name of a file is that of its split, whatever it is
    is_annotation  False for a file that may lie beside annotations
    """

    title: str
    fits: Callable[[frozenset[KeyPath]], bool]
    read: Callable[[ExportFile], Content] | None = None
    advice: str = ""
    names_splits: bool = False
    is_annotation: bool = True


def kind_of(path: Path) -> Kind | None:
    """The kind of a file, from its first 64 kB; None for any other. Raises AnnotationError where it cannot be read."""
    if path.suffix.lower() in CSV_SUFFIXES:
        head = file_head(path)
        header = head.split("\n", 1)[0].replace('"', "")
        columns = header.split(dialect_of(head).delimiter)
        if is_label_studio_table(columns):
            return _LABEL_STUDIO_TABLE
        if is_via_table(columns):
            return _VIA_TABLE
        return _HEADERLESS if is_headerless(head) else None
    paths = outline(file_head(path))
    return next((kind for kind in _KINDS if kind.fits(paths)), None) if paths else None


def is_json_table(path: Path) -> bool:
    """Whether a file is a list of flat JSON objects."""
    return path.suffix.lower() == ".json" and kind_of(path) is RECORDS


def _any(*patterns: str) -> Callable[[frozenset[KeyPath]], bool]:
    return lambda paths: any(has(paths, pattern) for pattern in patterns)


def _all(*patterns: str) -> Callable[[frozenset[KeyPath]], bool]:
    return lambda paths: all(has(paths, pattern) for pattern in patterns)


def _is_list_of_images(paths: frozenset[KeyPath]) -> bool:
    keys = {path[1] for path in paths if len(path) == 2 and path[0] == "[]"}
    return bool(keys & {*IMAGE_COLUMNS, "imagefilename", "url", "image_url"}) and bool(
        keys & {*LABELS_COLUMNS, "annotations", "annotation", "objects"}
    )


def _are_records(paths: frozenset[KeyPath]) -> bool:
    """Whether a list holds flat objects with an image and more: a table, such as one of 1 and 0 for each class."""
    keys = {path[1] for path in paths if len(path) == 2 and path[0] == "[]"}
    return len(keys) > 2 and bool(keys & set(IMAGE_COLUMNS)) and all(path[0] == "[]" and len(path) <= 2 for path in paths)


def _is_text_project(paths: frozenset[KeyPath]) -> bool:
    return _all("id", "text", "label")(paths) and not any(has(paths, name) for name in IMAGE_COLUMNS)


def _is_labels_by_image(paths: frozenset[KeyPath]) -> bool:
    names = [path[0] for path in paths if len(path) == 1]
    return bool(names) and all(map(is_image, names)) and all(len(path) == 1 or path[1] == "[]" for path in paths)


def _json(read: Callable[[object, ExportFile], Content]) -> Callable[[ExportFile], Content]:
    return lambda file: read(read_json(read_text(file.path), path=file.path), file)


def _lines(read: Callable[..., Content]) -> Callable[[ExportFile], Content]:
    def read_lines(file: ExportFile) -> Content:
        values = [
            (number, read_json(text, path=file.path, first_line=number))
            for number, text in enumerate(read_text(file.path).split("\n"), start=1)
            if text.strip()
        ]
        items_of([value for _, value in values], where=str(file.path), expected="an object per line")
        return read(values, file)

    return read_lines


_BY_CSV = "write a CSV file with the columns image and labels"
OTHER_JSON = """write the labels as {"a.jpg": ["cat", "dog"]}, or as a CSV file with the columns image and labels"""
_BY_COCO = f"export it as COCO, or {_BY_CSV}"
COCO = Kind(
    title="COCO",
    fits=_any(
        "images.[].file_name",
        "images.[].coco_url",
        "annotations.[].category_id",
        "categories.[].supercategory",
        "categories.[].name",
    ),
)
LABELME = Kind(title="labelme's file of one image", fits=_any("imagePath", "imageData"))
RECORDS = Kind(title="a list of JSON objects, one for each image", fits=_are_records)
_VIA_TABLE = Kind(
    title="VIA's CSV", fits=lambda _: False, read=lambda file: read_via_table(read_table(file.path), file)
)  # known by its header
_LABEL_STUDIO_TABLE = Kind(title="Label Studio's CSV", fits=lambda _: False, read=read_label_studio_table)
_HEADERLESS = Kind(title="a CSV without a header", fits=lambda _: False, read=read_headerless)
_KINDS = (
    COCO,
    LABELME,
    Kind(
        title="a FiftyOne dataset",
        fits=_any("samples.[].filepath"),
        read=_json(read_fiftyone_dataset),
    ),
    Kind(
        title="datumaro's JSON",
        fits=_any("dm_format_version", "categories.label.labels", "items.[].annotations"),
        read=_json(read_datumaro),
        names_splits=True,
    ),
    Kind(title="MMPretrain's JSON", fits=_any("data_list.[].gt_label", "data_list.[].img_path"), read=_json(read_mmpretrain)),
    Kind(
        title="iMaterialist's JSON",
        fits=_any("images.[].imageId", "annotations.[].imageId", "annotations.[].label_id"),
        read=_json(read_imaterialist),
    ),
    Kind(
        title="a VIA project or export",
        fits=_any("_via_img_metadata", "*.file_attributes", "*.regions"),
        read=_json(read_via_json),
    ),
    Kind(title="a SageMaker manifest", fits=_any("source-ref"), read=_lines(read_sagemaker)),
    Kind(title="a Vertex AI import file", fits=_any("imageGcsUri"), read=_lines(read_vertex)),
    Kind(title="Azure Machine Learning's JSON Lines", fits=_all("image_url", "label"), read=_lines(read_azure)),
    Kind(
        title="a Labelbox export",
        fits=_any("data_row.id", "[].data_row", "[].Labeled Data", "[].DataRow ID"),
        advice="convert it with Labelbox's COCO converter, or " + _BY_CSV,
    ),
    Kind(title="an Encord export", fits=_any("[].data_units", "data_units"), advice=_BY_COCO),
    Kind(title="a Dataloop export", fits=_all("annotations.[].label", "itemId"), advice=_BY_COCO),
    Kind(
        title="a file of Label Studio's JSON export",
        fits=_any("[].annotations.[].result", "[].completions.[].result", "[].annotations.[].was_cancelled", "[].data.image"),
        read=_json(read_label_studio),
    ),
    Kind(title="Label Studio's JSON-MIN export", fits=_any("[].annotation_id"), read=_json(read_label_studio_min)),
    Kind(
        title="detections of a model in COCO's format",
        fits=_all("[].image_id", "[].category_id", "[].score"),
        advice="give the annotations instead; scores are evaluated with polytag evaluate",
        is_annotation=False,
    ),
    Kind(title="a list of images with labels", fits=_is_list_of_images, read=_json(read_list)),
    Kind(title="a Prodigy export", fits=_any("_task_hash", "_input_hash"), advice=f"keep what was accepted, and {_BY_CSV}"),
    Kind(title="a Doccano export", fits=_is_text_project, advice=_BY_CSV),
    Kind(title="a Scale export", fits=_any("[].params.attachment", "[].response.annotations", "reference_id"), advice=_BY_CSV),
    Kind(title="BDD100K's or Scalabel's JSON", fits=_any("[].labels.[].category"), advice=_BY_COCO),
    Kind(title="an Azure Custom Vision export", fits=_any("images.[].tags.[].tagName", "[].tags.[].tagName"), advice=_BY_COCO),
    RECORDS,
    Kind(title="FiftyOne's labels", fits=_all("classes", "labels.*"), read=_json(read_fiftyone_labels)),
    Kind(
        title="kohya's metadata",
        fits=lambda paths: _any("*.tags", "*.caption")(paths) and _is_by_image(paths),
        read=_json(read_kohya),
    ),
    Kind(title="labels by the name of each image", fits=_is_labels_by_image, read=_json(read_names)),
    Kind(title="a V7 Darwin file", fits=_any("item.slots", "dataset.url", "image.workview_url"), advice=_BY_COCO),
    Kind(
        title="a Supervisely project",
        fits=lambda paths: _all("size.height", "objects", "tags")(paths) or _all("classes.[].title", "classes.[].shape")(paths),
        advice="export the project with Supervisely's app for COCO or Pascal VOC",
    ),
    Kind(title="a SuperAnnotate file", fits=_any("instances.[].className", "metadata.lastAction"), advice=_BY_COCO),
    Kind(title="a Hasty export", fits=_any("label_classes.[].class_name", "images.[].image_name"), advice=_BY_COCO),
    Kind(
        title="a project of VIA 3",
        fits=_all("project.pid", "metadata"),
        advice="export it as CSV and write a table with the columns image and labels, or annotate in VIA 2",
    ),
)  # fmt: skip


def _is_by_image(paths: Iterable[KeyPath]) -> bool:
    """Whether the outer keys are names or paths of images: all have the ending of an image, or a folder."""
    names = [path[0] for path in paths if len(path) == 1]
    return all(is_image(name) or "/" in name or "\\" in name or not os.path.splitext(name)[1] for name in names)


def advice_for(path: Path, kind: Kind) -> AnnotationError:
    """The error of a file that is known by name only."""
    return AnnotationError(
        f"this looks like {kind.title}, which polytag does not read",
        where=str(path),
        expected="docs/reference/formats.md shows every format that is read",
        next_step=kind.advice,
    )
