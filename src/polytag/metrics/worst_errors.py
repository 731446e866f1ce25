"""The worst errors of a run over all classes: known labels that a decision contradicts, the highest loss first, one per image.

Shapes: N images, C classes.
"""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import PRESENT, UNKNOWN, Predictions
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide

_AT_FIRST, _MORE = 8, 16  # times the wanted errors: how many images are looked at first, and how many times as many then
_BLOCK = 16_384  # images whose logits fit the processor's cache


@dataclass(frozen=True, kw_only=True)
class WorstError:
    """A label that the decision contradicts: its row and column, and the binary cross-entropy of the label."""

    row: int
    column: int
    loss: float


def worst_errors(predictions: Predictions, threshold_C: np.ndarray, *, top: int) -> tuple[WorstError, ...]:
    """The `top` images with the highest loss of a wrongly decided label, each with that label; ties by id, then by class.

    Empty for ranks, which decide nothing.
    """
    if not predictions.has_probabilities or top < 1:
        return ()
    most_N, num = _most_wrong(predictions), _AT_FIRST * top
    while True:
        rows = np.arange(len(most_N))
        if num < len(rows):
            rows = np.flatnonzero(most_N >= np.partition(most_N, -num)[-num])
        found = _errors_of(predictions, rows, threshold_C)[:top]
        # the other images are less wrong than each of these, whatever their decisions
        if len(rows) == len(most_N) or (len(found) == top and _loss(most_N[rows].min()) <= found[-1].loss):
            return tuple(found)
        num *= _MORE


def _most_wrong(predictions: Predictions) -> np.ndarray:
    """How far the most wrong logit of each image is on the wrong side of 0, whatever the threshold; -inf without a label."""
    most_N = np.empty(len(predictions), predictions.logit_NC.dtype)
    for start in range(0, len(predictions), _BLOCK):
        block = slice(start, start + _BLOCK)
        most_N[block] = _wrong_by(predictions.target_NC[block], predictions.logit_NC[block]).max(axis=1)
    return most_N


def _wrong_by(target_NC: np.ndarray, logit_NC: np.ndarray) -> np.ndarray:
    wrong_by_NC = np.where(target_NC == PRESENT, -logit_NC, logit_NC)
    wrong_by_NC[target_NC == UNKNOWN] = -np.inf
    return wrong_by_NC


def _errors_of(predictions: Predictions, rows: np.ndarray, threshold_C: np.ndarray) -> list[WorstError]:
    """The worst error of each of these images that has one, the highest loss first."""
    target_nC, given_NC = predictions.target_NC[rows], predictions.given_probability_NC
    probability_nC = sigmoid(predictions.logit_NC[rows]) if given_NC is None else given_NC[rows]
    is_error_nC = decide(probability_nC, threshold_C=threshold_C) != (target_nC == PRESENT)
    wrong_by_nC = np.where(is_error_nC, _wrong_by(target_nC, predictions.logit_NC[rows]), -np.inf)
    column_n = wrong_by_nC.argmax(axis=1)
    wrong_by_n = wrong_by_nC[np.arange(len(rows)), column_n]
    places = np.flatnonzero(wrong_by_n > -np.inf).tolist()
    places.sort(key=lambda place: (-wrong_by_n[place], predictions.ids[rows[place]]))
    return [WorstError(row=int(rows[place]), column=int(column_n[place]), loss=_loss(wrong_by_n[place])) for place in places]


def _loss(wrong_by: float) -> float:
    """Binary cross-entropy of a label whose logit is so far on the wrong side."""
    return float(np.logaddexp(0, np.float64(wrong_by)))
