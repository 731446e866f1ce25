"""glibc's allocator, set for a whole process: a command calls one of these once, before it works; the library never does."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8  # malloc.h
_LARGE_BYTES = 2_000_000  # above a column of a large table and a decoded image, below a table


def keep_freed_memory() -> None:
    """Keeps freed memory in the process for the next batch: for networks on the processor.

    Activations are tens of megabytes. By default glibc maps each, zeroes it page by page and unmaps it again, which takes a third
    of the time of a forward pass (docs/experiments.md). All threads share one heap, because glibc trims the heap of a thread even
    so. Does nothing where the C library is not glibc.
    """
    _mallopt((_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26), (_MMAP_MAX, 0), (_ARENA_MAX, 1))


def return_freed_memory() -> None:
    """Returns freed arrays to the system: for a server that runs for days.

    By default glibc raises its threshold at the first array of 32 MB that is freed and then holds all smaller ones, in up to eight
    heaps per core, and Arrow's allocator holds the memory that a Parquet file was decoded in. On 50,000 images of 80 classes the
    inspector held 785 MB and holds 460 with these settings (benchmarks/inspector.py). Outside glibc only Arrow is set.
    """
    import pyarrow

    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    return_freed_images()


def return_freed_images() -> None:
    """As `return_freed_memory`, for a server that holds no tables, and does not import Arrow."""
    _mallopt((_ARENA_MAX, 2), (_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, 4 * _LARGE_BYTES))


def _mallopt(*settings: tuple[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        for name, value in settings:
            mallopt(name, value)
