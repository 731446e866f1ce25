"""The worst errors against a sort of every label, with ties, unknown labels, thresholds and given probabilities."""

import math

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.metrics.worst_errors import worst_errors


def predictions_of(logit_NC: np.ndarray, target_NC: np.ndarray, **more: object) -> Predictions:
    names = tuple(f"class {column}" for column in range(logit_NC.shape[1]))
    ids = tuple(f"{(7 * row) % len(logit_NC):04}" for row in range(len(logit_NC)))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC.astype(np.int8), label_set=LabelSet(names=names), **more)


def sorted_labels(predictions: Predictions, threshold_C: np.ndarray) -> list[tuple[float, str]]:
    """(loss, id) of every image with a wrong decision, by its worst, in the order that is asked for."""
    found: dict[int, float] = {}
    for row, column in np.ndindex(predictions.target_NC.shape):
        target, probability = predictions.target_NC[row, column], float(predictions.probability_NC[row, column])
        is_predicted = probability > threshold_C[column] or threshold_C[column] == 0
        if target != -1 and is_predicted != (target == 1):
            logit = float(predictions.logit_NC[row, column])
            found[row] = max(found.get(row, 0.0), math.log1p(math.exp(-logit if target == 1 else logit)))
    return sorted(((loss, predictions.ids[row]) for row, loss in found.items()), key=lambda each: (-each[0], each[1]))


@pytest.mark.parametrize("thresholds", [(0.5, 0.5, 0.5), (0.05, 0.9, 1.0), (0.0, 0.99, 0.3)])
@pytest.mark.parametrize("decimals", [0, 6])
def test_they_are_the_first_of_all_labels_in_order(thresholds: tuple[float, ...], decimals: int):
    rng = np.random.default_rng(decimals)
    target_NC = rng.integers(-1, 2, (200, 3))
    logit_NC = np.round(rng.normal(size=target_NC.shape) * 3, decimals) + 0.0
    for scale in ({}, {"scale": "probability", "given_probability_NC": 1 / (1 + np.exp(-logit_NC.astype(np.float64)))}):
        predictions = predictions_of(logit_NC, target_NC, **scale)
        expected = sorted_labels(predictions, np.array(thresholds))
        for top in (1, 8, 60, 500):
            found = worst_errors(predictions, np.array(thresholds), top=top)
            assert [predictions.ids[each.row] for each in found] == [name for _, name in expected[:top]]
            assert [each.loss for each in found] == pytest.approx([loss for loss, _ in expected[:top]])
            assert len({each.row for each in found}) == len(found)


def test_right_decisions_ranks_and_unknown_labels_are_no_errors():
    logit_NC = np.array([[3.0], [-3.0]])
    assert worst_errors(predictions_of(logit_NC, np.array([[1], [0]])), np.array([0.5]), top=8) == ()
    assert worst_errors(predictions_of(logit_NC, np.array([[-1], [-1]])), np.array([0.5]), top=8) == ()
    assert worst_errors(predictions_of(logit_NC, np.array([[0], [1]]), scale="rank"), np.array([0.5]), top=8) == ()
