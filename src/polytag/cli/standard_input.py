"""A list of images from standard input: a path or an address a line."""

import sys
from collections.abc import Iterator, Sequence

from polytag.errors import UsageError

MARK = "-"
_MAX_LINE_BYTES = 65_536
_MAX_LINES = 10_000_000


def with_standard_input(sources: Sequence[str]) -> list[str]:
    """The arguments, with the lines of standard input in the place of "-". Empty lines, and those of spaces alone, are passed over.

    Lines end with "\\n" or "\\r\\n"; nothing else is cut from them, since a name may end with a space. Raises UsageError for a
    second "-", for a line of more than 64 KiB, one with a zero byte, and more than ten million.
    """
    if sources.count(MARK) > 1:
        raise UsageError("standard input is named twice", where="IMAGES", got="- twice", expected="- once")
    return [each for source in sources for each in (_lines() if source == MARK else (source,))]


def _lines() -> Iterator[str]:
    for number in range(1, _MAX_LINES + 2):
        line = sys.stdin.buffer.readline(_MAX_LINE_BYTES + 1)
        if not line:
            return
        if number > _MAX_LINES or len(line) > _MAX_LINE_BYTES or b"\0" in line:
            raise UsageError(
                "standard input is no list of images",
                where=f"standard input:{number}",
                got=f"more than {_MAX_LINES:,} lines" if number > _MAX_LINES else "a line that is too long, or has a zero byte",
                expected="a path or an address a line",
            )
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")
        if text.strip():
            yield text
