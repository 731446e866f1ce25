"""Intervals of ROC AUC: DeLong's definition over all pairs, SciPy's root, laws, and coverage where the truth is known."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit

from polytag import evaluate
from polytag.metrics.ap import of_every_class, roc_auc_of
from polytag.metrics.auc_intervals import auc_intervals, influences, logit_interval, score_interval
from polytag.metrics.groups import Groups, groups_of
from polytag.metrics.intervals import Intervals

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def table(seed: int, *, num_images: int = 60, num_positives: tuple[int, ...] = (1, 2, 5, 20), shift: float = 1.0):
    """Scores with ties, and unknown labels."""
    rng = np.random.default_rng(seed)
    target_NC = np.zeros((num_images, len(num_positives)), np.int8)
    for column, number in enumerate(num_positives):
        order = rng.permutation(num_images)
        target_NC[order[:number], column], target_NC[order[-7:], column] = 1, -1
    return target_NC, np.round(rng.normal(size=target_NC.shape) + shift * target_NC, 1)


def found(target_NC: np.ndarray, score_NC: np.ndarray, groups: Groups | None = None) -> tuple[np.ndarray, Intervals]:
    auc_C = np.array(of_every_class(target_NC, score_NC, roc_auc_of))
    return auc_C, auc_intervals(target_NC, score_NC, auc_C=auc_C, groups=groups)


def delong_covariance(target_N: np.ndarray, *scores: np.ndarray) -> np.ndarray:
    """DeLong, DeLong, Clarke-Pearson 1988, equations 4 to 7, over all pairs, for runs of one class."""
    wins = []
    for score_N in scores:
        difference = score_N[target_N == 1][:, None] - score_N[target_N == 0]
        wins.append((difference > 0) + (difference == 0) / 2)
    of_positives, of_negatives = np.array([win.mean(axis=1) for win in wins]), np.array([win.mean(axis=0) for win in wins])
    return np.cov(of_positives) / of_positives.shape[1] + np.cov(of_negatives) / of_negatives.shape[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_influences_give_delongs_variance_and_covariance(seed: int):
    target_NC, score_NC = table(seed, num_positives=(5, 5))
    target_N = target_NC[:, 0]
    influence_2N = np.array([influences(target_N, score_N) for score_N in score_NC.T])
    assert influence_2N.sum(axis=1) == pytest.approx(0, abs=1e-12)
    assert (influence_2N[:, target_N == -1] == 0).all()
    for kind in (1, 0):
        number = (target_N == kind).sum()
        influence_2N[:, target_N == kind] *= np.sqrt(number / (number - 1))
    np.testing.assert_allclose(influence_2N @ influence_2N.T, delong_covariance(target_N, *score_NC.T), atol=1e-14)


def test_an_interval_is_the_wider_of_delongs_and_of_the_score_interval():
    target_NC, score_NC = table(3, num_positives=(20,))
    auc_C, interval = found(target_NC, score_NC)
    sd = float(np.sqrt(delong_covariance(target_NC[:, 0], score_NC[:, 0])))
    distance = 1.959963984540054 * sd / (auc_C[0] * (1 - auc_C[0]))
    by_delong = expit([logit(auc_C[0]) - distance, logit(auc_C[0]) + distance])
    low, high = score_interval(auc_C, np.array([20]), np.array([33]))
    assert interval.low_C[0] == pytest.approx(min(by_delong[0], low[0]))
    assert interval.high_C[0] == pytest.approx(max(by_delong[1], high[0]))
    assert logit_interval(0.5, 1e6) == (0, 1)


@pytest.mark.parametrize(
    ("auc", "positives", "negatives"), [(0.8, 3, 497), (0.5, 1, 9), (1.0, 3, 500), (0.0, 5, 5), (0.999, 30, 2)]
)
def test_the_score_interval_ends_where_its_own_variance_reaches_the_value(auc: float, positives: int, negatives: int):
    def excess(value: float) -> float:
        """Hanley, McNeil 1982: Q1 = A / (2 - A), Q2 = 2 A^2 / (1 + A)."""
        q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
        variance = value * (1 - value) + (positives - 1) * (q1 - value**2) + (negatives - 1) * (q2 - value**2)
        return (value - auc) ** 2 - 1.959963984540054**2 * variance / (positives * negatives)

    low, high = (end[0] for end in score_interval(np.array([auc]), np.array([positives]), np.array([negatives])))
    assert low == (pytest.approx(brentq(excess, 1e-12, min(auc, 1 - 1e-9)), abs=1e-8) if auc > 0 else 0)
    assert high == (pytest.approx(brentq(excess, max(auc, 1e-9), 1 - 1e-12), abs=1e-8) if auc < 1 else 1)
    assert low < high


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-9.0, 0.0, 2.0, 9.0]))
def test_a_value_is_inside_its_interval_which_depends_on_the_order_alone(seed: int, shift: float):
    target_NC, score_NC = table(seed, shift=shift)
    auc_C, interval = found(target_NC, score_NC)
    assert ((interval.low_C <= auc_C) & (auc_C <= interval.high_C) & (interval.low_C < interval.high_C)).all()
    assert interval.mean_low <= auc_C.mean() <= interval.mean_high
    assert interval.mean_low < interval.mean_high
    order = np.random.default_rng(seed).permutation(len(target_NC))
    _, other = found(target_NC[order], (np.exp(score_NC) - 3)[order])
    for name in ("low_C", "high_C", "mean_low", "mean_high"):
        np.testing.assert_allclose(getattr(other, name), getattr(interval, name), atol=1e-12)


def test_undefined_classes_have_none_and_do_not_count():
    target_NC, score_NC = table(0)
    wide = np.concatenate([target_NC, np.ones((60, 1)), np.zeros((60, 1)), -np.ones((60, 1))], axis=1).astype(np.int8)
    _, some = found(target_NC, score_NC)
    _, more = found(wide, np.concatenate([score_NC, score_NC[:, :3]], axis=1))
    assert np.isnan(more.low_C[4:]).all()
    assert (more.mean_low, more.mean_high) == (some.mean_low, some.mean_high)
    _, none = found(np.zeros((3, 2), np.int8), np.zeros((3, 2)))
    assert np.isnan([*none.low_C, none.mean_low]).all()


def test_groups_of_one_image_are_images_and_copies_in_a_group_are_one():
    target_NC, score_NC = table(1)
    _, single = found(target_NC, score_NC)
    _, alone = found(target_NC, score_NC, groups_of(list(map(str, range(60)))))
    _, copied = found(target_NC.repeat(4, axis=0), score_NC.repeat(4, axis=0), groups_of((np.arange(240) // 4).tolist()))
    for other in (alone, copied):
        np.testing.assert_allclose(other.low_C, single.low_C, atol=1e-12)
        np.testing.assert_allclose([other.mean_low, other.mean_high], [single.mean_low, single.mean_high], atol=1e-12)
    _, none = found(target_NC[::2], score_NC[::2], groups_of(["x", "y"] * 30).take(np.arange(0, 60, 2)))
    assert np.isnan([*none.low_C, none.mean_high]).all()


def test_evaluate_has_them_as_numbers_json_and_columns():
    target_NC, score_NC = table(2)
    metrics = evaluate(target_NC, score_NC, scores="logit", num_replicates=10)
    auc_C, interval = found(target_NC, score_NC)
    np.testing.assert_array_equal(metrics.roc_auc_C, auc_C)
    np.testing.assert_array_equal(metrics.roc_auc_interval_C2, np.stack([interval.low_C, interval.high_C], axis=1))
    mean = metrics.means["ROC_AUC"]
    assert (mean.low, mean.high) == (interval.mean_low, interval.mean_high)


def test_coverage(monkeypatch: pytest.MonkeyPatch):
    """A fixed seed; benchmarks/intervals.py measures every cell with more data sets."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import intervals

    for number in (3, 30):
        cell = intervals.areas(200, number, 1.5, num_sets=60, num_classes=10)
        assert float(str(cell["coverage_of_auc"])) >= 0.93
        assert float(str(cell["coverage_of_mean"])) >= 0.9
        assert cell["value_inside"] == 1
    sys.modules.pop("intervals")
    sys.modules.pop("machine", None)
