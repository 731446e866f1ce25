"""The end of a run: scores of the training serve as those of the saved model where it is the same to the last bit."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polytag.data.load import load_dataset
from polytag.inference import feature_cache
from polytag.inference.feature_cache import cache_of, features_of
from polytag.inference.neighbors import build_index
from polytag.inference.predictor import Predictor, extract_features
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.read import read_predictions
from polytag.runs.recipe import FINETUNE
from polytag.training import checkpointer, validation_features
from polytag.training.callback import SilentCallback
from polytag.training.train import train

pytestmark = pytest.mark.usefixtures("without_pages")

RECIPE = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, epochs=2, device="cpu", head_lr=3e-3)


@pytest.fixture(scope="module")
def many(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training and 120 validation images, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("many")
    shutil.copytree(colours.parent / "images", folder / "images")
    lines = colours.read_text().splitlines()
    validation = lines[-24:]
    for number in range(4):
        for line in validation:
            name, rest = line.split(",", maxsplit=1)
            copy = name.replace(".png", f"-{number}.png")
            shutil.copy(folder / name, folder / copy)
            lines.append(f"{copy},{rest}")
    (folder / "images" / "060-1.png").write_bytes(b"no image")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


class Listener(SilentCallback):
    """How many images the saved model scored, pass by pass."""

    def __init__(self):
        self.num_scored: list[int] = []

    def phase(self, name: str, num_images: int) -> None:
        if name == "evaluating best/":
            self.num_scored.append(num_images)


def test_the_predictions_are_those_of_the_saved_model_which_scores_some_images_again(many: Path, tmp_path: Path):
    listener = Listener()
    run = train(many, recipe=RECIPE, output=tmp_path / "run", callbacks=[listener]).folder
    assert len(listener.num_scored) == 1
    assert listener.num_scored[0] <= 64
    predictions, checkpoint = read_predictions(run.predictions), Checkpoint.read(run.best)
    scored = Predictor.load(checkpoint, device="cpu").score(load_dataset(many).split("val"))
    assert predictions.ids == scored.ids
    assert len(predictions.ids) == 119
    assert np.array_equal(predictions.logit_NC, scored.logit_NC)
    assert predictions.checkpoint_id == checkpoint.id


def test_a_saved_model_that_is_not_the_trained_one_scores_every_image(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The numbers are those of the file, whatever is in it, and whatever the training found."""

    def save_another(folder: Path, *, tensors: dict[str, torch.Tensor], **others: object) -> object:
        return save(folder, tensors={**tensors, "fc.bias": tensors["fc.bias"] + 1}, **others)

    save = checkpointer.save_checkpoint
    monkeypatch.setattr(checkpointer, "save_checkpoint", save_another)
    listener = Listener()
    run = train(many, recipe=replace(RECIPE, epochs=1), output=tmp_path / "run", callbacks=[listener]).folder
    assert listener.num_scored == [120]
    scored = Predictor.load(Checkpoint.read(run.best), device="cpu").score(load_dataset(many).split("val"))
    assert np.array_equal(read_predictions(run.predictions).logit_NC, scored.logit_NC)


@pytest.mark.parametrize(
    "changes", [{}, {"head_start": "probe", "epochs": 0}, {"head_start": "probe", "weights": "random", "epochs": 1}]
)
def test_the_validation_s_features_are_cached_as_the_saved_model_gives_them(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "_MIN_SECONDS", 0.0)
    run = train(many, recipe=replace(RECIPE, **changes), output=tmp_path / "run").folder
    predictor, val_set = Predictor.load(Checkpoint.read(run.best), device="cpu"), load_dataset(many).split("val")
    expected_ND, rows, failures = extract_features(
        predictor.model, val_set, preprocessing=predictor.checkpoint.preprocessing, arithmetic=predictor.arithmetic
    )
    monkeypatch.setattr(feature_cache, "extract_features", None)  # nothing is computed
    feature_ND, found_rows, found_failures = features_of(predictor, val_set)
    assert np.array_equal(feature_ND, expected_ND)
    assert np.array_equal(found_rows, rows)
    assert [row for row, _ in found_failures] == [row for row, _ in failures]
    assert len(failures) == 1


def test_features_that_no_memory_holds_are_not_kept(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "_MIN_SECONDS", 0.0)
    monkeypatch.setattr(validation_features, "_MOST_BYTES", 1000)
    run = train(many, recipe=replace(RECIPE, epochs=1), output=tmp_path / "run").folder
    cache = cache_of(Predictor.load(Checkpoint.read(run.best), device="cpu"), load_dataset(many).split("val").paths)
    assert cache is not None
    assert not cache.is_cached


def test_nearest_images_are_searched_in_the_features_that_training_left(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "_MIN_SECONDS", 0.0)
    run = train(many, recipe=replace(RECIPE, head_start="probe", epochs=0), output=tmp_path / "run").folder
    monkeypatch.setattr(feature_cache, "extract_features", None)  # nothing is computed
    dataset = load_dataset(many)
    index = build_index(Predictor.load(Checkpoint.read(run.best), device="cpu"), dataset)
    assert len(index.ids) == len(dataset) - 1
    assert [dataset.ids[row] for row in index.row_N] == list(index.ids)
    assert [dataset.split_N[row] for row in index.row_N] == list(index.split_N)
