"""Tail accuracy: the accuracy of the most confident predictions.

Tailacc(t) = sum 1[f(x) = y] 1[f(x) > t] / sum 1[f(x) > t] over the known images of a class: of those scored strictly above t, the
share whose decision "present" is right. t runs from the decision threshold up, so above t the decision is always "present".
"""

import numpy as np

from polytag.metrics.decisions import num_predicted
from polytag.metrics.groups import Groups
from polytag.metrics.proportions import wilson
from polytag.metrics.values import TailAccuracy


def tail_accuracy(
    target_NC: np.ndarray, probability_NC: np.ndarray, *, threshold_K: np.ndarray, groups: Groups | None = None
) -> TailAccuracy:
    """Tail accuracy of every class at the thresholds, and the mean over the classes that still have an image above each.

    Of the intervals, the trials are images, or the groups that have an image above the threshold.
    """
    num_classes, num_thresholds = target_NC.shape[1], len(threshold_K)
    count_CK = np.zeros((num_classes, num_thresholds), np.int64)
    right_CK, trials_CK = np.zeros_like(count_CK), np.zeros_like(count_CK)
    for column in range(num_classes):
        target_N, probability_N = target_NC[:, column], probability_NC[:, column]
        count_CK[column] = num_predicted(probability_N[target_N >= 0], threshold_K)
        right_CK[column] = num_predicted(probability_N[target_N == 1], threshold_K)
        if groups is not None:
            highest_G = np.full(groups.num_groups, -np.inf)
            np.maximum.at(highest_G, groups.group_N[target_N >= 0], probability_N[target_N >= 0])
            trials_CK[column] = num_predicted(highest_G, threshold_K)
    per_class_CK = np.divide(right_CK, count_CK, out=np.full(count_CK.shape, np.nan), where=count_CK > 0)
    alone_CK = trials_CK == count_CK if groups is not None else np.ones(count_CK.shape, bool)
    tried_CK = np.where(alone_CK, count_CK, trials_CK)
    num_classes_K = (count_CK > 0).sum(axis=0)
    total_K = np.where(count_CK > 0, per_class_CK, 0.0).sum(axis=0)
    mean_K = np.divide(total_K, num_classes_K, out=np.full(num_thresholds, np.nan), where=num_classes_K > 0)
    return TailAccuracy(
        threshold_K=threshold_K,
        mean_K=mean_K,
        num_classes_K=num_classes_K,
        per_class_CK=per_class_CK,
        interval_CK2=np.stack(wilson(np.where(alone_CK, right_CK, per_class_CK * trials_CK), tried_CK), axis=-1),
        count_CK=count_CK,
    )


def tail_thresholds(
    target_NC: np.ndarray, probability_NC: np.ndarray, *, threshold: float = 0.5, num_thresholds: int = 101
) -> np.ndarray:
    """K evenly spaced thresholds from the decision threshold to the largest score of any known label, both included.

    No score is strictly above the largest, so the last point is always undefined. If no score exceeds the decision threshold, all
    K are the decision threshold.
    """
    known = probability_NC[target_NC >= 0]
    highest = max(threshold, float(known.max())) if known.size else threshold
    return np.linspace(threshold, highest, num_thresholds)
