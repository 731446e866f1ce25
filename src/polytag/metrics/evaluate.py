"""`polytag.evaluate`: everything that is known of a model's quality, from its predictions alone."""

import math
from collections.abc import Sequence

import numpy as np

from polytag.contracts import UNKNOWN, Mean, Predictions, Scores
from polytag.errors import UsageError
from polytag.metrics.ap import ap_of, ap_voc07_of, ap_voc10_of, average_precision, mean_over_defined, rank
from polytag.metrics.bootstrap import bootstrap_ap
from polytag.metrics.decisions import averages_of, count, decide, decide_top
from polytag.metrics.tail import tail_accuracy, tail_thresholds


def evaluate(
    predictions: Predictions,
    *,
    threshold: float | Sequence[float] = 0.5,
    num_tail_thresholds: int = 101,
    num_replicates: int = 1000,
    seed: int = 0,
) -> Scores:
    """Judge predictions that carry their truth. Every number is defined in docs/reference/metrics.md.

    `threshold` is the probability above which a label counts as predicted: one in (0, 1), or one in [0, 1] for each class, where 1
    is a class that is never predicted. `num_replicates` bootstrap replicates, drawn with `seed`, give the 95% intervals; 0 leaves
    them NaN. Raises UsageError for a threshold out of range, or another number of them than classes.
    """
    target_NC, logit_NC, probability_NC = predictions.target_NC, predictions.logit_NC, predictions.probability_NC
    num_classes = len(predictions.label_set)
    threshold_C = _threshold_of_each_class(threshold, num_classes=num_classes)
    # the curves of all classes share their thresholds: they begin at the one threshold there is, or at 0.5 where there are several
    tail_start = float(threshold_C[0]) if (threshold_C == threshold_C[0]).all() and 0 < threshold_C[0] < 1 else 0.5

    rankings = [rank(target_N, logit_N) for target_N, logit_N in zip(target_NC.T, logit_NC.T, strict=True)]
    ap_C = np.array([ap_of(ranking) for ranking in rankings])
    ap_voc07_C = np.array([ap_voc07_of(ranking) for ranking in rankings])
    ap_voc10_C = np.array([ap_voc10_of(ranking) for ranking in rankings])
    intervals = bootstrap_ap(target_NC, logit_NC, num_replicates=num_replicates, seed=seed)
    support_C = np.array([ranking.num_positives for ranking in rankings])
    num_scored = int((support_C > 0).sum())

    # a rank has no probability and so no decision: nothing is decided of any label, and every number of decisions is undefined
    decided_NC = target_NC if predictions.has_probabilities else np.full_like(target_NC, UNKNOWN)
    counts = count(decided_NC, decide(probability_NC, threshold_C=threshold_C))
    top = count(decided_NC, decide_top(probability_NC, threshold_C=threshold_C))
    means = {
        "mAP": Mean(value=mean_over_defined(ap_C), count=num_scored, low=intervals.mean_low, high=intervals.mean_high),
        "mAP_voc07": Mean(value=mean_over_defined(ap_voc07_C), count=num_scored),
        "mAP_voc10": Mean(value=mean_over_defined(ap_voc10_C), count=num_scored),
        "weighted_AP": Mean(value=_weighted(ap_C, support_C), count=num_scored),
        "micro_AP": micro_average_precision(target_NC, logit_NC),
        "samples_AP": samples_average_precision(target_NC, logit_NC),
        **averages_of(counts),
        **averages_of(top, prefix="top3_"),
        "macro_F1": _mean(counts.f1_C),
        "accuracy": _mean(counts.accuracy_C),
    }
    return Scores(
        label_set=predictions.label_set,
        num_pictures=len(predictions),
        threshold_C=threshold_C,
        ap_C=ap_C,
        ap_low_C=intervals.low_C,
        ap_high_C=intervals.high_C,
        ap_voc07_C=ap_voc07_C,
        ap_voc10_C=ap_voc10_C,
        precision_C=counts.precision_C,
        recall_C=counts.recall_C,
        f1_C=counts.f1_C,
        accuracy_C=counts.accuracy_C,
        support_C=support_C,
        num_negative_C=(target_NC == 0).sum(axis=0),
        num_unknown_C=(target_NC < 0).sum(axis=0),
        means=means,
        tail=tail_accuracy(
            decided_NC,
            probability_NC,
            threshold_K=tail_thresholds(decided_NC, probability_NC, threshold=tail_start, num_thresholds=num_tail_thresholds),
        ),
    )


def _threshold_of_each_class(threshold: float | Sequence[float], *, num_classes: int) -> np.ndarray:
    if isinstance(threshold, int | float):
        if not 0 < threshold < 1:
            raise UsageError("threshold out of range", got=str(threshold), expected="a probability between 0 and 1")
        return np.full(num_classes, float(threshold))
    threshold_C = np.asarray(threshold, np.float64)
    if threshold_C.shape != (num_classes,):
        raise UsageError("not a threshold for each class", got=str(threshold_C.shape), expected=str((num_classes,)))
    outside = ~((threshold_C >= 0) & (threshold_C <= 1))
    if outside.any():
        raise UsageError("threshold out of range", got=str(threshold_C[outside][0]), expected="probabilities from 0 to 1")
    return threshold_C


def micro_average_precision(target_NC: np.ndarray, score_NC: np.ndarray) -> Mean:
    """AP of all known labels ranked in one list, whatever their class; needs scores that are comparable between classes."""
    value = ap_of(rank(target_NC.ravel(), score_NC.ravel()))
    return Mean(value=value, count=int((target_NC >= 0).sum()), unit="decisions")


def samples_average_precision(target_NC: np.ndarray, score_NC: np.ndarray) -> Mean:
    """Mean over pictures of the AP of the picture's own ranking of classes; pictures without a positive are not counted."""
    ap_N = average_precision(target_NC.T, score_NC.T)
    return Mean(value=mean_over_defined(ap_N), count=int((~np.isnan(ap_N)).sum()), unit="pictures")


def _weighted(ap_C: np.ndarray, support_C: np.ndarray) -> float:
    """Mean of class APs, each weighted by its positives: large classes speak louder."""
    scored = support_C > 0
    return float(np.average(ap_C[scored], weights=support_C[scored])) if scored.any() else float("nan")


def _mean(value_C: np.ndarray) -> Mean:
    return Mean(value=mean_over_defined(value_C), count=int((~np.isnan(value_C)).sum()))


def scores_to_json(scores: Scores) -> dict[str, object]:
    """The content of metrics.json: plain values, NaN written as null."""
    per_class = {
        name: {
            "ap": _number(scores.ap_C[column]),
            "low": _number(scores.ap_low_C[column]),
            "high": _number(scores.ap_high_C[column]),
            "ap_voc07": _number(scores.ap_voc07_C[column]),
            "ap_voc10": _number(scores.ap_voc10_C[column]),
            "precision": _number(scores.precision_C[column]),
            "recall": _number(scores.recall_C[column]),
            "f1": _number(scores.f1_C[column]),
            "accuracy": _number(scores.accuracy_C[column]),
            "threshold": _number(scores.threshold_C[column]),
            "support": int(scores.support_C[column]),
            "num_negative": int(scores.num_negative_C[column]),
            "num_unknown": int(scores.num_unknown_C[column]),
        }
        for column, name in enumerate(scores.label_set)
    }
    tail = scores.tail
    return {
        "version": 1,
        "num_pictures": scores.num_pictures,
        **{name: _mean_to_json(mean) for name, mean in scores.means.items()},
        "per_class": per_class,
        "tail_accuracy": {
            "threshold": _numbers(tail.threshold_K),
            "mean": _numbers(tail.mean_K),
            "num_classes": tail.num_classes_K.tolist(),
            "per_class": {name: _numbers(tail.per_class_CK[column]) for column, name in enumerate(scores.label_set)},
            "count": {name: tail.count_CK[column].tolist() for column, name in enumerate(scores.label_set)},
        },
    }


def _mean_to_json(mean: Mean) -> dict[str, object]:
    interval = {} if math.isnan(mean.low) else {"low": mean.low, "high": mean.high}
    return {"value": _number(mean.value), f"num_{mean.unit}": mean.count, **interval}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
