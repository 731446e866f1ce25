"""Tables as columns of cells, from CSV (also with ";" or tabs), JSON Lines and Parquet."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.data.formats.listing import read_json, read_text
from polytag.errors import AnnotationError

CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")
JSONL_SUFFIXES = (".jsonl",)
OWN_COLUMNS = ("id", "file_name", "split")
"""The first columns of a table that polytag wrote; all other columns are classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The cells of one file: texts in CSV, values in JSON Lines and Parquet, None for null.

    line_N   the first line of each row; for Parquet, which has no lines, the row's number from 1
    """

    path: Path
    columns: Mapping[str, Sequence[object]]
    line_N: Sequence[int]

    def __len__(self) -> int:
        return len(self.line_N)

    def where(self, row: int) -> str:
        """File and line of a row, for error messages."""
        return f"{self.path}:{self.line_N[row]}"


def read_table(path: Path) -> Table:
    """Read a whole table; raises AnnotationError with file and line for what cannot be read."""
    suffix = path.suffix.lower()
    if suffix in CSV_SUFFIXES:
        return _read_csv(path)
    return _read_jsonl(path) if suffix in JSONL_SUFFIXES else _read_parquet(path)


def _read_csv(path: Path) -> Table:
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
    rows: list[list[str]] = []
    line_N: list[int] = []
    begins = 1
    header: list[str] | None = None
    try:
        for row in reader:
            if row:
                if header is None:
                    header = row
                elif len(row) != len(header):
                    raise AnnotationError(
                        "a row does not fit the header",
                        where=f"{path}:{begins}",
                        got=f"{len(row)} fields",
                        expected=f"{len(header)}, as in the first line",
                    )
                else:
                    rows.append(row)
                    line_N.append(begins)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError("malformed CSV", where=f"{path}:{begins}", got=str(error), expected="CSV") from error
    if header is None:
        raise AnnotationError("an empty table", where=f"{path}:1", got="no line", expected="a header and one row per image")
    names = header if tuple(header[:3]) == OWN_COLUMNS else named_index([name.strip() for name in header])
    for number, name in enumerate(names):
        if name and name in names[:number]:
            raise AnnotationError("a column is given twice", where=f"{path}:1", got=repr(name), expected="every column once")
    cells = list(zip(*rows, strict=True)) or [()] * len(names)
    return Table(path=path, columns=dict(zip(names, cells, strict=True)), line_N=line_N)


def named_index(names: list[str]) -> list[str]:
    """Column names; the first gets pandas' name for an unnamed index where it has none."""
    return ["Unnamed: 0", *names[1:]] if names[:1] == [""] else names


def delimiter_of(text: str) -> str:
    """Comma, semicolon (the default of spreadsheets in many countries) or tab: the most frequent one in the header."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _read_jsonl(path: Path) -> Table:
    rows: list[dict[str, object]] = []
    line_N: list[int] = []
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        value = read_json(text, path=path, first_line=line)
        if not isinstance(value, dict):
            raise AnnotationError(
                "malformed JSON Lines", where=f"{path}:{line}", got=text.strip()[:80], expected="one object per line"
            )
        rows.append(value)
        line_N.append(line)
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    return Table(path=path, columns={name: [row.get(name) for row in rows] for name in names}, line_N=line_N)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa  # 0.1 s that other formats need not pay
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise AnnotationError(
            "malformed Parquet", where=str(path), got=str(error).splitlines()[0], expected="a Parquet file"
        ) from error
    if len(set(table.column_names)) != len(table.column_names):
        raise AnnotationError(
            "a column is given twice", where=str(path), got=", ".join(table.column_names), expected="every column once"
        )
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Table(path=path, columns=columns, line_N=range(1, table.num_rows + 1))
