"""`polytag bench` measures, prints and writes: every number is there, positive, and consistent with the others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polytag.cli.main import app
from polytag.models.exported import Exported


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    path = tmp_path_factory.mktemp("bench") / "speed.json"
    options = ["--backbone", "test_resnet", "--image-size", "32", "--seconds", "0.05", "--device", "cpu", "--precision", "fp32"]
    done = CliRunner().invoke(app, ["bench", *options, "--json", str(path)])
    assert done.exit_code == 0, done.output
    return done.output, json.loads(path.read_text())


def test_the_numbers_are_those_of_the_machine(measured):
    _, speed = measured
    assert speed["device"] == "cpu"
    assert (speed["precision"], speed["backbone"], speed["image_size_px"]) == ("fp32", "test_resnet", 32)
    assert list(speed["peaks"]) == ["fp32"]
    assert all(value > 0.1 for value in speed["peaks"]["fp32"].values())
    assert set(speed["rates"]) == {"decode_core", "decode", "forward", "predict", "step"}
    for rate in speed["rates"].values():
        assert rate["images_per_second"] > 0
    # No network is faster than the arithmetic, and files cost something (twice: the machine is shared).
    assert speed["rates"]["predict"]["images_per_second"] < 2 * speed["rates"]["forward"]["images_per_second"]
    assert 0 < speed["rates"]["forward"]["peak_share"] < 2
    assert 2 < speed["gflop_step"] / speed["gflop_forward"] < 3.01
    assert 0 < speed["input_share"] < 1


def test_what_is_printed(measured):
    output, speed = measured
    for text in (
        "matrix product",
        "3 x 3 convolution",
        "decode and augment, one core",
        "training step",
        "test_resnet at 32 px",
    ):
        assert text in output
    assert f"{speed['rates']['step']['images_per_second']:.1f}" in output
    assert f"{speed['input_share']:.0%} input" in output


def test_a_model_is_measured(small_export: Exported, tmp_path: Path):
    """An export, by its engine; what is printed is what is written."""
    path = tmp_path / "speed.json"
    done = CliRunner().invoke(
        app, ["bench", str(small_export.folder), "--engine", "onnx", "--seconds", "0.05", "--json", str(path)]
    )
    assert done.exit_code == 0, done.output
    speed = json.loads(path.read_text())
    assert (speed["engine"], speed["precision"]) == ("onnx", "fp32")
    assert set(speed["milliseconds"]) == {"1", "16"}
    assert min(speed["load_seconds"], *speed["milliseconds"].values(), speed["predict_images_per_second"]) > 0
    # Files cost something, and no more than twice as much is done by two cores (twice again: the machine is shared).
    assert speed["predict_images_per_second"] < 2 * speed["scored_images_per_second"]
    assert speed["scored_images_per_second"] < 2 * speed["num_cores"] * 1000 / min(speed["milliseconds"].values())
    assert f"{speed['predict_images_per_second']:.1f} images/s" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL", "--backbone", "resnet18"], "--backbone does not go with a model"),
        (["MODEL", "--engine", "torch"], "does not hold this engine"),
        (["nowhere"], "nowhere"),
        (["--engine", "onnx"], "a backbone is measured in PyTorch"),
    ],
)
def test_what_does_not_go_together(small_export: Exported, options: list[str], message: str):
    done = CliRunner().invoke(app, ["bench", *(str(small_export.folder) if each == "MODEL" else each for each in options)])
    assert message in str(done.exception)


def test_a_backbone_that_is_none():
    done = CliRunner().invoke(app, ["bench", "--backbone", "resnet_none"])
    assert "unknown backbone" in str(done.exception)


def test_operations_are_counted(tmp_path: Path):
    """A convolution by hand: 2 x 3 x 3 x 3 inputs, 16 outputs, 32 x 32 places; and the classifier, 2 x 16 x 5."""
    import torch
    from torch import nn

    from polytag.bench.peak import flop_of_image

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.Linear(16, 5)

        def get_classifier(self):
            return self.fc

        def forward_features(self, pixels):
            return self.body(pixels)

        def forward_head(self, maps, pre_logits=False):
            pooled = maps.mean(dim=(2, 3))
            return pooled if pre_logits else self.fc(pooled)

    model = Tiny()
    convolution, classifier = 2 * 27 * 16 * 32 * 32, 2 * 16 * 5
    forward, step = flop_of_image(model, 32)
    assert forward == convolution + classifier
    assert step == 2 * convolution + 3 * classifier  # images need no gradient
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
