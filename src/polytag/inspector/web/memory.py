"""Returns freed memory to the system, for a server that runs for days."""

import ctypes
import sys

import pyarrow

_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1  # malloc.h
_LARGE_BYTES = 2_000_000  # above a column of a large table and a decoded image, below a table


def return_freed_memory() -> None:
    """Configure glibc and Arrow to return freed arrays to the system. Without glibc this does nothing.

    By default glibc holds them: after the first freed array of 32 MB it holds all smaller ones in up to eight heaps per core, and
    Arrow's allocator holds the buffers of decoded Parquet files. On 50,000 images of 80 classes a server held 785 MB, and holds
    460 MB with this setting (benchmarks/inspector.py). A model needs the opposite setting (`models/device.py`).
    """
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_ARENA_MAX, 2)
    mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_TRIM_THRESHOLD, 4 * _LARGE_BYTES)
