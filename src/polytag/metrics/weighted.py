"""Metrics in which each image counts by its weight, such as the inverse of the probability that it was sampled with.

Shapes: N images, C classes. A weight of 2 counts as two images and a weight of 0 as none; only the ratios of weights matter. There
are no intervals: a weighted number rests on fewer images than there are, which the effective number of positives tells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import Predictions
from polytag.errors import UsageError
from polytag.metrics.ap import mean_over_defined
from polytag.metrics.decisions import decide
from polytag.metrics.evaluate import threshold_of_each_class
from polytag.metrics.groups import Value
from polytag.metrics.values import Mean
from polytag.text import counted, json_number


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedMetrics:
    """What N weighted images give, NaN where undefined.

    column                 the name of the weights, may be ""
    num_images             those with a weight above 0
    ap_C, roc_auc_C        scikit-learn's `average_precision_score` and `roc_auc_score` with `sample_weight`, over the known labels;
                           NaN for a class that has no positive or no negative with a weight above 0
    share_C                weight of the positives among that of the known images: about the AP of a random order
    effective_positives_C  (sum w)^2 / sum w^2 over the positives (Kish 1965, Survey Sampling): at most their number, which it is
                           for equal weights
    means                  mAP and ROC_AUC, means over the classes; micro_AP; OP and OR, of all decisions
    """

    column: str
    names: tuple[str, ...]
    num_images: int
    ap_C: np.ndarray
    roc_auc_C: np.ndarray
    share_C: np.ndarray
    effective_positives_C: np.ndarray
    means: dict[str, Mean]

    def to_json(self) -> dict[str, object]:
        """The object under `weighted` in a file of metrics."""
        columns = {
            "ap": self.ap_C,
            "roc_auc": self.roc_auc_C,
            "share": self.share_C,
            "effective_positives": self.effective_positives_C,
        }
        return {
            "column": self.column,
            "num_images": self.num_images,
            **{name: {"value": json_number(mean.value), f"num_{mean.unit}": mean.count} for name, mean in self.means.items()},
            "per_class": {
                name: {key: json_number(float(value_C[column])) for key, value_C in columns.items()}
                for column, name in enumerate(self.names)
            },
        }


def weighted_metrics(
    predictions: Predictions, weight_N: Sequence[Value], *, column: str = "", threshold: float | Sequence[float] = 0.5
) -> WeightedMetrics:
    """Evaluate labelled predictions with a weight for each image: N finite numbers of 0 or more, or texts of such.

    `threshold` is that of `evaluate_predictions`. Raises UsageError for an image without a weight, for one that is no finite
    number or below 0, if all are 0, or for a threshold out of range.
    """
    assert len(weight_N) == len(predictions)
    threshold_C = threshold_of_each_class(threshold, num_classes=len(predictions.label_set))
    number_N = _numbers(weight_N, ids=predictions.ids, where=f"--weight {column}" if column else "weights")
    target_NC, logit_NC = predictions.target_NC, predictions.logit_NC
    areas = [areas_of(target_N, logit_N, number_N) for target_N, logit_N in zip(target_NC.T, logit_NC.T, strict=True)]
    ap_C, roc_auc_C = np.array(areas).reshape(-1, 2).T
    positive_C, known_C = number_N @ (target_NC == 1), number_N @ (target_NC >= 0)
    weight_NC = np.broadcast_to(number_N[:, None], target_NC.shape)
    micro_ap, _ = areas_of(target_NC.ravel(), logit_NC.ravel(), weight_NC.ravel())
    micro_count = 0 if math.isnan(micro_ap) else int(((target_NC >= 0) & (weight_NC > 0)).sum())
    return WeightedMetrics(
        column=column,
        names=predictions.label_set.names,
        num_images=int((number_N > 0).sum()),
        ap_C=ap_C,
        roc_auc_C=roc_auc_C,
        share_C=_ratio(positive_C, known_C),
        effective_positives_C=_ratio(positive_C**2, number_N**2 @ (target_NC == 1), undefined=0.0),
        means={
            "mAP": Mean(value=mean_over_defined(ap_C), count=int((~np.isnan(ap_C)).sum()), unit="classes"),
            "ROC_AUC": Mean(value=mean_over_defined(roc_auc_C), count=int((~np.isnan(roc_auc_C)).sum()), unit="classes"),
            "micro_AP": Mean(value=micro_ap, count=micro_count, unit="decisions"),
            **_of_decisions(predictions, number_N, threshold_C=threshold_C),
        },
    )


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
    ap = float((gain_T / tp_T[-1] * (tp_T / (tp_T + fp_T))).sum())
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


def _ratio(upper_C: np.ndarray, lower_C: np.ndarray, *, undefined: float = math.nan) -> np.ndarray:
    return np.divide(upper_C, lower_C, out=np.full(len(upper_C), undefined, np.float64), where=lower_C > 0)
