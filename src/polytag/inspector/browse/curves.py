"""Computes the numbers of one class at every threshold, and the curves of its charts. Arrays in, arrays out.

Shapes: N images, T thresholds, B bins.
"""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Predictions
from polytag.inspector.browse.ranking import probability_of
from polytag.logits import sigmoid
from polytag.metrics.curves import precision_recall
from polytag.metrics.decisions import num_predicted
from polytag.metrics.proportions import wilson

NUM_STEPS = 1000
NUM_BINS = 100
_MAX_POINTS = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Proportion:
    """A proportion at T thresholds with its 95% Wilson interval; NaN where its denominator is zero."""

    value_T: np.ndarray
    low_T: np.ndarray
    high_T: np.ndarray

    @classmethod
    def of(cls, numerator_T: np.ndarray, denominator_T: np.ndarray) -> "Proportion":
        with np.errstate(invalid="ignore", divide="ignore"):
            value_T = numerator_T / denominator_T
        low_T, high_T = wilson(numerator_T, denominator_T)
        return cls(value_T=value_T, low_T=low_T, high_T=high_T)


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdSweep:
    """Counts and proportions of one class at T ascending thresholds: 0, 0.001 to 1, the class's own, and one more if wanted.

    present_T, absent_T, unknown_T   images that count as predicted at the threshold, by their label
    precision, recall   of the images above the threshold
    tail_accuracy       of the known images above the threshold, the share that the class's own threshold decides correctly. From
                        the class's own threshold up it equals the precision
    num_present         images labelled with the class
    """

    threshold_T: np.ndarray
    present_T: np.ndarray
    absent_T: np.ndarray
    unknown_T: np.ndarray
    precision: Proportion
    recall: Proportion
    tail_accuracy: Proportion
    num_present: int


def threshold_sweep(predictions: Predictions, column: int, *, own_threshold: float, also: float | None = None) -> ThresholdSweep:
    """Return every number that the page shows while the threshold moves, and at `also`. The predictions must have probabilities."""
    assert predictions.has_probabilities
    further = [own_threshold] if also is None else [own_threshold, also]
    threshold_T = np.unique(np.append(np.arange(NUM_STEPS + 1) / NUM_STEPS, further))
    probability_N, target_N = probability_of(predictions, column), predictions.target_NC[:, column]
    above = {label: num_predicted(probability_N[target_N == label], threshold_T) for label in (PRESENT, ABSENT, UNKNOWN)}
    num_present = int((target_N == PRESENT).sum())
    known_T = above[PRESENT] + above[ABSENT]
    (own,) = np.flatnonzero(threshold_T == own_threshold)
    is_from_own_T = np.arange(len(threshold_T)) >= own
    right_T = np.where(is_from_own_T, above[PRESENT], above[PRESENT][own] + above[ABSENT] - above[ABSENT][own])
    return ThresholdSweep(
        threshold_T=threshold_T,
        present_T=above[PRESENT],
        absent_T=above[ABSENT],
        unknown_T=above[UNKNOWN],
        precision=Proportion.of(above[PRESENT], known_T),
        recall=Proportion.of(above[PRESENT], np.full(len(threshold_T), num_present)),
        tail_accuracy=Proportion.of(right_T, known_T),
        num_present=num_present,
    )


def curve_points(predictions: Predictions, column: int) -> list[tuple[float, float, float]]:
    """Return at most 400 points (recall, precision, score) of the precision-recall curve in ascending recall.

    A longer curve is thinned evenly and keeps its last point. Without a positive or without a negative the
    list is empty.
    """
    recall, precision, score = precision_recall(predictions.target_NC[:, column], predictions.logit_NC[:, column])
    if predictions.has_probabilities:
        score = sigmoid(score)
    indices = np.unique(np.linspace(0, len(recall) - 1, _MAX_POINTS).round().astype(int)) if len(recall) else []
    return [(round(float(recall[i]), 5), round(float(precision[i]), 5), round(float(score[i]), 5)) for i in indices]


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Numbers of images in B equal bins from `low` to `high`, the last with its upper end, by their label."""

    low: float
    high: float
    present_B: np.ndarray
    absent_B: np.ndarray
    unknown_B: np.ndarray


def histogram(predictions: Predictions, column: int) -> Histogram:
    """Return 100 bins of the scores of one class: probabilities from 0 to 1, ranks from the lowest to the highest."""
    target_N = predictions.target_NC[:, column]
    low, high = 0.0, 1.0
    if predictions.has_probabilities:
        value_N = probability_of(predictions, column)
    else:
        value_N = predictions.logit_NC[:, column].astype(np.float64)
        low, high = (float(value_N.min()), float(value_N.max())) if len(value_N) else (0.0, 1.0)
        high = high if high > low else low + 1
    counts = {label: np.histogram(value_N[target_N == label], NUM_BINS, (low, high))[0] for label in (PRESENT, ABSENT, UNKNOWN)}
    return Histogram(low=low, high=high, present_B=counts[PRESENT], absent_B=counts[ABSENT], unknown_B=counts[UNKNOWN])
