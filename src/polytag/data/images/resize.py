"""Resizing in a stated order, so that no pixel that a network sees depends on Pillow's version.

Pillow resizes in two passes and rounds to whole grey levels between them, so the order of the passes shows in the result. Up to
version 12 the horizontal pass comes first; from 13 on the cost decides.
"""

import math

import numpy as np
from PIL import Image
from PIL.Image import Resampling

_MAX_PIXELS = 2**24  # that a first, horizontal pass may widen an image to: 67 MB
_SUPPORT = {Resampling.BOX: 0.5, Resampling.BILINEAR: 1.0, Resampling.BICUBIC: 2.0, Resampling.LANCZOS: 3.0}  # in pixels


def resize(
    image: Image.Image, size: tuple[int, int], resample: Resampling, *, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """The image, or its `box`, in `size` pixels: a horizontal pass, then a vertical one, each rounded to whole grey levels.

    `size` is width and height. `box` is left, top, right and bottom in pixels, fractions included; the filter reads the pixels
    around it as well, as Pillow's does. The vertical pass comes first only where the horizontal one would widen the image to more
    than 16 million pixels (an image of one column, say), so the image between the passes has no more pixels than that, than what is
    read, or than the result.
    """
    width, height = size
    box = box or (0, 0, *image.size)
    left, top, right, bottom = np.array(box, np.float32).tolist()  # Pillow's precision: the shift below is exact
    first_column, end_column = _pixels_read(left, right, image.width, width, _SUPPORT[resample])
    first_row, end_row = _pixels_read(top, bottom, image.height, height, _SUPPORT[resample])
    if (end_column - first_column, end_row - first_row) != image.size:
        image = image.crop((first_column, first_row, end_column, end_row))
    left, right = left - first_column, min(right - first_column, image.width)  # that precision may be above 16 million pixels
    top, bottom = top - first_row, min(bottom - first_row, image.height)
    if width > image.width and image.height > height and width * image.height > _MAX_PIXELS:
        image = image.resize((image.width, height), resample, box=(0, top, image.width, bottom))
        return image.resize(size, resample, box=(left, 0, right, height))
    image = image.resize((width, image.height), resample, box=(left, 0, right, image.height))
    return image.resize(size, resample, box=(0, top, width, bottom))


def _pixels_read(start: float, stop: float, length: int, new_length: int, support: float) -> tuple[int, int]:
    """The first pixel that the filter reads along one side, and the end of those; at most one more on either side."""
    scale = (stop - start) / new_length
    reach = support * max(scale, 1.0) - scale / 2  # beyond the box, from the centre of the outermost new pixel
    return max(0, math.floor(start - reach)), min(length, math.ceil(stop + reach))
