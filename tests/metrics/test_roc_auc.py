"""Area under the ROC curve, and the whole numbers that scores are sorted as."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from polytag.metrics.ap import average_precision, rank, roc_auc_of

COLUMNS = st.integers(1, 30).flatmap(
    lambda length: st.tuples(
        arrays(np.int8, length, elements=st.sampled_from((1, 0, -1))),
        arrays(np.float32, length, elements=st.one_of(st.integers(-2, 2).map(float), st.floats(-10, 10, width=32))),
    )
)


def test_by_hand():
    # of six (positive, negative) pairs, four are right and one is tied
    assert roc_auc_of(rank(np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.6, 0.6, 0.7, 0.1]))) == pytest.approx(4.5 / 6)


@given(COLUMNS)
def test_it_is_scikit_learns_over_the_known(column):
    target_N, score_N = column
    known = target_N >= 0
    found = roc_auc_of(rank(target_N, score_N))
    if len(set(target_N[known].tolist())) < 2:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(target_N[known], score_N[known]), abs=1e-9)


@given(COLUMNS)
def test_thresholds_are_the_positive_scores_themselves(column):
    target_N, score_N = column
    ranking = rank(target_N, score_N)
    np.testing.assert_array_equal(ranking.threshold_P, np.unique(score_N[target_N == 1])[::-1])
    assert (ranking.predicted_P == [(score_N[target_N >= 0] >= threshold).sum() for threshold in ranking.threshold_P]).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_extreme_scores_keep_their_order(kind: type):
    tiny = np.finfo(kind).smallest_subnormal
    score_N = np.array([np.finfo(kind).max, 1, tiny, 0.0, -0.0, -tiny, -1, np.finfo(kind).min], kind)
    target_N = np.array([1, 1, 1, 1, 1, 1, 1, 0])
    ranking = rank(target_N, score_N)
    assert ranking.threshold_P.dtype == kind
    np.testing.assert_array_equal(ranking.threshold_P, score_N[[0, 1, 2, 3, 5, 6]])
    assert ranking.tp_P.tolist() == [1, 2, 3, 5, 6, 7]  # 0 and -0 are one score


def test_classes_in_parallel_are_classes_one_by_one():
    rng = np.random.default_rng(0)
    target_NC, score_NC = rng.integers(-1, 2, (3000, 11)).astype(np.int8), rng.normal(size=(3000, 11)).astype(np.float32)
    one_by_one = [average_precision(target_NC[:, [column]], score_NC[:, [column]])[0] for column in range(11)]
    np.testing.assert_array_equal(average_precision(target_NC, score_NC), one_by_one)
