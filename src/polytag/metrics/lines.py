"""The lines of tables and notes, each with its kind, for a terminal of any width. Needs the standard library only."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from polytag.text import aligned, num_places

NAME_WIDTHS = (18, 12, 8)
"""Characters of the name of a run as a heading: the first that fits."""

_FEWEST_PLACES = 10  # for the name of a class


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line and its kind: "heading", "row", "note", or "" for an empty one."""

    text: str
    kind: str


def note_lines(notes: Sequence[str], *, width: int | None = None) -> list[Line]:
    """The notes, wrapped between words where there is a width."""
    return [Line(text=text, kind="note") for note in notes for text in (_wrapped(note, width) if width else [note])]


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, gap_after: int = 0, width: int | None = None
) -> list[Line]:
    """The aligned table, with an empty line after `gap_after` rows. A name that `width` leaves no room for precedes its row."""
    table = [list(headings), *(list(row) for row in rows)]
    numbers = max(num_places("  ".join(["", *cells])) for cells in _padded([row[1:] for row in table]))
    above = [width is not None and num_places(row[0]) > max(width - numbers, _FEWEST_PLACES) for row in table]
    texts = aligned([["  " if is_above else row[0], *row[1:]] for row, is_above in zip(table, above, strict=True)])
    lines: list[Line] = []
    for number, (row, text, is_above) in enumerate(zip(table, texts, above, strict=True)):
        kind = "row" if number else "heading"
        if is_above and width is not None:
            lines += [Line(text=part, kind=kind) for part in _wrapped(row[0], width)]
        lines.append(Line(text=text, kind=kind))
        if gap_after and number == gap_after:
            lines.append(Line(text="", kind=""))
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, broken at its spaces, and inside a word where that is longer than a line."""
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells, each as wide as the widest of its column."""
    widths = [max(map(num_places, column)) for column in zip(*rows, strict=True)]
    return [[" " * (width - num_places(cell)) + cell for cell, width in zip(row, widths, strict=True)] for row in rows]


def shortened(name: str, width: int = NAME_WIDTHS[0]) -> str:
    """The name of a run as a heading: a long name is cut in the middle, since names of similar runs differ at their ends."""
    if len(name) <= width:
        return name
    half = (width - 1) // 2
    return f"{name[: width - 1 - half]}…{name[-half:]}"
