"""Where training gets its images from. An image loader says which numbers a batch needs, and makes normalised images of them.

The two halves are apart because they run in different places: `batches` on the processor, ahead of time, and `pixels` on the device
as part of the step, so that it can be captured with it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polytag.data.images.augment import AUGMENTATIONS, augmentation, augmented, single_view, training_source, views
from polytag.data.images.batches import batches_of_chunks
from polytag.errors import ImageError
from polytag.inference.predictor import to_input
from polytag.machine import num_cores
from polytag.runs.recipe import Recipe
from polytag.training.preprocessing import preprocessing_of


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageLoaderBatch:
    """The rows whose images can be read, n; tensors with n rows each for `pixels`; the (row, error) of the others."""

    rows: np.ndarray
    inputs: tuple[Tensor, ...]
    failures: tuple[tuple[int, ImageError], ...]


class ImageLoader(Protocol):
    """What the loop knows of where images come from."""

    def batches(self, chunks: Sequence[np.ndarray], *, epoch: int) -> Iterator[ImageLoaderBatch]:
        """The batches of these rows, in order; what an image looks like depends on (seed, epoch, row) alone."""
        ...

    def pixels(self, *inputs: Tensor) -> Tensor:
        """n x 3 x S x S float32, normalised, of a batch's inputs on the device."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class FileImageLoader:
    """Images augmented by threads on the processor; a batch's input is its uint8 images.

    read   gives what `training_pixels` makes of a row's image, from its file or from the cache; raises ImageError
    """

    read: Callable[[int], np.ndarray]
    recipe: Recipe
    device: str

    def batches(self, chunks: Sequence[np.ndarray], *, epoch: int) -> Iterator[ImageLoaderBatch]:
        """As ImageLoader says."""
        recipe, preprocessing = self.recipe, preprocessing_of(self.recipe)
        preset = augmentation(recipe.augment)

        def read(row: int) -> np.ndarray:
            cached = self.read(row)
            if preset == AUGMENTATIONS["none"]:
                return cached
            rng = np.random.default_rng((recipe.seed, epoch, row))
            return augmented(Image.fromarray(cached[0]), preset, preprocessing, rng)

        # A device of its own works while the processor prepares: more is kept ready, in memory that it can fetch by itself.
        on_cpu = self.device == "cpu"
        for batch in batches_of_chunks(chunks, read=read, num_threads=num_cores(), num_ahead=3 if on_cpu else 8):
            pixels = torch.from_numpy(batch.pixels_NVHWC[:, 0])
            yield ImageLoaderBatch(rows=batch.rows, inputs=(pixels if on_cpu else pixels.pin_memory(),), failures=batch.failures)

    def pixels(self, *inputs: Tensor) -> Tensor:
        """As ImageLoader says; the one input is uint8 n x S x S x 3."""
        return to_input(inputs[0], preprocessing_of(self.recipe), self.device)


def training_pixels(recipe: Recipe, image: Image.Image) -> np.ndarray:
    """uint8 1 x H x W x 3: what is kept of an upright image between epochs, from which every augmentation can be made."""
    if augmentation(recipe.augment) == AUGMENTATIONS["none"]:
        return views(image, single_view(preprocessing_of(recipe)))
    return np.asarray(training_source(image, preprocessing_of(recipe)))[None]
