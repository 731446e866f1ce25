"""The order of the two passes, against a definition in NumPy and against Pillow's one call where it is horizontal first."""

import math

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from polytag.data.images.resize import resize

SIZE = (31, 23)  # odd, so that few results lie halfway between two grey levels
FILTERS = {"box": Resampling.BOX, "bilinear": Resampling.BILINEAR, "bicubic": Resampling.BICUBIC, "lanczos": Resampling.LANCZOS}


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def curve(name: str, x: np.ndarray) -> np.ndarray:
    """The filter at distances x in pixels: Keys' cubic with a = -1/2, Lanczos with three lobes."""
    x = np.abs(x)
    if name == "bilinear":
        return np.maximum(0, 1 - x)
    if name == "bicubic":
        return np.where(x < 1, (1.5 * x - 2.5) * x**2 + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)


def one_pass(pixels: np.ndarray, name: str, *, start: float, stop: float, new_length: int) -> np.ndarray:
    """Antialiased resampling along the first axis, rounded to grey levels with halves upward."""
    scale = (stop - start) / new_length
    centre = start + (np.arange(new_length) + 0.5) * scale
    weight = curve(name, (np.arange(len(pixels)) + 0.5 - centre[:, None]) / max(scale, 1))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(np.floor(np.einsum("ij,j...->i...", weight, pixels) + 0.5), 0, 255)


def defined(image: Image.Image, name: str, box: tuple[float, ...], size: tuple[int, int], *, rows_first: bool) -> np.ndarray:
    """The explicit definition; `rows_first`: the vertical pass reduces the number of rows first."""
    left, top, right, bottom = box
    pixels = np.asarray(image).astype(float)
    for axis in (0, 1) if rows_first else (1, 0):
        start, stop, new_length = ((top, bottom, size[1]), (left, right, size[0]))[axis]
        moved = one_pass(pixels.swapaxes(0, axis), name, start=start, stop=stop, new_length=new_length)
        pixels = moved.swapaxes(0, axis)
    return pixels


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("width", "height", "box", "rows_first"),
    [
        (150, 97, None, False),
        (40, 301, None, False),  # tall: Pillow 13 starts with the rows here
        (301, 40, None, False),
        (20, 20, None, False),
        (20, 301, None, False),  # narrower than the result and higher
        (20, 301, None, True),
        (150, 97, (11.25, 20.5, 101.75, 93.125), False),
        (40, 301, (1.5, 100.25, 37.75, 280.5), False),
        (120, 301, (51.5, 20.25, 71.5, 280.5), False),
        (120, 301, (51.5, 20.25, 71.5, 280.5), True),
    ],
)
def test_passes_come_in_the_defined_order(monkeypatch, name: str, width: int, height: int, box, rows_first: bool):
    if rows_first:  # as for an image whose horizontal pass would exceed the limit
        monkeypatch.setattr("polytag.data.images.resize._MAX_PIXELS", 31 * 150)
    image = noise(width, height)
    ours = np.asarray(resize(image, SIZE, FILTERS[name], box=box)).astype(int)
    box = box or (0, 0, width, height)
    differs = np.abs(ours - defined(image, name, box, SIZE, rows_first=rows_first))
    other_differs = np.abs(ours - defined(image, name, box, SIZE, rows_first=not rows_first))
    assert differs.max() <= 1
    assert (differs > 0).mean() < 0.02  # a result halfway between two grey levels falls to either: weights have 22 bits
    assert (other_differs > 0).mean() > 0.1


@pytest.mark.parametrize("name", FILTERS)
def test_two_passes_are_pillows_one_call_where_it_is_horizontal_first(name: str):
    """Every version is horizontal first where that is the cheaper order: the width shrinks more than the height."""
    rng = np.random.default_rng(1)
    for seed in range(60):
        image = noise(int(rng.integers(200, 500)), int(rng.integers(60, 120)), seed=seed)
        left, top = rng.uniform(0, 40), rng.uniform(0, 15)
        box = (left, top, image.width - rng.uniform(0, 40), image.height - rng.uniform(0, 15)) if seed % 3 else None
        theirs = image.resize((32, 48), FILTERS[name], box=box)
        assert resize(image, (32, 48), FILTERS[name], box=box).tobytes() == theirs.tobytes()


def test_an_image_of_one_column_takes_no_more_memory_between_the_passes():
    """A horizontal pass first would hold 224 x 4,000,000 pixels, 3.6 GB."""
    tracked: list[tuple[int, int]] = []

    class Tracked(Image.Image):
        def resize(self, size, *args, **kwargs):
            tracked.append(size)
            return super().resize(size, *args, **kwargs)

    image = Image.new("RGB", (1, 4_000_000), (10, 200, 30))
    image.__class__ = Tracked
    assert set(resize(image, (224, 224), Resampling.BICUBIC).get_flattened_data()) == {(10, 200, 30)}
    assert math.prod(tracked[0]) == 224
