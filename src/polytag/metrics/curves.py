"""Curves of one class, for drawing."""

import numpy as np

from polytag.metrics.ap import rank


def precision_recall(target_N: np.ndarray, score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The curve of one class: recall (ascending), precision, and the score each point is cut at.

    One point for every distinct score of a positive: other thresholds lie straight below the point before them and change no
    average precision. Empty without a positive.
    """
    ranking = rank(target_N, score_N)
    if not ranking.num_positives:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    return ranking.recall_P, ranking.precision_P, ranking.threshold_P
