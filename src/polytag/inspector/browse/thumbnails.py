"""Images for the browser: always decoded by polytag's one policy and encoded anew, never a file as it lies on the disk.

Thumbnails are made once and kept in a folder of limited size; full images are made when they are looked at.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Lock

from PIL import Image, ImageOps

from polytag.data.images.read import read_image
from polytag.errors import ImageError

THUMBNAIL_PX = 250  # half of 500, the longer side of many data sets' images, which is then decoded at half its size
FULL_PX = 2048
MAX_PIXELS = 64_000_000
_THUMBNAIL_QUALITY, _FULL_QUALITY = 80, 92
_LOOK_EVERY = 500  # thumbnails written between two looks at the folder's size


# Two images are decoded at once, and always by the same two threads: glibc keeps what a thread has freed for that thread, so ten
# images of 49 megapixels, each asked for by a thread of the server, left 2.5 GB behind, whether at once or one after the other.
_DECODERS = ThreadPoolExecutor(2, thread_name_prefix="decoder")


class Thumbnails:
    """Thumbnails of image files, from a folder that holds at most `max_bytes` of them; the longest unused ones go first.

    A thumbnail is found again by the file's path, size and time of change, so a changed image gets a new one. What cannot be
    written is served all the same. May be called from many threads and by several processes on one folder.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 1_000_000_000):
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = Lock()
        self._num_written = 0

    def get(self, path: Path) -> bytes:
        """JPEG of the whole image fitted into 250 by 250 pixels; raises ImageError where it cannot be read."""
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            raise ImageError("the image is missing", where=str(path)) from error
        key = hashlib.sha256(f"{THUMBNAIL_PX}\0{path}\0{status.st_mtime_ns}\0{status.st_size}".encode("utf-8", "surrogatepass"))
        name = key.hexdigest()
        kept = self._folder / name[:2] / f"{name}.jpg"
        if (content := _whole_jpeg(kept)) is not None:
            return content
        content = encoded(fitted(path, THUMBNAIL_PX), quality=_THUMBNAIL_QUALITY)
        with suppress(OSError):  # a full or read-only disk costs speed, not images
            self._keep(kept, content)
        return content

    def _keep(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{id(content)}")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        with self._lock:
            self._num_written += 1
            is_due = self._num_written % _LOOK_EVERY == 1
        if is_due:
            self.shrink()

    def shrink(self) -> None:
        """Delete the longest unused thumbnails until the folder holds no more than nine tenths of what it may."""
        found: list[tuple[float, int, str]] = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)
                with suppress(OSError):
                    status = os.stat(path)
                    found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
        num_bytes = sum(size for _, size, _ in found)
        if num_bytes <= self._max_bytes:
            return
        for _, size, path in sorted(found):
            with suppress(OSError):
                os.unlink(path)
                num_bytes -= size
            if num_bytes <= 0.9 * self._max_bytes:
                return


def full_image(path: Path) -> bytes:
    """JPEG of the whole image, at most 2,048 pixels a side; raises ImageError where it cannot be read."""
    return encoded(fitted(path, FULL_PX), quality=_FULL_QUALITY)


def fitted(source: Path | bytes, size_px: int) -> Image.Image:
    """The image, upright, its longer side no more than `size_px`; waits for its turn. Raises ImageError."""
    return _DECODERS.submit(_fitted, source, size_px).result()


def _fitted(source: Path | bytes, size_px: int) -> Image.Image:
    image = read_image(source, max_pixels=MAX_PIXELS, enough_px=size_px)
    if max(image.size) <= size_px:
        return image
    factor = max(image.size) // (2 * size_px)
    return ImageOps.contain(image.reduce(factor) if factor > 1 else image, (size_px, size_px), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, *, quality: int) -> bytes:
    """The image as JPEG, without anything but its pixels."""
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _whole_jpeg(path: Path) -> bytes | None:
    """The file's content; None where there is none, or where a crash cut it short."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9") else None
