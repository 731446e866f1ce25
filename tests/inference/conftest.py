"""A small untrained model in a checkpoint folder, and images of every size for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polytag.contracts import LabelSet, Preprocessing
from polytag.models.backbone import build_model
from polytag.models.checkpoint import Checkpoint, save_checkpoint

LABELS = LabelSet(names=("cat", "dog", "big, old tree"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """test_resnet with random weights whose head is turned up, so that images get different answers."""
    torch.manual_seed(0)
    model = build_model("test_resnet", num_classes=3)
    head = model.get_classifier()
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape))
        head.bias.copy_(torch.tensor([0.3, -0.2, 0.0]))
    return save_checkpoint(
        tmp_path_factory.mktemp("model") / "best",
        tensors=model.state_dict(),
        backbone="test_resnet",
        backbone_args={},
        preprocessing=Preprocessing(image_size_px=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
        label_set=LABELS,
        thresholds=(0.5, 0.4, 0.6),
        facts={},
        card=lambda checkpoint_id: f"# {checkpoint_id}\n",
    )


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
