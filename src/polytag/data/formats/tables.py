"""Tables of labels: one row per image, with a column of label lists or one column per class.

A class column contains 1 (present), 0 (absent), -1 or nothing (unknown). In a column of label lists, a class that a row does not
name is ABSENT. A null list, which Parquet and JSON Lines distinguish from an empty one, leaves all classes of the row UNKNOWN.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import child_names, class_order, relative_id, require_classes, split_of
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.rows import OWN_COLUMNS, Table, cells_of
from polytag.errors import AnnotationError, DataError
from polytag.text import counted

IMAGE_COLUMNS = (
    "file_name", "filename", "file", "fname", "image", "image_path", "image_name", "image_file", "image_id", "img", "img_path",
    "picture", "picture_path", "path", "file_path", "filepath",
)  # fmt: skip
ID_COLUMNS = ("id", *IMAGE_COLUMNS)
LABELS_COLUMNS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category")
SPLIT_COLUMNS = ("split", "subset", "partition", "is_valid")

PASSED_OVER = re.compile(
    r"|index|id|unnamed: \d+|__index_level_\d+__", re.IGNORECASE
)  # written by pandas and databases in addition to the data
_VALUES: Mapping[object, int] = {
    "1": PRESENT, "1.0": PRESENT, "true": PRESENT, "yes": PRESENT, 1: PRESENT,
    "0": ABSENT, "0.0": ABSENT, "false": ABSENT, "no": ABSENT, 0: ABSENT,
    "-1": UNKNOWN, "-1.0": UNKNOWN, -1: UNKNOWN,
    "": UNKNOWN, "nan": UNKNOWN, "null": UNKNOWN, "none": UNKNOWN, "na": UNKNOWN, "n/a": UNKNOWN, "<na>": UNKNOWN, None: UNKNOWN,
}  # fmt: skip
_IN_BRACKETS = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"\[\]]+"""
_BRACKETED = re.compile(rf"\[\s*(?:(?:{_IN_BRACKETS})\s*(?:,\s*(?:{_IN_BRACKETS})\s*)*)?,?\s*\]")

LabelLists = list[tuple[str, ...] | None]
"""The labels of each row; None where they are unknown."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns by role; "" for the first documented name that the table has. `classes` turns label lists off.

    Of groups, "" is no column. `ignored` are no classes.
    """

    image: str = ""
    labels: str = ""
    split: str = ""
    group: str = ""
    classes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    separator: str = "auto"


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
    inside = {name: [n for n in child_names(data / name) if _is_table(n, suffixes)] for name in child_names(data) if split_of(name)}
    return [table_file(data / name / n, split=split_of(name) or "") for name, found in inside.items() for n in found]


def table_file(path: Path, *, split: str) -> TableFile:
    """A table whose images are in its folder, in a folder of its name, in `images`, or in a folder of its name in `images`."""
    places = (path.parent, path.parent / path.stem, path.parent / "images", path.parent / "images" / path.stem)
    return TableFile(path=path, split=split, image_folders=tuple(str(place) for place in places))


def _is_table(name: str, suffixes: Sequence[str]) -> bool:
    stem, suffix = os.path.splitext(name)
    is_lock = name.startswith("~$")  # what Excel writes beside an open workbook
    return suffix.lower() in suffixes and stem != "metadata" and not is_lock  # the imagefolder format uses "metadata"


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
    relative to `root`. Raises AnnotationError with file and line for a cell that cannot be read.
    """
    layouts = [_layout(table, columns, need_images=need_images) for table in tables]
    lists = [
        label_lists(table, layout.labels, columns.separator) if layout.labels else None
        for table, layout in zip(tables, layouts, strict=True)
    ]
    _log_columns(context.log, layouts[0], tables[0])
    names = _class_names(tables, layouts, lists, classes=context.further)
    ids: list[str] = []
    paths: list[Path] = []
    split_N: list[str] = []
    group_N: list[str] = []
    for file, table, layout in zip(files, tables, layouts, strict=True):
        folders = file.image_folders
        splits = _splits(table, layout.split) if layout.split else [file.split] * len(table)
        images = [
            _image(table, row, layout=layout, folders=folders, index=context.index, root=None if ids_as_listed else root)
            for row in range(len(table))
        ]
        _require_distinct(table, splits, [image_id for image_id, _ in images])
        ids += [image_id for image_id, _ in images]
        paths += [path for _, path in images]
        split_N += splits
        group_N += [cell or "" for cell in cells_of(table, columns.group)] if columns.group else [""] * len(table)
    blocks = [_targets(table, labels, names=names) for table, labels in zip(tables, lists, strict=True)]
    return Dataset(
        ids=tuple(ids),
        paths=tuple(paths),
        target_NC=np.concatenate(blocks),
        split_N=tuple(split_N),
        label_set=LabelSet(names=names),
        source=source,
        group_N=tuple(group_N),
    )


def _log_columns(log: ReadingLog, layout: "_Layout", table: Table) -> None:
    """Record the column of each role, and those without one."""
    log.found("images", f"column {layout.image!r}")
    log.found("labels", f"column {layout.labels!r}" if layout.labels else counted(len(layout.classes), "class columns"))
    if layout.split:
        log.found("split", f"column {layout.split!r}")
    used = {layout.id, layout.image, layout.labels, layout.split, *layout.classes}
    if ignored := [name for name in table.columns if name not in used]:
        log.found("ignored", ", ".join(map(repr, ignored)))


def _image(
    table: Table, row: int, *, layout: "_Layout", folders: Sequence[str], index: FileIndex, root: Path | None
) -> tuple[str, Path]:
    """Id and path of a row's image; the id is relative to `root`, or with None the name in the table."""
    name = _image_name(table.columns[layout.image][row], where=table.where(row))
    name = name if layout.id else name.strip()  # hand-written tables have spaces after commas
    path = index.require(name, folders, where=table.where(row))
    if layout.id:
        return str(table.columns[layout.id][row]), path
    return name.replace("\\", "/").removeprefix("./") if root is None else relative_id(path, root), path


def _require_distinct(table: Table, splits: Sequence[str], ids: Sequence[str]) -> None:
    """Raises AnnotationError for an image that a split lists twice."""
    first_row: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(splits, ids, strict=True)):
        first = first_row.setdefault(key, row)
        if first != row:
            raise AnnotationError(
                "an image is listed twice",
                where=table.where(row),
                got=f"{ids[row]!r}, first in line {table.line_N[first]}",
                expected="every image once",
                next_step="join the labels of an image into one row",
            )


# ---- columns ----


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Column names of one table; `labels` is "" with one column per class, `id` and `split` are "" where there is none."""

    image: str
    labels: str
    split: str
    classes: tuple[str, ...]
    id: str = ""


def _layout(table: Table, columns: Columns, *, need_images: bool) -> _Layout:
    there = list(table.columns)
    group = _chosen(table, columns.group)
    if tuple(there[:3]) == OWN_COLUMNS and columns == Columns(group=group, ignored=columns.ignored):
        classes = tuple(name for name in there[3:] if name != group and name not in columns.ignored)
        return _Layout(id="id", image="file_name", labels="", split="split", classes=classes)
    image = _chosen(table, columns.image) or first_of(there, IMAGE_COLUMNS)
    id = "" if need_images or columns.image else id_column(there)
    image = image or id
    if not image:
        raise AnnotationError(
            "no column of image names",
            where=f"{table.path}:1",
            got=", ".join(there) or "no column",
            expected="one of " + ", ".join(IMAGE_COLUMNS),
            next_step="rename a column, or name it with the option image_column",
        )
    split = _chosen(table, columns.split) or first_of(there, SPLIT_COLUMNS)
    labels = "" if columns.classes else _chosen(table, columns.labels) or first_of(there, LABELS_COLUMNS)
    for name in columns.classes:
        _chosen(table, name)
    others = (name for name in there if name not in (id, image, split, group, *columns.ignored) and not PASSED_OVER.fullmatch(name))
    classes = () if labels else columns.classes or tuple(others)
    return _Layout(id=id, image=image, labels=labels, split=split, classes=classes)


def id_column(there: Sequence[str]) -> str:
    """The column `id`, or the unnamed first column that pandas writes for its index; "" for neither."""
    return first_of(there, ("id",)) or next((name for name in there[:1] if PASSED_OVER.fullmatch(name)), "")


def _chosen(table: Table, name: str) -> str:
    if name and name not in table.columns:
        raise AnnotationError(
            "the table has no such column", where=f"{table.path}:1", got=", ".join(table.columns), expected=f"a column {name!r}"
        )
    return name


def first_of(there: Iterable[str], known: Sequence[str]) -> str:
    """The column whose name, in any letter case, is first among the known names; "" for none."""
    by_name = {name.lower(): name for name in reversed(list(there))}
    return next((by_name[name] for name in known if name in by_name), "")


def _class_names(
    tables: Sequence[Table], layouts: Sequence[_Layout], lists: Sequence[LabelLists | None], *, classes: Sequence[str]
) -> tuple[str, ...]:
    first = layouts[0]
    for table, layout in zip(tables[1:], layouts[1:], strict=True):
        if bool(layout.labels) != bool(first.labels) or set(layout.classes) != set(first.classes):
            raise AnnotationError(
                "two tables disagree about the classes",
                where=f"{table.path}:1",
                got=", ".join(layout.classes) or f"label lists in {layout.labels!r}",
                expected=(", ".join(first.classes) or f"label lists in {first.labels!r}") + f", as in {tables[0].path}",
            )
    named = {name for rows in lists for labels in rows or () for name in labels or ()}
    names = class_order(named | set(classes)) if first.labels else first.classes
    require_classes(names, where=tables[0].path)
    return names


def _targets(table: Table, lists: LabelLists | None, *, names: Sequence[str]) -> np.ndarray:
    if lists is None:
        return np.array([target_column(table, name) for name in names], dtype=np.int8).reshape(len(names), len(table)).T
    target_NC = np.full((len(table), len(names)), ABSENT, dtype=np.int8)
    column = {name: c for c, name in enumerate(names)}
    for target_C, labels in zip(target_NC, lists, strict=True):
        if labels is None:
            target_C[:] = UNKNOWN
        else:
            target_C[[column[name] for name in labels]] = PRESENT
    return target_NC


# ---- cells ----


def target_column(table: Table, name: str) -> list[int]:
    """The targets of a class column; raises AnnotationError, with the line, for a cell that is not a target."""
    known: dict[object, int] = {}  # a column has few distinct values
    values: list[int] = []
    for row, cell in enumerate(table.columns[name]):
        try:
            values.append(known[cell])
        except (KeyError, TypeError):
            key = cell.strip().lower() if isinstance(cell, str) else cell
            if isinstance(key, float) and key != key:
                key = None
            if isinstance(key, list | dict) or key not in _VALUES:
                raise AnnotationError(
                    "a label outside 1, 0, -1",
                    where=table.where(row),
                    got=f"{cell!r} in column {name!r}",
                    expected="1 (present), 0 (absent), -1 or nothing (unknown)",
                    next_step="remove the column if it is not a class, or name the class columns with the option class_columns",
                ) from None
            known[cell] = _VALUES[key]
            values.append(known[cell])
    return values


def _image_name(cell: object, *, where: str) -> str:
    if isinstance(cell, str | int) and str(cell).strip():
        return str(cell)
    got = "an image inside the table" if isinstance(cell, dict | bytes) else repr(cell)
    raise AnnotationError(
        "no image name", where=where, got=got, expected="a file name", next_step="write the images as files and name them here"
    )


def _splits(table: Table, name: str) -> list[str]:
    """Split names, the usual ones as train, val and test; fastai's `is_valid` becomes val or train."""
    if name.lower() == "is_valid":
        return ["val" if value == PRESENT else "train" for value in target_column(table, name)]
    texts = ["" if cell is None else str(cell).strip() for cell in table.columns[name]]
    known = {text: split_of(text) or text for text in set(texts)}
    return [known[text] for text in texts]


def label_lists(table: Table, name: str, separator: str) -> LabelLists:
    """The label list of each row, None where it is null; raises AnnotationError, with the line, for one that cannot be read."""
    cells = table.columns[name]
    if separator == "auto":
        separator = _separator(table, name)
    lists: LabelLists = []
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, str) and separator == "none"):
            labels = None if cell is None else (cell,)
        elif isinstance(cell, list):
            labels = tuple(str(item) for item in cell if isinstance(item, str | int) and not isinstance(item, bool))
            if len(labels) != len(cell):
                raise _bad_list(table, row, name)
        elif isinstance(cell, str):
            labels = _in_brackets(cell) if _has_brackets(cell) else tuple(cell.split(separator))
            if labels is None:
                raise _bad_list(table, row, name)
        elif isinstance(cell, int):
            labels = (str(cell),)
        else:
            raise _bad_list(table, row, name)
        lists.append(None if labels is None else tuple(label.strip() for label in labels if label.strip()))
    return lists


def _separator(table: Table, name: str) -> str:
    """The only one of | ; , in the texts of the column; raises AnnotationError where there are several."""
    texts = [cell for cell in table.columns[name] if isinstance(cell, str) and not _has_brackets(cell)]
    found = [mark for mark in "|;," if any(mark in text for text in texts)]
    if len(found) > 1:
        row = next(row for row, cell in enumerate(table.columns[name]) if isinstance(cell, str) and found[1] in cell)
        raise AnnotationError(
            "the separator of the labels is ambiguous",
            where=table.where(row),
            got=" and ".join(repr(mark) for mark in found) + f" in column {name!r}",
            expected="one of them",
            next_step="set the option separator, such as separator='|'",
        )
    return found[0] if found else "|"


def _has_brackets(cell: str) -> bool:
    return cell.strip().startswith("[") and cell.strip().endswith("]")


def _in_brackets(cell: str) -> tuple[str, ...] | None:
    """A list as Python, pandas and JSON print it; None for one that cannot be read."""
    if not _BRACKETED.fullmatch(cell.strip()):
        return None
    items = re.findall(_IN_BRACKETS, cell.strip()[1:-1])
    return tuple(re.sub(r"\\(.)", r"\1", item[1:-1]) if item[0] in "'\"" else item for item in items)


def _bad_list(table: Table, row: int, name: str) -> AnnotationError:
    return AnnotationError(
        "a list of labels cannot be read",
        where=table.where(row),
        got=f"{table.columns[name][row]!r} in column {name!r}",
        expected="texts divided by the separator, or a list of texts",
    )
