"""JSON and YAML from files, as plain values within bounds. Whatever the text, the answer is a value or one `Malformed`.

A plain value is None, a bool, an int, a float, a str, a list or a dict. Nothing is executed, and no object of another kind is made.
"""

import json
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from polytag.files import open_regular

MAX_JSON_BYTES = 64_000_000  # of polytag's own files; 1,000 classes with isotonic calibrations stay below
MAX_YAML_BYTES = 500_000  # 20,000 class names take 0.3 MB; any text within the bounds takes PyYAML 1.5 s at most
_MAX_BRACKETS = 1_000_000  # an empty list takes 56 bytes, so a file of nothing else would take 20 times its size
_MAX_DEPTH = 16  # PyYAML looks at every open bracket for each token
_MAX_NODES = 50_000  # a list, a mapping and a tag count as one more
_MAX_DIGITS = 40


class Malformed(ValueError):
    """Text that is not JSON or not YAML, or beyond the bounds. `line` counts from 1; 0 where no line is at fault."""

    def __init__(self, problem: str, *, line: int = 0):
        super().__init__(problem)
        self.problem, self.line = problem, line

    def place(self, path: Path, *, first_line: int = 1) -> str:
        """`path:line`, or the path alone."""
        return f"{path}:{first_line + self.line - 1}" if self.line else str(path)


def read_small_text(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> str:
    """The text of a regular file in UTF-8. Raises OSError where it is none or cannot be read, Malformed for other text."""
    with open_regular(path) as file:
        return small_text(file.read(max_bytes + 1), max_bytes=max_bytes)


def small_text(content: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> str:
    """Bytes as text in UTF-8; raises Malformed for more bytes, and for others."""
    if len(content) > max_bytes:
        raise Malformed(f"more than {max_bytes:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed("bytes that are not UTF-8", line=content.count(b"\n", 0, error.start) + 1) from error


def parse_json(text: str) -> object:
    """Strict JSON: finite numbers only, every key once, at most a million brackets; raises Malformed."""
    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        raise Malformed(f"more than {_MAX_BRACKETS:,} brackets")
    return _decoded(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)


def parse_lenient_json(text: str, *, without: Sequence[str] = ()) -> object:
    """JSON as other programs write it: of any size, with NaN and Infinity; the last of equal keys counts. Raises Malformed.

    The values of the keys `without` are dropped as soon as they are parsed, from every object.
    """

    def smaller(item: dict[str, object]) -> dict[str, object]:
        for key in without:
            item.pop(key, None)
        return item

    return _decoded(text, object_hook=smaller if without else None)


def _decoded(text: str, **hooks: Any) -> object:
    try:
        return json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        raise Malformed(f"{error.msg}, at column {error.colno}", line=error.lineno) from error
    except RecursionError as error:
        raise Malformed("brackets nested too deep") from error
    except Malformed:
        raise
    except ValueError as error:  # Python converts at most 4,300 digits
        raise Malformed("a number of too many digits") from error


def _no_constant(name: str) -> object:
    raise Malformed(f"{name}, which is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Malformed(f"the number {digits[:20]}, which is too large")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise Malformed(f"the key {name[:60]!r} is given twice")
    return values


def parse_yaml(text: str) -> object:
    """YAML of scalars, lists and mappings; raises Malformed. A date is text, since no file of ours has dates.

    Refused: other tags, merge keys, a key given twice, more than 16 levels, and aliases that repeat values beyond 50,000.
    """
    return _parsed_yaml(text, _PlainLoader)


def _parsed_yaml(text: str, loader: Any) -> object:
    if len(text) > MAX_YAML_BYTES:
        raise Malformed(f"more than {MAX_YAML_BYTES:,} characters")
    try:
        return yaml.load(text, Loader=loader)  # a SafeLoader that makes fewer kinds of objects
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Malformed(error.problem or "text that is not YAML", line=line) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise Malformed(str(error).splitlines()[0]) from error


def parse_text_yaml(text: str) -> object:
    """As `parse_yaml`, but every scalar is text as it is written: `no`, `1.0` and `null` may be names. Raises Malformed."""
    return _parsed_yaml(text, _TextLoader)


class _PlainLoader(yaml.SafeLoader):
    """Composes a bounded number of nodes, in bounded depth, and makes plain values of them."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = self._num_nodes = 0
        self._size_of: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        before = self._num_nodes
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _refusal(event, "brackets or lists nested too deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._size_of:
                raise _refusal(event, "an alias inside its own anchor")
            self._num_nodes += self._size_of[id(node)]
        else:
            self._num_nodes += 1 + isinstance(event, yaml.CollectionStartEvent) + (event.tag is not None)
            self._size_of[id(node)] = self._num_nodes - before
        if self._num_nodes > _MAX_NODES:
            raise _refusal(event, f"more than {_MAX_NODES:,} values")
        return node

    def make_null(self, node: Any) -> None:
        self.construct_scalar(node)

    def make_bool(self, node: Any) -> bool:
        return self._value(node, lambda text: self.bool_values[text.lower()])

    def make_int(self, node: Any) -> int:
        return self._value(node, lambda text: yaml.SafeLoader.construct_yaml_int(self, node))

    def make_float(self, node: Any) -> float:
        return self._value(node, lambda text: yaml.SafeLoader.construct_yaml_float(self, node))

    def _value(self, node: Any, convert: Any) -> Any:
        text = self.construct_scalar(node)
        if len(text) > _MAX_DIGITS:
            raise _refusal(node, "a number of too many digits")
        try:
            return convert(text)
        except (ValueError, KeyError, IndexError, OverflowError) as error:  # !!int x
            raise _refusal(node, f"{text!r} with the tag {node.tag.rpartition(':')[2]!r}") from error

    def make_list(self, node: Any) -> list[object]:
        return self.construct_sequence(node, deep=True)

    def make_dict(self, node: Any) -> dict[Any, object]:
        if not isinstance(node, yaml.MappingNode):
            raise _refusal(node, "a value with the tag of a mapping")
        values: dict[Any, object] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _refusal(key_node, "a list or mapping as a key")
            if key in values:
                raise _refusal(key_node, f"the key {str(key)[:60]!r} is given twice")
            values[key] = self.construct_object(value_node, deep=True)
        return values


def _refusal(place: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


_TAG = "tag:yaml.org,2002:"
_NOT_OURS = (_TAG + "timestamp", _TAG + "value")  # dates, and "=" alone: they stay text
_PlainLoader.yaml_constructors = {
    _TAG + "null": _PlainLoader.make_null,
    _TAG + "bool": _PlainLoader.make_bool,
    _TAG + "int": _PlainLoader.make_int,
    _TAG + "float": _PlainLoader.make_float,
    _TAG + "str": yaml.SafeLoader.construct_yaml_str,
    _TAG + "seq": _PlainLoader.make_list,
    _TAG + "map": _PlainLoader.make_dict,
    None: yaml.SafeLoader.construct_undefined,
}
_PlainLoader.yaml_implicit_resolvers = {
    letter: [each for each in resolvers if each[0] not in _NOT_OURS]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _TextLoader(_PlainLoader):
    """Takes no scalar for anything but text."""


_TextLoader.yaml_implicit_resolvers = {}
