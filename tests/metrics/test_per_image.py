"""Each image's own ranking, by hand, against scikit-learn, and by laws."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import coverage_error, label_ranking_average_precision_score, label_ranking_loss

from polytag.metrics.ap import average_precision
from polytag.metrics.per_image import image_rankings

TABLES = st.tuples(st.integers(1, 12), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        arrays(np.int8, shape, elements=st.sampled_from((1, 0, -1))),
        arrays(np.float32, shape, elements=st.integers(-3, 3).map(float)),  # many ties
    )
)


def test_by_hand():
    target_NC = np.array([[1, 0, 1, 0]])
    rankings = image_rankings(target_NC, np.array([[0.9, 0.8, 0.7, 0.1]]))
    assert rankings.ap_N == [(1 + 2 / 3) / 2]
    assert rankings.coverage_N == [3]
    assert rankings.ranking_loss_N == [1 / 4]  # of the four pairs, only (0.7 true, 0.8 absent) is wrong


def test_a_tie_counts_as_passed_and_as_wrong():
    rankings = image_rankings(np.array([[1, 0]]), np.array([[0.5, 0.5]]))
    assert (rankings.ap_N[0], rankings.coverage_N[0], rankings.ranking_loss_N[0]) == (0.5, 2, 1)


def test_what_has_no_answer_is_not_a_number():
    rankings = image_rankings(np.array([[0, 0], [1, 1], [-1, -1], [1, -1]]), np.zeros((4, 2)))
    np.testing.assert_array_equal(rankings.ap_N, [np.nan, 1, np.nan, 1])
    np.testing.assert_array_equal(rankings.coverage_N, [np.nan, 2, np.nan, 1])
    np.testing.assert_array_equal(rankings.ranking_loss_N, [np.nan, np.nan, np.nan, np.nan])


@given(TABLES)
def test_it_is_scikit_learns_where_every_image_has_a_true_and_an_absent_label(table):
    target_NC, score_NC = table
    known = np.abs(target_NC)
    rows = (known.sum(axis=1) > 0) & (known.sum(axis=1) < known.shape[1])
    if not rows.any():
        return
    known, score_NC = known[rows], score_NC[rows]
    rankings = image_rankings(known, score_NC)
    score_NC = score_NC.astype(np.float64)  # SciPy 1.18's `rankdata` of float32 is float32, right to 1e-7 alone
    np.testing.assert_allclose(rankings.ap_N.mean(), label_ranking_average_precision_score(known, score_NC), atol=1e-9)
    np.testing.assert_allclose(rankings.coverage_N.mean(), coverage_error(known, score_NC), atol=1e-9)
    np.testing.assert_allclose(rankings.ranking_loss_N.mean(), label_ranking_loss(known, score_NC), atol=1e-9)


@given(TABLES)
def test_it_is_the_average_precision_of_the_table_turned(table):
    target_NC, score_NC = table
    """But for an image whose every known label is present: LRAP, as scikit-learn's, is then 1, and a class has no AP."""
    has_negative_N = (target_NC == 0).any(axis=1)
    ap_N, turned_N = image_rankings(target_NC, score_NC).ap_N, average_precision(target_NC.T, score_NC.T)
    np.testing.assert_allclose(ap_N[has_negative_N], turned_N[has_negative_N], atol=1e-12)
    np.testing.assert_array_equal(ap_N[~has_negative_N], np.where((target_NC == 1).any(axis=1), 1, np.nan)[~has_negative_N])


@given(TABLES)
def test_an_unknown_label_is_as_good_as_none(table):
    target_NC, score_NC = table
    whole = image_rankings(target_NC, score_NC)
    for row in range(len(target_NC)):
        known = target_NC[row] >= 0
        if known.any():
            alone = image_rankings(target_NC[row : row + 1, known], score_NC[row : row + 1, known])
            for name in ("ap_N", "coverage_N", "ranking_loss_N"):
                np.testing.assert_allclose(getattr(whole, name)[row], getattr(alone, name)[0], atol=1e-12)


def test_blocks_of_rows_are_one_table():
    rng = np.random.default_rng(0)
    target_NC, score_NC = rng.integers(-1, 2, (2100, 300)).astype(np.int8), rng.normal(size=(2100, 300)).astype(np.float32)
    whole = image_rankings(target_NC, score_NC)  # more decisions than one block holds
    part = image_rankings(target_NC[1600:1700], score_NC[1600:1700])
    np.testing.assert_array_equal(whole.ranking_loss_N[1600:1700], part.ranking_loss_N)
