"""The parts of an image file that its pixels need, and a limit to their number.

Everything else (profiles, thumbnails, comments, texts, later frames) is left out before a decoder sees the file, so no file is
refused for its metadata, and none costs more than a pass over it.
"""

import io
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from polytag.errors import ImageError

MAX_BLOCKS = 100_000
"""Chunks of a PNG, segments of a JPEG's header, blocks before the first frame of a GIF; real files have a few dozen."""
MAX_SCANS = 500

_MAX_HEADER_BYTES = 1 << 20
_MAX_EXIF_BLOCKS = 16
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)

Piece = tuple[int, int | None]
"""Where a part starts and stops in the file; None: at its end."""


def pixel_content(file: BinaryIO, head: bytes, where: str) -> BinaryIO:
    """The file without what its pixels do not need; the file itself for WebP, BMP and TIFF, whose readers pass over that.

    Raises ImageError for a file with too many parts.
    """
    if head.startswith(b"\xff\xd8\xff"):
        pieces = _jpeg_pieces(file, where)
    elif head.startswith(b"\x89PNG"):
        pieces = _png_pieces(file, where)
    elif head.startswith(b"GIF8"):
        pieces = _gif_pieces(file, where)
    else:
        return file
    size = file.seek(0, io.SEEK_END)
    return io.BufferedReader(_Pieces(file, [(start, size if stop is None else min(stop, size)) for start, stop in pieces]))


def part_of(file: BinaryIO, start: int, stop: int) -> BinaryIO:
    """A part of a file as a file."""
    return io.BufferedReader(_Pieces(file, [(start, stop)]))


def scans_of(file: BinaryIO, where: str) -> Iterator[int]:
    """The number of components in each scan of a JPEG; raises ImageError after `MAX_SCANS`."""
    for num_scans, (_, start, _) in enumerate(each for each in _segments(file, where) if each[0] == _SCAN):
        if num_scans == MAX_SCANS:
            raise too_much_work(where, f"more than {MAX_SCANS} scans", "a JPEG of a dozen scans")
        file.seek(start + 4)
        yield min(4, (file.read(1) or b"\0")[0])


def too_much_work(where: str, got: str, expected: str) -> ImageError:
    """The error of a file that would take long to decode for no reason."""
    return ImageError(
        "the image takes too much work to decode",
        where=where,
        got=got,
        expected=expected,
        next_step="export the image again, or remove it",
    )


class _Pieces(io.RawIOBase):
    """A file of these parts of another file, one after the other."""

    def __init__(self, file: BinaryIO, pieces: list[tuple[int, int]]):
        self._file = file
        self._pieces: list[tuple[int, int, int]] = []  # start and stop here, and the distance to the start in the file
        self._size = self._position = 0
        for start, stop in pieces:
            distance = start - self._size
            if self._pieces and self._pieces[-1][2] == distance:  # the two parts are neighbours
                start -= self._pieces[-1][1] - self._pieces[-1][0]
                self._size = self._pieces.pop()[0]
            if stop > start:
                self._pieces.append((self._size, self._size + stop - start, distance))
                self._size += stop - start
        self._number = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence])
        self._number = 0
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  the stub names a wider type
        filled = 0
        while filled < len(buffer) and self._number < len(self._pieces):
            _, stop, distance = self._pieces[self._number]
            if self._position >= stop:
                self._number += 1
                continue
            self._file.seek(self._position + distance)
            content = self._file.read(min(len(buffer) - filled, stop - self._position))
            if not content:
                break
            buffer[filled : filled + len(content)] = content
            filled += len(content)
            self._position += len(content)
        return filled


# ---- PNG ----


def _png_pieces(file: BinaryIO, where: str) -> Iterator[Piece]:
    """Header, palette, transparency, EXIF and pixels. A chunk whose name is no name stays, for the decoder to refuse."""
    yield 0, 8
    position = 8
    for _ in range(MAX_BLOCKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            yield position, None
            return
        length, kind = struct.unpack(">I4s", head)
        stop = position + 12 + length
        if not (kind.isalpha() and kind[:1].islower()) or kind in (b"tRNS", b"eXIf"):
            yield position, stop
        if kind == b"IEND":
            return
        position = stop
    raise too_much_work(where, f"more than {MAX_BLOCKS:,} chunks", "a PNG of a few large chunks")


# ---- JPEG ----


def _jpeg_pieces(file: BinaryIO, where: str) -> Iterator[Piece]:
    """Everything from the first scan on, and of the segments before it those that decode: tables, frames, JFIF, Adobe, EXIF."""
    yield 0, 2
    num_bytes = num_exif = 0
    for code, position, stop in _segments(file, where):
        file.seek(position + 4)
        name = file.read(6)
        is_exif = code == 0xE1 and name == b"Exif\0\0"
        num_exif += is_exif
        if code == _SCAN or stop is None:
            yield position, None
            return
        if is_exif and num_exif <= _MAX_EXIF_BLOCKS:
            yield position, stop
        elif code < 0xE0 or (code == 0xE0 and name[:4] == b"JFIF") or (code == 0xEE and name[:5] == b"Adobe"):
            yield position, stop
            num_bytes += stop - position
            if num_bytes > _MAX_HEADER_BYTES:
                raise too_much_work(where, f"more than {_MAX_HEADER_BYTES:,} bytes of tables", "a JPEG with a few tables")


def _segments(file: BinaryIO, where: str) -> Iterator[tuple[int, int, int | None]]:
    """Code, start and stop of each segment, coded data left out; stop is None at the end of the image or of the file."""
    position = 2
    for _ in range(MAX_BLOCKS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4 or not _MARKER.match(head):
            position = _next_marker(file, position)
            file.seek(position)
            head = file.read(4)
        if len(head) < 4 or head[1] == _END:
            yield _END, position, None
            return
        if head[1] in (0x01, 0xD8):  # markers without content
            stop = position + 2
        else:
            stop = position + 2 + max(2, int.from_bytes(head[2:4]))
        yield head[1], position, stop
        position = stop
    raise too_much_work(where, f"more than {MAX_BLOCKS:,} segments", "a JPEG with a few dozen segments")


def _next_marker(file: BinaryIO, position: int) -> int:
    """The first marker from here on that is no restart of coded data; the end of the file where there is none."""
    while True:
        file.seek(position)
        chunk = file.read(1 << 14)
        if found := _MARKER.search(chunk):
            return position + found.start()
        if len(chunk) < 2:
            return position + len(chunk)
        position += len(chunk) - 1


# ---- GIF ----


def _gif_pieces(file: BinaryIO, where: str) -> Iterator[Piece]:
    """The screen, what controls the first frame, and everything from that frame on."""
    file.seek(0)
    head = file.read(13)
    position = 13 + (3 << (head[10] & 7) + 1 if len(head) == 13 and head[10] & 128 else 0)
    yield 0, position
    num_blocks = 0
    file.seek(position)
    while num_blocks < MAX_BLOCKS:
        position = file.tell()
        kind = file.read(1)
        num_blocks += 1
        if kind in (b",", b";", b""):
            yield position, None
            return
        if kind == b"!":
            label = file.read(1)
            while num_blocks < MAX_BLOCKS and (size := file.read(1)) and size[0]:
                file.seek(size[0], io.SEEK_CUR)
                num_blocks += 1
            if label == b"\xf9":
                yield position, file.tell()
    raise too_much_work(where, f"more than {MAX_BLOCKS:,} blocks before the first frame", "a GIF that begins with a frame")
