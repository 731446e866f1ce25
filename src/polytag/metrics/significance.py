"""Whether a difference in average precision could be chance: the paired permutation test, and Holm's correction.

Shapes: N pictures, C classes, B permutations, S distinct ranks of positives.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from scipy.sparse import csr_array

_AT_ONCE = 250  # permutations: S by this many float32 stay in the processor's cache for a class of a thousand positives
_BYTES_OF_SWAPS = 64_000_000
_ROUNDING = 1e-7  # differences in AP that are closer than this count as equal


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapTest:
    """Two-sided p-values: of each class's difference in AP (NaN without a positive), and of the difference in mAP."""

    p_C: np.ndarray
    p_mean: float


def swap_test(
    target_NC: np.ndarray, first_NC: np.ndarray, second_NC: np.ndarray, *, num_permutations: int, seed: int = 0
) -> SwapTest:
    """Paired permutation test of two runs' scores of the same pictures, against "which run a score came from does not matter".

    Each permutation swaps the two runs' scores of every picture, of all its classes together, with probability one half, and takes
    the difference in AP again. p = (1 + permutations whose difference is at least as large, either way) / (1 + permutations), so
    it is never 0 (Phipson and Smyth 2010; the test is Fisher's, for rankings in Smucker, Allan and Carterette 2007). Scores are
    first replaced by their ranks in their own run, which changes no AP, so that runs on different scales can be swapped.
    """
    num_classes = target_NC.shape[1]
    columns = np.flatnonzero((target_NC == 1).any(axis=0))
    if not len(columns):
        return SwapTest(p_C=np.full(num_classes, np.nan), p_mean=float("nan"))
    classes = [_swapped_class(target_NC[:, column], first_NC[:, column], second_NC[:, column]) for column in columns]
    unswapped_N1 = np.ones((len(target_NC), 1), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy and SciPy release Python's lock
        observed_C = _differences(classes, unswapped_N1, pool)[0]
        rng = np.random.default_rng([seed, 1])
        as_large_C, as_large_mean = np.zeros(len(columns), np.int64), 0
        at_once = max(1, _BYTES_OF_SWAPS // (4 * len(target_NC)))
        for start in range(0, num_permutations, at_once):
            shape = (len(target_NC), min(at_once, num_permutations - start))
            kept_NB = rng.integers(0, 2, shape, dtype=np.uint8).astype(np.float32)
            difference_BC = _differences(classes, kept_NB, pool)
            as_large_C += (np.abs(difference_BC) >= np.abs(observed_C) - _ROUNDING).sum(axis=0)
            as_large_mean += int((np.abs(difference_BC.mean(axis=1)) >= abs(observed_C.mean()) - _ROUNDING).sum())
    p_C = np.full(num_classes, np.nan)
    p_C[columns] = (1 + as_large_C) / (1 + num_permutations)
    return SwapTest(p_C=p_C, p_mean=(1 + as_large_mean) / (1 + num_permutations))


def holm(p_C: np.ndarray) -> np.ndarray:
    """p-values corrected for looking at all of them (Holm 1979): the k-th smallest of m times m - k + 1, made ascending, at most 1.

    The chance that any true null falls below 5% is at most 5%, whatever depends on whatever. NaN stays NaN and is not counted.
    """
    adjusted_C = np.full(len(p_C), np.nan)
    columns = np.flatnonzero(~np.isnan(p_C))
    columns = columns[np.argsort(p_C[columns], kind="stable")]
    factors = len(columns) - np.arange(len(columns))
    adjusted_C[columns] = np.minimum(1, np.maximum.accumulate(p_C[columns] * factors))
    return adjusted_C


@dataclass(frozen=True, kw_only=True, eq=False)
class _SwappedClass:
    """One class, both runs' ranks in one descending list cut at the S ranks where either run has a positive.

    A picture adds 1 to the segment of the run that is kept and takes 1 from that of the other: `sign_SN` over the known pictures,
    `sign_of_positives_SN` over the positives. `second_S` and `both_S` count all entries of the second run and of both,
    `second_positive_S` and `both_positive_S` the positives among them.
    """

    sign_SN: csr_array
    sign_of_positives_SN: csr_array
    second_S: np.ndarray
    both_S: np.ndarray
    second_positive_S: np.ndarray
    both_positive_S: np.ndarray


def _swapped_class(target_N: np.ndarray, first_N: np.ndarray, second_N: np.ndarray) -> _SwappedClass:
    known, positive = np.flatnonzero(target_N >= 0), target_N[target_N >= 0] == 1
    rank_first, rank_second = _ranks(first_N[known]), _ranks(second_N[known])
    threshold_S = np.unique(np.concatenate([rank_first[positive], rank_second[positive]]))
    num_segments = len(threshold_S)
    segment_first, segment_second = (
        num_segments - np.searchsorted(threshold_S, rank, side="right") for rank in (rank_first, rank_second)
    )  # the highest rank is in segment 0; what is below every positive is in none

    def signs(chosen: np.ndarray) -> csr_array:
        """+1 where the first run puts a picture, -1 where the second does."""
        rows = np.concatenate([segment_first[chosen], segment_second[chosen]])
        values = np.repeat(np.array([1, -1], np.float32), len(rows) // 2)
        inside = rows < num_segments
        places = (rows[inside], np.tile(known[chosen], 2)[inside])
        return csr_array((values[inside], places), shape=(num_segments, len(target_N)))

    def counts(segment: np.ndarray) -> np.ndarray:
        return np.bincount(segment, minlength=num_segments + 1)[:num_segments].astype(np.float32)

    return _SwappedClass(
        sign_SN=signs(np.arange(len(known))),
        sign_of_positives_SN=signs(np.flatnonzero(positive)),
        second_S=counts(segment_second),
        both_S=counts(segment_first) + counts(segment_second),
        second_positive_S=counts(segment_second[positive]),
        both_positive_S=counts(segment_first[positive]) + counts(segment_second[positive]),
    )


def _differences(classes: Sequence[_SwappedClass], kept_NB: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
    """Second minus first in AP, B x C, where each picture's scores are kept (1) or swapped (0)."""
    difference_BC = np.empty((kept_NB.shape[1], len(classes)))
    for start in range(0, kept_NB.shape[1], _AT_ONCE):
        kept = np.ascontiguousarray(kept_NB[:, start : start + _AT_ONCE])
        for column, difference_B in enumerate(pool.map(_difference, classes, repeat(kept))):
            difference_BC[start : start + _AT_ONCE, column] = difference_B
    return difference_BC


def _difference(swapped: _SwappedClass, kept_NB: np.ndarray) -> np.ndarray:
    """Of one class. What the first of two permuted runs has is counted; the second has the rest."""
    gain_SB = swapped.sign_of_positives_SN @ kept_NB + swapped.second_positive_S[:, None]
    predicted_SB = np.cumsum(swapped.sign_SN @ kept_NB + swapped.second_S[:, None], axis=0)
    tp_SB = np.cumsum(gain_SB, axis=0)
    # whole numbers below 2^24 are exact in float32; where nothing is predicted yet nothing is gained either
    precision_first_SB = tp_SB / np.maximum(predicted_SB, 1)
    tp_second_SB = np.cumsum(swapped.both_positive_S)[:, None] - tp_SB
    precision_second_SB = tp_second_SB / np.maximum(np.cumsum(swapped.both_S)[:, None] - predicted_SB, 1)
    gained_SB = (swapped.both_positive_S[:, None] - gain_SB) * precision_second_SB - gain_SB * precision_first_SB
    return 2 * gained_SB.sum(axis=0, dtype=np.float64) / swapped.both_positive_S.sum(dtype=np.float64)


def _ranks(score_K: np.ndarray) -> np.ndarray:
    """Each score replaced by twice the middle rank of its equals."""
    ascending = np.sort(score_K)
    return np.searchsorted(ascending, score_K, "left") + np.searchsorted(ascending, score_K, "right")
