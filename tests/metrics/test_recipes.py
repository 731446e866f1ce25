"""Two recipes by several runs of each: exact tests by brute force, known components of variance, laws, and level by simulation."""

import json
import math
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.metrics import recipes
from polytag.metrics.groups import groups_of
from polytag.metrics.recipes import RecipeComparison, compare_recipes

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def runs_of(num_runs: int, *, seed: int, shift: float = 1.5, num_images: int = 120, spread: float = 0.1) -> list[Predictions]:
    """Runs on the same images and labels, whatever the seed."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((num_images, 3)) < 0.3).astype(np.int8)
    hard_NC, rng = rng.normal(size=target_NC.shape), np.random.default_rng([1, seed])
    return [
        Predictions(
            ids=tuple(map(str, range(num_images))),
            logit_NC=hard_NC + rng.normal(size=target_NC.shape) + (shift + spread * rng.normal()) * target_NC,
            target_NC=target_NC,
            label_set=LabelSet(names=("a", "b", "c")),
        )
        for _ in range(num_runs)
    ]


def noise_of(image_B: np.ndarray) -> recipes._Noise:
    return recipes._Noise(se_seeds=0.0, se_images=0.0, sd_of_images=0.0, distance=0.0, image_B=image_B)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=5, max_size=6))
def test_without_noise_of_the_images_p_is_that_of_every_labeling(numbers: list[int]):
    mean_ap_R = np.array(numbers) / 20
    is_second_R = np.arange(len(numbers)) >= 3
    value = mean_ap_R[is_second_R].mean() - mean_ap_R[~is_second_R].mean()
    every = []
    for chosen in combinations(range(len(numbers)), len(numbers) - 3):
        others = [row for row in range(len(numbers)) if row not in chosen]
        every.append(abs(np.mean(mean_ap_R[list(chosen)]) - np.mean(mean_ap_R[others])) >= abs(value) - 1e-12)
    label_LR = recipes._labelings(is_second_R, num_permutations=50, seed=0)
    assert recipes._p(float(value), mean_ap_R, label_LR, noise_of(np.zeros(9)), seed=0) == pytest.approx(np.mean(every))
    noisy = recipes._p(float(value), mean_ap_R, label_LR, noise_of(np.linspace(-0.1, 0.1, 9)), seed=0)
    assert noisy >= np.mean(every) - 1e-12  # images only add


@pytest.mark.parametrize(("num_first", "num_second", "least"), [(2, 2, 2 / 6), (3, 3, 2 / 20), (4, 4, 2 / 70), (2, 4, 1 / 15)])
def test_runs_that_are_all_better_reach_the_smallest_p_and_none_is_smaller(num_first: int, num_second: int, least: float):
    worse, better = runs_of(num_first, seed=1, shift=0.2), runs_of(num_second, seed=2, shift=9)
    found = compare_recipes(worse, better, num_replicates=50)
    assert found.least_p == pytest.approx(least)
    assert found.p == pytest.approx(least, abs=0.02)
    assert found.p >= found.least_p - 1e-12
    assert found.is_significant == (found.p <= 0.05)
    assert found.low > 0.2
    assert "four runs of each allow 0.029" in str(found) or found.least_p <= 0.05


def test_random_labelings_contain_the_observed_one():
    is_second_R = np.arange(16) >= 8
    label_LR = recipes._labelings(is_second_R, num_permutations=99, seed=0)
    assert label_LR.shape == (100, 16)
    assert (label_LR.sum(axis=1) == 8).all()
    assert (label_LR[0] == is_second_R).all()
    mean_ap_R = is_second_R + np.arange(16) / 100
    value = float(mean_ap_R[8:].mean() - mean_ap_R[:8].mean())
    assert recipes._p(value, mean_ap_R, label_LR, noise_of(np.zeros(3)), seed=0) == 1 / 100


def test_each_source_of_noise_counts_once():
    """Known variances: of images for a recipe, of images for a run, and of the runs themselves."""
    rng = np.random.default_rng(0)
    num_runs, num_replicates = 400, 2000
    is_second_R = np.arange(num_runs) >= 200
    of_recipe_B, of_run_RB = rng.normal(0, 0.03, (2, num_replicates)), rng.normal(0, 0.2, (num_runs, num_replicates))
    replicate_RB = 0.5 + of_recipe_B[is_second_R.astype(int)] + of_run_RB
    noise = recipes._noise(rng.normal(0.5, 0.4, num_runs), replicate_RB[:, :, None], is_second_R)
    assert noise.se_images == pytest.approx(0.03 * math.sqrt(2), rel=0.1)
    assert noise.se_seeds == pytest.approx(0.4 * math.sqrt(2 / 200), rel=0.1)
    assert noise.sd_of_images == pytest.approx(math.sqrt(2 * 0.03**2 + 2 * 0.2**2 / 200), rel=0.1)
    assert noise.image_B.std() == pytest.approx(noise.se_images)
    assert noise.distance == pytest.approx(1.96 * math.hypot(noise.se_images, noise.se_seeds), rel=0.01)


def test_with_few_runs_the_interval_is_students():
    """Two runs of each that differ on no image by themselves: Welch's interval, whose oracle is SciPy's quantile."""
    replicate_RBC = np.tile(np.random.default_rng(0).normal(0.5, 0.01, (1, 300, 1)), (4, 1, 1))
    noise = recipes._noise(np.array([0.50, 0.54, 0.60, 0.68]), replicate_RBC, np.array([False, False, True, True]))
    first, second = 0.04**2 / 2 / 2, 0.08**2 / 2 / 2
    freedom = (first + second) ** 2 / (first**2 + second**2)
    assert noise.se_images == pytest.approx(0, abs=1e-9)
    assert noise.distance == pytest.approx(student.ppf(0.975, freedom) * math.sqrt(first + second))


def both_ways(first: list[Predictions], second: list[Predictions]) -> tuple[RecipeComparison, RecipeComparison]:
    return compare_recipes(first, second, num_replicates=60), compare_recipes(second, first, num_replicates=60)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_a_value_is_inside_its_interval_which_turns_around(seed: int):
    there, back = both_ways(runs_of(2, seed=seed), runs_of(3, seed=seed + 5000))
    assert there.low < there.value < there.high
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert back.p == pytest.approx(there.p, abs=0.05)
    assert there.value == pytest.approx(there.second.mean_ap_R.mean() - there.first.mean_ap_R.mean())


def test_runs_in_any_order_and_groups_of_one_image_change_nothing():
    first, second = runs_of(3, seed=1), runs_of(3, seed=2)
    found = compare_recipes(first, second, num_replicates=60)
    other = compare_recipes(first[::-1], second, num_replicates=60)
    alone = compare_recipes(first, second, num_replicates=60, groups=groups_of(list(map(str, range(120)))))
    for again in (other, alone):
        assert (again.value, again.low, again.high) == pytest.approx((found.value, found.low, found.high))
        assert again.p == pytest.approx(found.p, abs=0.02)
    wider = compare_recipes(first, second, num_replicates=60, groups=groups_of([row // 8 for row in range(120)], column="scene"))
    assert "Intervals draw 15 groups of scene, not images." in str(wider)


def test_copies_of_one_run_do_not_differ():
    (run,) = runs_of(1, seed=1)
    found = compare_recipes([run] * 2, [run] * 3, num_replicates=20)
    assert (found.value, found.low, found.high, found.p) == pytest.approx((0, 0, 0, 1), abs=1e-12)


def test_text_and_json():
    found = compare_recipes(runs_of(2, seed=1), runs_of(2, seed=2), run_names=("a1", "a2", "b1", "b2"), num_replicates=20)
    text = str(found)
    assert [line.split()[0] for line in text.splitlines()[:7]] == ["run", "A", "a1", "a2", "B", "b1", "b2"]
    assert f"standard error of the difference {found.se_seeds:.4f} from the seeds, {found.se_images:.4f} from the images." in text
    assert "with 2 and 2 runs it is at least 0.333, so nothing can be marked: four runs of each allow 0.029." in text
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (values["difference"], values["p"], values["least_p"], values["significant"]) == (found.value, found.p, 1 / 3, False)
    assert [list(recipe["runs"]) for recipe in values["recipes"]] == [["a1", "a2"], ["b1", "b2"]]


def test_one_run_says_nothing_about_its_seeds_and_no_class_gives_no_number():
    with pytest.raises(UsageError) as error:
        compare_recipes(runs_of(1, seed=0), runs_of(3, seed=1))
    assert str(error.value) == (
        "a recipe has a single run, which says nothing about its seeds\n  got: 1 run of A, 3 runs of B\n"
        "  expected: two runs or more of each, with different seeds\n  next: without --with, two finished models are compared"
    )
    table = Predictions(ids=("x",), logit_NC=np.zeros((1, 1)), target_NC=np.ones((1, 1), np.int8), label_set=LabelSet(names=("a",)))
    none = compare_recipes([table] * 2, [table] * 2, num_replicates=5)
    assert np.isnan([none.value, none.low, none.high, none.p, none.se_seeds]).all()
    assert json.loads(json.dumps(none.to_json(), allow_nan=False))["difference"] is None
    assert "–" in str(none)


@pytest.mark.slow
def test_coverage_and_level(monkeypatch: pytest.MonkeyPatch):
    """A fixed seed; benchmarks/recipes.py measures every cell with more data sets."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("intervals", "machine")
    import importlib

    bench = importlib.import_module("recipes")
    cell = bench.recipes((5, 5), of_recipe=0.3, spread=0.1, shifts=(1.5, 1.5), num_positives=30, num_images=300, num_sets=60)
    assert cell["coverage"] >= 0.88
    assert cell["p_at_most_0.05"] <= 0.12
    for name in (*names, "recipes"):
        sys.modules.pop(name, None)
