"""What a TIFF's first directory declares: limits to its work, and entries that Pillow skips in silence."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL.TiffImagePlugin import TiffImageFile

from polytag.data.images.content import MAX_BLOCKS, part_of, too_much_work
from polytag.data.images.fax import FAX_COMPRESSIONS, fax_rows

ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 274, 258, 262, 339  # TIFF 6.0 and EXIF 2.3 tag numbers
_WIDTH, _HEIGHT, _COMPRESSION, _STRIP_OFFSETS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES = 256, 257, 259, 273, 277, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_FILL_ORDER, _T4_OPTIONS = 266, 292
_JPEG = 7  # a value of the tag 259
_PIXEL_TAGS = {*range(256, 260), 262, 266, 273, 274, *range(277, 280), 284, 317, 320, *range(322, 326), 338, 339, 347, 530, 532}
_MAX_ENTRIES = 1_000
_MAX_FAX_BYTES, _MAX_FAX_ROWS = 1_000_000, 1_000_000  # some seconds, as they are checked in Python; a page has a tenth


class Tiff(TiffImageFile):
    """A TIFF file of which the first page alone is read, as it is stored: no other page, no EXIF block, no turning."""

    def load_end(self) -> None:
        self._size = self.im.size


def require_modest_directory(file: BinaryIO, where: str) -> None:
    """Raises ImageError for more entries, strips or tiles than a real file has; their size is limited by Pillow."""
    for number, (tag, _, count) in enumerate(_entries(file)):
        if number == _MAX_ENTRIES:
            raise too_much_work(where, f"more than {_MAX_ENTRIES:,} directory entries", "a TIFF with a few dozen entries")
        if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and count > MAX_BLOCKS:
            raise too_much_work(where, f"{count:,} strips or tiles", f"at most {MAX_BLOCKS:,}")


def refuse_lost_tags(image: TiffImageFile, file: BinaryIO) -> None:
    """Raise OSError where Pillow skipped a tag about the storage of the pixels, as it does in truncated files."""
    for tag, _, _ in _entries(file):
        if tag in _PIXEL_TAGS and tag not in image.tag_v2:
            raise OSError(f"the directory entry {tag} cannot be read")


def strip_bytes(image: TiffImageFile) -> int:
    """Bytes of a decoded strip or tile, which libtiff holds beside the image."""
    tags = image.tag_v2
    bits = max(tags.get(BITS_PER_SAMPLE, (1,))) * int(tags.get(_SAMPLES_PER_PIXEL, 1))
    return 0 if tags.get(_COMPRESSION, 1) == 1 else _strip_pixels(image) * max(4, bits // 8)


def jpeg_strips(image: TiffImageFile, file: BinaryIO, where: str) -> Iterator[tuple[BinaryIO, int]]:
    """Content and number of pixels of each strip or tile that is a JPEG; raises ImageError where they overlap."""
    tags = image.tag_v2
    if tags.get(_COMPRESSION) != _JPEG:
        return
    starts = tags.get(_STRIP_OFFSETS) or tags.get(_TILE_OFFSETS) or ()
    num_bytes = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
    size = file.seek(0, io.SEEK_END)
    if sum(num_bytes) > 2 * size:
        raise too_much_work(where, f"strips of {sum(num_bytes):,} bytes in {size:,}", "strips that do not overlap")
    for start, number in zip(starts, num_bytes, strict=False):
        yield part_of(file, start, start + number), _strip_pixels(image)


def require_whole_fax(image: TiffImageFile, file: BinaryIO, where: str) -> None:
    """Raises ValueError where rows of a fax image are missing or damaged, ImageError where that takes long to see."""
    tags = image.tag_v2
    if tags.get(_COMPRESSION) not in FAX_COMPRESSIONS:
        return
    width, rows_left, rows_per_strip = int(tags[_WIDTH]), int(tags[_HEIGHT]), _strip_rows(image)
    starts = tags.get(_STRIP_OFFSETS) or tags.get(_TILE_OFFSETS) or ()
    num_bytes = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or (0,) * len(starts)
    is_tiled = _TILE_OFFSETS in tags
    if is_tiled:
        width, rows_left = int(tags[_TILE_WIDTH]), rows_per_strip * len(starts)
    size = file.seek(0, io.SEEK_END)
    strips = [(start, number or size) for start, number in zip(starts, num_bytes, strict=False)]
    total_bytes = sum(max(0, min(number, size - start)) for start, number in strips)
    if total_bytes > _MAX_FAX_BYTES or rows_left > _MAX_FAX_ROWS:
        got = f"{total_bytes:,} bytes of fax data for {rows_left:,} rows"
        raise too_much_work(where, got, f"at most {_MAX_FAX_BYTES:,} bytes and {_MAX_FAX_ROWS:,} rows")
    for start, number in strips:
        num_rows = min(rows_left, rows_per_strip)
        rows = fax_rows(
            part_of(file, start, start + number).read(),
            width=width,
            num_rows=num_rows,
            compression=tags[_COMPRESSION],
            options=tags.get(_T4_OPTIONS, 0),
            lowest_bit_first=tags.get(_FILL_ORDER, 1) == 2,
        )
        rows_left -= sum(1 for _ in rows)
    if rows_left:
        raise ValueError(f"{rows_left:,} rows of fax data are missing")


def _strip_rows(image: TiffImageFile) -> int:
    tags = image.tag_v2
    height = int(tags[_HEIGHT])
    return int(tags[_TILE_LENGTH]) if _TILE_LENGTH in tags else min(int(tags.get(_ROWS_PER_STRIP, height)), height)


def _strip_pixels(image: TiffImageFile) -> int:
    tags = image.tag_v2
    height = int(tags[_HEIGHT])
    rows = min(int(tags.get(_TILE_LENGTH, tags.get(_ROWS_PER_STRIP, height))), height)
    return rows * int(tags.get(_TILE_WIDTH, tags[_WIDTH]))


def _entries(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Tag, type and number of values of each entry of the first directory; ends where the file is cut."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    count_format, entry_format, entry_bytes = (order + "Q", order + "HHQ", 20) if big else (order + "H", order + "HHI", 12)
    file.seek(start)
    (num_entries,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
    for _ in range(num_entries):
        yield struct.unpack_from(entry_format, file.read(entry_bytes))
