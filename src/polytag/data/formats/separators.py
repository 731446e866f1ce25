"""What divides the labels of one cell, decided from all cells of the column.

A mark such as | divides labels wherever it occurs. A space may also be part of a name (`traffic light`): it divides where the words
recombine as labels do. What the cells do not tell is a doubt that names `--separator`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from polytag.data.formats.reading_log import ReadingLog
from polytag.errors import AnnotationError

NONE = "none"
"""The separator of a column in which each cell is one label."""
_MARKS = "|;,\n\t#、，；｜"
_UNUSUAL = ("/", "&", "+", "-", "_", ":", "~", "\\", ">", ".")
_ESCAPED = {r"\n": "\n", r"\t": "\t"}  # as a shell passes them on
_SHARE = 0.9  # of the rows with several words, for a decision; rare labels may occur once


def divide(text: str, separator: str) -> tuple[str, ...]:
    """The labels of a cell, without surrounding spaces; a space stands for any run of spaces."""
    if separator == NONE:
        return (text.strip(),) if text.strip() else ()
    parts = text.split() if separator == " " else text.split(_ESCAPED.get(separator, separator))
    return tuple(part.strip() for part in parts if part.strip())


def find_separator(cells: Mapping[str, int], *, name: str, where: Callable[[str], str], log: ReadingLog) -> str:
    """The separator of a column, from its different cells and their counts.

    `where` is the file and line of a cell, for messages. Raises AnnotationError where two marks divide labels, and, unless doubts
    are accepted, where the cells do not tell whether a mark divides labels or is part of their names.
    """
    marks = [mark for mark in _MARKS if _is_mark(mark, cells)]
    if len(marks) > 1:
        cell = next(cell for cell in cells if marks[1] in cell)
        raise AnnotationError(
            "the separator of the labels is ambiguous",
            where=where(cell),
            got=" and ".join(map(repr, marks)) + f" in column {name!r}",
            expected="one of them",
            next_step=f"choose it with the option separator, such as --separator {marks[0]!r}",
        )
    if marks:
        if marks[0] != "|" and _is_mostly_isolated(cells, marks[0]):
            log.doubt(_doubt(cells, marks[0], name=name, where=where))
        log.found("separator", repr(marks[0]))
        return marks[0]
    return _space_or_none(cells, name=name, where=where, log=log)


def _is_mark(mark: str, cells: Mapping[str, int]) -> bool:
    if mark == "#":  # also in `C#`; hashtags begin with it
        texts = [cell.strip() for cell in cells if cell.strip()]
        are_tags = bool(texts) and all(text.startswith("#") for text in texts)
        return are_tags or any(len(divide(text, mark)) > 1 for text in texts)
    return any(mark in cell for cell in cells)


def _is_mostly_isolated(cells: Mapping[str, int], mark: str) -> bool:
    """Whether most divided cells share no part with any other: names that contain the mark, such as `tench, Tinca tinca`."""
    divided = {parts for cell in cells if len(parts := divide(cell, mark)) > 1}
    num_with = Counter(part for parts in {*divided, *(divide(cell, mark) for cell in cells)} for part in set(parts))
    isolated = [parts for parts in divided if all(num_with[part] == 1 for part in parts)]
    return len(divided) > 1 and 2 * len(isolated) > len(divided)


def _space_or_none(cells: Mapping[str, int], *, name: str, where: Callable[[str], str], log: ReadingLog) -> str:
    words = {cell: divide(cell, " ") for cell in cells}
    several = {cell: parts for cell, parts in words.items() if len(parts) > 1}
    if not several:
        return _unusual_or_none(cells, name=name, where=where, log=log)
    if all(part.isdecimal() for parts in words.values() for part in parts):
        log.found("separator", "a space, between numbers")
        return " "
    num_rows = sum(cells[cell] for cell in several)
    num_with = Counter(part for parts in set(words.values()) for part in set(parts))
    explained = sum(cells[cell] for cell, parts in several.items() if all(num_with[part] > 1 for part in parts))
    repeated = sum(cells[cell] for cell, parts in several.items() if len(set(parts)) < len(parts))
    shared = Counter(part for parts in set(several.values()) for part in set(parts))
    is_prose = repeated > 0.05 * num_rows  # a label is in a cell once, and "a" or "the" often twice
    if not is_prose and explained >= _SHARE * num_rows and len(several) > 2 and max(shared.values()) > 1:
        log.found("separator", "a space: the words occur alone or in other combinations; --separator none keeps cells whole")
        return " "
    if not explained and num_rows >= 2 * len(several):  # names of several words, each in several rows
        return NONE
    log.doubt(_doubt(several, " ", name=name, where=where))
    return NONE if is_prose or 2 * explained < num_rows else " "


def _unusual_or_none(cells: Mapping[str, int], *, name: str, where: Callable[[str], str], log: ReadingLog) -> str:
    """No separator; cells whose parts recombine by a mark such as "+" are a doubt."""
    for mark in _UNUSUAL:
        parts_of = {cell: divide(cell, mark) for cell in cells}
        several = {cell: parts for cell, parts in parts_of.items() if len(parts) > 1}
        num_with = Counter(part for parts in parts_of.values() for part in set(parts))
        explained = sum(all(num_with[part] > 1 for part in parts) for parts in several.values())
        if several and explained >= _SHARE * len(several):
            log.doubt(_doubt(several, mark, name=name, where=where))
    return NONE


def _doubt(cells: Mapping[str, object] | Sequence[str], mark: str, *, name: str, where: Callable[[str], str]) -> AnnotationError:
    shown = [cell for cell in cells if len(divide(cell, mark)) > 1]
    what = "spaces" if mark == " " else f"the character {mark!r}"
    return AnnotationError(
        f"{what} between labels, or inside their names",
        where=where(shown[0]),
        got=", ".join(repr(cell[:80]) for cell in shown[:3]) + f" in column {name!r}",
        expected="cells that tell: labels that occur alone and in several combinations, or names of their own",
        next_step=f"choose with the option separator: --separator {mark!r} for several labels in a cell, --separator none for one",
    )
