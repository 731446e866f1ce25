"""Wilson's intervals against SciPy's."""

import numpy as np
import pytest
from scipy.stats import binomtest

from polytag.metrics.proportions import wilson


@pytest.mark.parametrize(("right", "tried"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 10), (499, 1000), (1, 100_000)])
def test_it_is_scipys(right: int, tried: int):
    expected = binomtest(right, tried).proportion_ci(method="wilson")
    low, high = wilson(np.array([right]), np.array([tried]))
    np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high], atol=1e-12)
    assert low[0] <= right / tried <= high[0]


def test_nothing_tried_is_not_a_number():
    low, high = wilson(np.array([0, 1]), np.array([0, 2]))
    assert np.isnan([low[0], high[0]]).all()
    assert 0 < low[1] < 0.5 < high[1] < 1


def test_it_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.9):
        low, high = wilson(rng.binomial(80, share, 20_000), np.full(20_000, 80))
        assert 0.93 < np.mean((low <= share) & (share <= high)) < 0.97
