"""Thumbnails of images: single ones for grids, and sheets of them for pages, each image once."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

from PIL import Image

from polytag.data.images.read import read_image
from polytag.errors import ImageError
from polytag.machine import num_cores

_SHEET_SIDE = 10  # thumbnails along a side of a sheet
_THUMBNAIL_PX, _MANY_THUMBNAIL_PX, _MANY_IMAGES = 96, 64, 2500
_JPEG_QUALITY = 70
_GAP_COLOUR = (128, 128, 128)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The position of a thumbnail: the number of its sheet, and its rectangle there in pixels."""

    sheet: int
    left_px: int
    top_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """Thumbnails packed into JPEG images of `side_px` by `side_px`; `places` has no entry for an unreadable image."""

    jpegs: tuple[bytes, ...]
    side_px: int
    places: dict[str, Place]


def read_thumbnail(path: str, *, size_px: int) -> Image.Image | None:
    """The whole image fitted into `size_px` by `size_px` at its aspect ratio; None if its path is empty or it is unreadable."""
    if not path:
        return None
    try:
        image = read_image(Path(path))
    except ImageError:
        return None
    scale = size_px / max(image.size)
    width_px, height_px = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS, reducing_gap=2.0)


def pack_for_page(paths: Sequence[str], *, num_images: int) -> Sheets:
    """Sheets of thumbnails of 96 pixels, or of 64 for a page of more than 2,500 images."""
    return pack_sheets(paths, size_px=_THUMBNAIL_PX if num_images <= _MANY_IMAGES else _MANY_THUMBNAIL_PX)


def pack_sheets(paths: Sequence[str], *, size_px: int) -> Sheets:
    """Read every image once and pack them, in this order, into sheets of 100; at least two threads decode.

    The images of a sheet share one JPEG header, which saves about a fifth compared with 100 files. `size_px` is a multiple of 16,
    JPEG's block with chroma halved, so that no image bleeds into its neighbour.
    """
    assert size_px % 16 == 0
    jpegs: list[bytes] = []
    places: dict[str, Place] = {}
    side_px = _SHEET_SIDE * size_px
    thumbnails = _thumbnails(paths, size_px=size_px)
    while batch := list(islice(thumbnails, _SHEET_SIDE**2)):
        sheet = Image.new("RGB", (side_px, side_px), _GAP_COLOUR)
        for cell, (path, thumbnail) in enumerate(batch):
            left_px, top_px = cell % _SHEET_SIDE * size_px, cell // _SHEET_SIDE * size_px
            sheet.paste(thumbnail, (left_px, top_px))
            width_px, height_px = thumbnail.size
            places[path] = Place(sheet=len(jpegs), left_px=left_px, top_px=top_px, width_px=width_px, height_px=height_px)
        file = BytesIO()
        sheet.save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True, subsampling="4:2:0")
        jpegs.append(file.getvalue())
    return Sheets(jpegs=tuple(jpegs), side_px=side_px, places=places)


def num_threads() -> int:
    """The number of decoding threads. Pillow releases the GIL, so they use every core."""
    return max(2, num_cores())


def _thumbnails(paths: Sequence[str], *, size_px: int) -> Iterator[tuple[str, Image.Image]]:
    distinct = [path for path in dict.fromkeys(paths) if path]
    with ThreadPoolExecutor(num_threads()) as pool:
        for path, thumbnail in zip(distinct, pool.map(lambda path: read_thumbnail(path, size_px=size_px), distinct), strict=True):
            if thumbnail is not None:
                yield path, thumbnail
