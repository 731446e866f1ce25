"""`polytag.yaml` beside the data: how they are read and which classes they have, versioned with them.

Its keys are the fields of ClassShaping and of ReadOptions. What the command line or the caller gives wins, key by key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from polytag.data.class_files import hierarchy_of, read_class_list, read_hierarchy, read_small_annotation
from polytag.data.classes import ClassShaping
from polytag.errors import AnnotationError, UsageError
from polytag.parsing import Malformed, parse_yaml
from polytag.plain import WrongValue, from_plain
from polytag.text import nearest

SETTINGS_FILE = "polytag.yaml"
LIST_SUFFIX = ".txt"
"""The ending of a file of class names, one in a line, where names are expected."""

_SHAPING = tuple(field.name for field in fields(ClassShaping))
_NOT_IN_THE_FILE = ("shaping", "settings", "given")
_PATHS = ("columns_file", "image_dirs")  # relative to the file
_Options = TypeVar("_Options", bound=Any)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a file: values by key, and the line of each key."""

    path: Path
    values: Mapping[str, Any]
    line_of: Mapping[str, int]


def with_settings(options: _Options, data: Path) -> tuple[_Options, Settings | None]:
    """The reading options with the settings beside the data, and these; None where there are none or `settings` is "none".

    The result has `settings` "none": a run records it, and reads its data by it alone. Raises AnnotationError, with the line, for
    an unknown key, with the nearest known one, and for a value that is none of its key.
    """
    path = (data if data.is_dir() else data.parent) / SETTINGS_FILE
    if options.settings == "none" or not path.is_file():
        return replace(options, settings="none", given=()), None
    found = read_settings(path, kinds=get_type_hints(type(options)))
    default = type(options)()
    chosen: dict[str, Any] = {}
    shaping: dict[str, Any] = {}
    for key, value in found.values.items():
        of, usual = (options.shaping, default.shaping) if key in _SHAPING else (options, default)
        if key not in options.given and getattr(of, key) == getattr(usual, key):
            (shaping if key in _SHAPING else chosen)[key] = value
    try:
        return replace(options, **chosen, shaping=replace(options.shaping, **shaping), settings="none", given=()), found
    except UsageError as error:
        raise AnnotationError(
            error.what, where=str(path), got=error.got, expected=error.expected, next_step=error.next_step
        ) from error


def read_settings(path: Path, *, kinds: Mapping[str, Any]) -> Settings:
    """Read the file. `kinds` are those of the reading options, by name; raises as `with_settings`."""
    text = read_small_annotation(path)
    try:
        content = parse_yaml(text)
    except Malformed as error:
        raise AnnotationError("malformed YAML", where=error.place(path), got=error.problem, expected="YAML") from error
    if not isinstance(content, Mapping | None):
        raise AnnotationError("not a file of settings", where=str(path), got=repr(content)[:80], expected="a mapping of settings")
    kinds = {name: kind for name, kind in kinds.items() if name not in _NOT_IN_THE_FILE} | get_type_hints(ClassShaping)
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, value in (content or {}).items():
        where = f"{path}:{_line_of(str(key), text)}"
        if key not in kinds:
            raise AnnotationError(
                "unknown setting",
                where=where,
                got=f"{key!r}{nearest(str(key), tuple(kinds))}",
                expected="one of " + ", ".join(kinds),
            )
        try:
            values[key] = _value(key, value, kind=kinds[key], path=path, where=where)
        except WrongValue as error:
            raise AnnotationError(
                "a setting of another kind",
                where=where,
                got=error.got,
                expected=error.expected,
                next_step="put a name that is a number, yes or no in quotes" if error.expected.startswith("text") else "",
            ) from error
        lines[key] = _line_of(key, text)
    return Settings(path=path, values=values, line_of=lines)


def _value(key: str, value: object, *, kind: Any, path: Path, where: str) -> Any:
    if key == "hierarchy":
        return read_hierarchy(path.parent / value) if isinstance(value, str) else hierarchy_of(value, where=where)
    if key == "classes" and isinstance(value, str) and value.endswith(LIST_SUFFIX):
        return read_class_list(path.parent / value)
    if key == "drop" and isinstance(value, str):
        value = [value]
    checked = from_plain(kind, value, name=key)
    if key not in _PATHS or not checked:
        return checked
    return str(path.parent / checked) if isinstance(checked, str) else tuple(str(path.parent / each) for each in checked)


def _line_of(key: str, text: str) -> int:
    """The line that begins with a key; 1 where it is written in another way."""
    found = re.search(rf"^['\"]?{re.escape(key)}['\"]?\s*:", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1
