"""Brier score and calibration error of probabilities."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from polytag import evaluate
from polytag.logits import sigmoid
from polytag.metrics.reliability import brier_score, calibration_error, reliability


def test_brier_is_scikit_learns_over_the_known():
    rng = np.random.default_rng(0)
    target_N, probability_N = rng.integers(-1, 2, 200), rng.random(200)
    known = target_N >= 0
    assert brier_score(target_N, probability_N) == pytest.approx(brier_score_loss(target_N[known], probability_N[known]), abs=1e-12)
    assert np.isnan(brier_score(np.array([-1]), np.array([0.3])))


def test_calibration_error_by_hand():
    # one bin each: the mean probability of 0.2 against a share of 0.5, and of 0.9 against 1
    target_N, probability_N = np.array([0, 1, 1, 1]), np.array([0.2, 0.2, 0.9, 0.9])
    assert calibration_error(target_N, probability_N, num_bins=2) == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)
    assert calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0


def test_probabilities_that_are_true_have_a_small_error_and_those_that_are_not_a_large_one():
    rng = np.random.default_rng(0)
    probability_N = rng.random(20_000)
    target_N = (rng.random(20_000) < probability_N).astype(int)
    assert calibration_error(target_N, probability_N) < 0.02
    assert calibration_error(target_N, probability_N**3) > 0.2


def test_bins_are_of_equally_many_logits_also_where_their_probabilities_are_all_1():
    """Of logits 40 to 49 the lower half are all wrong: in two bins an error of 1 and of 0, in one bin it would be 1/2."""
    logit_N = np.arange(40.0, 50)
    target_N, probability_N = (logit_N >= 45).astype(int), sigmoid(logit_N)
    assert calibration_error(target_N, probability_N, logit_N=logit_N, num_bins=2) == 0.5
    mean_B, share_B, count_B = reliability(target_N, probability_N, logit_N=logit_N, num_bins=2)
    assert (mean_B.tolist(), share_B.tolist(), count_B.tolist()) == ([1, 1], [0, 1], [5, 5])
    metrics = evaluate(target_N, np.stack([logit_N], 1), scores="logit", num_replicates=0)
    assert metrics.calibration_error_C[0] == pytest.approx(0.5)


def test_a_tie_is_in_the_bin_of_its_middle_rank():
    # ten images, two bins: the tie of ranks 3 to 8 has its middle at 5.5 of 10, so in the second bin
    probability_N = np.array([0.1, 0.2, *[0.5] * 6, 0.8, 0.9])
    *_, count_B = reliability(np.zeros(10), probability_N, num_bins=2)
    assert count_B.tolist() == [2, 8]
