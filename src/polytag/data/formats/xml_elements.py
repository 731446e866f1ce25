"""XML from strangers: elements one after the other, without entities, external files or a tree of the whole."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from polytag.data.formats.json_outline import file_head
from polytag.data.formats.listing import reason
from polytag.errors import AnnotationError
from polytag.files import open_regular

_CHUNK = 1 << 16
_MAX_DEPTH = 100
_ROOT = re.compile(r"\s*(?:<\?(?>.*?\?>)\s*|<!--(?>.*?-->)\s*)*+<([A-Za-z_][\w.:-]*)", re.DOTALL)  # without a second try


class _Unneeded(ValueError):
    """A document type, which may define entities that grow without bound; or elements nested without end."""


class _Builder(ET.TreeBuilder):
    """Builds elements, and collects those in the outermost one; refuses a document type, and nesting without end."""

    def __init__(self):
        super().__init__()
        self._depth = 0
        self._root: ET.Element | None = None
        self._complete: list[ET.Element] = []

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _Unneeded("<!DOCTYPE>")

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _Unneeded(f"more than {_MAX_DEPTH} elements inside each other")
        element = super().start(tag, attrs)
        if self._root is None:
            self._root = element
            self._complete.append(element)
        return element

    def end(self, tag: str, /) -> ET.Element:
        self._depth -= 1
        element = super().end(tag)
        if self._depth == 1:
            self._complete.append(element)
        return element

    def taken(self) -> list[ET.Element]:
        """The elements that are complete since the last call, which the outermost one then no longer holds."""
        taken, self._complete = self._complete, []
        if self._root is not None:
            del self._root[:]
        return taken


def root_tag(path: Path) -> str:
    """The name of the outermost element of a file, from its first 64 kB; "" where it is none."""
    match = _ROOT.match(file_head(path))
    return match[1] if match else ""


def xml_elements(path: Path) -> Iterator[ET.Element]:
    """The elements in the outermost one, each complete; the caller may drop them. The first is the outermost one, still empty.

    Raises AnnotationError, with the line, for malformed XML, for a document type, and for a file that cannot be read.
    """
    try:
        with open_regular(path) as file:
            yield from _elements(file, where=str(path))
    except OSError as error:
        raise AnnotationError(
            "an annotation file cannot be read", where=str(path), got=reason(error), expected="a readable file"
        ) from error


def _elements(file: BinaryIO, *, where: str) -> Iterator[ET.Element]:
    builder = _Builder()
    parser = ET.XMLParser(target=builder)
    is_last = False
    while not is_last:
        chunk = file.read(_CHUNK)
        is_last = not chunk
        try:
            if is_last:
                parser.close()
            else:
                parser.feed(chunk)
        except (ET.ParseError, ValueError, LookupError) as error:
            raise malformed_xml(error, where=where) from error
        yield from builder.taken()


def malformed_xml(error: Exception, *, where: str) -> AnnotationError:
    """The error of XML that cannot be read."""
    if isinstance(error, ET.ParseError):
        line, column = error.position
        return AnnotationError(
            "malformed XML",
            where=f"{where}:{line}",
            got=f"{str(error).split(':')[0]}, at column {column + 1}",
            expected="XML",
        )
    if isinstance(error, _Unneeded):
        return AnnotationError(
            "XML that annotations do not need", where=where, got=str(error), expected="elements and attributes only"
        )
    return AnnotationError("malformed XML", where=f"{where}:1", got=str(error), expected="XML", next_step="save the file as UTF-8")


def parse_xml(content: bytes, *, where: str) -> ET.Element:
    """The outermost element of a small document; raises AnnotationError as `xml_elements` does."""
    try:
        parser = ET.XMLParser(target=_Builder())
        parser.feed(content)
        return parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise malformed_xml(error, where=where) from error
