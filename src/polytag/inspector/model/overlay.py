"""Renders a heat map as a PNG to lay over its image, transparent where the heat is low."""

from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

OVERLAY_PX = 512
_CLEAR_BELOW = 0.15
_MOST_OPAQUE = 0.72
# Five colours of Matplotlib's "inferno" (van der Walt and Smith, 2015; public domain), without its dark first quarter, which would
# darken regions of medium heat. Lightness rises evenly with heat, for every kind of colour vision and in grey.
_COLOURS = np.array([(87, 16, 110), (151, 39, 102), (212, 72, 66), (249, 142, 9), (252, 255, 164)])


def overlay_png(heat_hw: np.ndarray, *, size: tuple[int, int], region: tuple[float, float, float, float]) -> bytes:
    """Return a transparent PNG with a longer side of 512 pixels, in the aspect ratio of an image of this width and height.

    `heat_hw` in [0, 1] covers `region`: left, top, right and bottom as fractions of the image. The rest is transparent.
    """
    scale = OVERLAY_PX / max(size)
    width, height = (max(1, round(side * scale)) for side in size)
    left, right = (round(share * width) for share in (region[0], region[2]))
    top, bottom = (round(share * height) for share in (region[1], region[3]))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    smooth = Image.fromarray(heat_hw.astype(np.float32)).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    level = np.zeros((max(height, bottom), max(width, right)), np.uint8)
    level[top:bottom, left:right] = np.rint(np.clip(np.asarray(smooth), 0, 1) * 255)
    colours, opacities = _ramp()
    image = Image.fromarray(level[:height, :width])
    image.putpalette(colours)  # 256 colours take a fifth of the bytes of four channels
    file = BytesIO()
    image.save(file, "PNG", transparency=opacities)
    return file.getvalue()


@cache
def _ramp() -> tuple[bytes, bytes]:
    """Return red, green and blue of each of 256 levels, and the opacity, which rises smoothly from 0."""
    heat = np.linspace(0, 1, 256)
    at = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(heat, at, _COLOURS[:, channel]) for channel in range(3)], axis=1)
    rise = np.clip((heat - _CLEAR_BELOW) / (1 - _CLEAR_BELOW), 0, 1)
    opacity = _MOST_OPAQUE * rise * (2 - rise)
    return np.rint(colour).astype(np.uint8).tobytes(), np.rint(255 * opacity).astype(np.uint8).tobytes()
