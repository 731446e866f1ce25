"""Reliability of probabilities: Brier score, calibration error and the reliability curve; known labels only."""

import math

import numpy as np

NUM_BINS = 15


def brier_score(target_N: np.ndarray, probability_N: np.ndarray) -> float:
    """Mean squared difference of probability and truth, 0 to 1, lower is better (Brier 1950). NaN without a known label."""
    known = target_N >= 0
    return float(np.mean((probability_N[known] - target_N[known]) ** 2)) if known.any() else math.nan


def calibration_error(
    target_N: np.ndarray, probability_N: np.ndarray, *, logit_N: np.ndarray | None = None, num_bins: int = NUM_BINS
) -> float:
    """Expected calibration error over bins of equally many images (Nguyen, O'Connor 2015, arXiv:1508.05154); known labels only.

    Images are binned by the rank of their logits, which near 1 differ where probabilities do not; without logits, of their
    probabilities. The n images of one score are in one bin together, that of their middle rank: with m images below them,
    floor(num_bins · (m + n / 2) / N). So the order of the images does not matter. NaN without an image.
    """
    known = target_N >= 0
    logit_N = None if logit_N is None else logit_N[known]
    mean_B, share_B, count_B = reliability(target_N[known], probability_N[known], logit_N=logit_N, num_bins=num_bins)
    return float(np.sum(count_B * np.abs(mean_B - share_B)) / count_B.sum()) if len(count_B) else math.nan


def reliability(
    target_N: np.ndarray, probability_N: np.ndarray, *, logit_N: np.ndarray | None = None, num_bins: int = NUM_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The reliability curve: mean probability, share of positives and number of images of each bin, ascending; known labels only.

    At most `num_bins` bins, of equally many images as far as ties of the scores allow.
    """
    score_N = probability_N if logit_N is None else logit_N
    distinct_D, which_N, count_D = np.unique(score_N, return_inverse=True, return_counts=True)
    if not len(distinct_D):
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    middle_D = np.cumsum(count_D) - count_D / 2
    bin_N = np.minimum((middle_D * num_bins / len(score_N)).astype(np.int64), num_bins - 1)[which_N]
    count_B = np.bincount(bin_N)
    filled = count_B > 0
    mean_B = np.bincount(bin_N, weights=probability_N)[filled] / count_B[filled]
    share_B = np.bincount(bin_N, weights=target_N == 1)[filled] / count_B[filled]
    return mean_B, share_B, count_B[filled]
