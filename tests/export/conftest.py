"""One export for the tests of this room: it takes seconds to make."""

from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import Dataset
from polytag.export.export import export_model
from polytag.export.selftest import generated_images
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(generated_images()):
        image.save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def exported(checkpoint: Checkpoint, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    num_images, num_classes = len(images), len(checkpoint.label_set)
    dataset = Dataset(
        ids=tuple(path.name for path in images),
        paths=images,
        target_NC=np.zeros((num_images, num_classes), np.int8),
        split_N=("",) * num_images,
        label_set=checkpoint.label_set,
        source="some images",
    )
    return export_model(checkpoint, tmp_path_factory.mktemp("exports") / "small", to=("onnx", "openvino"), check=dataset)
