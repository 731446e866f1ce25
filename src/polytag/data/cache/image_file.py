"""A file of uint8 images, written whole or not at all and memory-mapped by every process that reads it.

Layout: a header of 64 bytes, the images in sequence, and an index with offset, shape and CRC-32 of each. Opening the file checks
the header and the index; the first read of an image in a process checks its checksum. The file need not be flushed to the disk,
because the checks reveal the loss after a power failure.
"""

import os
import zlib
from pathlib import Path
from threading import Lock

import numpy as np

from polytag.data.cache.store import room_bytes
from polytag.files import NewFile

_MAGIC = b"polytag images 1\n".ljust(32, b"\0")
_HEADER_BYTES = 64
_CHECK_EVERY_BYTES = 64_000_000  # written between two checks of the free space
_INDEX = np.dtype([("offset", "<u8"), ("views", "<u4"), ("height", "<u4"), ("width", "<u4"), ("crc", "<u4")])


class ImageFile:
    """A complete file, memory-mapped. Thread-safe; processes share its memory.

    The file may be removed while it is mapped: the mapped images stay readable.
    """

    def __init__(self, path: Path, *, num_rows: int):
        """Raises ValueError for an incomplete file or another number of images, OSError for a file that cannot be read."""
        self.path = path
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
            if len(header) != _HEADER_BYTES or not header.startswith(_MAGIC):
                raise ValueError("not a file of images")
            index_offset, index_crc, rows = (int(number) for number in np.frombuffer(header[32:56], "<u8"))
            if rows != num_rows or size != index_offset + rows * _INDEX.itemsize:
                raise ValueError("a file of another size")
            file.seek(index_offset)
            index = file.read()
        if zlib.crc32(index) != index_crc:
            raise ValueError("a damaged index")
        self._index = np.frombuffer(index, _INDEX)
        self._bytes = np.memmap(path, np.uint8, "r")
        self._checked = np.zeros(num_rows, bool)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return len(self._bytes)

    def read(self, row: int) -> np.ndarray | None:
        """uint8 V x H x W x 3, read-only and not copied; None for an image that could not be decoded for the file.

        Raises ValueError for an image with a wrong checksum.
        """
        entry = self._index[row]
        shape = (int(entry["views"]), int(entry["height"]), int(entry["width"]), 3)
        num_bytes = int(np.prod(shape))
        if not num_bytes:
            return None
        start = int(entry["offset"])
        pixels = self._bytes[start : start + num_bytes]
        if not self._checked[row]:
            if len(pixels) != num_bytes or zlib.crc32(pixels.data) != int(entry["crc"]):
                raise ValueError(f"image {row} is damaged")
            self._checked[row] = True
        return np.asarray(pixels).reshape(shape)


class ImageFileWriter:
    """Writes images, in any order and from any thread, to a new file that takes its place with `finish`, or goes with `abandon`."""

    def __init__(self, path: Path, *, num_rows: int):
        """Raises OSError where the folder cannot be written."""
        self._folder = path.parent
        self._index = np.zeros(num_rows, _INDEX)
        self._seen = np.zeros(num_rows, bool)
        self._lock = Lock()
        self._unchecked_bytes = 0
        self._new: NewFile | None = NewFile(path, durable=False)
        self._new.file.write(bytes(_HEADER_BYTES))

    @property
    def is_open(self) -> bool:
        """Whether the writer accepts images."""
        return self._new is not None

    @property
    def is_complete(self) -> bool:
        """Whether every row has been added, with or without an image."""
        return bool(self._seen.all())

    def add(self, row: int, pixels_VHWC: np.ndarray | None) -> None:
        """Write a row's image, or None where it has none; later calls for a row are ignored. A full disk ends the writing."""
        if not self.is_open or self._seen[row]:
            return
        crc = 0 if pixels_VHWC is None else zlib.crc32(np.ascontiguousarray(pixels_VHWC).data)
        with self._lock:
            if self._new is None or self._seen[row]:
                return
            try:
                if pixels_VHWC is not None:
                    self._index[row] = (self._new.file.tell(), *pixels_VHWC.shape[:3], crc)
                    self._new.file.write(np.ascontiguousarray(pixels_VHWC).data)
                    self._unchecked_bytes += pixels_VHWC.nbytes
                self._seen[row] = True
                if self._unchecked_bytes > _CHECK_EVERY_BYTES:
                    self._unchecked_bytes = 0
                    if room_bytes(self._folder) <= 0:
                        self._abandon()
            except OSError:
                self._abandon()

    def finish(self) -> bool:
        """Put the complete file in place; on failure return False and leave nothing behind."""
        with self._lock:
            if self._new is None or not self.is_complete:
                return False
            try:
                file, index = self._new.file, self._index.tobytes()
                numbers = np.array([file.tell(), zlib.crc32(index), len(self._index)], "<u8")
                file.write(index)
                file.seek(0)
                file.write((_MAGIC + numbers.tobytes()).ljust(_HEADER_BYTES, b"\0"))
                self._new.commit()
                self._new = None
            except OSError:
                self._abandon()
                return False
            return True

    def abandon(self) -> None:
        """Stop and remove the temporary file."""
        with self._lock:
            self._abandon()

    def _abandon(self) -> None:
        if self._new is not None:
            self._new.abandon()
            self._new = None
