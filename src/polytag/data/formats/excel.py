"""Excel workbooks (.xlsx): the rows of the first sheet, or of sheets that are named after splits, as texts of a CSV.

Through openpyxl, the extra `excel`. A workbook is a zip archive from a stranger: its size in memory is bounded before it is opened.
"""

import contextlib
import datetime
import importlib
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytag.data.formats.listing import first_repeated, reason, split_of
from polytag.errors import AnnotationError
from polytag.extras import explaining_missing_extras
from polytag.files import open_regular

MAX_UNPACKED_BYTES = 256 * 2**20
MAX_CELLS = 50_000_000
MAX_ROWS = 1_048_576
"""The rows of a sheet in Excel itself."""
_MERGED = re.compile(rb'<mergeCell\s[^>]*?ref="([A-Z0-9:]{1,20})"')
_CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The texts of a table, "" for an empty cell; the row of each in its sheet; and what is to be told."""

    columns: Mapping[str, Sequence[str]]
    line_N: Sequence[int]
    notes: Sequence[str] = ()


def read_workbook(path: Path) -> Sheet:
    """Read the first sheet, or all sheets where each has the name of a split, which is then the column `split`.

    Rows without a cell are passed over. Raises AnnotationError, with file and row, for what is no workbook, is too large, has
    merged cells, formulas without a stored value, a cell beyond the header or two columns of a name; MissingExtraError without
    openpyxl.
    """
    with explaining_missing_extras():
        openpyxl = importlib.import_module("openpyxl")
    has_formulas = _inspect(path)
    try:
        with contextlib.ExitStack() as stack, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and validations, which no label depends on
            files = [stack.enter_context(open_regular(path)) for _ in range(1 + has_formulas)]
            values = openpyxl.load_workbook(files[0], read_only=True, data_only=True).worksheets
            formulas = openpyxl.load_workbook(files[1], read_only=True).worksheets if has_formulas else [None] * len(values)
            return _read_sheets(path, values, formulas)
    except AnnotationError:
        raise
    except Exception as error:  # openpyxl raises whatever its parsers do
        got = f"{type(error).__name__}: {reason(error)}".splitlines()[0][:200]
        raise AnnotationError(
            "malformed Excel workbook",
            where=str(path),
            got=got,
            expected="an .xlsx file",
            next_step="save it again as .xlsx, or as CSV in UTF-8",
        ) from error


def _inspect(path: Path) -> bool:
    """Whether there are formulas; raises AnnotationError for what is no archive, one that unpacks to too much, and merged cells."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MAX_UNPACKED_BYTES:
                raise AnnotationError(
                    "the workbook is too large",
                    where=str(path),
                    got=f"{size:,} bytes unpacked",
                    expected=f"at most {MAX_UNPACKED_BYTES:,}",
                    next_step="save the sheet as CSV, which has no such limit",
                )
            sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
            has_formulas = [_has_formulas(path, archive, name) for name in sheets]  # of all, for the merged cells
            return any(has_formulas)
    except AnnotationError:
        raise
    except Exception as error:  # zipfile raises whatever its decompressors do
        raise AnnotationError(
            "malformed Excel workbook",
            where=str(path),
            got="an old .xls workbook, or one with a password" if _is_old(path) else reason(error)[:200],
            expected="an .xlsx file",
            next_step="save it again as .xlsx without a password, or as CSV in UTF-8",
        ) from error


def _is_old(path: Path) -> bool:
    """Whether it begins as the compound files of Microsoft do."""
    try:
        with open_regular(path) as file:
            return file.read(4) == b"\xd0\xcf\x11\xe0"
    except OSError:
        return False


def _has_formulas(path: Path, archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a sheet has formulas; raises AnnotationError for merged cells."""
    before = b""
    found = False
    with archive.open(name) as file:
        while chunk := file.read(_CHUNK):
            if match := _MERGED.search(before + chunk):
                raise AnnotationError(
                    "merged cells",
                    where=f"{path}: {name.rpartition('/')[2]}",
                    got=match[1].decode(),
                    expected="a value in every cell, because only the first of merged cells has one",
                    next_step="unmerge the cells and fill them in, or save the sheet as CSV",
                )
            found = found or b"<f>" in before + chunk or b"<f " in before + chunk
            before = chunk[-200:]
    return found


def _read_sheets(path: Path, values: Sequence[Any], formulas: Sequence[Any]) -> Sheet:
    splits = [split_of(sheet.title) for sheet in values]
    is_by_split = len(values) > 1 and all(splits)
    if not values:
        raise AnnotationError("a workbook without a sheet", where=str(path), got="no table of cells", expected="one sheet or more")
    chosen = range(len(values)) if is_by_split else range(1)
    header: list[str] | None = None
    rows: list[tuple[str, ...]] = []
    line_N: list[int] = []
    num_cells = 0
    for number in chosen:
        where = f"{path}: sheet {values[number].title!r}"
        is_header = True
        for line, row in _rows(values[number], formulas[number], where=where):
            num_cells += len(row)
            if num_cells > MAX_CELLS or line > MAX_ROWS:
                raise AnnotationError(
                    "the workbook is too large",
                    where=f"{where}, row {line}",
                    got=f"more than {min(num_cells, MAX_CELLS):,} cells" if num_cells > MAX_CELLS else f"row {line:,}",
                    expected=f"at most {MAX_ROWS:,} rows and {MAX_CELLS:,} cells",
                    next_step="save the sheet as CSV, which has no such limit",
                )
            if not any(row):
                continue
            if is_header:
                header = _header(row, header, where=f"{where}, row {line}")
                is_header = False
                continue
            assert header is not None
            if any(row[len(header) :]):
                raise AnnotationError(
                    "a row does not fit the header",
                    where=f"{where}, row {line}",
                    got=f"{len(row)} cells",
                    expected=f"{len(header)}, as in the first row",
                )
            cells = (*row[: len(header)], *[""] * (len(header) - len(row)))
            rows.append((*cells, splits[number] or "") if is_by_split else cells)
            line_N.append(line)
    if header is None:
        raise AnnotationError("an empty table", where=str(path), got="no cell", expected="a header and one row per image")
    names = [*header, "split"] if is_by_split else header
    columns = dict(zip(names, list(zip(*rows, strict=True)) or [()] * len(names), strict=True))
    others = [sheet.title for number, sheet in enumerate(values) if number not in chosen]
    notes = [f"only the first sheet of {path.name} is read, not " + ", ".join(map(repr, others[:10]))] if others else []
    return Sheet(columns=columns, line_N=line_N, notes=notes)


def _header(row: Sequence[str], first: list[str] | None, *, where: str) -> list[str]:
    names = [name.strip() for name in row]
    while names and not names[-1]:
        names.pop()
    if first is not None and names != first:
        raise AnnotationError(
            "two sheets disagree about their columns", where=where, got=", ".join(names), expected=", ".join(first)
        )
    if (twice := first_repeated(name for name in names if name)) is not None:
        raise AnnotationError("a column is given twice", where=where, got=repr(twice), expected="every column once")
    unnamed = (f"Unnamed: {number}" for number in itertools.count())
    return [name or next(unnamed) for name in names]


def _rows(values: Any, formulas: Any, *, where: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The number and the texts of each row; what a sheet says of its own size is not believed."""
    sheets = [values] if formulas is None else [values, formulas]
    for sheet in sheets:
        sheet.reset_dimensions()
    for line, both in enumerate(zip(*(sheet.iter_rows(values_only=True) for sheet in sheets), strict=True), start=1):
        row = both[0]
        for cell, formula in zip(row, both[-1], strict=True):
            if cell is None and formula is not None:
                raise AnnotationError(
                    "a formula without a stored value",
                    where=f"{where}, row {line}",
                    got=str(formula)[:200],
                    expected="a value: formulas are not computed",
                    next_step="open the workbook in a spreadsheet and save it, or save the sheet as CSV",
                )
        yield line, tuple(map(_text, row))


def _text(cell: object) -> str:
    """A cell as a spreadsheet writes it into a CSV."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell).strip()
