"""Images that a tool refers to by address: a URL, a cloud's storage, an upload, a path of another machine. Nothing is fetched."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from polytag.data.formats.listing import images_below
from polytag.data.formats.records import ReadingContext
from polytag.errors import AnnotationError

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)", re.DOTALL)  # Label Studio puts it before the name of an uploaded file
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class ImageFinder:
    """Finds the file of each reference: in some folders, by as much of its path as fits, or else by its name below DATA."""

    def __init__(self, *, context: ReadingContext, below: Path):
        self._context = context
        self._below = below
        self._where_of: dict[tuple[str, str], str] = {}
        self._uploads: dict[str, list[Path]] | None = None

    def path(self, reference: str, folders: Sequence[str], *, split: str, where: str) -> Path:
        """The file. Raises AnnotationError for none, for several that fit, and for one that another reference has taken."""
        path = self._found(reference, folders, where=where)
        first = self._where_of.setdefault((split, str(path)), where)
        if first != where:
            raise AnnotationError(
                "an image is listed twice",
                where=where,
                got=f"{shortened(reference)!r} is {path.name}, first in {first}",
                expected="every image once",
                next_step="join the labels of an image into one entry, or name the images so that each has a name of its own",
            )
        return path

    def _found(self, reference: str, folders: Sequence[str], *, where: str) -> Path:
        if reference.startswith("data:"):
            raise AnnotationError(
                "an image inside the annotations",
                where=where,
                got=f"{reference[:30]}...",
                expected="the name of a file",
                next_step="save the images as files, and name them here",
            )
        names = names_of(reference)
        index = self._context.index
        for name in names:
            for tail in _tails(name) if is_address(reference) else (name,):
                if path := index.find(tail, folders, elsewhere=False):
                    return path
        for name in names:
            if path := index.find(name, folders):
                return path
        path = self._as_before_upload(names[-1]) if "upload/" in reference and index.must_exist else None
        return path or index.require(names[-1], folders, where=where)

    def _as_before_upload(self, name: str) -> Path | None:
        """The file whose name an upload has changed: Label Studio writes "_" for spaces and drops brackets and the like."""
        if self._uploads is None:
            self._uploads = {}
            for inside in images_below(self._below):
                path = self._below / inside
                self._uploads.setdefault(_uploaded_name(path.name), []).append(path)
        found = self._uploads.get(os.path.basename(name), [])
        if len(found) != 1:
            return None
        self._context.log.note(f"images are found by the names that they had before their upload, such as {found[0].name!r}")
        return found[0]


def is_address(reference: str) -> bool:
    """Whether a reference starts at a root: of a URL, a disk or a server."""
    return "://" in reference or reference.startswith(("/", "\\\\")) or bool(_WINDOWS_DRIVE.match(reference))


def names_of(reference: str) -> tuple[str, ...]:
    """Names that the image of a reference may have here, the most literal first: without host, query and percent-encoding."""
    name = reference.strip()
    scheme, mark, rest = name.partition("://")
    if mark and scheme.lower() in ("http", "https", "file", "s3", "gs"):
        name = rest.partition("/")[2] or rest
    elif mark:
        name = rest
    if "/local-files/" in name and "d=" in name:
        name = _query(name).get("d", [name])[0]
    elif mark and scheme.lower() in ("http", "https"):
        name = re.split(r"[?#]", name, maxsplit=1)[0] or name
    names = [name, unquote(name)]
    if "upload/" in name:
        folder, _, last = unquote(name).rpartition("/")
        if match := _UPLOADED.fullmatch(last):
            names.append(match[1] if not folder else f"{folder}/{match[1]}")
    return tuple(dict.fromkeys(names))


def shortened(text: str) -> str:
    """A reference for a message."""
    return text if len(text) <= 200 else text[:200] + "..."


def _query(name: str) -> dict[str, list[str]]:
    try:
        return parse_qs(urlsplit(name).query, max_num_fields=100)
    except ValueError:
        return {}


def _tails(name: str) -> list[str]:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[start:]) for start in range(max(0, len(parts) - 8), len(parts))] or [name]


def _uploaded_name(name: str) -> str:
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
