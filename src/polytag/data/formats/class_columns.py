"""The cells of class columns: 1 (present), 0 (absent), -1 or nothing (unknown), in the spellings of other programs."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.data.formats.listing import TREATMENTS
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.rows import Table
from polytag.errors import AnnotationError

_WORDS: Mapping[str, int] = {"true": PRESENT, "yes": PRESENT, "false": ABSENT, "no": ABSENT}
_BLANKS = ("", "nan", "null", "none", "na", "n/a", "<na>")
_DECIMAL_COMMA = re.compile(r"(-?\d+),(\d+)")  # of spreadsheets in many countries
_NUM_LOOKED_AT = 1000
_MINUS_ONE = -2  # of a cell, until its meaning is known
_EXPECTED = "1 (present), 0 (absent), -1 or nothing (unknown)"


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """What the cells of a column are.

    num_given      cells that are not blank
    num_targets    of these, 1, 0 or -1
    num_fractions  of these, numbers between 0 and 1
    num_counts     of these, whole numbers from 0 to 999
    targets        which of 1, 0 and -1 occur
    num_distinct   different cells that are not blank
    """

    num_given: int = 0
    num_targets: int = 0
    num_fractions: int = 0
    num_counts: int = 0
    targets: frozenset[int] = frozenset()
    num_distinct: int = 0

    @cached_property
    def is_class(self) -> bool:
        """Whether every cell is a target, and some are given."""
        return 0 < self.num_given == self.num_targets

    @cached_property
    def is_count(self) -> bool:
        """Whether every cell is a small whole number, some are 0, and some above 1."""
        return ABSENT in self.targets and self.num_given == self.num_counts > self.num_targets

    @cached_property
    def is_soft(self) -> bool:
        """Whether every cell is a number from 0 to 1, and most are neither."""
        return self.num_given == self.num_targets + self.num_fractions and 2 * self.num_fractions > self.num_given

    @cached_property
    def may_be_class(self) -> bool:
        """Whether the column is a class, if need be with errors in it: at least half of its cells are targets."""
        return 2 * self.num_targets >= self.num_given or self.is_soft


def facts_of(cells: Iterable[object]) -> ColumnFacts:
    """What a column's cells are, from one look at each different cell."""
    try:
        counts = Counter(cells)
    except TypeError:  # lists and objects of JSON and Parquet
        return ColumnFacts(num_given=1)
    num_given = num_targets = num_fractions = num_counts = num_distinct = 0
    targets: set[int] = set()
    for cell, count in counts.items():
        if is_blank_cell(cell):
            continue
        num_given += count
        num_distinct += 1
        target = target_of(cell)
        number = _number(cell) if target is None else target
        num_counts += count if number is not None and 0 <= number < 1000 and number == int(number) else 0
        if target is not None:
            num_targets += count
            targets.add(target)
        elif _is_fraction(cell):
            num_fractions += count
    return ColumnFacts(
        num_given=num_given,
        num_targets=num_targets,
        num_fractions=num_fractions,
        num_counts=num_counts,
        targets=frozenset(targets),
        num_distinct=num_distinct,
    )


class JointColumns:
    """The columns of tables that are read together; facts about a column are computed once, on demand."""

    def __init__(self, tables: Sequence[Table]):
        self.tables = tables
        self.names = list(dict.fromkeys(chain.from_iterable(table.columns for table in tables)))
        self.num_rows = sum(map(len, tables))
        self._facts: dict[str, ColumnFacts] = {}

    def cells(self, name: str) -> Iterable[object]:
        """The cells of a column, of one table after the other."""
        return chain.from_iterable(table.columns[name] for table in self.tables if name in table.columns)

    def first_cells(self, name: str) -> Iterator[object]:
        """Of each table, the first cells that are not blank."""
        for table in self.tables:
            yield from (cell for cell in table.columns.get(name, ())[:_NUM_LOOKED_AT] if not is_blank_cell(cell))

    def facts(self, name: str) -> ColumnFacts:
        """What the cells of a column are."""
        if name not in self._facts:
            self._facts[name] = facts_of(self.cells(name))
        return self._facts[name]


def is_blank_cell(cell: object) -> bool:
    """Whether a cell says nothing: null, NaN, or their spellings."""
    if isinstance(cell, str):
        return cell.strip().lower() in _BLANKS
    return cell is None or (isinstance(cell, float) and cell != cell)


def target_of(cell: object) -> int | None:
    """The target that a cell is, UNKNOWN for a blank one; None for any other cell."""
    if is_blank_cell(cell):
        return UNKNOWN
    if isinstance(cell, str):
        text = cell.strip().lower()
        if text in _WORDS:
            return _WORDS[text]
    number = _number(cell)
    return int(number) if number in (1, 0, -1) else None


def _number(cell: object) -> float | None:
    if isinstance(cell, str):
        cell = _DECIMAL_COMMA.sub(r"\1.\2", cell.strip())
        if "_" in cell or len(cell) > 40 or not cell.isascii():
            return None
    try:
        return float(cell)  # pyright: ignore[reportArgumentType]  what is no number raises
    except (TypeError, ValueError, OverflowError):
        return None


def _is_fraction(cell: object) -> bool:
    number = _number(cell)
    return number is not None and 0 < number < 1


def target_column(table: Table, name: str, *, minus_one: int = UNKNOWN) -> list[int]:
    """The targets of a class column; raises AnnotationError, with the line, for a cell that is not a target.

    `minus_one` is what -1 means; a blank cell is UNKNOWN.
    """
    cells = table.columns[name]
    known: dict[object, int] = {}  # a column has few distinct values
    try:
        for cell in set(cells):
            target = target_of(cell)
            if target is None:
                raise TypeError
            known[cell] = minus_one if target == UNKNOWN and not is_blank_cell(cell) else target
    except TypeError:  # also of lists and objects
        row = next(row for row, cell in enumerate(cells) if isinstance(cell, list | dict) or target_of(cell) is None)
        raise _no_target(table, row, name) from None
    return [known[cell] for cell in cells]


def _no_target(table: Table, row: int, name: str) -> AnnotationError:
    cell = table.columns[name][row]
    is_soft = not isinstance(cell, list | dict) and _is_fraction(cell)
    ignore = f"leave it out with --ignore-column {name!r}"
    return AnnotationError(
        "soft labels" if is_soft else "a label outside 1, 0, -1",
        where=table.where(row),
        got=f"{repr(cell)[:80]} in column {name!r}",
        expected=_EXPECTED,
        next_step=f"write 1 from a value of your choice on, and 0 below it; or {ignore}"
        if is_soft
        else f"if the column is no class, {ignore}, or name the class columns with --class-column",
    )


def class_targets(tables: Sequence[Table], names: Sequence[str], *, minus_one: str, log: ReadingLog) -> list[np.ndarray]:
    """For each table the targets of these class columns, int8 N x C; -1 means what the option says, else UNKNOWN.

    Columns of 1 and -1 without a single 0 are most probably those of a program that writes -1 for absent: a doubt.
    """
    blocks = [_target_block(table, names) for table in tables]
    if not any((block == _MINUS_ONE).any() for block in blocks):
        return blocks
    meaning = TREATMENTS[minus_one or "ignore"]
    has = {target: any((block == target).any() for block in blocks) for target in (PRESENT, ABSENT)}
    if not minus_one and has[PRESENT] and not has[ABSENT]:
        table, row, name = _first_minus_one(tables, names)
        log.doubt(
            AnnotationError(
                "labels of 1 and -1, and never 0",
                where=table.where(row),
                got=f"-1 in column {name!r}, which would be an unknown label: no class would have a negative",
                expected="0 for an absent label, -1 for an unknown one",
                next_step="say what -1 means: --minus-one negative (absent), ignore (unknown) or positive (present)",
            )
        )
        meaning = ABSENT
    words = {UNKNOWN: "unknown", ABSENT: "absent", PRESENT: "present"}
    log.found("-1 is", words[meaning] + ("" if minus_one else "; --minus-one decides"))
    return [np.where(block == _MINUS_ONE, np.int8(meaning), block) for block in blocks]


def _first_minus_one(tables: Sequence[Table], names: Sequence[str]) -> tuple[Table, int, str]:
    for table in tables:
        for row in range(len(table)):
            for name in names:
                cell = table.columns[name][row]
                if not is_blank_cell(cell) and target_of(cell) == UNKNOWN:
                    return table, row, name
    raise AssertionError("a cell of these columns is -1")


def _target_block(table: Table, names: Sequence[str]) -> np.ndarray:
    columns = [target_column(table, name, minus_one=_MINUS_ONE) for name in names]
    return np.array(columns, dtype=np.int8).reshape(len(names), len(table)).T
