"""Counting from the top without sorting everything: the same counts as sorting gives, for any distribution of scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from polytag.metrics.ap import ap_of, ordered_integers, rank, roc_auc_of
from polytag.metrics.near_positives import near_positives

SHAPES = {
    "logits": lambda x: x,
    "probabilities near 0": lambda x: 1 / (1 + np.exp(8 - 4 * x)),
    "over 40 orders of magnitude": lambda x: np.sign(x) * np.exp(20 * np.abs(x) - 40),
    "few values": np.round,
    "halves": lambda x: x.astype(np.float16).astype(x.dtype),
    "all equal": np.zeros_like,
    "one far away": lambda x: np.where(x == x.max(), x.dtype.type(1e30), x),
}


@pytest.mark.parametrize("shape", SHAPES)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_scores=st.integers(1, 3000),
    share=st.sampled_from([0.0, 0.01, 0.05, 0.12]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_counts_are_those_of_a_full_sort(shape: str, seed: int, num_scores: int, share: float, dtype: type):
    rng = np.random.default_rng(seed)
    key_N = ordered_integers(SHAPES[shape](rng.standard_normal(num_scores).astype(dtype)))
    positive_P = np.sort(key_N[rng.random(num_scores) < share])
    near, num_above_P = near_positives(key_N, positive_P, fewest=0)
    expected_P = [(key_N >= key).sum() for key in positive_P]
    assert [(near >= key).sum() + above for key, above in zip(positive_P, num_above_P, strict=True)] == expected_P
    assert [(near == key).sum() for key in positive_P] == [(key_N == key).sum() for key in positive_P]  # every tie is near


@pytest.mark.parametrize("shape", ["logits", "probabilities near 0"])
def test_few_are_near_where_scores_are_distinct(shape: str):
    rng = np.random.default_rng(0)
    is_positive_N = rng.random(400_000) < 0.02
    key_N = ordered_integers(SHAPES[shape](rng.standard_normal(400_000) + 2 * is_positive_N).astype(np.float32))
    near, _ = near_positives(key_N, np.sort(key_N[is_positive_N]))
    assert is_positive_N.sum() < len(near) < 0.15 * len(key_N)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_class_has_scikit_learns_numbers(shape: str):
    rng = np.random.default_rng(1)
    target_N = (rng.random(200_000) < 0.03).astype(np.int8)
    target_N[rng.random(200_000) < 0.1] = -1
    score_N = SHAPES[shape]((rng.standard_normal(200_000) + target_N).astype(np.float32))
    ranking, known = rank(target_N, score_N), target_N >= 0
    assert ap_of(ranking) == pytest.approx(average_precision_score(target_N[known], score_N[known]), abs=1e-9, rel=0)
    assert roc_auc_of(ranking) == pytest.approx(roc_auc_score(target_N[known], score_N[known]), abs=1e-9, rel=0)


def test_a_large_class_without_a_positive_has_no_average_precision():
    ranking = rank(np.zeros(200_000, np.int8), np.arange(200_000, dtype=np.float32))
    assert np.isnan(ap_of(ranking))
    assert (ranking.num_positives, ranking.num_negatives) == (0, 200_000)
