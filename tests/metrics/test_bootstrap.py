"""The bootstrap without sorting again gives what sorting again gives, replicate by replicate."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from polytag.metrics.ap import average_precision, mean_average_precision
from polytag.metrics.bootstrap import bootstrap_ap, replicate_ap, replicate_means, weights_of

Table = tuple[np.ndarray, np.ndarray]


def table(num_images: int, *, num_classes: int = 5, seed: int = 0) -> Table:
    """Targets with unknown labels, scores with ties; class 0 is rare, the last class is all unknown, the one before all absent."""
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([1, 0, -1], (num_images, num_classes), p=[0.3, 0.6, 0.1]).astype(np.int8)
    target_NC[:, 0] = np.where(rng.random(num_images) < 0.04, 1, 0)
    target_NC[:, -2:] = 0, -1
    return target_NC, np.round(rng.normal(target_NC, 1.0), 1).astype(np.float32)


def naive(target_NC: np.ndarray, score_NC: np.ndarray, weight_N: np.ndarray) -> list[float]:
    """scikit-learn on the table in which each image stands as often as it was drawn."""
    rows = np.repeat(np.arange(len(weight_N)), weight_N)
    values: list[float] = []
    for target_N, score_N in zip(target_NC[rows].T, score_NC[rows].T, strict=True):
        known = target_N >= 0
        values.append(average_precision_score(target_N[known], score_N[known]) if (target_N == 1).any() else math.nan)
    return values


def test_each_replicate_is_that_of_the_resampled_table_sorted_again():
    target_NC, score_NC = table(60)
    weight_NB = weights_of(60, num_replicates=40, seed=1)
    expected = [naive(target_NC, score_NC, weight_N) for weight_N in weight_NB.T]
    assert 0 < np.isnan(expected).sum(axis=0)[0] < 40  # some replicates drew no positive of the rare class
    np.testing.assert_allclose(replicate_ap(target_NC, weight_NB, score_NC=score_NC), expected, atol=1e-12, rtol=0)


def test_more_replicates_than_a_block_agree_too():
    target_NC, score_NC = table(20, seed=3)
    weight_NB = weights_of(20, num_replicates=431, seed=2)
    expected = []
    for weight_N in weight_NB.T:
        rows = np.repeat(np.arange(20), weight_N)
        expected.append(average_precision(target_NC[rows], score_NC[rows]))
    np.testing.assert_allclose(replicate_ap(target_NC, weight_NB, score_NC=score_NC), expected, atol=1e-12, rtol=0)


def test_a_tie_of_thousands_is_counted_in_full():
    target_NC, score_NC = table(4000)
    score_NC = np.sign(score_NC)
    weight_NB = weights_of(4000, num_replicates=3, seed=0)
    expected = [naive(target_NC, score_NC, weight_N) for weight_N in weight_NB.T]
    np.testing.assert_allclose(replicate_ap(target_NC, weight_NB, score_NC=score_NC), expected, atol=1e-12, rtol=0)


def test_weights_of_one_give_the_value_itself():
    target_NC, score_NC = table(50)
    ones = np.ones((50, 1), np.uint8)
    np.testing.assert_allclose(
        replicate_ap(target_NC, ones, score_NC=score_NC)[0], average_precision(target_NC, score_NC), atol=1e-12, rtol=0
    )


def test_the_largest_weight_there_can_be_is_added_up_exactly():
    """Five replicates share a number, ten bits each: 255 on every image fills them after four."""
    target_NC, score_NC = table(400)
    weight_NB = np.full((400, 7), 255, np.uint8)
    weight_NB[:, 3] = 1
    np.testing.assert_allclose(
        replicate_ap(target_NC, weight_NB, score_NC=score_NC), [average_precision(target_NC, score_NC)] * 7, atol=1e-12, rtol=0
    )


def test_a_weight_of_zero_equals_a_removed_image():
    target_NC, score_NC = table(50)
    remaining = np.arange(50) % 3 > 0
    np.testing.assert_allclose(
        replicate_ap(target_NC, remaining.astype(np.uint8)[:, None], score_NC=score_NC)[0],
        average_precision(target_NC[remaining], score_NC[remaining]),
        atol=1e-12,
        rtol=0,
    )


def test_every_replicate_draws_as_many_images_as_there_are():
    weight_NB = weights_of(37, num_replicates=25, seed=0)
    assert weight_NB.shape == (37, 25)
    assert (weight_NB.sum(axis=0) == 37).all()
    assert len({column.tobytes() for column in weight_NB.T}) == 25


def test_the_seed_decides_everything():
    target_NC, score_NC = table(80)
    one, same, other = (bootstrap_ap(target_NC, score_NC, num_replicates=100, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.low_C, same.low_C)
    np.testing.assert_array_equal(one.high_C, same.high_C)
    assert (one.mean_low, one.mean_high) == (same.mean_low, same.mean_high)
    assert (one.mean_low, one.mean_high) != (other.mean_low, other.mean_high)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_contain_the_value_and_narrow_with_more_images(seed: int):
    widths = []
    for num_images in (150, 2400):
        target_NC, score_NC = table(num_images, seed=seed)
        intervals = bootstrap_ap(target_NC, score_NC, num_replicates=300)
        ap_C = average_precision(target_NC, score_NC)
        for column in range(3):
            assert 0 <= intervals.low_C[column] <= ap_C[column] <= intervals.high_C[column] <= 1
        assert intervals.mean_low <= mean_average_precision(target_NC, score_NC) <= intervals.mean_high
        widths.append(intervals.high_C[1:3] - intervals.low_C[1:3])
    assert (widths[1] < widths[0] / 2).all()


def test_a_class_without_a_positive_has_no_interval_and_leaves_the_mean_alone():
    target_NC, score_NC = table(60)
    intervals = bootstrap_ap(target_NC, score_NC, num_replicates=50)
    np.testing.assert_array_equal(np.isnan(intervals.low_C), [False, False, False, True, True])
    np.testing.assert_array_equal(np.isnan(intervals.high_C), [False, False, False, True, True])
    alone = bootstrap_ap(target_NC[:, :3], score_NC[:, :3], num_replicates=50)
    assert (intervals.mean_low, intervals.mean_high) == (alone.mean_low, alone.mean_high)


def test_a_single_image():
    intervals = bootstrap_ap(np.array([[1, 0, -1]]), np.array([[0.3, 0.2, 0.1]]), num_replicates=20)
    assert np.isnan([*intervals.low_C, *intervals.high_C, intervals.mean_low, intervals.mean_high]).all()


def test_a_replicate_without_a_negative_has_no_ap():
    target_NC, score_NC = np.array([[1], [0], [1], [-1]]), np.array([[0.1], [0.9], [0.2], [0.5]])
    weight_NB = np.array([[1, 1, 0], [1, 0, 3], [1, 2, 0], [1, 1, 1]], np.uint8)
    ap_BC = replicate_ap(target_NC, weight_NB, score_NC=score_NC)
    np.testing.assert_allclose(ap_BC[:, 0], [(1 / 2 + 2 / 3) / 2, np.nan, np.nan])
    assert np.isnan(replicate_ap(np.abs(target_NC) * 0 + 1, weight_NB, score_NC=score_NC)).all()


@pytest.mark.parametrize("num_replicates", [0, 10])
def test_nothing_to_count_is_nan(num_replicates: int):
    target_NC = np.array([[0, -1], [0, -1]]) if num_replicates else np.array([[1, 0], [0, 1]])
    intervals = bootstrap_ap(target_NC, np.zeros((2, 2)), num_replicates=num_replicates)
    assert np.isnan([*intervals.low_C, *intervals.high_C, intervals.mean_low, intervals.mean_high]).all()


def test_means_over_the_images_that_a_replicate_drew():
    weight_NB = weights_of(50, num_replicates=230, seed=3)
    value_N = np.random.default_rng(0).random(50)
    value_N[:7] = np.nan
    found = replicate_means([value_N, np.full(50, np.nan)], weight_NB)
    expected = [np.nanmean(np.repeat(value_N, weight_N)) for weight_N in weight_NB.T]
    np.testing.assert_allclose(found[0], expected, atol=1e-12)
    assert np.isnan(found[1]).all()
