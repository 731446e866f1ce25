"""Evaluation without leakage: a difference by hand, none where nothing changes, and an interval that knows the pairs."""

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.leakage import evaluate_without_leakage


def table(target_NC, logit_NC) -> Predictions:
    target_NC = np.asarray(target_NC)
    return Predictions(
        ids=tuple(f"p{row}" for row in range(len(target_NC))),
        logit_NC=np.asarray(logit_NC, float),
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(f"c{column}" for column in range(target_NC.shape[1]))),
        source="a table",
    )


def random_table(seed: int = 0, num_images: int = 300) -> Predictions:
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([-1, 0, 1], (num_images, 4), p=[0.1, 0.6, 0.3])
    return table(target_NC, target_NC + rng.normal(0, 1.5, target_NC.shape))


def test_by_hand():
    """Scores 4 3 2 1, truth 1 0 1 0: AP = (1 + 2/3) / 2. Without the first: 0 1 0, AP = 1/2."""
    found = evaluate_without_leakage(table([[1], [0], [1], [0]], [[4], [3], [2], [1]]), np.array([True, False, False, False]))
    assert found.metrics.mean_ap.value == pytest.approx(1 / 2)
    assert found.difference.value == pytest.approx(5 / 6 - 1 / 2)
    assert (found.difference.count, found.metrics.num_images) == (1, 3)


def test_it_is_the_difference_of_the_two_evaluations():
    predictions = random_table()
    left_out = np.arange(300) % 7 == 0
    found = evaluate_without_leakage(predictions, left_out)
    both = evaluate_predictions(predictions).mean_ap.value, evaluate_predictions(predictions.take(~left_out)).mean_ap.value
    assert found.metrics.mean_ap.value == both[1]
    assert found.difference.value == pytest.approx(both[0] - both[1], abs=1e-9)
    assert found.difference.low < found.difference.value < found.difference.high


def test_without_leakage_the_difference_is_zero():
    difference = evaluate_without_leakage(random_table(), np.zeros(300, bool), num_replicates=50).difference
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_perfect_leakage_is_distinguished_from_chance():
    predictions = random_table(1)
    logit_NC = predictions.logit_NC.copy()
    leaked = np.arange(300) < 60
    logit_NC[leaked] = np.where(predictions.target_NC[leaked] == 1, 5, -5)
    difference = evaluate_without_leakage(table(predictions.target_NC, logit_NC), leaked).difference
    assert 0 < difference.low < difference.value < difference.high


def test_a_class_whose_positives_all_go_is_in_neither_mean():
    found = evaluate_without_leakage(
        table([[1, 1], [0, 0], [1, 0], [0, 0]], [[4, 1], [3, 2], [2, 3], [1, 4]]), np.array([True, False, False, False])
    )
    assert found.difference.count == 1
    assert found.difference.value == pytest.approx(5 / 6 - 1 / 2)


def test_every_image_leaked():
    with pytest.raises(PredictionsError) as caught:
        evaluate_without_leakage(random_table(), np.ones(300, bool))
    assert str(caught.value) == (
        "every scored image leaked: none remains to evaluate\n  where: a table\n  got: 300 leaked images\n"
        "  expected: at least one scored image that is not in the training data"
    )
