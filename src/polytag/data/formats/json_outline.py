"""Which keys the beginning of a JSON file has, and where: enough to tell one tool's file from another's, however large it is."""

import re
from collections.abc import Iterable
from pathlib import Path

from polytag.data.formats.listing import reason
from polytag.errors import AnnotationError
from polytag.files import open_regular

HEAD_BYTES = 1 << 16
_MAX_DEPTH = 6
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)("?)|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)  # a text may be cut: no second pass over it

KeyPath = tuple[str, ...]
"""Keys from the outside in; "[]" is an item of a list."""


def file_head(path: Path) -> str:
    """The first 64 kB of an annotation file as text, whatever its bytes; raises AnnotationError where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise AnnotationError(
            "an annotation file cannot be read", where=str(path), got=reason(error), expected="a readable file"
        ) from error


def outline(text: str) -> frozenset[KeyPath]:
    """The paths of all keys and lists in a beginning of JSON, to a depth of six; of text that is no JSON, whatever it holds."""
    found: set[KeyPath] = set()
    place: list[str] = []  # the path to the value that comes next
    is_dict: list[bool] = []
    expects_key = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "[{":
            is_dict.append(token == "{")
            place.append("[]" if token == "[" else "")
            expects_key = token == "{"
            if token == "[" and len(place) <= _MAX_DEPTH:
                found.add(tuple(place))
        elif token in "]}":
            if not is_dict:
                break
            is_dict.pop()
            place.pop()
            expects_key = False
        elif token == ",":
            expects_key = bool(is_dict) and is_dict[-1]
        elif expects_key and match[2]:
            place[-1] = match[1]
            expects_key = False
            if len(place) <= _MAX_DEPTH:
                found.add(tuple(place))
    return frozenset(found)


def has(paths: Iterable[KeyPath], pattern: str) -> bool:
    """Whether one of the paths is this one, such as "images.[].file_name"; "*" stands for any key that is no item of a list."""
    wanted = pattern.split(".")
    return any(
        len(path) == len(wanted)
        and all(key == name or (name == "*" and key != "[]") for key, name in zip(path, wanted, strict=True))
        for path in paths
    )
