"""Predictions with known truth and small images, and the Metrics that go with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics


def predictions_with_images(folder: Path, *, num_images: int = 60, seed: int = 0) -> Predictions:
    """Logits drawn from truth and noise; each image a small PNG of one colour, wide or tall in turn."""
    names = ("dog", "cat", "boat")
    rng = np.random.default_rng(seed)
    target_NC = (rng.random((num_images, len(names))) < 0.4).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < 0.1] = -1
    logit_NC = 3 * target_NC + rng.normal(0, 1.5, target_NC.shape) - 1.5
    paths: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(num_images):
        path = folder / f"{row:03}.png"
        colour = tuple(int(level) for level in rng.integers(0, 255, 3))
        Image.new("RGB", (80, 50) if row % 2 else (50, 80), colour).save(path)
        paths.append(str(path))
    return Predictions(
        ids=tuple(f"image-{row:03}" for row in range(num_images)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=names),
        image_paths=tuple(paths),
        checkpoint_id="0123456789abcdef",
        source="generated val",
    )


@pytest.fixture(scope="session")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    return predictions_with_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def metrics(predictions: Predictions) -> Metrics:
    return evaluate_predictions(predictions, num_replicates=50)


@pytest.fixture(scope="session")
def history() -> tuple[dict[str, float], ...]:
    """Eight epochs, as results.csv holds them."""
    return tuple(
        {"epoch": e, "train_loss": 0.5 / e, "val_loss": 0.5 / e + 0.03, "train_map": 1 - 0.6 / e, "val_map": 0.9 - 0.5 / e}
        for e in range(1, 9)
    )
