"""Groups of dependent images: a bootstrap that concatenates groups is the oracle; groups of one image are images."""

import math
from dataclasses import replace

import numpy as np
import pytest

from polytag import compare, evaluate, evaluate_predictions
from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.metrics.ap import average_precision
from polytag.metrics.bootstrap import bootstrap_ap, replicate_ap, weights_of
from polytag.metrics.groups import Groups, groups_of, others_at_least
from polytag.metrics.intervals import estimates_of
from polytag.metrics.significance import swap_test
from polytag.metrics.slices import slice_scores


def table(seed: int = 0, *, num_images: int = 90, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets with unknown labels, scores with ties, and a group of each image of which there are 1 to 8 in a group, mixed."""
    rng = np.random.default_rng(seed)
    group_N = rng.choice(25, num_images, p=np.arange(1, 26) / 325)
    effect_GC = rng.normal(size=(25, num_classes))
    target_NC = (effect_GC[group_N] + rng.normal(size=(num_images, num_classes)) > 1).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < 0.1] = -1
    return target_NC, np.round(target_NC + effect_GC[group_N] + rng.normal(size=target_NC.shape), 1), group_N


def predictions_of(target_NC: np.ndarray, score_NC: np.ndarray) -> Predictions:
    return Predictions(
        ids=tuple(f"{row:03}" for row in range(len(target_NC))),
        logit_NC=score_NC.astype(np.float64),
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(f"class {column}" for column in range(target_NC.shape[1]))),
    )


def same(first: object, second: object) -> bool:
    """Whether two results are equal to the bit, ignoring the keys that name the groups."""
    return repr(first) == repr(second)


def test_a_replicate_is_the_concatenation_of_the_drawn_groups():
    target_NC, score_NC, group_N = table()
    groups = groups_of(group_N.tolist(), column="scene")
    weight_NB = weights_of(90, num_replicates=30, seed=3, groups=groups)
    found_BC = replicate_ap(target_NC, weight_NB, score_NC=score_NC, groups=groups)
    numbers = list(dict.fromkeys(group_N.tolist()))  # in the order of their first image
    rng = np.random.default_rng(3)
    for found_C in found_BC:
        drawn = rng.integers(0, len(numbers), len(numbers))
        rows = np.concatenate([np.flatnonzero(group_N == numbers[number]) for number in drawn])
        np.testing.assert_allclose(found_C, average_precision(target_NC[rows], score_NC[rows]), atol=1e-12, rtol=0)


def test_a_replicate_without_a_negative_is_undefined_however_many_images_a_group_has():
    group_N = np.repeat(np.arange(4), 100)
    target_NC = np.repeat(np.array([1, 1, 1, 0], np.int8), 100)[:, None]  # a hundred negatives, but in one group
    groups = groups_of(group_N.tolist())
    weight_NB = weights_of(400, num_replicates=200, seed=0, groups=groups)
    ap_B = replicate_ap(target_NC, weight_NB, score_NC=np.arange(400.0)[:, None], groups=groups)[:, 0]
    without_negative = weight_NB[-1] == 0
    assert 30 < without_negative.sum() < 100
    np.testing.assert_array_equal(np.isnan(ap_B), without_negative | (weight_NB[:300] == 0).all(axis=0))


def test_groups_of_one_image_each_change_nothing_to_the_bit():
    target_NC, score_NC, _ = table(1)
    predictions = predictions_of(target_NC, score_NC)
    other = replace(predictions, logit_NC=np.round(score_NC + np.random.default_rng(2).normal(size=score_NC.shape), 1))
    groups = groups_of([f"patient {row}" for row in range(90)], column="patient")
    halves = ["first"] * 45 + ["second"] * 45
    pairs = [
        (
            evaluate_predictions(predictions, groups=given).to_json(),
            compare(predictions, other, groups=given).to_json(),
            *(each.metrics.to_json() for each in slice_scores(predictions, halves, column="half", groups=given).slices),
        )
        for given in (None, groups)
    ]
    for without, with_groups in zip(*pairs, strict=True):
        assert (with_groups.pop("group"), with_groups.pop("num_groups") in (45, 90)) == ("patient", True)
        assert same(without, with_groups)


def test_the_names_of_groups_do_not_matter():
    target_NC, score_NC, group_N = table(2)
    names = [f"scene {(7 * number) % 25}" for number in group_N.tolist()]
    first, second = (bootstrap_ap(target_NC, score_NC, groups=groups_of(values)) for values in (group_N.tolist(), names))
    assert (first.low_C == second.low_C).all()
    assert first.mean_high == second.mean_high


def test_copies_of_an_image_count_as_one_where_they_are_a_group():
    """Five copies of every image in one group: the interval is that of the images, since AP does not change with copies."""
    target_NC, score_NC, _ = table(3)
    target_NC = np.abs(target_NC)
    copies = [np.repeat(array, 5, axis=0) for array in (target_NC, score_NC)]
    groups = groups_of(np.repeat(np.arange(90), 5).tolist())
    single, grouped, blind = bootstrap_ap(target_NC, score_NC), bootstrap_ap(*copies, groups=groups), bootstrap_ap(*copies)
    np.testing.assert_allclose(grouped.low_C, single.low_C, atol=1e-9)
    np.testing.assert_allclose(grouped.high_C, single.high_C, atol=1e-9)
    np.testing.assert_allclose(grouped.mean_low, single.mean_low, atol=1e-9)
    assert (blind.high_C - blind.low_C < 0.7 * (grouped.high_C - grouped.low_C)).all()

    other_NC = np.round(score_NC + np.random.default_rng(4).normal(size=score_NC.shape), 1)
    of_images = swap_test(target_NC, score_NC, other_NC, num_permutations=999)
    of_groups = swap_test(*copies, np.repeat(other_NC, 5, axis=0), num_permutations=999, groups=groups)
    np.testing.assert_allclose(of_groups.p_C, of_images.p_C, atol=0.05)


def test_the_others_of_a_positive_are_the_images_of_other_groups():
    target_NC, score_NC, group_N = table(5)
    target_N, score_N = target_NC[:, 0], score_NC[:, 0]
    others_P, true_P = others_at_least(target_N, score_N, group_N)
    for row, num_others, num_true in zip(np.flatnonzero(target_N == 1), others_P, true_P, strict=True):
        above = (score_N >= score_N[row]) & (group_N != group_N[row])
        assert (num_others, num_true) == ((above & (target_N >= 0)).sum(), (above & (target_N == 1)).sum())


def test_trials_are_the_groups_with_a_positive_and_p_has_their_floor():
    target_NC, score_NC, group_N = table(6)
    groups = groups_of(group_N.tolist())
    estimates = estimates_of(target_NC, score_NC, ap_C=average_precision(target_NC, score_NC), groups=groups)
    expected = [len(set(group_N[target_N == 1].tolist())) for target_N in target_NC.T]
    assert estimates.trials_C.tolist() == expected
    few = (group_N == group_N[0]) | (group_N == group_N[-1])
    target_NC = np.where(few[:, None], 1, 0).astype(np.int8)  # positives of two groups
    p = swap_test(target_NC, target_NC + 0.0, -target_NC + 0.0, num_permutations=999, groups=groups_of(group_N.tolist()))
    assert (p.p_C >= 1 / 2).all()
    assert p.p_mean >= 1 / 2


def test_an_image_without_a_value_is_a_group_of_its_own():
    groups = groups_of(["a", "", "a", None, math.nan, "b"], column="patient")
    assert groups.group_N.tolist() == [0, 1, 0, 2, 3, 4]
    assert groups.note == "Intervals draw 5 groups of patient, not images. 3 without a value: each image a group of its own."
    part = groups.take(np.array([5, 3, 2, 0]))
    assert (part.group_N.tolist(), part.num_groups, part.is_without_N.sum()) == ([0, 1, 2, 2], 3, 1)


def test_a_single_group_and_no_value_are_refused():
    with pytest.raises(UsageError) as single:
        groups_of(["a", "a", "a"], column="patient")
    assert str(single.value) == (
        "all images are in a single group\n  where: --group patient\n  got: 3 images\n"
        "  expected: two groups or more: an interval is over the groups that might have been drawn"
    )
    with pytest.raises(UsageError, match="no image has a value in the column"):
        groups_of(["", None, ""], column="patient")


def test_a_slice_of_one_group_has_no_interval():
    target_NC, score_NC, group_N = table(7)
    largest = group_N == np.bincount(group_N).argmax()
    groups = groups_of(group_N.tolist(), column="scene")
    slices = slice_scores(
        predictions_of(target_NC, score_NC), ["one" if row else "rest" for row in largest], column="part", groups=groups
    )
    one, rest = slices.slices
    assert math.isnan(one.metrics.mean_ap.low)
    assert not math.isnan(one.metrics.mean_ap.value)
    assert rest.metrics.mean_ap.low < rest.metrics.mean_ap.value
    assert isinstance(rest.metrics.groups, Groups)
    assert rest.metrics.groups.num_groups == groups.num_groups - 1


def test_arrays_take_the_values_of_groups():
    target_NC, score_NC, group_N = table(8)
    metrics = evaluate(target_NC, score_NC, scores="logit", groups=group_N)
    expected = evaluate_predictions(predictions_of(target_NC, score_NC), groups=groups_of(group_N.tolist()))
    assert same(metrics.to_json()["mAP"], expected.to_json()["mAP"])
    assert metrics.to_json()["num_groups"] == len(set(group_N.tolist()))
    assert f"Intervals draw {len(set(group_N.tolist()))} groups, not images." in str(metrics)
    wide, narrow = (found.recall_interval_C2 for found in (metrics, evaluate(target_NC, score_NC, scores="logit")))
    assert (np.diff(wide) > np.diff(narrow)).all()
    with pytest.raises(UsageError, match="the number of groups' values is not the number of images"):
        evaluate(target_NC, score_NC, scores="logit", groups=group_N[1:])


def test_a_comparison_pairs_its_groups_by_the_images_of_the_first_run():
    target_NC, score_NC, group_N = table(9)
    first, second = (predictions_of(target_NC, scores) for scores in (score_NC, score_NC[:, ::-1]))
    fewer = second.take(np.arange(60)[::-1])
    groups = groups_of(group_N.tolist(), column="scene")
    found = compare(first, fewer, intersect=True, groups=groups)
    expected = compare(first.take(np.arange(60)), fewer, groups=groups_of(group_N[:60].tolist(), column="scene"))
    assert same(found.pairs, expected.pairs)
    assert found.groups
    assert found.groups.num_groups == len(set(group_N[:60].tolist()))
    assert f"Intervals draw {found.groups.num_groups} groups of scene, not images. The permutation test swaps whole groups." in str(
        found
    )
    alone = first.take(np.flatnonzero(group_N == group_N[0]))
    with pytest.raises(UsageError, match="all images are in a single group"):
        compare(first, alone, intersect=True, groups=groups)


def test_the_intervals_of_tail_accuracy_count_groups():
    """Copies of each image in a group of three: the intervals of the images alone; the values are those of all images."""
    target_NC, score_NC, _ = table(4)
    thrice = predictions_of(np.repeat(target_NC, 3, axis=0), np.repeat(score_NC, 3, axis=0))
    groups = groups_of(np.repeat(np.arange(90), 3).tolist(), column="scene")
    alone, copied = evaluate_predictions(predictions_of(target_NC, score_NC)).tail, evaluate_predictions(thrice, groups=groups).tail
    np.testing.assert_array_equal(copied.per_class_CK, alone.per_class_CK)
    np.testing.assert_array_equal(copied.count_CK, 3 * alone.count_CK)
    np.testing.assert_allclose(copied.interval_CK2, alone.interval_CK2, atol=1e-12)
