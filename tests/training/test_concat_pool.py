"""A run with concat pooling, and attention on it: fitted by the probe, trained further, resumed to the bit, and exported."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from polytag import FINETUNE, PROBE, train
from polytag.data.load import load_dataset
from polytag.export.export import export_model
from polytag.inference.feature_cache import features_of
from polytag.inference.neighbors import build_index, image_feature
from polytag.inference.out_of_fold import out_of_fold_of_run
from polytag.inference.predictor import Predictor
from polytag.models.checkpoint import Checkpoint
from polytag.runs.folder import RunFolder
from polytag.training.label_policy import label_policy
from polytag.training.loop import Interrupted
from polytag.training.train import resume

pytestmark = pytest.mark.usefixtures("without_pages")

TINY = {"backbone": "test_efficientnet", "weights": "random", "image_size_px": 64, "device": "cpu", "precision": "fp32"}
TUNING = replace(FINETUNE, **TINY, epochs=2, batch_size=16, save_every_minutes=0)


@pytest.fixture(scope="module")
def probed(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(colours, recipe=replace(PROBE, **TINY), output=tmp_path_factory.mktemp("probe") / "run").folder


def test_the_run_says_which_head_was_chosen(probed: RunFolder):
    assert yaml.safe_load(probed.args.read_text())["recipe"]["head"] == "csra"
    assert json.loads((probed.best / "config.json").read_text())["head"] == "csra"
    assert "| head | csra |" in (probed.best / "README.md").read_text()


def test_the_probe_is_fitted_to_all_that_the_head_reads(probed: RunFolder, colours: Path):
    predictor = Predictor.load(Checkpoint.read(probed.best), device="cpu", precision="fp32")
    train_set = load_dataset(colours).split("train")
    feature_ND, rows, _ = features_of(predictor, train_set)
    weight_CD = predictor.model.get_classifier().weight.detach().numpy()
    own, total = predictor.model.num_own, feature_ND.shape[1]
    assert weight_CD.shape == (3, total)
    for part in (weight_CD[:, :own], weight_CD[:, own:]):
        assert np.abs(part * feature_ND.std(0)[slice(0, own) if part.shape[1] == own else slice(own, total)]).max() > 1e-4
    scored = predictor.score(train_set)
    bias_C = predictor.model.get_classifier().bias.detach().numpy()
    added_NC = scored.logit_NC - (feature_ND @ weight_CD.T + bias_C)
    assert added_NC.min() > -1e-3
    assert added_NC.max() > 1e-2, "attention"
    solved = label_policy(train_set, loss="auto").fit(feature_ND, group_N=np.arange(len(train_set)), seed=0)[0]
    seen = np.random.default_rng(PROBE.seed).permutation(len(train_set))[: math.ceil(len(train_set) / 16)]
    np.testing.assert_allclose(bias_C + added_NC[seen].mean(axis=0), solved.bias_C, atol=1e-3)  # which the biases give back
    held_out, _ = out_of_fold_of_run(probed, device="cpu")
    assert held_out.logit_NC.shape == (len(rows), 3)


def test_neighbours_are_compared_by_the_backbones_own_features(probed: RunFolder, colours: Path, tmp_path: Path):
    from PIL import Image

    predictor = Predictor.load(Checkpoint.read(probed.best), device="cpu", precision="fp32")
    val_set = load_dataset(colours).split("val")
    index = build_index(predictor, val_set, folder=tmp_path)
    assert index.feature_ND.shape == (len(val_set), predictor.model.num_own)
    with Image.open(val_set.paths[0]) as image:
        query = image_feature(predictor, image.convert("RGB"))
    np.testing.assert_allclose(query, index.feature_ND[0], atol=2e-3)


@pytest.mark.parametrize("head", ["concat-pool", "csra"])
def test_it_is_trained_further_and_resumed_to_the_bit(colours: Path, tmp_path: Path, head: str):
    tuning = replace(TUNING, head=head)
    whole = train(colours, recipe=tuning, output=tmp_path / "whole").folder
    steps: list[int] = []

    class Stop:
        def progress(self, num_images: int, **numbers: float) -> None:
            if "loss" in numbers:
                steps.append(num_images)
            if len(steps) == 5:  # in the second epoch
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train(colours, recipe=tuning, output=tmp_path / "stopped", callbacks=[Stop()])
    resume(tmp_path / "stopped")
    for name in ("best", "last"):
        resumed, never_stopped = (folder / name / "model.safetensors" for folder in (tmp_path / "stopped", whole.path))
        assert resumed.read_bytes() == never_stopped.read_bytes()


def test_a_vit_with_a_register_is_fitted_cached_and_exported_alike(colours: Path, tmp_path: Path):
    recipe = replace(PROBE, **(TINY | {"backbone": "test_vit2"}), head="concat-pool")
    run = train(colours, recipe=recipe, output=tmp_path / "run").folder
    predictor = Predictor.load(Checkpoint.read(run.best), device="cpu", precision="fp32")
    feature_ND, *_ = features_of(predictor, load_dataset(colours).split("train"))
    assert feature_ND.shape[1] == 2 * predictor.model.num_own == 128
    cached_ND, *_ = features_of(predictor, load_dataset(colours).split("train"))
    assert cached_ND.tobytes() == feature_ND.tobytes()
    exported = export_model(Checkpoint.read(run.best), tmp_path / "small").files["image.onnx"].checked
    assert 0 <= exported.max_logit_difference < 1e-4
    assert exported.decisions_changed == 0


def test_its_export_answers_as_it_does(probed: RunFolder, tmp_path: Path):
    exported = export_model(Checkpoint.read(probed.best), tmp_path / "small")
    assert 0 <= exported.files["image.onnx"].checked.max_logit_difference < 1e-4
    assert exported.files["image.onnx"].checked.decisions_changed == 0
