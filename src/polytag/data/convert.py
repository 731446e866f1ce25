"""Conversion of a data set to a VOC devkit, a CSV or a Parquet file, which other tools and `load_dataset` read."""

import csv
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np

from polytag import files
from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.formats.listing import is_image
from polytag.data.formats.rows import OWN_COLUMNS
from polytag.data.groups import SOURCE
from polytag.data.images.read import suffix_of
from polytag.data.images.stored import is_image_there, open_image, split_stored
from polytag.errors import DataError, RunError, UsageError

TARGETS = ("voc", "csv", "parquet")
"""The formats that can be written."""

_VOC_LABELS = {PRESENT: " 1", ABSENT: "-1", UNKNOWN: " 0"}  # two characters wide, as in the devkit
_VOC_SPLITS = ({"train", "val", "test"}, {"trainval", "test"}, {""})


def convert(dataset: Dataset, out: str | Path, *, to: str, group_column: str = "") -> Path:
    """Write a data set in the format `to`; returns the path for `load_dataset`.

    `out` is the new devkit folder ("voc"), or a file or folder ("csv" and "parquet", which write labels.csv or labels.parquet into
    a folder). A Dataset has no boxes, so none are written. Groups of dependent images become the column `group_column` of a table,
    unless they are the images' folders (SOURCE), which stay. The output appears whole or not at all.
    Raises UsageError for another format, and for groups of a format without columns, RunError where `out` is in use or cannot be
    written, DataError for data that the format cannot represent.
    """
    if to not in TARGETS:
        raise UsageError("unknown format to convert to", got=repr(to), expected="one of " + ", ".join(TARGETS))
    path = Path(os.path.abspath(out))
    group_column = "" if group_column == SOURCE else group_column
    if to == "voc":
        if group_column:
            raise UsageError(
                "VOC has no column of groups", got=f"groups of {group_column!r}", expected="csv or parquet, which have one"
            )
        return write_voc(dataset, path)
    if path.suffix.lower() != f".{to}":
        path = path / f"labels.{to}"
    write = write_csv if to == "csv" else write_parquet
    return write(dataset, path, group_column=group_column)


def write_voc(dataset: Dataset, folder: Path) -> Path:
    """Write `ImageSets/Main/<class>_<split>.txt` and `JPEGImages`; UNKNOWN becomes 0, which VOC reads as "only difficult".

    Images are hard links where the file system allows, else copies; those inside a file become files. Their names are the ids
    without the characters that a VOC list cannot represent. Data without a split are written as `trainval`.
    Raises as `convert` does.
    """
    require_new(folder)
    _require_voc_names(dataset)
    voc_ids = _voc_ids(dataset)
    for path in dataset.paths:
        if not is_image_there(path):
            raise DataError("an image does not exist", where=str(path), expected="the file that existed when the data were read")

    def fill(fresh: Path) -> None:
        main, images = fresh / "ImageSets" / "Main", fresh / "JPEGImages"
        main.mkdir(parents=True)
        images.mkdir()
        for path, voc_id in dict(zip(dataset.paths, voc_ids, strict=True)).items():
            _place_image(path, images / voc_id)
        rows = {split or "trainval": [i for i, name in enumerate(dataset.split_N) if name == split] for split in dataset.splits}
        if "train" in rows and "val" in rows:
            rows["trainval"] = sorted({voc_ids[i]: i for i in rows["train"] + rows["val"]}.values())
        for split, indices in rows.items():
            (main / f"{split}.txt").write_text("".join(f"{voc_ids[i]}\n" for i in indices), encoding="utf-8", newline="\n")
            for c, name in enumerate(dataset.label_set):
                lines = (
                    f"{voc_ids[i]} {_VOC_LABELS[label]}\n" for i, label in zip(indices, _column(dataset, indices, c), strict=True)
                )
                (main / f"{name}_{split}.txt").write_text("".join(lines), encoding="utf-8", newline="\n")

    files.write_folder(folder, fill, replace=False)
    return folder


def write_csv(dataset: Dataset, path: Path, *, group_column: str = "") -> Path:
    """Write the columns id, file_name (relative to the table), split, one per class (1, 0, nothing for UNKNOWN), and the groups."""
    _prepare_table(dataset, path, group_column=group_column)
    text = io.StringIO(newline="")
    writer = csv.writer(_UnixLines(text), lineterminator="\r\n")  # whose characters it puts in quotes, an id's "\r" too
    groups = [dataset.group_N] if group_column else []
    writer.writerow((*OWN_COLUMNS, *dataset.label_set, *([group_column] if group_column else [])))
    texts = {PRESENT: "1", ABSENT: "0", UNKNOWN: ""}
    for name, image, split, target_C, *group in zip(
        dataset.ids, _relative(dataset, path), dataset.split_N, dataset.target_NC.tolist(), *groups, strict=True
    ):
        writer.writerow((name, image, split, *(texts[label] for label in target_C), *group))
    files.write_text(path, text.getvalue())
    return path


class _UnixLines:
    """Ends the rows that csv.writer hands over, one a call, with a line feed."""

    def __init__(self, text: io.StringIO):
        self._text = text

    def write(self, row: str) -> None:
        self._text.write(row.removesuffix("\r\n") + "\n")


def write_parquet(dataset: Dataset, path: Path, *, group_column: str = "") -> Path:
    """Write the same columns as `write_csv`, classes as int8, null for UNKNOWN."""
    import pyarrow as pa  # takes 0.1 s, which other formats avoid
    import pyarrow.parquet as pq

    _prepare_table(dataset, path, group_column=group_column)
    columns = [
        pa.array(dataset.ids, pa.string()),
        pa.array(_relative(dataset, path), pa.string()),
        pa.array(dataset.split_N, pa.string()),
        *(pa.array(target_N, pa.int8(), mask=target_N == UNKNOWN) for target_N in np.ascontiguousarray(dataset.target_NC.T)),
        *([pa.array([group or None for group in dataset.group_N], pa.string())] if group_column else []),
    ]
    names = [*OWN_COLUMNS, *dataset.label_set, *([group_column] if group_column else [])]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, names=names), sink)
    files.write_bytes(path, memoryview(sink.getvalue()))
    return path


def _column(dataset: Dataset, rows: list[int], c: int) -> list[int]:
    return dataset.target_NC[rows, c].tolist()


# ---- tables ----


def _prepare_table(dataset: Dataset, path: Path, *, group_column: str) -> None:
    for name in dataset.label_set:
        if name in OWN_COLUMNS:
            raise DataError(
                "a class has the name of a column of the table",
                where=dataset.source,
                got=repr(name),
                expected="class names other than " + ", ".join(OWN_COLUMNS),
            )
    if group_column in (*OWN_COLUMNS, *dataset.label_set):
        raise DataError(
            "the column of groups has the name of another column of the table",
            where=dataset.source,
            got=repr(group_column),
            expected="another name",
            next_step="rename the column, or keep the groups in a table by image id: --columns FILE",
        )
    require_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            "the output folder cannot be created", where=str(path.parent), got=error.strerror or str(error), expected="a folder"
        ) from error


def _relative(dataset: Dataset, path: Path) -> list[str]:
    """Image paths relative to the table's folder, with "/"."""
    return [Path(os.path.relpath(image, path.parent)).as_posix() for image in dataset.paths]


# ---- VOC ----


def _require_voc_names(dataset: Dataset) -> None:
    if not any(set(dataset.splits) <= allowed for allowed in _VOC_SPLITS):
        raise DataError(
            "VOC has no lists for these splits",
            where=dataset.source,
            got=", ".join(repr(split) for split in dataset.splits),
            expected="train, val and test; or trainval and test; or no split at all",
            next_step="convert to csv or parquet, which hold any split",
        )
    for name in dataset.label_set:
        if "/" in name or "\\" in name or "\0" in name or name.startswith("."):
            raise DataError(
                "a class name that cannot be part of a file name, as VOC needs",
                where=dataset.source,
                got=repr(name),
                expected="no slash, and no full stop at the start",
                next_step="rename the class, or convert to csv or parquet",
            )


def _voc_ids(dataset: Dataset) -> list[str]:
    """A distinct id per image file: its id without the ending, with "_" for characters that VOC's lists cannot represent."""
    id_of: dict[Path, str] = {}
    used: set[str] = set()
    for name, path in zip(dataset.ids, dataset.paths, strict=True):
        if path in id_of:
            continue
        stem = os.path.splitext(name)[0] if is_image(name) else name
        word = wanted = re.sub(r"[\s/\\:\0]+", "_", stem).strip("._") or "image"
        number = 2
        while word.lower() in used:  # some file systems ignore letter case
            word, number = f"{wanted}-{number}", number + 1
        used.add(word.lower())
        id_of[path] = word
    return [id_of[path] for path in dataset.paths]


def _place_image(source: Path, name: Path) -> None:
    """The image under this name with the ending of its path; an image inside a file is written with the ending of its format."""
    if split_stored(source) is not None:
        with open_image(source) as image:
            content = image.read()
        files.write_bytes(name.with_name(name.name + suffix_of(content, where=str(source))), content, durable=False)
        return
    target = name.with_name(name.name + source.suffix.lower())
    real = os.path.realpath(source)  # a hard link to a symbolic link would break with it
    try:
        os.link(real, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(real, target)


def require_new(path: Path) -> None:
    """Raises RunError where something exists already, other than an empty folder: nothing is overwritten."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(
            "the output exists already",
            where=str(path),
            expected="a new name, or an empty folder",
            next_step="choose another name, or remove it; nothing is overwritten",
        )
