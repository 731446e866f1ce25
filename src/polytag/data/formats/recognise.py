"""The format of a folder or file of annotations, by the names of its files and what stands in their beginnings."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from polytag.data.formats.celeba import is_celeba
from polytag.data.formats.chest_xray import is_chest_xray
from polytag.data.formats.coco import is_coco
from polytag.data.formats.cvat import is_cvat
from polytag.data.formats.datumaro_arrow import is_datumaro_arrow
from polytag.data.formats.export import hides_coco, hides_tables, is_export, is_export_file, kinds_in, name_unread
from polytag.data.formats.export_kinds import OTHER_JSON, RECORDS, Kind, is_json_table
from polytag.data.formats.folders import is_folder, is_imagefolder
from polytag.data.formats.huggingface import is_huggingface
from polytag.data.formats.keywords import keyword_share
from polytag.data.formats.kitti import is_kitti
from polytag.data.formats.labelme import is_labelme
from polytag.data.formats.listing import child_folders, child_names, existing_path, is_image, scanning_once
from polytag.data.formats.nuswide import is_nuswide
from polytag.data.formats.open_images import is_open_images
from polytag.data.formats.rows import CSV_SUFFIXES, EXCEL_SUFFIXES, JSON_SUFFIXES, JSONL_SUFFIXES, PARQUET_SUFFIXES
from polytag.data.formats.tables import find_tables
from polytag.data.formats.tags import is_tags
from polytag.data.formats.text_lists import is_text_list
from polytag.data.formats.voc import is_voc
from polytag.data.formats.webdataset import is_webdataset
from polytag.data.formats.yolo_layout import has_yolo_labels, is_yolo
from polytag.errors import DataError

_SOME, _MOST = 0.25, 0.8  # of the first photographs: with keywords they are a collection that people tag
_RECOGNISED = (
    "VOC's ImageSets/Main or XML files, COCO's annotations/*.json, YOLO's data.yaml or classes.txt, "
    "metadata.csv or .jsonl, a .csv, .parquet or .xlsx file, an annotation tool's export, or a folder of images per label"
)
_NAMED: tuple[tuple[str, Callable[[Path], bool]], ...] = (
    ("celeba", is_celeba),
    ("nuswide", is_nuswide),
    ("nih", is_chest_xray),
    ("openimages", is_open_images),
)  # public data sets: their files have names of their own, which win over the shapes that fit as well
_FILE_FORMATS = {
    ".json": "coco", ".xml": "cvat", ".yaml": "yolo", ".yml": "yolo", ".jsonl": "imagefolder",
    **dict.fromkeys(CSV_SUFFIXES, "csv"), **dict.fromkeys(PARQUET_SUFFIXES, "parquet"),
    **dict.fromkeys(EXCEL_SUFFIXES, "excel"),
}  # fmt: skip


@scanning_once()
def recognise(data: str | Path) -> str:
    """The format of a folder or file of annotations.

    Raises DataError, with the recognised layouts, for no format, several formats or an empty folder.
    """
    path = existing_path(data)
    if os.path.isfile(path):
        return _format_of_file(path)
    found = _formats_of(path)
    if found == ["folder"]:
        name_unread(kinds_in(path), beside_others=True)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            "several annotation formats in one folder",
            where=str(path),
            got=", ".join(found),
            expected="one of them",
            next_step=f"choose one with the option format, such as --format {found[0]}",
        )
    name_unread(kinds_in(path))
    names = child_names(path)
    raise DataError(
        "no annotations were recognised" if names else "the data folder is empty",
        where=str(path),
        got=", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else ""),
        expected=_RECOGNISED,
        next_step=_way_out(path, names),
    )


def _way_out(folder: Path, names: Sequence[str]) -> str:
    """What to do with a folder of these names, in which nothing was recognised."""
    for name in child_folders(folder)[:20]:
        if formats := _formats_of(folder / name):
            return f"give the folder {folder / name}, which looks like the format {formats[0]}"
    if names and all(map(is_image, names)):
        return "there are only images, without keywords: add a CSV file with the columns image and labels, or a folder per label"
    for name in names:
        if name.lower().endswith(JSON_SUFFIXES):
            return f"{name} has the keys of no tool that is known: {OTHER_JSON}"
        if name.lower().endswith(JSONL_SUFFIXES):
            return f"give the file {folder / name} itself, if each of its lines has an image and labels"
    return "docs/reference/formats.md shows every layout"


def _has_tables(folder: Path, kinds: Mapping[Path, Kind]) -> bool:
    has_csv = not hides_tables(kinds) and bool(find_tables(folder, CSV_SUFFIXES))
    return has_csv or (RECORDS in kinds.values() and bool(find_tables(folder, JSON_SUFFIXES)))


def _formats_of(folder: Path) -> list[str]:
    """The formats that fit: a public data set alone, by its files' own names; a folder per label, and YOLO without names, last."""
    if named := next((name for name, is_it in _NAMED if is_it(folder)), ""):
        return [named]
    kinds = kinds_in(folder)
    recognised = (
        ("cvat", is_cvat), ("export", lambda _: is_export(kinds)), ("imagefolder", is_imagefolder), ("kitti", is_kitti),
        ("labelme", is_labelme), ("voc", lambda folder: is_voc(folder) and not is_labelme(folder)), ("tags", is_tags),
        ("coco", lambda folder: is_coco(folder) and not hides_coco(kinds)), ("text", is_text_list),
        ("yolo", lambda folder: is_yolo(folder) and not is_text_list(folder)),  # both have classes.txt and train.txt
        ("csv", lambda folder: _has_tables(folder, kinds)),
        ("parquet", lambda folder: not is_huggingface(folder) and bool(find_tables(folder, PARQUET_SUFFIXES))),
        ("excel", lambda folder: bool(find_tables(folder, EXCEL_SUFFIXES))),
        ("hf", is_huggingface), ("datumaro-arrow", is_datumaro_arrow),
    )  # fmt: skip
    last = (
        ("yolo", has_yolo_labels),
        ("folder", is_folder),
        ("webdataset", is_webdataset),
    )  # label files without names are refused with a way out
    found = [name for name, is_it in recognised if is_it(folder)]
    found = found or [name for name, is_it in last if is_it(folder)][:1]
    if found in ([], ["folder"]):  # photographs sorted into albums are asked about: names of folders, or keywords
        share = keyword_share(folder)
        found += ["keywords"] if share >= (_MOST if found else _SOME) else []
    return found


def _format_of_file(path: Path) -> str:
    if named := next((name for name, is_it in (*_NAMED, ("text", is_text_list), ("csv", is_json_table)) if is_it(path)), ""):
        return named
    if is_export_file(path):
        return "export"
    for name, is_it in (("hf", is_huggingface), ("webdataset", is_webdataset), ("datumaro-arrow", is_datumaro_arrow)):
        if is_it(path):
            return name
    try:
        return _FILE_FORMATS[path.suffix.lower()]
    except KeyError:
        raise DataError(
            "no annotations were recognised",
            where=str(path),
            got=f"a file ending in {path.suffix!r}",
            expected="a file ending in " + ", ".join(_FILE_FORMATS),
            next_step="docs/reference/formats.md shows every layout",
        ) from None
