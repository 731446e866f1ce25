"""Exact tests against SciPy's, which compute them in another way, and by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from polytag.metrics.exact_tests import binomial_at_least, hypergeometric_at_least


def test_by_hand():
    assert binomial_at_least(np.array(2), np.array(2), np.array(0.5)) == pytest.approx(0.25)
    assert hypergeometric_at_least(np.array(2), np.array(2), np.array(2), np.array(4)) == pytest.approx(1 / math.comb(4, 2))


@pytest.mark.parametrize(("trials", "probability"), [(0, 0.3), (1, 0.0), (7, 0.2), (40, 0.95), (300, 0.01), (5, 1.0)])
def test_a_binomial_tail_is_scipys(trials: int, probability: float):
    num = np.arange(trials + 1)
    expected = [binomtest(k, trials, probability, alternative="greater").pvalue if trials else 1.0 for k in num.tolist()]
    assert binomial_at_least(num, np.array(trials), np.array(probability)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_hypergeometric_tail_is_fishers_test():
    rng = np.random.default_rng(0)
    for _ in range(60):
        total = int(rng.integers(1, 90))
        marked, drawn = (int(each) for each in rng.integers(0, total + 1, 2))
        lowest, highest = max(0, drawn + marked - total), min(drawn, marked)
        num = int(rng.integers(lowest, highest + 1))
        table = [[num, drawn - num], [marked - num, total - marked - drawn + num]]
        expected = fisher_exact(table, alternative="greater").pvalue
        assert hypergeometric_at_least(*map(np.array, (num, drawn, marked, total))) == pytest.approx(expected, rel=1e-9)


def test_what_no_draw_can_reach_has_no_chance():
    assert hypergeometric_at_least(np.array([3, 5]), np.array(4), np.array(2), np.array(9)).tolist() == [0.0, 0.0]
