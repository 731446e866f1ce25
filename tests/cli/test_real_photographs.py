"""The first answer on real photographs: frozen features and a logistic regression. Its twin on generated images is quick."""

import json
from pathlib import Path

import pytest

from polytag.models.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("without_pages")


@pytest.mark.slow(25)
def test_the_probe_on_voc_mini_reaches_what_its_features_are_worth(shared: Path, tmp_path: Path, polytag):
    polytag(
        "train", shared / "data" / "voc-mini", "--recipe", "probe", "--output", tmp_path / "run",
        "--backbone", "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--device", "cpu",
        "--weights", shared / "weights" / "mobilenetv2_100.keras_in1k.imagenet-norm.fp16.safetensors",
    )  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["num_images"], metrics["mAP"]["num_classes"]) == (874, 20)
    assert metrics["mAP"]["value"] > 0.66
    assert metrics["mAP"]["low"] < metrics["mAP"]["value"] < metrics["mAP"]["high"]
    assert sum(row["num_unknown"] for row in metrics["per_class"].values()) > 0  # VOC's difficult objects
    assert Checkpoint.read(tmp_path / "run").backbone_args == {"pad_type": "same"}


def test_the_probe_on_colours_tells_them_apart(colours: Path, tmp_path: Path, quick, polytag):
    polytag("train", colours, *quick, "--recipe", "probe", "--output", tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["num_images"], metrics["mAP"]["num_classes"]) == (24, 3)
    assert metrics["mAP"]["value"] > 0.9
