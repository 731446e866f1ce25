"""Prediction sets with a stated risk: by hand, against a search in exact fractions, and the guarantee as an exact law."""

import importlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.metrics.decisions import ALWAYS, decide
from polytag.metrics.goals import Goal
from polytag.metrics.groups import groups_of
from polytag.metrics.operating_points import choose_thresholds
from polytag.metrics.risk_control import control_false_negatives

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LEVELS = ("1/20", "1/10", "1/5", "1/2")


def losses(target_NC: np.ndarray, probability_NC: np.ndarray, threshold: float) -> list[Fraction]:
    """The exact false negative rate of every image that has a present label, in the order of the images; one by one."""
    set_NC = decide(probability_NC, threshold_C=threshold)
    return [
        Fraction(int(((target_C == 1) & ~set_C).sum()), int((target_C == 1).sum()))
        for target_C, set_C in zip(target_NC, set_NC, strict=True)
        if (target_C == 1).any()
    ]


def risk(rates: list[Fraction]) -> Fraction:
    """The bound that conformal risk control compares with the level: (n R + 1) / (n + 1)."""
    return (sum(rates, Fraction()) + 1) / (len(rates) + 1)


def generated(seed: int, *, num_images: int, num_classes: int = 6, unknown: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([1, 0, -1], (num_images, num_classes), p=[0.3, 0.7 - unknown, unknown])
    return target_NC, 1 / (1 + np.exp(-rng.normal(2.0 * (target_NC == 1) - 1, 1.5)))


# ---- by hand


def test_by_hand():
    """Nine images with two present labels each, at k / 10 and 0.95: each lost label adds 1/2, and 0.2 * 10 - 1 = 1 may be lost."""
    low_N = np.arange(1, 10) / 10
    target_NC = np.array([[1, 1, 0]] * 9 + [[0, -1, 0], [-1, -1, -1]])
    probability_NC = np.column_stack([low_N, np.full(9, 0.95), np.full(9, 0.28)])
    probability_NC = np.vstack([probability_NC, [[0.31, 0.29, 0.0], [0.0, 0.0, 0.0]]])  # no present label, and no known one
    threshold, control = control_false_negatives(target_NC, probability_NC, level=0.2)
    assert threshold == (0.3 + 0.28) / 2  # below the third label, and above the known absent one at 0.28: 0.29 is unknown
    assert (control.num_images, control.num_needed) == (9, 4)
    assert control.false_negative_rate == pytest.approx(1 / 9)  # (9 / 9 + 1) / 10 is 0.2 exactly
    assert control.set_size == (7 * 2 + 2 * 1) / 9


def test_ties_and_zeros_are_in_every_set_or_in_none():
    target_NC = np.array([[1]] * 9)
    tied = np.array([[0.4]] * 8 + [[0.9]])
    assert control_false_negatives(target_NC, tied, level=0.5)[0] == 0.2  # losing the tie loses 8 of 9, more than 4
    threshold, control = control_false_negatives(target_NC, np.zeros((9, 1)), level=0.5)
    assert (threshold, control.false_negative_rate, control.set_size) == (ALWAYS, 0, 1)
    threshold, control = control_false_negatives(target_NC, np.array([[0.0]] * 4 + [[0.9]] * 5), level=0.5)
    assert (threshold, control.false_negative_rate) == (0.45, pytest.approx(4 / 9))


def test_groups_by_hand():
    """A group loses the mean of its images: of four groups, 0.5 * 5 - 1 = 1.5 may be lost."""
    target_NC = np.array([[1], [1], [1], [1], [1], [0], [0]])
    probability_NC = np.array([[0.1], [0.2], [0.3], [0.5], [0.7], [0.9], [0.8]])
    groups = groups_of(["a", "b", "b", "c", "d", "d", "e"], column="scene")  # of e, no image has a present label
    threshold, control = control_false_negatives(target_NC, probability_NC, level=0.5, groups=groups)
    assert threshold == 0.25  # a and half of b are lost; with the rest of b it would be 2
    assert (control.group, control.num_groups, control.num_images, control.false_negative_rate) == ("scene", 4, 5, 1.5 / 4)
    alone = groups_of(list("abcdefg"))
    each = control_false_negatives(target_NC, probability_NC, level=0.5, groups=alone)[0]
    assert each == control_false_negatives(target_NC, probability_NC, level=0.5)[0]


@pytest.mark.parametrize(("level", "needed"), [(0.05, 19), (0.1, 9), (0.2, 4), (0.3, 3), (1 / 3, 2), (0.9, 1)])
def test_the_number_needed(level: float, needed: int):
    """With n images the set of all labels has a bound of 1 / (n + 1)."""
    target_NC, probability_NC = np.ones((needed, 1), int), np.linspace(0.2, 0.8, needed)[:, None]
    assert control_false_negatives(target_NC, probability_NC, level=level)[1].num_needed == needed
    with pytest.raises(PredictionsError) as error:
        control_false_negatives(np.append(target_NC[1:], [[0]], axis=0), probability_NC, level=level, where="scores.csv")
    got = "1 image" if needed == 2 else f"{needed - 1} images"
    assert str(error.value) == (
        f"too few images for this false negative rate\n  where: scores.csv\n  got: {got} with a present label\n"
        f"  expected: at least {needed} for a rate of {level:g}\n  next: score more labelled images, or allow a higher rate: "
        "below this number only the set of all labels is safe"
    )


# ---- against a search

tables = st.integers(1, 4).flatmap(
    lambda num_classes: st.lists(
        st.lists(st.tuples(st.sampled_from((1, 1, 0, -1)), st.integers(0, 8)), min_size=num_classes, max_size=num_classes),
        min_size=1,
        max_size=14,
    )
)


def arrays(rows) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.array([[pair[part] for pair in row] for row in rows]) for part in (0, 1))  # pyright: ignore[reportReturnType]


@given(tables, st.sampled_from(LEVELS))
def test_no_higher_threshold_has_the_risk_in_exact_fractions(rows, level: str):
    target_NC, eighth_NC = arrays(rows)
    probability_NC, num_counted = eighth_NC / 8, int((target_NC == 1).any(axis=1).sum())
    if num_counted + 1 < 1 / Fraction(level):
        with pytest.raises(PredictionsError, match="too few images"):
            control_false_negatives(target_NC, probability_NC, level=float(Fraction(level)))
        return
    threshold, control = control_false_negatives(target_NC, probability_NC, level=float(Fraction(level)))
    rates = losses(target_NC, probability_NC, threshold)
    assert risk(rates) <= Fraction(level)
    assert control.false_negative_rate == pytest.approx(float(sum(rates)) / len(rates), abs=1e-12)
    every = [cut for cut in (ALWAYS, *(np.arange(8) + 0.5) / 8, *np.arange(1, 9) / 8) if cut > threshold]
    others = [losses(target_NC, probability_NC, cut) for cut in every]
    assert all(risk(other) > Fraction(level) for other in others if other != rates)


@given(tables, st.sampled_from(LEVELS))
def test_the_mean_loss_of_an_image_left_out_is_at_most_the_level(rows, level: str):
    """Exchangeable images are equally likely to be the new one: this mean is the guarantee, as an exact law of any n + 1 images."""
    target_NC, eighth_NC = arrays(rows)
    counted = (target_NC == 1).any(axis=1)
    target_NC, probability_NC = target_NC[counted], eighth_NC[counted] / 8
    num_images = len(target_NC)
    if num_images < max(2, 1 / Fraction(level)):
        return
    lost = Fraction()
    for row in range(num_images):
        rest = np.arange(num_images) != row
        threshold, _ = control_false_negatives(target_NC[rest], probability_NC[rest], level=float(Fraction(level)))
        lost += losses(target_NC[[row]], probability_NC[[row]], threshold)[0]
    assert lost / num_images <= Fraction(level)


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_loss_of_a_group_left_out_is_at_most_the_level_and_not_far_below(seed: int):
    target_NC, probability_NC = generated(seed, num_images=150)
    group_N = np.random.default_rng(seed).integers(0, 40, 150)
    groups, level, lost = groups_of(group_N.tolist()), 0.2, Fraction()
    for group in range(groups.num_groups):
        rest = np.flatnonzero(groups.group_N != group)
        threshold, _ = control_false_negatives(target_NC[rest], probability_NC[rest], level=level, groups=groups.take(rest))
        of_group = losses(target_NC[groups.group_N == group], probability_NC[groups.group_N == group], threshold)
        lost += sum(of_group, Fraction()) / max(len(of_group), 1)
    # below by at most 2 / (n + 1) without ties, as the paper's Theorem 2 has it, and by one more loss for the middle of a gap
    assert level - 3 / (groups.num_groups + 1) < lost / groups.num_groups <= level


def test_the_measurement_with_few_divisions(monkeypatch: pytest.MonkeyPatch):
    """A fixed seed; benchmarks/prediction_sets.py measures every cell with 1,000 divisions."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    measure = importlib.import_module("prediction_sets")
    for kind in ("one scale", "nothing"):
        found = measure.generated(kind, 200, num_sets=40)
        for level in (0.05, 0.1, 0.2):
            assert level - 0.04 < found[f"{level}"]["false_negative_rate"] < level + 0.01
    assert found["0.1"]["set_size"] > 17  # of 20: scores that say nothing


# ---- as a goal


def predictions(target_NC: np.ndarray, probability_NC: np.ndarray) -> Predictions:
    num_images, num_classes = target_NC.shape
    return Predictions(
        ids=tuple(map(str, range(num_images))),
        logit_NC=np.log(probability_NC) - np.log1p(-probability_NC),
        target_NC=target_NC,
        label_set=LabelSet(names=tuple("abcdef"[:num_classes])),
        scale="probability",
        given_probability_NC=probability_NC,
    )


def test_the_goal_has_one_threshold_and_says_what_it_guarantees():
    table = predictions(*generated(0, num_images=80))
    goal = Goal.parse("fnr=0.1")
    points = choose_thresholds(table, goal=goal)
    threshold, control = control_false_negatives(table.target_NC, table.probability_NC, level=0.1)
    assert (points.thresholds, points.risk_control, str(points.goal)) == ((threshold,) * 6, control, "fnr=0.1")
    assert points == choose_thresholds(table, goal=goal, shared=True)  # which it always is
    assert (points.is_shared, points.num_images, all(point.attainable for point in points.points)) == (True, 80, True)
    assert points.guarantee == (
        f"Guaranteed: the expected false negative rate of a new image is at most 0.1, if it and these {control.num_images} are "
        "exchangeable and the model was neither trained, selected nor calibrated on them. Only images with a present label count."
    )
    groups = groups_of([row // 4 for row in range(80)], column="scene")
    of_groups = choose_thresholds(table, goal=goal, groups=groups)
    assert "rate of a new group, the mean of its images, is at most 0.1, if it and these 20 groups are" in of_groups.guarantee
    plain = choose_thresholds(table, goal=Goal.parse("f1"))
    assert (plain.guarantee, plain.risk_control, plain.ids_fingerprint) == ("", None, points.ids_fingerprint)


def test_options_that_the_goal_does_not_have():
    table = predictions(*generated(0, num_images=80))
    with pytest.raises(UsageError) as error:
        choose_thresholds(table, goal=Goal.parse("fnr=0.1"), confidence=0.9)
    assert str(error.value) == (
        "this goal takes no confidence\n  got: fnr=0.1 with a confidence\n  expected: the goal alone\n"
        "  next: leave the confidence out: the expected false negative rate is guaranteed without one"
    )
    with pytest.raises(UsageError) as error:
        choose_thresholds(table, goal=Goal.parse("f1"), groups=groups_of(list(range(80))))
    assert str(error.value) == (
        "groups with a goal that they do not change\n  where: --group\n  got: f1\n"
        "  expected: fnr=RATE, a confidence with precision=P, recall=R or top=SHARE, or no groups"
    )
