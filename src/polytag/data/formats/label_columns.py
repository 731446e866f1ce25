"""Which columns of a table are its labels: a column of label lists, or the class columns."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from polytag.data.formats.class_columns import JointColumns, target_of
from polytag.data.formats.column_names import LABELS_COLUMNS, PASSED_OVER, first_of, ignoring, rank_of_labels
from polytag.data.formats.label_lists import has_brackets, list_in_brackets
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.rows import Table
from polytag.data.formats.separators import divide
from polytag.errors import AnnotationError

_TEXT_COLUMNS = ("text",)  # of Hugging Face, also for captions
METADATA = re.compile(
    r"(cv_?|k_?)?fold|is[_ ].+|.+[_ ]id|patient|study|series|gender|sex|age|valid|validated|verified|reviewed|checked|flag|flagged"
    r"|train|val|test|used|usable|group|batch|cluster|site|source|view|weight|score|confidence|quality|width|height|year|month"
    r"|day|hour|night|duplicate|duplicated|annotator|frame|row|order|rank|number|count",
    re.IGNORECASE,
)
"""Names of columns of 1 and 0 that are most probably no classes."""


def label_columns(all_of: JointColumns, rest: Sequence[str], *, log: ReadingLog) -> tuple[str, tuple[str, ...]]:
    """The column of label lists, or "" and the class columns."""
    named = sorted((name for name in rest if rank_of_labels(name) is not None), key=lambda name: rank_of_labels(name) or 0)
    lists = [name for name in named if not all_of.facts(name).is_class]
    hold_lists = frozenset(lists)
    candidates = [name for name in rest if name not in hold_lists and _is_candidate(all_of, name)]
    classes = _without_metadata(all_of, candidates, is_beside=bool(lists), log=log)
    certain = [name for name in classes if all_of.facts(name).is_class]
    if not certain and lists:
        return lists[0], ()
    if certain and set(certain) <= set(named):  # nothing but one column called label, or the like
        return "", _present_or_absent(all_of, certain, log=log)
    if not certain:
        text = first_of(rest, _TEXT_COLUMNS)
        if text and _has_lists(list(all_of.first_cells(text))):
            return text, ()
        if all_of.num_rows and not any(all_of.facts(name).num_targets or all_of.facts(name).is_soft for name in classes):
            raise _no_labels(all_of, rest)
    taken = frozenset(classes)
    others = [name for name in rest if name not in taken]
    _doubt_counts(all_of, others, log=log)
    agreeing = _compare_with_lists(all_of, others, classes, log=log)
    lists = [name for name in lists if name not in agreeing and all_of.facts(name).num_given]
    if lists and _lists_or_classes(all_of, lists[0], classes, log=log):
        return lists[0], ()
    return "", classes


def _is_candidate(all_of: JointColumns, name: str) -> bool:
    facts = all_of.facts(name)
    if PASSED_OVER.fullmatch(name):  # no index has the same number in many rows
        return name.lower() in ("id", "index") and facts.is_class and facts.num_distinct < min(3, all_of.num_rows)
    return facts.may_be_class


def _without_metadata(all_of: JointColumns, candidates: Sequence[str], *, is_beside: bool, log: ReadingLog) -> tuple[str, ...]:
    """The candidates for class columns without those that have names of metadata: a doubt where these hold 1 and 0.

    A name that begins with "is" is no doubt where most do. Beside label lists, nothing is asked.
    """
    flags = [name for name in candidates if name.lower().startswith("is")]
    usual = frozenset(flags if 2 * len(flags) >= len(candidates) else ())
    doubtful = dict.fromkeys(name for name in candidates if METADATA.fullmatch(name) and name not in usual)
    others = tuple(name for name in candidates if name not in doubtful)
    asked = [name for name in doubtful if all_of.facts(name).is_class]
    if asked and not is_beside:
        log.doubt(
            AnnotationError(
                "columns of 1 and 0 that may be no classes",
                where=f"{all_of.tables[0].path}:1",
                got=", ".join(map(repr, asked[:20])),
                expected="columns of classes, named after them",
                next_step=f"leave them out with {ignoring(asked[:5])}; "
                "or take all columns of 1 and 0 as classes with --class-column '*'",
            )
        )
    return others if others or is_beside else tuple(candidates)


def _present_or_absent(all_of: JointColumns, names: Sequence[str], *, log: ReadingLog) -> tuple[str, ...]:
    """Class columns that are called labels or the like; one alone may be that of the classes 0 and 1, which is a doubt."""
    if len(names) == 1:
        log.doubt(
            AnnotationError(
                "one column of 1 and 0",
                where=f"{all_of.tables[0].path}:1",
                got=f"column {names[0]!r}",
                expected="the names of labels, or a column for each class",
                next_step=f"read it as one class, present or absent, with --class-column {names[0]!r}; or as the classes '0' and "
                f"'1' with --labels-column {names[0]!r}",
            )
        )
    return tuple(names)


def _doubt_counts(all_of: JointColumns, others: Sequence[str], *, log: ReadingLog) -> None:
    """A doubt about columns that may say how often a class is in an image."""
    counts = [
        name for name in others if all_of.facts(name).is_count and not METADATA.fullmatch(name) and rank_of_labels(name) is None
    ]
    counts = [name for name in counts if not PASSED_OVER.fullmatch(name)]
    if counts:
        log.doubt(
            AnnotationError(
                "columns of whole numbers that may be counts of classes",
                where=f"{all_of.tables[0].path}:1",
                got=", ".join(map(repr, counts[:20])),
                expected="1 (present) and 0 (absent) in the columns of classes",
                next_step=f"write 1 for each count above 0; or leave them out with {ignoring(counts[:5])}",
            )
        )


def _no_labels(all_of: JointColumns, rest: Sequence[str]) -> AnnotationError:
    return AnnotationError(
        "no column of labels",
        where=f"{all_of.tables[0].path}:1",
        got=", ".join(map(repr, rest[:20])) or "a column of images alone",
        expected="a column of label lists called one of " + ", ".join(LABELS_COLUMNS) + "; or a column of 1 and 0 for each class",
        next_step="name the column of label lists with --labels-column, or the class columns with --class-column",
    )


def _lists_or_classes(all_of: JointColumns, labels: str, classes: Sequence[str], *, log: ReadingLog) -> bool:
    """Whether the labels are the lists rather than the class columns beside them: a doubt."""
    table = all_of.tables[0]
    log.doubt(
        AnnotationError(
            "label lists beside class columns",
            where=f"{table.path}:1",
            got=f"column {labels!r}, and 1 and 0 in " + ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else ""),
            expected="one of them",
            next_step=f"take the class columns with --ignore-column {labels!r}, or the lists with --labels-column {labels!r}",
        )
    )
    return len(classes) < 2


# ---- lists that repeat the class columns ----


def _compare_with_lists(all_of: JointColumns, others: Sequence[str], classes: Sequence[str], *, log: ReadingLog) -> frozenset[str]:
    """The columns whose lists name the classes that the class columns have; where some rows differ, which is a doubt."""
    found: set[str] = set()
    names = frozenset(classes)
    for name in others:
        if not _names_classes(all_of.first_cells(name), names):
            continue
        found.add(name)
        difference = next(filter(None, (_first_difference(table, name, classes) for table in all_of.tables)), None)
        if difference is None:
            log.found("beside them", f"column {name!r}, which names the same labels in every row")
            continue
        where, got = difference
        log.doubt(
            AnnotationError(
                "two ways to label an image, which differ",
                where=where,
                got=f"{got} in column {name!r} and other classes in the class columns",
                expected="the same classes",
                next_step=f"take the class columns with --ignore-column {name!r}, or the lists with --labels-column {name!r}",
            )
        )
    return frozenset(found)


def _items(cell: object) -> tuple[str, ...]:
    if isinstance(cell, list):
        return tuple(map(str, cell))
    if not isinstance(cell, str):
        return ()
    if has_brackets(cell):
        return list_in_brackets(cell) or ()
    mark = next((mark for mark in "|;," if mark in cell), "none")
    return divide(cell, mark)


def _names_classes(cells: Iterable[object], names: frozenset[str]) -> bool:
    items = [item for cell in cells if isinstance(cell, str | list) for item in _items(cell)]
    return bool(items) and sum(item in names for item in items) >= 0.9 * len(items)


def _first_difference(table: Table, name: str, classes: Sequence[str]) -> tuple[str, str] | None:
    known: dict[object, int | None] = {}
    columns = [table.columns[of_class] for of_class in classes if of_class in table.columns]
    if name not in table.columns:
        return None
    for row, cell in enumerate(table.columns[name]):
        items = frozenset(_items(cell))
        for of_class, cells in zip(classes, columns, strict=False):
            target = known.setdefault(cells[row], target_of(cells[row]))
            if target in (0, 1) and (of_class in items) != bool(target):
                return table.where(row), repr(cell)[:80]
    return None


def _has_lists(cells: Sequence[object]) -> bool:
    """Whether texts are label lists rather than sentences: short parts, divided by commas, of which most occur several times."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    parts = [part for text in texts for part in _items(text)]
    once = sum(number == 1 for number in Counter(parts).values())
    return any("," in text or "|" in text for text in texts) and once <= 0.1 * len(parts) and all(len(p) < 40 for p in parts)
