"""Images on the device give the views of the plain way: validation to the bit, training to a grey level or two."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polytag.contracts import Preprocessing
from polytag.data.images.augment import AUGMENTATIONS, _resize, views
from polytag.data.images.read import read_image
from polytag.inference.predictor import from_files
from polytag.models.device import Arithmetic
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training.device_augment import resampling
from polytag.training.image_loader import FileImageLoader
from polytag.training.input_pipeline import InputPipeline
from polytag.training.preprocessing import preprocessing_of
from polytag.training.resident import Canvas, ResidentImageLoader, choose_canvas, resident_loader, resident_views, views_bytes

CPU = Arithmetic(device="cpu", precision="fp32")
RECIPE = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=64)
SIZES = [(100, 75), (75, 100), (128, 128), (180, 120), (64, 64), (90, 200)]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Images with shapes and some noise: neither flat nor all noise, as photographs are."""
    rng = np.random.default_rng(0)
    made = []
    for row, (width, height) in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 255, (height // 12, width // 12, 3), np.uint8)).resize((width, height))
        pixels = np.asarray(coarse) + rng.normal(0, 8, (height, width, 3))
        path = tmp_path / f"{row}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        made.append(path)
    return made


def pipeline_of(recipe: Recipe) -> InputPipeline:
    return InputPipeline(preprocessing=preprocessing_of(recipe), augment=recipe.augment, seed=recipe.seed)


def plain_loader(paths: list[Path], recipe: Recipe) -> FileImageLoader:
    return FileImageLoader(read=reader(paths, recipe), pipeline=pipeline_of(recipe), device="cpu")


def resident(paths: list[Path], recipe: Recipe, **size: int) -> ResidentImageLoader:
    canvas = Canvas(**{"num_shrunk": 0, **size})
    return resident_loader(reader(paths, recipe), pipeline_of(recipe), num_images=6, canvas=canvas, arithmetic=CPU)


def reader(paths: list[Path], recipe: Recipe):
    return lambda row: pipeline_of(recipe).stored(read_image(paths[row]))


def levels_of(loader, rows: list[int], *, recipe: Recipe, epoch: int = 1) -> np.ndarray:
    """Views in grey levels, n x S x S x 3, before normalisation."""
    (batch,) = loader.batches([np.array(rows)], epoch=epoch)
    assert batch.rows.tolist() == rows
    preprocessing = preprocessing_of(recipe)
    mean, std = torch.tensor(preprocessing.mean) * 255, torch.tensor(preprocessing.std) * 255
    return (loader.pixels(*batch.inputs).permute(0, 2, 3, 1) * std + mean).round().numpy()


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_training_views_are_those_of_the_plain_way(paths: list[Path], augment: str, interpolation: str, fit: str):
    """Of whole images: nine values of ten the same, 95 of 100 within one grey level, none more than three apart."""
    recipe = replace(RECIPE, augment=augment, interpolation=interpolation, fit=fit)
    canvas = choose_canvas(paths, pipeline_of(recipe), budget_bytes=1e9)
    assert canvas is not None
    loader = resident_loader(reader(paths, recipe), pipeline_of(recipe), num_images=6, canvas=canvas, arithmetic=CPU)
    for epoch in range(1, 9):
        ours = levels_of(loader, [3, 0, 5, 1, 2, 4], recipe=recipe, epoch=epoch)
        plain = levels_of(plain_loader(paths, recipe), [3, 0, 5, 1, 2, 4], recipe=recipe, epoch=epoch)
        apart = np.abs(ours - plain)
        assert apart.max() <= (0 if augment == "none" else 3), (epoch, apart.reshape(6, -1).max(1))
        assert (apart <= 1).mean() > 0.95
        assert apart.mean() < 0.15


def test_shrunken_images_give_nearly_the_same_views(paths: list[Path]):
    recipe = replace(RECIPE, augment="standard")
    shrunk = resident_loader(
        reader(paths, recipe),
        pipeline_of(recipe),
        num_images=6,
        canvas=Canvas(height_px=96, width_px=96, num_shrunk=5),
        arithmetic=CPU,
    )
    ours, plain = (levels_of(loader, list(range(6)), recipe=recipe) for loader in (shrunk, plain_loader(paths, recipe)))
    assert np.abs(ours - plain).mean() < 4
    assert np.abs(ours - plain)[4].max() <= 3  # 64 x 64 lies whole


def test_the_matrix_of_a_resize_is_pillows(paths: list[Path]):
    grey = np.random.default_rng(0).integers(0, 255, (1, 50, 3), np.uint8)
    for box in ((0.0, 50.0), (3.7, 41.2), (10.0, 12.5)):
        for name in ("bilinear", "bicubic"):
            preprocessing = preprocessing_of(replace(RECIPE, interpolation=name))
            theirs = _resize(Image.fromarray(grey), (16, 1), preprocessing, box=(box[0], 0, box[1], 1))
            matrix = resampling(
                torch.tensor([box[0]]), torch.tensor([box[1]]), torch.tensor([50.0]), size_px=16, length=60, filter_name=name
            )[0]
            assert torch.allclose(matrix.sum(1), torch.ones(16))
            ours = (matrix[:, :50] @ torch.from_numpy(grey[0]).float() + 0.5).floor().clamp(0, 255)
            assert np.abs(ours.numpy() - np.asarray(theirs)[0]).max() <= 1
            assert not matrix[:, 50:].any()


def _views(paths: list[Path], preprocessing: Preprocessing, row: int) -> np.ndarray:
    return views(read_image(paths[row]), preprocessing)


@pytest.mark.parametrize("crops", ["center", "ten"])
def test_scoring_views_are_the_same_bits(paths: list[Path], crops: str):
    paths[2].write_bytes(b"broken")
    preprocessing = preprocessing_of(replace(RECIPE, crops=crops))
    resident = resident_views(lambda row: views(read_image(paths[row]), preprocessing), preprocessing, num_images=6, arithmetic=CPU)
    for ours, plain in zip(resident(range(6), 4), from_files(paths, preprocessing)(range(6), 4), strict=True):
        assert ours.rows.tolist() == plain.rows.tolist()
        assert (np.asarray(ours.pixels_NVHWC) == plain.pixels_NVHWC).all()
        assert [(row, str(error)) for row, error in ours.failures] == [(row, str(error)) for row, error in plain.failures]
    assert views_bytes(6, preprocessing) == 6 * (10 if crops == "ten" else 1) * 64 * 64 * 3


def test_images_that_cannot_be_read_are_left_out_of_every_batch(paths: list[Path]):
    paths[1].write_bytes(b"broken")
    loader = resident_loader(
        reader(paths, RECIPE),
        pipeline_of(RECIPE),
        num_images=6,
        canvas=Canvas(height_px=200, width_px=200, num_shrunk=0),
        arithmetic=CPU,
    )
    first, second = loader.batches([np.array([0, 1, 2]), np.array([1])], epoch=1)
    assert (first.rows.tolist(), second.rows.tolist()) == ([0, 2], [])
    assert [row for row, _ in first.failures + second.failures] == [1, 1]
    assert loader.pixels(*second.inputs).shape == (0, 3, 64, 64)


def test_the_canvas_is_no_larger_than_images_need_and_memory_has(paths: list[Path]):
    whole = choose_canvas(paths, pipeline_of(RECIPE), budget_bytes=1e9)
    assert whole == Canvas(height_px=200, width_px=180, num_shrunk=0)
    assert choose_canvas(paths, pipeline_of(RECIPE), budget_bytes=whole.num_bytes(6) - 1) == Canvas(
        height_px=192, width_px=180, num_shrunk=1
    )
    assert choose_canvas(paths, pipeline_of(RECIPE), budget_bytes=6 * 3 * 64 * 64) == Canvas(
        height_px=64, width_px=64, num_shrunk=5
    )
    assert choose_canvas(paths, pipeline_of(RECIPE), budget_bytes=6 * 3 * 64 * 64 - 1) is None
    assert choose_canvas(paths, pipeline_of(replace(RECIPE, augment="none")), budget_bytes=1e9) == Canvas(
        height_px=64, width_px=64, num_shrunk=0
    )
