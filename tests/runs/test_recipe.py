"""Recipes are checked when made; `baseline` is the original report's."""

from dataclasses import replace

import pytest

from polytag.errors import UsageError
from polytag.runs.recipe import BASELINE, FINETUNE, PROBE, RECIPES, recipe_named
from polytag.training.preprocessing import preprocessing_of


def test_baseline_is_the_original_report():
    stated = {
        "backbone": "resnet18", "weights": "pretrained", "loss": "bce", "optimizer": "sgd", "head_lr": 0.001, "backbone_lr": 0.001,
        "schedule": "constant", "batch_size": 16, "epochs": 20, "seed": 7, "mean": (0.4589, 0.4355, 0.4032),
        "std": (0.2239, 0.2186, 0.2206), "difficult": "negative", "weight_decay": 0.0, "ema_decay": 0.0, "head_start": "none",
    }  # fmt: skip
    assert {name: getattr(BASELINE, name) for name in stated} == stated
    assert preprocessing_of(BASELINE).mean == (0.4589, 0.4355, 0.4032)


def test_names():
    assert set(RECIPES) == {"finetune", "probe", "baseline"}
    assert recipe_named("probe") is PROBE
    with pytest.raises(UsageError) as error:
        recipe_named("quick")
    assert str(error.value) == "unknown recipe\n  where: --recipe\n  got: 'quick'\n  expected: one of finetune, probe, baseline"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "unknown loss\n  got: 'hinge'\n  expected: one of auto, bce, focal, asl, ll-r"),
        ({"batch_size": 1}, "batch size out of range\n  got: 1\n  expected: 2 to 65536"),
        ({"epochs": -1}, "epochs out of range\n  got: -1\n  expected: 0 to 100000"),
        (
            {"epochs": 0, "head_start": "none"},
            "nothing to train\n  got: 0 epochs and no probe\n  expected: epochs, or a probe as head start",
        ),
        (
            {"ends": ((0, 9), (5, 3))},
            "training cannot end so\n  got: ends: ((0, 9), (5, 3))\n"
            "  expected: pairs (at, end) with 0 <= at <= end, each at from that of the last on",
        ),
        (
            {"ends": ((5, 9), (2, 9))},
            "training cannot end so\n  got: ends: ((5, 9), (2, 9))\n"
            "  expected: pairs (at, end) with 0 <= at <= end, each at from that of the last on",
        ),
        (
            {"ends": ((0, 0),), "weights": "random"},
            "nothing to train\n  got: an end at step 0 and no probe\n  expected: a step, or a probe as head start",
        ),
        (
            {"name": "/../../x"},
            "the recipe's name cannot be used\n  got: '/../../x'\n  expected: 1 to 100 printable characters without / and \\",
        ),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError) as error:
        replace(FINETUNE, **change)
    assert str(error.value) == message
