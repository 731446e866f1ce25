"""JSON Lines that services for labelling read and write: SageMaker Ground Truth, Vertex AI, Azure Machine Learning."""

from collections.abc import Mapping, Sequence

from polytag.data.formats.export_content import (
    Content,
    ExportFile,
    chosen_field,
    items_of,
    object_of,
    text_of,
    texts_of,
    told_left_out,
    wrong,
)
from polytag.data.formats.listing import split_of
from polytag.data.formats.records import Record
from polytag.errors import AnnotationError
from polytag.plain import shown

Lines = Sequence[tuple[int, Mapping[str, object]]]
"""The object of each line, with the number of the line."""


# ---- SageMaker ----

_META = "-metadata"


def read_sagemaker(lines: Lines, file: ExportFile) -> Content:
    """A manifest: `source-ref`, and for each job a label with its metadata, whose class maps give the names, by number.

    A line without the label, or whose labelling failed, is left out. Of boxes, the classes count.
    """
    fields = {
        name.removesuffix(_META): _sagemaker_type(value)
        for _, line in lines
        for name, value in line.items()
        if name.endswith(_META) and isinstance(value, dict)
    }
    if not fields:
        raise AnnotationError(
            "a manifest without labels",
            where=str(file.path),
            got="no name that ends in '-metadata'",
            expected="the output manifest of a labelling job",
            next_step="give the manifest in the folder manifests/output of the job",
        )
    field = chosen_field(fields, file)
    names: dict[int, str] = {}
    found: list[tuple[str, list[str]]] = []
    records: list[Record] = []
    for number, line in lines:
        where = f"{file.path}:{number}"
        metadata = line.get(field + _META)
        if not isinstance(metadata, dict) or "failure-reason" in metadata or line.get(field) is None:
            continue
        present = _sagemaker_labels(line[field], metadata, names, where=where)
        image = text_of(line.get("source-ref"), where=where, expected="the address of an image in 'source-ref'")
        found.append((image, present))
        records.append(Record(image=image, where=where, present=present, split=file.split))
    told_left_out(file, len(lines) - len(records), why=f"because they have no label {field!r}, or labelling failed")
    declared = tuple(dict.fromkeys(names[number] for number in sorted(names)))
    is_complete = {name for _, present in found for name in present} <= set(declared)
    return Content(records=records, labels=f"{field!r} of the manifest", declared=declared if is_complete else ())


def _sagemaker_type(metadata: Mapping[str, object]) -> str:
    kind = metadata.get("type")
    return kind.removeprefix("groundtruth/") if isinstance(kind, str) else ""


def _sagemaker_labels(value: object, metadata: Mapping[str, object], names: dict[int, str], *, where: str) -> list[str]:
    """The classes of one line; adds those of its class map to `names`."""
    class_map = metadata.get("class-map", {})
    for key, name in object_of(class_map, where=f"{where} class-map").items():
        if not (key.isdecimal() and len(key) < 19):
            raise wrong(key, where=f"{where} class-map", expected="numbers of classes")
        name = text_of(name, where=f"{where} class-map")
        if names.setdefault(int(key), name) != name:
            raise AnnotationError(
                "one number for two classes",
                where=where,
                got=f"{key}: {name!r}",
                expected=f"{names[int(key)]!r}, as in a line before",
            )
    if isinstance(value, dict):  # boxes
        value = [item.get("class_id") for item in items_of(value.get("annotations"), where=f"{where} annotations")]
    elif not isinstance(value, list):
        if metadata.get("class-name") is not None:  # one label
            return [text_of(metadata["class-name"], where=f"{where} class-name")]
        value = [value]
    found: list[str] = []
    for number in value:
        number = int(number) if isinstance(number, str) and number.isdecimal() and len(number) < 19 else number
        if not isinstance(number, int) or isinstance(number, bool) or number not in names:
            raise AnnotationError(
                "a label without a name in the class map", where=where, got=shown(number), expected="a number of the class map"
            )
        found.append(names[number])
    return found


# ---- Vertex AI ----

_VERTEX = (
    "classificationAnnotations",
    "classificationAnnotation",
    "boundingBoxAnnotations",
    "polygonAnnotations",
    "polylineAnnotations",
)
_ML_USE = ("aiplatform.googleapis.com/ml_use", "ml_use")


def read_vertex(lines: Lines, file: ExportFile) -> Content:
    """An import file: `imageGcsUri`, annotations with a `displayName`, `ml_use` as split; a line without them is left out."""
    fields = {name: "" for name in _VERTEX if any(name in line for _, line in lines)}
    if not fields:
        raise AnnotationError(
            "lines without labels", where=str(file.path), got="none of " + ", ".join(_VERTEX), expected="one of them"
        )
    field = chosen_field(fields, file)
    records: list[Record] = []
    for number, line in lines:
        where = f"{file.path}:{number}"
        annotations = line.get(field)
        if annotations is None:
            continue
        items = [annotations] if isinstance(annotations, dict) else items_of(annotations, where=f"{where} {field}")
        resource = line.get("dataItemResourceLabels", {})
        use = next((value for key, value in object_of(resource, where=where).items() if key in _ML_USE), "")
        split = text_of(use, where=where) if use else ""
        split = "" if split.lower() == "unassigned" else split_of(split) or split
        records.append(
            Record(
                image=text_of(line.get("imageGcsUri"), where=where, expected="an address in 'imageGcsUri'"),
                where=where,
                present=[text_of(item.get("displayName"), where=where, expected="a 'displayName'") for item in items],
                split=split or file.split,
            )
        )
    told_left_out(file, len(lines) - len(records), why=f"because they have no {field!r}")
    return Content(records=records, labels=f"{field!r} of each line")


# ---- Azure ----


def read_azure(lines: Lines, file: ExportFile) -> Content:
    """`image_url` and `label`: a class, a list of them, or a list of boxes with a `label` each; a line without it is left out."""
    records: list[Record] = []
    for number, line in lines:
        where = f"{file.path}:{number}"
        label = line.get("label")
        if label is None:
            continue
        items = [item.get("label") if isinstance(item, dict) else item for item in label] if isinstance(label, list) else label
        image = text_of(line.get("image_url"), where=where, expected="an address in 'image_url'")
        records.append(Record(image=image, where=where, present=texts_of(items, where=where), split=file.split))
    told_left_out(file, len(lines) - len(records), why="because they have no 'label'")
    return Content(records=records, labels="'label' of each line")
