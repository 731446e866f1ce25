"""The image cache: the first pass over a list of images saves their decoded pixels, and every later pass and run reads them.

The cache stores exactly the result of `make`, so a pass from the cache has the same bits as a pass from the files. The name of a
cache file is a digest of the images (paths, sizes and times of change), of `make` and of the decoder. After a change of any of
these the old file is never found, and it is removed when space is needed.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import PIL
from PIL import Image, features

from polytag.data.cache.image_file import ImageFile, ImageFileWriter
from polytag.data.cache.store import IMAGES, store_folder
from polytag.data.images.read import read_image, read_size
from polytag.data.images.stored import image_status
from polytag.errors import ImageError

Make = Callable[[Image.Image], np.ndarray]  # upright RGB -> uint8 V x H x W x 3


class ImageCache:
    """Pixels of each image of a list, read from the cache file, or decoded and, with `write`, saved in one.

    Thread-safe. `how` describes in a few words where images come from. A damaged, missing or unwritable file costs time and is
    never an error.
    """

    def __init__(self, paths: Sequence[Path], *, make: Make, what: str, write: bool, folder: Path | None = None):
        """`what` identifies `make` and all its settings: two caches with one `what` must return the same pixels of an image."""
        self._paths, self._make = paths, make
        self._folder = folder or store_folder()
        self._path = self._folder / f"{images_key(paths, what)}{IMAGES}"
        self._file: ImageFile | None = None
        self._writer: ImageFileWriter | None = None
        self._lock: IO[str] | None = None
        self.how = "files"
        if not self._open() and write:
            self._begin()

    @property
    def is_cached(self) -> bool:
        """Whether every image can be read from the cache."""
        return self._file is not None

    def __len__(self) -> int:
        return len(self._paths)

    def get(self, row: int) -> np.ndarray:
        """uint8 V x H x W x 3, possibly read-only; raises ImageError for an image that cannot be decoded."""
        file = self._file
        if file is not None:
            try:
                pixels = file.read(row)
            except ValueError:
                self._forget()
            else:
                if pixels is not None:
                    return pixels
        try:
            pixels = self._make(read_image(self._paths[row]))
        except ImageError:
            if self._writer is not None:
                self._writer.add(row, None)
            raise
        if self._writer is not None:
            self._writer.add(row, pixels)
        return pixels

    def next_pass(self) -> None:
        """Call it between two passes: later passes read a file that is complete by now, from this or another process."""
        if self._file is not None:
            return
        if self._writer is not None and self._writer.is_complete:
            self._writer.finish()
            self._end()
        elif self._writer is not None and not self._writer.is_open:
            self._end()
            self.how = "files (the disk has no room for the cache)"
        if self._writer is None:
            self._open()

    def close(self) -> None:
        """Save a complete file, remove an incomplete one."""
        self.next_pass()
        if self._writer is not None:
            self._writer.abandon()
            self._end()

    def _open(self) -> bool:
        try:
            self._file = ImageFile(self._path, num_rows=len(self._paths))
        except OSError:  # missing, or without permission
            return False
        except ValueError:
            self._forget()
            return False
        with contextlib.suppress(OSError):
            os.utime(self._path)  # marks it as used: the file that is unused for longest is removed first
        self.how = f"cached ({self._file.num_bytes / 1e9:.2f} GB)"
        return True

    def _begin(self) -> None:
        """Start to write, unless another process writes the file or the folder cannot be written."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = open(self._path.with_suffix(".lock"), "a+")  # noqa: SIM115  held until the file is complete
            if not _locked(self._lock):
                self._end()
                self.how = "files (another process writes the cache)"
                return
            if self._open():  # finished by another process just now
                self._end()
                return
            self._writer = ImageFileWriter(self._path, num_rows=len(self._paths))
            self.how = "files, decoded once and cached"
        except OSError:
            self._end()

    def _end(self) -> None:
        self._writer = None
        if self._lock is not None:
            self._lock.close()  # unlocks it
            self._lock = None

    def _forget(self) -> None:
        """Drop a damaged file: this run decodes the images, the next run writes the file again."""
        self._file, self.how = None, "files (the cache was damaged)"
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def expected_bytes(paths: Sequence[Path], size_of: Callable[[tuple[int, int]], int], *, num_looked_at: int = 256) -> int:
    """Estimated bytes of all images, from the headers of an even sample; `size_of` maps width and height to bytes."""
    step = max(1, len(paths) // num_looked_at)
    sizes: list[int] = []
    for path in paths[::step]:
        with contextlib.suppress(ImageError):
            sizes.append(size_of(read_size(path)))
    return round(len(paths) * float(np.mean(sizes))) if sizes else 0


def images_key(paths: Sequence[Path], what: str) -> str:
    """32 hexadecimal digits: a digest of the path, size and time of change of each image, of `what` and of the decoder.

    A folder counts as the one that it is, whatever links and ".." lead to it.
    """
    digest = hashlib.sha256(f"{what}\0{PIL.__version__}\0{features.version('jpg')}\0{features.version('webp')}".encode())
    real_folders: dict[Path, str] = {}
    for path in paths:
        if path.parent not in real_folders:
            real_folders[path.parent] = os.path.realpath(path.parent)
        try:
            status = image_status(path)
            facts = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        except (OSError, ValueError):
            facts = "missing"
        digest.update(f"\0{real_folders[path.parent]}/{path.name}\0{facts}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _locked(file: IO[str]) -> bool:
    """Lock the file for this process; False while another process holds it. The lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes may both write, under different names; the last file remains
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
