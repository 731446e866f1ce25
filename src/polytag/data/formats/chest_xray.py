"""NIH's ChestX-ray14: Data_Entry_2017.csv, several folders of images, and the official lists of images.

Wang et al. (2017), "ChestX-ray8", and https://nihcc.app.box.com/v/ChestXray-NIHCC. Kaggle's sample has sample_labels.csv.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.listing import child_folders, child_names, read_beginning, read_text
from polytag.data.formats.on_disk import only_on_disk
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.data.formats.rows import Table, cells_of, read_table
from polytag.errors import AnnotationError, DataError

_ENTRIES = re.compile(r"Data_Entry_\d{4}.*\.csv|sample_labels\.csv", re.IGNORECASE)
_IMAGE, _FINDINGS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"
_NOTHING = "No Finding"
_LISTS = {
    "train_val_list.txt": "train",
    "train_list.txt": "train",
    "val_list.txt": "val",
    "valid_list.txt": "val",
    "test_list.txt": "test",
}


def is_chest_xray(data: Path) -> bool:
    """Whether there is the table of entries under the name that NIH gives it, with its columns, or the path is that table."""
    names = [data.name] if data.is_file() else child_names(data)
    paths = [(data if data.is_file() else data / name) for name in names if _ENTRIES.fullmatch(name)]
    return any(_FINDINGS in (read_beginning(path).splitlines() or [""])[0] for path in paths)


def read_chest_xray(data: Path, *, group: str, need_images: bool, context: ReadingContext) -> Dataset:
    """Read the table of entries with the official lists; `group` is a column of it, or "".

    "No Finding" is no class: every class is absent. The images of train_val_list.txt are for training; a validation part is made of
    them where it is needed. Images that are not on the disk are left out, since people have some of the twelve archives only.
    Raises AnnotationError, with file and line, for a row without an image or findings.
    """
    root = data.parent if data.is_file() else data
    table = read_table(data if data.is_file() else _entries(data))
    for name in (_IMAGE, _FINDINGS, *([group] if group else [])):
        if name not in table.columns:
            raise AnnotationError(
                "the table has no such column", where=f"{table.path}:1", got=", ".join(table.columns), expected=f"a column {name!r}"
            )
    log = context.log
    log.found("images", f"column {_IMAGE!r}")
    log.found("labels", f"column {_FINDINGS!r}, where {_NOTHING!r} means that every class is absent")
    split_of_image, lists = _official_splits(root)
    if lists:
        log.found("split", ", ".join(f"{name} is {_LISTS[name]}" for name in lists))
    if _PATIENT in table.columns and not group:
        log.found("patients", f"column {_PATIENT!r}; the images of one stay in one split with --group {_PATIENT!r}")
    folders = _image_folders(root)
    records = only_on_disk(_records(table, split_of_image, group=group), context=context, folders=folders, need_images=need_images)
    return dataset_of(records, source=f"nih {data}", context=context, folders=folders)


def _entries(data: Path) -> Path:
    found = [name for name in child_names(data) if _ENTRIES.fullmatch(name)]
    if len(found) == 1:
        return data / found[0]
    raise DataError(
        "several tables of entries" if found else "no table of entries",
        where=str(data),
        got=", ".join(found) or "none",
        expected="one Data_Entry_2017.csv",
        next_step="give the file itself" if found else "put it there, or choose another format",
    )


def _official_splits(root: Path) -> tuple[Mapping[str, str], list[str]]:
    """The split of each image on a list, and the lists; train_val_list.txt is not read beside a list of each."""
    lists = [name for name in _LISTS if (root / name).is_file()]
    if {"train_list.txt", "train_val_list.txt"} <= set(lists):
        lists.remove("train_val_list.txt")
    found: dict[str, str] = {}
    for name in lists:
        for number, line in enumerate(read_text(root / name).splitlines(), start=1):
            image = line.strip()
            if image and found.setdefault(image, _LISTS[name]) != _LISTS[name]:
                raise AnnotationError(
                    "an image on two lists",
                    where=f"{root / name}:{number}",
                    got=f"{image[:200]!r}, which is for {found[image]} already",
                    expected="every image on one list",
                )
    return found, lists


def _image_folders(root: Path) -> tuple[str, ...]:
    """images_001/images to images_012/images, images, sample/images and the like."""
    names = [name for name in child_folders(root) if re.match(r"images?|sample", name, re.IGNORECASE)]
    return (*(str(place) for name in names for place in (root / name / "images", root / name)), str(root))


def _records(table: Table, split_of_image: Mapping[str, str], *, group: str) -> Iterator[Record]:
    images, findings = cells_of(table, _IMAGE), cells_of(table, _FINDINGS)
    groups = cells_of(table, group) if group else [None] * len(table)
    for row, (image, text) in enumerate(zip(images, findings, strict=True)):
        if image is None and text is None:
            continue
        names = [name.strip() for name in (text or "").split("|") if name.strip()]
        if image is None or not names or (_NOTHING in names and len(names) > 1):
            raise AnnotationError(
                "a row without an image or findings" if image is None or not names else f"{_NOTHING!r} beside a finding",
                where=table.where(row),
                got=repr(text if image else image),
                expected=f"an image, and its findings divided by '|', or {_NOTHING!r}",
            )
        present = () if names == [_NOTHING] else names
        split = split_of_image.get(image, "")
        yield Record(image=image, where=table.where(row), present=present, split=split, group=groups[row] or "")
