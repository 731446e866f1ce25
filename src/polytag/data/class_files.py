"""Files about classes: a list of names, and a hierarchy."""

from collections.abc import Mapping
from pathlib import Path

from polytag.data.class_hierarchy import Hierarchy, require_no_circle
from polytag.data.class_names import normal_name
from polytag.data.formats.listing import reason
from polytag.data.formats.rows import CSV_SUFFIXES, cells_of, read_table
from polytag.errors import AnnotationError, UsageError
from polytag.parsing import MAX_YAML_BYTES, Malformed, parse_yaml, read_small_text

_TREE_SUFFIXES = (".yaml", ".yml", ".json")  # JSON is YAML


def read_small_annotation(path: Path) -> str:
    """The text of a file of at most half a megabyte; raises AnnotationError where it cannot be read."""
    try:
        return read_small_text(path, max_bytes=MAX_YAML_BYTES)
    except Malformed as error:
        raise AnnotationError(
            "a file cannot be read", where=error.place(path), got=error.problem, expected="text in UTF-8"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise AnnotationError("a file cannot be read", where=str(path), got=reason(error), expected="a readable file") from error


def read_class_list(path: Path) -> tuple[str, ...]:
    """The names of a file, one in a line; raises AnnotationError for none, and for a name that is given twice."""
    names: dict[str, int] = {}
    for line, text in enumerate(read_small_annotation(path).splitlines(), start=1):
        if not (name := normal_name(text)):
            continue
        if name in names:
            raise AnnotationError(
                "a class name is given twice",
                where=f"{path}:{line}",
                got=f"{name!r}, first in line {names[name]}",
                expected="every class once",
            )
        names[name] = line
    if not names:
        raise AnnotationError(
            "a list of classes without a name", where=str(path), got="no line", expected="one class name per line"
        )
    return tuple(names)


def read_hierarchy(path: Path) -> Hierarchy:
    """Parents and their children: of a table with the columns child and parent, or of a tree in YAML or JSON.

    A tree is a mapping of parents to lists of children, or to further such mappings. Raises AnnotationError, with the line where
    there is one, for anything else.
    """
    suffix = path.suffix.lower()
    if suffix in CSV_SUFFIXES:
        hierarchy = _of_table(path)
    elif suffix in _TREE_SUFFIXES:
        text = read_small_annotation(path)
        try:
            hierarchy = hierarchy_of(parse_yaml(text), where=str(path))
        except Malformed as error:
            raise AnnotationError(
                "a hierarchy of classes cannot be read", where=error.place(path), got=error.problem, expected="YAML or JSON"
            ) from error
    else:
        raise AnnotationError(
            "unknown kind of hierarchy file",
            where=str(path),
            got=f"a file ending in {suffix!r}",
            expected="a file ending in " + ", ".join((*CSV_SUFFIXES, *_TREE_SUFFIXES)),
        )
    try:
        require_no_circle(hierarchy)
    except UsageError as error:
        raise AnnotationError(error.what, where=str(path), got=error.got, expected=error.expected) from error
    return hierarchy


def _of_table(path: Path) -> Hierarchy:
    table = read_table(path)
    by_name = {name.strip().lower(): name for name in table.columns}
    if not {"child", "parent"} <= by_name.keys():
        raise AnnotationError(
            "a hierarchy without the columns child and parent",
            where=f"{path}:1",
            got=", ".join(table.columns),
            expected="the columns child and parent, one pair in a row",
        )
    found: dict[str, list[str]] = {}
    for row, (child, parent) in enumerate(zip(cells_of(table, by_name["child"]), cells_of(table, by_name["parent"]), strict=True)):
        if child and parent:
            found.setdefault(normal_name(parent), []).append(normal_name(child))
        elif child or parent:
            raise AnnotationError(
                "half of a pair in a hierarchy",
                where=table.where(row),
                got=repr(child or parent),
                expected="a child and its parent",
            )
    return _distinct(found)


def hierarchy_of(value: object, *, where: str) -> Hierarchy:
    """Parents and their children from plain values; raises AnnotationError for other values."""
    found: dict[str, list[str]] = {}

    def children_of(value: object, above: str) -> list[str]:
        if value is None:
            return []
        if isinstance(value, Mapping):
            for parent, below in value.items():
                found.setdefault(_name(parent, above, where), []).extend(children_of(below, str(parent)))
            return [_name(parent, above, where) for parent in value]
        if not isinstance(value, list):
            raise AnnotationError(
                "a hierarchy of classes cannot be read",
                where=where,
                got=f"{value!r} under {above!r}" if above else repr(value)[:80],
                expected="a list of children for each parent, such as animal: [cat, dog]",
            )
        return [
            name
            for item in value
            for name in (children_of(item, above) if isinstance(item, Mapping) else [_name(item, above, where)])
        ]

    children_of(value if value is not None else [], "")
    if not isinstance(value, Mapping):
        raise AnnotationError(
            "a hierarchy of classes cannot be read", where=where, got=repr(value)[:80], expected="a mapping of parents to children"
        )
    return _distinct({parent: children for parent, children in found.items() if children})


def _distinct(hierarchy: Mapping[str, list[str]]) -> Hierarchy:
    return {parent: tuple(dict.fromkeys(children)) for parent, children in hierarchy.items()}


def _name(value: object, above: str, where: str) -> str:
    if isinstance(value, str) and normal_name(value):
        return normal_name(value)
    raise AnnotationError(
        "a class name that is no text",
        where=where,
        got=f"{value!r} under {above!r}" if above else repr(value),
        expected="text",
        next_step="put it in quotes",
    )
