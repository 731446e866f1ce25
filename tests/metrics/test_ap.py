"""Average precision: by hand, by scikit-learn, by the loops of the VOC devkits, and by the laws that all of them obey."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from polytag.metrics.ap import (
    ap_of,
    ap_voc07_of,
    ap_voc10_of,
    average_precision,
    chance_ap,
    mean_average_precision,
    mean_over_defined,
    rank,
    roc_auc_of,
)

Column = tuple[np.ndarray, np.ndarray]


def scores_of(count: int, *, ties: bool) -> st.SearchStrategy[np.ndarray]:
    if ties:
        return hnp.arrays(np.float32, count, elements=st.sampled_from([-3.5, -1.0, 0.0, 0.25, 0.5, 7.0]))
    return hnp.arrays(np.float32, count, elements=st.floats(-50, 50, width=32), unique=True)


@st.composite
def columns(draw: st.DrawFn, *, ties: bool = True, both: bool = False) -> Column:
    """One class of 1 to 40 images: mixed, without a positive, all positive, or all unknown; with `both` it is mixed."""
    count = draw(st.integers(2 if both else 1, 40))
    if both:
        known = st.permutations([1, 0, *draw(st.lists(st.sampled_from((1, 0, -1)), min_size=count - 2, max_size=count - 2))])
        return np.array(draw(known), np.int8), draw(scores_of(count, ties=ties))
    values = draw(st.sampled_from([(1, 0, -1), (1, 0), (0, -1), (1,), (-1,), (1, -1)]))
    return draw(hnp.arrays(np.int8, count, elements=st.sampled_from(values))), draw(scores_of(count, ties=ties))


def three(target_N: np.ndarray, score_N: np.ndarray) -> np.ndarray:
    ranking = rank(target_N, score_N)
    return np.array([ap_of(ranking), ap_voc10_of(ranking), ap_voc07_of(ranking)])


# ---- by hand ----

HAND_TARGETS = np.array([1, 0, 1, 1, 0, -1, 1], np.int8)
HAND_SCORES = np.array([9.0, 8, 7, 6, 6, 5, 4])


def test_a_worked_example():
    """Recall 1/4, 2/4, 3/4, 1 at precision 1, 2/3, 3/5 (a tie is one step), 2/3 (the unknown image does not count)."""
    ranking = rank(HAND_TARGETS, HAND_SCORES)
    assert ranking.threshold_P.tolist() == [9, 7, 6, 4]
    assert ranking.recall_P.tolist() == [1 / 4, 2 / 4, 3 / 4, 1]
    assert ranking.precision_P.tolist() == [1, 2 / 3, 3 / 5, 2 / 3]
    assert ap_of(ranking) == pytest.approx((1 + 2 / 3 + 3 / 5 + 2 / 3) / 4, abs=1e-15)
    assert ap_voc10_of(ranking) == pytest.approx((1 + 2 / 3 + 2 / 3 + 2 / 3) / 4, abs=1e-15)
    assert ap_voc07_of(ranking) == pytest.approx((3 * 1 + 8 * 2 / 3) / 11, abs=1e-15)


def test_the_order_of_images_within_a_tie_does_not_matter():
    for targets in ([1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]):
        assert three(np.array(targets), np.full(4, 0.3)).tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_recall_of_exactly_some_tenths_reaches_that_point(tenth: int):
    """So many tenths of the positives come first, then as many negatives as there are positives, then the rest."""
    for count in range(10, 410, 10):
        first = tenth * count // 10
        targets = np.array([1] * first + [0] * count + [1] * (count - first))
        expected = ((tenth + 1) * 1 + (10 - tenth) * 1 / 2) / 11  # whatever 3 * 0.1 is in binary
        assert ap_voc07_of(rank(targets, -np.arange(2.0 * count))) == pytest.approx(expected, abs=1e-12)


# ---- by other implementations ----


def has_both(target_N: np.ndarray) -> bool:
    return bool((target_N == 1).any() and (target_N == 0).any())


@given(columns())
def test_ap_is_scikit_learns_with_ties_and_unknown_targets(column: Column):
    target_N, score_N = column
    known = target_N >= 0
    if has_both(target_N):
        assert ap_of(rank(target_N, score_N)) == pytest.approx(
            average_precision_score(target_N[known], score_N[known]), abs=1e-9, rel=0
        )
    else:  # scikit-learn says 0 without a positive, and 1 without a negative, whatever the scores
        assert math.isnan(ap_of(rank(target_N, score_N)))


def devkit_curve(target_N: np.ndarray, score_N: np.ndarray) -> tuple[list[Fraction], list[float]]:
    """Recall and precision of VOCevalcls.m: sort, cumulate; ground truth 0 (here -1) is difficult and counts as neither.

    The devkit leaves the order within a tie to its sort. Here, as in every definition of polytag, a tie is one step: the curve is
    read after its last image.
    """
    tp, fp = 0, 0
    recall: list[Fraction] = []
    precision: list[float] = []
    order = sorted(range(len(score_N)), key=lambda row: -score_N[row])
    for place, row in enumerate(order):
        tp += int(target_N[row] == 1)
        fp += int(target_N[row] == 0)
        last_of_tie = place + 1 == len(order) or score_N[order[place + 1]] != score_N[row]
        if last_of_tie and tp + fp:
            recall.append(Fraction(tp, int((target_N == 1).sum())))
            precision.append(tp / (fp + tp))
    return recall, precision


def voc_ap(recall: list[Fraction], precision: list[float]) -> float:
    """VOCap.m of the VOC2012 devkit, line by line."""
    mrec = [Fraction(0), *recall, Fraction(1)]
    mpre = [0.0, *precision, 0.0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    ap = 0.0
    for i in range(1, len(mrec)):
        if mrec[i] != mrec[i - 1]:
            ap += float(mrec[i] - mrec[i - 1]) * mpre[i]
    return ap


def voc07_ap(recall: list[Fraction], precision: list[float]) -> float:
    """The loop `for t=0:0.1:1` of the VOC2007 devkit's VOCevalcls.m, with t in exact tenths."""
    ap = 0.0
    for tenth in range(11):
        reached = [p for r, p in zip(recall, precision, strict=True) if r >= Fraction(tenth, 10)]
        ap += max(reached, default=0.0) / 11
    return ap


@pytest.mark.parametrize("ties", [False, True])
@given(data=st.data())
def test_both_voc_definitions_are_the_devkits_loops(ties: bool, data: st.DataObject):
    target_N, score_N = data.draw(columns(ties=ties))
    _, voc10, voc07 = three(target_N, score_N)
    if has_both(target_N):
        curve = devkit_curve(target_N, score_N)
        assert voc10 == pytest.approx(voc_ap(*curve), abs=1e-9, rel=0)
        assert voc07 == pytest.approx(voc07_ap(*curve), abs=1e-9, rel=0)
    else:
        assert math.isnan(voc10)
        assert math.isnan(voc07)


def test_a_table_as_large_as_voc2012_agrees_with_all_three():
    rng = np.random.default_rng(0)
    target_N = rng.choice([1, 0, -1], 5823, p=[0.06, 0.92, 0.02]).astype(np.int8)
    score_N = np.round(rng.normal(target_N * 1.5, 1), 2).astype(np.float32)  # two decimals: many ties
    ap, voc10, voc07 = three(target_N, score_N)
    curve = devkit_curve(target_N, score_N)
    assert ap == pytest.approx(average_precision_score(target_N[target_N >= 0], score_N[target_N >= 0]), abs=1e-9, rel=0)
    assert (voc10, voc07) == pytest.approx((voc_ap(*curve), voc07_ap(*curve)), abs=1e-9, rel=0)
    assert len({round(value, 3) for value in (ap, voc10, voc07)}) == 3  # they are three numbers, not one


# ---- laws ----


@given(columns(), st.integers(0, 2**32 - 1))
def test_permuting_images_changes_nothing(column: Column, seed: int):
    target_N, score_N = column
    order = np.random.default_rng(seed).permutation(len(target_N))
    np.testing.assert_array_equal(three(target_N[order], score_N[order]), three(target_N, score_N))


@given(columns())
def test_removing_unknown_images_changes_nothing(column: Column):
    target_N, score_N = column
    known = target_N >= 0
    np.testing.assert_array_equal(three(target_N[known], score_N[known]), three(target_N, score_N))


@given(columns())
def test_only_the_order_of_scores_matters(column: Column):
    target_N, score_N = column
    np.testing.assert_array_equal(three(target_N, np.cbrt(score_N.astype(np.float64)) - 7), three(target_N, score_N))


@given(columns(both=True))
def test_values_lie_between_the_worst_possible_and_one_and_voc10_is_never_below_ap(column: Column):
    target_N, score_N = column
    ap, voc10, voc07 = three(target_N, score_N)
    assert 0 < ap <= voc10 + 1e-12
    assert max(voc10, voc07) <= 1 + 1e-12


@given(columns())
def test_all_of_one_kind_is_undefined_and_all_tied_is_the_share_of_positives(column: Column):
    target_N, score_N = column
    for kind in (1, 0):
        np.testing.assert_array_equal(three(np.where(target_N >= 0, kind, -1), score_N), [np.nan] * 3)
        assert math.isnan(roc_auc_of(rank(np.where(target_N >= 0, kind, -1), score_N)))
    if has_both(target_N):
        np.testing.assert_allclose(
            three(target_N, np.zeros(len(target_N))), (target_N == 1).sum() / (target_N >= 0).sum(), rtol=1e-12
        )


@given(columns(ties=False, both=True))
def test_a_perfect_ranking_is_one(column: Column):
    target_N, _ = column
    np.testing.assert_allclose(three(target_N, target_N.astype(float)), 1, rtol=1e-12)


# ---- many classes ----


def test_the_mean_is_over_the_classes_that_have_a_positive_and_a_negative():
    target_NC = np.array([[1, 0, -1, 1, 1], [0, 0, -1, 1, -1], [1, 0, -1, 1, 0]])
    score_NC = np.array([[3.0, 1, 1, 1, 4], [2, 2, 2, 2, 5], [1, 3, 3, 3, 1]])
    ap_C = average_precision(target_NC, score_NC)
    np.testing.assert_allclose(ap_C, [5 / 6, np.nan, np.nan, np.nan, 1], rtol=1e-15)
    assert mean_average_precision(target_NC, score_NC) == pytest.approx(11 / 12, abs=1e-15)


def test_no_class_with_a_positive_has_no_mean():
    assert math.isnan(mean_average_precision(np.array([[0, -1]]), np.array([[0.5, 0.5]])))
    assert math.isnan(mean_over_defined(np.array([])))


def test_without_any_image_there_is_no_value():
    np.testing.assert_array_equal(three(np.zeros(0, np.int8), np.zeros(0)), [np.nan] * 3)


@given(st.data())
def test_each_class_is_independent_and_the_mean_is_the_mean_of_the_classes(data: st.DataObject):
    count, num_classes = data.draw(st.integers(1, 15)), data.draw(st.integers(1, 5))
    target_NC = data.draw(hnp.arrays(np.int8, (count, num_classes), elements=st.sampled_from([1, 0, -1])))
    score_NC = data.draw(hnp.arrays(np.float32, (count, num_classes), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0])))
    alone = [average_precision(target_NC[:, [column]], score_NC[:, [column]])[0] for column in range(num_classes)]
    np.testing.assert_array_equal(average_precision(target_NC, score_NC), alone)
    defined = [value for value in alone if not math.isnan(value)]
    expected = sum(defined) / len(defined) if defined else math.nan
    assert mean_average_precision(target_NC, score_NC) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("num_positives", "num_images"), [(1, 2), (1, 7), (3, 7), (6, 7), (4, 9)])
def test_the_ap_of_chance_is_the_mean_over_every_order(num_positives: int, num_images: int):
    every = [np.isin(np.arange(num_images), places) for places in combinations(range(num_images), num_positives)]
    ap = average_precision(np.array(every, np.int8).T, np.tile(-np.arange(num_images)[:, None], len(every)))
    chance = chance_ap(np.array([num_positives]), np.array([num_images - num_positives]))[0]
    assert chance == pytest.approx(ap.mean(), abs=1e-12)


def test_the_ap_of_chance_is_about_the_share_of_positives_and_undefined_without_a_ranking():
    chance_C = chance_ap(np.array([1, 30, 50_000, 0, 5]), np.array([999_999, 9_970, 50_000, 9, 0]))
    assert chance_C[:3] == pytest.approx([1.44e-5, 0.0039, 0.5], rel=0.01)  # of one positive: 1/n times the harmonic number
    assert np.isnan(chance_C[3:]).all()
