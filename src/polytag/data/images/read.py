"""The decoding policy of training and prediction: any image in, an upright 8-bit RGB image out.

Six formats, recognised by their first bytes and never by the file's name: JPEG, PNG, WebP, BMP, GIF and TIFF; of files with several
frames, the first. `docs/reference/images.md` describes the policy for users.
"""

import os
import stat
import struct
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from polytag.errors import ImageError

MAX_PIXELS = 128_000_000
"""Above the largest common cameras (108 megapixels); at Pillow's four bytes per pixel, half a gigabyte decoded."""

READ_FORMATS = "JPEG, PNG, WebP, BMP, GIF or TIFF"

_WHITE = (255, 255, 255)
_UPRIGHT = {  # EXIF's value: the transposition from the stored to the upright image
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 274, 258, 262, 339  # TIFF 6.0 and EXIF 2.3 tag numbers
_PIXEL_TAGS = {*range(256, 260), 262, 266, 273, 274, *range(277, 280), 284, 317, 320, *range(322, 326), 338, 339, 347, 530, 532}


def read_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, enough_px: int | None = None) -> Image.Image:
    """Decode one image: 8-bit RGB, upright, at full size.

    `source` is a file or a file's content. Transparent parts become white. 16-bit grey is scaled by its range; 32-bit and float
    grey, which have no natural range, from the image's minimum (black) to its maximum (white). Colour profiles are not applied,
    except that CIELAB becomes sRGB. Thread-safe. Prints nothing, except that libtiff writes a line to stderr for a broken
    compressed TIFF.

    With `enough_px` a JPEG may be decoded at a half, a quarter or an eighth of its size, if its longer side then has at least that
    many pixels.

    Raises ImageError, and nothing else, for a file that is missing, empty, unreadable, of another format, broken, truncated, or
    whose header declares more than `max_pixels` pixels; the last is detected before decoding.
    """
    where = "" if isinstance(source, bytes) else str(source)
    with _opened(source, where) as file:
        head = file.read(4096)
        reader = _reader(head)
        if reader is None:
            raise ImageError(
                "not an image in a known format",
                where=where,
                got=_what_it_is(head),
                expected=READ_FORMATS,
                next_step="convert the image, or remove it",
            )
        file.seek(0)
        try:
            with _quiet(reader, head):
                image = reader(file)
            width_px, height_px = image.size
            if width_px * height_px > max_pixels:
                raise _too_large(where, f"{width_px} x {height_px} pixels", max_pixels)
            if isinstance(image, TiffImageFile):
                _refuse_lost_tags(image, file)
            if enough_px is not None and isinstance(image, _Jpeg):
                _scale_down(image, enough_px)
            with _quiet(reader, head):
                image.load()
            return _upright(_to_rgb(image), image)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:  # Pillow's own cap, which a larger max_pixels does not lift
            raise _too_large(where, str(error), max_pixels) from error
        except Exception as error:
            # For broken files Pillow's parsers raise a dozen kinds of errors, SyntaxError and IndexError among them.
            raise ImageError(
                "the image cannot be decoded",
                where=where,
                got=str(error) or type(error).__name__,
                expected=f"a whole {_FORMAT_NAME[reader]} file",
                next_step="fetch or export the image again, or remove it",
            ) from error


def read_size(path: Path) -> tuple[int, int]:
    """Stored width and height in pixels, from the header alone; an image with an EXIF rotation has them swapped.

    Raises ImageError for a file that is missing, empty, unreadable or of another format.
    """
    return _read_header(path)[0]


def read_frame(path: Path) -> tuple[tuple[int, int], int]:
    """Stored width and height in pixels, and EXIF's orientation, 1 to 8; 1 is upright, and from 5 on the two are swapped.

    Only the header is read. Raises ImageError as `read_size`.
    """
    size, orientation = _read_header(path)
    return size, orientation if orientation in _UPRIGHT else 1


def _read_header(path: Path) -> tuple[tuple[int, int], int]:
    """Size and EXIF orientation."""
    with _opened(path, str(path)) as file:
        head = file.read(4096)
        reader = _reader(head)
        if reader is None:
            raise ImageError("not an image in a known format", where=str(path), got=_what_it_is(head), expected=READ_FORMATS)
        file.seek(0)
        try:
            with _quiet(reader, head):
                image = reader(file)
                orientation = _orientation(image)
                is_turned = isinstance(image, TiffImageFile) and orientation >= 5  # Pillow reports the upright size of a TIFF
                width, height = image.size
                return (height, width) if is_turned else (width, height), orientation
        except Exception as error:  # as in read_image
            raise ImageError(
                "the image's header cannot be read", where=str(path), got=str(error) or type(error).__name__
            ) from error


def _scale_down(image: JpegImageFile, enough_px: int) -> None:
    """Decode fewer of the frequencies; the mode does not change."""
    width, height = image.size
    for scale in (8, 4, 2):
        if max(width, height) // scale >= enough_px and min(width, height) >= scale:
            image.draft(None, (width // scale, height // scale))
            return


class _Jpeg(JpegImageFile):
    """A JPEG file whose EXIF block is not parsed on opening: Pillow reads only the print density from it."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


_FORMAT_NAME: dict[type[ImageFile], str] = {
    _Jpeg: "JPEG",
    PngImageFile: "PNG",
    WebPImageFile: "WebP",
    BmpImageFile: "BMP",
    GifImageFile: "GIF",
    TiffImageFile: "TIFF",
}


def _reader(head: bytes) -> type[ImageFile] | None:
    """The reader of a file that starts with these bytes.

    Pillow's `Image.open` is not used, because its limit of pixels is process-wide, and here it is an argument.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return _Jpeg
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImageFile
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GifImageFile
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TiffImageFile
    if head.startswith(b"BM"):
        return BmpImageFile
    return None


def _opened(source: Path | bytes, where: str) -> BinaryIO:
    """The content as a file object; raises ImageError where there is none."""
    expected = f"a {READ_FORMATS} file"
    if isinstance(source, bytes):
        if not source:
            raise ImageError("the image is empty", got="0 bytes", expected=expected)
        return BytesIO(source)
    try:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block forever
            got = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise ImageError("the image is not a file", where=where, got=got, expected=expected)
        if not status.st_size:
            raise ImageError("the image is empty", where=where, got="0 bytes", expected=expected)
        return open(source, "rb")
    except FileNotFoundError as error:
        raise ImageError("the image is missing", where=where, got="no such file", expected=expected) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError("the image cannot be opened", where=where, got=reason, expected="a file that can be read") from error


@contextmanager
def _quiet(reader: type[ImageFile], head: bytes) -> Generator[None]:
    """Silence Pillow's warnings about unusual tags in TIFF and animated PNG; unreadable files raise.

    `catch_warnings` changes a list that all threads share, so it is used for these two formats alone, and the filter names Pillow
    alone: if interleaved threads leave it behind, no warning of another library is lost.
    """
    if reader is TiffImageFile or (reader is PngImageFile and b"acTL" in head):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    else:
        yield


def _refuse_lost_tags(image: TiffImageFile, file: BinaryIO) -> None:
    """Raise OSError where Pillow skipped a tag about the storage of the pixels, as it does in truncated files."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    count_format, entry_bytes = (order + "Q", 20) if big else (order + "H", 12)
    file.seek(start)
    (num_entries,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
    for _ in range(num_entries):
        (tag,) = struct.unpack_from(order + "H", file.read(entry_bytes))
        if tag in _PIXEL_TAGS and tag not in image.tag_v2:
            raise OSError(f"the directory entry {tag} cannot be read")


def _to_rgb(image: ImageFile) -> Image.Image:
    """8-bit RGB from any mode; the same object where it is RGB already."""
    mode = image.mode
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or ("transparency" in image.info and mode in ("1", "L", "P", "RGB")):
        return _over_white(image)
    if mode == "RGB":
        return image
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_grey_levels(image)).convert("RGB")
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """The image composed over white, the background of cut-outs and drawings; dropping alpha would reveal hidden parts."""
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    rgb = rgba.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return rgb
    canvas = Image.new("RGB", image.size, _WHITE)
    canvas.paste(rgb, mask=alpha)
    return canvas


def _grey_levels(image: ImageFile) -> np.ndarray:
    """Levels 0 to 255 of a grey image with more than 8 bits, shape (height, width); Pillow's own conversion clips at 255."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    value_HW = np.asarray(image)
    if image.mode.startswith("I;16"):
        top = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1  # Pillow reads 12-bit TIFF into 16 bits
        level_HW = (value_HW.astype(np.uint32) * 255 + top // 2) // top
    else:
        if image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1:
            value_HW = value_HW.view(np.uint32)
        level_HW = _stretched(value_HW.astype(np.float64))
    level_HW = level_HW.clip(0, 255).astype(np.uint8)
    return 255 - level_HW if tags.get(_PHOTOMETRIC) == 0 else level_HW  # 0: white is zero


def _stretched(value_HW: np.ndarray) -> np.ndarray:
    """Levels from the smallest finite value (0) to the largest (255); NaN and an image of one value are 0."""
    finite = value_HW[np.isfinite(value_HW)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if high == low:
        return np.zeros_like(value_HW)
    clipped = np.clip(np.nan_to_num(value_HW, nan=low, posinf=high, neginf=low), low, high)
    return np.rint((clipped / 2 - low / 2) / (high / 2 - low / 2) * 255)  # halves: the difference of two float64 may overflow


def _upright(rgb: Image.Image, image: ImageFile) -> Image.Image:
    """The image in the orientation of its EXIF tag; the same object where it is upright already."""
    transposition = _UPRIGHT.get(_orientation(image))
    return rgb if transposition is None else rgb.transpose(transposition)


def _orientation(image: ImageFile) -> int:
    if isinstance(image, TiffImageFile):  # recent Pillow rotates TIFF itself and then drops the tag
        return image.tag_v2.get(_ORIENTATION, 1)
    exif = image.info.get("exif", b"")
    return _exif_orientation(exif) if isinstance(exif, bytes) else 1


def _exif_orientation(exif: bytes) -> int:
    """Tag 274 of the first directory; 1 (upright), as in viewers, where it is absent or the block is broken."""
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (num_entries,) = struct.unpack_from(order + "H", block, start)
        for entry in range(start + 2, start + 2 + 12 * num_entries, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == _ORIENTATION:
                return struct.unpack_from(order + ("I" if kind == 4 else "H"), block, entry + 8)[0]
    except struct.error:  # an offset outside the block
        pass
    return 1


def _too_large(where: str, got: str, max_pixels: int) -> ImageError:
    return ImageError(
        "the image has too many pixels",
        where=where,
        got=got,
        expected=f"at most {max_pixels:,} pixels",
        next_step="make the image smaller: models read a few hundred pixels per side",
    )


def _what_it_is(head: bytes) -> str:
    """A name for common other formats, for the message."""
    if head[4:8] == b"ftyp":
        return {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}.get(head[8:12], "a video file")
    for start, name in _OTHER_FORMATS.items():
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(start):
            return name
    return f"a file that begins with {head[:8]!r}"


_OTHER_FORMATS = {
    b"<svg": "SVG, a vector drawing",
    b"<?xml": "XML, perhaps an SVG drawing",
    b"<!doctype html": "an HTML page, perhaps an error page saved by a download",
    b"<html": "an HTML page, perhaps an error page saved by a download",
    b"%!ps": "PostScript",
    b"%pdf": "PDF",
    b"8bps": "a Photoshop file",
    b"\0\0\1\0": "an icon",
    b"\0\0\0\x0cjp  ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"version https://git-lfs": "a Git LFS pointer instead of the file; `git lfs pull` fetches it",
}
