"""Tables of labels: one row per image, with a column of label lists or one column per class.

A class column contains 1 (present), 0 (absent), -1 or nothing (unknown). In a column of label lists, a class that a row does not
name is ABSENT. A null list, which Parquet and JSON Lines distinguish from an empty one, leaves all classes of the row UNKNOWN.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.formats.class_columns import class_targets
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.label_lists import LabelLists, label_lists
from polytag.data.formats.listing import child_names, class_order, relative_id, require_classes, split_folders, split_of
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.rows import CSV_SUFFIXES, PARQUET_SUFFIXES, Table, cells_of
from polytag.data.formats.split_columns import splits_of
from polytag.data.formats.table_columns import Columns, Layout, layout_of
from polytag.errors import AnnotationError, DataError
from polytag.path_list import PathList
from polytag.text import counted

_ANSWER_FORM = re.compile(r"sample[_-]?submission.*", re.IGNORECASE)  # beside Kaggle's tables; its labels are made up


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """One table, the split that its name or folder gives ("" for none), and the folders to search its images in."""

    path: Path
    split: str
    image_folders: tuple[str, ...]


def find_tables(data: Path, suffixes: Sequence[str]) -> list[TableFile]:
    """The tables of a folder: one file, files named after splits, or one file in each folder named after a split."""
    paths = [data / name for name in child_names(data) if _is_table(name, suffixes)]
    if len(paths) == 1:
        return [table_file(paths[0], split="")]
    if paths:
        by_split = {path: split_of(path.stem) or "" for path in paths}
        if not all(by_split.values()):
            raise DataError(
                "several tables in one folder",
                where=str(data),
                got=", ".join(path.name for path in paths),
                expected="one table, or tables named train, val and test",
                next_step=f"give the file itself, such as {paths[0]}",
            )
        return [table_file(path, split=split) for path, split in by_split.items()]
    names = child_names(data)
    of_splits = [
        table_file(folder / name, split=split)
        for split, folder in split_folders(data)
        for name in child_names(folder)
        if _is_table(name, suffixes)
    ]
    if not of_splits and len(names) == 1 and names[0] != data.name:  # the one folder of a downloaded archive
        return find_tables(data / names[0], suffixes)
    return of_splits


def table_file(path: Path, *, split: str) -> TableFile:
    """A table whose images are in its folder, in a folder of its name, in `images`, or in a folder of its name in `images`."""
    places = (path.parent, path.parent / path.stem, path.parent / "images", path.parent / "images" / path.stem)
    return TableFile(path=path, split=split, image_folders=tuple(str(place) for place in places))


def _is_table(name: str, suffixes: Sequence[str]) -> bool:
    stem, suffix = os.path.splitext(name)
    is_other = stem == "metadata" or name.startswith("~$") or _ANSWER_FORM.fullmatch(stem)  # imagefolder's; Excel's lock; Kaggle's
    return suffix.lower() in suffixes and not is_other


def read_tables(
    files: Sequence[TableFile],
    tables: Sequence[Table],
    *,
    root: Path,
    columns: Columns,
    source: str,
    ids_as_listed: bool,
    context: ReadingContext,
    need_images: bool = True,
) -> Dataset:
    """The data set of tables with a row for each image, read from these files; several must agree on their class columns.

    Without `need_images`, images need not exist, and a column `id`, or the unnamed first column of pandas, is preferred for their
    names. Ids are the images' names in the table, or, unless `ids_as_listed`, their paths
    relative to `root`. Raises AnnotationError with file and line for a cell that cannot be read, and, unless doubts are accepted,
    for what looks like a misreading.
    """
    log = context.log
    layout = layout_of(tables, columns, need_images=need_images, log=log)
    all_tables = tables
    files, tables = _labelled(files, tables, layout, log=log)
    names, blocks = _labels_of(tables, layout, columns=columns, context=context)
    ids: list[str] = []
    paths: list[str] = []
    split_N: list[str] = []
    group_N: list[str] = []
    for file, table in zip(files, tables, strict=True):
        for name in filter(None, (layout.image, layout.id, columns.group)):
            require_column(table, name, others=all_tables)
        has_splits = bool(layout.splits) and all(name in table.columns for name in layout.splits)
        splits = splits_of(table, layout.splits, log=log) if has_splits else [file.split] * len(table)
        ids_of_table: list[str] = []
        for row in range(len(table)):
            image_id, path = _image(table, row, layout=layout, file=file, index=context.index, root=None if ids_as_listed else root)
            ids_of_table.append(image_id)
            paths.append(str(path))
        _require_distinct(table, splits, ids_of_table)
        ids += ids_of_table
        split_N += splits
        group_N += [cell or "" for cell in cells_of(table, columns.group)] if columns.group else [""] * len(table)
    tell_rows(files, tables, has_lists=bool(layout.labels), log=log)
    return Dataset(
        ids=tuple(ids),
        paths=PathList(paths),
        target_NC=_joined(blocks),
        split_N=tuple(split_N),
        label_set=LabelSet(names=names),
        source=source,
        group_N=tuple(group_N),
    )


def _joined(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """The targets of all tables, read-only, so that a Dataset keeps them without a copy; those of one table stay where they are."""
    target_NC = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    target_NC.setflags(write=False)
    return target_NC


def _labelled(
    files: Sequence[TableFile], tables: Sequence[Table], layout: Layout, *, log: ReadingLog
) -> tuple[list[TableFile], list[Table]]:
    """The tables with labels; a table of Kaggle's test images has none."""
    labels = (layout.labels,) if layout.labels else layout.classes
    kept = [number for number, table in enumerate(tables) if len(tables) == 1 or any(name in table.columns for name in labels)]
    for number, file in enumerate(files):
        if number not in kept:
            log.note(f"{file.path.name} has no column of labels, and is left out")
    return [files[number] for number in kept], [tables[number] for number in kept]


def tell_rows(files: Sequence[TableFile], tables: Sequence[Table], *, has_lists: bool, log: ReadingLog) -> None:
    """Note short rows, and the forms for answers that lie beside the tables.

    A short row leaves classes unknown, but a label list empty, by which every class is absent: that is a doubt.
    """
    for table in tables:
        if table.short_lines and has_lists:
            log.doubt(
                AnnotationError(
                    "a row is shorter than the header",
                    where=f"{table.path}:{table.short_lines[0]}",
                    got=f"{counted(len(table.short_lines), 'rows')} without the last cells",
                    expected=f"{len(table.columns)} cells in each row",
                    next_step="end the row with the missing delimiters; or read the missing cells as empty ones with --yes",
                )
            )
        elif table.short_lines:
            log.note(
                f"{counted(len(table.short_lines), 'rows')} of {table.path.name} lack their last cells, which count as empty, the "
                f"first in line {table.short_lines[0]}"
            )
    for folder in dict.fromkeys(file.path.parent for file in files):
        for name in child_names(folder):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in (*CSV_SUFFIXES, *PARQUET_SUFFIXES) and _ANSWER_FORM.fullmatch(stem):
                log.note(f"{name} is left out: the labels in such a form for answers are made up")


def _image(table: Table, row: int, *, layout: Layout, file: TableFile, index: FileIndex, root: Path | None) -> tuple[str, Path]:
    """Id and path of a row's image; the id is relative to `root`, or with None the name in the table."""
    name = _image_name(table.columns[layout.image][row], where=table.where(row))
    name = name if layout.id else name.strip()  # hand-written tables have spaces after commas
    path = index.require(_inside(name, file.path.parent, index), file.image_folders, where=table.where(row))
    if layout.id:
        return str(table.columns[layout.id][row]), path
    return name.replace("\\", "/").removeprefix("./") if root is None else relative_id(path, root), path


def _inside(name: str, folder: Path, index: FileIndex) -> str:
    """The name without the table's folder, which CheXpert's tables name too."""
    first, slash, inside = name.partition("/")
    if slash and first == folder.name and index.exists(folder / inside) and not index.exists(folder / name):
        return inside
    return name


def _image_name(cell: object, *, where: str) -> str:
    if isinstance(cell, str | int) and str(cell).strip():
        return str(cell)
    got = "an image inside the table" if isinstance(cell, dict | bytes) else repr(cell)
    raise AnnotationError(
        "no image name", where=where, got=got, expected="a file name", next_step="write the images as files and name them here"
    )


def _require_distinct(table: Table, splits: Sequence[str], ids: Sequence[str]) -> None:
    """Raises AnnotationError for an image that a split lists twice."""
    first_row_of: dict[str, dict[str, int]] = {}
    for row, (split, image_id) in enumerate(zip(splits, ids, strict=True)):
        first = first_row_of.setdefault(split, {}).setdefault(image_id, row)
        if first != row:
            raise AnnotationError(
                "an image is listed twice",
                where=table.where(row),
                got=f"{ids[row]!r}, first in line {table.line_N[first]}",
                expected="every image once",
                next_step="join the labels of an image into one row",
            )


# ---- labels ----


def _labels_of(
    tables: Sequence[Table], layout: Layout, *, columns: Columns, context: ReadingContext
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """The classes, and for each table its targets."""
    first = tables[0]
    if layout.labels:
        for table in tables:
            require_column(table, layout.labels, others=tables)
        lists = label_lists(tables, layout.labels, separator=columns.separator, log=context.log)
        names = class_order({name for rows in lists for labels in rows for name in labels or ()} | set(context.further))
        require_classes(names, where=first.path)
        return names, [_list_targets(rows, names, unsaid=context.unsaid) for rows in lists]
    names = layout.classes
    of_first = [name for name in names if name in first.columns]
    known = frozenset(names)
    for table in tables[1:]:
        there = [name for name in table.columns if name in known]
        if set(there) != set(of_first):
            raise AnnotationError(
                "two tables disagree about the classes",
                where=f"{table.path}:1",
                got=", ".join(there),
                expected=f"{', '.join(of_first)}, as in {first.path}",
            )
    require_classes(names, where=first.path)
    return names, class_targets(tables, names, minus_one=columns.minus_one, log=context.log)


def require_column(table: Table, name: str, *, others: Sequence[Table]) -> None:
    """Raises AnnotationError for a table without a column that one of the others has."""
    if name not in table.columns:
        one = next(other for other in others if name in other.columns)
        raise AnnotationError(
            "two tables disagree about their columns",
            where=f"{table.path}:1",
            got=", ".join(table.columns),
            expected=f"a column {name!r}, as in {one.path}",
        )


def _list_targets(lists: LabelLists, names: Sequence[str], *, unsaid: int) -> np.ndarray:
    target_NC = np.full((len(lists), len(names)), unsaid, dtype=np.int8)
    column = {name: c for c, name in enumerate(names)}
    for target_C, labels in zip(target_NC, lists, strict=True):
        if labels is None:
            target_C[:] = UNKNOWN
        else:
            target_C[[column[name] for name in labels]] = PRESENT
    return target_NC
