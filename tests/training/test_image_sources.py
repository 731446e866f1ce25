"""Whichever way images are read: what pays is chosen, and the answer is the plain way's."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polytag.contracts import Dataset
from polytag.data.cache import store
from polytag.data.cache.store import cache_files
from polytag.data.load import load_dataset
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.predictions.read import read_predictions
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training import image_sources
from polytag.training.callback import SilentCallback
from polytag.training.context import TrainingContext
from polytag.training.image_sources import open_image_sources, uncached_sources
from polytag.training.loop import make_step
from polytag.training.train import train

pytestmark = pytest.mark.usefixtures("without_pages")

CPU = Arithmetic(device="cpu", precision="fp32")
RECIPE = replace(
    FINETUNE,
    backbone="test_resnet",
    weights="random",
    image_size_px=32,
    epochs=2,
    batch_size=16,
    precision="fp32",
    augment="strong",
)


class Notes(SilentCallback):
    def __init__(self):
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def run_of(colours: Path, folder: Path, recipe: Recipe) -> tuple[bytes, bytes, dict[str, str]]:
    """Weights, predictions, and where images came from."""
    run = train(colours, recipe=recipe, output=folder).folder
    images = json.loads((run.path / "env.json").read_text())["images"]
    return (run.best / "model.safetensors").read_bytes(), run.predictions.read_bytes(), images


def test_kept_images_give_the_same_bits_in_the_run_that_keeps_them_and_in_the_next(colours: Path, tmp_path: Path, cache: Path):
    *plain, how = run_of(colours, tmp_path / "plain", replace(RECIPE, cache="none"))
    assert how == {"training": "files", "validation": "files"}
    *first, how = run_of(colours, tmp_path / "first", replace(RECIPE, cache="disk"))
    assert how == dict.fromkeys(("training", "validation"), "files, decoded once and cached")
    assert [kept.path.suffix for kept in cache_files(cache)] == [".images"] * 2
    *again, how = run_of(colours, tmp_path / "again", replace(RECIPE, cache="auto"))
    assert how == dict.fromkeys(("training", "validation"), "cached (0.00 GB)")
    assert plain == first == again


def context_of(dataset: Dataset, recipe: Recipe) -> TrainingContext:
    return TrainingContext(recipe=recipe, train_set=dataset.split("train"), val_set=dataset.split("val"), arithmetic=CPU)


def test_few_small_images_are_not_kept(colours: Path, tmp_path: Path, cache: Path):
    run_of(colours, tmp_path / "run", RECIPE)
    assert cache_files(cache) == []


@pytest.mark.parametrize("reason", ["pays", "memory", "disk", "one pass", "small"])
def test_images_are_kept_where_that_pays_and_has_room(colours: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, reason: str):
    monkeypatch.setattr(image_sources, "_LEAST_SECONDS_SAVED", 0.0)
    monkeypatch.setattr(image_sources, "_LEAST_TRAINING_PIXELS", 1601 if reason == "small" else 1600)  # they have 40 x 40
    if reason == "memory":
        monkeypatch.setattr(image_sources, "free_bytes", lambda device: 1000)
    if reason == "disk":
        monkeypatch.setattr(store, "RESERVE_BYTES", 10**18)
    dataset = load_dataset(colours)
    recipe = replace(RECIPE, epochs=1 if reason == "one pass" else 2)
    opened = open_image_sources(context_of(dataset, recipe), has_probe=False)
    opened.close()
    assert (
        opened.how["training"]
        == {
            "pays": "files, decoded once and cached",
            "memory": "files (the cache would take 0.0 GB, too much of the memory)",
            "disk": "files (the cache would take 0.0 GB, which the disk cannot spare)",
            "one pass": "files",
            "small": "files",
        }[reason]
    )
    assert cache_files(cache) == []  # nothing was read, so nothing is whole


def test_resident_images_train_as_well_and_validate_to_the_bit(colours: Path, tmp_path: Path):
    dataset = load_dataset(colours)
    opened = open_image_sources(context_of(dataset, replace(RECIPE, cache="gpu")), has_probe=True)
    plain = uncached_sources(context_of(dataset, RECIPE))
    assert opened.how == {
        "training": "resident on cpu, 40 x 40 px, 0.00 GB",
        "validation": "resident on cpu, as scored, 0.00 GB",
    }
    for ours, theirs in zip(opened.val_views(range(24), 8), plain.val_views(range(24), 8), strict=True):
        assert (np.asarray(ours.pixels_NVHWC) == theirs.pixels_NVHWC).all()

    smooth = replace(RECIPE, augment="light", epochs=4)
    maps = {}
    for cache in ("none", "gpu"):
        run = train(colours, recipe=replace(smooth, cache=cache), output=tmp_path / cache)
        maps[cache] = read_predictions(run.folder.predictions)
    apart = np.abs(maps["none"].probability_NC - maps["gpu"].probability_NC)
    assert apart.max() < 0.05
    assert apart.mean() < 0.005


def test_gradients_of_a_resident_batch_are_those_of_the_plain_one(colours: Path):
    dataset = load_dataset(colours)
    torch.manual_seed(0)
    model = build_model("test_resnet", num_classes=3)
    grads = []
    for cache in ("none", "gpu"):
        recipe = replace(RECIPE, augment="light", cache=cache)
        context = context_of(dataset, recipe)
        opened = open_image_sources(context, has_probe=False)
        step = make_step(model, context, sources=opened)
        (batch,) = opened.loader.batches([np.arange(16)], epoch=1)
        step(batch.inputs, torch.from_numpy(np.array(context.train_set.target_NC[:16])), 1.0)
        grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.9999
