"""The folder of the cache, with its decoded images and features: bounded, removable, and never required.

A damaged, missing or unwritable file costs time and is never an error.
"""

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from polytag.files import cache_folder

RESERVE_BYTES = 5_000_000_000
SHARE_OF_DISK = 4  # the cache takes at most one part in four of the disk
IMAGES, FEATURES, CHECKED, PLACES = ".images", ".features", ".checked", ".places"  # endings of the files


def store_folder() -> Path:
    """The folder of cache files; it is created with the first one."""
    return cache_folder() / "data"


@dataclass(frozen=True, kw_only=True)
class CacheFile:
    """One cache file: its path, its size, and the time of its last use in seconds since 1970."""

    path: Path
    num_bytes: int
    used: float


def cache_files(folder: Path | None = None) -> list[CacheFile]:
    """The cache files, including incomplete ones of interrupted runs, least recently used first."""
    folder = folder or store_folder()
    found: list[CacheFile] = []
    for pattern in (f"*{IMAGES}", f"*{FEATURES}", f"*{CHECKED}", f"*{PLACES}", ".*.part"):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append(CacheFile(path=path, num_bytes=status.st_size, used=status.st_mtime))
    return sorted(found, key=lambda each: each.used)


def clear(folder: Path | None = None) -> int:
    """Remove every cache file and return the number of freed bytes; processes that have a file open can still read it."""
    folder = folder or store_folder()
    num_bytes = 0
    for file in cache_files(folder):
        with contextlib.suppress(OSError):
            file.path.unlink()
            num_bytes += file.num_bytes
    for path in folder.glob("*.lock"):
        path.unlink(missing_ok=True)
    return num_bytes


def make_room(num_bytes: int, *, folder: Path | None = None) -> bool:
    """Whether a file of this size fits into the cache; removes the least recently used files for it, if that is enough.

    At least a tenth of the disk, and 5 GB, stay free, and the cache takes at most a quarter of the disk.
    """
    folder = folder or store_folder()
    found = cache_files(folder)
    in_use = sum(each.num_bytes for each in found)
    room = room_bytes(folder)
    allowed = _disk_usage(folder)[0] // SHARE_OF_DISK
    removed = 0
    for each in [*found, None]:
        if num_bytes <= room + removed and num_bytes + in_use - removed <= allowed:
            return _remove(found, removed)
        if each is not None:
            removed += each.num_bytes
    return False


def room_bytes(folder: Path) -> int:
    """Free space of the folder's disk beyond the reserve, which is `RESERVE_BYTES` or, if that is more, a tenth of the disk."""
    total, free = _disk_usage(folder)
    return free - max(RESERVE_BYTES, total // 10)


def _remove(found: Iterable[CacheFile], num_bytes: int) -> bool:
    """Unlink the first files until `num_bytes` are free."""
    for each in found:
        if num_bytes <= 0:
            break
        with contextlib.suppress(OSError):
            each.path.unlink()
        num_bytes -= each.num_bytes
    return True


def _disk_usage(folder: Path) -> tuple[int, int]:
    """Total and free bytes of the disk."""
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
