"""Images of every size for the small untrained model."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """75 images, from 8 to 300 pixels wide: more than two batches, that take very different times to decode."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for row in range(75):
        size = (int(rng.integers(8, 300)), int(rng.integers(8, 120)))
        low = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(low).resize(size).save(folder / f"{row:02}.png")
    return sorted(folder.iterdir())
