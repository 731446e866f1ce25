"""How much memory and work an image may take while it is decoded, from its header alone."""

from typing import BinaryIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from polytag.data.images.content import scans_of, too_much_work
from polytag.data.images.tiff import jpeg_strips, strip_bytes
from polytag.errors import ImageError

MAX_PIXELS = 128_000_000
"""Above the largest common cameras (108 megapixels); at Pillow's four bytes per pixel, half a gigabyte decoded."""

MAX_BYTES = 4 * MAX_PIXELS
"""Of memory while an image is decoded and converted; turning it upright by EXIF takes up to as much again."""

MAX_SCANNED_PIXELS = 1_100_000_000
"""Pixels times components over all scans of a JPEG. A common progressive file has 14 times its pixels, in ten scans."""

_MAX_RLE_PIXELS = 16_000_000  # Pillow unpacks run-length coded BMP in Python


def require_few_pixels(size: tuple[int, int], where: str, max_pixels: int) -> None:
    """Raises ImageError for an image of more pixels."""
    if size[0] * size[1] > max_pixels:
        raise too_large(where, f"{size[0]} x {size[1]} pixels", max_pixels)


def require_modest(image: ImageFile, file: BinaryIO, where: str) -> None:
    """Raises ImageError where decoding would take more than `MAX_BYTES` of memory, or more work than its pixels need."""
    width, height = image.size
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    converted = 0 if image.mode == "RGB" and "transparency" not in image.info else 4
    decoder_bytes = 0.0
    passed_pixels = 0
    if isinstance(image, JpegImageFile):
        decoder_bytes = _coefficient_bytes(image, file, where)
    elif isinstance(image, WebPImageFile):
        decoder_bytes = 12 * width * height  # two canvases and a copy
    elif isinstance(image, TiffImageFile):
        decoder_bytes = strip_bytes(image)
        for strip, num_pixels in jpeg_strips(image, file, where):
            passed_pixels += num_pixels * sum(scans_of(strip, where))
            _require_few_passes(passed_pixels, where)
    elif isinstance(image, BmpImageFile) and image.tile[0][0] == "bmp_rle":
        decoder_bytes = 2 * width * height
        if width * height > _MAX_RLE_PIXELS:
            got = f"{width} x {height} pixels, run-length coded"
            raise too_much_work(where, got, f"at most {_MAX_RLE_PIXELS:,} pixels")
    num_bytes = width * height * stored + max(width * height * converted, round(decoder_bytes))
    if num_bytes > MAX_BYTES:
        raise ImageError(
            "the image takes too much memory to decode",
            where=where,
            got=f"{num_bytes:,} bytes for {width} x {height} pixels",
            expected=f"at most {MAX_BYTES:,} bytes",
            next_step=_SMALLER,
        )


def _require_few_passes(num_pixels: int, where: str) -> None:
    if num_pixels > MAX_SCANNED_PIXELS:
        got = f"scans over more than {num_pixels:,} pixels in all"
        raise too_much_work(where, got, f"at most {MAX_SCANNED_PIXELS:,}")


def _coefficient_bytes(image: JpegImageFile, file: BinaryIO, where: str) -> float:
    """Memory of the coefficients of a JPEG of several scans, which libjpeg collects; 0 where one scan holds everything."""
    width, height = image.size
    is_progressive = "progressive" in image.info
    num_components = 0
    for number in scans_of(file, where):
        if number == image.layers and not is_progressive:
            return 0
        num_components += number
        _require_few_passes(num_components * width * height, where)
    shares = [vertical * horizontal for _, vertical, horizontal, _ in image.layer]
    return 2 * width * height * sum(shares) / max(max(shares), 1)


def too_large(where: str, got: str, max_pixels: int) -> ImageError:
    """The error of an image of more than `max_pixels` pixels."""
    return ImageError(
        "the image has too many pixels",
        where=where,
        got=got,
        expected=f"at most {max_pixels:,} pixels",
        next_step=_SMALLER,
    )


_SMALLER = "make the image smaller: models read a few hundred pixels per side"
