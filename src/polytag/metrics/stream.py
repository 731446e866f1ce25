"""Streaming average precision, updated batch by batch: for the validation pass of a training loop, on one machine or on many.

Shapes: N images of a batch, C classes, B bins. Targets are 1 (present), 0 (absent) or -1 (unknown, which counts nowhere), equal
scores are one step, and a class without a positive, or without a negative, is NaN and not counted in the mean.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from polytag.errors import PredictionsError, UsageError
from polytag.metrics.ap import average_precision, mean_over_defined, ordered_integers
from polytag.metrics.arrays import require_numbers, table_of, targets_of
from polytag.metrics.values import Mean
from polytag.text import counted

FEWEST_BITS, MOST_BITS = 10, 20


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedAP:
    """Average precision of all batches so far.

    ap_C            average precision, scikit-learn's definition; NaN without a positive or without a negative
    error_bound_C   the exact value is within ap_C ± this bound: 0 if scores are stored, computed from the counts if they are
                    binned; NaN where ap_C is
    support_C       positives; num_negative_C negatives; num_unknown_C images that count as neither
    mean_ap         mAP over the classes that have both, and their number; mean_error_bound as above, NaN without a class
    """

    ap_C: np.ndarray
    error_bound_C: np.ndarray
    support_C: np.ndarray
    num_negative_C: np.ndarray
    num_unknown_C: np.ndarray
    mean_ap: Mean
    mean_error_bound: float


@final
class StreamingAP:
    """Accumulates targets and scores, and computes AP and mAP of all of them, for any division into batches in any order.

    num_classes   C
    num_bits      None stores every score as float32: AP is exact, and memory is 5 bytes per decision (image times class), up to 10
                  temporarily in `compute`. A number from 10 to 20 instead counts the positives and negatives in each of 2^num_bits
                  bins per class: 2^(num_bits + 4) bytes per class, for any number of images (16: 1 MiB). A bin is the first
                  num_bits bits of a float32: sign, exponent, and num_bits - 9 bits of the fraction; with 16, numbers that differ by
                  less than 2^-7 of their size may share a bin, and distinct bfloat16 numbers never do. A bin is one step of the
                  curve, which changes AP by at most `StreamedAP.error_bound_C`.

    Pass logits if bins are used: high probabilities, near 1, differ by less than a bin. An accumulator can be pickled, and so
    gathered from other processes.
    """

    def __init__(self, num_classes: int, *, num_bits: int | None = None):
        if num_classes < 1:
            raise UsageError("no class to evaluate", where="num_classes", got=str(num_classes), expected="1 or more")
        if num_bits is not None and not FEWEST_BITS <= num_bits <= MOST_BITS:
            raise UsageError(
                "number of bits out of range",
                where="num_bits",
                got=str(num_bits),
                expected=f"{FEWEST_BITS} to {MOST_BITS}, or None to store every score",
            )
        self.num_classes, self.num_bits, self.num_images = num_classes, num_bits, 0
        self._num_unknown_C = np.zeros(num_classes, np.int64)
        self._batches: list[tuple[np.ndarray, np.ndarray]] = []  # exact: int8 and float32, never modified
        num_bins = 0 if num_bits is None else 2**num_bits
        self._count_2CB = np.zeros((2, num_classes, num_bins), np.int64)  # negatives, positives; bins from low scores to high

    def update(self, target_NC: Any, score_NC: Any) -> None:
        """Add a batch: targets (as in `polytag.evaluate`) and finite scores, N x C, or N for a single class; N may be 0.

        Copies arrays. Tensors may need gradients, be bfloat16 or be on a GPU. Scores are rounded to float32. Raises UsageError for
        wrong shapes, PredictionsError for a target outside 1, 0, -1 and for a NaN or infinite score, and then adds nothing.
        """
        label_NC, value_NC = table_of(target_NC, where="target_NC"), table_of(score_NC, where="score_NC")
        expected = (len(value_NC), self.num_classes)
        for where, table in (("score_NC", value_NC), ("target_NC", label_NC)):
            if table.shape != expected:
                raise UsageError(
                    "a batch has the wrong shape", where=where, got=str(table.shape), expected=f"{expected} (images, classes)"
                )
        targets = targets_of(label_NC, where="target_NC")
        with np.errstate(over="ignore"):  # the next line raises for it
            scores = np.array(value_NC, np.float32, order="C")
        require_numbers(scores, where="score_NC")
        if self.num_bits is None:
            self._batches.append((targets, scores))
        else:
            known = np.flatnonzero(targets.ravel() >= 0)
            bin_K = (ordered_integers(scores).ravel()[known] >> np.uint32(32 - self.num_bits)).astype(np.int64)
            row_K = targets.ravel()[known].astype(np.int64) * self.num_classes + known % self.num_classes
            np.add.at(self._count_2CB.reshape(-1), (row_K << self.num_bits) + bin_K, 1)
        self._num_unknown_C += (targets < 0).sum(axis=0)
        self.num_images += len(targets)

    def merge(self, other: "StreamingAP") -> "StreamingAP":
        """A new accumulator of the batches of both. Raises PredictionsError if the number of classes or bits differs."""
        mine, theirs = (f"{each.num_classes} classes, num_bits={each.num_bits}" for each in (self, other))
        if mine != theirs:
            raise PredictionsError("accumulators of different kinds cannot be merged", where="merge", got=theirs, expected=mine)
        both = StreamingAP(self.num_classes, num_bits=self.num_bits)
        both.num_images = self.num_images + other.num_images
        both._batches = self._batches + other._batches
        np.add(self._count_2CB, other._count_2CB, out=both._count_2CB)
        both._num_unknown_C = self._num_unknown_C + other._num_unknown_C
        return both

    def compute(self) -> StreamedAP:
        """AP of every class and mAP of all batches so far; more batches may follow."""
        if self.num_bits is None:
            if len(self._batches) > 1:
                targets = np.concatenate([targets for targets, _ in self._batches])
                self._batches = [(targets, np.concatenate([scores for _, scores in self._batches]))]
            targets, scores = self._batches[0] if self._batches else (np.zeros((0, self.num_classes), np.int8),) * 2
            ap_C, bound_C = average_precision(targets, scores.astype(np.float32, copy=False)), np.zeros(self.num_classes)
            support_C, num_negative_C = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
            bound_C[np.isnan(ap_C)] = np.nan
        else:
            num_negative_C, support_C = self._count_2CB.sum(axis=2)
            ap_C, bound_C = np.array([_ap_of_counts(*self._count_2CB[:, column]) for column in range(self.num_classes)]).T
        return StreamedAP(
            ap_C=ap_C,
            error_bound_C=bound_C,
            support_C=support_C,
            num_negative_C=num_negative_C,
            num_unknown_C=self._num_unknown_C.copy(),
            mean_ap=Mean(value=mean_over_defined(ap_C), count=int((~np.isnan(ap_C)).sum())),
            mean_error_bound=mean_over_defined(bound_C),
        )

    def __repr__(self) -> str:
        storage = "every score" if self.num_bits is None else f"2^{self.num_bits} bins per class"
        return f"StreamingAP({counted(self.num_classes, 'classes')}, {counted(self.num_images, 'images')}, {storage})"


def _ap_of_counts(negative_B: np.ndarray, positive_B: np.ndarray) -> tuple[float, float]:
    """AP with every bin as one step, and a bound on its difference from the AP of the scores.

    Let a bin hold p positives and q negatives below T positives and M images in all. The threshold of one of its positives is
    somewhere in the bin: precision there is at most (T + p) / (M + p), with every positive before the negatives. It is at least
    (T + i) / (M + q + i) for the i-th positive from the top, with the negatives first. That is concave in i, because T <= M + q, so
    the sum over i = 1 .. p is at least p times the mean of its ends. Both hold for any ties among the scores.
    """
    negative, positive = negative_B[::-1], positive_B[::-1]
    filled = positive > 0
    if not filled.any() or not negative.any():
        return np.nan, np.nan
    tp, predicted = np.cumsum(positive)[filled], np.cumsum(positive + negative)[filled]
    p, q = positive[filled], negative[filled]
    num_before, num_positives = predicted - p - q, tp[-1]
    precision = tp / predicted
    highest = tp / (num_before + p)
    lowest = 0.5 * ((tp - p + 1) / (num_before + q + 1) + precision)
    return float(p @ precision) / num_positives, float(max(p @ (highest - precision), p @ (precision - lowest))) / num_positives
