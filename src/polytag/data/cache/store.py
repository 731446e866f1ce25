"""What is kept for the next time, decoded images and features: one folder, bounded, removable, and never needed.

Nothing that goes wrong here is an error: what is damaged, missing or cannot be written costs time and no more.
"""

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from polytag.files import cache_folder

RESERVE_BYTES = 5_000_000_000
SHARE_OF_DISK = 4  # all that is kept takes no more than this part, one in four, of the disk
IMAGES, FEATURES = ".images", ".features"  # endings of the files


def store_folder() -> Path:
    """Where kept files lie; made when the first is written."""
    return cache_folder() / "data"


@dataclass(frozen=True, kw_only=True)
class CacheFile:
    """One kept file: its path, bytes, and when it was last used, in seconds since 1970."""

    path: Path
    num_bytes: int
    used: float


def cache_files(folder: Path | None = None) -> list[CacheFile]:
    """The kept files, longest unused first, with what an interrupted run has left half written."""
    folder = folder or store_folder()
    found: list[CacheFile] = []
    for pattern in (f"*{IMAGES}", f"*{FEATURES}", ".*.part"):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append(CacheFile(path=path, num_bytes=status.st_size, used=status.st_mtime))
    return sorted(found, key=lambda each: each.used)


def clear(folder: Path | None = None) -> int:
    """Remove every kept file; a process that reads one now goes on undisturbed. Returns the bytes that became free."""
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
    """Whether so many bytes may be kept: the longest unused files are removed for it, but only if that is enough.

    A tenth of the disk, and 5 GB, stay free, and all that is kept takes a quarter of the disk at most.
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
    """Free space of the folder's disk beyond what stays free: `RESERVE_BYTES`, or a tenth of the disk where that is more."""
    total, free = _disk_usage(folder)
    return free - max(RESERVE_BYTES, total // 10)


def _remove(found: Iterable[CacheFile], num_bytes: int) -> bool:
    """Unlink the first files that make up so many bytes."""
    for each in found:
        if num_bytes <= 0:
            break
        with contextlib.suppress(OSError):
            each.path.unlink()
        num_bytes -= each.num_bytes
    return True


def _disk_usage(folder: Path) -> tuple[int, int]:
    """Bytes of the disk, and of them the free ones."""
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
