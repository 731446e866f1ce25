"""What a server that runs for days owes the machine: memory that it no longer needs."""

import ctypes
import sys

import pyarrow

_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1  # malloc.h
_LARGE_BYTES = 2_000_000  # above a column of a large table and a decoded image, below a table


def return_freed_memory() -> None:
    """Ask glibc, and Arrow, to give freed arrays back to the system; where there is no glibc nothing happens.

    By itself glibc keeps them: the first array of 32 MB that is freed teaches it to hold all smaller ones for later, in up to eight
    heaps a core, and Arrow's allocator keeps what a Parquet file was decoded in. On 50,000 images of 80 classes a server held
    785 MB where it now holds 460 (benchmarks/inspector.py). A model wants the opposite, and says so (`models/device.py`).
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
