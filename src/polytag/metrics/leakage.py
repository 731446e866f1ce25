"""The effect of leakage: every metric without the leaked images, and the paired difference in mAP.

Shapes: N images, C classes, B replicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import UNKNOWN, Predictions
from polytag.errors import PredictionsError
from polytag.metrics.ap import average_precision, mean_over_defined
from polytag.metrics.bootstrap import replicate_ap, weights_of
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.frequency import Frequency
from polytag.metrics.groups import Groups
from polytag.metrics.intervals import difference_intervals, estimates_of
from polytag.metrics.values import Mean, Metrics


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricsWithoutLeakage:
    """Metrics of the images that are not in the training data, and how much higher the mAP of all images is.

    metrics      of the remaining images
    difference   mAP of all images minus mAP of the remaining ones, over the classes that have an AP among both; 95% interval
                 by paired bootstrap: each replicate draws from all images, and both means are computed on that draw
    """

    metrics: Metrics
    difference: Mean


def evaluate_without_leakage(
    predictions: Predictions,
    is_leaked_N: np.ndarray,
    *,
    threshold: float | Sequence[float] = 0.5,
    num_replicates: int = 1000,
    seed: int = 0,
    groups: Groups | None = None,
    frequency: Frequency | None = None,
) -> MetricsWithoutLeakage:
    """Evaluate the predictions without the leaked images. Raises PredictionsError if every image leaked."""
    remains_N = ~np.asarray(is_leaked_N, bool)
    if not remains_N.any():
        raise PredictionsError(
            "every scored image leaked: none remains to evaluate",
            where=predictions.source,
            got=f"{len(predictions):,} leaked images",
            expected="at least one scored image that is not in the training data",
        )
    metrics = evaluate_predictions(
        predictions.take(remains_N),
        threshold=threshold,
        num_replicates=num_replicates,
        seed=seed,
        groups=groups.take(remains_N) if groups else None,
        frequency=frequency,
    )
    target_NC, score_NC = predictions.target_NC, predictions.logit_NC
    weight_NB = weights_of(len(predictions), num_replicates=num_replicates, seed=seed, groups=groups)
    all_BC, remaining_BC = (
        replicate_ap(target_NC, weight, score_NC=score_NC, groups=groups) for weight in (weight_NB, weight_NB * remains_N[:, None])
    )
    every_NC, remaining_NC = target_NC, np.where(remains_N[:, None], target_NC, UNKNOWN)
    first, second = (
        estimates_of(table_NC, score_NC, ap_C=average_precision(table_NC, score_NC), groups=groups)
        for table_NC in (remaining_NC, every_NC)
    )
    intervals = difference_intervals(all_BC - remaining_BC, first, second, same_C=(every_NC == remaining_NC).all(axis=0))
    difference_C = second.ap_C - first.ap_C
    difference = Mean(
        value=mean_over_defined(difference_C),
        low=intervals.mean_low,
        high=intervals.mean_high,
        count=int((~np.isnan(difference_C)).sum()),
    )
    return MetricsWithoutLeakage(metrics=metrics, difference=difference)
