"""The random order of an epoch, in which images that are unpacked together are not far from each other.

Of a compressed Parquet file a whole row group is unpacked for an image, and what was unpacked last is kept in memory. Where there
is more of it than `WINDOW_BYTES`, an epoch deals the row groups at random into windows of that size and shuffles the images of
each window, so a row group is unpacked once an epoch. All other images are shuffled as a whole. The order depends on the files,
the seed and the epoch alone, never on the machine. Shapes: N images, B blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.data.images.stored import unpacked_with

WINDOW_BYTES = 1 << 27
"""Two windows fit into the memory that unpacked row groups may always take."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Images that are unpacked together: the block of each image, and the first image and the bytes of each block."""

    block_N: np.ndarray
    first_B: np.ndarray
    bytes_B: np.ndarray


def blocks_of(paths: Sequence[Path | str]) -> Blocks | None:
    """The blocks of these images, one of 0 bytes for each that is read alone; None where one window holds all."""
    number_of: dict[tuple[str, int], int] = {}
    block_N = np.arange(len(paths))
    bytes_N = np.zeros(len(paths), np.int64)
    for row, path in enumerate(paths):
        if (found := unpacked_with(path)) is not None:
            file, part, num_bytes = found
            block_N[row] = first = number_of.setdefault((file, part), row)
            bytes_N[first] = num_bytes
    if bytes_N.sum() <= WINDOW_BYTES:
        return None
    first_B, block_N = np.unique(block_N, return_inverse=True)
    return Blocks(block_N=block_N, first_B=first_B, bytes_B=bytes_N[first_B])


def epoch_order(num_images: int, *, seed: int, epoch: int, blocks: Blocks | None = None) -> np.ndarray:
    """A random permutation of the rows, the same for the same seed and epoch."""
    order = np.random.default_rng((seed, epoch)).permutation(num_images)
    if blocks is None:
        return order
    place_N = np.empty(num_images, np.int64)
    place_N[order] = np.arange(num_images)
    turn_B = np.argsort(place_N[blocks.first_B])
    window_B = np.empty(len(turn_B), np.int64)
    window_B[turn_B] = np.cumsum(blocks.bytes_B[turn_B]) // WINDOW_BYTES
    return order[np.argsort(window_B[blocks.block_N[order]], kind="stable")]
