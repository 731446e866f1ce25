"""`polytag demo` exists and its recipe can be trained; `make demo`, which CI runs, trains it for real."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from polytag.cli.main import app
from polytag.data.load import load_dataset
from polytag.demo.recipe import DEMO
from polytag.demo.scenes import CLASSES, write_scenes
from polytag.inference.predictor import score_dataset
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.models.heads import linear_head
from polytag.runs.recipe import RECIPES
from polytag.training.learner import make_optimizer
from polytag.training.preprocessing import preprocessing_of


def test_the_verb_says_what_it_does():
    output = " ".join(CliRunner().invoke(app, ["demo", "--help"]).stdout.split())
    assert "Generate scenes of handwriting, train a small network from random weights, judge it, and write the report." in output
    assert "--output" in output


def test_its_recipe_needs_no_download_and_is_not_offered_for_other_data():
    assert DEMO.weights == "random"
    assert DEMO.epochs > 0
    assert not DEMO.has_head_start  # features of random weights are worth no probe
    assert DEMO.name not in RECIPES


def test_its_network_reads_its_images_and_can_learn(tmp_path: Path):
    dataset = load_dataset(write_scenes(tmp_path / "scenes", num_train=2, num_val=2))
    torch.manual_seed(DEMO.seed)
    model = build_model(DEMO.backbone, num_classes=len(CLASSES), backbone_args=DEMO.backbone_args, weights=DEMO.weights)
    assert linear_head(model).out_features == len(CLASSES)
    assert {group["part"] for group in make_optimizer(model, DEMO).param_groups} == {"head", "backbone"}
    arithmetic = Arithmetic(device="cpu", precision="fp32")
    predictions = score_dataset(model.eval(), dataset, preprocessing=preprocessing_of(DEMO), arithmetic=arithmetic)
    assert predictions.logit_NC.shape == (4, len(CLASSES))
    assert set(predictions.label_set) == set(CLASSES)
