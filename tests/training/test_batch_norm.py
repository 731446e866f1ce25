"""Fine-tuning with the statistics of the pretrained weights, or with those of the batches."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from polytag.models.backbone import build_model
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training.train import train

pytestmark = pytest.mark.usefixtures("without_pages")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    tensors = build_model("test_resnet", num_classes=3, weights="random").state_dict()
    safetensors.torch.save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


def statistics_after(recipe: Recipe, colours: Path, folder: Path) -> dict[str, torch.Tensor]:
    run = train(colours, recipe=recipe, output=folder).folder
    tensors = safetensors.torch.load_file(run.last / "model.safetensors")
    return {name: value for name, value in tensors.items() if "running_" in name}


@pytest.mark.parametrize("batch_norm", ["batch", "frozen"])
def test_frozen_statistics_stay_those_of_the_weights(batch_norm: str, weights: Path, colours: Path, tmp_path: Path):
    recipe = replace(
        FINETUNE, backbone="test_resnet", weights=str(weights), image_size_px=32, epochs=1, batch_size=16, batch_norm=batch_norm
    )
    before = safetensors.torch.load_file(weights)
    after = statistics_after(recipe, colours, tmp_path / "run")
    assert after
    stayed = all(torch.equal(before[name], value) for name, value in after.items())
    assert stayed == (batch_norm == "frozen")


def test_random_weights_have_no_statistics_to_keep(colours: Path, tmp_path: Path):
    recipe = replace(
        FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, epochs=1, batch_size=16, batch_norm="frozen"
    )
    assert any((value != value.round()).any() for value in statistics_after(recipe, colours, tmp_path / "run").values())
