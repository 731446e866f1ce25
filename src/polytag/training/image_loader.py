"""The image loader: names the numbers that a batch needs, and makes normalised pixels of them.

The two halves run in different places: `batches` on the processor, ahead of time, and `pixels` on the device as part of the step,
so that a CUDA graph can capture it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polytag.data.images.batches import batches_of_chunks
from polytag.errors import ImageError
from polytag.inference.predictor import to_input
from polytag.machine import num_cores
from polytag.training.input_pipeline import InputPipeline


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageLoaderBatch:
    """A batch before it becomes pixels.

    rows       n rows of the data set whose images can be read
    inputs     tensors of n rows each, for `ImageLoader.pixels`
    failures   (row, error) of the other images
    """

    rows: np.ndarray
    inputs: tuple[Tensor, ...]
    failures: tuple[tuple[int, ImageError], ...]


class ImageLoader(Protocol):
    """What the training loop knows of the source of its images."""

    def batches(self, chunks: Sequence[np.ndarray], *, epoch: int) -> Iterator[ImageLoaderBatch]:
        """The batches of these rows, in order; an image's augmentation depends on (seed, epoch, row) alone."""
        ...

    def pixels(self, *inputs: Tensor) -> Tensor:
        """n x 3 x S x S float32, normalised, of a batch's inputs on the device."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class FileImageLoader:
    """Augments images in threads on the processor; a batch's input is its uint8 images.

    read   gives what `InputPipeline.stored` makes of a row's image, from its file or from the cache; raises ImageError
    """

    read: Callable[[int], np.ndarray]
    pipeline: InputPipeline
    device: str

    def batches(self, chunks: Sequence[np.ndarray], *, epoch: int) -> Iterator[ImageLoaderBatch]:
        """See ImageLoader."""

        def read(row: int) -> np.ndarray:
            return self.pipeline.input(self.read(row), epoch=epoch, row=row)

        # A GPU works while the processor prepares: more batches wait, in memory that the GPU can fetch by itself.
        on_cpu = self.device == "cpu"
        for batch in batches_of_chunks(chunks, read=read, num_threads=num_cores(), num_ahead=3 if on_cpu else 8):
            pixels = torch.from_numpy(batch.pixels_NVHWC[:, 0])
            inputs = (pixels if on_cpu else pixels.pin_memory(),)
            yield ImageLoaderBatch(rows=batch.rows, inputs=inputs, failures=batch.failures)

    def pixels(self, *inputs: Tensor) -> Tensor:
        """See ImageLoader; the one input is uint8 n x S x S x 3."""
        return to_input(inputs[0], self.pipeline.preprocessing, self.device)
