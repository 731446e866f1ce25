"""Tar files, read in place: the regular files inside and where their bytes lie. Nothing is extracted.

The headers of POSIX (ustar, pax) and GNU tar, as in POSIX.1-2017 `pax` and `tar(5)`. Unlike Python's tarfile, which takes a broken
header for the end of the archive, a file that does not end with a tar file's end mark is refused.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from polytag.data.images.container import MAX_IMAGES, Container, Damaged, NameIndex, NoSuchPlace, OpenFile, checked_name

BLOCK_BYTES = 512
_MAX_NAME_BYTES = 1 << 20
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _FOLDER = b"L", b"K", b"x", b"g", b"5"
_REGULAR = (b"0", b"\0", b"7")
_KIND = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TarMember:
    """A regular file inside a tar file: its name, with "/" and without "./", and where its bytes lie."""

    name: str
    offset: int
    size: int


class TarContainer(Container):
    """The index of a tar file: 24 bytes a member, whatever the length of its name."""

    def __init__(self, members: list[TarMember]):
        """Raises Damaged for two members of one name."""
        self._index = NameIndex([member.name for member in members], kind="a tar file")
        order = self._index.order
        self._offset_M = np.fromiter((member.offset for member in members), np.int64, len(members))[order]
        self._size_M = np.fromiter((member.size for member in members), np.int64, len(members))[order]

    def read(self, file: OpenFile, place: str) -> bytes:
        if (index := self._index.find(place)) is None:
            raise NoSuchPlace("no file of this name in the tar file")
        return file.image_at(int(self._offset_M[index]), int(self._size_M[index]))

    def has(self, place: str) -> bool:
        return self._index.find(place) is not None


def members_of(file: BinaryIO) -> Iterator[TarMember]:
    """The regular files of an uncompressed tar file, in its order. The caller may read from the file in between.

    Raises Damaged for anything but regular files and folders, a name that leaves the archive, sizes beyond the file's own, and a
    file that is cut short or has a broken header anywhere.
    """
    total = file.seek(0, io.SEEK_END)
    position = num_members = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    while True:
        header = _header(file, position, total)
        if header is None:
            return
        num_members += 1
        if num_members > MAX_IMAGES:
            raise Damaged("a tar file with too many members", got=f"more than {MAX_IMAGES:,}", expected="smaller shards")
        kind = header[156:157]
        is_about_next = kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL)
        size = _number(header[124:136], position) if is_about_next or "size" not in pax else _decimal(pax["size"], position)
        data = position + BLOCK_BYTES
        if size > total - data or (is_about_next and size > _MAX_NAME_BYTES):
            raise Damaged(
                "a tar file is cut short, or its header is broken",
                got=f"a member of {size:,} bytes at byte {position:,} of {total:,}",
                expected="members inside the file",
            )
        position = data + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        if is_about_next:
            file.seek(data)
            content = file.read(size)
            if kind == _LONG_NAME:
                long_name = _text(content)
            elif kind == _PAX:
                pax = _pax_records(content, data)
            elif kind == _PAX_GLOBAL and {"path", "size"} & _pax_records(content, data).keys():
                raise _broken(data, "a name or size for all members")
            continue
        name = checked_name(pax.get("path") or long_name or _name(header), kind="a tar file")
        is_sparse = any(key.startswith("GNU.sparse") for key in pax)
        long_name, pax = None, {}
        if kind == _FOLDER or (kind == b"\0" and _name(header).endswith("/")):
            continue
        if kind not in _REGULAR or is_sparse:
            raise Damaged(
                "a tar file holds more than regular files and folders",
                got=f"{name!r}: {'a sparse file' if is_sparse else _KIND.get(kind, 'a special file')}",
                expected="regular files and folders",
                next_step="write it again with `tar --dereference --hard-dereference --format=ustar`",
            )
        yield TarMember(name=name, offset=data, size=size)


def _header(file: BinaryIO, position: int, total: int) -> bytes | None:
    """The 512 bytes of a header; None at the end mark. Raises Damaged where the file ends without one, or the checksum is wrong."""
    file.seek(position)
    header = file.read(BLOCK_BYTES)
    if len(header) < BLOCK_BYTES:
        raise Damaged(
            "a tar file is cut short",
            got=f"the end of the file at byte {total:,}, without the end mark of a tar file",
            expected="two blocks of zeros at the end",
        )
    if not header.strip(b"\0"):
        return None
    checksum = _number(header[148:156], position)
    if checksum != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        if header.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
            raise Damaged(
                "a compressed tar file, in which no image can be found without unpacking all",
                got=f"a file that begins with {header[:4]!r}",
                expected="an uncompressed tar file",
                next_step="unpack it once, such as with `gunzip`; images are compressed already",
            )
        raise _broken(position, "a wrong checksum")
    return header


def _number(field: bytes, position: int) -> int:
    """An octal number, or GNU's binary one."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise _broken(position, "a negative number")
        return int.from_bytes(field[1:])
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise _broken(position, f"a number written as {field!r}")
    return int(digits or b"0", 8)


def _decimal(text: str, position: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _broken(position, f"a size written as {text[:20]!r}")
    return int(text)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(content: bytes) -> str:
    return content.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax_records(content: bytes, position: int) -> dict[str, str]:
    """Records of the form "LENGTH KEY=VALUE\\n", each as long as it says."""
    records: dict[str, str] = {}
    at = 0
    while at < len(content.rstrip(b"\0")):
        length_text, found, _ = content[at : at + 20].partition(b" ")
        length = int(length_text) if found and length_text.isdigit() else 0
        record = content[at : at + length]
        key, found, value = record[len(length_text) + 1 : -1].partition(b"=")
        if not found or len(record) != length or not record.endswith(b"\n"):
            raise _broken(position, "a broken pax record")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += length
    return records


def _broken(position: int, got: str) -> Damaged:
    return Damaged("a tar file has a broken header", got=f"{got} at byte {position:,}", expected="the header of a tar file")
