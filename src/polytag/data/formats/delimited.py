"""CSV as other programs write it: which character divides the cells, and which rows fit the header."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

BEGINNING = 65_536
"""Characters of a file that its dialect is decided by."""
_DELIMITERS = "\t;,"  # of equal evidence, the first: tabs are never part of a name, commas often
_NUM_RECORDS = 50
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t]*(\r\n|\r|\n|$)', re.IGNORECASE)  # Excel's own
_OWN = ("id,file_name,split,", "id,image,error,labels,")  # the class names that follow may hold any character


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a CSV file divides its cells.

    skips_space   whether a space follows each delimiter, as in Roboflow's tables
    has_sep_line  whether the first line is `sep=;` instead of the header
    """

    delimiter: str
    skips_space: bool = False
    has_sep_line: bool = False


def dialect_of(beginning: str) -> Dialect:
    """The dialect of a file by its first `BEGINNING` characters.

    Of comma, semicolon (the default of spreadsheets in many countries) and tab, the one by which most rows have as many cells as
    the header. What is in quotes divides nothing.
    """
    if beginning.startswith(_OWN):
        return Dialect(delimiter=",")
    told = _SEP_LINE.match(beginning)
    text = beginning[told.end() :] if told else beginning
    is_cut = len(beginning) >= BEGINNING
    records = {mark: _records(text, mark, is_cut=is_cut) for mark in (told[1] if told else _DELIMITERS)}
    delimiter = max(records, key=lambda mark: _evidence(records[mark]))
    others = (records[delimiter] or [[]])[0][1:]
    return Dialect(
        delimiter=delimiter,
        skips_space=bool(others) and all(name.startswith(" ") for name in others),
        has_sep_line=told is not None,
    )


def _records(text: str, delimiter: str, *, is_cut: bool) -> list[list[str]]:
    records: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for record in reader:
            if any(map(str.strip, record)):
                records.append(record)
            if len(records) > _NUM_RECORDS:
                return records
    except csv.Error:  # the file itself is refused with the line
        pass
    return records[:-1] if is_cut and len(records) > 1 else records


def _evidence(records: Sequence[Sequence[str]]) -> tuple[bool, float]:
    """Whether there are several columns, and the share of the rows that have them all; else the number of cells in all rows."""
    if not records or len(records[0]) < 2:
        return (False, sum(map(len, records)))
    rows = records[1:]
    return (True, sum(len(row) == len(records[0]) for row in rows) / len(rows) if rows else 0.0)


def fitted(row: list[str], num_columns: int) -> list[str] | None:
    """The row with as many cells as the header; None where it has more, and they are not empty.

    Spreadsheets leave out the last cells of a row where they are empty, or add empty ones.
    """
    if len(row) > num_columns and any(map(str.strip, row[num_columns:])):
        return None
    return row[:num_columns] + [""] * (num_columns - len(row))


def is_blank(row: Sequence[str]) -> bool:
    """Whether no cell has a content, as in the rows that spreadsheets leave below the last one."""
    return not any(map(str.strip, row))
