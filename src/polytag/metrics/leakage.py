"""The effect of leakage: every metric without the leaked images, and the paired difference in mAP.

Shapes: N images, C classes, B replicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import Predictions
from polytag.errors import PredictionsError
from polytag.metrics.bootstrap import percentiles, replicate_ap, weights_of
from polytag.metrics.evaluate import evaluate_predictions
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
    metrics = evaluate_predictions(predictions.take(remains_N), threshold=threshold, num_replicates=num_replicates, seed=seed)
    target_NC, score_NC = predictions.target_NC, predictions.logit_NC
    weight_NB = weights_of(len(predictions), num_replicates=num_replicates, seed=seed)
    counted_C = ~np.isnan(metrics.ap_C)
    all_BC, remaining_BC = (
        replicate_ap(target_NC, weight, score_NC=score_NC)[:, counted_C] for weight in (weight_NB, weight_NB * remains_N[:, None])
    )
    one_N1 = np.ones((len(predictions), 1), np.uint8)
    all_C, remaining_C = (
        replicate_ap(target_NC, weight, score_NC=score_NC)[0, counted_C] for weight in (one_N1, one_N1 * remains_N[:, None])
    )
    low, high = percentiles(_mean_over_both(all_BC, remaining_BC))
    value = float(_mean_over_both(all_C[None], remaining_C[None])[0])
    return MetricsWithoutLeakage(metrics=metrics, difference=Mean(value=value, low=low, high=high, count=int(counted_C.sum())))


def _mean_over_both(all_BC: np.ndarray, remaining_BC: np.ndarray) -> np.ndarray:
    """Mean difference over the classes that have an AP among both in a replicate; NaN where no class has one."""
    difference_BC = all_BC - remaining_BC
    number_B = (~np.isnan(difference_BC)).sum(axis=1)
    return np.where(number_B > 0, np.nansum(difference_BC, axis=1) / np.maximum(number_B, 1), np.nan)
