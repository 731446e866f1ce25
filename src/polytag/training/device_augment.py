"""Augmentation of whole batches on the device: the same choices as Pillow's way, the same filters, as matrix products.

Shapes: n images of a batch, H x W the canvas that images are stored in (top left, the rest unused), S side of the view. Pixels
are planar, n x 3 x H x W, because a crop with a resize is then two products: one matrix an image for its rows, one for its
columns, holding the weights of Pillow's antialiased filter (`src/libImaging/Resample.c`, precompute_coeffs).

Values are rounded where Pillow rounds, so views agree to a grey level or two (`tests/training/test_resident.py` holds the bound).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polytag.data.images.augment import LUMA, Augmentation, Choices

NUM_PARAMETERS = 15
_BOX, _ANGLE, _COLOUR, _FLIP, _ERASE, _SIZE = slice(0, 4), 4, slice(5, 8), 8, slice(9, 13), slice(13, 15)


def parameters(choices: Choices, *, full_size: tuple[int, int], stored_size: tuple[int, int]) -> np.ndarray:
    """float32, NUM_PARAMETERS: what `augmented_on_device` needs of an image's choices.

    `full_size` is the width and height that the choices were drawn for, `stored_size` those of the image in the canvas.
    """
    across, down = stored_size[0] / full_size[0], stored_size[1] / full_size[1]
    left, top, right, bottom = choices.box
    erase = choices.erase or (0, 0, 0, 0)
    return np.array(
        [
            left * across, top * down, right * across, bottom * down, math.radians(choices.angle_deg),
            choices.brightness, choices.contrast, choices.saturation, choices.flip, *erase, *stored_size,
        ],
        dtype=np.float32,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DeviceAugmentation:
    """What holds for every image: the preset, the view's side, the filter's name, and the type that products are taken in."""

    preset: Augmentation
    size_px: int
    interpolation: str
    dtype: torch.dtype


def augmented_on_device(canvas_N3HW: Tensor, row_N: Tensor, parameter_NP: Tensor, how: DeviceAugmentation) -> Tensor:
    """float32 n x 3 x S x S, whole numbers from 0 to 255: a view of each of these rows of the canvas (uint8).

    Nothing here waits for the device or depends on values, so it can be part of a CUDA graph.
    """
    image_N3HW = canvas_N3HW.index_select(0, row_N).to(how.dtype)
    left, top, right, bottom = parameter_NP[:, _BOX].unbind(1)
    width, height = parameter_NP[:, _SIZE].unbind(1)
    across_NSW = resampling(left, right, width, size_px=how.size_px, length=image_N3HW.shape[3], filter_name=how.interpolation)
    down_NSH = resampling(top, bottom, height, size_px=how.size_px, length=image_N3HW.shape[2], filter_name=how.interpolation)
    num, _, canvas_height, canvas_width = image_N3HW.shape
    narrow = torch.bmm(image_N3HW.view(num, 3 * canvas_height, canvas_width), across_NSW.to(how.dtype).transpose(1, 2))
    narrow = _levels(narrow).view(num, 3, canvas_height, how.size_px)
    view = _levels(torch.matmul(down_NSH.to(how.dtype)[:, None], narrow)).float()
    if how.preset.rotation_deg:
        view = _rotated(view, parameter_NP[:, _ANGLE])
    if how.preset.jitter or how.preset.grey:
        view = _recoloured(view, *parameter_NP[:, _COLOUR].unbind(1))
    if how.preset.flip:
        view = torch.where(parameter_NP[:, _FLIP, None, None, None] > 0, view.flip(3), view)
    if how.preset.erase:
        view = _erased(view, parameter_NP[:, _ERASE])
    return view


def resampling(start_N: Tensor, end_N: Tensor, stored_N: Tensor, *, size_px: int, length: int, filter_name: str) -> Tensor:
    """float32 n x S x L: row s holds the weights of the L stored pixels in output pixel s, which sum to 1.

    The interval from `start` to `end`, in pixels, is spread over S; pixels from `stored` on are not looked at.
    """
    step = torch.arange(size_px, device=start_N.device, dtype=torch.float32) + 0.5
    place = torch.arange(length, device=start_N.device, dtype=torch.float32) + 0.5
    scale_N = (end_N - start_N) / size_px
    centre_NS = start_N[:, None] + step * scale_N[:, None]
    distance = (place - centre_NS[:, :, None]) / scale_N.clamp(min=1)[:, None, None]
    weight = _triangle(distance) if filter_name == "bilinear" else _cubic(distance)
    weight = weight * (place < stored_N[:, None, None])
    return weight / weight.sum(dim=2, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, as Pillow's BICUBIC."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _levels(value: Tensor) -> Tensor:
    """To the nearest grey level, halves upward, as Pillow's resize between its two passes and after them."""
    return (value + 0.5).floor_().clamp_(0, 255)


def _rotated(view_N3SS: Tensor, angle_N: Tensor) -> Tensor:
    """Pillow's rotate: counter-clockwise about the middle, bilinear, black where nothing was."""
    size_px = view_N3SS.shape[2]
    place = torch.arange(size_px, device=view_N3SS.device, dtype=torch.float32) + 0.5 - size_px / 2
    cos, sin = angle_N.cos()[:, None, None], angle_N.sin()[:, None, None]
    x, y = cos * place - sin * place[:, None], sin * place + cos * place[:, None]
    grid = torch.stack([x, y], dim=3) * (2 / size_px)
    turned = F.grid_sample(view_N3SS, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = ((x >= -size_px / 2) & (x < size_px / 2) & (y >= -size_px / 2) & (y < size_px / 2))[:, None]
    return torch.where(inside, (turned + 1e-3).floor(), 0.0)  # Pillow cuts off; a thousandth for float32's own errors


def _recoloured(view_N3SS: Tensor, brightness_N: Tensor, contrast_N: Tensor, saturation_N: Tensor) -> Tensor:
    """Affine in RGB, as in data.augment; the mean grey is that of all pixels, where the other takes it from 8 x 8 blocks."""
    red, green, blue = (float(weight) for weight in LUMA)
    grey = red * view_N3SS[:, 0] + green * view_N3SS[:, 1] + blue * view_N3SS[:, 2]
    mean_grey_N = grey.mean(dim=(1, 2))
    factor = (brightness_N * contrast_N)[:, None, None, None]
    saturation = saturation_N[:, None, None, None]
    offset = (brightness_N * (1 - contrast_N) * mean_grey_N)[:, None, None, None]
    return _levels(factor * (saturation * view_N3SS + (1 - saturation) * grey[:, None]) + offset)


def _erased(view_N3SS: Tensor, rectangle_N4: Tensor) -> Tensor:
    """The rectangle (top, left, height, width) in the view's mean colour; one of no height leaves the view."""
    place = torch.arange(view_N3SS.shape[2], device=view_N3SS.device, dtype=torch.float32)
    top, left, height, width = (value[:, None] for value in rectangle_N4.unbind(1))
    rows, columns = (place >= top) & (place < top + height), (place >= left) & (place < left + width)
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    mean = (view_N3SS.mean(dim=(2, 3), keepdim=True) + 1e-3).floor()
    return torch.where(inside, mean, view_N3SS)


def stacked(rows: Sequence[np.ndarray]) -> Tensor:
    """float32 n x NUM_PARAMETERS."""
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, NUM_PARAMETERS)
