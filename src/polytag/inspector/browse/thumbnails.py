"""Encodes images for the browser. Every image is decoded by polytag's one policy and encoded again; no file is sent unchanged.

Thumbnails are cached in a folder of limited size. Full images are encoded for each request.
"""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Condition, Lock

from PIL import Image, ImageOps

from polytag.data.images.read import read_image
from polytag.data.images.stored import image_status
from polytag.errors import ImageError, RunError
from polytag.files import write_bytes

THUMBNAIL_PX = 250  # half of 500, the longer side of many data sets' images, which is then decoded at half its size
FULL_PX = 2048
MAX_PIXELS = 64_000_000
_THUMBNAIL_QUALITY, _FULL_QUALITY = 80, 92
_SHRINK_EVERY = 500  # thumbnails written between two checks of the folder's size


# The same two threads decode all images. glibc holds the memory that a thread frees for that thread: ten images of 49 megapixels,
# each decoded in another thread of the server, left 2.5 GB allocated, at once or one after the other.
_DECODERS = ThreadPoolExecutor(2, thread_name_prefix="decoder")


class Thumbnails:
    """Caches thumbnails of image files in a folder of at most `max_bytes`. The least recently used ones are deleted first.

    The key of a thumbnail is the path, size and modification time of its file, so a changed image gets a new one. A thumbnail is
    returned before it is written, and made once however many ask for it meanwhile; one that cannot be written is still returned.
    Safe to call from many threads, and from several processes on one folder.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 1_000_000_000):
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = Lock()
        self._is_written = Condition(self._lock)
        self._unwritten: dict[Path, Future[bytes]] = {}  # what is being made, and what is made, by the file that is to hold it
        self._num_written = 0

    def get(self, path: Path) -> bytes:
        """Return the image fitted into 250 by 250 pixels as JPEG; raises ImageError where it cannot be read."""
        return self.begin(path).result()

    def begin(self, path: Path) -> Future[bytes]:
        """Begin what `get` does, and return its answer to come; raises ImageError where there is no file."""
        try:
            status = image_status(path)
        except (OSError, ValueError) as error:
            raise ImageError("the image is missing", where=str(path)) from error
        key = hashlib.sha256(f"{THUMBNAIL_PX}\0{path}\0{status.st_mtime_ns}\0{status.st_size}".encode("utf-8", "surrogatepass"))
        name = key.hexdigest()
        cached = self._folder / name[:2] / f"{name}.jpg"
        with self._lock:
            if cached in self._unwritten:
                return self._unwritten[cached]
        if (content := _whole_jpeg(cached)) is not None:
            found: Future[bytes] = Future()
            found.set_result(content)
            return found
        with self._lock:
            if cached not in self._unwritten:  # else another thread was faster
                self._unwritten[cached] = _DECODERS.submit(self._made, path, cached)
            return self._unwritten[cached]

    def flush(self) -> None:
        """Wait until what was made is written."""
        with self._is_written:
            self._is_written.wait_for(lambda: not self._unwritten)

    def _made(self, path: Path, cached: Path) -> bytes:
        try:
            content = encoded(_fitted(path, THUMBNAIL_PX), quality=_THUMBNAIL_QUALITY)
            _DECODERS.submit(self._keep, cached, content)  # after the images that wait to be decoded: writing takes half as long
            return content
        except BaseException:
            self._forget(cached)
            raise

    def _keep(self, cached: Path, content: bytes) -> None:
        try:
            with suppress(OSError, RunError):  # a full or read-only disk costs speed, not images
                self._write(cached, content)
        finally:
            self._forget(cached)

    def _forget(self, cached: Path) -> None:
        with self._is_written:
            del self._unwritten[cached]
            self._is_written.notify_all()

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, content, durable=False)
        with self._lock:
            self._num_written += 1
            is_due = self._num_written % _SHRINK_EVERY == 1
        if is_due:
            self.shrink()

    def shrink(self) -> None:
        """Delete the least recently used thumbnails until the folder holds nine tenths of its limit."""
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
    """Return the image fitted into 2,048 by 2,048 pixels as JPEG; raises ImageError where it cannot be read."""
    return encoded(fitted(path, FULL_PX), quality=_FULL_QUALITY)


def fitted(source: Path | bytes, size_px: int) -> Image.Image:
    """Return the upright image with a longer side of at most `size_px`; waits for a free decoder. Raises ImageError."""
    return _DECODERS.submit(_fitted, source, size_px).result()


def _fitted(source: Path | bytes, size_px: int) -> Image.Image:
    image = read_image(source, max_pixels=MAX_PIXELS, enough_px=size_px)
    if max(image.size) <= size_px:
        return image
    factor = max(image.size) // (2 * size_px)
    return ImageOps.contain(image.reduce(factor) if factor > 1 else image, (size_px, size_px), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, *, quality: int) -> bytes:
    """Return the pixels of the image as JPEG, without metadata."""
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _whole_jpeg(path: Path) -> bytes | None:
    """Return the content of the file; None where it is missing or incomplete after a crash."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9") else None
