"""Which shape a table has: a row for each image, or a row for each image and label."""

from collections.abc import Sequence
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.long_tables import long_layout, read_long_tables
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.rows import read_table
from polytag.data.formats.table_columns import Columns
from polytag.data.formats.tables import TableFile, read_tables


def read_tables_of_any_shape(
    files: Sequence[TableFile],
    *,
    root: Path,
    columns: Columns,
    source: str,
    need_images: bool,
    context: ReadingContext,
) -> Dataset:
    """Read tables into one data set, each in the shape that its columns and rows have; ids are the images' names in the table.

    Raises AnnotationError, with file and line, for a cell that cannot be read.
    """
    tables = [read_table(file.path) for file in files]
    for note in (note for table in tables for note in table.notes):
        context.log.note(note)
    long_layouts = [layout for table in tables if (layout := long_layout(table, columns))]
    if long_layouts:
        long = next((layout for layout in long_layouts if layout.confidence), long_layouts[0])
        return read_long_tables(files, tables, layout=long, columns=columns, source=source, context=context)
    return read_tables(
        files,
        tables,
        root=root,
        columns=columns,
        source=source,
        ids_as_listed=True,
        need_images=need_images,
        context=context,
    )
