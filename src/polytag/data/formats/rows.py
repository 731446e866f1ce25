"""Tables as columns of cells, from CSV (also with ";" or tabs), JSON Lines, lists of JSON objects, Parquet and Excel."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.data.formats.delimited import BEGINNING, dialect_of, fitted, is_blank
from polytag.data.formats.excel import read_workbook
from polytag.data.formats.listing import first_repeated, read_json, read_text
from polytag.errors import AnnotationError, PolytagError
from polytag.files import require_regular

CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")
JSONL_SUFFIXES = (".jsonl",)
JSON_SUFFIXES = (".json",)
EXCEL_SUFFIXES = (".xlsx", ".xlsm")
MAX_COLUMNS = 100_000
"""Beyond any table of labels; a million columns are a mistake, or meant to take hours."""
OWN_COLUMNS = ("id", "file_name", "split")
"""The first columns of a table that polytag wrote; all other columns are classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The cells of one file: texts in CSV and Excel, values in JSON and Parquet, None for null.

    line_N        the first line of each row; for Parquet and a list of JSON, the row's number from 1
    short_lines   lines of the rows that lack their last cells, which count as empty
    notes         sentences about what was left out
    places        where each row is, for messages; without them, its line
    """

    path: Path
    columns: Mapping[str, Sequence[object]]
    line_N: Sequence[int]
    short_lines: Sequence[int] = ()
    notes: Sequence[str] = ()
    places: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.line_N)

    def where(self, row: int) -> str:
        """File and line of a row, for error messages."""
        return self.places[row] if self.places else f"{self.path}:{self.line_N[row]}"


def read_table(path: Path) -> Table:
    """Read a whole table; raises AnnotationError with file and line for what cannot be read."""
    suffix = path.suffix.lower()
    if suffix in CSV_SUFFIXES:
        return _read_csv(path)
    if suffix in EXCEL_SUFFIXES:
        sheet = read_workbook(path)
        return Table(path=path, columns=sheet.columns, line_N=sheet.line_N, notes=sheet.notes)
    if suffix in JSON_SUFFIXES:
        return _read_json(path)
    return _read_jsonl(path) if suffix in JSONL_SUFFIXES else _read_parquet(path)


def cells_of(table: Table, name: str) -> list[str | None]:
    """The cells of a column as they are written; None for an empty one, and for NaN."""
    return [None if cell is None or cell != cell else str(cell).strip() or None for cell in table.columns[name]]


def _read_csv(path: Path) -> Table:
    text = read_text(path)
    dialect = dialect_of(text[:BEGINNING])
    file = io.StringIO(text, newline="")
    num_before = 1 if dialect.has_sep_line and file.readline() else 0
    reader = csv.reader(file, delimiter=dialect.delimiter, skipinitialspace=dialect.skips_space, strict=True)
    rows: list[list[str]] = []
    line_N: list[int] = []
    short_lines: list[int] = []
    begins = num_before + 1
    header: list[str] | None = None
    try:
        for row in reader:
            if header is None:
                header = None if is_blank(row) else row
            elif len(row) == len(header) and row[0]:
                rows.append(row)
                line_N.append(begins)
            elif not is_blank(row):
                whole = fitted(row, len(header))
                if whole is None or (len(row) < len(header) and file.tell() == len(text) and text[-1] not in "\r\n"):
                    raise _unfit(path, begins, row, header, is_cut=whole is not None)
                if len(row) < len(header):
                    short_lines.append(begins)
                rows.append(whole)
                line_N.append(begins)
            begins = num_before + reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError("malformed CSV", where=f"{path}:{begins}", got=str(error), expected="CSV") from error
    if header is None:
        raise AnnotationError("an empty table", where=f"{path}:1", got="no line", expected="a header and one row per image")
    names = header if tuple(header[:3]) == OWN_COLUMNS else named_index([name.strip() for name in header])
    require_columns(names, where=f"{path}:{num_before + 1}", error=AnnotationError)
    cells = list(zip(*rows, strict=True)) or [()] * len(names)
    return Table(path=path, columns=dict(zip(names, cells, strict=True)), line_N=line_N, short_lines=short_lines)


def _unfit(path: Path, line: int, row: Sequence[str], header: Sequence[str], *, is_cut: bool) -> AnnotationError:
    return AnnotationError(
        "the table ends within a row" if is_cut else "a row does not fit the header",
        where=f"{path}:{line}",
        got=f"{len(row)} fields" + (", and no line break after them" if is_cut else ""),
        expected=f"{len(header)}, as in the header",
        next_step="get the whole file again, or end its last row" if is_cut else "put a cell that contains the delimiter in quotes",
    )


def require_columns(names: Sequence[str], *, where: str, error: type[PolytagError]) -> None:
    """Raises this error for two columns of one name, and for more than `MAX_COLUMNS`."""
    if len(names) > MAX_COLUMNS:
        raise error("a table of too many columns", where=where, got=f"{len(names):,}", expected=f"at most {MAX_COLUMNS:,}")
    if (twice := first_repeated(name for name in names if name)) is not None:
        raise error("a column is given twice", where=where, got=repr(twice), expected="every column once")


def named_index(names: list[str]) -> list[str]:
    """Column names; the first gets pandas' name for an unnamed index where it has none: each saving adds such a column."""
    if names[:1] != [""]:
        return names
    name = "Unnamed: 0"
    while name in names:
        name += ".1"
    return [name, *names[1:]]


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
    return _table_of(rows, path=path, line_N=line_N)


def _read_json(path: Path) -> Table:
    values = read_json(read_text(path), path=path)
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        raise AnnotationError("JSON that is no table", where=str(path), expected="a list of objects, one for each image")
    return _table_of(values, path=path, line_N=range(1, len(values) + 1))


def _table_of(rows: Sequence[dict[str, object]], *, path: Path, line_N: Sequence[int]) -> Table:
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    require_columns(list(names), where=str(path), error=AnnotationError)
    return Table(path=path, columns={name: [row.get(name) for row in rows] for name in names}, line_N=line_N)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa  # 0.1 s that other formats need not pay
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        table = pq.ParquetFile(path).read()
        require_columns(table.column_names, where=str(path), error=AnnotationError)
        columns = {name: table.column(name).to_pylist() for name in table.column_names}  # text is decoded here
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise AnnotationError(
            "malformed Parquet", where=str(path), got=str(error).splitlines()[0], expected="a Parquet file"
        ) from error
    return Table(path=path, columns=columns, line_N=range(1, table.num_rows + 1))
