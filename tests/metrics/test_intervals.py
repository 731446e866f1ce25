"""Intervals of AP: the bias by hand, an independent implementation, laws, and coverage where the truth is known."""

import json
import math
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from polytag.metrics.ap import average_precision, mean_over_defined, rank
from polytag.metrics.bootstrap import bootstrap_ap, replicate_ap, weights_of
from polytag.metrics.intervals import by_ap, difference_intervals, estimates_of, left_out_ap_of, mean_interval
from polytag.metrics.significance import same_rankings

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NORMAL = NormalDist()


def table(seed: int, *, num_images: int = 80, num_positives: tuple[int, ...] = (1, 2, 5, 20), shift: float = 1.5):
    rng = np.random.default_rng(seed)
    target_NC = np.zeros((num_images, len(num_positives)), np.int8)
    for column, number in enumerate(num_positives):
        target_NC[rng.permutation(num_images)[:number], column] = 1
    return target_NC, rng.normal(size=target_NC.shape) + shift * target_NC


def estimates(target_NC: np.ndarray, score_NC: np.ndarray):
    return estimates_of(target_NC, score_NC, ap_C=average_precision(target_NC, score_NC))


def test_a_positive_left_out_of_its_own_precision_by_hand():
    """Ranks 1, 3, 4 are positive: AP (1 + 2/3 + 3/4) / 3. Left out: nothing is above the first; 1 of 2; 2 of 3."""
    target_NC, score_NC = np.array([[1], [0], [1], [1], [0]]), np.array([[5.0], [4], [3], [2], [1]])
    found = estimates(target_NC, score_NC)
    assert found.ap_C[0] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found.left_out_C[0] == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert found.lowest_C[0] == pytest.approx((1 / 2 + 1 / 2 + 2 / 3) / 3)
    assert (found.unpreceded_C[0], found.support_C[0]) == (0, 3)
    tied = estimates(target_NC, np.ones((5, 1)))
    assert (tied.ap_C[0], tied.left_out_C[0], tied.lowest_C[0], tied.unpreceded_C[0]) == (3 / 5, 2 / 4, 2 / 4, -1)


def test_without_an_image_of_its_own_precision_is_unbiased():
    """20,000 images: the truth. The mean over samples of 100 is too high for AP, and right where a positive is left out."""
    rng = np.random.default_rng(0)

    def draw(num_images: int) -> tuple[np.ndarray, np.ndarray]:
        target_N = (rng.random(num_images) < 0.06).astype(np.int8)
        return target_N, rng.normal(size=num_images) + target_N

    truth = average_precision(*(values[:, None] for values in draw(1_000_000)))[0]
    rankings = [rank(*draw(100)) for _ in range(2000)]
    ap = np.nanmean([float(average_precision_of(ranking)) for ranking in rankings])
    left_out = np.nanmean([left_out_ap_of(ranking) for ranking in rankings])
    assert ap - truth > 0.06
    assert abs(left_out - truth) < 0.02


def average_precision_of(ranking) -> float:
    gains = np.diff(ranking.tp_P, prepend=0)
    return float((gains * ranking.precision_P).sum() / ranking.num_positives) if ranking.num_positives else math.nan


def slow_interval(ap: float, lowest: float, support: int, spread: float) -> tuple[float, float]:
    """Wilson's ends as the roots of (p - share)^2 = z^2 p (1 - p) / P, Imbens and Manski's constant by bisection."""
    z = NORMAL.inv_cdf(0.975)

    def end(share: float, low: float, high: float) -> float:
        def miss(p: float) -> float:
            return (p - share) ** 2 - z**2 * p * (1 - p) / support

        return low if miss(low) * miss(high) >= 0 and abs(miss(low)) < 1e-12 else brentq(miss, low, high, xtol=1e-14)

    below = max(lowest - end(lowest, 0.0, lowest), z * spread) if lowest > 0 else z * spread
    above = max(end(ap, ap, 1.0) - ap, z * spread) if ap < 1 else z * spread
    apart = (ap - lowest) / (max(below, above) / z)
    c = brentq(lambda c: NORMAL.cdf(c + apart) - NORMAL.cdf(-c) - 0.95, 1.5, 2.0)
    return max(0.0, lowest - c / z * below), min(1.0, ap + c / z * above)


@pytest.mark.parametrize("seed", range(3))
def test_an_independent_implementation(seed: int):
    target_NC, score_NC = table(seed)
    found = bootstrap_ap(target_NC, score_NC, num_replicates=100)
    each = estimates(target_NC, score_NC)
    ap_BC = replicate_ap(target_NC, weights_of(80, num_replicates=100, seed=0), score_NC=score_NC)
    for column in range(4):
        spread = float(np.nanstd(ap_BC[:, column]))
        expected = slow_interval(each.ap_C[column], each.lowest_C[column], int(each.support_C[column]), spread)
        assert (found.low_C[column], found.high_C[column]) == pytest.approx(expected, abs=1e-9)


def test_the_variance_is_boyds():
    """Boyd, Eng, Page 2013: logit(AP) +- 1.96 / sqrt(P AP (1 - AP)); with many positives the ends agree."""
    ap, support, z = 0.6, 4000, NORMAL.inv_cdf(0.975)
    logit, half = math.log(ap / (1 - ap)), z / math.sqrt(support * ap * (1 - ap))
    boyd = [1 / (1 + math.exp(-(logit + sign * half))) for sign in (-1, 1)]
    assert slow_interval(ap, ap, support, 0.0) == pytest.approx(boyd, abs=2e-5)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 1.5, 9.0]), st.booleans())
def test_the_value_is_inside_and_no_interval_is_a_point(seed: int, shift: float, rounded: bool):
    target_NC, score_NC = table(seed, shift=shift, num_positives=(0, 1, 3, 12))
    score_NC = np.round(score_NC) if rounded else score_NC
    found, ap_C = bootstrap_ap(target_NC, score_NC, num_replicates=50, seed=seed), average_precision(target_NC, score_NC)
    assert np.isnan([found.low_C[0], found.high_C[0]]).all()
    assert ((found.low_C <= ap_C) & (ap_C <= found.high_C))[1:].all()
    assert ((found.low_C >= 0) & (found.high_C <= 1) & (found.low_C < found.high_C))[1:].all()
    assert 0 <= found.mean_low <= mean_over_defined(ap_C) <= found.mean_high <= 1
    assert found.mean_low < found.mean_high


def test_1000_classes_of_few_positives_hold_their_own_mean():
    target_NC, score_NC = table(0, num_images=400, num_positives=(1, 2, 3, 4) * 250, shift=1.0)
    found, ap_C = bootstrap_ap(target_NC, score_NC, num_replicates=100), average_precision(target_NC, score_NC)
    assert found.mean_low < ap_C.mean() < found.mean_high


def test_the_order_of_classes_changes_nothing_and_a_single_class_is_its_own_mean():
    target_NC, score_NC = table(3)
    there = bootstrap_ap(target_NC, score_NC, num_replicates=60)
    back = bootstrap_ap(target_NC[:, ::-1], score_NC[:, ::-1], num_replicates=60)
    assert back.low_C[::-1] == pytest.approx(there.low_C)
    assert (back.mean_low, back.mean_high) == pytest.approx((there.mean_low, there.mean_high))
    one = bootstrap_ap(target_NC[:, 2:3], score_NC[:, 2:3], num_replicates=60)
    assert (one.mean_low, one.mean_high) == pytest.approx((one.low_C[0], one.high_C[0]))


def test_more_images_give_narrower_intervals():
    widths = []
    for num_images in (100, 400, 1600):
        found = [
            bootstrap_ap(*table(seed, num_images=num_images, num_positives=(num_images // 20,) * 4), num_replicates=60)
            for seed in range(5)
        ]
        widths.append(np.mean([each.mean_high - each.mean_low for each in found]))
    assert widths[0] > 1.6 * widths[1] > 1.6**2 * widths[2]


def test_correlated_classes_have_a_wider_mean_than_independent_ones():
    target_NC, score_NC = table(5, num_images=300, num_positives=(30,))
    same = bootstrap_ap(np.repeat(target_NC, 9, axis=1), np.repeat(score_NC, 9, axis=1), num_replicates=200)
    alone = bootstrap_ap(target_NC, score_NC, num_replicates=200)
    assert (same.mean_low, same.mean_high) == pytest.approx((alone.low_C[0], alone.high_C[0]))
    apart = bootstrap_ap(*table(5, num_images=300, num_positives=(30,) * 9), num_replicates=200)
    assert apart.mean_high - apart.mean_low < 0.6 * (same.mean_high - same.mean_low)


def test_a_weight_of_zero_leaves_a_class_out():
    target_NC, score_NC = table(6)
    ap_BC = replicate_ap(target_NC, weights_of(80, num_replicates=60, seed=0), score_NC=score_NC)
    every = mean_interval(ap_BC, estimates(target_NC, score_NC), weight_C=np.array([0, 1, 1, 1]))
    some = mean_interval(ap_BC[:, 1:], estimates(target_NC[:, 1:], score_NC[:, 1:]), weight_C=np.ones(3))
    assert every == pytest.approx(some)


def difference(target_NC: np.ndarray, first_NC: np.ndarray, second_NC: np.ndarray):
    weight_NB = weights_of(len(target_NC), num_replicates=60, seed=0)
    first_BC, second_BC = (replicate_ap(target_NC, weight_NB, score_NC=score_NC) for score_NC in (first_NC, second_NC))
    first, second = estimates(target_NC, first_NC), estimates(target_NC, second_NC)
    same_C = same_rankings(target_NC, first_NC, second_NC)
    return second.ap_C - first.ap_C, difference_intervals(second_BC - first_BC, first, second, same_C=same_C)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 2.0, 9.0]))
def test_a_difference_is_inside_its_interval_and_turns_around(seed: int, shift: float):
    target_NC, first_NC = table(seed, shift=shift)
    second_NC = first_NC + np.random.default_rng(seed).normal(size=first_NC.shape)
    value_C, there = difference(target_NC, first_NC, second_NC)
    assert ((there.low_C <= value_C) & (value_C <= there.high_C) & (there.low_C < there.high_C)).all()
    assert there.mean_low <= value_C.mean() <= there.mean_high
    _, back = difference(target_NC, second_NC, first_NC)
    assert back.low_C == pytest.approx(-there.high_C)
    assert back.mean_low == pytest.approx(-there.mean_high)


def test_two_perfect_runs_may_differ_and_a_run_and_itself_may_not():
    target_NC, first_NC = table(0, shift=30)
    value_C, found = difference(target_NC, first_NC, -first_NC + 60 * target_NC)
    assert value_C.tolist() == [0, 0, 0, 0]
    assert (found.low_C < 0).all()
    assert (found.high_C > 0).all()
    _, same = difference(target_NC, first_NC, 3 * first_NC)
    assert [*same.low_C, *same.high_C, same.mean_low, same.mean_high] == [0] * 10


def test_classes_with_few_positives_are_never_first():
    assert by_ap(np.array([1, 0.2, np.nan, 0.6, 0.9]), np.array([1, 10, 0, 500, 9])).tolist() == [3, 1, 0, 4, 2]


@pytest.mark.slow
def test_coverage(monkeypatch: pytest.MonkeyPatch):
    """A fixed seed; benchmarks/intervals.py measures every cell with more data sets."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import intervals

    monkeypatch.setattr(intervals, "NUM_REPLICATES", 100)
    for number, least in ((3, 0.9), (10, 0.93), (30, 0.93)):
        for shift in (1.5, 3.0):
            found = intervals.single(200, (number,), (shift,), num_classes=10, num_sets=60)
            print(number, shift, json.dumps(found))
            assert float(str(found["coverage_of_ap"])) >= least
            assert float(str(found["coverage_of_mAP"])) >= least
            assert found["value_inside"] == 1
    sys.modules.pop("intervals")
    sys.modules.pop("machine", None)
