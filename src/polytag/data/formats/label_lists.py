"""Columns of label lists: texts with a separator, and lists as JSON, Python, NumPy and PostgreSQL write them."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from polytag.data.formats.class_columns import is_blank_cell
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.rows import Table
from polytag.data.formats.separators import NONE, divide, find_separator
from polytag.errors import AnnotationError
from polytag.parsing import parse_json

LabelLists = list[tuple[str, ...] | None]
"""The labels of each row; None where they are unknown."""

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ITEM = re.compile(rf"\s*({_QUOTED}|[^\s,'\"\[\](){{}}:]+)\s*(,?)", re.DOTALL)
_WRAPPED = re.compile(r"(?:np\.|numpy\.)?(?:array|set|frozenset|list|tuple)\((.*?)(?:,\s*dtype=[\w'<>.]+)?\)", re.DOTALL)
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
_ERRORS = ("#N/A", "#REF!", "#VALUE!", "#NAME?")  # of spreadsheets
_WHOLE = re.compile(r"(\d+)\.0*")


def label_lists(tables: Sequence[Table], name: str, *, separator: str, log: ReadingLog) -> list[LabelLists]:
    """For each table, the label list of each row, None where it is null; the separator is that of all tables together.

    Raises AnnotationError, with the line, for a cell that cannot be read, and for 0/1 vectors, which do not name their classes.
    """
    if separator != NONE:
        _refuse_vectors(tables, name)
    is_literal = separator == NONE
    if separator == "auto":
        texts = Counter(cell for table in tables for cell in table.columns[name] if isinstance(cell, str))
        plain = {cell: count for cell, count in texts.items() if cell.strip() and not has_brackets(cell)}
        separator = find_separator(plain, name=name, where=lambda cell: _where(tables, name, cell), log=log)
    lists = [_lists(table, name, separator, is_literal=is_literal) for table in tables]
    for table, rows in zip(tables, lists, strict=True):
        given = ((label, row) for row, labels in enumerate(rows) for label in labels or ())
        doubt_blank_labels(given, table=table, name=name, log=log)
    return _whole_numbers(lists, log)


def doubt_blank_labels(labels: Iterable[tuple[str, int]], *, table: Table, name: str, log: ReadingLog) -> None:
    """A doubt about labels, given with their rows, that programs write for nothing: `nan`, `None`, the errors of spreadsheets."""
    seen: set[str] = set()
    for label, row in labels:
        if label in seen:
            continue
        seen.add(label)
        if is_blank_cell(label) or label in _ERRORS:
            log.doubt(
                AnnotationError(
                    "a label that may say that there is none",
                    where=table.where(row),
                    got=f"{label!r} in column {name!r}",
                    expected="the names of classes; nothing in the cell of an image without any",
                    next_step=f"empty such cells; or take {label!r} as a class with --yes, which --drop {label!r} leaves out",
                )
            )


def _lists(table: Table, name: str, separator: str, *, is_literal: bool) -> LabelLists:
    lists: LabelLists = []
    known: dict[str, tuple[str, ...]] = {}
    one_of: dict[str, str] = {}  # one text for each class, however many cells name it
    for row, cell in enumerate(table.columns[name]):
        if isinstance(cell, str):
            if cell not in known:
                labels = list_in_brackets(cell) if has_brackets(cell) and not is_literal else divide(cell, separator)
                if labels is None:
                    raise _bad_list(table, row, name)
                known[cell] = labels
            lists.append(known[cell])
        elif is_blank_cell(cell):
            lists.append(None)
        else:
            lists.append(tuple(one_of.setdefault(label, label) for label in _values(cell, table=table, row=row, name=name)))
    return lists


def _values(cell: object, *, table: Table, row: int, name: str) -> tuple[str, ...]:
    """The labels of a cell of JSON Lines or Parquet."""
    items: list[object] = cell if isinstance(cell, list) else [cell]
    labels: list[str] = []
    for item in items:
        if isinstance(item, float) and item.is_integer():
            item = int(item)
        if not isinstance(item, str | int) or isinstance(item, bool):
            raise _bad_list(table, row, name)
        labels.append(str(item).strip())
    return tuple(label for label in labels if label)


def _whole_numbers(lists: list[LabelLists], log: ReadingLog) -> list[LabelLists]:
    """The same lists; where all labels are whole numbers, without the ".0" that pandas writes in a column with an empty cell."""
    names = {label for rows in lists for labels in rows for label in labels or ()}
    if not names or not all(label.isdecimal() or _WHOLE.fullmatch(label) for label in names):
        return lists
    log.found("class names", "the numbers in the cells")
    if all(label.isdecimal() for label in names):
        return lists
    whole = {label: _WHOLE.sub(r"\1", label) for label in names}
    return [[None if labels is None else tuple(whole[label] for label in labels) for labels in rows] for rows in lists]


def _where(tables: Sequence[Table], name: str, cell: object) -> str:
    for table in tables:
        for row, other in enumerate(table.columns[name]):
            if other == cell:
                return table.where(row)
    raise AssertionError("the cell is in one of the tables")


# ---- lists in brackets ----


def has_brackets(cell: str) -> bool:
    """Whether a text is a list as a program prints it: in brackets or braces, or quoted texts in parentheses."""
    text = _unwrapped(cell)
    if text[:1] not in _BRACKETS or text[-1] != _BRACKETS[text[0]]:
        return False
    return text[0] != "(" or text == "()" or text[1:].lstrip()[:1] in ("'", '"')


def _unwrapped(cell: str) -> str:
    text = cell.strip()
    wrapped = _WRAPPED.fullmatch(text)
    return (wrapped[1].strip() or "[]") if wrapped else text


def list_in_brackets(cell: str) -> tuple[str, ...] | None:
    """The items of a printed list; None for one that cannot be read.

    Items are divided by commas; or, as NumPy prints them, by spaces, which is understood where they are quoted or numbers.
    """
    text = _unwrapped(cell)[1:-1].strip()
    items: list[str] = []
    by_comma: list[bool] = []
    at = 0
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            return None
        items.append(item[1])
        by_comma.append(bool(item[2]))
        at = item.end()
    if not all(by_comma[:-1]) and (any(by_comma) or not all(item[0] in "'\"" or _NUMBER.fullmatch(item) for item in items)):
        return None
    if any(item in ("...", "None", "nan", "NaN", "null") for item in items):
        return None
    return tuple(label for item in items if (label := _plain(item).strip()))


def _plain(item: str) -> str:
    """An item without its quotes and escapes."""
    if item[0] not in "'\"":
        return item
    if "\\" not in item:
        return item[1:-1]
    try:
        return str(parse_json(item) if item[0] == '"' else ast.literal_eval(item))  # one quoted text, by the pattern of items
    except (ValueError, SyntaxError):
        return re.sub(r"\\(.)", r"\1", item[1:-1], flags=re.DOTALL)


def _bad_list(table: Table, row: int, name: str) -> AnnotationError:
    return AnnotationError(
        "a list of labels cannot be read",
        where=table.where(row),
        got=f"{repr(table.columns[name][row])[:200]} in column {name!r}",
        expected="texts divided by the separator, or a list of texts",
        next_step="write the names of the classes that are present, or a column of 1 and 0 for each class",
    )


# ---- vectors ----


def _refuse_vectors(tables: Sequence[Table], name: str) -> None:
    """Raises AnnotationError where the cells are vectors of 0 and 1, one number for each class: nothing says which."""
    lengths: set[int] = set()
    first: tuple[Table, int] | None = None
    for table in tables:
        for row, cell in enumerate(table.columns[name]):
            if is_blank_cell(cell) or (isinstance(cell, list) and not cell):
                continue
            length = _vector_length(cell)
            if not length:
                return
            first = first or (table, row)
            lengths.add(length)
            if len(lengths) > 1:
                return
    if first is None:
        return
    table, row = first
    num = lengths.pop()
    raise AnnotationError(
        "labels as vectors of 0 and 1, without the names of the classes",
        where=table.where(row),
        got=f"{repr(table.columns[name][row])[:80]} in column {name!r}",
        expected="the names of the classes that are present, or one column for each class, named after it",
        next_step=f"divide the vectors into {num} columns, and write the names of the classes in the header",
    )


def _vector_length(cell: object) -> int:
    """The number of items if a cell is a vector of 0 and 1, of two items or more; else 0."""
    if isinstance(cell, str):
        text = _unwrapped(cell).strip("[](){} ")
        if not re.fullmatch(r"[-01.,;\s|]+|[TrueFals,;\s|]+", text):
            return 0
        items: Sequence[object] = re.split(r"[\s,;|]+", text.strip(" ,;|"))
        if len(items) == 1 and re.fullmatch(r"[01]{4,}", text):
            items = list(text)
    else:
        items = cell if isinstance(cell, list) else []
    bits = ("0", "1", "0.", "1.", "0.0", "1.0", "True", "False", 0, 1, 0.0, 1.0)
    try:
        return len(items) if len(items) > 1 and all(item in bits for item in items) else 0
    except TypeError:
        return 0
