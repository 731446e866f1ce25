"""Batches of decoded images, prepared ahead by threads while the arithmetic runs.

Threads and not processes: Pillow decodes and resizes outside Python's lock, nothing is pickled, nothing is forked, and Ctrl-C or
kill -9 leaves no orphan. What a batch holds depends on the rows and on `prepare` alone, never on the number of threads.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from polytag.data.images.read import read_image
from polytag.errors import ImageError

Prepare = Callable[[Image.Image, int], np.ndarray]  # (image, row) -> uint8 V x S x S x 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images that could be read, in the order asked for, and those that could not.

    rows           indices into the paths, length n
    pixels_NVHWC   uint8, n x V views x S x S x 3
    failures       (row, error) of the images left out
    """

    rows: np.ndarray
    pixels_NVHWC: np.ndarray
    failures: tuple[tuple[int, ImageError], ...]


def batches(
    paths: Sequence[Path],
    rows: Sequence[int] | np.ndarray,
    *,
    batch_size: int,
    prepare: Prepare,
    num_threads: int,
    num_ahead: int = 3,
) -> Iterator[Batch]:
    """Yield the images of these rows, `batch_size` at a time, with `num_ahead` batches in preparation.

    An image that cannot be decoded is left out of its batch and told in `failures`; a batch may be smaller for it, or empty.
    Memory is bounded by `num_ahead + 1` batches.
    """

    def read(row: int) -> np.ndarray:
        return prepare(read_image(paths[row]), row)

    return batches_of(rows, batch_size=batch_size, read=read, num_threads=num_threads, num_ahead=num_ahead)


def batches_of(
    rows: Sequence[int] | np.ndarray,
    *,
    batch_size: int,
    read: Callable[[int], np.ndarray],
    num_threads: int,
    num_ahead: int = 3,
) -> Iterator[Batch]:
    """As `batches`, where `read` makes the uint8 V x S x S x 3 of a row in its own way; it may raise ImageError."""
    chunks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return batches_of_chunks(chunks, read=read, num_threads=num_threads, num_ahead=num_ahead)


def batches_of_chunks(
    chunks: Sequence[Sequence[int] | np.ndarray],
    *,
    read: Callable[[int], np.ndarray],
    num_threads: int,
    num_ahead: int = 3,
) -> Iterator[Batch]:
    """As `batches_of`, where it is said which rows make a batch; one of no rows is empty."""
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
