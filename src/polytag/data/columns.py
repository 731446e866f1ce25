"""A column of a table that is keyed by image id: the values to slice or group images by."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polytag.data.formats.column_names import ID_COLUMNS, first_of, id_column
from polytag.data.formats.listing import read_bytes
from polytag.data.formats.rows import Table, cells_of, read_table
from polytag.errors import AnnotationError, UsageError
from polytag.text import nearest


@dataclass(frozen=True, kw_only=True)
class IdColumns:
    """All columns of a table by image id, as they are written.

    key      the name of the column of ids
    sha256   of the table's content, "" for none
    """

    names: tuple[str, ...] = ()
    where: str = ""
    key: str = "id"
    sha256: str = ""
    cells_of: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def cells(self, image: str) -> tuple[str | None, ...]:
        """One cell for each column; None for an empty one and for an image that the table lacks."""
        return self.cells_of.get(image) or (None,) * len(self.names)

    def require_some(self, ids: Sequence[str]) -> None:
        """Raises AnnotationError where the table has none of these images, but has columns."""
        if self.names and ids and not any(image in self.cells_of for image in ids):
            raise _none_of(self.where, self.key, list(self.cells_of)[:3], ids)

    def require_other_names(self, taken: Sequence[str]) -> None:
        """Raises UsageError for a column with a name that the table which it is joined to has itself."""
        if both := [name for name in self.names if name in taken]:
            raise UsageError(
                "a column has the name of another one",
                where=f"{self.where}:1",
                got=", ".join(map(repr, both[:5])),
                expected="names other than " + ", ".join(taken[:5]) + ", ...",
                next_step="rename the column in the table",
            )


NO_COLUMNS = IdColumns()


def read_columns(path: Path) -> IdColumns:
    """Every column of a CSV, Parquet or JSON Lines file but that of the ids.

    Raises AnnotationError if the table cannot be read, has no ids, an id twice, or no other column.
    """
    table = read_table(path)
    key, row_of = _rows_by_id(table, path)
    names = tuple(name for name in table.columns if name != key)
    if not names:
        raise AnnotationError("no column beside the image ids", where=f"{path}:1", got=repr(key), expected="columns to join")
    cells = [cells_of(table, name) for name in names]
    by_id = {image: tuple(column[row] for column in cells) for image, row in row_of.items()}
    digest = hashlib.sha256(read_bytes(path)).hexdigest()
    return IdColumns(names=names, where=str(path), key=key, sha256=digest, cells_of=by_id)


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
    key, row_of = _rows_by_id(table, path)
    if not any(image in row_of for image in ids):
        raise _none_of(str(path), key, list(row_of)[:3], ids)
    cells = cells_of(table, name)
    return [cells[row_of[image]] if image in row_of else None for image in ids]


def _rows_by_id(table: Table, path: Path) -> tuple[str, dict[str, int]]:
    """The column of ids, and the row of each; raises AnnotationError."""
    columns = list(table.columns)
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
    return key, row_of


def _none_of(where: str, key: str, known: Sequence[str], ids: Sequence[str]) -> AnnotationError:
    return AnnotationError(
        "no image is in the table of columns",
        where=where,
        got=f"ids in {key!r} such as {', '.join(known)}",
        expected=f"ids such as {', '.join(ids[:3])}",
    )
