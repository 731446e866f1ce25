"""The numbers of the slider against counting, and against the metrics of the report."""

from dataclasses import replace

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.browse.curves import curve_points, histogram, threshold_sweep
from polytag.metrics.proportions import wilson
from polytag.metrics.tail import tail_accuracy


def table(num_images: int = 500, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    target_NC = rng.integers(-1, 2, (num_images, 2)).astype(np.int8)
    logit_NC = np.round(2 * target_NC + rng.normal(0, 2, target_NC.shape), 1)
    ids = tuple(map(str, range(num_images)))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=("cat", "dog")))


def test_counts_are_those_of_counting():
    predictions, own = table(), 0.37
    found = threshold_sweep(predictions, 1, own_threshold=own)
    probability_N, target_N = predictions.probability_NC[:, 1], predictions.target_NC[:, 1]
    assert own in found.threshold_T
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
    assert [point["recall"] for point in points] == sorted(point["recall"] for point in points)
    assert points[-1]["recall"] == 1
    probability_N, target_N = predictions.probability_NC[:, 0], predictions.target_NC[:, 0]
    for point in points[::7]:
        is_above_N = (probability_N >= point["score"] - 5e-6) & (target_N >= 0)
        assert point["precision"] == pytest.approx((target_N[is_above_N] == 1).mean(), abs=1e-4)


def test_many_points_are_thinned_and_the_ends_kept():
    points = curve_points(table(20_000), 0)
    assert len(points) <= 400
    assert points[-1]["recall"] == 1


def test_a_class_without_positives_has_no_curve_and_one_kind_of_bars():
    predictions = table()
    target_NC = predictions.target_NC.copy()
    target_NC[:, 0] = 0
    empty = replace(predictions, target_NC=target_NC)
    assert curve_points(empty, 0) == []
    assert {each["label"] for each in histogram(empty, 0)} == {"labelled without it"}


def test_bars_hold_every_known_image_once():
    predictions = table()
    for label, name in ((1, "labelled with it"), (0, "labelled without it")):
        bars = [each for each in histogram(predictions, 1) if each["label"] == name]
        assert sum(each["images"] for each in bars) == (predictions.target_NC[:, 1] == label).sum()
        assert sum(each["share"] for each in bars) == pytest.approx(1)
