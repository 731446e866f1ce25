"""Plain values from files as checked values: a dataclass is the description of what a file holds, by name, kind and size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

MAX_TEXT = 4096  # characters of one text, as many as a path has
_MAX_FACTS = 100
_SHOWN = 80
_T = TypeVar("_T")


class WrongValue(ValueError):
    """A value of another kind, size or range than its name allows: `got` names it, `expected` says what would be right."""

    def __init__(self, name: str, value: object, *, expected: str):
        self.got, self.expected = f"{name}: {shown(value)}" if name else shown(value), expected
        super().__init__(f"{self.got}, expected {expected}")


def shown(value: object) -> str:
    """A value for a message, at most 80 characters, without characters that are not printable."""
    if isinstance(value, str):
        text = ascii(value[:_SHOWN]) if not value.isprintable() else repr(value[:_SHOWN])
    elif isinstance(value, Mapping | Sequence):
        text = f"{'a mapping' if isinstance(value, Mapping) else 'a list'} of {len(value)}"
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        text = f"a whole number of {value.bit_length()} bits"
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def from_plain(kind: type[_T], values: object, *, name: str = "") -> _T:
    """A dataclass from a mapping of its fields, or any value of a kind; raises WrongValue with the field that is wrong.

    Kinds: dataclasses, `bool`, `int` (64 bits), `float` (finite), `str` (Unicode text of at most 4,096 characters), tuples from
    lists, `Sequence[X]`, `X | None`, `Mapping[str, X]`, `Mapping[str, object]`: at most 100 plain scalars, or short lists of them;
    and `dict`: names to anything, for the caller to look into. A field that is missing takes its default, or is an error where it
    has none; a name that is no field is an error. What the dataclass itself raises passes through.
    """
    return _value(kind, values, name)


def _value(kind: Any, value: object, name: str) -> Any:
    if get_origin(kind) is UnionType:
        return None if value is None else _value(next(each for each in get_args(kind) if each is not type(None)), value, name)
    if is_dataclass(kind):
        return _dataclass(kind, value, name)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64:
        return value
    if kind is float and is_finite(value):
        return float(value)  # pyright: ignore[reportArgumentType]
    if kind is str and isinstance(value, str) and len(value) <= MAX_TEXT and is_unicode(value):
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return _tuple(get_args(kind), value, name)
    if get_origin(kind) is Sequence and isinstance(value, list | tuple):
        return _tuple((*get_args(kind), ...), value, name)
    if get_origin(kind) is Mapping and isinstance(value, Mapping):
        return _mapping(get_args(kind)[1], value, name)
    if (get_origin(kind) or kind) is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return value
    raise WrongValue(name, value, expected=_expected(kind))


def _dataclass(kind: Any, value: object, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise WrongValue(name, value, expected="a mapping of names to values")
    kinds, required = _fields_of(kind)
    prefix = f"{name}." if name else ""
    for key in value:
        if key not in kinds:
            raise WrongValue(name or "an unknown name", key, expected="one of " + ", ".join(kinds))
    for key in required:
        if key not in value:
            raise WrongValue(prefix + key, None, expected="a value; the name is missing")
    return kind(**{key: _value(kinds[key], item, prefix + key) for key, item in value.items()})


@cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    hints = get_type_hints(kind)
    required = [each.name for each in fields(kind) if each.default is each.default_factory is MISSING]
    return {each.name: hints[each.name] for each in fields(kind)}, tuple(required)


def _tuple(kinds: tuple[Any, ...], value: Sequence[object], name: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        return tuple(_value(kinds[0], item, f"{name}[{row}]") for row, item in enumerate(value))
    if len(value) != len(kinds):
        raise WrongValue(name, value, expected=f"a list of {len(kinds)}")
    return tuple(_value(kind, item, f"{name}[{row}]") for row, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _mapping(kind: Any, value: Mapping[Any, object], name: str) -> dict[str, Any]:
    if kind is object:
        return _facts(value, name)
    return {_value(str, key, name): _value(kind, item, f"{name}.{key}") for key, item in value.items()}


def _facts(value: Mapping[Any, object], name: str) -> dict[str, object]:
    if len(value) > _MAX_FACTS:
        raise WrongValue(name, value, expected=f"at most {_MAX_FACTS} names")
    for key, item in value.items():
        if not isinstance(key, str) or len(key) > MAX_TEXT or not is_unicode(key):
            raise WrongValue(name, key, expected="names that are text")
        for scalar in item if isinstance(item, list | tuple) and len(item) <= _MAX_FACTS else (item,):
            if not (scalar is None or is_finite(scalar) or isinstance(scalar, bool)):
                _value(str, scalar, f"{name}.{key}")
    return dict(value)


def is_finite(value: object) -> bool:
    """Whether a value is a number, not a bool, that a float64 holds: neither NaN nor infinite, nor an integer beyond 1e308."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value.bit_length() < 1024 if isinstance(value, int) else math.isfinite(value)


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8, which half of a surrogate pair, as JSON can spell it, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _expected(kind: Any) -> str:
    texts = {
        bool: "true or false",
        int: "a whole number of 64 bits",
        float: "a finite number",
        str: f"text of at most {MAX_TEXT:,} characters",
        tuple: "a list",
        Sequence: "a list",
    }
    return texts.get(get_origin(kind) or kind, "a mapping of names to values")
