"""Average precision in three definitions from one sort; ties are one step, unknown labels count nowhere.

Shapes: N images, C classes. Targets are 1 (present), 0 (absent), -1 (unknown); scores are any real numbers where higher means
more likely (logits and probabilities give the same value: only the order matters). A class without a positive, or without a
negative to rank it against, is NaN.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from polytag.machine import num_cores
from polytag.metrics.near_positives import near_positives

_SMALL = 20_000  # decisions: below this, starting threads takes longer than sorting
_GROUP = 4_000_000  # decisions of neighbouring classes that a core processes at a time: 20 MB of scores and targets
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """The ranking of one class at the thresholds that matter: its distinct positive scores, highest first.

    threshold_P     the scores; tp_P positives scored at least that; predicted_P all known images scored at least that;
                    tied_P negatives scored exactly that
    num_positives   the arrays are empty if it is 0; num_negatives the known images without the class
    is_defined      whether there is a ranking: a positive and a negative
    """

    threshold_P: np.ndarray
    tp_P: np.ndarray
    predicted_P: np.ndarray
    tied_P: np.ndarray
    num_positives: int
    num_negatives: int

    @property
    def is_defined(self) -> bool:
        return self.num_positives > 0 and self.num_negatives > 0

    @property
    def precision_P(self) -> np.ndarray:
        """Precision at each threshold."""
        return self.tp_P / self.predicted_P

    @property
    def recall_P(self) -> np.ndarray:
        """Recall at each threshold, ascending to 1."""
        return self.tp_P / self.num_positives


def rank(target_N: np.ndarray, score_N: np.ndarray) -> Ranking:
    """Rank the known images of one class.

    Recall changes only at the score of a positive, so no other threshold contributes to an average precision. Sorting the positives
    and the scores near them, and searching the latter for the former, is exact with ties and needs no argsort. The sort keys are
    integers in the order of the scores, which NumPy sorts with vector instructions.
    """
    key_N = ordered_integers(score_N)
    is_positive_N = target_N == 1
    is_known_N = target_N >= 0
    positive = np.sort(key_N[is_positive_N])
    known = key_N if is_known_N.all() else key_N[is_known_N]
    is_first = np.ones(len(positive), bool)  # of its ties
    is_first[1:] = positive[1:] != positive[:-1]
    start = np.flatnonzero(is_first)  # positives below the threshold
    threshold = positive[start]
    near, num_above = near_positives(known, positive)
    near.sort()
    below = np.searchsorted(near, threshold, side="left")
    num_equal = np.diff(start, append=len(positive))
    after = below + num_equal  # the position of the first negative of the same score, if there is one
    tied = np.zeros(len(threshold), np.int64)
    has_tied = near[np.minimum(after, len(near) - 1)] == threshold if len(near) else np.zeros(0, bool)
    has_tied &= after < len(near)
    tied[has_tied] = np.searchsorted(near, threshold[has_tied], side="right") - after[has_tied]
    return Ranking(
        threshold_P=_scores_of(threshold, like=score_N)[::-1],
        tp_P=(len(positive) - start)[::-1],
        predicted_P=(len(near) - below + num_above[start])[::-1],
        tied_P=tied[::-1],
        num_positives=len(positive),
        num_negatives=len(known) - len(positive),
    )


def ordered_integers(score_N: np.ndarray) -> np.ndarray:
    """uint32 or uint64 in the order of the float32 or float64 scores, equal for equal scores: the bits of IEEE 754, with the sign
    bit flipped or, for negative numbers, all bits."""
    score_N = np.ascontiguousarray(score_N)
    if score_N.dtype != np.float32:
        score_N = score_N.astype(np.float64, copy=False)
    unsigned, signed, sign_bit = _INTEGERS[score_N.dtype.itemsize]
    bits_N = (score_N + 0).view(signed)  # -0 becomes 0
    turn_N = bits_N >> (8 * score_N.dtype.itemsize - 1)  # all ones where negative
    turn_N |= np.array(sign_bit, unsigned).view(signed)
    turn_N ^= bits_N
    return turn_N.view(unsigned)


def _scores_of(key_P: np.ndarray, *, like: np.ndarray) -> np.ndarray:
    """The scores that `ordered_integers` converted to these keys."""
    unsigned, _, sign_bit = _INTEGERS[key_P.dtype.itemsize]
    turn_P = np.where(key_P >= unsigned(sign_bit), unsigned(sign_bit), ~unsigned(0))
    score_P = (key_P ^ turn_P).view(np.float32 if key_P.dtype.itemsize == 4 else np.float64)
    return score_P.astype(like.dtype) if np.issubdtype(like.dtype, np.floating) else score_P


_INTEGERS = {4: (np.uint32, np.int32, 2**31), 8: (np.uint64, np.int64, 2**63)}


def ap_of(ranking: Ranking) -> float:
    """Sum over thresholds of (R_n - R_{n-1}) P_n: scikit-learn's `average_precision_score`, which without a negative is 1."""
    if not ranking.is_defined:
        return float("nan")
    gain_P = np.diff(ranking.tp_P, prepend=0) / ranking.num_positives
    return float((gain_P * ranking.precision_P).sum())


def ap_voc10_of(ranking: Ranking) -> float:
    """Area under the precision made monotonically decreasing from the right, at all recalls: VOC2012 devkit 3.4.1, VOCevalcls.m."""
    if not ranking.is_defined:
        return float("nan")
    envelope_P = np.maximum.accumulate(ranking.precision_P[::-1])[::-1]
    gain_P = np.diff(ranking.tp_P, prepend=0) / ranking.num_positives
    return float((gain_P * envelope_P).sum())


def ap_voc07_of(ranking: Ranking) -> float:
    """Mean over t = 0, 0.1, .. 1 of the maximum precision at recall >= t: VOC2007 devkit, VOCevalcls.m.

    Recall and t are compared as integers, since 3/10 in floating point is not three times 0.1.
    """
    if not ranking.is_defined:
        return float("nan")
    envelope_P = np.maximum.accumulate(ranking.precision_P[::-1])[::-1]
    at = np.searchsorted(10 * ranking.tp_P, np.arange(11) * ranking.num_positives, side="left")
    return float(np.mean(envelope_P[at]))


def roc_auc_of(ranking: Ranking) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, a tie counting half (Mann and Whitney
    1947); scikit-learn's `roc_auc_score`. NaN without a positive or without a negative."""
    if not ranking.is_defined:
        return float("nan")
    gain_P = np.diff(ranking.tp_P, prepend=0)
    num_above_P = ranking.predicted_P - ranking.tp_P - ranking.tied_P  # negatives scored higher
    wrong = (gain_P * (num_above_P + 0.5 * ranking.tied_P)).sum()
    return 1 - float(wrong) / (ranking.num_positives * ranking.num_negatives)


def of_every_class(target_NC: np.ndarray, score_NC: np.ndarray, function: Callable[[Ranking], T]) -> list[T]:
    """Apply a function to the ranking of every class, in parallel on all cores; needs about 50 MB per core besides the tables."""
    num_images, num_classes = target_NC.shape
    width = max(1, min(16, _GROUP // max(1, num_images)))

    def some(start: int) -> list[T]:
        columns = slice(start, start + width)
        target_CN, score_CN = _transposed(target_NC[:, columns]), _transposed(score_NC[:, columns])
        return [function(rank(target_N, score_N)) for target_N, score_N in zip(target_CN, score_CN, strict=True)]

    starts = range(0, num_classes, width)
    if target_NC.size < _SMALL:
        groups = [some(start) for start in starts]
    else:
        with ThreadPoolExecutor(num_cores()) as pool:
            groups = list(pool.map(some, starts))
    return [number for group in groups for number in group]


def _transposed(table_NC: np.ndarray, *, num_rows: int = 4096) -> np.ndarray:
    """The transposed table, copied in blocks that fit the processor's cache: columns of a wide table are far apart in memory."""
    table_CN = np.empty(table_NC.shape[::-1], table_NC.dtype)
    for start in range(0, len(table_NC), num_rows):
        table_CN[:, start : start + num_rows] = table_NC[start : start + num_rows].T
    return table_CN


def average_precision(target_NC: np.ndarray, score_NC: np.ndarray) -> np.ndarray:
    """AP of every class, float64 in [0, 1]; NaN without a positive or without a negative."""
    return np.array(of_every_class(target_NC, score_NC, ap_of))


def chance_ap(num_positives_C: np.ndarray, num_negatives_C: np.ndarray) -> np.ndarray:
    """The expected AP of a random order of the known images, float64 C; NaN without a positive or without a negative.

    Of n images k-th from the top, P / n are positive, and one that is has 1 + (k - 1) (P - 1) / (n - 1) positives at or above it on
    average. The sum over k of their precisions is (H + (P - 1) (n - H) / (n - 1)) / n, with H = 1 + 1/2 + .. + 1/n: the share of
    positives P / n, and somewhat more for few positives (Bestgen 2015, The Prague Bulletin of Mathematical Linguistics 103, 131).
    """
    n_C = np.maximum(num_positives_C + num_negatives_C, 2)
    harmonic_C = _harmonic(n_C)
    chance_C = (harmonic_C + (num_positives_C - 1) * (n_C - harmonic_C) / (n_C - 1)) / n_C
    return np.where((num_positives_C > 0) & (num_negatives_C > 0), chance_C, np.nan)


def _harmonic(n_C: np.ndarray) -> np.ndarray:
    """1 + 1/2 + .. + 1/n, to rounding, by Euler's series at n + 20: to import scipy.special for it takes a tenth of a second."""
    far_C = n_C + 20.0
    series_C = np.log(far_C) + np.euler_gamma + 1 / (2 * far_C) - 1 / (12 * far_C**2) + 1 / (120 * far_C**4) - 1 / (252 * far_C**6)
    return series_C + 1 / (240 * far_C**8) - sum(1 / (n_C + k) for k in range(1, 21))


def mean_average_precision(target_NC: np.ndarray, score_NC: np.ndarray) -> float:
    """mAP: the unweighted mean over the classes that have a positive and a negative; NaN if none has both."""
    return mean_over_defined(average_precision(target_NC, score_NC))


def mean_over_defined(value_C: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    defined = value_C[~np.isnan(value_C)]
    return float(defined.mean()) if len(defined) else float("nan")
