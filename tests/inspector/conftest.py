"""A run with its model, and images with copies, for the pages to show."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from polytag import FINETUNE, load_dataset, read_predictions, train
from polytag.contracts import Dataset, LabelSet, Predictions
from polytag.inspector.inspection import Inspection


@pytest.fixture(scope="session")
def modelled(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """A finished run of a tiny network on squares of colour, with its model and its data set. Read-only by agreement."""
    run = tmp_path_factory.mktemp("modelled") / "run"
    tiny = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=64, epochs=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "polytag.report.grids", None)  # without pages
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


def scene(seed: int) -> Image.Image:
    """An image of smooth shapes, unlike any other one."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8))
    return small.resize((240, 180), Image.Resampling.BICUBIC)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    """30 scenes: of scene 0 a smaller copy in training, of 1 a mirrored one beside it with another label, of 2 the same bytes."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    made = {f"val/{seed:02}.png": scene(seed) for seed in range(20)} | {
        f"train/{seed:02}.png": scene(seed) for seed in range(20, 30)
    }
    made["train/copy of 00.png"] = scene(0).resize((160, 120), Image.Resampling.LANCZOS)
    made["val/mirrored 01.png"] = ImageOps.mirror(scene(1))
    made["train/again 02.png"] = scene(2)
    split_of = {name: name.split("/")[0] for name in made}
    for name, image in made.items():
        image.save(tmp_path / "images" / name.replace("/", " "))
    rng = np.random.default_rng(0)
    target_NC = rng.integers(0, 2, (len(made), 2)).astype(np.int8)
    ids = tuple(made)
    target_NC[ids.index("val/01.png")] = (1, 0)
    target_NC[ids.index("val/mirrored 01.png")] = (0, 0)
    target_NC[ids.index("train/again 02.png")] = target_NC[ids.index("val/02.png")]
    target_NC[ids.index("val/00.png")], target_NC[ids.index("train/copy of 00.png")] = (1, 1), (1, -1)
    data = Dataset(
        ids=ids,
        paths=[tmp_path / "images" / name.replace("/", " ") for name in ids],
        target_NC=target_NC,
        split_N=tuple(split_of.values()),
        label_set=LabelSet(names=("cat", "dog")),
        source="made",
    )
    of_val = data.split("val")
    predictions = Predictions(
        ids=of_val.ids,
        logit_NC=rng.normal(size=of_val.target_NC.shape) + of_val.target_NC,
        target_NC=of_val.target_NC,
        label_set=data.label_set,
        image_paths=tuple(map(str, of_val.paths)),
    )
    return Inspection(
        name="run",
        review_file=tmp_path / "review.sqlite",
        predictions=predictions,
        threshold_C=np.array([0.5, 0.5]),
        split="val",
        data=data,
    )
