"""Views of an upright RGB image, uint8 of the input size: fitted for scoring, or augmented for training.

Pillow releases Python's lock, so threads run in parallel. Every random choice comes from the generator argument, so an image's
augmentation depends on (seed, epoch, image) alone.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from polytag.contracts import Preprocessing
from polytag.data.images.resize import resize
from polytag.errors import UsageError

_MAX_PIXELS = 2**26  # of an image that views are cropped from; of a longer strip, each view is resized on its own
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A preset of random changes to a training image.

    min_area       smallest share of the image in a random crop; 1: no crop
    flip           mirror half of the images
    jitter         multiply brightness, contrast and saturation by a factor in [1 - jitter, 1 + jitter]
    rotation_deg   largest rotation in either direction
    grey           share of images turned grey
    erase          share of images with an erased random rectangle of up to a third of the area
    """

    min_area: float = 1.0
    flip: bool = False
    jitter: float = 0.0
    rotation_deg: float = 0.0
    grey: float = 0.0
    erase: float = 0.0


AUGMENTATIONS = {
    "none": Augmentation(),
    # position and size only, for images whose mirror image or colours have another meaning (handwriting, X-rays, products)
    "light": Augmentation(min_area=0.75),
    "standard": Augmentation(min_area=0.4, flip=True, jitter=0.2),
    "strong": Augmentation(min_area=0.25, flip=True, jitter=0.4, rotation_deg=15, grey=0.1, erase=0.25),
}


def augmentation(name: str) -> Augmentation:
    """The preset of this name; raises UsageError, with the known names, for another."""
    if name not in AUGMENTATIONS:
        raise UsageError("unknown augmentation", where="--augment", got=repr(name), expected="one of " + ", ".join(AUGMENTATIONS))
    return AUGMENTATIONS[name]


NUM_VIEWS = {"center": 1, "flip": 2, "five": 5, "ten": 10}  # of `Preprocessing.crops`


def views(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 V x S x S x 3: the views that an image is scored with (1, 2, 5 or 10, by `preprocessing.crops`)."""
    size_px = preprocessing.image_size_px
    width, height = _size_before_crop(image.size, preprocessing)
    spare = (width - size_px, height - size_px)
    corners = [(0, 0), (spare[0], 0), (0, spare[1]), spare] if preprocessing.crops in ("five", "ten") else []
    places = [(left, top, left + size_px, top + size_px) for left, top in [_centre((width, height), size_px), *corners]]
    if width * height <= _MAX_PIXELS:
        larger = _resize(image, (width, height), preprocessing)
        images = [larger.crop(place) for place in places]
    else:
        scale = np.tile([image.width / width, image.height / height], 2)
        images = [_resize(image, (size_px, size_px), preprocessing, box=tuple(scale * place)) for place in places]
    stacked = np.stack([np.asarray(view) for view in images])
    if preprocessing.crops in ("flip", "ten"):
        stacked = np.concatenate([stacked, stacked[:, :, ::-1]])
    return stacked


def seen_region(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, as shares of the upright image, of the region in the first view: the whole, or its centre.

    `size` is the upright image's width and height. The region maps positions in the model's square input to the image.
    """
    width, height = _size_before_crop(size, preprocessing)
    left, top = _centre((width, height), preprocessing.image_size_px)
    right, bottom = left + preprocessing.image_size_px, top + preprocessing.image_size_px
    return left / width, top / height, right / width, bottom / height


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The random parameters of one view of one image; the same for augmentation on the processor and on the GPU.

    box         left, top, right, bottom of the crop, in pixels of the upright image
    angle_deg   counter-clockwise rotation of the view
    brightness, contrast, saturation   factors; all 1: the colours do not change
    flip        mirror left to right, after the others
    erase       top, left, height, width of the erased rectangle of the view, or None
    """

    box: tuple[float, float, float, float]
    angle_deg: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    flip: bool = False
    erase: tuple[int, int, int, int] | None = None


def drawn(size: tuple[int, int], preset: Augmentation, preprocessing: Preprocessing, rng: np.random.Generator) -> Choices:
    """Draw the parameters for an image of this upright width and height."""
    box = _random_box(size, preset=preset, preprocessing=preprocessing, rng=rng)
    angle_deg = rng.uniform(-preset.rotation_deg, preset.rotation_deg) if preset.rotation_deg else 0.0
    brightness = contrast = saturation = 1.0
    if preset.jitter or preset.grey:
        brightness, contrast, saturation = rng.uniform(1 - preset.jitter, 1 + preset.jitter, size=3).tolist()
        if rng.random() < preset.grey:
            saturation = 0.0
    flip = preset.flip and rng.random() < 0.5
    erase = _random_rectangle(preprocessing.image_size_px, rng) if rng.random() < preset.erase else None
    return Choices(
        box=box, angle_deg=angle_deg, brightness=brightness, contrast=contrast, saturation=saturation, flip=flip, erase=erase
    )


def training_source(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The image that crops are taken from: an image whose shorter side is at least four times the view's is reduced by a whole
    factor to no less than twice the view's side.

    A crop of a quarter of the area, the smallest of any preset, is then still as large as the view. Decoded and cached images
    follow the same rule, so the cache changes no bit.
    """
    factor = min(image.size) // (2 * preprocessing.image_size_px)
    return image.reduce(factor) if factor > 1 else image


def augmented(image: Image.Image, preset: Augmentation, preprocessing: Preprocessing, rng: np.random.Generator) -> np.ndarray:
    """uint8 1 x S x S x 3: one random view of an image, resized once."""
    if preset == AUGMENTATIONS["none"]:
        return views(image, single_view(preprocessing))
    choices = drawn(image.size, preset, preprocessing, rng)
    view = _resize(image, (preprocessing.image_size_px, preprocessing.image_size_px), preprocessing, box=choices.box)
    if preset.rotation_deg:
        view = view.rotate(choices.angle_deg, resample=Image.Resampling.BILINEAR)
    if preset.jitter or preset.grey:
        view = _recoloured(view, choices)
    pixels = np.asarray(view)
    if choices.flip:
        pixels = pixels[:, ::-1]
    if choices.erase is not None:
        pixels = _erased(pixels, choices.erase)
    return np.ascontiguousarray(pixels)[None]


def single_view(preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing with one view, for training without augmentation."""
    return replace(preprocessing, crops="center")


def _resize(
    image: Image.Image,
    size: tuple[int, int],
    preprocessing: Preprocessing,
    *,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    return resize(image, size, _FILTERS[preprocessing.interpolation], box=box)


def _size_before_crop(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height of the image that views are cropped from: a square, or a shorter side of at least the view's."""
    side_px = round(preprocessing.image_size_px / preprocessing.crop_fraction)
    if preprocessing.fit == "squash":
        only_whole = preprocessing.crops in ("center", "flip")
        side_px = preprocessing.image_size_px if only_whole else side_px
        return side_px, side_px
    width, height = size
    factor = side_px / min(width, height)
    return max(side_px, round(width * factor)), max(side_px, round(height * factor))


def _centre(size: tuple[int, int], size_px: int) -> tuple[int, int]:
    """Left and top of the central square."""
    return round((size[0] - size_px) / 2), round((size[1] - size_px) / 2)


def _random_box(
    size: tuple[int, int], *, preset: Augmentation, preprocessing: Preprocessing, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Inception's random crop: a random area and aspect ratio, ten tries, else the whole image.

    Where scoring squashes the whole image, crops have the image's own aspect ratio (times 3/4 to 4/3), so that objects are
    stretched as in scoring.
    """
    width, height = size
    natural = width / height if preprocessing.fit == "squash" else 1.0
    for _ in range(10):
        area = width * height * rng.uniform(preset.min_area, 1)
        ratio = natural * math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width, crop_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if crop_width <= width and crop_height <= height:
            left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's convert("L")


def _recoloured(image: Image.Image, choices: Choices) -> Image.Image:
    """Brightness, contrast and saturation as one affine map in RGB, in one pass over the pixels."""
    mean_grey = float(np.asarray(resize(image, (8, 8), Image.Resampling.BOX)).reshape(-1, 3).mean(axis=0) @ LUMA)
    brightness, contrast, saturation = choices.brightness, choices.contrast, choices.saturation
    colour = saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1))
    matrix = np.concatenate([brightness * contrast * colour, np.full((3, 1), brightness * (1 - contrast) * mean_grey)], axis=1)
    return image.convert("RGB", tuple(matrix.ravel()))


def _random_rectangle(size_px: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Random erasing's rectangle in a square view (Zhong et al. 2017): top, left, height, width."""
    area, ratio = size_px * size_px * rng.uniform(0.02, 1 / 3), math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
    height, width = min(size_px, round(math.sqrt(area / ratio))), min(size_px, round(math.sqrt(area * ratio)))
    top, left = rng.integers(0, size_px - height + 1), rng.integers(0, size_px - width + 1)
    return int(top), int(left), height, width


def _erased(pixels: np.ndarray, rectangle: tuple[int, int, int, int]) -> np.ndarray:
    """The image with the rectangle filled with its mean colour."""
    top, left, height, width = rectangle
    pixels = pixels.copy()
    pixels[top : top + height, left : left + width] = pixels.mean(axis=(0, 1)).astype(np.uint8)
    return pixels
