"""Changed images: by hand, with unknown targets and thresholds of each run, and McNemar's test against SciPy's."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from polytag.contracts import LabelSet, Predictions
from polytag.metrics.changes import changes_of, mcnemar, mcnemar_of_groups
from polytag.metrics.groups import groups_of


def table(probability_N: list[float], target_N: list[int], *, images: bool = True) -> Predictions:
    """One class; images a, b, c, ..."""
    probability_NC = np.array(probability_N)[:, None]
    ids = tuple("abcdefghij"[: len(target_N)])
    return Predictions(
        ids=ids,
        logit_NC=np.log(probability_NC / (1 - probability_NC)),
        target_NC=np.array(target_N)[:, None],
        label_set=LabelSet(names=("cat",)),
        image_paths=tuple(f"{name}.jpg" for name in ids) if images else (),
    )


def test_by_hand():
    """a is found only by the second, b and d are lost by it, c is right in both, e wrong in both, f unknown."""
    target = [1, 1, 1, 0, 0, -1]
    first = table([0.4, 0.9, 0.6, 0.3, 0.8, 0.1], target, images=False)
    second = table([0.7, 0.2, 0.9, 0.55, 0.9, 0.9], target)
    half = np.array([0.5])
    (changes,) = changes_of(first, second, half, half)
    assert (changes.num_gained, changes.num_lost) == (1, 2)
    assert changes.p == changes.p_holm == pytest.approx(1.0)  # 1 or fewer of 3 coins: 1/2; both sides: 1
    assert [(each.id, each.gained, each.present, each.image_path) for each in changes.images] == [
        ("b", False, True, "b.jpg"),  # 0.9 to 0.2
        ("a", True, True, "a.jpg"),  # 0.4 to 0.7
        ("d", False, False, "d.jpg"),  # 0.3 to 0.55
    ]
    assert [(each.probability_first, each.probability_second) for each in changes.gained] == [pytest.approx((0.4, 0.7), abs=1e-6)]
    assert [each.id for each in changes.lost] == ["b", "d"]


def test_each_run_has_its_own_threshold_and_a_score_on_it_is_absent():
    first, second = table([0.4, 0.5], [1, 1]), table([0.6, 0.6], [1, 1])
    (changes,) = changes_of(first, second, np.array([0.3]), np.array([0.7]))
    assert (changes.num_gained, changes.num_lost) == (0, 2)
    (changes,) = changes_of(first, second, np.array([0.5]), np.array([0.5]))
    assert (changes.num_gained, changes.num_lost) == (2, 0)


def test_the_longest_lists_are_cut_each_way_and_equal_changes_go_by_id():
    first, second = table([0.4] * 5 + [0.6] * 4, [1] * 9), table([0.6] * 5 + [0.4] * 4, [1] * 9)
    (changes,) = changes_of(first, second, np.array([0.5]), np.array([0.5]), num_listed=3)
    assert (changes.num_gained, changes.num_lost) == (5, 4)
    assert [each.id for each in changes.images] == ["a", "b", "c", "f", "g", "h"]


def test_a_class_of_unknown_labels_has_no_p_and_ranks_have_no_sides():
    half = np.array([0.5])
    (changes,) = changes_of(table([0.4, 0.6], [-1, -1]), table([0.6, 0.4], [-1, -1]), half, half)
    assert (changes.num_gained, changes.num_lost, changes.images) == (0, 0, ())
    assert np.isnan([changes.p, changes.p_holm]).all()
    ranks = replace(table([0.4, 0.6], [1, 0]), scale="rank")
    assert changes_of(ranks, table([0.6, 0.4], [1, 0]), half, half) == ()
    assert changes_of(table([0.6, 0.4], [1, 0]), ranks, half, half) == ()


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomial_test(num_gained: int, num_lost: int):
    num_changed = num_gained + num_lost
    expected = binomtest(num_gained, num_changed, 0.5).pvalue if num_changed else 1.0
    assert mcnemar(num_gained, num_lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(num_gained, num_lost) == mcnemar(num_lost, num_gained)


@given(st.integers(0, 300), st.integers(0, 300))
def test_groups_of_one_image_give_mcnemars_test(num_gained: int, num_lost: int):
    net_G = np.repeat([1.0, -1.0, 0.0], [num_gained, num_lost, 5])
    assert mcnemar_of_groups(net_G) == pytest.approx(mcnemar(num_gained, num_lost), rel=1e-9)


@given(st.lists(st.integers(-6, 6), max_size=9))
def test_the_test_of_groups_counts_all_choices_of_signs(net: list[int]):
    sums = [
        sum(sign * value for sign, value in zip(signs, net, strict=True)) for signs in itertools.product((1, -1), repeat=len(net))
    ]
    expected = np.mean([abs(each) >= abs(sum(net)) for each in sums])
    assert mcnemar_of_groups(np.array(net, float)) == pytest.approx(expected, rel=1e-9)


def test_five_changes_of_one_patient_are_one():
    """By hand: six images gained give p = 2/64; in two groups of three p = 1/2; five of one patient and one of another: 1/2 too."""
    half = np.array([0.5])
    first, second = table([0.4] * 6, [1] * 6), table([0.6] * 6, [1] * 6)
    for names, p in (("abcdef", 2 / 64), ("aaabbb", 1 / 2), ("aaaaab", 1 / 2)):
        (changes,) = changes_of(first, second, half, half, groups=groups_of(list(names)))
        assert (changes.num_gained, changes.p) == (6, pytest.approx(p))


def test_mcnemar_by_hand():
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar(0, 0) == 1
    assert mcnemar(3, 3) == 1
