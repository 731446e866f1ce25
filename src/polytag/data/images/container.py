"""What tar, zip, Arrow and Parquet files have in common where they hold images: places, and the bytes at each."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import NamedTuple, final

import numpy as np

from polytag.errors import DataError
from polytag.files import open_regular

MAX_IMAGE_BYTES = 1 << 29
"""Of one image inside a file, which is read whole; an uncompressed image of `MAX_PIXELS` has fewer."""

MAX_IMAGES = 10_000_000
"""Of one file; the index of as many takes a quarter of a gigabyte."""


class Damaged(Exception):
    """A file that is not what its name says: what, got, expected and next step of the error that a caller raises with the place."""

    def __init__(self, what: str, *, got: str, expected: str, next_step: str = "write or fetch the file again"):
        super().__init__(what)
        self.what, self.got, self.expected, self.next_step = what, got, expected, next_step

    def error(self, kind: type[DataError], where: str) -> DataError:
        """The error of polytag."""
        return kind(self.what, where=where, got=self.got, expected=self.expected, next_step=self.next_step)


class NoSuchPlace(FileNotFoundError):
    """Nothing is at this place of the file; `strerror` says what there is."""

    def __init__(self, reason: str):
        super().__init__(errno.ENOENT, reason)


class Identity(NamedTuple):
    """Of a file; it changes with the content."""

    device: int
    inode: int
    num_bytes: int
    mtime_ns: int


def identity_of(status: os.stat_result) -> Identity:
    """The identity of a file."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@final
class OpenFile:
    """A file that any number of threads read at any place; it is closed when nobody has it any more."""

    def __init__(self, path: Path | str):
        """Raises OSError as `open_regular` does."""
        self._file = open_regular(path)
        self._lock = Lock()
        self.identity = identity_of(os.fstat(self._file.fileno()))

    def __del__(self):
        if hasattr(self, "_file"):
            self._file.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from a place on; fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def image_at(self, offset: int, size: int) -> bytes:
        """Exactly these bytes; raises Damaged where the file ends before, and for more than an image can have."""
        if not 0 <= size <= MAX_IMAGE_BYTES or offset < 0:
            raise Damaged(
                "the file holds no image of this size", got=f"{size:,} bytes", expected=f"at most {MAX_IMAGE_BYTES:,} bytes"
            )
        content = self.read_at(offset, size)
        if len(content) != size:
            raise Damaged("the file is cut short", got=f"{len(content):,} bytes of an image of {size:,}", expected="the whole file")
        return content


class Container(ABC):
    """Where each image of a file lies. Made once a file and process, and read by any number of threads."""

    @abstractmethod
    def read(self, file: OpenFile, place: str) -> bytes:
        """The image at a place, b"" for a row without one; raises NoSuchPlace or Damaged."""

    @abstractmethod
    def has(self, place: str) -> bool:
        """Whether an image may be at this place."""

    def unpacked_with(self, place: str) -> tuple[int, int] | None:
        """The number and the bytes of the part of the file that is unpacked for an image; None for one that is read alone."""
        return None


@final
class NameIndex:
    """The members of an archive by name, 8 bytes each, whatever the length of the name.

    Names are kept as Python's 64-bit hashes, which differ from process to process, so no file can be made for two of its names to
    collide. `order` holds the members' numbers in the order of the index.
    """

    def __init__(self, names: Sequence[str], *, kind: str):
        """Raises Damaged for two members of one name; `kind` names the file, such as "a tar file"."""
        hash_M = np.fromiter((hash(name) for name in names), np.int64, len(names))
        self.order = np.argsort(hash_M, kind="stable")
        self._hash_M = hash_M[self.order]
        if (twice := np.flatnonzero(self._hash_M[1:] == self._hash_M[:-1])).size:
            raise Damaged(
                f"{kind} holds two files of one name",
                got=repr(names[int(self.order[twice[0]])]),
                expected="every name once",
                next_step="write the file again",
            )

    def find(self, name: str) -> int | None:
        """The place in `order` of the member of this name."""
        key = hash(name)
        index = int(np.searchsorted(self._hash_M, key))
        return index if index < len(self._hash_M) and self._hash_M[index] == key else None


def checked_name(name: str, *, kind: str) -> str:
    """A member's name without "./" and doubled slashes; raises Damaged unless it is a path inside the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise Damaged(
            f"{kind} holds a path that leaves it",
            got=repr(name[:200]),
            expected="paths without '..' and without a slash at the start",
            next_step="write it again from inside the folder of the images",
        )
    return path.as_posix()
