"""Batches of decoded images, prepared ahead by threads while the arithmetic runs.

Threads and not processes: Pillow decodes and resizes outside Python's lock, nothing is pickled, nothing is forked, and Ctrl-C or
kill -9 leaves no orphan. A batch depends on the rows and on `read` alone, never on the number of threads.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from polytag.errors import ImageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images that could be read, in the order of the request, and those that could not.

    rows           rows of the data set, length n
    pixels_NVHWC   uint8, n x V views x S x S x 3
    failures       (row, error) of the images left out
    """

    rows: np.ndarray
    pixels_NVHWC: np.ndarray
    failures: tuple[tuple[int, ImageError], ...]


def batches_of(
    rows: Sequence[int] | np.ndarray,
    *,
    batch_size: int,
    read: Callable[[int], np.ndarray],
    num_threads: int,
    num_ahead: int = 3,
) -> Iterator[Batch]:
    """Yield the images of these rows, `batch_size` at a time, with `num_ahead` batches in preparation.

    `read` returns the uint8 V x S x S x 3 of a row. A row for which it raises ImageError is left out of its batch and listed in
    `failures`, so a batch may be smaller, or empty. Memory is bounded by `num_ahead + 1` batches.
    """
    chunks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return batches_of_chunks(chunks, read=read, num_threads=num_threads, num_ahead=num_ahead)


def batches_of_chunks(
    chunks: Sequence[Sequence[int] | np.ndarray],
    *,
    read: Callable[[int], np.ndarray],
    num_threads: int,
    num_ahead: int = 3,
) -> Iterator[Batch]:
    """As `batches_of`, with the rows of each batch given; a batch of no rows is empty."""
    pool = ThreadPoolExecutor(max_workers=max(1, num_threads), thread_name_prefix="polytag-image")
    pending: deque[tuple[list[int], list[Future[np.ndarray]]]] = deque()
    try:
        for chunk in chunks:
            order = [int(row) for row in chunk]
            pending.append((order, [pool.submit(read, row) for row in order]))
            if len(pending) > num_ahead:
                yield _collect(*pending.popleft())
        while pending:
            yield _collect(*pending.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(chunk: list[int], futures: list[Future[np.ndarray]]) -> Batch:
    rows: list[int] = []
    pixels: list[np.ndarray] = []
    failures: list[tuple[int, ImageError]] = []
    for row, future in zip(chunk, futures, strict=True):
        try:
            pixels.append(future.result())
            rows.append(row)
        except ImageError as error:
            failures.append((row, error))
    stacked = np.stack(pixels) if pixels else np.zeros((0, 1, 0, 0, 3), np.uint8)
    return Batch(rows=np.asarray(rows, dtype=np.int64), pixels_NVHWC=stacked, failures=tuple(failures))
