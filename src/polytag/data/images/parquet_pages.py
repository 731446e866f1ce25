"""The pages of a Parquet column: where each lies in the file, and the places of the values in an uncompressed one.

After the format's specification: `parquet.thrift` (FileMetaData and PageHeader, in Thrift's compact protocol) and `Encodings.md`
(PLAIN byte arrays, the hybrid of run lengths and bit packing). pyarrow reads whole row groups only, which is too much for one
image, and its `ColumnChunkMetaData.compression` aborts the process where a damaged file names no codec.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytag.data.images.container import Damaged, OpenFile

DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # PageType
PLAIN = 0  # Encoding
MAX_PAGE_BYTES = 1 << 30
MAX_PAGES = 1_000_000
_HEADER_BYTES, _MAX_HEADER_BYTES = 1 << 12, 1 << 22  # a header may hold the smallest and the largest value
_MAX_DEPTH = 16
_MAX_FOOTER_BYTES = 1 << 28
_PLAIN_ENCODINGS = {PLAIN, 3, 4}  # and those of levels: RLE, BIT_PACKED
_ROW_GROUPS, _COLUMNS, _COLUMN = 4, 1, 3  # fields of FileMetaData, RowGroup and ColumnChunk
_ENCODINGS, _CODEC, _CHUNK_VALUES = 2, 4, 5  # of ColumnMetaData, as are the next
_UNPACKED_BYTES, _PACKED_BYTES, _DATA_OFFSET, _DICTIONARY_OFFSET = 6, 7, 9, 11
_TYPE, _UNPACKED, _PACKED, _V1, _DICTIONARY, _V2 = 1, 2, 3, 5, 7, 8  # fields of PageHeader
_NUM_VALUES, _ENCODING, _V2_ENCODING, _V2_DEFINITION, _V2_REPETITION = 1, 2, 4, 5, 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """The part of a column in one row group: its bytes in the file, its values, and whether they lie there as they are."""

    start: int
    stop: int
    unpacked_bytes: int
    num_values: int
    is_plain: bool


def chunks_of(file: OpenFile, column: int) -> list[Chunk]:
    """The chunks of a column, by its number among the leaves of the schema; raises Damaged."""
    size = file.identity.num_bytes
    tail = file.read_at(max(0, size - 8), 8)
    num_bytes = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or num_bytes > min(size - 8, _MAX_FOOTER_BYTES):
        raise _broken(f"no footer at the end of {size:,} bytes")
    try:
        footer, _ = _struct(file.read_at(size - 8 - num_bytes, num_bytes), 0, depth=0)
        return [_chunk(group[_COLUMNS][column][_COLUMN], size) for group in footer.get(_ROW_GROUPS, [])]
    except (IndexError, KeyError, TypeError, AttributeError):  # what is missing, or another kind of value
        raise _broken("a footer without the parts that every one has") from None


def _chunk(column: dict[int, Any], size: int) -> Chunk:
    starts = [column[field] for field in (_DICTIONARY_OFFSET, _DATA_OFFSET) if column.get(field, 0) > 0]
    start, num_bytes = min(starts, default=0), column[_PACKED_BYTES]
    if not 0 <= num_bytes <= size - start or column[_CHUNK_VALUES] < 0:
        raise _broken(f"a column of {num_bytes:,} bytes at byte {start:,} of {size:,}")
    return Chunk(
        start=start,
        stop=start + num_bytes,
        unpacked_bytes=max(num_bytes, column.get(_UNPACKED_BYTES, 0)),
        num_values=column[_CHUNK_VALUES],
        is_plain=column[_CODEC] == 0 and column.get(_DICTIONARY_OFFSET, 0) <= 0 and set(column[_ENCODINGS]) <= _PLAIN_ENCODINGS,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of data or of a dictionary.

    offset            of its content in the file, behind the header
    packed_bytes      of its content in the file; `unpacked_bytes` when decompressed
    levels_bytes      of the levels in front of the values, in version 2; -1 in version 1, where the content says it
    """

    kind: int
    offset: int
    packed_bytes: int
    unpacked_bytes: int
    num_values: int
    encoding: int
    levels_bytes: int = -1


def pages_of(file: OpenFile, *, start: int, stop: int, num_values: int) -> Iterator[Page]:
    """The pages of a column chunk, one small read each, until they hold all its values; raises Damaged."""
    position = start
    for _ in range(MAX_PAGES):
        if num_values <= 0:
            return
        header, num_bytes = _header(file, position)
        position += num_bytes
        page = _page(header, position)
        if page is not None:
            if not 0 <= page.packed_bytes <= stop - position or not 0 <= page.unpacked_bytes <= MAX_PAGE_BYTES:
                raise _broken(f"a page of {page.packed_bytes:,} bytes, unpacked {page.unpacked_bytes:,}, at byte {position:,}")
            if page.kind != DICTIONARY:
                num_values -= page.num_values
                if num_values < 0 or page.num_values <= 0:
                    raise _broken(f"a page of {page.num_values:,} values at byte {position:,}, which is not what the column has")
            yield page
        position += max(0, _integer(header, _PACKED))
        if position > stop:
            raise _broken(f"pages beyond their column, at byte {position:,}")
    if num_values > 0:
        raise _broken(f"more than {MAX_PAGES:,} pages")


def plain_values(file: OpenFile, page: Page, *, max_level: int) -> tuple[np.ndarray, np.ndarray]:
    """Start in the file of each value of an uncompressed page of PLAIN byte arrays, and its size; -1 for a null.

    Only the lengths are read, one small read a value. Raises Damaged.
    """
    position, num_bytes, stop = page.offset, page.levels_bytes, page.offset + page.packed_bytes
    if num_bytes < 0:
        num_bytes = 0
        if max_level:
            num_bytes, position = _length(file, position, stop), position + 4
    is_present_N = np.ones(page.num_values, bool)
    if max_level:
        is_present_N = _levels(file.read_at(position, num_bytes), page.num_values, max_level) == max_level
    position += num_bytes
    start_N = np.zeros(page.num_values, np.int64)
    size_N = np.full(page.num_values, -1, np.int64)
    for row in np.flatnonzero(is_present_N).tolist():
        size = _length(file, position, stop)
        start_N[row], size_N[row] = position + 4, size
        position += 4 + size
    return start_N, size_N


def _length(file: OpenFile, position: int, stop: int) -> int:
    """Four bytes that say how many follow them; raises Damaged where those are not in the page."""
    content = file.read_at(position, 4)
    size = int.from_bytes(content, "little")
    if len(content) < 4 or size > stop - position - 4:
        raise _broken(f"a value of {size:,} bytes beyond its page, at byte {position:,}")
    return size


def _levels(content: bytes, num_values: int, max_level: int) -> np.ndarray:
    """Definition levels: runs of one level, and levels of a few bits each."""
    width = max_level.bit_length()
    level_N = np.zeros(num_values, np.int64)
    filled = position = 0
    while filled < num_values:
        header, position = _varint(content, position)
        if header & 1:
            num_bytes = (header >> 1) * width
            bits = np.unpackbits(np.frombuffer(content[position : position + num_bytes], np.uint8), bitorder="little")
            if len(bits) < 8 * num_bytes:
                raise _broken("levels that end early")
            values = bits.reshape(-1, width) @ (1 << np.arange(width))
            values = values[: num_values - filled]
            level_N[filled : filled + len(values)] = values
            filled += len(values)
            position += num_bytes
        else:
            if position >= len(content):
                raise _broken("levels that end early")
            count = min(header >> 1, num_values - filled)
            level_N[filled : filled + count] = content[position]
            filled += count
            position += (width + 7) // 8
        if not header >> 1:
            raise _broken("an empty run of levels")
    return level_N


# ---- headers ----


def _page(header: dict[int, Any], offset: int) -> Page | None:
    """The page behind a header; None for one of an index."""
    kind = _integer(header, _TYPE)
    part = header.get({DATA: _V1, DICTIONARY: _DICTIONARY, DATA_V2: _V2}.get(kind, 0))
    if not isinstance(part, dict):
        if kind in (DATA, DICTIONARY, DATA_V2):
            raise _broken(f"a page without a header of its kind at byte {offset:,}")
        return None
    is_v2 = kind == DATA_V2
    levels_bytes = -1
    if is_v2:
        levels_bytes = _integer(part, _V2_DEFINITION) + _integer(part, _V2_REPETITION)
        if min(_integer(part, _V2_DEFINITION), _integer(part, _V2_REPETITION)) < 0:
            raise _broken(f"levels of fewer than no bytes at byte {offset:,}")
    return Page(
        kind=kind,
        offset=offset,
        packed_bytes=_integer(header, _PACKED),
        unpacked_bytes=_integer(header, _UNPACKED),
        num_values=_integer(part, _NUM_VALUES),
        encoding=_integer(part, _V2_ENCODING if is_v2 else _ENCODING),
        levels_bytes=levels_bytes,
    )


def _header(file: OpenFile, position: int) -> tuple[dict[int, Any], int]:
    """The fields of a PageHeader and its length in bytes."""
    num_bytes = _HEADER_BYTES
    while True:
        content = file.read_at(position, num_bytes)
        try:
            return _struct(content, 0, depth=0)
        except IndexError:  # it is longer, or the file ends
            if len(content) < num_bytes or num_bytes >= _MAX_HEADER_BYTES:
                raise _broken(f"a page without a header at byte {position:,}") from None
            num_bytes *= 16


def _struct(content: bytes, position: int, *, depth: int) -> tuple[dict[int, Any], int]:
    """The values by field number; doubles and texts are passed over. Raises IndexError where the content ends."""
    if depth > _MAX_DEPTH:
        raise _broken("a header of structs in structs")
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = content[position]
        position += 1
        if head == 0:
            return fields, position
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            number, position = _zigzag(content, position)
        if kind in (1, 2):
            fields[number] = kind == 1
        else:
            fields[number], position = _value(content, position, kind, depth)


def _value(content: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (4, 5, 6):
        return _zigzag(content, position)
    if kind == 12:
        return _struct(content, position, depth=depth + 1)
    if kind in (9, 10):
        return _list(content, position, depth)
    if kind == 8:
        length, position = _varint(content, position)
        return None, position + length
    if kind in (1, 2, 3, 7):
        return None, position + (8 if kind == 7 else 1)
    raise _broken(f"a header with a value of kind {kind}")


def _list(content: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    kind, count = content[position] & 15, content[position] >> 4
    position += 1
    if count == 15:
        count, position = _varint(content, position)
    values: list[Any] = []
    for _ in range(count):
        if position >= len(content):
            raise IndexError
        value, position = _value(content, position, kind, depth)
        values.append(value)
    return values, position


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise _broken("a number of more than 64 bits")


def _zigzag(content: bytes, position: int) -> tuple[int, int]:
    value, position = _varint(content, position)
    return (value >> 1) ^ -(value & 1), position


def _integer(fields: dict[int, Any], number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int):
        raise _broken(f"a page header without field {number}")
    return value


def _broken(got: str) -> Damaged:
    return Damaged("a Parquet file is cut short or broken", got=got, expected="a Parquet file")
