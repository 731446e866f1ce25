"""Whether a difference in average precision could be chance: the paired permutation test, and Holm's correction."""

from dataclasses import dataclass

import numpy as np

from polytag.metrics.ap import average_precision, mean_over_defined
from polytag.metrics.bootstrap import replicate_ap

_BYTES_AT_ONCE = 64_000_000  # of swaps: at 50,000 pictures, 320 permutations at a time
_ROUNDING = 1e-12  # two sums of the same terms in another order may differ by this


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
    the difference in AP again. p = (1 + permutations whose difference is at least as large, either way) / (1 + permutations):
    never 0, and of the stated level whatever the number of pictures (Phipson and Smyth 2010; the test is Fisher's, for AP in
    Smucker, Allan and Carterette 2007). Scores are first replaced by their ranks in their own run, which changes no AP, so that
    runs on different scales can be swapped. A replicate is then a weight, 0 or 1, for each of the 2N ranks: no second sort.
    """
    num_pictures, num_classes = target_NC.shape
    ranks_MC = np.vstack([_ranks(target_NC, first_NC), _ranks(target_NC, second_NC)])
    target_MC = np.vstack([target_NC, target_NC])
    observed_C = average_precision(target_NC, second_NC) - average_precision(target_NC, first_NC)
    observed_mean = mean_over_defined(observed_C)
    defined = ~np.isnan(observed_C)
    if not defined.any():
        return SwapTest(p_C=np.full(num_classes, np.nan), p_mean=float("nan"))
    rng = np.random.default_rng([seed, 1])
    as_large_C, as_large_mean = np.zeros(num_classes, np.int64), 0
    at_once = max(1, _BYTES_AT_ONCE // (4 * num_pictures))
    for start in range(0, num_permutations, at_once):
        kept_NB = rng.integers(0, 2, (num_pictures, min(at_once, num_permutations - start)), dtype=np.uint8)
        first_MB, second_MB = np.vstack([kept_NB, 1 - kept_NB]), np.vstack([1 - kept_NB, kept_NB])
        difference_BC = replicate_ap(target_MC, second_MB, score_NC=ranks_MC) - replicate_ap(target_MC, first_MB, score_NC=ranks_MC)
        as_large_C[defined] += (np.abs(difference_BC[:, defined]) >= np.abs(observed_C[defined]) - _ROUNDING).sum(axis=0)
        as_large_mean += int((np.abs(difference_BC[:, defined].mean(axis=1)) >= abs(observed_mean) - _ROUNDING).sum())
    return SwapTest(
        p_C=np.where(defined, (1 + as_large_C) / (1 + num_permutations), np.nan),
        p_mean=(1 + as_large_mean) / (1 + num_permutations),
    )


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


def _ranks(target_NC: np.ndarray, score_NC: np.ndarray) -> np.ndarray:
    """Each known score replaced by the middle rank of its equals among the class's known scores; 0 where unknown."""
    rank_NC = np.zeros(score_NC.shape)
    for column in range(score_NC.shape[1]):
        known = target_NC[:, column] >= 0
        score = score_NC[known, column]
        ascending = np.sort(score)
        rank_NC[known, column] = np.searchsorted(ascending, score, "left") + np.searchsorted(ascending, score, "right")
    return rank_NC
