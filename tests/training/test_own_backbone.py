"""A backbone of the user's own: trained, interrupted, read back, exported; and never from what a file names."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from polytag import PROBE, Checkpoint, Predictor, export_model, predict, push_model
from polytag.cli.main import app
from polytag.data.load import load_dataset
from polytag.errors import CheckpointError, RunError, UsageError
from polytag.models.heatmap import class_activation
from polytag.models.own_backbone import create_own_network
from polytag.predictions.read import read_predictions
from polytag.runs.args import read_run_args
from polytag.runs.recipe import Recipe
from polytag.training.train import resume, train

RECIPE = Recipe(
    name="finetune", weights="random", image_size_px=32, epochs=2, batch_size=16, head_lr=3e-3, head_start="none", device="cpu",
    precision="fp32", save_every_minutes=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def without_pages(monkeypatch: pytest.MonkeyPatch):
    """As on a machine that only trains: the pages take longer than the training."""
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)


class Small(nn.Module):
    """A feature map: N x 16 x h x w."""

    def __init__(self, width: int = 16, scale: float = 1.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.scale = scale

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels) * self.scale


class Pooled(Small):
    """Features: N x 16."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels).amax(dim=(2, 3))


@pytest.fixture(scope="module")
def trained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "polytag.report.grids", None)
        return train(colours, recipe=RECIPE, backbone=Small, output=tmp_path_factory.mktemp("own") / "run")


def test_an_interrupted_run_goes_on_to_the_same_bits(trained: Any, colours: Path, tmp_path: Path, stopped_at):
    stopped_at(5, train, colours, recipe=RECIPE, backbone=Small, output=tmp_path / "run")
    for wrong in (None, Pooled, partial(Small, scale=2.0)):
        with pytest.raises(RunError, match="backbone"):
            resume(tmp_path / "run", backbone=wrong)
    again = resume(tmp_path / "run", backbone=Small)
    for name in ("best/model.safetensors", "last/model.safetensors", "predictions-val.parquet"):
        assert (again.folder.path / name).read_bytes() == (trained.folder.path / name).read_bytes()


def test_a_prediction_needs_the_backbone_again_and_what_is_on_the_disk_does_not(trained: Any, colours: Path):
    record = read_run_args(trained.folder).parts["backbone"]
    assert (record.name, read_run_args(trained.folder).recipe.backbone) == (f"{Small.__module__}.Small", "own")
    assert trained.checkpoint.own_backbone == record
    assert resume(trained.folder.path).metrics.mean_ap == trained.metrics.mean_ap
    val_set = load_dataset(colours).split("val")
    results = list(predict(trained.folder.path, val_set, backbone=Small, device="cpu", precision="fp32"))
    written = read_predictions(trained.folder.predictions)
    assert np.abs(np.stack([each.logit_C for each in results]) - written.logit_NC).max() < 1e-4
    scored = Predictor.load(Checkpoint.read(trained.folder.path, backbone=Small), device="cpu", precision="fp32").score(val_set)
    assert scored.logit_NC.tobytes() == written.logit_NC.tobytes()

    with pytest.raises(CheckpointError) as error:
        next(iter(predict(trained.folder.path, val_set)))
    assert str(error.value) == (
        f"the backbone of this model is code of its user's own, which is not in its folder\n  where: {trained.folder.best}\n"
        f"  got: no backbone\n  expected: {record}\n"
        "  next: give it: Checkpoint.read(folder, backbone=...), or --parts FILE.py of predict and export; an export works "
        "without it"
    )
    with pytest.raises(CheckpointError) as error:
        Checkpoint.read(trained.folder.path, backbone=Pooled)
    assert error.value.what == "the model has another backbone"
    assert error.value.got.startswith(f"{Pooled.__module__}.Pooled (")
    with pytest.raises(UsageError, match="a model with a backbone of its user's own cannot be pushed"):
        push_model(trained.folder.path, "hf://ann/colours")


def test_a_module_is_known_by_its_kind_and_arguments_and_not_by_its_weights(trained: Any, checkpoint: Checkpoint):
    """The class that made it and an object of it are not the same part: an object has values of its own."""
    given = [Small(), Small(), Small(width=8), Small(scale=2.0), Pooled()]
    records = [Checkpointed.of(each) for each in given]
    assert records[0] == records[1]
    assert len(set(records)) == 4
    with pytest.raises(CheckpointError, match="the model has a backbone of timm"):
        Checkpoint.read(checkpoint.folder, backbone=Small)


class Checkpointed:
    @staticmethod
    def of(part: Any) -> str:
        from polytag.own_parts import record_of

        return record_of(part, with_weights=False).digest


def test_it_is_exported_from_the_module(trained: Any, tmp_path: Path, colours: Path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    val_set = load_dataset(colours).split("val")
    made = export_model(Checkpoint.read(trained.folder.path, backbone=Small), tmp_path / "out", check=val_set)
    results = list(predict(made, val_set))
    assert np.abs(np.stack([each.logit_C for each in results]) - read_predictions(trained.folder.predictions).logit_NC).max() < 1e-3


def test_a_heat_map_of_its_feature_map():
    torch.manual_seed(0)
    network = create_own_network(Small, num_classes=2, image_size_px=32).eval()
    heat_Khw = class_activation(network, torch.rand(1, 3, 32, 32), [0, 1])
    assert (heat_Khw.shape, float(heat_Khw.max())) == ((2, 8, 8), 1.0)


def test_a_model_of_timm_as_a_module_gives_what_its_name_gives(colours: Path, tmp_path: Path):
    """The probe on the same weights; and a file of weights for the module, or of a checkpoint of it."""
    torch.manual_seed(1)
    module = timm.create_model("test_resnet", num_classes=0)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    probe = replace(PROBE, image_size_px=32, device="cpu", precision="fp32", mean=(0.5,) * 3, std=(0.25,) * 3)
    own = train(colours, recipe=probe, backbone=module, output=tmp_path / "own")
    named = train(
        colours,
        recipe=replace(probe, backbone="test_resnet", weights=str(tmp_path / "weights.safetensors")),
        output=tmp_path / "named",
    )
    make = partial(timm.create_model, "test_resnet", num_classes=0)
    for weights in ("weights.safetensors", "own/best/model.safetensors"):
        recipe = replace(probe, weights=str(tmp_path / weights))
        again = train(colours, recipe=recipe, backbone=make, output=tmp_path / "again")
        assert again.checkpoint.id == own.checkpoint.id
    logits = [read_predictions(run.folder.predictions).logit_NC for run in (own, named)]
    assert np.abs(logits[0] - logits[1]).max() < 1e-4
    with pytest.raises(CheckpointError, match="the weights are not this backbone's"):
        train(colours, recipe=replace(RECIPE, weights=str(tmp_path / "weights.safetensors")), backbone=Small, output=tmp_path / "x")


def frozen() -> nn.Module:
    return Small().requires_grad_(False)


def test_a_frozen_backbone_stays_as_it_is(colours: Path, tmp_path: Path):
    run = train(colours, recipe=replace(RECIPE, epochs=1, ema_decay=0), backbone=frozen, output=tmp_path / "run")
    torch.manual_seed(RECIPE.seed)
    before, after = frozen(), run.checkpoint.load_model()
    assert torch.equal(before.layers[0].weight, after.backbone.layers[0].weight)
    assert torch.equal(before.layers[4].weight, after.backbone.layers[4].weight)


class Answers(nn.Module):
    """Gives whatever it is told to."""

    def __init__(self, answer: Callable[[Tensor], Any]):
        super().__init__()
        self.answer, self.layer = answer, nn.Linear(3, 4)

    def forward(self, pixels: Tensor) -> Any:
        return self.answer(self.layer(pixels.mean(dim=(2, 3))))


def test_wrong_ones_are_named_with_what_they_gave(colours: Path, tmp_path: Path):
    name = f"{Answers.__module__}.Answers"
    shapes = "2 x D, or a feature map of shape 2 x D x h x w"
    cases: list[tuple[Any, str]] = [
        (Answers(lambda feature: feature[:, None]),
         f"the backbone {name} gives no features\n  where: 2 images of 32 px\n  got: float32 of shape 2 x 1 x 4\n"
         f"  expected: features of shape {shapes}"),
        (Answers(lambda feature: {"last_hidden_state": feature}),
         f"the backbone {name} gives no features\n  where: 2 images of 32 px\n  got: dict\n  expected: features of shape {shapes}"),
        (Answers(lambda feature: feature.half()),
         f"the backbone {name} gives no features\n  where: 2 images of 32 px\n  got: float16 of shape 2 x 4\n"
         f"  expected: features of shape {shapes}, as float32"),
        (Answers(lambda feature: feature[:1]),
         f"the backbone {name} gives no features\n  where: 2 images of 32 px\n  got: float32 of shape 1 x 4\n"
         f"  expected: features of shape {shapes}"),
        (Answers(lambda feature: feature * float("nan")),
         f"the backbone {name} gives features that are not finite\n  where: images of zeros\n  expected: finite numbers"),
        (Answers(lambda feature: feature.detach()),
         f"no gradient reaches the parameters of the backbone {name}\n  got: features without a gradient\n"
         "  expected: a forward without no_grad and detach; or parameters with requires_grad=False, which stay as they are"),
        (lambda: 3, f"the backbone {__name__}.NAME makes no module\n  got: int\n"
                    "  expected: a torch.nn.Module from a call without arguments"),
        (Answers, f"the backbone {name} cannot be made\n  got: TypeError: Answers.__init__() missing 1 required positional "
                  "argument: 'answer'\n  expected: a module that can be copied, or a function without arguments that returns one"),
    ]  # fmt: skip
    for part, message in cases:
        with pytest.raises(UsageError) as error:
            train(colours, recipe=RECIPE, backbone=part, output=tmp_path / "run")
        lines = [line for line in str(error.value).splitlines() if "own_backbone.py:" not in line]
        expected = message.replace(f"{__name__}.NAME", f"{Small.__module__}.{getattr(part, '__qualname__', '')}")
        assert lines == expected.splitlines()
    with pytest.raises(UsageError) as error:
        train(colours, recipe=RECIPE, backbone=Answers(lambda feature: 1 / 0), output=tmp_path / "run")
    assert (error.value.what, error.value.got) == (
        f"the backbone {name} failed on images of 32 px",
        "ZeroDivisionError: division by zero",
    )
    assert error.value.where.startswith(f"{__file__}:")
    with pytest.raises(UsageError, match="takes no arguments of timm"):
        train(colours, recipe=replace(RECIPE, backbone_args={"drop_rate": 0.1}), backbone=Small, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_names_a_backbone_and_never_imports_it(trained: Any, tmp_path: Path):
    """A stranger's config.json may say anything: its name is shown, and neither imported nor called."""
    import shutil

    folder = tmp_path / "best"
    shutil.copytree(trained.folder.best, folder)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")
    values = json.loads((folder / "config.json").read_text())
    for name in ("evil.Net", "os.system", str(tmp_path / "evil.py")):
        values["own_backbone"]["name"] = name
        (folder / "config.json").write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match="the backbone of this model is code"):
            Checkpoint.read(folder).load_model()
    assert not (tmp_path / "touched").exists()
    for changes in (
        {"own_backbone": {"name": "x"}},
        {"own_backbone": None},
        {"backbone": "test_resnet"},
        {"own_backbone": {"name": "a\nb", "digest": "0" * 64}},
        {"own_backbone": {"name": "a", "digest": "0"}},
    ):
        (folder / "config.json").write_text(json.dumps({**values, **changes}))
        with pytest.raises(CheckpointError, match=r"config.json is not that of a checkpoint"):
            Checkpoint.read(folder)


def test_on_the_command_line(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "my_net.py"
    path.write_text(
        "from torch import nn\nclass backbone(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layer = nn.Conv2d(3, 8, 5, stride=4)\n"
        "    def forward(self, pixels):\n        return self.layer(pixels).relu()\n"
    )

    def typed(*arguments: str) -> Any:
        monkeypatch.delitem(sys.modules, "my_net", raising=False)
        return CliRunner().invoke(app, arguments)

    run, quick = str(tmp_path / "run"), ("--weights", "random", "--image-size", "32", "--epochs", "1", "--device", "cpu")
    assert typed("train", str(colours), *quick, "--parts", str(path), "--output", run).exit_code == 0
    image = str(load_dataset(colours).paths[0])
    done = typed("predict", run, image, "--parts", str(path))
    assert (done.exit_code, "red" in done.output) == (0, True)
    assert "is code of its user's own" in str(typed("predict", run, image).exception)
    assert "--parts and a folder" in str(
        typed("predict", run, image, "--parts", str(path), "--output", f"{tmp_path}/out/").exception
    )
    path.write_text("def augment(image): return image\n")
    assert "the file defines no backbone" in str(typed("predict", run, image, "--parts", str(path)).exception)


def test_a_recipe_with_a_backbone_of_its_own_asks_for_it(colours: Path, tmp_path: Path):
    """As the plan of a run with one is."""
    with pytest.raises(UsageError) as error:
        train(colours, recipe=replace(RECIPE, backbone="own"), output=tmp_path / "run")
    assert str(error.value) == (
        "the recipe has a backbone of its own\n  where: backbone\n  got: none\n"
        "  expected: the module, or a function that makes one\n"
        "  next: give it: `--parts FILE.py`, or in Python train(..., backbone=...)"
    )
