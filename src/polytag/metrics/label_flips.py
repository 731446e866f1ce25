"""What one label would change: the average precision of a class after the flip of a single label, exactly, for many labels at once.

Shapes: K labels of one class, P distinct scores of its positives. A flip makes a present label absent, and an absent or an unknown
one present. AP is a sum over the positives' scores, and a flip changes each term by what depends on that term alone; so prefix sums
of three kinds of terms hold the AP after every flip, and no label is ranked again.
"""

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.metrics.ap import mean_over_defined, ordered_integers, rank


def ap_after_flips(target_N: np.ndarray, score_N: np.ndarray, row_K: np.ndarray) -> np.ndarray:
    """AP of the class, float64 K, after the flip of the label of each row alone; NaN where the class is undefined then."""
    ranking = rank(target_N, score_N)
    tp_P, predicted_P = ranking.tp_P, ranking.predicted_P
    gain_P = np.diff(tp_P, prepend=0)
    as_is = _prefix_sums(gain_P * tp_P / predicted_P)
    each_tp = _prefix_sums(gain_P / predicted_P)  # what one true positive more at each threshold adds
    one_more = _prefix_sums(gain_P * (tp_P + 1) / (predicted_P + 1))  # with an image more, which is a true positive

    key_N = ordered_integers(score_N)
    key_K, label_K = key_N[row_K], target_N[row_K]
    known = np.sort(key_N[target_N != UNKNOWN])
    positive = np.unique(key_N[target_N == PRESENT])  # ascending: the thresholds of the ranking, backwards
    below_K = np.searchsorted(positive, key_K, side="left")
    first_K = len(positive) - np.searchsorted(positive, key_K, side="right")  # thresholds above the label's score
    last_K = len(positive) - below_K  # and those at it, of which there is one at most
    tp_before_K, tp_K = (np.concatenate([[0], tp_P])[end_K] for end_K in (first_K, last_K))
    predicted_K = len(known) - np.searchsorted(known, key_K, side="left") + (label_K == UNKNOWN)

    step_K = np.where(label_K == PRESENT, -1, 1)
    at_K = (tp_K - tp_before_K + step_K) * (tp_K + step_K) / predicted_K
    rest_K = np.where(
        label_K == UNKNOWN, one_more[-1] - one_more[last_K], as_is[-1] - as_is[last_K] + step_K * (each_tp[-1] - each_tp[last_K])
    )
    num_positives_K = ranking.num_positives + step_K
    num_negatives_K = ranking.num_negatives - (label_K == ABSENT) + (label_K == PRESENT)
    is_defined_K = (num_positives_K > 0) & (num_negatives_K > 0)
    return np.where(is_defined_K, (as_is[first_K] + at_K + rest_K) / np.maximum(num_positives_K, 1), np.nan)


def map_changes(ap_C: np.ndarray, column: int, ap_after_K: np.ndarray) -> np.ndarray:
    """Change of mAP, float64 K, where the AP of one class became each of these; NaN where mAP is undefined before or after.

    A class that becomes defined, or undefined, changes the number of classes that mAP is the mean of.
    """
    others = np.delete(ap_C, column)
    others = others[~np.isnan(others)]
    is_defined_K = ~np.isnan(ap_after_K)
    num_K = len(others) + is_defined_K
    sum_K = others.sum() + np.where(is_defined_K, ap_after_K, 0)
    return np.where(num_K > 0, sum_K / np.maximum(num_K, 1), np.nan) - mean_over_defined(ap_C)


def _prefix_sums(value_P: np.ndarray) -> np.ndarray:
    """float64 P + 1: the sum of the first p values, from 0 on."""
    return np.concatenate([[0.0], np.cumsum(value_P)])
