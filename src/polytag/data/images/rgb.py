"""8-bit RGB from whatever a file holds: grey of many bits, palettes, transparency, CMYK, CIELAB."""

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from polytag.data.images.tiff import BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT

_WHITE = (255, 255, 255)
_STRIP_PIXELS = 1 << 18  # converted at once


def to_rgb(image: ImageFile) -> Image.Image:
    """8-bit RGB from any mode; the same object where it is RGB already."""
    mode = image.mode
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or ("transparency" in image.info and mode in ("1", "L", "P", "RGB")):
        return _over_white(image)
    if mode == "RGB":
        return image
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if mode == "F" or mode.startswith("I"):
        return _grey_rgb(image)
    return image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """Box and part of a few rows at a time, so that no intermediate value needs the memory of a whole image."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        yield box, image.crop(box)


def _over_white(image: Image.Image) -> Image.Image:
    """The image composed over white, the background of cut-outs and drawings; dropping alpha would reveal hidden parts."""
    canvas = Image.new("RGB", image.size, _WHITE)
    for box, strip in _strips(image):
        rgba = strip.convert("RGBA")
        canvas.paste(rgba.convert("RGB"), box, mask=rgba.getchannel("A"))
    return canvas


def _grey_rgb(image: ImageFile) -> Image.Image:
    """RGB of a grey image with more than 8 bits; Pillow's own conversion clips at 255."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    is_unsigned = image.mode == "I" and tags.get(SAMPLE_FORMAT, (1,))[0] == 1

    def values(strip: Image.Image) -> np.ndarray:
        value_HW = np.asarray(strip)
        return (value_HW.view(np.uint32) if is_unsigned else value_HW).astype(np.float64)

    top = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1  # Pillow reads 12-bit TIFF into 16 bits
    is_ranged = image.mode.startswith("I;16")
    low, high = (0.0, 0.0) if is_ranged else _finite_range(values(strip) for _, strip in _strips(image))
    rgb = Image.new("RGB", image.size)
    for box, strip in _strips(image):
        if is_ranged:
            level_HW = (np.asarray(strip).astype(np.uint32) * 255 + top // 2) // top
        else:
            level_HW = _stretched(values(strip), low, high)
        level_HW = level_HW.clip(0, 255).astype(np.uint8)
        rgb.paste(Image.fromarray(255 - level_HW if tags.get(PHOTOMETRIC) == 0 else level_HW).convert("RGB"), box)  # 0: inverted
    return rgb


def _finite_range(parts: Iterable[np.ndarray]) -> tuple[float, float]:
    """Smallest and largest finite value; 0 and 0 where there is none."""
    ranges = [(finite.min(), finite.max()) for part in parts if (finite := part[np.isfinite(part)]).size]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (0.0, 0.0)


def _stretched(value_HW: np.ndarray, low: float, high: float) -> np.ndarray:
    """Levels from the smallest finite value (0) to the largest (255); NaN and an image of one value are 0."""
    if high == low:
        return np.zeros_like(value_HW)
    clipped = np.clip(np.nan_to_num(value_HW, nan=low, posinf=high, neginf=low), low, high)
    return np.rint((clipped / 2 - low / 2) / (high / 2 - low / 2) * 255)  # halves: the difference of two float64 may overflow
