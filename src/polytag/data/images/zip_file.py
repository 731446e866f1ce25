"""Zip files, read in place: the regular files inside and where their bytes lie. Nothing is extracted.

Records as in PKWARE's APPNOTE 6.3.10, with ZIP64. The directory at the end of the file says what there is; members are stored or
deflated, do not overlap, and unpack to the size that the directory states, or they are refused.
"""

import io
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from polytag.data.images.container import (
    MAX_IMAGE_BYTES,
    MAX_IMAGES,
    Container,
    Damaged,
    NameIndex,
    NoSuchPlace,
    OpenFile,
    checked_name,
)

ZIP_FILE = "a zip file"
_STORED, _DEFLATED = 0, 8
_METHODS = {1: "shrunk", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 99: "AES encryption"}
_END, _END_64, _LOCATOR, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_END_BYTES, _ENTRY_BYTES, _LOCAL_BYTES, _LOCATOR_BYTES, _END_64_BYTES = 22, 46, 30, 20, 56
_MAX_COMMENT = 65_535
_IS_LARGE = 0xFFFFFFFF  # the number is in the ZIP64 field
_ZIP64_FIELD = 1
_ENCRYPTED, _UTF8 = 1, 1 << 11
_UNIX = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ZipMember:
    """A regular file inside a zip file: its name, with "/" and without "./", where its header lies, and how it is packed."""

    name: str
    header: int
    packed_bytes: int
    size: int
    crc: int
    is_deflated: bool


class ZipContainer(Container):
    """The index of a zip file: 41 bytes a member, whatever the length of its name."""

    def __init__(self, members: list[ZipMember]):
        """Raises Damaged for two members of one name."""
        self._index = NameIndex([member.name for member in members], kind=ZIP_FILE)
        order = self._index.order
        self._header_M = np.array([member.header for member in members], np.int64)[order]
        self._packed_M = np.array([member.packed_bytes for member in members], np.int64)[order]
        self._size_M = np.array([member.size for member in members], np.int64)[order]
        self._crc_M = np.array([member.crc for member in members], np.int64)[order]
        self._is_deflated_M = np.array([member.is_deflated for member in members], bool)[order]

    def read(self, file: OpenFile, place: str) -> bytes:
        if (index := self._index.find(place)) is None:
            raise NoSuchPlace("no file of this name in the zip file")
        size, packed_bytes, header = (int(each[index]) for each in (self._size_M, self._packed_M, self._header_M))
        if size > MAX_IMAGE_BYTES:
            raise Damaged(
                "the file holds no image of this size", got=f"{size:,} bytes", expected=f"at most {MAX_IMAGE_BYTES:,} bytes"
            )
        local = file.image_at(header, _LOCAL_BYTES)
        if not local.startswith(_LOCAL):
            raise _broken(header, "no header of a member")
        name_bytes, extra_bytes = struct.unpack_from("<HH", local, 26)
        content = file.image_at(header + _LOCAL_BYTES + name_bytes + extra_bytes, packed_bytes)
        if self._is_deflated_M[index]:
            content = _inflated(content, size, header)
        if len(content) != size or zlib.crc32(content) != self._crc_M[index]:
            raise _broken(header, "a member of another checksum or size")
        return content

    def has(self, place: str) -> bool:
        return self._index.find(place) is not None


def zip_members_of(file: BinaryIO) -> Iterator[ZipMember]:
    """The regular files of a zip file, in the order of its directory. The caller may not read from the file in between.

    Raises Damaged for a file that is cut short or has bytes that no record names, for anything but regular files and folders, for
    names that leave the archive, for members that overlap, and for packing other than stored and deflated.
    """
    total = file.seek(0, io.SEEK_END)
    start, stop, num_entries = _directory(file, total)
    spans: list[tuple[int, int]] = []
    file.seek(start)
    position = start
    for _ in range(num_entries):
        record = file.read(_ENTRY_BYTES)
        if len(record) < _ENTRY_BYTES or not record.startswith(_ENTRY):
            raise _broken(position, "no entry of the directory")
        lengths = struct.unpack_from("<HHH", record, 28)
        variable = file.read(sum(lengths))
        position += _ENTRY_BYTES + sum(lengths)
        if len(variable) < sum(lengths) or position > stop:
            raise _broken(position, "a directory that is longer than it says")
        member = _member(record, variable[: lengths[0]], variable[lengths[0] : lengths[0] + lengths[1]], position)
        if member is None:
            continue
        if member.header + _LOCAL_BYTES + member.packed_bytes > start:
            raise _broken(position, f"a member of {member.packed_bytes:,} bytes that lies outside the file")
        spans.append((member.header, member.header + _LOCAL_BYTES + member.packed_bytes))
        yield member
    if position != stop:
        raise _broken(position, "a directory that is shorter than it says")
    spans.sort()
    for (_, end), (begin, _) in pairwise(spans):
        if begin < end:
            raise _broken(begin, "members that overlap")


def _directory(file: BinaryIO, total: int) -> tuple[int, int, int]:
    """Where the directory starts and stops, and the number of its entries."""
    tail_start = max(0, total - _END_BYTES - _MAX_COMMENT)
    file.seek(tail_start)
    tail = file.read(total - tail_start)
    at = tail.rfind(_END)
    while at >= 0 and not (
        len(tail) - at >= _END_BYTES and at + _END_BYTES + struct.unpack_from("<H", tail, at + 20)[0] == len(tail)
    ):
        at = tail.rfind(_END, 0, at)
    if at < 0:
        raise Damaged(
            "a zip file is cut short, or is none",
            got=f"the end of the file at byte {total:,}, without the end record of a zip file",
            expected="the whole zip file",
        )
    disk, directory_disk, on_disk, num_entries, num_bytes, start = struct.unpack_from("<HHHHII", tail, at + 4)
    stop = tail_start + at
    if _IS_LARGE in (num_bytes, start) or num_entries == 0xFFFF:
        stop, disk, directory_disk, on_disk, num_entries, num_bytes, start = _directory_64(file, stop)
    if disk or directory_disk or on_disk != num_entries:
        raise _broken(stop, "one of several parts of a zip file")
    if num_entries > MAX_IMAGES:
        raise Damaged("a zip file with too many members", got=f"{num_entries:,}", expected=f"at most {MAX_IMAGES:,}")
    if start + num_bytes != stop or num_entries * _ENTRY_BYTES > num_bytes:
        raise _broken(stop, f"a directory of {num_entries:,} entries and {num_bytes:,} bytes at byte {start:,}")
    return start, stop, num_entries


def _directory_64(file: BinaryIO, end: int) -> tuple[int, int, int, int, int, int, int]:
    """Where the directory stops, then the numbers of the ZIP64 end record: disks, entries, bytes and start."""
    file.seek(max(0, end - _LOCATOR_BYTES))
    locator = file.read(_LOCATOR_BYTES)
    if len(locator) < _LOCATOR_BYTES or not locator.startswith(_LOCATOR):
        raise _broken(end, "no ZIP64 locator")
    (position,) = struct.unpack_from("<Q", locator, 8)
    if position > end - _LOCATOR_BYTES - _END_64_BYTES:
        raise _broken(end, "a ZIP64 end record outside the file")
    file.seek(position)
    record = file.read(_END_64_BYTES)
    if not record.startswith(_END_64):
        raise _broken(position, "no ZIP64 end record")
    return position, *struct.unpack_from("<IIQQQQ", record, 16)


def _member(record: bytes, raw_name: bytes, extra: bytes, position: int) -> ZipMember | None:
    """The member of an entry of the directory; None for a folder."""
    made_by, flags, method = record[5], *struct.unpack_from("<HH", record, 8)
    crc, packed_bytes, size = struct.unpack_from("<III", record, 16)
    attributes, header = struct.unpack_from("<II", record, 38)
    size, packed_bytes, header = _large_numbers(extra, (size, packed_bytes, header), position)
    text = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "surrogateescape").replace("\\", "/")
    name = checked_name(text, kind=ZIP_FILE)
    if text.endswith("/"):
        return None
    mode = attributes >> 16 if made_by == _UNIX else 0
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise Damaged(
            "a zip file holds more than regular files and folders",
            got=f"{name!r}: {'a symbolic link' if stat.S_ISLNK(mode) else 'a special file'}",
            expected="regular files and folders",
        )
    if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
        got = "encryption" if flags & _ENCRYPTED else _METHODS.get(method, f"method {method}")
        raise Damaged(
            "a zip file is packed in a way that is not read",
            got=f"{name!r}: {got}",
            expected="members that are stored or deflated, without a password",
            next_step="write it again with `zip`",
        )
    if method == _STORED and packed_bytes != size:
        raise _broken(position, f"a stored member of {packed_bytes:,} bytes that says {size:,}")
    return ZipMember(name=name, header=header, packed_bytes=packed_bytes, size=size, crc=crc, is_deflated=method == _DEFLATED)


def _large_numbers(extra: bytes, numbers: tuple[int, ...], position: int) -> Iterator[int]:
    """The numbers, from the ZIP64 field where the entry itself has no room for them."""
    large = b""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == _ZIP64_FIELD:
            large = extra[at + 4 : at + 4 + length]
            break
        at += 4 + length
    used = 0
    for number in numbers:
        if number == _IS_LARGE:
            if len(large) < used + 8:
                raise _broken(position, "no ZIP64 field for a large number")
            (number,) = struct.unpack_from("<Q", large, used)
            used += 8
        if number >= 1 << 62:
            raise _broken(position, f"the number {number:,}")
        yield number


def _inflated(content: bytes, size: int, position: int) -> bytes:
    """At most one byte more than `size`, whatever the content would unpack to."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = unpacker.decompress(content, size + 1)
    except zlib.error as error:
        raise _broken(position, f"a member that cannot be unpacked ({error})") from error
    if not unpacker.eof:
        raise _broken(position, "a member that unpacks to another size")
    return found


def _broken(position: int, got: str) -> Damaged:
    return Damaged("a zip file is broken", got=f"{got} at byte {position:,}", expected="the records of a zip file")
