"""Images wherever they lie: as files, or inside a tar, zip, Arrow or Parquet file, read there without unpacking it.

The path of an image inside a file is the path of the file followed by its place: `train-000000.tar/000123.jpg`,
`train-00000-of-00001.parquet/image/17` (column and row, from 0 on). So predictions, caches, the inspector and errors work with it
as with any other path. Everything that opens, stats or looks for an image file does it here.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Iterable
from io import BufferedReader, BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from polytag.data.images.container import Container, Damaged, Identity, OpenFile, identity_of
from polytag.data.images.tar_file import TarContainer, TarMember, members_of
from polytag.data.images.zip_file import ZipContainer, zip_members_of
from polytag.errors import AnnotationError, ImageError
from polytag.files import open_regular

if TYPE_CHECKING:
    from polytag.data.images.row_file import RowContainer

TAR, ZIP, ARROW, PARQUET = ".tar", ".zip", ".arrow", ".parquet"
ARCHIVE_SUFFIXES = frozenset({TAR, ZIP})
"""Endings of the files whose places are names of files."""

CONTAINER_SUFFIXES = frozenset({TAR, ZIP, ARROW, PARQUET})
"""Endings of the files that may hold images, in any letter case."""

_INSIDE = re.compile(r"\.(?:tar|zip|arrow|parquet)[/\\]", re.IGNORECASE)
_MAX_INDEXES, _MAX_OPEN = 10_000, 100

_INDEXES: OrderedDict[str, tuple[Identity, Container]] = OrderedDict()
_FILES: OrderedDict[str, OpenFile] = OrderedDict()
_LOCK = Lock()  # of both
_MAKING = Lock()  # all threads of a pass need the index of its first file at once


# ---- one image ----


def open_image(path: Path | str) -> BufferedReader | BytesIO:
    """The content of an image as a file. Costs a microsecond more than `open_regular` where the path is a file.

    Raises OSError, with `strerror`, where there is none, and ImageError where the file that holds it is damaged or was changed.
    """
    found = split_stored(path)
    return open_regular(path) if found is None else BytesIO(_read(*found))


def image_status(path: Path | str) -> os.stat_result:
    """Size and times of an image's file, or of the file that holds it; raises OSError where there is none."""
    found = split_stored(path)
    return os.stat(path if found is None else found[0])


def is_image_there(path: Path | str) -> bool:
    """Whether there is a file at this path, or an image at this place of a file."""
    found = split_stored(path)
    if found is None:
        return os.path.isfile(path)
    try:
        return _index(found[0])[1].has(found[1])
    except (OSError, ValueError, Damaged, ImageError):
        return False


def unpacked_with(path: Path | str) -> tuple[str, int, int] | None:
    """The file, and the number and bytes of its part, that is unpacked for an image; None for one that is read alone, or not."""
    if (found := split_stored(path)) is None:
        return None
    try:
        part = _index(found[0])[1].unpacked_with(found[1])
    except (OSError, ValueError, Damaged, ImageError):
        return None
    return part and (found[0], *part)


def split_stored(path: Path | str) -> tuple[str, str] | None:
    """The file that holds an image, and the place in it; None for a path that leads into no file of such a name."""
    text = os.fspath(path)
    for found in _INSIDE.finditer(text):
        file = text[: found.end() - 1]
        if file in _INDEXES or os.path.isfile(file):
            return file, text[found.end() :].replace(os.sep, "/")
    return None


# ---- the images of a file ----


def is_container(path: Path | str) -> bool:
    """Whether a file has the ending of one that may hold images."""
    return os.path.splitext(path)[1].lower() in CONTAINER_SUFFIXES


def stored_places(path: Path | str) -> list[str]:
    """The places of a file, in its order: of a tar or zip file the names of all its files, else the rows of its first column of
    images.

    The file as it is now counts from here on. Raises AnnotationError where it cannot be read.
    """
    if os.path.splitext(path)[1].lower() == TAR:
        return [member.name for member, _ in tar_members(path)]
    if os.path.splitext(path)[1].lower() == ZIP:
        return _zip_places(path)
    return row_container(path).places()


def row_container(path: Path | str) -> "RowContainer":
    """The columns of images of an Arrow or Parquet file. The file as it is now counts from here on. Raises AnnotationError."""
    try:
        with open_regular(path) as file:
            container = _made(os.fspath(path), file)
            _keep(path, file, container)
    except Damaged as error:
        raise error.error(AnnotationError, str(path)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    assert not isinstance(container, TarContainer | ZipContainer)
    return container


def _zip_places(path: Path | str) -> list[str]:
    try:
        with open_regular(path) as file:
            members = list(zip_members_of(file))
            _keep(path, file, ZipContainer(members))
    except Damaged as error:
        raise error.error(AnnotationError, str(path)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    return [member.name for member in members]


def tar_members(path: Path | str, *, with_content: Iterable[str] = (), max_bytes: int = 1 << 20) -> list[tuple[TarMember, bytes]]:
    """The files of a tar file, in its order, and the content of those with these endings (b"" of others, and of larger ones).

    The file as it is now counts from here on. Raises AnnotationError where it cannot be read.
    """
    suffixes = frozenset(with_content)
    found: list[tuple[TarMember, bytes]] = []
    try:
        with open_regular(path) as file:
            for member in members_of(file):
                content = b""
                if os.path.splitext(member.name)[1].lower() in suffixes and member.size <= max_bytes:
                    file.seek(member.offset)
                    content = file.read(member.size)
                found.append((member, content))
            _keep(path, file, TarContainer([member for member, _ in found]))
    except Damaged as error:
        raise error.error(AnnotationError, str(path)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    return found


def _unreadable(path: Path | str, error: OSError) -> AnnotationError:
    got = error.strerror or str(error)
    return AnnotationError("a file of images cannot be read", where=str(path), got=got, expected="a readable file")


# ---- indexes ----


def _read(path: str, place: str) -> bytes:
    """The bytes at a place of a file; raises OSError and ImageError."""
    try:
        identity, container = _index(path)
        return container.read(_file(path, identity), place)
    except Damaged as error:
        raise error.error(ImageError, f"{path}/{place}") from error


def _index(path: str) -> tuple[Identity, Container]:
    """The index of a file, made on first use; raises Damaged, and ImageError where the file is not what it was then."""
    identity = identity_of(os.stat(path))
    if (known := _INDEXES.get(path)) is None:
        with _MAKING:
            if (known := _INDEXES.get(path)) is None:
                with open_regular(path) as file:
                    known = _keep(path, file, _made(path, file))
    if known[0] != identity:
        raise _changed(path)
    return known


def _file(path: str, identity: Identity) -> OpenFile:
    """The open file; raises ImageError where it is another one by now."""
    with _LOCK:
        if (file := _FILES.get(path)) is not None and file.identity == identity:
            _FILES.move_to_end(path)
            return file
    file = OpenFile(path)
    if file.identity != identity:
        raise _changed(path)
    with _LOCK:
        _FILES[path] = file
        if len(_FILES) > _MAX_OPEN:
            _FILES.popitem(last=False)
    return file


def _changed(path: str) -> ImageError:
    return ImageError(
        "the file was changed after its images were listed",
        where=path,
        got="another size or time of change",
        expected="the file as it was",
        next_step="read the data set, or list the images, again",
    )


def _made(path: str, file: BinaryIO) -> "TarContainer | ZipContainer | RowContainer":
    suffix = os.path.splitext(path)[1].lower()
    if suffix == TAR:
        return TarContainer(list(members_of(file)))
    if suffix == ZIP:
        return ZipContainer(list(zip_members_of(file)))
    if suffix == ARROW:
        from polytag.data.images.row_file import open_arrow  # pyarrow takes 0.1 s, which other images do without

        return open_arrow(path)
    from polytag.data.images.parquet_file import open_parquet

    return open_parquet(path)


def _keep(path: Path | str, file: BinaryIO, container: Container) -> tuple[Identity, Container]:
    known = identity_of(os.fstat(file.fileno())), container
    with _LOCK:
        _FILES.pop(os.fspath(path), None)
        _INDEXES[os.fspath(path)] = known
        if len(_INDEXES) > _MAX_INDEXES:
            _INDEXES.popitem(last=False)
    return known
