"""Computes the numbers of one class at every threshold, and the curves of its charts. Arrays in, arrays out.

Shapes: N images, T thresholds.
"""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Predictions
from polytag.inspector.browse.ranking import probability_of
from polytag.inspector.words import TRUTH_TEXT
from polytag.logits import sigmoid
from polytag.metrics.curves import precision_recall
from polytag.metrics.decisions import decide, num_predicted
from polytag.metrics.proportions import wilson

NUM_STEPS = 1000
NUM_BINS = 40
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
    """Counts and proportions of one class at T ascending thresholds: 0, 0.001 to 1, and the class's own threshold.

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


def threshold_sweep(predictions: Predictions, column: int, *, own_threshold: float) -> ThresholdSweep:
    """Return every number that the page shows while the threshold moves. The predictions must have probabilities."""
    assert predictions.has_probabilities
    threshold_T = np.unique(np.append(np.arange(NUM_STEPS + 1) / NUM_STEPS, own_threshold))
    probability_N, target_N = probability_of(predictions, column), predictions.target_NC[:, column]
    above = {label: num_predicted(probability_N[target_N == label], threshold_T) for label in (PRESENT, ABSENT, UNKNOWN)}
    is_right_N = (target_N >= 0) & (decide(probability_N, threshold_C=own_threshold) == (target_N == PRESENT))
    num_present = int((target_N == PRESENT).sum())
    known_T = above[PRESENT] + above[ABSENT]
    return ThresholdSweep(
        threshold_T=threshold_T,
        present_T=above[PRESENT],
        absent_T=above[ABSENT],
        unknown_T=above[UNKNOWN],
        precision=Proportion.of(above[PRESENT], known_T),
        recall=Proportion.of(above[PRESENT], np.full(len(threshold_T), num_present)),
        tail_accuracy=Proportion.of(num_predicted(probability_N[is_right_N], threshold_T), known_T),
        num_present=num_present,
    )


def curve_points(predictions: Predictions, column: int) -> list[dict[str, float]]:
    """Return at most 400 points of the precision-recall curve in ascending recall, each with the score it is cut at.

    A longer curve is thinned evenly and keeps its last point. Without a positive or without a negative the
    list is empty.
    """
    recall, precision, score = precision_recall(predictions.target_NC[:, column], predictions.logit_NC[:, column])
    if predictions.has_probabilities:
        score = sigmoid(score)
    indices = np.unique(np.linspace(0, len(recall) - 1, _MAX_POINTS).round().astype(int)) if len(recall) else []
    return [
        {"recall": round(float(recall[i]), 5), "precision": round(float(precision[i]), 5), "score": round(float(score[i]), 5)}
        for i in indices
    ]


def histogram(predictions: Predictions, column: int) -> list[dict[str, float | str]]:
    """Return 40 bins of the scores of images labelled with the class, and 40 of images labelled without it.

    Each bin has its bounds, its number of images and their share of all images with that label. Probabilities are binned from 0 to
    1, ranks from the lowest to the highest.
    """
    target_N = predictions.target_NC[:, column]
    if predictions.has_probabilities:
        value_N, low, high = probability_of(predictions, column), 0.0, 1.0
    else:
        value_N = predictions.logit_NC[:, column].astype(np.float64)
        low, high = float(value_N.min()), float(value_N.max())
    edges = np.linspace(low, high if high > low else low + 1, NUM_BINS + 1)
    bins: list[dict[str, float | str]] = []
    for label in (PRESENT, ABSENT):
        counts, _ = np.histogram(value_N[target_N == label], edges)
        total = int(counts.sum())
        bins += [
            {
                "from": float(edges[b]),
                "to": float(edges[b + 1]),
                "label": TRUTH_TEXT[label],
                "images": int(counts[b]),
                "share": counts[b] / total,
            }
            for b in range(NUM_BINS)
            if total
        ]
    return bins
