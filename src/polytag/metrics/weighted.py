"""Metrics in which each image counts by its weight, such as the inverse of the probability that it was sampled with.

Shapes: N images, C classes. A weight of 2 counts as two images and a weight of 0 as none; only the ratios of weights matter. A
weighted number rests on fewer images than there are, which the effective number of positives tells, and the intervals follow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import UNKNOWN, Predictions
from polytag.errors import UsageError
from polytag.metrics.ap import mean_over_defined
from polytag.metrics.auc_intervals import auc_intervals
from polytag.metrics.bootstrap import replicate_ap, weights_of
from polytag.metrics.decisions import decide
from polytag.metrics.evaluate import threshold_of_each_class
from polytag.metrics.groups import Groups, Value, effective_number
from polytag.metrics.intervals import Intervals, estimates_of, intervals_of
from polytag.metrics.values import Mean, class_to_json, mean_to_json
from polytag.text import counted


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedMetrics:
    """What N weighted images give, NaN where undefined.

    column                 the name of the weights, may be ""
    num_images             those with a weight above 0
    ap_C, roc_auc_C        scikit-learn's `average_precision_score` and `roc_auc_score` with `sample_weight`, over the known labels;
                           NaN for a class that has no positive or no negative with a weight above 0
    ap_interval_C2, roc_auc_interval_C2   their 95% intervals, low and high
    share_C                weight of the positives among that of the known images: about the AP of a random order
    effective_positives_C  (sum w)^2 / sum w^2 over the positives (Kish 1965, Survey Sampling): at most their number, which it is
                           for equal weights
    means                  mAP and ROC_AUC, means over the classes, with intervals; micro_AP; OP and OR, of all decisions
    """

    column: str
    names: tuple[str, ...]
    num_images: int
    ap_C: np.ndarray
    ap_interval_C2: np.ndarray
    roc_auc_C: np.ndarray
    roc_auc_interval_C2: np.ndarray
    share_C: np.ndarray
    effective_positives_C: np.ndarray
    means: dict[str, Mean]

    def to_json(self) -> dict[str, object]:
        """The object under `weighted` in a file of metrics."""
        columns = {
            "ap": self.ap_C,
            "low": self.ap_interval_C2[:, 0],
            "high": self.ap_interval_C2[:, 1],
            "roc_auc": self.roc_auc_C,
            "roc_auc_low": self.roc_auc_interval_C2[:, 0],
            "roc_auc_high": self.roc_auc_interval_C2[:, 1],
            "share": self.share_C,
            "effective_positives": self.effective_positives_C,
        }
        return {
            "column": self.column,
            "num_images": self.num_images,
            **{name: mean_to_json(mean) for name, mean in self.means.items()},
            "per_class": {name: class_to_json(columns, column) for column, name in enumerate(self.names)},
        }


def weighted_metrics(
    predictions: Predictions,
    weight_N: Sequence[Value],
    *,
    column: str = "",
    threshold: float | Sequence[float] = 0.5,
    num_replicates: int = 1000,
    seed: int = 0,
    groups: Groups | None = None,
) -> WeightedMetrics:
    """Evaluate labelled predictions with a weight for each image: N finite numbers of 0 or more, or texts of such.

    The other arguments are those of `evaluate_predictions`. Raises UsageError for an image without a weight, for one that is no
    finite number or below 0, if all are 0, or for a threshold out of range.
    """
    assert len(weight_N) == len(predictions)
    threshold_C = threshold_of_each_class(threshold, num_classes=len(predictions.label_set))
    number_N = _numbers(weight_N, ids=predictions.ids, where=f"--weight {column}" if column else "weights")
    target_NC, logit_NC = predictions.target_NC, predictions.logit_NC
    areas = [areas_of(target_N, logit_N, number_N) for target_N, logit_N in zip(target_NC.T, logit_NC.T, strict=True)]
    ap_C, roc_auc_C = np.array(areas).reshape(-1, 2).T
    known_NC = np.where(number_N[:, None] > 0, target_NC, UNKNOWN)  # an image of weight 0 counts nowhere
    of_ap = _ap_intervals(known_NC, logit_NC, number_N, ap_C=ap_C, num_replicates=num_replicates, seed=seed, groups=groups)
    of_auc = auc_intervals(known_NC, logit_NC, auc_C=roc_auc_C, groups=groups, weight_N=number_N)
    positive_C, known_C = number_N @ (target_NC == 1), number_N @ (target_NC >= 0)
    weight_NC = np.broadcast_to(number_N[:, None], target_NC.shape)
    micro_ap, _ = areas_of(target_NC.ravel(), logit_NC.ravel(), weight_NC.ravel())
    micro_count = 0 if math.isnan(micro_ap) else int(((target_NC >= 0) & (weight_NC > 0)).sum())
    return WeightedMetrics(
        column=column,
        names=predictions.label_set.names,
        num_images=int((number_N > 0).sum()),
        ap_C=ap_C,
        ap_interval_C2=np.stack([of_ap.low_C, of_ap.high_C], axis=-1),
        roc_auc_C=roc_auc_C,
        roc_auc_interval_C2=np.stack([of_auc.low_C, of_auc.high_C], axis=-1),
        share_C=np.divide(positive_C, known_C, out=np.full(len(known_C), np.nan), where=known_C > 0),
        effective_positives_C=effective_number(target_NC == 1, number_N, None),
        means={
            "mAP": _mean(ap_C, of_ap),
            "ROC_AUC": _mean(roc_auc_C, of_auc),
            "micro_AP": Mean(value=micro_ap, count=micro_count, unit="decisions"),
            **_of_decisions(predictions, number_N, threshold_C=threshold_C),
        },
    )


def _ap_intervals(
    target_NC: np.ndarray,
    logit_NC: np.ndarray,
    weight_N: np.ndarray,
    *,
    ap_C: np.ndarray,
    num_replicates: int,
    seed: int,
    groups: Groups | None,
) -> Intervals:
    """Of each class and of mAP, as those without weights, from weighted replicates and Kish's effective number of positives."""
    drawn_NB = weights_of(len(target_NC), num_replicates=num_replicates, seed=seed, groups=groups)
    ap_BC = replicate_ap(target_NC, drawn_NB, score_NC=logit_NC, groups=groups, image_weight_N=weight_N)
    return intervals_of(ap_BC, estimates_of(target_NC, logit_NC, ap_C=ap_C, groups=groups, weight_N=weight_N))


def _mean(value_C: np.ndarray, intervals: Intervals) -> Mean:
    """Over the classes that have a value."""
    count = int((~np.isnan(value_C)).sum())
    return Mean(value=mean_over_defined(value_C), count=count, low=intervals.mean_low, high=intervals.mean_high)


def areas_of(target_N: np.ndarray, score_N: np.ndarray, weight_N: np.ndarray) -> tuple[float, float]:
    """AP and ROC AUC of one weighted ranking; a tie is one step. NaN without a positive or a negative of weight above 0."""
    counts_N = (target_N >= 0) & (weight_N > 0)
    score_K, weight_K, is_positive_K = score_N[counts_N], weight_N[counts_N], target_N[counts_N] == 1
    if is_positive_K.all() or not is_positive_K.any():
        return math.nan, math.nan
    order_K = np.argsort(-score_K, kind="stable")
    score_K, weight_K, is_positive_K = score_K[order_K], weight_K[order_K], is_positive_K[order_K]
    last_T = np.append(np.flatnonzero(score_K[1:] != score_K[:-1]), len(score_K) - 1)  # of each distinct score
    tp_T, fp_T = (np.cumsum(np.where(is_true_K, weight_K, 0))[last_T] for is_true_K in (is_positive_K, ~is_positive_K))
    gain_T, tied_T = np.diff(tp_T, prepend=0), np.diff(fp_T, prepend=0)
    ap = min(1.0, float((gain_T / tp_T[-1] * (tp_T / (tp_T + fp_T))).sum()))  # rounding
    wrong = float((gain_T / tp_T[-1] * ((fp_T - tied_T / 2) / fp_T[-1])).sum())
    return ap, 1 - wrong


def _of_decisions(predictions: Predictions, weight_N: np.ndarray, *, threshold_C: np.ndarray) -> dict[str, Mean]:
    """OP and OR: the weight of the true positives, divided by that of all predicted or of all present labels. NaN for ranks."""
    target_NC = predictions.target_NC
    predicted_NC = decide(predictions.probability_NC, threshold_C=threshold_C) & (target_NC >= 0)  # none of a rank's
    present_NC = (target_NC == 1) & predictions.has_probabilities
    hits = float((weight_N @ (predicted_NC & present_NC)).sum())

    def share_of(label_NC: np.ndarray) -> Mean:
        total = float((weight_N @ label_NC).sum())
        return Mean(value=hits / total if total else math.nan, count=int(label_NC[weight_N > 0].sum()), unit="decisions")

    return {"OP": share_of(predicted_NC), "OR": share_of(present_NC)}


def _numbers(weight_N: Sequence[Value], *, ids: Sequence[str], where: str) -> np.ndarray:
    """float64 N: the weights as shares of the largest, which neither overflow nor vanish when they are added."""
    number_N = np.array([_number(value) for value in weight_N], np.float64)
    bad = [row for row in range(len(ids)) if not 0 <= number_N[row] < math.inf]
    if bad:
        value = weight_N[bad[0]]
        raise UsageError(
            f"{counted(len(bad), 'images')} of {len(ids):,} {'has' if len(bad) == 1 else 'have'} no usable weight",
            where=where,
            got=f"{repr(value) if isinstance(value, str) else value} for image {ids[bad[0]]!r}",
            expected="a finite number of 0 or more for every image",
        )
    if not number_N.any():
        raise UsageError("every weight is 0", where=where, expected="a weight above 0 for some images")
    return number_N / number_N.max()


def _number(value: Value) -> float:
    """The number, or NaN for what is none."""
    try:
        return math.nan if value is None else float(value)
    except (ValueError, OverflowError):
        return math.nan
