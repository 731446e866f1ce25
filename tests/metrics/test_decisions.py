"""Decisions and the averages that papers report: worked by hand, and against scikit-learn and ML-GCN's own code."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_recall_fscore_support, recall_score

from polytag import evaluate
from polytag.logits import LARGEST, SMALLEST, sigmoid
from polytag.metrics.decisions import (
    ALWAYS,
    NEVER,
    averages_of,
    averages_per_image,
    count,
    decide,
    decide_top,
    false_negative_rates,
    harmonic_mean,
    num_predicted,
)

HALF = np.full(3, 0.5)
# Four images, three classes. Class 0: two of three predicted are right, one true is missed. Class 1: its unknown image counts
# nowhere. Class 2 is never predicted.
TARGETS = np.array([[1, 0, 1], [1, -1, 0], [0, 1, 0], [1, 1, 0]])
PROBABILITIES = np.array([[0.9, 0.6, 0.2], [0.8, 0.9, 0.5], [0.7, 0.8, 0.4], [0.1, 0.3, 0.0]])


def values(counts, prefix: str = "") -> dict[str, float]:
    return {name: mean.value for name, mean in averages_of(counts, prefix=prefix).items()}


def test_a_worked_example():
    counts = count(TARGETS, decide(PROBABILITIES, threshold_C=HALF))
    assert counts.tp_C.tolist() == [2, 1, 0]
    assert counts.fp_C.tolist() == [1, 1, 0]
    assert counts.fn_C.tolist() == [1, 1, 1]
    assert counts.tn_C.tolist() == [0, 0, 3]
    np.testing.assert_array_equal(counts.precision_C, [2 / 3, 1 / 2, np.nan])
    np.testing.assert_array_equal(counts.recall_C, [2 / 3, 1 / 2, 0])
    np.testing.assert_array_equal(counts.f1_C, [4 / 6, 2 / 4, 0])
    np.testing.assert_array_equal(counts.accuracy_C, [2 / 4, 1 / 3, 3 / 4])

    cp, cr = (2 / 3 + 1 / 2) / 2, (2 / 3 + 1 / 2 + 0) / 3
    assert values(counts) == pytest.approx(
        {"CP": cp, "CR": cr, "CF1": 2 * cp * cr / (cp + cr), "OP": 3 / 5, "OR": 3 / 6, "OF1": 6 / 11}, abs=1e-15
    )


def test_every_average_says_what_it_counted():
    averages = averages_of(count(TARGETS, decide(PROBABILITIES, threshold_C=HALF)))
    counted = {name: f"{mean.count} {mean.unit}" for name, mean in averages.items()}
    assert counted == {
        "CP": "2 classes", "CR": "3 classes", "CF1": "2 classes", "OP": "5 decisions", "OR": "6 decisions", "OF1": "8 decisions",
    }  # fmt: skip


def test_cf1_is_not_the_mean_of_the_classes_f1():
    counts = count(np.array([[1, 1], [1, 0], [0, 0], [0, 0]]), np.array([[1, 1], [0, 1], [0, 1], [0, 1]], bool))
    assert counts.f1_C.mean() == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert values(counts)["CF1"] == pytest.approx(2 * (5 / 8) * (3 / 4) / (5 / 8 + 3 / 4))


def test_exactly_the_threshold_is_not_above_it():
    assert decide(np.array([[0.5, 0.3, 0.31]]), threshold_C=np.array([0.5, 0.3, 0.3])).tolist() == [[False, False, True]]


def test_top_3_is_the_three_highest_that_are_also_above_the_threshold():
    probability_NC = np.array([[0.9, 0.8, 0.7, 0.6, 0.1], [0.9, 0.2, 0.4, 0.1, 0.3], [0.1, 0.2, 0.3, 0.4, 0.45]])
    chosen = decide_top(decide(probability_NC, threshold_C=np.full(5, 0.5)), logit_NC=probability_NC)
    assert chosen.tolist() == [
        [True, True, True, False, False],
        [True, False, False, False, False],
        [False, False, False, False, False],
    ]


def test_a_tie_for_third_place_goes_to_the_earlier_class():
    assert decide_top(decide(np.full((1, 5), 0.7), threshold_C=np.full(5, 0.5)), logit_NC=np.full((1, 5), 0.7)).tolist() == [
        [True, True, True, False, False]
    ]


def test_the_three_highest_are_those_of_the_logits_where_probabilities_are_all_1():
    logit_NC = np.array([[40.0, 50, 60, 70]])
    predicted_NC = decide(sigmoid(logit_NC), threshold_C=0.5)
    assert decide_top(predicted_NC, logit_NC=logit_NC).tolist() == [[False, True, True, True]]
    metrics = evaluate([[0, 0, 0, 1]], logit_NC, scores="logit")
    assert (metrics.means["top3_OR"].value, metrics.means["top3_OP"].value) == (1, 1 / 3)


def test_at_0_every_image_is_predicted_and_at_1_none():
    probability_N = np.array([0.0, SMALLEST, 0.3, LARGEST, 1.0])
    for threshold, num_above in ((ALWAYS, 5), (SMALLEST, 3), (0.3, 2), (LARGEST, 1), (NEVER, 0)):
        assert decide(probability_N, threshold_C=threshold).sum() == num_above
        assert num_predicted(probability_N, np.array([threshold])).tolist() == [num_above]
    assert not decide(np.array([np.nan]), threshold_C=ALWAYS)  # an image that could not be read


def test_fewer_classes_than_three_are_all_among_the_highest():
    probability_NC = np.array([[0.9, 0.4], [0.6, 0.7]])
    assert decide_top(decide(probability_NC, threshold_C=np.full(2, 0.5)), logit_NC=probability_NC).tolist() == [
        [True, False],
        [True, True],
    ]


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    """Every class has a positive and a prediction, every label is known: where all definitions agree."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((200, 8)) < 0.3).astype(int)
    return target_NC, 1 / (1 + np.exp(-rng.normal(2.5 * target_NC - 1, 1.5)))


def test_the_averages_are_scikit_learns(table):
    target_NC, probability_NC = table
    predicted_NC = decide(probability_NC, threshold_C=np.full(8, 0.5))
    counts = count(target_NC, predicted_NC)
    precision_C, recall_C, f1_C, _ = precision_recall_fscore_support(target_NC, predicted_NC)
    np.testing.assert_allclose(counts.precision_C, precision_C, rtol=1e-12)
    np.testing.assert_allclose(counts.recall_C, recall_C, rtol=1e-12)
    np.testing.assert_allclose(counts.f1_C, f1_C, rtol=1e-12)
    np.testing.assert_allclose(counts.accuracy_C, (target_NC == predicted_NC).mean(axis=0), rtol=1e-12)
    micro = precision_recall_fscore_support(target_NC, predicted_NC, average="micro")[:3]
    macro = precision_recall_fscore_support(target_NC, predicted_NC, average="macro")[:2]
    found = values(counts)
    assert (found["OP"], found["OR"], found["OF1"]) == pytest.approx(micro, rel=1e-12)
    assert (found["CP"], found["CR"]) == pytest.approx(macro, rel=1e-12)


def test_undefined_ratios_are_those_of_scikit_learn_with_zero_division_nan():
    target_NC = np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1]])
    predicted_NC = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    counts = count(target_NC, predicted_NC)
    precision_C, recall_C, f1_C, _ = precision_recall_fscore_support(target_NC, predicted_NC, zero_division=np.nan)
    np.testing.assert_allclose(counts.precision_C, precision_C)
    np.testing.assert_allclose(counts.recall_C, recall_C)
    np.testing.assert_allclose(counts.f1_C, f1_C)


def ml_gcn(predicted_NC: np.ndarray, target_NC: np.ndarray) -> dict[str, float]:
    """`AveragePrecisionMeter.evaluation` of ML-GCN's util.py."""
    num_classes = target_NC.shape[1]
    num_right, num_predicted, num_true = np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes)
    for k in range(num_classes):
        num_true[k] = np.sum(target_NC[:, k] == 1)
        num_predicted[k] = np.sum(predicted_NC[:, k])
        num_right[k] = np.sum(target_NC[:, k] * predicted_NC[:, k])
    op, overall_recall = np.sum(num_right) / np.sum(num_predicted), np.sum(num_right) / np.sum(num_true)
    cp, cr = np.sum(num_right / num_predicted) / num_classes, np.sum(num_right / num_true) / num_classes
    of1 = (2 * op * overall_recall) / (op + overall_recall)
    return {"CP": cp, "CR": cr, "CF1": (2 * cp * cr) / (cp + cr), "OP": op, "OR": overall_recall, "OF1": of1}


def test_all_and_top_3_are_ml_gcns(table):
    target_NC, probability_NC = table
    everything = decide(probability_NC, threshold_C=np.full(8, 0.5))
    assert values(count(target_NC, everything)) == pytest.approx(ml_gcn(everything, target_NC), rel=1e-12)

    top = np.zeros(target_NC.shape, bool)  # `overall_topk`: the loop over images and their three highest
    for row, probability_C in enumerate(probability_NC):
        for column in sorted(range(8), key=lambda column: -probability_C[column])[:3]:
            top[row, column] = probability_C[column] >= 0.5
    assert (top != everything).any()
    found = values(
        count(target_NC, decide_top(decide(probability_NC, threshold_C=np.full(8, 0.5)), logit_NC=probability_NC)), prefix="top3_"
    )
    assert found == pytest.approx({f"top3_{name}": value for name, value in ml_gcn(top, target_NC).items()}, rel=1e-12)


def test_a_class_that_is_never_predicted_counts_in_ml_gcns_code_as_one_wrong_prediction():
    """Its `Np[Np == 0] = 1`, as the reference states it: class 2 is never predicted."""
    predicted_NC = decide(PROBABILITIES, threshold_C=HALF)
    known_NC = np.maximum(TARGETS, 0)
    ours, num_predicted_C = values(count(known_NC, predicted_NC)), predicted_NC.sum(axis=0)
    num_right_C = (predicted_NC & (known_NC == 1)).sum(axis=0)
    theirs_C = np.maximum(num_predicted_C, 1)
    assert num_predicted_C.tolist() == [3, 3, 0]
    assert ours["OP"] == num_right_C.sum() / (theirs_C.sum() - 1)
    assert ours["CP"] == pytest.approx((num_right_C / theirs_C).sum() / 2)
    nothing = np.zeros((4, 3), bool)
    assert f1_score(known_NC, nothing, average="micro", zero_division=np.nan) == 0
    assert math.isnan(values(count(known_NC, nothing))["OF1"])


def test_nothing_predicted_has_recall_zero_and_no_precision():
    averages = averages_of(count(TARGETS, np.zeros((4, 3), bool)))
    assert (averages["CR"].value, averages["OR"].value) == (0, 0)
    for name in ("CP", "CF1", "OP", "OF1"):
        assert math.isnan(averages[name].value)
    assert (averages["CP"].count, averages["CF1"].count, averages["OP"].count) == (0, 0, 0)


def test_nothing_known_is_nan_everywhere_and_counts_nothing():
    counts = count(np.full((4, 3), -1), np.ones((4, 3), bool))
    for value_C in (counts.precision_C, counts.recall_C, counts.f1_C, counts.accuracy_C):
        assert np.isnan(value_C).all()
    for mean in averages_of(counts).values():
        assert math.isnan(mean.value)
        assert mean.count == 0


def test_removing_unknown_labels_changes_no_count(table):
    target_NC, probability_NC = table
    unknown = np.random.default_rng(1).random(target_NC.shape) < 0.4
    predicted_NC = decide(probability_NC, threshold_C=np.full(8, 0.5))
    counts = count(np.where(unknown, -1, target_NC), predicted_NC)
    for column in range(8):
        remaining = ~unknown[:, column]
        alone = count(target_NC[remaining][:, [column]], predicted_NC[remaining][:, [column]])
        for name in ("tp_C", "fp_C", "fn_C", "tn_C"):
            assert getattr(counts, name)[column] == getattr(alone, name)[0]


def test_the_harmonic_mean_of_two_zeros_is_zero_and_of_nan_is_nan():
    assert harmonic_mean(0.0, 0.0) == 0
    assert harmonic_mean(1.0, 0.5) == pytest.approx(2 / 3)
    assert math.isnan(harmonic_mean(math.nan, 0.5))
    assert math.isnan(harmonic_mean(0.0, math.nan))


def test_averages_per_image_by_hand():
    """The third image has no label and no prediction, the fourth no known label."""
    target_NC = np.array([[1, 1, 0], [1, -1, 0], [0, 0, -1], [-1, -1, -1]])
    predicted_NC = np.array([[True, False, True], [True, True, False], [False, False, True], [True, False, False]])
    means = averages_per_image(target_NC, predicted_NC)
    assert {name: (mean.value, mean.count, mean.unit) for name, mean in means.items()} == {
        "exact_match": (2 / 3, 3, "images"),
        "samples_jaccard": (pytest.approx((1 / 3 + 1 + 1) / 3), 3, "images"),
        "samples_F1": (pytest.approx((1 / 2 + 1 + 1) / 3), 3, "images"),
        "set_size": (1, 3, "images"),
    }
    assert all(math.isnan(mean.value) for mean in averages_per_image(target_NC[3:], predicted_NC[3:]).values())
    np.testing.assert_array_equal(false_negative_rates(target_NC, predicted_NC), [1 / 2, 0, math.nan, math.nan])


@pytest.mark.parametrize("seed", range(5))
def test_averages_per_image_are_scikit_learns(seed: int):
    rng = np.random.default_rng(seed)
    target_NC, predicted_NC = (rng.random((200, 6)) < share for share in (0.2, 0.25))
    values = {name: mean.value for name, mean in averages_per_image(target_NC.astype(int), predicted_NC).items()}
    assert values["exact_match"] == pytest.approx(accuracy_score(target_NC, predicted_NC))
    assert values["samples_jaccard"] == pytest.approx(jaccard_score(target_NC, predicted_NC, average="samples", zero_division=1))
    with_label_N = target_NC.any(axis=1)
    recall = recall_score(target_NC[with_label_N], predicted_NC[with_label_N], average="samples")
    assert np.nanmean(false_negative_rates(target_NC.astype(int), predicted_NC)) == pytest.approx(1 - recall)
    assert values["samples_F1"] == pytest.approx(f1_score(target_NC, predicted_NC, average="samples", zero_division=1))
