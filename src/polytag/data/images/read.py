"""The decoding policy of training and prediction: any image in, an upright 8-bit RGB image out.

Six formats, recognised by their first bytes and never by the file's name: JPEG, PNG, WebP, BMP, GIF and TIFF; of files with several
frames, the first. `docs/reference/images.md` describes the policy for users.
"""

import errno
import os
import struct
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from polytag.data.images.container import NoSuchPlace
from polytag.data.images.content import pixel_content
from polytag.data.images.limits import MAX_PIXELS, require_few_pixels, require_modest, too_large
from polytag.data.images.rgb import to_rgb
from polytag.data.images.stored import open_image
from polytag.data.images.tiff import ORIENTATION, Tiff, refuse_lost_tags, require_modest_directory, require_whole_fax
from polytag.errors import ImageError

READ_FORMATS = "JPEG, PNG, WebP, BMP, GIF or TIFF"

_UPRIGHT = {  # EXIF's value: the transposition from the stored to the upright image
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
        try:
            image, file = _opened_image(reader, file, head, where)
            require_few_pixels(image.size, where, max_pixels)
            if isinstance(image, TiffImageFile):
                refuse_lost_tags(image, file)
            require_modest(image, file, where)
            if isinstance(image, TiffImageFile):
                require_whole_fax(image, file, where)
            if enough_px is not None and isinstance(image, _Jpeg):
                _scale_down(image, enough_px)
            with _quiet(reader):
                image.load()
            orientation = _orientation(image)
            rgb = to_rgb(image)
            del image  # frees its pixels before the upright ones need as many
            return _upright(rgb, orientation)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:  # Pillow's own cap, which a larger max_pixels does not lift
            raise too_large(where, str(error), max_pixels) from error
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


def suffix_of(content: bytes, *, where: str = "") -> str:
    """The ending that a file of this content should have, such as ".jpg"; raises ImageError for another format."""
    reader = _reader(content[:16])
    if reader is None:
        raise ImageError("not an image in a known format", where=where, got=_what_it_is(content[:4096]), expected=READ_FORMATS)
    return _SUFFIX[_FORMAT_NAME[reader]]


def _read_header(path: Path) -> tuple[tuple[int, int], int]:
    """Size and EXIF orientation."""
    with _opened(path, str(path)) as file:
        head = file.read(4096)
        reader = _reader(head)
        if reader is None:
            raise ImageError("not an image in a known format", where=str(path), got=_what_it_is(head), expected=READ_FORMATS)
        try:
            image, _ = _opened_image(reader, file, head, str(path))
            orientation = _orientation(image)
            is_turned = isinstance(image, TiffImageFile) and orientation >= 5  # Pillow reports the upright size of a TIFF
            width, height = image.size
            return (height, width) if is_turned else (width, height), orientation
        except ImageError:
            raise
        except Exception as error:  # as in read_image
            raise ImageError(
                "the image's header cannot be read", where=str(path), got=str(error) or type(error).__name__
            ) from error


def _opened_image(reader: type[ImageFile], file: BinaryIO, head: bytes, where: str) -> tuple[ImageFile, BinaryIO]:
    """The image with its header read, and the file that its pixels come from."""
    if reader is Tiff:
        require_modest_directory(file, where)
    content = pixel_content(file, head, where)
    content.seek(0)
    with _quiet(reader):
        return reader(content), content


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


class _WebP(WebPImageFile):
    """A WebP file whose decoder is given up once the first frame is there."""

    def load_end(self) -> None:
        self._decoder = None
        self.fp = None


_FORMAT_NAME: dict[type[ImageFile], str] = {
    _Jpeg: "JPEG",
    PngImageFile: "PNG",
    _WebP: "WebP",
    BmpImageFile: "BMP",
    GifImageFile: "GIF",
    Tiff: "TIFF",
}

_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}


def _reader(head: bytes) -> type[ImageFile] | None:
    """The reader of a file that starts with these bytes.

    Pillow's `Image.open` is not used, because its limit of pixels is process-wide, and here it is an argument.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return _Jpeg
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _WebP
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GifImageFile
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return Tiff
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
        file = open_image(source)
        if not file.seek(0, os.SEEK_END):
            file.close()
            raise ImageError("the image is empty", where=where, got="0 bytes", expected=expected)
        file.seek(0)
        return file
    except FileNotFoundError as error:
        got = str(error.strerror) if isinstance(error, NoSuchPlace) else "no such file"
        raise ImageError("the image is missing", where=where, got=got, expected=expected) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, OSError) and error.errno in (errno.EISDIR, errno.EINVAL):
            raise ImageError("the image is not a file", where=where, got=reason, expected=expected) from error
        raise ImageError("the image cannot be opened", where=where, got=reason, expected="a file that can be read") from error


@contextmanager
def _quiet(reader: type[ImageFile]) -> Generator[None]:
    """Silence Pillow's warnings about unusual tags in TIFF; unreadable files raise.

    `catch_warnings` changes a list that all threads share, so it is used for this format alone, and the filter names Pillow
    alone: if interleaved threads leave it behind, no warning of another library is lost.
    """
    if reader is Tiff:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    else:
        yield


def _upright(rgb: Image.Image, orientation: int) -> Image.Image:
    """The image in this orientation of EXIF; the same object where it is upright already."""
    transposition = _UPRIGHT.get(orientation)
    return rgb if transposition is None else rgb.transpose(transposition)


def _orientation(image: ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        return image.tag_v2.get(ORIENTATION, 1)
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
            if tag == ORIENTATION:
                return struct.unpack_from(order + ("I" if kind == 4 else "H"), block, entry + 8)[0]
    except struct.error:  # an offset outside the block
        pass
    return 1


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
