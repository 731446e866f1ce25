"""What a class's decisions would be at any threshold: counts for the slider, curves for the charts. Arrays in, arrays out.

Shapes: N images, T thresholds.
"""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Predictions
from polytag.inspector.browse.ranking import probability_of
from polytag.logits import sigmoid
from polytag.metrics.curves import precision_recall

NUM_STEPS = 1000
NUM_BINS = 40
_MAX_POINTS = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Operating:
    """Counts of one class at T ascending thresholds: 0, 0.001 .. 1, and the class's own.

    present_T, absent_T, unknown_T   images scored strictly above the threshold, by what they are labelled
    tail_right_T                     of the known ones above it, those that the class's own threshold decides rightly: over
                                     present + absent this is the tail accuracy, and from the own threshold up it is the precision
    num_present, num_absent, num_unknown   all there are
    """

    threshold_T: np.ndarray
    present_T: np.ndarray
    absent_T: np.ndarray
    unknown_T: np.ndarray
    tail_right_T: np.ndarray
    num_present: int
    num_absent: int
    num_unknown: int


def operating(predictions: Predictions, column: int, *, own_threshold: float) -> Operating:
    """Every number the slider shows. Predictions must have probabilities."""
    assert predictions.has_probabilities
    threshold_T = np.unique(np.append(np.arange(NUM_STEPS + 1) / NUM_STEPS, own_threshold))
    probability_N, target_N = probability_of(predictions, column), predictions.target_NC[:, column]
    above = {label: _num_above(probability_N[target_N == label], threshold_T) for label in (PRESENT, ABSENT, UNKNOWN)}
    right_N = (target_N >= 0) & ((probability_N > own_threshold) == (target_N == PRESENT))
    return Operating(
        threshold_T=threshold_T,
        present_T=above[PRESENT],
        absent_T=above[ABSENT],
        unknown_T=above[UNKNOWN],
        tail_right_T=_num_above(probability_N[right_N], threshold_T),
        num_present=int((target_N == PRESENT).sum()),
        num_absent=int((target_N == ABSENT).sum()),
        num_unknown=int((target_N == UNKNOWN).sum()),
    )


def curve_points(predictions: Predictions, column: int) -> list[dict[str, float]]:
    """At most 400 points of the precision-recall curve, recall ascending, each with the score it is cut at; [] without a positive.

    Where there are more, evenly spaced ones are kept, the last among them.
    """
    recall, precision, score = precision_recall(predictions.target_NC[:, column], predictions.logit_NC[:, column])
    if predictions.has_probabilities:
        score = sigmoid(score)
    kept = np.unique(np.linspace(0, len(recall) - 1, _MAX_POINTS).round().astype(int)) if len(recall) else []
    return [
        {"recall": round(float(recall[i]), 5), "precision": round(float(precision[i]), 5), "score": round(float(score[i]), 5)}
        for i in kept
    ]


def histogram(predictions: Predictions, column: int) -> list[dict[str, float | str]]:
    """For images labelled with the class and without it: the share and number of each in 40 bins of its scores.

    Probabilities are binned from 0 to 1, ranks from the lowest to the highest.
    """
    target_N = predictions.target_NC[:, column]
    if predictions.has_probabilities:
        value_N, low, high = probability_of(predictions, column), 0.0, 1.0
    else:
        value_N = predictions.logit_NC[:, column].astype(np.float64)
        low, high = float(value_N.min()), float(value_N.max())
    edges = np.linspace(low, high if high > low else low + 1, NUM_BINS + 1)
    found: list[dict[str, float | str]] = []
    for label, name in ((PRESENT, "labelled with it"), (ABSENT, "labelled without it")):
        counts, _ = np.histogram(value_N[target_N == label], edges)
        total = int(counts.sum())
        found += [
            {
                "from": float(edges[b]),
                "to": float(edges[b + 1]),
                "label": name,
                "images": int(counts[b]),
                "share": counts[b] / total,
            }
            for b in range(NUM_BINS)
            if total
        ]
    return found


def _num_above(value_N: np.ndarray, threshold_T: np.ndarray) -> np.ndarray:
    return len(value_N) - np.searchsorted(np.sort(value_N), threshold_T, side="right")
