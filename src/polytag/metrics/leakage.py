"""What some images, left out, change: the same metrics without them, and the paired difference in mAP.

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
class WithoutSome:
    """Scores of the images that stay, and how much more the mAP of all was.

    scores       of the images that stay
    difference   mAP of all minus mAP without, over the classes that have a positive in both; 95% interval by paired bootstrap: each
                 replicate draws from all images, and both means are taken on what it drew
    """

    num_left_out: int
    metrics: Metrics
    difference: Mean


def leave_out(
    predictions: Predictions,
    is_left_out_N: np.ndarray,
    *,
    threshold: float | Sequence[float] = 0.5,
    num_replicates: int = 1000,
    seed: int = 0,
) -> WithoutSome:
    """Judge again without some images. Raises PredictionsError where none would stay."""
    stays_N = ~np.asarray(is_left_out_N, bool)
    if not stays_N.any():
        raise PredictionsError(
            "without these images none is left",
            where=predictions.source,
            got=f"all {len(predictions):,} left out",
            expected="at least one image that stays",
        )
    metrics = evaluate_predictions(predictions.take(stays_N), threshold=threshold, num_replicates=num_replicates, seed=seed)
    target_NC, score_NC = predictions.target_NC, predictions.logit_NC
    weight_NB = weights_of(len(predictions), num_replicates=num_replicates, seed=seed)
    counted_C = ~np.isnan(metrics.ap_C)
    all_BC, stay_BC = (
        replicate_ap(target_NC, weight, score_NC=score_NC)[:, counted_C] for weight in (weight_NB, weight_NB * stays_N[:, None])
    )
    one_N1 = np.ones((len(predictions), 1), np.uint8)
    plain_C, stay_C = (
        replicate_ap(target_NC, weight, score_NC=score_NC)[0, counted_C] for weight in (one_N1, one_N1 * stays_N[:, None])
    )
    low, high = percentiles(_mean_over_both(all_BC, stay_BC))
    value = float(_mean_over_both(plain_C[None], stay_C[None])[0])
    return WithoutSome(
        num_left_out=int((~stays_N).sum()),
        metrics=metrics,
        difference=Mean(value=value, low=low, high=high, count=int(counted_C.sum())),
    )


def _mean_over_both(all_BC: np.ndarray, stay_BC: np.ndarray) -> np.ndarray:
    """Mean difference over the classes that a replicate gave a positive in both; NaN where it gave none."""
    difference_BC = all_BC - stay_BC
    number_B = (~np.isnan(difference_BC)).sum(axis=1)
    return np.where(number_B > 0, np.nansum(difference_BC, axis=1) / np.maximum(number_B, 1), np.nan)
