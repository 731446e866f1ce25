"""Precision-recall curves as drawable steps: few points, with exactly the average precision as the area under them."""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import PRESENT, UNKNOWN, Predictions
from polytag.metrics.curves import precision_recall

MAX_STEPS = 120


@dataclass(frozen=True, kw_only=True, eq=False)
class StepCurve:
    """Precision over recall: `precision_S[s]` applies from the previous recall (0 at first) to `recall_S[s]`.

    prevalence  share of positives among the known labels: the precision of a ranking by chance
    """

    recall_S: np.ndarray
    precision_S: np.ndarray
    prevalence: float


def step_curve(predictions: Predictions, *, class_name: str) -> StepCurve | None:
    """The curve of a class, or None without an average precision, which is the area under it.

    With more than MAX_STEPS steps, neighbours are merged into MAX_STEPS steps of equal width; the area does not change.
    """
    column = predictions.label_set.index(class_name)
    target_N = predictions.target_NC[:, column]
    recall, precision, _ = precision_recall(target_N, predictions.logit_NC[:, column])
    if not len(recall):
        return None
    if len(recall) > MAX_STEPS:
        area = np.cumsum(np.diff(recall, prepend=0.0) * precision)
        edges = np.linspace(0, 1, MAX_STEPS + 1)
        area_at_edge = np.interp(edges, np.concatenate(([0.0], recall)), np.concatenate(([0.0], area)))
        recall, precision = edges[1:], np.diff(area_at_edge) * MAX_STEPS
    prevalence = float((target_N == PRESENT).sum() / (target_N != UNKNOWN).sum())
    return StepCurve(recall_S=recall, precision_S=precision, prevalence=prevalence)
