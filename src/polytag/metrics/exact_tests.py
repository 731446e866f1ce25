"""Exact one-sided tests: how likely chance alone gives a count at least as high, element by element. Arguments broadcast."""

import numpy as np
from scipy.special import betainc, gammaln

SIGNIFICANT = 0.05
"""A finding is beyond noise where p, corrected for the number of tests, is at most this."""


def binomial_at_least(num: np.ndarray, trials: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """P(X >= num) of a binomial X of `trials` draws; 1 where `num` is 0."""
    num, trials, probability = np.broadcast_arrays(num, trials, np.asarray(probability, np.float64))
    p = np.ones(num.shape)
    above = num > 0
    p[above] = betainc(num[above], trials[above] - num[above] + 1, probability[above])
    return p


def hypergeometric_at_least(num: np.ndarray, drawn: np.ndarray, marked: np.ndarray, total: np.ndarray) -> np.ndarray:
    """P(X >= num), where X of `drawn` images are marked, and `marked` of all `total` are: Fisher's exact test, one-sided.

    1 where `num` is 0, or no more than what every draw must hold.
    """
    num, drawn, marked, total = (each.astype(np.int64) for each in np.broadcast_arrays(num, drawn, marked, total))
    p = np.ones(num.shape)
    for place in np.ndindex(num.shape):
        k, n, m, t = (int(each[place]) for each in (num, drawn, marked, total))
        if k > max(0, n + m - t):
            x = np.arange(k, min(n, m) + 1)
            p[place] = min(1.0, float(np.exp(_log_choose(m, x) + _log_choose(t - m, n - x) - _log_choose(t, np.array(n))).sum()))
    return p


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
