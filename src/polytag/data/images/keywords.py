"""Keywords that photo software writes into photographs: XMP and IPTC in JPEG, PNG, WebP and TIFF, and Windows' EXIF tag.

Sources: XMP specification part 3 (where packets are), IPTC-IIM 4.2 (record 2, data set 25), Exif 2.32. Only headers are read,
within bounds: at most a megabyte of metadata and a thousand parts of a file.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from polytag.files import open_regular

MAX_METADATA_BYTES = 1 << 20
_MAX_PARTS = 1000
_XMP_OF_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_OF_PNG = b"XML:com.adobe.xmp\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG, _XP_KEYWORDS = 700, 33723, 34377, 0x9C9E
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 13: 4}  # of a value of each type that these tags may have
_IPTC_RESOURCE = 0x0404
_IPTC_KEYWORD, _IPTC_CHARACTER_SET = (2, 25), (1, 90)

Metadata = Mapping[str, bytes]
"""What a file holds: an "xmp" packet, "iptc" data sets, the "xp" tag."""


def metadata_of(path: Path) -> Metadata:
    """The metadata of a file that may hold keywords; empty for a file of another kind, or with none. Raises OSError."""
    with open_regular(path) as file:
        head = file.read(16)
        found: dict[str, bytes] = {}
        for kind, content in _parts(file, head):
            if len(found.get(kind, b"")) + len(content) <= MAX_METADATA_BYTES:
                found[kind] = found.get(kind, b"") + content if kind == "photoshop" else found.get(kind) or content
    if "photoshop" in found:
        iptc = _iptc_resource(found.pop("photoshop"))
        if iptc and "iptc" not in found:
            found["iptc"] = iptc
    return found


def iptc_keywords(data: bytes) -> list[str]:
    """The keywords of IPTC data sets, in order."""
    found: list[bytes] = []
    is_utf8 = False
    position = 0
    for _ in range(_MAX_PARTS * 10):
        if data[position : position + 1] != b"\x1c" or position + 5 > len(data):
            break
        record, number, size = struct.unpack(">BBH", data[position + 1 : position + 5])
        position += 5
        if size & 0x8000:  # an extended data set, which no keyword needs
            break
        content = data[position : position + size]
        position += size
        if (record, number) == _IPTC_CHARACTER_SET:
            is_utf8 = content == b"\x1b%G"
        elif (record, number) == _IPTC_KEYWORD:
            found.append(content)
    return [_text(content, is_utf8=is_utf8) for content in found]


def xp_keywords(data: bytes) -> list[str]:
    """The keywords of Windows' EXIF tag: UTF-16 with semicolons."""
    return data.decode("utf-16-le", errors="replace").rstrip("\0").split(";")


def _text(content: bytes, *, is_utf8: bool) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("utf-8" if is_utf8 else "latin-1", errors="replace")


def _parts(file: BinaryIO, head: bytes) -> Iterator[tuple[str, bytes]]:
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg_parts(file)
    if head.startswith(b"\x89PNG"):
        return _png_parts(file)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_parts(file)
    if head[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_parts(file)
    return iter(())


def _jpeg_parts(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    position = 2
    for _ in range(_MAX_PARTS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0xDA, 0xD9):
            return
        size = int.from_bytes(head[2:4])
        if head[1] in (0xE1, 0xED):
            content = file.read(max(0, size - 2))
            if content.startswith(_XMP_OF_JPEG):
                yield "xmp", content[len(_XMP_OF_JPEG) :]
            elif content.startswith(_PHOTOSHOP):
                yield "photoshop", content[len(_PHOTOSHOP) :]
            elif content.startswith(b"Exif\0\0"):
                yield from _tiff_parts(io.BytesIO(content[6:]), exif_only=True)
        position += 2 + max(2, size)


def _png_parts(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    position = 8
    for _ in range(_MAX_PARTS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        size = int.from_bytes(head[:4])
        if head[4:] in (b"iTXt", b"eXIf") and size <= MAX_METADATA_BYTES:
            content = file.read(size)
            if head[4:] == b"eXIf":
                yield from _tiff_parts(io.BytesIO(content), exif_only=True)
            elif content.startswith(_XMP_OF_PNG):
                yield "xmp", _international_text(content[len(_XMP_OF_PNG) :])
        position += 12 + size


def _international_text(content: bytes) -> bytes:
    """The text of an iTXt chunk after its keyword: flags, language, translated keyword, text."""
    is_compressed, rest = content[:1] == b"\1", content[2:]
    text = rest.split(b"\0", 2)[-1]
    if not is_compressed:
        return text
    try:
        return zlib.decompressobj().decompress(text, MAX_METADATA_BYTES)
    except zlib.error:
        return b""


def _webp_parts(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    position = 12
    for _ in range(_MAX_PARTS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        if head[:4] in (b"XMP ", b"EXIF") and size <= MAX_METADATA_BYTES:
            content = file.read(size)
            if head[:4] == b"XMP ":
                yield "xmp", content
            else:
                yield from _tiff_parts(io.BytesIO(content.removeprefix(b"Exif\0\0")), exif_only=True)
        position += 8 + size + size % 2


def _tiff_parts(file: BinaryIO, *, exif_only: bool = False) -> Iterator[tuple[str, bytes]]:
    """The tags of the first directory; of EXIF inside another format only Windows' keywords."""
    names = {_XP_KEYWORDS: "xp"}
    if not exif_only:
        names |= {_XMP_TAG: "xmp", _IPTC_TAG: "iptc", _PHOTOSHOP_TAG: "photoshop"}
    file.seek(0)
    head = file.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return
    file.seek(struct.unpack(order + "I", head[4:])[0])
    count = file.read(2)
    num_entries = min(struct.unpack(order + "H", count)[0], _MAX_PARTS) if len(count) == 2 else 0
    entries = file.read(12 * num_entries)
    for start in range(0, len(entries) - 11, 12):
        tag, kind, number = struct.unpack(order + "HHI", entries[start : start + 8])
        size = _SIZES.get(kind, 0) * number
        if tag not in names or not 0 < size <= MAX_METADATA_BYTES:
            continue
        if size <= 4:
            yield names[tag], entries[start + 8 : start + 8 + size]
        else:
            file.seek(struct.unpack(order + "I", entries[start + 8 : start + 12])[0])
            yield names[tag], file.read(size)


def _iptc_resource(data: bytes) -> bytes:
    """The IPTC data among Photoshop's resources."""
    position = 0
    for _ in range(_MAX_PARTS):
        if data[position : position + 4] != b"8BIM" or position + 7 > len(data):
            return b""
        number = int.from_bytes(data[position + 4 : position + 6])
        length_of_name = data[position + 6] + 1
        position += 6 + length_of_name + length_of_name % 2
        size = int.from_bytes(data[position : position + 4])
        position += 4
        if number == _IPTC_RESOURCE:
            return data[position : position + size]
        position += size + size % 2
    return b""
