"""The columns of a table by role: by the options, by their usual names, and by what their cells are."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from polytag.data.formats.class_columns import JointColumns
from polytag.data.formats.column_names import IMAGE_COLUMNS, first_of, id_column
from polytag.data.formats.label_columns import label_columns
from polytag.data.formats.listing import is_image
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.rows import OWN_COLUMNS, Table
from polytag.data.formats.split_columns import doubt_split_flags, split_columns
from polytag.errors import AnnotationError
from polytag.text import counted, nearest


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns by role; "" for the first documented name that the table has. `classes` turns label lists off.

    `classes` and `ignore` may be shell patterns. Of groups, "" is no column. `minus_one` is the treatment of -1, "" if not chosen.
    """

    image: str = ""
    labels: str = ""
    split: str = ""
    group: str = ""
    classes: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    separator: str = "auto"
    minus_one: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Column names; `labels` is "" with one column per class, `splits` are several for flags, `id` is "" where there is none."""

    image: str
    labels: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    id: str = ""

    def roles(self) -> frozenset[str]:
        """The columns that have a role."""
        return frozenset({self.id, self.image, self.labels, *self.splits, *self.classes} - {""})


def layout_of(tables: Sequence[Table], columns: Columns, *, need_images: bool, log: ReadingLog) -> Layout:
    """The role of each column; raises AnnotationError for a chosen column that is not there, and for tables without a role.

    Unless doubts are accepted, raises it as well where cells and names of columns do not tell what is a class.
    """
    all_of = JointColumns(tables)
    there = all_of.names
    first = tables[0]
    group = _chosen(first, there, columns.group)
    ignored = _matching(there, columns.ignore, log=log)
    is_chosen = any((columns.image not in ("", "file_name"), columns.labels, columns.split, columns.classes))
    if tuple(there[:3]) == OWN_COLUMNS and not is_chosen:
        classes = tuple(name for name in there[3:] if name != group and name not in ignored)
        log.has_own_names = True
        return Layout(id="id", image="file_name", labels="", splits=("split",), classes=classes)
    usable = [name for name in there if name not in ignored and name != group]
    image, id = _image_and_id(all_of, usable, columns, need_images=need_images, log=log)
    rest = [name for name in usable if name not in (image, id)]
    if columns.split:
        splits = (_chosen(first, there, columns.split),)
    else:
        splits = split_columns(all_of, [name for name in rest if name != columns.labels and name not in columns.classes])
    rest = [name for name in rest if name not in splits]
    if columns.classes:
        classes = _chosen_classes(all_of, rest, columns.classes)
        labels = ""
    elif columns.labels:
        labels, classes = _chosen(first, there, columns.labels), ()
    else:
        labels, classes = label_columns(all_of, rest, log=log)
        if labels and not splits:
            doubt_split_flags(all_of, rest, log=log)
    layout = Layout(image=image, labels=labels, splits=splits, classes=classes, id=id)
    _log(log, layout, all_of, group=group)
    return layout


def _log(log: ReadingLog, layout: Layout, all_of: JointColumns, *, group: str) -> None:
    """Record the column of each role, and those without one."""
    log.found("images", f"column {layout.image!r}")
    log.found("labels", f"column {layout.labels!r}" if layout.labels else counted(len(layout.classes), "class columns"))
    if layout.splits:
        log.found("split", "column " + " and ".join(map(repr, layout.splits)))
    used = layout.roles() | {group}
    ignored = [name for name in all_of.names if name not in used and (name or all_of.facts(name).num_given)]
    if ignored:
        log.found("ignored", ", ".join(map(repr, ignored[:20])) + (f" and {len(ignored) - 20} more" if len(ignored) > 20 else ""))


# ---- by name ----


def _chosen(table: Table, there: Sequence[str], name: str) -> str:
    if name and name not in there:
        raise _no_such_column(table, there, name)
    return name


def _no_such_column(table: Table, there: Sequence[str], name: str) -> AnnotationError:
    return AnnotationError(
        "the table has no such column",
        where=f"{table.path}:1",
        got=", ".join(there[:50]) + (", ..." if len(there) > 50 else ""),
        expected=f"a column {name!r}" + nearest(name, there),
    )


def _matching(there: Sequence[str], patterns: Sequence[str], *, log: ReadingLog) -> frozenset[str]:
    """The columns of these names and patterns; one that is not there is told, because several tables may share the options."""
    found: set[str] = set()
    for pattern in patterns:
        names = {name for name in there if name == pattern or fnmatchcase(name, pattern)}
        if not names:
            log.found("to ignore, but not there", repr(pattern) + nearest(pattern, there))
        found |= names
    return frozenset(found)


def _chosen_classes(all_of: JointColumns, rest: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
    """Class columns by name; a pattern takes those of its columns that have no other role and hold targets."""
    found: dict[str, None] = {}
    for name in chosen:
        if name in all_of.names:
            found[name] = None
            continue
        of_pattern = [column for column in rest if fnmatchcase(column, name) and all_of.facts(column).may_be_class]
        if not of_pattern:
            raise _no_such_column(all_of.tables[0], all_of.names, name)
        found.update(dict.fromkeys(of_pattern))
    return tuple(found)


# ---- images ----


def _image_and_id(
    all_of: JointColumns, usable: Sequence[str], columns: Columns, *, need_images: bool, log: ReadingLog
) -> tuple[str, str]:
    image = _chosen(all_of.tables[0], all_of.names, columns.image)
    if image:
        return image, ""
    id = "" if need_images else id_column(usable)
    image = first_of(usable, IMAGE_COLUMNS) or _image_names(all_of, usable) or id or first_of(usable, ("id",))
    if not image:
        raise AnnotationError(
            "no column of image names",
            where=f"{all_of.tables[0].path}:1",
            got=", ".join(usable) or "no column",
            expected="one of " + ", ".join((*IMAGE_COLUMNS, "id")) + ", or a column of file names with the endings of images",
            next_step="rename a column, or name it with the option image_column (--image-column)",
        )
    return image, id


def _image_names(all_of: JointColumns, usable: Sequence[str]) -> str:
    """The only column whose every cell has the ending of an image file; "" for none or several."""
    found = [
        name
        for name in usable
        if not is_image(name)  # a table without a header
        and (cells := list(all_of.first_cells(name)))
        and all(isinstance(cell, str) and is_image(cell.strip()) for cell in cells)
    ]
    return found[0] if len(found) == 1 else ""
