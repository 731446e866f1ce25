"""What a TIFF's first directory declares: limits to its work, and entries that Pillow skips in silence."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL.TiffImagePlugin import TiffImageFile

from polytag.data.images.content import MAX_BLOCKS, part_of, too_much_work

ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 274, 258, 262, 339  # TIFF 6.0 and EXIF 2.3 tag numbers
_WIDTH, _HEIGHT, _COMPRESSION, _STRIP_OFFSETS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES = 256, 257, 259, 273, 277, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_JPEG = 7  # a value of the tag 259
_PIXEL_TAGS = {*range(256, 260), 262, 266, 273, 274, *range(277, 280), 284, 317, 320, *range(322, 326), 338, 339, 347, 530, 532}
_MAX_ENTRIES = 1_000


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
