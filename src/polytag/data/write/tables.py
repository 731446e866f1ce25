"""Tables of one column for each class: CSV and Parquet, written a block of rows at a time."""

import csv
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from polytag import files
from polytag.contracts import UNKNOWN, Dataset
from polytag.data.formats.rows import OWN_COLUMNS
from polytag.data.write.images import require_new
from polytag.errors import DataError, RunError
from polytag.path_list import PathList

_BLOCK = 16_384  # rows that are written at a time


def write_csv(dataset: Dataset, path: Path, *, group_column: str = "") -> Path:
    """Write the columns id, file_name (relative to the table), split, one per class (1, 0, nothing for UNKNOWN), and the groups."""
    _prepare_table(dataset, path, group_column=group_column)

    def fill(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        _fill_csv(text, dataset, lambda rows: _relative(dataset, rows, path), group_column=group_column)
        text.detach()

    _stream(path, fill)
    return path


def csv_of(dataset: Dataset) -> str:
    """Return the table of `write_csv` with absolute paths in file_name, for a file whose place is not known; raises as it does."""
    require_free_names(dataset)
    text = io.StringIO(newline="")
    _fill_csv(
        text, dataset, lambda rows: [os.path.abspath(image) for image in PathList(dataset.paths).texts[rows]], group_column=""
    )
    return text.getvalue()


def _fill_csv(text: TextIO, dataset: Dataset, file_names: Callable[[slice], list[str]], *, group_column: str) -> None:
    texts = np.array(["0", "1", ""], dtype=object)  # by target; -1 is the last
    writer = csv.writer(_UnixLines(text), lineterminator="\r\n")  # whose characters it puts in quotes, an id's "\r" too
    writer.writerow((*OWN_COLUMNS, *dataset.label_set, *([group_column] if group_column else [])))
    for rows in _blocks(dataset):
        labels = texts[dataset.target_NC[rows]].tolist()
        groups = [dataset.group_N[rows]] if group_column else []
        for name, image, split, own, *group in zip(
            dataset.ids[rows], file_names(rows), dataset.split_N[rows], labels, *groups, strict=True
        ):
            writer.writerow((name, image, split, *own, *group))


class _UnixLines:
    """Ends the rows that csv.writer hands over, one a call, with a line feed."""

    def __init__(self, text: TextIO):
        self._text = text

    def write(self, row: str) -> None:
        self._text.write(row.removesuffix("\r\n") + "\n")


def write_parquet(dataset: Dataset, path: Path, *, group_column: str = "") -> Path:
    """Write the same columns as `write_csv`, classes as int8, null for UNKNOWN."""
    import pyarrow as pa  # takes 0.1 s, which other formats avoid
    import pyarrow.parquet as pq

    _prepare_table(dataset, path, group_column=group_column)
    fields = [(name, pa.string()) for name in OWN_COLUMNS] + [(name, pa.int8()) for name in dataset.label_set]
    schema = pa.schema(fields + ([(group_column, pa.string())] if group_column else []))

    def fill(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, schema) as writer:
            for rows in _blocks(dataset):
                labels_CB = np.ascontiguousarray(dataset.target_NC[rows].T)
                columns = [
                    pa.array(dataset.ids[rows], pa.string()),
                    pa.array(_relative(dataset, rows, path), pa.string()),
                    pa.array(dataset.split_N[rows], pa.string()),
                    *(pa.array(target_B, pa.int8(), mask=target_B == UNKNOWN) for target_B in labels_CB),
                    *([pa.array([group or None for group in dataset.group_N[rows]], pa.string())] if group_column else []),
                ]
                writer.write_table(pa.table(columns, schema=schema))

    _stream(path, fill)
    return path


def _blocks(dataset: Dataset) -> Iterator[slice]:
    """The rows, some at a time; one empty block for no rows."""
    for start in range(0, max(len(dataset), 1), _BLOCK):
        yield slice(start, start + _BLOCK)


def _stream(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Write a file that takes its place when it is whole."""
    with files.saving(path):
        new = files.NewFile(path)
        try:
            fill(new.file)
            new.commit()
        finally:
            new.abandon()


def require_free_names(dataset: Dataset) -> None:
    """Raises DataError for a class that is named like a column of its own."""
    for name in dataset.label_set:
        if name in OWN_COLUMNS:
            raise DataError(
                "a class has the name of a column of the table",
                where=dataset.source,
                got=repr(name),
                expected="class names other than " + ", ".join(OWN_COLUMNS),
            )


def _prepare_table(dataset: Dataset, path: Path, *, group_column: str) -> None:
    require_free_names(dataset)
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


def _relative(dataset: Dataset, rows: slice, path: Path) -> list[str]:
    """Image paths relative to the table's folder, with "/"."""
    return [Path(os.path.relpath(image, path.parent)).as_posix() for image in PathList(dataset.paths).texts[rows]]
