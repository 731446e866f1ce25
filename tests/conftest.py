"""Settings of the whole suite: small data that are made on the spot, one thread count, no terminal colours."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "120"
# As the command does: threads that spin while they wait take the cores from each other, eight times slower on a busy machine.
os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}

# The seconds of one example are those of a busy machine. In CI every run has the same examples; elsewhere every run looks further.
settings.register_profile("polytag", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("polytag")

CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the suite is kept among the user's images and features, nothing of theirs is read."""
    os.environ["POLYTAG_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and weights beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "voc-mini").is_dir():
        pytest.skip("real photographs are not beside this checkout (../shared); the generated twin of this test runs")
    return folder


def colour_images(folder: Path, *, num_train: int = 48, num_val: int = 24, size_px: int = 40, seed: int = 0) -> Path:
    """A CSV data set whose labels can be learned in seconds: squares of red, green and blue on grey noise."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    lines = ["file_name,labels,split"]
    for row in range(num_train + num_val):
        present = rng.random(3) < 0.45
        pixels = rng.integers(90, 150, (size_px, size_px, 3))
        for column in np.flatnonzero(present):
            top, left = rng.integers(0, size_px - 14, 2)
            pixels[top : top + 14, left : left + 14] = 30
            pixels[top : top + 14, left : left + 14, column] = 230
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{row:03}.png")
        labels = "|".join(name for name, here in zip(CLASSES, present, strict=True) if here)
        lines.append(f"images/{row:03}.png,{labels},{'train' if row < num_train else 'val'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a small CSV data set (48 train, 24 val, 3 classes); read-only by agreement."""
    return colour_images(tmp_path_factory.mktemp("colours"))
