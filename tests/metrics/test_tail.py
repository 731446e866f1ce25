"""Tail accuracy is its definition, to the last bit, and its empty end is NaN and counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polytag.metrics.tail import tail_accuracy, tail_thresholds


def naive(target_NC: np.ndarray, probability_NC: np.ndarray, threshold_K: np.ndarray) -> tuple[np.ndarray, ...]:
    """The definition as loops over classes and thresholds: per class, count above, mean, classes counted."""
    num_classes, num_thresholds = target_NC.shape[1], len(threshold_K)
    per_class_CK, count_CK = np.full((num_classes, num_thresholds), np.nan), np.zeros((num_classes, num_thresholds), int)
    mean_K, num_classes_K = np.full(num_thresholds, np.nan), np.zeros(num_thresholds, int)
    for k, threshold in enumerate(threshold_K):
        total = 0.0
        for c in range(num_classes):
            above = (probability_NC[:, c] > threshold) & (target_NC[:, c] != -1)
            right = above & (target_NC[:, c] == 1)  # above the threshold the decision is "present"
            count_CK[c, k] = above.sum()
            if count_CK[c, k]:
                per_class_CK[c, k] = int(right.sum()) / int(above.sum())
                total += per_class_CK[c, k]
                num_classes_K[k] += 1
        if num_classes_K[k]:
            mean_K[k] = total / int(num_classes_K[k])
    return per_class_CK, count_CK, mean_K, num_classes_K


def equal_to_the_last_bit(target_NC: np.ndarray, probability_NC: np.ndarray, threshold_K: np.ndarray) -> None:
    tail = tail_accuracy(target_NC, probability_NC, threshold_K=threshold_K)
    found = (tail.per_class_CK, tail.count_CK, tail.mean_K, tail.num_classes_K)
    for ours, definition in zip(found, naive(target_NC, probability_NC, threshold_K), strict=True):
        np.testing.assert_array_equal(ours, definition)
    assert tail.per_class_CK.dtype == tail.mean_K.dtype == np.float64


def test_a_table_of_voc2012s_size_equals_the_definition_to_the_last_bit():
    rng = np.random.default_rng(0)
    target_NC = rng.choice([1, 0, -1], (5823, 20), p=[0.07, 0.91, 0.02]).astype(np.int8)
    probability_NC = 1 / (1 + np.exp(-rng.normal(5 * (target_NC == 1) - 3, 1.5)))
    probability_NC[:, 7] *= 0.7  # a class that is gone long before the end
    threshold_K = tail_thresholds(target_NC, probability_NC)
    assert np.diff(naive(target_NC, probability_NC, threshold_K)[3]).any()
    equal_to_the_last_bit(target_NC, probability_NC, threshold_K)


@given(st.data())
def test_small_tables_with_ties_equal_the_definition_to_the_last_bit(data: st.DataObject):
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 7)))
    target_NC = data.draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([1, 0, -1])))
    probability_NC = data.draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.1, 0.5, 0.6, 0.75, 0.9, 1.0])))
    equal_to_the_last_bit(target_NC, probability_NC, np.array([0.5, 0.6, 0.7, 0.9, 1.0]))


def test_a_worked_example():
    target_NC = np.array([[1, 0], [0, 0], [1, -1], [1, 1]])
    probability_NC = np.array([[0.9, 0.6], [0.8, 0.55], [0.7, 0.95], [0.5, 0.7]])
    tail = tail_accuracy(target_NC, probability_NC, threshold_K=np.array([0.5, 0.7, 0.85, 0.95]))
    np.testing.assert_array_equal(tail.per_class_CK, [[2 / 3, 1 / 2, 1, np.nan], [1 / 3, np.nan, np.nan, np.nan]])
    assert tail.count_CK.tolist() == [[3, 2, 1, 0], [3, 0, 0, 0]]
    np.testing.assert_array_equal(tail.mean_K, [1 / 2, 1 / 2, 1, np.nan])
    assert tail.num_classes_K.tolist() == [2, 1, 1, 0]


def test_thresholds_are_evenly_spaced_from_the_decision_threshold_to_the_largest_known_score():
    target_NC = np.array([[1, -1], [0, 0]])
    probability_NC = np.array([[0.8, 0.99], [0.6, 0.7]])  # the largest score of all is of an unknown label
    threshold_K = tail_thresholds(target_NC, probability_NC, num_thresholds=4)
    assert (threshold_K[0], threshold_K[-1]) == (0.5, 0.8)
    np.testing.assert_allclose(threshold_K, [0.5, 0.6, 0.7, 0.8], rtol=1e-15)
    assert len(tail_thresholds(target_NC, probability_NC)) == 101
    assert tail_thresholds(target_NC, probability_NC, threshold=0.3)[0] == 0.3


@pytest.mark.parametrize("target", [0, -1])
def test_where_nothing_exceeds_the_decision_threshold_all_thresholds_are_it(target: int):
    target_NC, probability_NC = np.full((3, 2), target), np.full((3, 2), 0.4 if target == 0 else 0.9)
    threshold_K = tail_thresholds(target_NC, probability_NC, num_thresholds=5)
    assert threshold_K.tolist() == [0.5] * 5
    tail = tail_accuracy(target_NC, probability_NC, threshold_K=threshold_K)
    assert tail.num_classes_K.tolist() == [0] * 5
    assert np.isnan(tail.mean_K).all()
    assert np.isnan(tail.per_class_CK).all()


def test_the_end_is_empty_since_no_score_is_above_the_largest():
    rng = np.random.default_rng(1)
    target_NC, probability_NC = rng.integers(0, 2, (50, 4)), rng.random((50, 4)) * [1, 0.9, 0.8, 0.7]
    tail = tail_accuracy(target_NC, probability_NC, threshold_K=tail_thresholds(target_NC, probability_NC))
    assert np.isnan(tail.mean_K[-1])
    assert (tail.num_classes_K[-1], tail.count_CK[:, -1].tolist()) == (0, [0] * 4)
    assert (tail.num_classes_K[0], tail.num_classes_K[-2]) == (4, 1)
    assert (np.diff(tail.num_classes_K) <= 0).all()
    assert not np.isnan(tail.mean_K[:-1]).any()


def test_removing_unknown_labels_changes_nothing():
    rng = np.random.default_rng(2)
    target_N, probability_N = rng.choice([1, 0, -1], 80), rng.random(80)
    remaining = target_N >= 0
    threshold_K = np.linspace(0.5, 1, 11)
    masked = tail_accuracy(target_N[:, None], probability_N[:, None], threshold_K=threshold_K)
    removed = tail_accuracy(target_N[remaining, None], probability_N[remaining, None], threshold_K=threshold_K)
    np.testing.assert_array_equal(masked.per_class_CK, removed.per_class_CK)
    np.testing.assert_array_equal(masked.count_CK, removed.count_CK)


def test_right_predictions_have_tail_accuracy_one_and_wrong_ones_zero():
    probability_NC = np.array([[0.9, 0.9], [0.8, 0.8]])
    tail = tail_accuracy(np.array([[1, 0], [1, 0]]), probability_NC, threshold_K=np.array([0.5]))
    assert tail.per_class_CK.tolist() == [[1.0], [0.0]]
    assert tail.mean_K.tolist() == [0.5]
