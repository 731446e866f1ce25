"""A column of a table that is keyed by image id: the values to slice or group images by."""

from collections.abc import Sequence
from pathlib import Path

from polytag.data.formats.column_names import ID_COLUMNS, first_of, id_column
from polytag.data.formats.rows import cells_of, read_table
from polytag.errors import AnnotationError, UsageError
from polytag.text import nearest


def values_by_id(path: Path, name: str, *, ids: Sequence[str]) -> list[str | None]:
    """N cells of a column of a CSV, Parquet or JSON Lines file, as they are written; None for an empty one and for an absent image.

    Raises UsageError for an unknown column, AnnotationError if the table has no ids, an id twice, or none of these.
    """
    table = read_table(path)
    columns = list(table.columns)
    if name not in columns:
        raise UsageError(
            "unknown column",
            where=f"{path}:1",
            got=repr(name) + nearest(name, columns),
            expected="one of " + ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else ""),
        )
    key = first_of(columns, ID_COLUMNS) or id_column(columns)
    if not key:
        raise AnnotationError(
            "no column of image ids", where=f"{path}:1", got=", ".join(columns), expected="one of " + ", ".join(ID_COLUMNS)
        )
    row_of: dict[str, int] = {}
    for row, cell in enumerate(table.columns[key]):
        first = row_of.setdefault(str(cell), row)
        if first != row:
            raise AnnotationError(
                "an image id is given twice",
                where=table.where(row),
                got=f"{cell!r}",
                expected="every id once in a table of columns",
            )
    if not any(image in row_of for image in ids):
        raise AnnotationError(
            "no image is in the table of columns",
            where=str(path),
            got=f"ids in {key!r} such as {', '.join(list(row_of)[:3])}",
            expected=f"ids such as {', '.join(ids[:3])}",
        )
    cells = cells_of(table, name)
    return [cells[row_of[image]] if image in row_of else None for image in ids]
