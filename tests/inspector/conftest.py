"""A run with its model, for the pages to show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag import FINETUNE, load_dataset, read_predictions, train
from polytag.inspector.inspection import Inspection


@pytest.fixture(scope="session")
def modelled(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """A finished run of a tiny network on squares of colour, with its model and its data set. Read-only by agreement."""
    run = tmp_path_factory.mktemp("modelled") / "run"
    tiny = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=64, epochs=3)
    train(colours, recipe=tiny, output=run)
    predictions = read_predictions(run / "predictions-val.parquet")
    return Inspection(
        name="run",
        review_file=run / "review.sqlite",
        predictions=predictions,
        threshold_C=np.array([0.5, 0.4, 0.6]),
        split="val",
        checkpoint=run / "best",
        data=load_dataset(colours),
        data_path=colours,
    )
