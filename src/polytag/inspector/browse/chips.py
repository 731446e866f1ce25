"""Chooses the classes that a cell of the ranking shows beside its own: what is labelled, predicted, or both.

Shapes: n images, C classes.
"""

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Predictions
from polytag.inspector.browse.answers import Chip
from polytag.metrics.decisions import decide

MAX_CHIPS = 8
"""Classes of one image. An answer stays small also where every image has hundreds of labels or predictions."""

_SHOWN = ("false_negative", "false_positive", "true_positive", "unknown", "undecided")
_TO_KEEP = np.array([0, 2, 1, 3, 1])  # of more than fit, labels stay: low thresholds predict hundreds of classes


def chips_of(taken: Predictions, *, threshold_C: np.ndarray, column: int) -> list[tuple[list[Chip], int]]:
    """Return for each image at most MAX_CHIPS other classes than `column`, errors first, and the number of those left out.

    A class is shown where it is labelled present, or predicted at its own threshold; "undecided" where the scores are ranks.
    """
    is_present_nC, is_unknown_nC = taken.target_NC == PRESENT, taken.target_NC == UNKNOWN
    kind_nC = np.full(is_present_nC.shape, -1, np.int8)
    if taken.has_probabilities:
        is_predicted_nC = decide(taken.probability_NC, threshold_C=threshold_C)
        kind_nC[is_present_nC] = _SHOWN.index("false_negative")
        kind_nC[is_present_nC & is_predicted_nC] = _SHOWN.index("true_positive")
        kind_nC[is_predicted_nC & (taken.target_NC == ABSENT)] = _SHOWN.index("false_positive")
        kind_nC[is_predicted_nC & is_unknown_nC] = _SHOWN.index("unknown")
    else:
        kind_nC[is_present_nC] = _SHOWN.index("undecided")
    kind_nC[:, column] = -1
    names = taken.label_set.names
    found: list[tuple[list[Chip], int]] = []
    for row in range(len(taken)):
        kind_C, logit_C = kind_nC[row], taken.logit_NC[row]
        columns = np.flatnonzero(kind_C >= 0)
        kept = columns[np.lexsort((columns, -logit_C[columns], _TO_KEEP[kind_C[columns]]))][:MAX_CHIPS]
        shown = kept[np.argsort(kind_C[kept], kind="stable")].tolist()
        chips = [Chip(name=names[c], outcome=_SHOWN[kind_C[c]]) for c in shown]  # pyright: ignore[reportArgumentType]
        found.append((chips, len(columns) - len(kept)))
    return found
