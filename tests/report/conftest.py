"""Predictions with known truth and pictures of every kind, and the Scores that go with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Mean, Predictions, Scores, TailAccuracy

HISTORY = tuple(
    {"epoch": e, "train_loss": 0.5 / e, "val_loss": 0.5 / e + 0.03, "train_map": 1 - 0.6 / e, "val_map": 0.9 - 0.5 / e}
    for e in range(1, 9)
)


def hand_scores(predictions: Predictions) -> Scores:
    """Scores that need no metric: every number differs, so that a test can tell where each came from.

    A class without a positive has NaN where nothing can be said.
    """
    num_classes = len(predictions.label_set)
    support_C = (predictions.target_NC == 1).sum(0)
    nan_C = np.where(support_C > 0, 0.0, np.nan)
    ap_C = np.linspace(0.911, 0.211, num_classes) + nan_C
    counted = int((support_C > 0).sum())
    threshold_K = np.linspace(0.5, 0.9, 5)
    return Scores(
        label_set=predictions.label_set,
        num_pictures=len(predictions),
        threshold_C=np.full(num_classes, 0.5),
        ap_C=ap_C,
        ap_low_C=ap_C - 0.05,
        ap_high_C=ap_C + 0.04,
        ap_voc07_C=ap_C - 0.01,
        ap_voc10_C=ap_C + 0.01,
        precision_C=np.linspace(0.72, 0.62, num_classes) + nan_C,
        recall_C=np.linspace(0.58, 0.48, num_classes) + nan_C,
        f1_C=np.linspace(0.64, 0.54, num_classes) + nan_C,
        accuracy_C=np.linspace(0.95, 0.93, num_classes),
        support_C=support_C,
        num_negative_C=(predictions.target_NC == 0).sum(0),
        num_unknown_C=(predictions.target_NC == -1).sum(0),
        means={
            "mAP": Mean(value=float(np.nanmean(ap_C)) if counted else np.nan, count=counted, low=0.5123, high=0.6457),
            "micro_AP": Mean(value=0.7654, count=int((predictions.target_NC >= 0).sum()), unit="decisions"),
            "samples_AP": Mean(value=0.8321, count=len(predictions), unit="pictures"),
            "CF1": Mean(value=float("nan"), count=0),
            "accuracy": Mean(value=0.9433, count=int((predictions.target_NC >= 0).sum()), unit="decisions"),
            "my_own_mean": Mean(value=0.1234, count=2),
        },
        tail=TailAccuracy(
            threshold_K=threshold_K,
            mean_K=np.array([0.7, 0.8, 0.85, 0.9, np.nan]),
            num_classes_K=np.array([num_classes, num_classes, 2, 1, 0]),
            per_class_CK=np.full((num_classes, 5), 0.8),
            count_CK=np.full((num_classes, 5), 3),
        ),
    )


def predictions_with_pictures(
    folder: Path, *, num_pictures: int = 60, names: tuple[str, ...] = ("dog", "cat", "boat"), seed: int = 0
) -> Predictions:
    """Logits drawn from truth and noise; each picture a small PNG of one colour, wide or tall in turn."""
    rng = np.random.default_rng(seed)
    target_NC = (rng.random((num_pictures, len(names))) < 0.4).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < 0.05] = -1
    logit_NC = 3 * target_NC + rng.normal(0, 1.5, target_NC.shape) - 1.5
    paths: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(num_pictures):
        path = folder / f"{row:03}.png"
        colour = tuple(int(level) for level in rng.integers(0, 255, 3))
        Image.new("RGB", (80, 50) if row % 2 else (50, 80), colour).save(path)
        paths.append(str(path))
    return Predictions(
        ids=tuple(f"picture-{row:03}" for row in range(num_pictures)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=names),
        picture_paths=tuple(paths),
        checkpoint_id="0123456789abcdef",
        source="generated val",
    )


@pytest.fixture(scope="session")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    return predictions_with_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def scores(predictions: Predictions) -> Scores:
    return hand_scores(predictions)
