"""Learning rates: who gets which, and how they rise and fall."""

import math
from dataclasses import replace

import pytest
import torch

from polytag.models.backbone import build_model
from polytag.runs.recipe import BASELINE, FINETUNE
from polytag.training.learner import class_weights, make_optimizer, set_learning_rates


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return build_model("test_resnet", num_classes=3)


def test_every_parameter_is_in_one_group_and_only_weights_decay(model):
    groups = make_optimizer(model, replace(FINETUNE, weights="x.safetensors")).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        assert group["weight_decay"] == (FINETUNE.weight_decay if group["params"][0].ndim > 1 else 0)
        assert group["lr"] == (2e-4 if group["part"] == "head" else 1e-4)
    head = [parameter for group in groups if group["part"] == "head" for parameter in group["params"]]
    assert {id(parameter) for parameter in head} == {id(parameter) for parameter in model.get_classifier().parameters()}


def test_a_random_backbone_learns_at_the_heads_rate(model):
    groups = make_optimizer(model, replace(FINETUNE, weights="random")).param_groups
    assert {group["lr"] for group in groups} == {2e-3}


def test_rates_that_are_given_are_taken(model):
    given = replace(FINETUNE, weights="x.safetensors", head_lr=0.3, backbone_lr=0.0)
    assert {(group["part"], group["lr"]) for group in make_optimizer(model, given).param_groups} == {
        ("head", 0.3),
        ("backbone", 0.0),
    }
    assert replace(given, weights="random").peak_rates == (0.3, 0.3)


def test_warm_up_then_cosine_to_zero(model):
    recipe = replace(FINETUNE, epochs=10, warmup_epochs=1, weights="x.safetensors")
    optimizer = make_optimizer(model, recipe)
    rates = []
    for step in range(101):
        set_learning_rates(optimizer, recipe, progress=step / 10)
        rates.append(optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["peak_lr"])
    assert rates[0] < 0.02
    assert max(rates) == pytest.approx(0.5 * (1 + math.cos(math.pi / 10)), abs=0.01)
    assert (torch.tensor(rates[:11]).diff() > 0).all()
    assert (torch.tensor(rates[11:]).diff() < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_baseline_is_constant_sgd_with_momentum(model):
    optimizer = make_optimizer(model, BASELINE)
    set_learning_rates(optimizer, BASELINE, progress=13.7)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {(group["lr"], group["momentum"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.001, 0.9, 0.0)}


def test_balanced_class_weights_count_known_labels_only():
    import numpy as np

    target_NC = np.array([[1, 0, -1], [0, 0, -1], [0, 0, -1], [-1, 1, 1]])
    weight_C = class_weights(target_NC, kind="balanced")
    assert weight_C is not None
    assert weight_C.tolist() == [2.0, 3.0, 1.0]
    assert class_weights(target_NC, kind="none") is None
