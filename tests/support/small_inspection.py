"""A small inspection with unknown labels, equal scores and a name that must be escaped, shared by tests of the inspector."""

from pathlib import Path

import numpy as np
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.inspection import Inspection

NAMES = ("cat", "dog", "<b>big</b>")


def small_inspection(folder: Path, *, num_images: int = 40, scale: str = "logit") -> Inspection:
    """Images 00.png, 01.png, … in `folder`, of which three have the same scores."""
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{row:02}.png") for row in range(num_images)]
    for row, path in enumerate(paths):
        Image.new("RGB", (8, 6), (4 * row % 256, 40, 90)).save(path)
    logit_NC = rng.normal(0, 2, (num_images, len(NAMES)))
    logit_NC[1:3] = logit_NC[:1]
    predictions = Predictions(
        ids=tuple(f"{row:02}" for row in range(num_images)),
        logit_NC=logit_NC,
        target_NC=rng.choice([1, 0, -1], logit_NC.shape, p=[0.4, 0.5, 0.1]).astype(np.int8),
        label_set=LabelSet(names=NAMES),
        image_paths=tuple(paths),
        scale=scale,
    )
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=predictions,
        threshold_C=np.array([0.5, 0.3, 0.7]),
        split="val",
    )
