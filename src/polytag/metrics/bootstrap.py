"""Percentile bootstrap over pictures, of all class APs and their mean at once, without sorting again.

A replicate draws N pictures with replacement, which is a weight for every picture. The order of the pictures by score is the same
in every replicate, so weights are summed along the sorted order between the thresholds that matter.
"""

from dataclasses import dataclass

import numpy as np

from polytag.metrics.ap import rank

_BLOCK = 200  # replicates at a time: their weights, N bytes each, stay in the processor's cache for N up to a few thousand


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """95% percentile intervals: of each class's AP, and of the mean over the classes that a replicate gave a positive."""

    low_C: np.ndarray
    high_C: np.ndarray
    mean_low: float
    mean_high: float


def bootstrap_ap(target_NC: np.ndarray, score_NC: np.ndarray, *, num_replicates: int = 1000, seed: int = 0) -> Intervals:
    """Intervals of AP and mAP over resampled pictures.

    A replicate without a positive of a class is left out of that class's interval and of its own mean. NaN where there is no
    replicate to count. Seeded: the same table gives the same interval.
    """
    ap_BC = replicate_ap(target_NC, weights_of(len(target_NC), num_replicates=num_replicates, seed=seed), score_NC=score_NC)
    return intervals_of(ap_BC)


def intervals_of(ap_BC: np.ndarray) -> Intervals:
    """2.5 and 97.5 percent points of the replicates of each class, and of each replicate's mean."""
    num_classes = ap_BC.shape[1]
    low_C, high_C = np.full(num_classes, np.nan), np.full(num_classes, np.nan)
    for column in range(num_classes):
        low_C[column], high_C[column] = _percentiles(ap_BC[:, column])
    counted_B = (~np.isnan(ap_BC)).sum(axis=1)
    mean_B = np.nansum(ap_BC, axis=1)[counted_B > 0] / counted_B[counted_B > 0]
    mean_low, mean_high = _percentiles(mean_B)
    return Intervals(low_C=low_C, high_C=high_C, mean_low=mean_low, mean_high=mean_high)


def weights_of(num_pictures: int, *, num_replicates: int, seed: int) -> np.ndarray:
    """uint8 N x B: how many times each replicate drew each picture."""
    rng = np.random.default_rng(seed)
    weight_NB = np.zeros((num_pictures, num_replicates), np.uint8)
    for replicate in range(num_replicates):
        drawn = np.bincount(rng.integers(0, num_pictures, num_pictures), minlength=num_pictures)
        weight_NB[:, replicate] = drawn  # a picture drawn 256 times has probability under 1e-500
    return weight_NB


def replicate_ap(target_NC: np.ndarray, weight_NB: np.ndarray, *, score_NC: np.ndarray) -> np.ndarray:
    """AP of every replicate and class, B x C; NaN where a replicate has no positive of a class."""
    num_replicates, num_classes = weight_NB.shape[1], target_NC.shape[1]
    ap_BC = np.full((num_replicates, num_classes), np.nan)
    for column in range(num_classes):
        known = target_NC[:, column] >= 0
        target_N, score_N = target_NC[known, column], score_NC[known, column]
        ranking = rank(target_N, score_N)
        if not ranking.num_positives:
            continue
        rows = np.flatnonzero(known)
        order = rows[np.argsort(-score_N, kind="stable")][: ranking.predicted_P[-1]]
        positives = rows[target_N == 1]
        positives = positives[np.argsort(-score_NC[positives, column], kind="stable")]
        starts_all = np.concatenate([[0], ranking.predicted_P[:-1]])
        starts_tp = np.concatenate([[0], ranking.tp_P[:-1]])
        for start in range(0, num_replicates, _BLOCK):
            block = np.ascontiguousarray(weight_NB[:, start : start + _BLOCK])
            gain_PB = np.add.reduceat(block[positives], starts_tp, axis=0, dtype=np.int32)
            predicted_PB = np.cumsum(np.add.reduceat(block[order], starts_all, axis=0, dtype=np.int32), axis=0)
            tp_PB = np.cumsum(gain_PB, axis=0)
            with np.errstate(invalid="ignore", divide="ignore"):
                # before the first picture drawn there is nothing predicted and nothing gained: 0/0 counts as 0
                precision_PB = np.where(predicted_PB > 0, tp_PB / predicted_PB, 0.0)
                ap_BC[start : start + _BLOCK, column] = (gain_PB * precision_PB).sum(axis=0) / tp_PB[-1]
    return ap_BC


def _percentiles(value_B: np.ndarray) -> tuple[float, float]:
    defined = value_B[~np.isnan(value_B)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
