"""The scores of a batch of images, as every engine returns them."""

from dataclasses import dataclass

import numpy as np

from polytag.errors import ImageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Outputs of a batch of images: rows (n), output_ND float32, and the (row, error) of images that could not be read."""

    rows: np.ndarray
    output_ND: np.ndarray
    failures: tuple[tuple[int, ImageError], ...]
