"""Images to measure with. Imports no torch."""

from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_SIZE = (500, 375)
NUM_FILES = 48


def write_images(folder: Path) -> list[Path]:
    """JPEG files of soft noise, which take about as long to decode as photographs of this size."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:02}.jpg" for number in range(NUM_FILES)]
    for path in paths:
        coarse = rng.integers(0, 256, (IMAGE_SIZE[1] // 4, IMAGE_SIZE[0] // 4, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize(IMAGE_SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths
