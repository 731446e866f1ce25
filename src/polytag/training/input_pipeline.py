"""How a training image becomes an input of the network: what is stored of it between epochs, and what is drawn from that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from polytag.contracts import Preprocessing
from polytag.data.images.augment import (
    AUGMENTATIONS,
    Augmentation,
    augmentation,
    augmented,
    single_view,
    training_source,
    views,
)
from polytag.training.own_augment import OwnAugmentation


@dataclass(frozen=True, kw_only=True)
class InputPipeline:
    """The way from an upright image to the network's input; the same for images from files, from a cache and on a device.

    preprocessing   size, fit and normalisation
    augment         a preset of `data.images.augment`
    seed            every random choice is a function of (seed, epoch, row)
    own             the user's augmentation, in place of the preset; `ids` name the rows in its errors
    """

    preprocessing: Preprocessing
    augment: str
    seed: int
    own: OwnAugmentation | None = None
    ids: Sequence[str] = ()

    @property
    def preset(self) -> Augmentation:
        """The augmentation itself."""
        return augmentation(self.augment)

    @property
    def is_augmented(self) -> bool:
        """Whether an image looks different in each epoch."""
        return self.own is not None or self.preset != AUGMENTATIONS["none"]

    def rng(self, *, epoch: int, row: int) -> np.random.Generator:
        """The generator of an image's random choices in an epoch."""
        return np.random.default_rng((self.seed, epoch, row))

    def stored(self, image: Image.Image) -> np.ndarray:
        """uint8 1 x H x W x 3: what is stored of an upright image between epochs, from which every augmentation can be made."""
        if self.is_augmented:
            return np.asarray(training_source(image, self.preprocessing))[None]
        return views(image, single_view(self.preprocessing))

    def input(self, stored: np.ndarray, *, epoch: int, row: int) -> np.ndarray:
        """uint8 1 x S x S x 3: the network's input of this epoch, before normalisation."""
        if not self.is_augmented:
            return stored
        image, rng = Image.fromarray(stored[0]), self.rng(epoch=epoch, row=row)
        if self.own is not None:
            return self.own.view(image, rng, where=self.ids[row])
        return augmented(image, self.preset, self.preprocessing, rng)

    @property
    def cache_key(self) -> str:
        """Names what `stored` gives in the image cache: whatever changes its pixels, and nothing else."""
        if self.is_augmented:
            return f"training source 1: {self.preprocessing.image_size_px} px"
        return views_cache_key(single_view(self.preprocessing))

    def stored_bytes(self, size: tuple[int, int]) -> int:
        """Size of what `stored` gives of an image of this width and height."""
        size_px = self.preprocessing.image_size_px
        if not self.is_augmented:
            return 3 * size_px**2
        factor = max(1, min(size) // (2 * size_px))
        return 3 * -(-size[0] // factor) * -(-size[1] // factor)


def views_cache_key(preprocessing: Preprocessing) -> str:
    """Names the views of scoring in the image cache: whatever changes their pixels, and nothing else."""
    p = preprocessing
    return f"views 3: {p.image_size_px} px, {p.fit}, {p.crop_fraction}, {p.interpolation}, {p.crops}"
