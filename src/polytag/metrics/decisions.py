"""Metrics of decisions: counts at a threshold or among the top k, and precision, recall and F1 computed from them.

A label is predicted if its probability is strictly above the threshold; at a threshold of 0 always, and at 1 never. Undefined
ratios are NaN: the precision of a class that is never predicted, the recall of a class without a positive. A mean is over the
classes that are defined, and reports their number.
"""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import UNKNOWN
from polytag.metrics.ap import mean_over_defined
from polytag.metrics.values import Mean

_ROWS = 50_000  # that are sorted at a time: positions take eight bytes each


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """True and false positives and negatives of every class, over its known images."""

    tp_C: np.ndarray
    fp_C: np.ndarray
    fn_C: np.ndarray
    tn_C: np.ndarray

    @property
    def precision_C(self) -> np.ndarray:
        """TP / predicted."""
        return _ratio(self.tp_C, self.tp_C + self.fp_C)

    @property
    def recall_C(self) -> np.ndarray:
        """TP / true."""
        return _ratio(self.tp_C, self.tp_C + self.fn_C)

    @property
    def f1_C(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.tp_C, 2 * self.tp_C + self.fp_C + self.fn_C)

    @property
    def accuracy_C(self) -> np.ndarray:
        """(TP + TN) / known."""
        return _ratio(self.tp_C + self.tn_C, self.tp_C + self.fp_C + self.fn_C + self.tn_C)


def count(target_NC: np.ndarray, predicted_NC: np.ndarray) -> Counts:
    """Count decisions (boolean N x C) against targets; unknown labels count nowhere."""
    present, absent = target_NC == 1, target_NC == 0
    return Counts(
        tp_C=(present & predicted_NC).sum(axis=0),
        fp_C=(absent & predicted_NC).sum(axis=0),
        fn_C=(present & ~predicted_NC).sum(axis=0),
        tn_C=(absent & ~predicted_NC).sum(axis=0),
    )


NEVER, ALWAYS = 1.0, 0.0
"""Thresholds: no probability is above NEVER; at ALWAYS every image is predicted, also one whose probability is exactly 0."""


def decide(probability_NC: np.ndarray, *, threshold_C: np.ndarray | float) -> np.ndarray:
    """Boolean, of the same shape: whether a probability is strictly above the threshold of its class, or that one is ALWAYS."""
    return np.where(np.asarray(threshold_C) == ALWAYS, probability_NC >= 0, probability_NC > threshold_C)  # NaN is neither


def num_predicted(probability_N: np.ndarray, threshold_K: np.ndarray) -> np.ndarray:
    """How many of the probabilities `decide` predicts at each of K thresholds."""
    num_at_most_K = np.searchsorted(np.sort(probability_N), threshold_K, side="right")
    return len(probability_N) - np.where(threshold_K == ALWAYS, 0, num_at_most_K)


def decide_top(predicted_NC: np.ndarray, *, logit_NC: np.ndarray, k: int = 3) -> np.ndarray:
    """Boolean N x C: predicted *and* among the image's k highest logits (ML-GCN's "top-3"). Ties go to the earlier class."""
    chosen_NC = np.zeros(predicted_NC.shape, bool)
    for start in range(0, len(logit_NC), _ROWS):
        rows = slice(start, start + _ROWS)
        highest_nk = np.argsort(-logit_NC[rows], axis=1, kind="stable")[:, :k]
        np.put_along_axis(chosen_NC[rows], highest_nk, True, axis=1)
    return chosen_NC & predicted_NC


def averages_of(counts: Counts, *, prefix: str = "") -> dict[str, Mean]:
    """CP, CR, CF1 and OP, OR, OF1 (Chen et al. 2019, ML-GCN, section 4.1), each with what it counted.

    CP and CR are means of the classes' ratios, CF1 the harmonic mean of those two means. OP, OR and OF1 use summed counts.
    """
    precision_C, recall_C = counts.precision_C, counts.recall_C
    cp, cr = mean_over_defined(precision_C), mean_over_defined(recall_C)
    num_precision, num_recall = int((~np.isnan(precision_C)).sum()), int((~np.isnan(recall_C)).sum())
    tp, fp, fn = int(counts.tp_C.sum()), int(counts.fp_C.sum()), int(counts.fn_C.sum())
    op, recall = _scalar_ratio(tp, tp + fp), _scalar_ratio(tp, tp + fn)
    num_both = tp + fp + fn if tp + fp and tp + fn else 0
    return {
        f"{prefix}CP": Mean(value=cp, count=num_precision),
        f"{prefix}CR": Mean(value=cr, count=num_recall),
        f"{prefix}CF1": Mean(value=harmonic_mean(cp, cr), count=min(num_precision, num_recall)),
        f"{prefix}OP": Mean(value=op, count=tp + fp, unit="decisions"),
        f"{prefix}OR": Mean(value=recall, count=tp + fn, unit="decisions"),
        f"{prefix}OF1": Mean(value=harmonic_mean(op, recall), count=num_both, unit="decisions"),
    }


def false_negative_rates(target_NC: np.ndarray, predicted_NC: np.ndarray) -> np.ndarray:
    """N: FN / (TP + FN) of each image, the share of its present labels that are not predicted; NaN without a present label."""
    is_present_NC = target_NC == 1
    return _ratio((is_present_NC & ~predicted_NC).sum(axis=1), is_present_NC.sum(axis=1))


def averages_per_image(target_NC: np.ndarray, predicted_NC: np.ndarray) -> dict[str, Mean]:
    """Exact match, Jaccard index and F1 of each image's known labels, and the size of its set, over images with a known label.

    `exact_match` is the share of images whose labels are all right (subset accuracy), `samples_jaccard` the mean of TP / (TP + FP +
    FN), `samples_F1` of 2 TP / (2 TP + FP + FN). An image with no label, none of which is predicted, is right: 1. scikit-learn's
    `accuracy_score`, `jaccard_score` and `f1_score` with average="samples", zero_division=1 are the same. `set_size` is the mean
    number of predicted labels, TP + FP.
    """
    counts = count(target_NC.T, predicted_NC.T)  # of images in the place of classes
    wrong_N = counts.fp_C + counts.fn_C
    is_empty_N = counts.tp_C + wrong_N == 0
    values = {
        "exact_match": (wrong_N == 0).astype(np.float64),
        "samples_jaccard": np.where(is_empty_N, 1, _ratio(counts.tp_C, counts.tp_C + wrong_N)),
        "samples_F1": np.where(is_empty_N, 1, counts.f1_C),
        "set_size": (counts.tp_C + counts.fp_C).astype(np.float64),
    }
    is_known_N = (target_NC != UNKNOWN).any(axis=1)
    return {
        name: Mean(value=mean_over_defined(value_N[is_known_N]), count=int(is_known_N.sum()), unit="images")
        for name, value_N in values.items()
    }


def harmonic_mean(first: float, second: float) -> float:
    """2ab / (a + b); 0 if both are 0, NaN if either is."""
    return 2 * first * second / (first + second) if first + second else first + second


def _ratio(part_C: np.ndarray, whole_C: np.ndarray) -> np.ndarray:
    return np.divide(part_C, whole_C, out=np.full(len(whole_C), np.nan), where=whole_C > 0)


def _scalar_ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
