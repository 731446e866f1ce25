"""Average precision, three definitions from one sort; ties are one step, unknown labels count nowhere.

Shapes: N pictures, C classes. Targets are 1 (present), 0 (absent), -1 (unknown); scores are any real numbers where higher means
more likely (logits and probabilities give the same value: only the order matters). A class without a positive is NaN.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """One class, seen from the thresholds that matter: its distinct positive scores, highest first.

    threshold_P     the scores; tp_P positives scored at least that; predicted_P all known pictures scored at least that
    num_positives   0 leaves the arrays empty
    """

    threshold_P: np.ndarray
    tp_P: np.ndarray
    predicted_P: np.ndarray
    num_positives: int

    @property
    def precision_P(self) -> np.ndarray:
        """Precision at each threshold."""
        return self.tp_P / self.predicted_P

    @property
    def recall_P(self) -> np.ndarray:
        """Recall at each threshold, ascending to 1."""
        return self.tp_P / self.num_positives


def rank(target_N: np.ndarray, score_N: np.ndarray) -> Ranking:
    """Rank the known pictures of one class.

    Recall only changes where a positive stands, so no other threshold can enter an average precision: sorting the positives and all
    scores, and looking the ones up in the others, is exact with ties and needs no order of indices.
    """
    positive = np.sort(score_N[target_N == 1])
    every = np.sort(score_N[target_N >= 0])
    threshold = np.unique(positive)[::-1]
    return Ranking(
        threshold_P=threshold,
        tp_P=len(positive) - np.searchsorted(positive, threshold, side="left"),
        predicted_P=len(every) - np.searchsorted(every, threshold, side="left"),
        num_positives=len(positive),
    )


def ap_of(ranking: Ranking) -> float:
    """Sum over thresholds of (R_n - R_{n-1}) P_n: scikit-learn's `average_precision_score`."""
    if not ranking.num_positives:
        return float("nan")
    gain_P = np.diff(ranking.tp_P, prepend=0) / ranking.num_positives
    return float(gain_P @ ranking.precision_P)


def ap_voc10_of(ranking: Ranking) -> float:
    """Area under the precision made monotonically decreasing from the right, at all recalls: VOC2012 devkit 3.4.1, VOCevalcls.m."""
    if not ranking.num_positives:
        return float("nan")
    envelope_P = np.maximum.accumulate(ranking.precision_P[::-1])[::-1]
    gain_P = np.diff(ranking.tp_P, prepend=0) / ranking.num_positives
    return float(gain_P @ envelope_P)


def ap_voc07_of(ranking: Ranking) -> float:
    """Mean over t = 0, 0.1, .. 1 of the maximum precision at recall >= t: VOC2007 devkit, VOCevalcls.m.

    Recall is compared with t in whole numbers, since 3/10 in floating point is not three times 0.1.
    """
    if not ranking.num_positives:
        return float("nan")
    envelope_P = np.maximum.accumulate(ranking.precision_P[::-1])[::-1]
    at = np.searchsorted(10 * ranking.tp_P, np.arange(11) * ranking.num_positives, side="left")
    return float(np.mean(envelope_P[at]))


def average_precision(target_NC: np.ndarray, score_NC: np.ndarray) -> np.ndarray:
    """AP of every class, float64 in [0, 1], NaN without a positive."""
    return np.array([ap_of(rank(target_N, score_N)) for target_N, score_N in zip(target_NC.T, score_NC.T, strict=True)])


def mean_average_precision(target_NC: np.ndarray, score_NC: np.ndarray) -> float:
    """mAP: the unweighted mean over the classes that have a positive; NaN where none has."""
    return mean_over_defined(average_precision(target_NC, score_NC))


def mean_over_defined(value_C: np.ndarray) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    defined = value_C[~np.isnan(value_C)]
    return float(defined.mean()) if len(defined) else float("nan")
