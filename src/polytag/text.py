"""Numbers, counts and aligned tables as text; numbers as JSON holds them; and text of a stranger, made harmless where it is shown.

A *control character* here is what acts instead of being shown: C0 and C1 (escape sequences begin with them), line and paragraph
separators, direction overrides, halves of surrogate pairs, and U+FFFE and U+FFFF, which XML forbids. The direction marks U+200E,
U+200F and U+061C are none: Hebrew and Arabic names hold them, and they turn no text round.
"""

import difflib
import math
import re
import shlex
import unicodedata
from collections.abc import Sequence

UNDEFINED = "–"
_MAX_COMPARED = 2_000  # names that a suggestion is searched among

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_DIRECTION_MARKS = "\u061c\u200e\u200f"
_CONTROL_IN_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#+!|~&:.@=$^]")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")

_SINGULAR = {"classes": "class"}


def counted(number: int, unit: str) -> str:
    """A count with its unit, given in the plural: "1 class", "5,823 images"."""
    return f"{number:,} {_SINGULAR.get(unit, unit.removesuffix('s')) if number == 1 else unit}"


def number_text(value: float, *, digits: int = 3) -> str:
    """A number with this many decimals; an en dash where it is undefined."""
    return UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"


def with_minus(number: str) -> str:
    """A number as a page shows it: with a minus sign in place of each hyphen."""
    return number.replace("-", "−")


def whole_text(value: float) -> str:
    """An estimated count, rounded: "1,234"; an en dash where it is undefined."""
    return UNDEFINED if math.isnan(value) else f"{value:,.0f}"


def interval_text(low: float, high: float, *, digits: int = 3, dash: str = " – ") -> str:
    """An interval, "0.612 – 0.655"; empty where none was computed."""
    return "" if math.isnan(low) else f"{low:.{digits}f}{dash}{high:.{digits}f}"


def duration_text(seconds: float) -> str:
    """A length of time in one unit: "45 s", "12 min", "3.5 h"; empty where it is not known."""
    if math.isnan(seconds):
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def percent(share: float) -> str:
    """A share of 1 as a percentage of four significant digits: "12.5%"."""
    return f"{100 * share:.4g}%"


def printable(text: str) -> str:
    """The text in one line, with U+FFFD for each control character."""
    return _CONTROL.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The words of a text with one space between them, without control characters."""
    return " ".join(_CONTROL.sub(" ", text).split())


def printable_lines(text: str) -> str:
    """As `printable`, with line breaks and tabs."""
    return _CONTROL_IN_LINES.sub("\ufffd", text)


def control_character(text: str) -> str:
    """The first control character as U+001B; "" where there is none."""
    found = _CONTROL.search(text)
    return f"U+{ord(found[0]):04X}" if found else ""


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen: spaces, and characters of no width."""
    return all(unicodedata.category(letter)[0] in "ZC" for letter in text)


def word(value: object) -> str:
    """A path or a name as a word of a command that is shown: in quotes where a shell would take it for several, or for more."""
    return shlex.quote(str(value))


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: a byte of a file name that is no UTF-8 becomes `\\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()


def markdown(text: str) -> str:
    """The text as Markdown that shows it: no heading, link, HTML or cell of a table."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def cell(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula: an apostrophe goes before = + - @, a tab and a carriage return.

    Text that has apostrophes before such a character gets one more, so that `text_of_cell` gives every text back.
    """
    return "'" + text if _FORMULA.match(text) else text


def text_of_cell(text: str) -> str:
    """What `cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row: columns two spaces apart, the first aligned left and the others right."""
    widths = [max(map(num_places, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        blanks = [" " * (width - num_places(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [row[0] + blanks[0], *(blank + cell for cell, blank in zip(row[1:], blanks[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def num_places(text: str) -> int:
    """Cells of a terminal: a wide character takes two, a combining or direction mark none."""
    places = (1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text if not _has_no_width(letter))
    return sum(places)


def _has_no_width(letter: str) -> bool:
    return letter in _DIRECTION_MARKS or unicodedata.combining(letter) > 0


def json_number(value: float) -> float | None:
    """The value as a Python float; None, JSON's null, where it is undefined."""
    return None if math.isnan(value) else float(value)


def nearest(name: str, known: Sequence[str]) -> str:
    """ " (did you mean 'aeroplane'?)" if one of the first known names has a similar spelling; else ""."""
    known = known[:_MAX_COMPARED]
    by_letters = {folded(other): other for other in known}
    close = [by_letters[folded(name)]] if folded(name) in by_letters else difflib.get_close_matches(name, known, n=1)
    close = close or [other for other in known if min(len(name), len(other)) > 1 and (name in other or other in name)][:1]
    return f" (did you mean {close[0]!r}?)" if close else ""


def folded(name: str) -> str:
    """The letters and digits of a name, without capitals: what two spellings of it share."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
