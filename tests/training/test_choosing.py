"""What `train --minutes` chooses on training images alone: backbones by successive halving, and the head for their features."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from polytag.contracts import Dataset
from polytag.data.groups import group_numbers
from polytag.data.load import load_dataset
from polytag.inference.probe import folds_of
from polytag.models.backbone import build_model
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training import choosing
from polytag.training.callback import SilentCallback
from polytag.training.choosing import Chosen, choose
from polytag.training.context import drawn
from polytag.training.measuring import Scored
from polytag.training.parts import NO_PARTS
from polytag.training.planning import images_within

NAMES = ("test_vit", "test_resnet", "test_efficientnet", "test_convnext")


def small_objects(folder: Path, *, are_labels_true: bool) -> Dataset:
    """Noise, in half of the images with a small red square: the mean of a map hardly sees it, its maximum does."""
    rng = np.random.default_rng(0)
    lines = ["file_name,split,square"]
    for number in range(200):
        pixels = rng.integers(60, 196, (64, 64, 3), dtype=np.uint8)
        has_square = number % 2
        if has_square:
            top, left = rng.integers(0, 56, 2)
            pixels[top : top + 6, left : left + 6] = (255, 0, 0)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        label = has_square if are_labels_true else rng.integers(2)
        lines.append(f"{number}.png,{'train' if number < 160 else 'val'},{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return load_dataset(folder / "labels.csv")


def test_folds_are_drawn_at_random_whatever_the_order_of_the_images(tmp_path: Path):
    """Every second image has the label: folds of every fourth image would have one label each, and no mAP."""
    recipe, dataset = recipe_of(tmp_path, "test_resnet"), small_objects(tmp_path, are_labels_true=True)
    assert all(each.held_out_map > 0 for each in chosen(recipe, dataset, seconds=1.0).candidates)
    train_set = dataset.split("train")
    images = drawn(len(train_set), train_set, seed=recipe.seed)  # as a plan does for its probe
    fold_N = folds_of(group_numbers(images), seed=recipe.seed)
    assert all(0 < images.target_NC[fold_N == fold].mean() < 1 for fold in range(fold_N.max() + 1))


def recipe_of(folder: Path, backbone: str) -> Recipe:
    """With weights from a file, since random ones leave the head as it is."""
    path = folder / "weights.safetensors"
    torch.manual_seed(8)  # of 14 seeds six blur the square in these maps, whatever other tests of the process have drawn
    model = build_model(backbone, num_classes=3, weights="random")
    safetensors.torch.save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return replace(FINETUNE, backbone=backbone, weights=str(path), image_size_px=64, precision="fp32", minutes=1)


def chosen(recipe: Recipe, dataset: Dataset, *, names: tuple[str, ...] = (), seconds: float = 300.0) -> Chosen:
    """In a time that all 160 images fit into, by default."""
    names = names or (recipe.backbone,)
    return choose(recipe, dataset, names=names, parts=NO_PARTS, seconds=seconds, callback=SilentCallback())


@pytest.mark.parametrize("are_labels_true", [True, False], ids=["a small object", "planted noise"])
def test_another_head_than_the_usual_one_has_to_be_surely_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, are_labels_true: bool
):
    """On the maps of an untrained EfficientNet, for which the linear head is made the usual one here."""
    monkeypatch.setattr(choosing, "chosen_head", lambda head, backbone: "linear")
    found = chosen(recipe_of(tmp_path, "test_efficientnet"), small_objects(tmp_path, are_labels_true=are_labels_true))
    held_out = {each.head: each.held_out_map for each in found.candidates}
    assert set(held_out) == {"linear", "concat-pool"}
    assert found.candidates[0].head == found.recipe.head == ("concat-pool" if are_labels_true else "linear")
    if are_labels_true:
        assert held_out["concat-pool"] > held_out["linear"]


def test_a_head_that_is_given_or_that_the_backbone_has_not_is_no_choice(tmp_path: Path):
    dataset = small_objects(tmp_path, are_labels_true=True)
    recipe = recipe_of(tmp_path, "test_resnet")
    assert [each.head for each in chosen(replace(recipe, head="linear"), dataset).candidates] == ["linear"]
    assert [each.head for each in chosen(replace(recipe, head="concat-pool"), dataset).candidates] == ["concat-pool"]
    assert [each.head for each in chosen(replace(recipe, weights="random"), dataset).candidates] == ["linear"]


def test_the_better_half_of_the_backbones_is_tried_on_more_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        choosing,
        "fresh_model",
        lambda own, data, parts, note: build_model(own.backbone, num_classes=1, image_size_px=own.image_size_px, head=own.head),
    )
    monkeypatch.setattr(choosing, "_OVERRUN", math.inf)  # a crowded machine tries all of them too
    dataset = small_objects(tmp_path, are_labels_true=True)
    recipe = replace(FINETUNE, weights="pretrained", image_size_px=160, head="linear", precision="fp32", minutes=1)
    found = chosen(recipe, dataset, names=NAMES, seconds=2.0)
    assert found.recipe.backbone == found.candidates[0].backbone
    num_images = [each.num_images for each in found.candidates]
    assert num_images == sorted(num_images, reverse=True)
    assert num_images[0] == num_images[1] >= num_images[2] == num_images[3]
    finalists, others = found.candidates[:2], found.candidates[2:]
    assert finalists[0].held_out_map >= finalists[1].held_out_map
    assert {each.backbone for each in found.candidates} == set(NAMES)
    assert all(each.held_out_map > 0 for each in others)


@pytest.mark.parametrize(("share", "is_chosen"), [(0.4, False), (0.6, True)])
def test_a_backbone_that_reads_less_than_half_of_the_images_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, is_chosen: bool
):
    monkeypatch.setattr(
        choosing,
        "fresh_model",
        lambda own, data, parts, note: build_model(own.backbone, num_classes=1, image_size_px=own.image_size_px, head=own.head),
    )
    recipe = replace(FINETUNE, weights="pretrained", image_size_px=160, head="linear", precision="fp32", minutes=1)
    dataset, names = small_objects(tmp_path, are_labels_true=True), ("test_resnet", "test_efficientnet")
    best = chosen(recipe, dataset, names=names).recipe.backbone
    found = choose(
        recipe, dataset, names=names, parts=NO_PARTS, seconds=300.0, callback=SilentCallback(),
        reach=lambda own, scored: share * 1000 if own.backbone == best else 1000,
    )  # fmt: skip
    assert (found.recipe.backbone == best) == is_chosen
    assert found.candidates[0].backbone == found.recipe.backbone
    assert {each.backbone for each in found.candidates} == set(names)


def test_images_within_a_time_are_those_of_the_smallest_size():
    scored = Scored(feature_ND=np.zeros((0, 0)), row_N=np.zeros(0), num_drawn=96, decode_seconds=0.002, score_seconds=0.018)
    open_size, fixed = replace(FINETUNE, backbone="resnet18"), replace(FINETUNE, backbone="resnet18", image_size_px=256)
    assert images_within(18.0, fixed, scored) == pytest.approx(1000)
    assert images_within(18.0, open_size, scored) == pytest.approx(18 / (0.002 + 0.016 * (224 / 256) ** 2))
    assert images_within(-1.0, fixed, scored) == 0


def test_backbones_that_the_time_does_not_reach_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """However long the first one takes, there is one; here each takes longer than all may, and after twice that no other begins."""
    time = SimpleNamespace(now=0.0, monotonic=lambda: time.now)

    def slow(self: object, seconds: float) -> object:
        time.now += 2.0
        return more(self, seconds)

    more = choosing._Trial.more
    monkeypatch.setattr(choosing, "time", time)
    monkeypatch.setattr(choosing._Trial, "more", slow)
    monkeypatch.setattr(
        choosing,
        "fresh_model",
        lambda own, data, parts, note: build_model(own.backbone, num_classes=1, image_size_px=own.image_size_px, head=own.head),
    )
    recipe = replace(FINETUNE, weights="pretrained", image_size_px=160, head="linear", precision="fp32", minutes=1)
    notes: list[str] = []
    callback = SilentCallback()
    callback.note = notes.append
    dataset = small_objects(tmp_path, are_labels_true=True)
    found = choose(recipe, dataset, names=NAMES, parts=NO_PARTS, seconds=1.5, callback=callback)
    assert {each.backbone for each in found.candidates} == set(NAMES[:2])
    assert notes == [f"{name} is not tried: the time for trying is over" for name in NAMES[2:]]
