"""`polytag.evaluate_predictions`: every metric of a model, computed from its predictions alone."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from polytag.contracts import UNKNOWN, Predictions
from polytag.errors import UsageError
from polytag.machine import num_cores
from polytag.metrics.ap import (
    Ranking,
    ap_of,
    ap_voc07_of,
    ap_voc10_of,
    chance_ap,
    mean_over_defined,
    of_every_class,
    rank,
    roc_auc_of,
)
from polytag.metrics.auc_intervals import auc_intervals
from polytag.metrics.bootstrap import Weights, bootstrap_weights, percentiles, replicate_ap, replicate_means
from polytag.metrics.decisions import Counts, averages_of, averages_per_image, count, decide, decide_top, false_negative_rates
from polytag.metrics.frequency import Frequency
from polytag.metrics.groups import Groups
from polytag.metrics.intervals import Estimates, estimates_of, intervals_of, left_out_ap_of, mean_interval
from polytag.metrics.per_image import ImageRankings, image_rankings
from polytag.metrics.proportions import wilson
from polytag.metrics.reliability import brier_score, calibration_error
from polytag.metrics.tail import tail_accuracy, tail_thresholds
from polytag.metrics.values import Mean, Metrics, TailAccuracy


def evaluate_predictions(
    predictions: Predictions,
    *,
    threshold: float | Sequence[float] = 0.5,
    num_tail_thresholds: int = 101,
    num_replicates: int = 1000,
    seed: int = 0,
    groups: Groups | None = None,
    frequency: Frequency | None = None,
) -> Metrics:
    """Evaluate labelled predictions. docs/reference/metrics.md defines every number.

    `threshold` is the probability above which a label counts as predicted: one in (0, 1), or one in [0, 1] for each class, where 0
    means that the class is always predicted and 1 that it never is. `num_replicates` bootstrap replicates, drawn with `seed`, give
    the 95% intervals of AP and its means; with 0 these are NaN. `groups` of dependent images (`polytag.metrics.groups.groups_of`)
    are drawn in place of images. `frequency` puts classes into the head, medium and tail; by default that of these images. Raises
    UsageError for a threshold out of range, or if there is not one for each class.
    """
    assert groups is None or len(groups.group_N) == len(predictions)
    target_NC, logit_NC = predictions.target_NC, predictions.logit_NC
    num_classes = len(predictions.label_set)
    threshold_C = threshold_of_each_class(threshold, num_classes=num_classes)

    areas = _areas(target_NC, logit_NC)
    images = image_rankings(target_NC, logit_NC)
    estimates = estimates_of(target_NC, logit_NC, ap_C=areas.ap_C, left_out_C=areas.left_out_ap_C, groups=groups)
    of_auc = auc_intervals(target_NC, logit_NC, auc_C=areas.roc_auc_C, groups=groups)
    weight_NB = bootstrap_weights(len(target_NC), num_replicates=num_replicates, seed=seed, groups=groups)
    ap_BC = replicate_ap(target_NC, weight_NB, score_NC=logit_NC, groups=groups)
    intervals = _intervals(ap_BC, weight_NB, estimates, images)
    support_C, num_negative_C = (target_NC == 1).sum(axis=0), (target_NC == 0).sum(axis=0)
    frequency = frequency or Frequency(num_positives_C=support_C, is_of_training=False)
    probability_NC = predictions.probability_NC  # after the bootstrap: of a million images it is the largest table
    brier_C, calibration_error_C = _reliability(target_NC, probability_NC, logit_NC)

    # ranks have no probabilities and so no decisions: all labels count as unknown, and every metric of decisions is undefined
    decided_NC = target_NC if predictions.has_probabilities else np.full_like(target_NC, UNKNOWN)
    predicted_NC = decide(probability_NC, threshold_C=threshold_C)
    counts, top3 = count(decided_NC, predicted_NC), count(decided_NC, decide_top(predicted_NC, logit_NC=logit_NC))
    means = {
        **_ranking_means(areas, images, intervals, support_C=support_C, micro=micro_average_precision(target_NC, logit_NC)),
        "ROC_AUC": _mean(areas.roc_auc_C, interval=(of_auc.mean_low, of_auc.mean_high)),
        **_group_means(ap_BC, estimates, frequency),
        **_decision_means(counts, top3),
        **averages_per_image(decided_NC, predicted_NC),
        "samples_FNR": _false_negative_rate(decided_NC, predicted_NC, groups),
        "Brier": _mean(brier_C),
        "calibration_error": _mean(calibration_error_C),
        "accuracy": _mean(counts.accuracy_C),
    }
    return Metrics(
        label_set=predictions.label_set,
        num_images=len(predictions),
        threshold_C=threshold_C,
        ap_C=areas.ap_C,
        ap_low_C=intervals.low_C,
        ap_high_C=intervals.high_C,
        ap_bias_C=estimates.bias_C,
        ap_chance_C=chance_ap(support_C, num_negative_C),
        roc_auc_C=areas.roc_auc_C,
        roc_auc_interval_C2=np.stack([of_auc.low_C, of_auc.high_C], axis=-1),
        brier_C=brier_C,
        calibration_error_C=calibration_error_C,
        ap_voc07_C=areas.ap_voc07_C,
        ap_voc10_C=areas.ap_voc10_C,
        precision_C=counts.precision_C,
        precision_interval_C2=_wilson(counts.tp_C, (decided_NC >= 0) & predicted_NC, groups),
        recall_C=counts.recall_C,
        recall_interval_C2=_wilson(counts.tp_C, decided_NC == 1, groups),
        f1_C=counts.f1_C,
        accuracy_C=counts.accuracy_C,
        accuracy_interval_C2=_wilson(counts.tp_C + counts.tn_C, decided_NC >= 0, groups),
        support_C=support_C,
        num_negative_C=num_negative_C,
        num_unknown_C=(target_NC < 0).sum(axis=0),
        means=means,
        tail=_tail(decided_NC, probability_NC, threshold_C=threshold_C, num_thresholds=num_tail_thresholds, groups=groups),
        groups=groups,
        frequency=frequency,
        absent_means=predictions.absent_means,
    )


def _tail(
    target_NC: np.ndarray, probability_NC: np.ndarray, *, threshold_C: np.ndarray, num_thresholds: int, groups: Groups | None
) -> TailAccuracy:
    """The curves of all classes share their thresholds, which start at the common threshold, or at 0.5 if there are several."""
    start = float(threshold_C[0]) if (threshold_C == threshold_C[0]).all() and 0 < threshold_C[0] < 1 else 0.5
    threshold_K = tail_thresholds(target_NC, probability_NC, threshold=start, num_thresholds=num_thresholds)
    return tail_accuracy(target_NC, probability_NC, threshold_K=threshold_K, groups=groups)


def threshold_of_each_class(threshold: float | Sequence[float], *, num_classes: int) -> np.ndarray:
    """float64 C. Raises UsageError for a threshold out of range, or if there is not one for each class."""
    if isinstance(threshold, int | float):
        if not 0 < threshold < 1:
            raise UsageError("threshold out of range", got=str(threshold), expected="a probability between 0 and 1")
        return np.full(num_classes, float(threshold))
    threshold_C = np.asarray(threshold, np.float64)
    if threshold_C.shape != (num_classes,):
        raise UsageError(
            "the number of thresholds is not the number of classes", got=str(threshold_C.shape), expected=str((num_classes,))
        )
    outside = ~((threshold_C >= 0) & (threshold_C <= 1))
    if outside.any():
        raise UsageError("threshold out of range", got=str(threshold_C[outside][0]), expected="probabilities from 0 to 1")
    return threshold_C


def micro_average_precision(target_NC: np.ndarray, score_NC: np.ndarray) -> Mean:
    """AP of the known labels of all classes ranked in one list; meaningful if scores are comparable between classes."""
    value = ap_of(rank(target_NC.ravel(), score_NC.ravel()))
    return Mean(value=value, count=0 if math.isnan(value) else int((target_NC >= 0).sum()), unit="decisions")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Areas:
    """Areas under the curves of every class."""

    ap_C: np.ndarray
    ap_voc10_C: np.ndarray
    ap_voc07_C: np.ndarray
    roc_auc_C: np.ndarray
    left_out_ap_C: np.ndarray


def _areas(target_NC: np.ndarray, logit_NC: np.ndarray) -> _Areas:
    def of_class(ranking: Ranking) -> tuple[float, ...]:
        return ap_of(ranking), ap_voc10_of(ranking), ap_voc07_of(ranking), roc_auc_of(ranking), left_out_ap_of(ranking)

    found_5C = np.array(of_every_class(target_NC, logit_NC, of_class)).reshape(-1, 5).T
    ap_C, ap_voc10_C, ap_voc07_C, roc_auc_C, left_out_ap_C = found_5C
    return _Areas(ap_C=ap_C, ap_voc10_C=ap_voc10_C, ap_voc07_C=ap_voc07_C, roc_auc_C=roc_auc_C, left_out_ap_C=left_out_ap_C)


def _decision_means(counts: Counts, top3: Counts) -> dict[str, Mean]:
    """Precision, recall and F1, averaged."""
    return {**averages_of(counts), **averages_of(top3, prefix="top3_"), "macro_F1": _mean(counts.f1_C)}


def _ranking_means(
    areas: _Areas, images: ImageRankings, intervals: "_Intervals", *, support_C: np.ndarray, micro: Mean
) -> dict[str, Mean]:
    """The averages that depend only on rankings."""
    return {
        "mAP": _mean(areas.ap_C, interval=intervals.mean),
        "mAP_voc07": _mean(areas.ap_voc07_C),
        "mAP_voc10": _mean(areas.ap_voc10_C),
        "weighted_AP": replace(_mean(areas.ap_C, interval=intervals.weighted), value=_weighted(areas.ap_C, support_C)),
        "micro_AP": micro,
        "samples_AP": _mean(images.ap_N, unit="images", interval=intervals.samples),
        "coverage": _mean(images.coverage_N, unit="images", interval=intervals.coverage),
        "ranking_loss": _mean(images.ranking_loss_N, unit="images", interval=intervals.ranking_loss),
    }


def _group_means(ap_BC: np.ndarray, estimates: Estimates, frequency: Frequency) -> dict[str, Mean]:
    """The mAP of the head, medium and tail classes."""
    return {
        f"{name}_mAP": _mean(
            np.where(is_in_C, estimates.ap_C, np.nan), interval=mean_interval(ap_BC, estimates, weight_C=is_in_C.astype(np.float64))
        )
        for name, is_in_C in frequency.groups.items()
    }


def _reliability(target_NC: np.ndarray, probability_NC: np.ndarray, logit_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brier score and calibration error of every class; NaN without probabilities or without a known label."""
    if np.isnan(probability_NC).any():
        return np.full(target_NC.shape[1], np.nan), np.full(target_NC.shape[1], np.nan)

    def both(target_N: np.ndarray, probability_N: np.ndarray, logit_N: np.ndarray) -> tuple[float, float]:
        return brier_score(target_N, probability_N), calibration_error(target_N, probability_N, logit_N=logit_N)

    with ThreadPoolExecutor(num_cores()) as pool:
        brier_C, error_C = np.array(list(pool.map(both, target_NC.T, probability_NC.T, logit_NC.T))).reshape(-1, 2).T
    return brier_C, error_C


@dataclass(frozen=True, kw_only=True, eq=False)
class _Intervals:
    """95% intervals over images or groups: of the AP of each class, and (low, high) of the averages."""

    low_C: np.ndarray
    high_C: np.ndarray
    mean: tuple[float, float]
    weighted: tuple[float, float]
    samples: tuple[float, float]
    coverage: tuple[float, float]
    ranking_loss: tuple[float, float]


def _intervals(ap_BC: np.ndarray, weight_NB: Weights, estimates: Estimates, images: ImageRankings) -> _Intervals:
    """All from the same replicates."""
    of_classes = intervals_of(ap_BC, estimates)
    samples_B, coverage_B, loss_B = replicate_means([images.ap_N, images.coverage_N, images.ranking_loss_N], weight_NB)
    return _Intervals(
        low_C=of_classes.low_C,
        high_C=of_classes.high_C,
        mean=(of_classes.mean_low, of_classes.mean_high),
        weighted=mean_interval(ap_BC, estimates, weight_C=estimates.support_C),
        samples=percentiles(samples_B),
        coverage=percentiles(coverage_B),
        ranking_loss=percentiles(loss_B),
    )


def _wilson(num_right_C: np.ndarray, is_tried_NC: np.ndarray, groups: Groups | None) -> np.ndarray:
    """Of the share that is right; a group with a trial is worth a single one, as if its images were all alike."""
    num_tried_C = is_tried_NC.sum(axis=0)
    if groups is None or groups.num_groups == len(is_tried_NC):
        return np.stack(wilson(num_right_C, num_tried_C), axis=-1)
    trials_C = groups.num_with(is_tried_NC)
    share_C = np.divide(num_right_C, num_tried_C, out=np.full(len(num_tried_C), np.nan), where=num_tried_C > 0)
    return np.stack(wilson(share_C * trials_C, trials_C), axis=-1)


def _false_negative_rate(target_NC: np.ndarray, predicted_NC: np.ndarray, groups: Groups | None) -> Mean:
    """Mean over images, with the interval of a share: no quantity between 0 and 1 varies more than one that is either."""
    rate_N = false_negative_rates(target_NC, predicted_NC)
    low, high = _wilson(np.array([np.nansum(rate_N)]), ~np.isnan(rate_N)[:, None], groups)[0].tolist()
    return _mean(rate_N, unit="images", interval=(low, high))


def _weighted(ap_C: np.ndarray, support_C: np.ndarray) -> float:
    """Mean of the class APs, each weighted by its number of positives."""
    scored = ~np.isnan(ap_C)
    return float(np.average(ap_C[scored], weights=support_C[scored])) if scored.any() else float("nan")


def _mean(value: np.ndarray, *, unit: str = "classes", interval: tuple[float, float] = (math.nan, math.nan)) -> Mean:
    """The mean of the defined values, with their number."""
    return Mean(value=mean_over_defined(value), count=int((~np.isnan(value)).sum()), unit=unit, low=interval[0], high=interval[1])
