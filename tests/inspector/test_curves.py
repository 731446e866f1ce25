"""The numbers of the slider against counting, and against the metrics of the report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.inspector.browse.curves import curve_points, histogram, threshold_sweep
from polytag.inspector.browse.goals import goal_answer, goal_of_text
from polytag.inspector.inspection import Inspection
from polytag.metrics.operating_points import choose_thresholds
from polytag.metrics.proportions import wilson
from polytag.metrics.tail import tail_accuracy


def table(num_images: int = 500, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    target_NC = rng.integers(-1, 2, (num_images, 2)).astype(np.int8)
    logit_NC = np.round(2 * target_NC + rng.normal(0, 2, target_NC.shape), 1)
    ids = tuple(map(str, range(num_images)))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=("cat", "dog")))


@pytest.mark.parametrize("own", [0.0, 0.37, 0.5, 1.0])
def test_counts_are_those_of_counting(own: float):
    predictions = table()
    found = threshold_sweep(predictions, 1, own_threshold=own)
    probability_N, target_N = predictions.probability_NC[:, 1], predictions.target_NC[:, 1]
    assert own in found.threshold_T
    assert 0.12345 in threshold_sweep(predictions, 1, own_threshold=own, also=0.12345).threshold_T
    assert len(found.threshold_T) == 1001
    for step in range(0, 1001, 50):
        above_N = probability_N > found.threshold_T[step]
        assert found.present_T[step] == (above_N & (target_N == 1)).sum()
        assert found.absent_T[step] == (above_N & (target_N == 0)).sum()
        assert found.unknown_T[step] == (above_N & (target_N == -1)).sum()
        known_N, right_N = target_N >= 0, (probability_N > own) == (target_N == 1)
        for proportion, numerator, denominator in (
            (found.precision, (above_N & (target_N == 1)).sum(), (above_N & known_N).sum()),
            (found.recall, (above_N & (target_N == 1)).sum(), (target_N == 1).sum()),
            (found.tail_accuracy, (above_N & known_N & right_N).sum(), (above_N & known_N).sum()),
        ):
            low, high = (float(bound) for bound in wilson(numerator, denominator))
            share = numerator / denominator if denominator else np.nan
            np.testing.assert_allclose(
                (proportion.value_T[step], proportion.low_T[step], proportion.high_T[step]), (share, low, high), rtol=1e-12
            )
    assert found.num_present == (target_N == 1).sum()


def test_a_threshold_between_two_steps_is_a_step_of_its_own():
    found = threshold_sweep(table(), 0, own_threshold=0.12345)
    assert len(found.threshold_T) == 1002
    assert (np.diff(found.threshold_T) > 0).all()


def test_from_its_own_threshold_up_the_tail_accuracy_is_the_reports():
    predictions = table()
    found = threshold_sweep(predictions, 0, own_threshold=0.5)
    above = (found.threshold_T >= 0.5) & (found.present_T + found.absent_T > 0)
    own = found.tail_accuracy.value_T[above]
    np.testing.assert_array_equal(own, found.precision.value_T[above])
    report = tail_accuracy(predictions.target_NC, predictions.probability_NC, threshold_K=found.threshold_T[above]).per_class_CK[0]
    np.testing.assert_allclose(own, report)


def test_points_of_the_curve_are_decisions_at_their_scores():
    predictions = table()
    points = curve_points(predictions, 0)
    assert [recall for recall, _, _ in points] == sorted(recall for recall, _, _ in points)
    assert points[-1][0] == 1
    probability_N, target_N = predictions.probability_NC[:, 0], predictions.target_NC[:, 0]
    for _, precision, score in points[::7]:
        is_above_N = (probability_N >= score - 5e-6) & (target_N >= 0)
        assert precision == pytest.approx((target_N[is_above_N] == 1).mean(), abs=1e-4)


def test_many_points_are_thinned_and_the_ends_kept():
    points = curve_points(table(20_000), 0)
    assert len(points) <= 400
    assert points[-1][0] == 1


def test_a_class_without_positives_has_no_curve_and_one_kind_of_bars():
    predictions = table()
    target_NC = predictions.target_NC.copy()
    target_NC[:, 0] = 0
    empty = replace(predictions, target_NC=target_NC)
    assert curve_points(empty, 0) == []
    assert histogram(empty, 0).present_B.sum() == 0
    assert histogram(empty, 0).absent_B.sum() == len(empty)


@pytest.mark.parametrize("is_ranked", [False, True])
def test_bars_hold_every_image_once(is_ranked: bool):
    predictions = table()
    if is_ranked:
        predictions = replace(predictions, scale="rank")
    bins = histogram(predictions, 1)
    assert (bins.low, bins.high) == ((predictions.logit_NC[:, 1].min(), predictions.logit_NC[:, 1].max()) if is_ranked else (0, 1))
    for label, number_B in ((1, bins.present_B), (0, bins.absent_B), (-1, bins.unknown_B)):
        assert number_B.sum() == (predictions.target_NC[:, 1] == label).sum()


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("recall 0.8", "recall=0.8"),
        (" Precision=90% ", "precision=0.9"),
        ("top .05", "top=0.05"),
        ("f1", "f1"),
        ("F0.5", "f0.5"),
        ("top 0.50", "top=0.5"),
    ],
)
def test_a_goal_is_read_as_a_person_types_it(text: str, goal: str):
    assert str(goal_of_text(text)) == goal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "recall",
        "recall 0",
        "recall 1",
        "recall 120%",
        "0.8",
        "fnr 0.1",
        "recall 0.8; drop",
        "f0",
        "f101",
        "recall 0%",
        "recall 0.9999999999999",
    ],
)
def test_another_goal_is_refused(text: str):
    with pytest.raises(UsageError):
        goal_of_text(text)


@pytest.mark.parametrize("text", ["recall 0.8", "precision 0.6", "top 0.1", "f1"])
def test_a_goal_leads_to_the_threshold_of_the_command(text: str, tmp_path: Path):
    predictions = table(2_000)
    inspection = Inspection(
        name="a", review_file=tmp_path / "r", predictions=predictions, threshold_C=np.full(len(predictions.label_set), 0.5)
    )
    goal = goal_of_text(text)
    for column in range(len(predictions.label_set)):
        answer = goal_answer(inspection, column, text=text)
        assert answer.best.threshold == choose_thresholds(predictions, goal=goal).points[column].threshold
        if goal.kind == "f":
            assert answer.guaranteed is None
            continue
        expected = choose_thresholds(predictions, goal=goal, confidence=0.95).points[column]
        assert answer.guaranteed is not None
        assert (answer.guaranteed.threshold, answer.guaranteed.attainable) == (expected.threshold, expected.attainable)
        assert not answer.caveat, "a file of scores chose no epoch"
        of_run = goal_answer(replace(inspection, run_path=tmp_path, split="val"), column, text=text)
        assert bool(of_run.caveat) == expected.attainable
        assert answer.safe_side == {"recall": "below", "precision": "", "top": "above"}[goal.kind]
