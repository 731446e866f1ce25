"""The VGG Image Annotator (VIA 1 and 2): JSON and CSV exports, and saved projects.

https://www.robots.ox.ac.uk/~vgg/software/via: attributes of files (checkboxes, radio buttons, dropdowns, texts) and of regions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from polytag.data.formats.column_names import LABELS_COLUMNS
from polytag.data.formats.export_content import (
    Content,
    ExportFile,
    chosen_field,
    object_of,
    text_of,
    told_left_out,
    told_without,
    wrong,
)
from polytag.data.formats.listing import read_json
from polytag.data.formats.records import Record
from polytag.data.formats.rows import Table

_DEFAULTS = ("caption", "public_domain", "image_url")  # attributes of a file that VIA itself adds to a new project
_USUAL = (*LABELS_COLUMNS, "type", "name", "object", "species")


@dataclass(kw_only=True)
class _Image:
    """An image of a VIA file: attributes of the file, and of each region."""

    name: str
    where: str
    file: dict[str, object]
    regions: list[dict[str, object]]


def read_via_json(values: object, file: ExportFile) -> Content:
    """An export `{key: {"filename", "regions", "file_attributes"}}`, or a project with it in `_via_img_metadata`."""
    table = object_of(values, where=str(file.path))
    declared: Mapping[str, object] = {}
    if "_via_img_metadata" in table:
        attributes = table.get("_via_attributes")
        declared = attributes if isinstance(attributes, dict) else {}
        table = object_of(table["_via_img_metadata"], where=f"{file.path}: _via_img_metadata")
    images: list[_Image] = []
    for key, value in table.items():
        where = f"{file.path}: {key}"
        item = object_of(value, where=where)
        regions = item.get("regions") or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # VIA 1 numbers them by keys
        if not isinstance(regions, list):
            raise wrong(regions, where=f"{where}.regions", expected="a list of regions")
        images.append(
            _Image(
                name=text_of(item.get("filename"), where=f"{where}.filename"),
                where=where,
                file=object_of(item.get("file_attributes", {}), where=f"{where}.file_attributes"),
                regions=[object_of(object_of(region, where=where).get("region_attributes", {}), where=where) for region in regions],
            )
        )
    return _content(images, file, declared)


def is_via_table(columns: Iterable[str]) -> bool:
    """Whether these are the columns of VIA's CSV export."""
    return {"filename", "file_attributes", "region_attributes"} <= {name.strip().lstrip("#") for name in columns}


def read_via_table(table: Table, file: ExportFile) -> Content:
    """VIA's CSV: one row per region, attributes as JSON; an image without regions has one row."""
    columns = {name.strip().lstrip("#"): cells for name, cells in table.columns.items()}
    images: dict[str, _Image] = {}
    for row in range(len(table)):
        where = table.where(row)
        name = text_of(columns["filename"][row], where=where, expected="a file name")
        attributes, region = (
            object_of(read_json(str(columns[key][row] or "{}"), path=table.path, first_line=table.line_N[row]), where=where)
            for key in ("file_attributes", "region_attributes")
        )
        image = images.setdefault(name, _Image(name=name, where=where, file={}, regions=[]))
        image.file.update(attributes)
        if str(columns["region_count"][row] if "region_count" in columns else 1).strip() not in ("0", ""):
            image.regions.append(region)
    return _content(list(images.values()), file, {})


def _content(images: list[_Image], file: ExportFile, declared: Mapping[str, object]) -> Content:
    """The records of one attribute: of the file where it has any besides VIA's own, or of the regions."""
    fields: dict[str, str] = {}
    for image in images:
        for name, value in image.file.items():
            if name not in _DEFAULTS and value not in ("", None):
                fields.setdefault(name, "attribute of files")
        for region in image.regions:
            for name, value in region.items():
                if value not in ("", None):
                    fields.setdefault(name, "attribute of regions")
    for level, what in (("file", "attribute of files"), ("region", "attribute of regions")):
        attributes = declared.get(level)
        for name in attributes if isinstance(attributes, dict) else ():
            if name not in _DEFAULTS and _options(declared, level, name):
                fields.setdefault(name, what)
    if not fields:
        told_without(file, [])
        return Content(records=[], labels="")
    field = chosen_field(fields, file, usual=_USUAL)
    is_of_file = fields[field] == "attribute of files"
    records: list[Record] = []
    for image in images:
        if is_of_file and image.file.get(field) in (None, ""):
            continue
        values = [image.file[field]] if is_of_file else [region[field] for region in image.regions if region.get(field) is not None]
        ticked = [each for value in values for each in _ticked(value, where=image.where)]
        present = [name for name, is_present in ticked if is_present]
        absent = [name for name, is_present in ticked if not is_present]
        records.append(Record(image=image.name, where=image.where, present=present, absent=absent, split=file.split))
    told_left_out(file, len(images) - len(records), why=f"because they have no attribute {field!r}")
    if not is_of_file:
        told_without(file, records)
    options = _options(declared, "file" if is_of_file else "region", field)
    names = {name for record in records for name in (*record.present, *record.absent)}
    return Content(
        records=records, labels=f"{field!r}, an {fields[field]} in VIA", declared=options if names <= set(options) else ()
    )


def _ticked(value: object, *, where: str) -> list[tuple[str, bool]]:
    """The options of a checkbox with whether each is ticked; of another kind of attribute its value."""
    if isinstance(value, dict):
        return [(text_of(name, where=where), is_ticked not in (False, "", None, 0, "false")) for name, is_ticked in value.items()]
    return [] if value == "" else [(text_of(value, where=where), True)]


def _options(declared: Mapping[str, object], level: str, name: str) -> tuple[str, ...]:
    attributes = declared.get(level)
    attribute = attributes.get(name) if isinstance(attributes, dict) else None
    options = attribute.get("options") if isinstance(attribute, dict) else None
    return tuple(options) if isinstance(options, dict) else ()
