"""Conversion of a data set to the formats of other tools, which they and `load_dataset` read."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.groups import SOURCE
from polytag.data.load import dataset_of_data
from polytag.data.read_options import ReadOptions
from polytag.data.write.coco import write_coco
from polytag.data.write.huggingface import write_hf_parquet, write_imagefolder
from polytag.data.write.limits import require_split_names
from polytag.data.write.tables import write_csv, write_parquet
from polytag.data.write.voc import write_voc
from polytag.data.write.webdataset import write_webdataset
from polytag.errors import UsageError

_FOLDERS: Mapping[str, Callable[[Dataset, Path], Path]] = {
    "voc": write_voc,
    "coco": write_coco,
    "imagefolder": write_imagefolder,
    "hf": write_hf_parquet,
    "webdataset": write_webdataset,
}
TABLES = ("csv", "parquet")
TARGETS = (*TABLES, *_FOLDERS)
"""The formats that can be written."""


def convert(
    data: Dataset | str | Path, out: str | Path, *, to: str, group_column: str = "", options: ReadOptions = ReadOptions()
) -> Path:
    """Write a data set, or what `load_dataset` reads with `options`, in the format `to`; returns the path for `load_dataset`.

    `out` is a file or folder for "csv" and "parquet", which write labels.csv or labels.parquet into a folder and leave the images
    where they are; for the others it is a new folder that the images become part of. A Dataset has no boxes, so none are written.
    Groups of dependent images become the column `group_column` of a table, unless they are the images' folders (SOURCE).
    The output appears whole or not at all. What was unknown is read back as unknown.
    Raises UsageError for another format, for groups of a format without columns, and for groups of a table without a name;
    RunError where `out` is in use or cannot be written; DataError for data that the format cannot represent.
    """
    if to not in TARGETS:
        raise UsageError("unknown format to convert to", got=repr(to), expected="one of " + ", ".join(TARGETS))
    dataset = dataset_of_data(data, options=options)
    require_split_names(dataset)
    path = Path(os.path.abspath(out))
    if to in TABLES and any(dataset.group_N) and not group_column:
        raise UsageError(
            "the groups of the images have no column to be written into",
            where=dataset.source,
            got="groups without a name",
            expected=f"group_column: the name of their column, or {SOURCE!r} to write none",
        )
    group_column = "" if group_column == SOURCE else group_column
    if to in _FOLDERS:
        if group_column:
            raise UsageError(
                f"the format {to} has no column of groups",
                got=f"groups of {group_column!r}",
                expected="csv or parquet, which have one",
            )
        return _FOLDERS[to](dataset, path)
    if path.suffix.lower() != f".{to}":
        path = path / f"labels.{to}"
    write = write_csv if to == "csv" else write_parquet
    return write(dataset, path, group_column=group_column)
