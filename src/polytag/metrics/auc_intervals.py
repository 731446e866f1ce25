"""95% intervals of ROC AUC: of each class, and of their mean.

Shapes: N images, G groups (each image one, where there are none), C classes. docs/reference/metrics.md, section Intervals, has
their measured coverage.

ROC AUC is a mean over positives and over negatives, so the influence of each image on it is known and no bootstrap is needed
(DeLong, DeLong, Clarke-Pearson 1988). Few positives tell too little about the spread, and nothing where they are all above the
negatives. So an interval reaches at least as far as one whose variance comes from the value (Hanley, McNeil 1982; Newcombe 2006).
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from polytag.logits import sigmoid
from polytag.machine import num_cores
from polytag.metrics.groups import Groups, effective_number
from polytag.metrics.intervals import Intervals
from polytag.metrics.proportions import Z

_AT_ONCE = 64  # classes whose influences are in memory together
_ROUNDING = 1e-12


def auc_intervals(
    target_NC: np.ndarray,
    score_NC: np.ndarray,
    *,
    auc_C: np.ndarray,
    groups: Groups | None = None,
    weight_N: np.ndarray | None = None,
) -> Intervals:
    """Intervals of the ROC AUC of each class, `auc_C`, and of its mean over the classes that have one; NaN for a single group.

    The distances of the classes are added as those of correlated errors (Zou, Donner 2008), with the correlations of their
    influences, to at least 1.96 standard deviations of the mean, which is less skewed than a class. A class whose influences are
    all 0, since no positive is below a negative, is independent of the others. With weights, above 0 for images with a known label,
    positives and negatives count as Kish's effective number of them.
    """
    columns = np.flatnonzero(~np.isnan(auc_C))
    low_C, high_C = np.full(len(auc_C), np.nan), np.full(len(auc_C), np.nan)
    if not len(columns) or (groups is not None and groups.num_groups < 2):
        return Intervals(low_C=low_C, high_C=high_C, mean_low=float("nan"), mean_high=float("nan"))
    positive_C, negative_C = (effective_number(target_NC == kind, weight_N, groups) for kind in (1, 0))
    low_C, high_C = score_interval(auc_C, positive_C, negative_C)

    def influence(column: int) -> tuple[np.ndarray, float]:
        """Of each group, and the standard deviation that they give."""
        target_N = np.ascontiguousarray(target_NC[:, column])
        influence_N = influences(target_N, np.ascontiguousarray(score_NC[:, column]), weight_N=weight_N)
        for kind, number in ((1, positive_C[column]), (0, negative_C[column])):  # the variance of a sample
            influence_N[target_N == kind] *= np.sqrt(number / (number - 1)) if number > 1 else 1
        influence_G = influence_N if groups is None else np.bincount(groups.group_N, weights=influence_N)
        return influence_G, float(np.sqrt(np.square(influence_G).sum()))

    together_3G, alone_3 = np.zeros((3, groups.num_groups if groups else len(target_NC))), np.zeros(3)
    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(columns), _AT_ONCE):
            some = columns[start : start + _AT_ONCE]
            for column, (influence_G, sd) in zip(some, pool.map(influence, some.tolist()), strict=True):
                auc = float(auc_C[column])
                low, high = logit_interval(auc, sd)
                low_C[column], high_C[column] = min(low_C[column], low), max(high_C[column], high)
                distance_3 = np.array([auc - low_C[column], high_C[column] - auc, Z * sd]) / len(columns)
                if sd > _ROUNDING:
                    together_3G += distance_3[:, None] * (influence_G / sd)
                else:
                    alone_3 += distance_3**2
    below, above, least = np.sqrt((together_3G**2).sum(axis=1) + alone_3)
    mean = auc_C[columns].mean()
    mean_low, mean_high = mean - max(below, least), mean + max(above, least)
    return Intervals(low_C=low_C, high_C=high_C, mean_low=max(0.0, float(mean_low)), mean_high=min(1.0, float(mean_high)))


def influences(target_N: np.ndarray, score_N: np.ndarray, *, weight_N: np.ndarray | None = None) -> np.ndarray:
    """What each image contributes to the deviation of a class's ROC AUC from its expectation, float64 N; 0 where unknown.

    Of a positive, the share of the negatives that it is above, less ROC AUC, divided by the number of positives; of a negative, the
    share of the positives that it is below, likewise. A tie counts half. With weights, shares are of the weight.
    """
    weight_N = np.ones(len(target_N)) if weight_N is None else weight_N
    is_positive_N, is_negative_N = target_N == 1, target_N == 0
    (positive_P, weight_P), (negative_Q, weight_Q) = ((score_N[is_N], weight_N[is_N]) for is_N in (is_positive_N, is_negative_N))
    above_P, below_Q = _share_below(positive_P, negative_Q, weight_Q), 1 - _share_below(negative_Q, positive_P, weight_P)
    influence_N = np.zeros(len(target_N))
    influence_N[is_positive_N] = (above_P - (weight_P * above_P).sum() / weight_P.sum()) * weight_P / weight_P.sum()
    influence_N[is_negative_N] = (below_Q - (weight_Q * below_Q).sum() / weight_Q.sum()) * weight_Q / weight_Q.sum()
    return influence_N


def score_interval(auc_C: np.ndarray, num_positives_C: np.ndarray, num_negatives_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values whose own variance puts `auc_C` within 1.96 standard errors: never a point. NaN where undefined.

    The variance is that of Hanley, McNeil 1982, *Radiology* 143, 29; to solve for the value, as Wilson does for a proportion, is
    Newcombe 2006, *Statistics in Medicine* 25, 559.
    """
    p_C, n_C = np.maximum(num_positives_C, 1), np.maximum(num_negatives_C, 1)

    def is_outside(value_C: np.ndarray) -> np.ndarray:
        square_C = value_C**2
        two_above_C, two_below_C = value_C / (2 - value_C) - square_C, 2 * square_C / (1 + value_C) - square_C
        variance_C = (value_C - square_C + (p_C - 1) * two_above_C + (n_C - 1) * two_below_C) / (p_C * n_C)
        return (value_C - auc_C) ** 2 > Z**2 * variance_C

    ends: list[np.ndarray] = []
    for end in (0.0, 1.0):
        outside_C, inside_C = np.full_like(auc_C, end), auc_C
        for _ in range(50):
            middle_C = (outside_C + inside_C) / 2
            is_outside_C = is_outside(middle_C)
            outside_C, inside_C = np.where(is_outside_C, middle_C, outside_C), np.where(is_outside_C, inside_C, middle_C)
        ends.append(inside_C)
    return ends[0], ends[1]


def logit_interval(auc: float, sd: float) -> tuple[float, float]:
    """An interval of 1.96 standard deviations on either side of the logit of `auc`; the point itself at 0 and 1."""
    if not 0 < auc < 1:
        return auc, auc
    logit, distance = np.log(auc / (1 - auc)), Z * sd / (auc * (1 - auc))
    low, high = sigmoid(np.array([logit - distance, logit + distance]))
    return min(float(low), auc), max(float(high), auc)


def _share_below(score_K: np.ndarray, other_M: np.ndarray, weight_M: np.ndarray) -> np.ndarray:
    """For each of K scores the share of the others' weight that is lower, a tie counting half."""
    order_K, order_M = np.argsort(score_K), np.argsort(other_M)  # a search for scores in order is several times as fast
    ascending_K, ascending_M, share_K = score_K[order_K], other_M[order_M], np.empty(len(score_K))
    total_M = np.append(0, np.cumsum(weight_M[order_M]))
    lower_K, not_higher_K = (total_M[np.searchsorted(ascending_M, ascending_K, side)] for side in ("left", "right"))
    share_K[order_K] = (lower_K + not_higher_K) / (2 * total_M[-1])
    return share_K
