"""Percentile bootstrap over pictures, of all class APs and their mean at once, without sorting again.

A replicate draws N pictures with replacement, which is a weight for every picture. The order of the pictures by score is the same
in every replicate, so weights are summed along the sorted order between the thresholds that matter.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from polytag.metrics.ap import num_cores, rank

_BLOCK_BYTES = 6_400_000  # weights of the replicates that are taken at a time: what stays in a processor's cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """95% percentile intervals: of each class's AP, and of the mean over the classes that a replicate gave a positive."""

    low_C: np.ndarray
    high_C: np.ndarray
    mean_low: float
    mean_high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Replicates:
    """What B replicates give: AP of each class (NaN where one drew no positive of it), and how many positives it drew."""

    ap_BC: np.ndarray
    support_BC: np.ndarray


def bootstrap_ap(target_NC: np.ndarray, score_NC: np.ndarray, *, num_replicates: int = 1000, seed: int = 0) -> Intervals:
    """Intervals of AP and mAP over resampled pictures.

    A replicate without a positive of a class is left out of that class's interval and of its own mean. NaN where there is no
    replicate to count. Seeded: the same table gives the same interval.
    """
    ap_BC = replicate_ap(target_NC, weights_of(len(target_NC), num_replicates=num_replicates, seed=seed), score_NC=score_NC)
    return intervals_of(ap_BC)


def intervals_of(ap_BC: np.ndarray) -> Intervals:
    """2.5 and 97.5 percent points of the replicates of each class, and of each replicate's mean."""
    num_classes = ap_BC.shape[1]
    low_C, high_C = np.full(num_classes, np.nan), np.full(num_classes, np.nan)
    for column in range(num_classes):
        low_C[column], high_C[column] = percentiles(ap_BC[:, column])
    counted_B = (~np.isnan(ap_BC)).sum(axis=1)
    mean_B = np.nansum(ap_BC, axis=1)[counted_B > 0] / counted_B[counted_B > 0]
    mean_low, mean_high = percentiles(mean_B)
    return Intervals(low_C=low_C, high_C=high_C, mean_low=mean_low, mean_high=mean_high)


def weights_of(num_pictures: int, *, num_replicates: int, seed: int) -> np.ndarray:
    """uint8 N x B: how many times each replicate drew each picture."""
    rng = np.random.default_rng(seed)
    weight_NB = np.zeros((num_pictures, num_replicates), np.uint8)
    for replicate in range(num_replicates):
        drawn = np.bincount(rng.integers(0, num_pictures, num_pictures), minlength=num_pictures)
        weight_NB[:, replicate] = drawn  # a picture drawn 256 times has probability under 1e-500
    return weight_NB


def replicate_ap(target_NC: np.ndarray, weight_NB: np.ndarray, *, score_NC: np.ndarray) -> np.ndarray:
    """AP of every replicate and class, B x C; NaN where a replicate has no positive of a class."""
    return replicates(target_NC, weight_NB, score_NC=score_NC).ap_BC


def replicates(target_NC: np.ndarray, weight_NB: np.ndarray, *, score_NC: np.ndarray) -> Replicates:
    """AP and positives of every replicate and class; the classes in parallel on all cores."""
    num_replicates, num_classes = weight_NB.shape[1], target_NC.shape[1]
    ap_BC = np.full((num_replicates, num_classes), np.nan)
    support_BC = np.zeros((num_replicates, num_classes))
    if not num_replicates:
        return Replicates(ap_BC=ap_BC, support_BC=support_BC)
    with ThreadPoolExecutor(num_cores()) as pool:
        classes = list(pool.map(lambda column: _order(target_NC[:, column], score_NC[:, column]), range(num_classes)))
        for block in _blocks(weight_NB):
            drawn_NB = weight_NB[:, block].astype(np.float32)  # whole numbers: exact, and so are their sums, up to 2^24

            def one(column: int, *, block: slice = block, drawn_NB: np.ndarray = drawn_NB) -> None:
                if (order := classes[column]) is not None:
                    ap_BC[block, column], support_BC[block, column] = _weighted_ap(order, drawn_NB)

            list(pool.map(one, range(num_classes)))
    return Replicates(ap_BC=ap_BC, support_BC=support_BC)


def replicate_means(values: Sequence[np.ndarray], weight_NB: np.ndarray) -> np.ndarray:
    """Means over the pictures that each replicate drew, one row for each of the values (N numbers, NaN where not counted)."""
    value_VN = np.stack(values)
    counted_VN = (~np.isnan(value_VN)).astype(np.float64)
    value_VN = np.nan_to_num(value_VN)
    mean_VB = np.empty((len(value_VN), weight_NB.shape[1]))
    for block in _blocks(weight_NB):
        drawn_NB = weight_NB[:, block].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):  # a replicate that drew no picture that counts: NaN
            mean_VB[:, block] = (value_VN @ drawn_NB) / (counted_VN @ drawn_NB)
    return mean_VB


def _blocks(weight_NB: np.ndarray) -> list[slice]:
    """Replicates in blocks of 16 to 200: few for many pictures, so that their weights stay in the cache."""
    num_pictures, num_replicates = weight_NB.shape
    width = min(200, max(16, _BLOCK_BYTES // (4 * max(1, num_pictures))))
    return [slice(start, start + width) for start in range(0, num_replicates, width)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Order:
    """A class's pictures in the order of their scores, as two sparse tables that add up weights between thresholds.

    predicted_PN   1 where the picture is scored under the threshold before and not under this one; true_PN the positives of these
    """

    predicted_PN: sparse.csr_array
    true_PN: sparse.csr_array


def _order(target_N: np.ndarray, score_N: np.ndarray) -> _Order | None:
    ranking = rank(target_N, score_N)
    if not ranking.num_positives:
        return None
    known = np.flatnonzero(target_N >= 0)
    reached = known[score_N[known] >= ranking.threshold_P[-1]]  # pictures below every positive change nothing
    descending = reached[np.argsort(-score_N[reached], kind="stable")]
    positives = descending[target_N[descending] == 1]
    return _Order(
        predicted_PN=_sums(descending, ranking.predicted_P, num_pictures=len(target_N)),
        true_PN=_sums(positives, ranking.tp_P, num_pictures=len(target_N)),
    )


def _sums(rows: np.ndarray, ends: np.ndarray, *, num_pictures: int) -> sparse.csr_array:
    """The table whose p-th row has ones at `rows[ends[p - 1] : ends[p]]`."""
    starts = np.concatenate([[0], ends]).astype(np.int32)
    return sparse.csr_array((np.ones(len(rows), np.float32), rows.astype(np.int32), starts), shape=(len(ends), num_pictures))


def _weighted_ap(order: _Order, weight_NB: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gain_PB = order.true_PN @ weight_NB
    predicted_PB = np.cumsum(order.predicted_PN @ weight_NB, axis=0)
    tp_PB = np.cumsum(gain_PB, axis=0)
    support_B = tp_PB[-1].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        # before the first picture drawn there is nothing predicted and nothing gained: 0/0 counts as 0
        precision_PB = np.divide(tp_PB, predicted_PB, dtype=np.float64)
        precision_PB[predicted_PB == 0] = 0.0
        return np.einsum("pb,pb->b", gain_PB, precision_PB) / support_B, support_B


def percentiles(value_B: np.ndarray) -> tuple[float, float]:
    """The 2.5 and 97.5 percent points of the replicates that are defined; NaN where none is."""
    defined = value_B[~np.isnan(value_B)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
