"""The paired permutation test against every swap there is, its level under the null, and Holm's correction by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from polytag.metrics.significance import _after_swaps, _swapped_class, common_scale, holm, swap_test


def every_swap(num_images: int) -> np.ndarray:
    return np.array(list(product((0.0, 1.0), repeat=num_images)), np.float32).T


def differences_by_hand(target_N: np.ndarray, first_N: np.ndarray, second_N: np.ndarray, kept_NB: np.ndarray) -> np.ndarray:
    """scikit-learn's AP of two tables made by swapping, one permutation at a time."""
    known = target_N >= 0
    first, second, target = first_N[known], second_N[known], target_N[known]
    found: list[float] = []
    for kept_N in kept_NB[known].T:
        one, two = np.where(kept_N == 1, first, second), np.where(kept_N == 1, second, first)
        found.append(average_precision_score(target, two) - average_precision_score(target, one))
    return np.array(found)


def differences(target_N: np.ndarray, first_N: np.ndarray, second_N: np.ndarray, kept_NB: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(target_N >= 0)
    return _after_swaps(_swapped_class(target_N, known, first_N[known], second_N[known]), kept_NB)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.data())
def test_every_swap_is_scikit_learns(data):
    """With ties in a run and between the runs, unknown targets and all-positive classes; 2^6 swaps, none left out."""
    num_images = 6
    target_N = np.array(data.draw(st.lists(st.sampled_from([1, 1, 0, 0, -1]), min_size=num_images, max_size=num_images)))
    target_N[0] = 1
    first_N = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=num_images, max_size=num_images)), float)
    second_N = 0.5 * np.array(data.draw(st.lists(st.integers(-4, 4), min_size=num_images, max_size=num_images)), float)
    swaps = every_swap(num_images)
    found = differences(target_N, first_N, second_N, swaps)
    assert found == pytest.approx(differences_by_hand(target_N, first_N, second_N, swaps), abs=1e-7)
    assert found == pytest.approx(-found[::-1], abs=1e-7)  # swapping all that was kept turns the difference around


def test_a_swap_by_hand():
    """An image with the class and one without: the first run has them the wrong way round (AP 1/2), the second right (AP 1).

    Kept as they are, the difference is 1 - 1/2; both swapped, 1/2 - 1. With one of them swapped each run has two equal scores, a
    single step of precision 1/2: no difference.
    """
    target_N, first_N, second_N = np.array([1, 0]), np.array([1.0, 2.0]), np.array([2.0, 1.0])
    assert every_swap(2).T.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert differences(target_N, first_N, second_N, every_swap(2)) == pytest.approx([-0.5, 0, 0, 0.5])


def test_p_is_the_share_of_all_swaps_that_differ_as_much():
    """Every swap on each of 300 common scales, whose average the test estimates."""
    rng = np.random.default_rng(4)
    target_N = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, -1])
    first_N, second_N = target_N + rng.normal(size=10), 100 + 30 * target_N + 20 * rng.normal(size=10)
    swaps, known = every_swap(10), target_N >= 0
    as_large: list[float] = []
    for seed in range(300):
        scores = common_scale(first_N[known], second_N[known], rng=np.random.default_rng(seed))
        every = differences(target_N, *(np.concatenate([score, [0]]) for score in scores), swaps)
        as_large.append(np.mean(np.abs(every) >= abs(every[-1]) - 1e-7))
    test = swap_test(target_N[:, None], first_N[:, None], second_N[:, None], num_permutations=49_999)
    assert test.p_C[0] == test.p_mean == pytest.approx(np.mean(as_large), abs=0.02)
    assert 0.05 < np.mean(as_large) < 0.95


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_a_common_scale_keeps_each_runs_order_and_ties(values: list[int]):
    score_K = np.array(values, float)
    for on_scale in common_scale(score_K, 1000 + score_K**3, rng=np.random.default_rng(0)):
        assert np.array_equal(np.sign(on_scale[:, None] - on_scale), np.sign(score_K[:, None] - score_K))
        assert ((on_scale >= -0.5) & (on_scale <= len(score_K) - 0.5)).all()


def table(seed: int, *, num_images: int = 60, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target_NC = (rng.random((num_images, num_classes)) < 0.3).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < 0.1] = -1
    target_NC[target_NC[:, -1] == 1, -1] = 0  # a class without a positive
    first_NC, second_NC = rng.normal(size=(2, *target_NC.shape)) + 1.5 * target_NC
    return target_NC, first_NC, second_NC


def test_a_class_without_a_positive_is_undefined_and_not_in_the_mean():
    target_NC, first_NC, second_NC = table(0)
    test = swap_test(target_NC, first_NC, second_NC, num_permutations=199)
    assert np.isnan(test.p_C).tolist() == [False, False, False, True]
    without = swap_test(target_NC[:, :3], first_NC[:, :3], second_NC[:, :3], num_permutations=199)
    assert (test.p_C[:3].tolist(), test.p_mean) == (without.p_C.tolist(), without.p_mean)
    none = swap_test(target_NC[:, 3:], first_NC[:, 3:], second_NC[:, 3:], num_permutations=199)
    assert np.isnan([*none.p_C, none.p_mean]).all()


def test_equal_rankings_have_p_1_and_order_or_scale_change_nothing():
    target_NC, first_NC, second_NC = table(1)
    same = swap_test(target_NC, first_NC, 3 * first_NC + 7, num_permutations=199)
    assert (np.nanmin(same.p_C), same.p_mean) == (1, 1)
    there = swap_test(target_NC, first_NC, second_NC, num_permutations=199)
    scaled = swap_test(target_NC, np.exp(first_NC), second_NC / 100, num_permutations=199)
    assert (scaled.p_C[:3].tolist(), scaled.p_mean) == (there.p_C[:3].tolist(), there.p_mean)
    back = swap_test(target_NC, second_NC, first_NC, num_permutations=9999)
    there = swap_test(target_NC, first_NC, second_NC, num_permutations=9999)
    assert [*back.p_C[:3], back.p_mean] == pytest.approx([*there.p_C[:3], there.p_mean], abs=0.03)
    assert (there.p_C[:3] > 0.05).any()


def test_the_smallest_p_is_one_over_all():
    target_NC = np.repeat([[1], [0]], 40, axis=0)
    good, bad = np.arange(80.0)[::-1, None], np.arange(80.0)[:, None]
    test = swap_test(target_NC, bad, good, num_permutations=999)
    assert test.p_C[0] == test.p_mean == 1 / 1000


def test_another_seed_says_nearly_the_same():
    target_NC, first_NC, second_NC = table(2)
    tests = [swap_test(target_NC, first_NC, second_NC, num_permutations=9999, seed=seed) for seed in (0, 0, 1)]
    one, again, other = ([*test.p_C[:3], test.p_mean] for test in tests)
    assert one == again != other
    assert other == pytest.approx(one, abs=0.03)


def draw_pair(rng: np.random.Generator, *, num_positives: tuple[int, ...], num_images: int) -> tuple:
    """A truth with so many positives of each class, and two runs of equal expected quality that find the same images hard."""
    target_NC = np.zeros((num_images, len(num_positives)), np.int8)
    for column, number in enumerate(num_positives):
        target_NC[rng.permutation(num_images)[:number], column] = 1
    hardness_NC = 0.7 * rng.normal(size=target_NC.shape)
    first_NC, second_NC = (2 * target_NC + hardness_NC + 0.7 * rng.normal(size=target_NC.shape) for _ in range(2))
    return target_NC, first_NC, 5 * np.exp(1.5 * second_NC) - 20  # the second's scale is stretched and bent


@pytest.mark.slow
def test_the_level_is_five_percent():
    """1,500 pairs without a difference: p <= 0.05 in 3.5% to 6.5% of them, in mAP and in classes of 10, 20 and 50 positives.

    Three positives can be swapped in eight ways only, two of which are as good as observed: p is never below 1/4.
    `-s` prints the shares.
    """
    rng, num_positives = np.random.default_rng(0), (3, 10, 20, 50)
    tests = [
        swap_test(*draw_pair(rng, num_positives=num_positives, num_images=150), num_permutations=499, seed=pair)
        for pair in range(1500)
    ]
    rejected = np.mean([[*(test.p_C <= 0.05), test.p_mean <= 0.05] for test in tests], axis=0)
    print(f"rejected at 5%, classes of {num_positives} positives and mAP: {np.round(100 * rejected, 1)}%")
    assert rejected[0] == 0
    assert ((rejected[1:] >= 0.035) & (rejected[1:] <= 0.065)).all(), rejected


@pytest.mark.parametrize(("num_positives", "least"), [(1, 1), (2, 1 / 2), (3, 1 / 4), (6, 1 / 32)])
def test_few_positives_say_little_however_constant_one_runs_scores_are(num_positives: int, least: float):
    """Swapping only positives gives the observed difference in 2 of 2^P ways; ties of the other run must not hide that."""
    target_NC = np.zeros((200, 1), np.int8)
    target_NC[:num_positives] = 1
    perfect_NC, constant_NC = np.arange(200.0)[::-1, None], np.zeros((200, 1))
    for runs in ((constant_NC, perfect_NC), (perfect_NC, constant_NC), (perfect_NC[::-1], perfect_NC)):
        test = swap_test(target_NC, *runs, num_permutations=999)
        assert least <= test.p_C[0] == test.p_mean <= 1
    many_NC = np.repeat([[1], [0]], [20, 180], axis=0)
    assert swap_test(many_NC, constant_NC, perfect_NC, num_permutations=999).p_C[0] == 1 / 1000


def test_the_test_finds_what_is_there():
    """Power: the second run's signal is half as strong again; a real difference is found."""
    rng = np.random.default_rng(1)
    target_NC, first_NC, second_NC = draw_pair(rng, num_positives=(30, 40), num_images=300)
    better_NC = first_NC + 1.5 * target_NC
    assert swap_test(target_NC, first_NC, better_NC, num_permutations=499).p_mean == 1 / 500
    assert swap_test(target_NC, first_NC, second_NC, num_permutations=499).p_mean > 0.05


def test_holm_by_hand():
    """0.01 x 4; 0.02 x 3; 0.03 x 2 = 0.06, as large as what came before; 0.9 x 1. NaN is none of the four."""
    assert holm(np.array([0.9, 0.01, np.nan, 0.03, 0.02])) == pytest.approx([0.9, 0.04, np.nan, 0.06, 0.06], nan_ok=True)
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []
    assert np.isnan(holm(np.array([np.nan]))).all()


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30))
def test_holm_is_the_step_down_test(values: list[float]):
    """At any level, the adjusted p-values reject what going up from the smallest p, stopping at the first too large, rejects."""
    p_C = np.array(values)
    adjusted_C = holm(p_C)
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        for step, column in enumerate(np.argsort(p_C, kind="stable").tolist()):
            if p_C[column] * (len(p_C) - step) > level:
                break
            rejected.add(column)
        assert set(np.flatnonzero(adjusted_C <= level).tolist()) == rejected
