"""Curves of one class, for drawing."""

import numpy as np

from polytag.metrics.ap import rank


def precision_recall(target_N: np.ndarray, score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The precision-recall curve of one class: recall (ascending), precision, and the threshold of each point.

    One point for every distinct score of a positive. Any other threshold has the recall of the point before it at a lower
    precision, and changes no average precision. Empty without a positive or
    without a negative, as AP is then undefined.
    """
    ranking = rank(target_N, score_N)
    if not ranking.is_defined:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    return ranking.recall_P, ranking.precision_P, ranking.threshold_P
