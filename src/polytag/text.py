"""Numbers, counts and aligned tables as text; numbers as JSON holds them."""

import math
import unicodedata
from collections.abc import Sequence

UNDEFINED = "–"

_SINGULAR = {"classes": "class"}


def counted(number: int, unit: str) -> str:
    """A count with its unit, given in the plural: "1 class", "5,823 images"."""
    return f"{number:,} {_SINGULAR.get(unit, unit.removesuffix('s')) if number == 1 else unit}"


def number_text(value: float, *, digits: int = 3) -> str:
    """A number with this many decimals; an en dash where it is undefined."""
    return UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"


def whole_text(value: float) -> str:
    """An estimated count, rounded: "1,234"; an en dash where it is undefined."""
    return UNDEFINED if math.isnan(value) else f"{value:,.0f}"


def interval_text(low: float, high: float, *, digits: int = 3, dash: str = " – ") -> str:
    """An interval, "0.612 – 0.655"; empty where none was computed."""
    return "" if math.isnan(low) else f"{low:.{digits}f}{dash}{high:.{digits}f}"


def percent(share: float) -> str:
    """A share of 1 as a percentage of four significant digits: "12.5%"."""
    return f"{100 * share:.4g}%"


def printable(text: str) -> str:
    """The text with U+FFFD for each character that is not printable, such as an escape sequence of a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row: columns two spaces apart, the first aligned left and the others right."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        blanks = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [row[0] + blanks[0], *(blank + cell for cell, blank in zip(row[1:], blanks[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _width(text: str) -> int:
    """Cells of a terminal: a wide character takes two, a combining mark none."""
    places = (0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)
    return sum(places)


def json_number(value: float) -> float | None:
    """The value as a Python float; None, JSON's null, where it is undefined."""
    return None if math.isnan(value) else float(value)
