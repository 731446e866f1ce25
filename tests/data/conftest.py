"""Small folders of annotations, written the way each community's own tools write them."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from polytag.contracts import Dataset

REAL_VOC = Path(__file__).parents[2] / "../shared/data/voc-mini/VOCdevkit"


@pytest.fixture
def add_images() -> Callable[..., None]:
    """Write an image at each path: every one of them a different image of its own kind, upright and whole."""
    number = 0

    def add(folder: Path, *names: str) -> None:
        nonlocal number
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            number += 1
            content = BytesIO()
            kind = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
            Image.new("RGB", (7 + number, 8), (200, 100, 7)).save(content, kind)
            path.write_bytes(content.getvalue())

    return add


@pytest.fixture
def write() -> Callable[[Path, str], Path]:
    """Write a text file and the folders above it."""

    def write_one(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    return write_one


@pytest.fixture
def labels() -> Callable[[Dataset], Mapping[tuple[str, str], str]]:
    """A data set as {(split, id): "cat dog ?bird"}: the present classes, and the unknown ones with a question mark."""

    def as_text(dataset: Dataset) -> Mapping[tuple[str, str], str]:
        marks = {1: "", -1: "?"}
        return {
            (split, name): " ".join(
                marks[value] + label for label, value in zip(dataset.label_set, target_C.tolist(), strict=True) if value in marks
            )
            for split, name, target_C in zip(dataset.split_N, dataset.ids, dataset.target_NC, strict=True)
        }

    return as_text


@pytest.fixture
def real_voc() -> Path:
    """Real photographs in VOC's layout; skips where this checkout has none."""
    if not REAL_VOC.is_dir():
        pytest.skip(f"no real photographs at {REAL_VOC}")
    return REAL_VOC
