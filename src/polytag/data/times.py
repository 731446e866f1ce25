"""Times of images from cells of a table: numbers, or dates with or without a time of day."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from polytag.errors import AnnotationError
from polytag.text import counted

_EXIF = re.compile(r"(\d{4}):(\d\d):(\d\d)\b")  # cameras write 2019:05:28 14:30:00


def parse_times(cells: Sequence[str], *, ids: Sequence[str], where: str) -> np.ndarray:
    """float64 N: seconds since 1970 for dates, or the numbers themselves; of which only the order is used.

    A date is ISO 8601 or that of a camera; without a time zone it is UTC. Raises AnnotationError for an empty cell, for one that is
    neither, and where some are numbers and others dates.
    """
    empty = [name for name, cell in zip(ids, cells, strict=True) if not cell]
    if empty:
        raise AnnotationError(
            f"{counted(len(empty), 'images')} {'has' if len(empty) == 1 else 'have'} no time",
            where=where,
            got=f"nothing for {', '.join(map(repr, empty[:3]))}" + (", ..." if len(empty) > 3 else ""),
            expected="a time for every image",
            next_step="fill the cells, or divide without --time",
        )
    try:
        number_N = np.array([float(cell) for cell in cells])
    except ValueError:
        number_N = np.array([_seconds(cell) for cell in cells])
    bad = np.flatnonzero(~np.isfinite(number_N))
    if len(bad):
        raise AnnotationError(
            "a time cannot be read",
            where=where,
            got=f"{cells[int(bad[0])]!r} for {ids[int(bad[0])]!r}",
            expected="dates such as 2019-05-28 or 2019-05-28T14:30:00 in all cells, or numbers in all",
            next_step="write the column in one of these ways",
        )
    return number_N


def _seconds(cell: str) -> float:
    """Since 1970; NaN for what is no date."""
    try:
        time = datetime.fromisoformat(_EXIF.sub(r"\1-\2-\3", cell))
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return float("nan")
