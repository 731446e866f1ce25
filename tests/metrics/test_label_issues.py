"""Label issues: a joint counted by hand, planted errors found, laws of the ranking, and silence where little is known."""

import importlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.metrics.calibration import fit_calibration
from polytag.metrics.label_issues import (
    FEWEST_CONFIRMED,
    FEWEST_POSITIVES,
    confident_joint,
    find_label_issues,
)

NAMES = ("cat", "dog", "newt")


def table(target_NC: np.ndarray, logit_NC: np.ndarray, *, names: tuple[str, ...] = NAMES) -> Predictions:
    return Predictions(
        ids=tuple(f"p{row:04}" for row in range(len(target_NC))),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=names),
        image_paths=tuple(f"images/{row}.jpg" for row in range(len(target_NC))),
        source="a table",
    )


def planted(*, seed: int = 0, num_images: int = 1500, share: float = 0.05) -> tuple[Predictions, np.ndarray]:
    """A good model of three classes, the third of them rare, and labels of which a share of each kind was flipped."""
    rng = np.random.default_rng(seed)
    truth_NC = (rng.random((num_images, 3)) < (0.3, 0.15, 0.009)).astype(np.int8)
    logit_NC = rng.normal(0, 1.2, truth_NC.shape) + 6 * truth_NC - 3.5
    flipped_NC = np.zeros(truth_NC.shape, bool)
    for column in (0, 1):
        for value in (0, 1):
            rows = np.flatnonzero(truth_NC[:, column] == value)
            number = round(share * (truth_NC[:, column] == 1).sum())  # as many of either kind
            flipped_NC[rng.choice(rows, number, replace=False), column] = True
    flipped_NC[np.flatnonzero(truth_NC[:, 2])[:3], 2] = True
    return table(np.where(flipped_NC, 1 - truth_NC, truth_NC), logit_NC.astype(np.float32)), flipped_NC


def test_a_joint_by_hand():
    """Thresholds: absent given at .9 .8 .7 .2 (of absent .1 .2 .3 .8 present) mean 0.65; present given at .9 .8 .1 mean 0.6."""
    target_N = np.array([0, 0, 0, 0, 1, 1, 1, -1])
    probability_N = np.array([0.1, 0.2, 0.3, 0.8, 0.9, 0.8, 0.1, 0.99])
    joint = confident_joint(target_N, probability_N)
    np.testing.assert_allclose(joint.threshold_2, (0.65, 0.6))
    assert joint.counts_22.tolist() == [[3, 1], [1, 2]]
    assert joint.wrong(given=0, num_given=4) == pytest.approx(4 * 1 / 4)
    assert joint.wrong(given=1, num_given=3) == pytest.approx(3 * 1 / 3)


def test_a_threshold_is_never_below_one_half():
    """Else a class whose model is never above 0.1 would have its negatives at 0.06 "confidently" present."""
    target_N = np.array([1] * 5 + [0] * 45)
    probability_N = np.linspace(0.1, 0.01, 50)
    joint = confident_joint(target_N, probability_N)
    assert joint.threshold_2[1] == 0.5
    assert joint.counts_22[0, 1] == 0


def test_nothing_given_and_nothing_confident_is_nan():
    joint = confident_joint(np.array([-1, -1]), np.array([0.2, 0.9]))
    assert joint.threshold_2 == (0.5, 0.5)
    assert joint.counts_22.sum() == 0
    assert math.isnan(joint.wrong(given=1, num_given=0))


def test_planted_errors_head_the_list_and_are_counted():
    predictions, flipped_NC = planted()
    found = find_label_issues(predictions, top=1000)
    for column, part in enumerate(found.classes[:2]):
        for issues, wrong, given_label in ((part.present, part.wrong_present, 1), (part.absent, part.wrong_absent, 0)):
            num_planted = int((flipped_NC[:, column] & (predictions.target_NC[:, column] == given_label)).sum())
            top = issues[:num_planted]
            assert np.mean([flipped_NC[each.row, column] for each in top]) >= 0.75
            assert num_planted * 0.6 <= wrong <= num_planted * 2
    counted = [each for each in found.issues if each.is_counted]
    assert {each.class_name for each in counted} == {"cat", "dog"}


def test_a_rare_class_is_ranked_and_not_counted():
    predictions, _ = planted()
    newt = find_label_issues(predictions).classes[2]
    assert 0 < newt.num_present < FEWEST_POSITIVES
    assert newt.reason == f"{newt.num_present} of 20 positives needed"
    assert math.isnan(newt.wrong_present)
    assert math.isnan(newt.wrong_absent)
    assert len(newt.absent) >= 2
    assert newt.absent[0].probability > 0.5
    assert not any(each.is_counted for each in newt.issues)


def test_a_class_that_the_model_does_not_know_is_not_counted():
    rng = np.random.default_rng(0)
    target_NC = (rng.random((400, 1)) < 0.3).astype(np.int8)
    backwards = find_label_issues(table(target_NC, 3 - 6.0 * target_NC + rng.normal(size=target_NC.shape), names=("cat",))).classes[
        0
    ]
    assert backwards.reason == "the scores do not rank it"
    rng = np.random.default_rng(1)
    weak = find_label_issues(table(target_NC, 0.3 * target_NC + rng.normal(size=target_NC.shape) - 1, names=("cat",))).classes[0]
    assert weak.reason == f"the model confirms 0 of {FEWEST_CONFIRMED} positives needed"
    assert math.isnan(weak.wrong_absent)


def test_empty_and_full_classes():
    rng = np.random.default_rng(0)
    target_NC = np.stack([np.zeros(60), np.ones(60), np.full(60, -1)], axis=1)
    found = find_label_issues(table(target_NC, rng.normal(size=(60, 3))))
    assert [part.reason for part in found.classes] == [
        "0 of 20 positives needed",
        "0 of 20 negatives needed",
        "0 of 20 positives needed",
    ]
    assert found.classes[2].present == found.classes[2].absent == ()
    assert found.classes[2].num_fill_in == len(found.classes[2].unknown) + max(0, found.classes[2].num_fill_in - 20)


def test_unknown_labels_are_listed_apart_and_change_nothing():
    predictions, _ = planted()
    rows = np.flatnonzero(predictions.target_NC[:, 0] == 1)[:40]
    target_NC = predictions.target_NC.copy()
    target_NC[rows, 0] = -1
    cat = find_label_issues(replace(predictions, target_NC=target_NC), top=1000).classes[0]
    assert cat.num_unknown == 40
    assert {each.row for each in cat.unknown} <= set(rows.tolist())
    assert len(cat.unknown) == cat.num_fill_in >= 30
    assert not {each.row for each in cat.issues} & set(rows.tolist())
    assert list(cat.unknown) == sorted(cat.unknown, key=lambda each: -each.probability)
    # whatever an unknown image scores, the others are judged the same
    logit_NC = predictions.logit_NC.copy()
    logit_NC[rows, 0] = 99
    again = find_label_issues(replace(predictions, target_NC=target_NC, logit_NC=logit_NC), top=1000).classes[0]
    assert [(each.row, each.probability) for each in again.issues] == [(each.row, each.probability) for each in cat.issues]
    assert again.wrong_present == cat.wrong_present


def test_equal_scores_stand_in_the_order_of_their_ids():
    target_NC = np.array([[1], [0]] * 60)
    found = find_label_issues(table(target_NC, np.where(target_NC == 1, 1.0, -1.0), names=("cat",)), top=5, num_folds=2)
    assert found.issues == ()
    target_NC = target_NC.copy()
    target_NC[:8] = 1 - target_NC[:8]
    predictions = table(target_NC, np.where(np.arange(120)[:, None] % 2 == 0, 1.0, -1.0), names=("newt",))
    pooled = fit_calibration(predictions, num_folds=2).cross_fitted_logit_NC[:, 0]
    listed = find_label_issues(predictions, top=3, num_folds=2).classes[0].absent
    expected = sorted((row for row in range(0, 8, 2)), key=lambda row: (-pooled[row], predictions.ids[row]))[:3]
    assert [each.row for each in listed] == expected


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), num_images=st.integers(5, 60), top=st.integers(1, 70))
def test_laws_of_the_list(seed: int, num_images: int, top: int):
    rng = np.random.default_rng(seed)
    predictions = table(rng.integers(-1, 2, (num_images, 3)), rng.integers(-4, 5, (num_images, 3)).astype(float))
    found = find_label_issues(predictions, top=top)
    for column, part in enumerate(found.classes):
        assert part.num_present + part.num_absent + part.num_unknown == num_images
        for issues, value in ((part.present, 1), (part.absent, 0), (part.unknown, -1)):
            assert len(issues) <= top
            assert len({each.row for each in issues}) == len(issues)
            for each in issues:
                assert predictions.target_NC[each.row, column] == value == each.given
                assert each.probability < 0.5 if value == 1 else each.probability > 0.5
                assert each.image_path == f"images/{each.row}.jpg"
        for number, wrong in ((part.num_present, part.wrong_present), (part.num_absent, part.wrong_absent)):
            assert math.isnan(wrong) == bool(part.reason)
            assert math.isnan(wrong) or 0 <= wrong <= number
    beliefs = [each.belief for each in found.issues]
    assert beliefs == sorted(beliefs)
    # as texts: Python 3.13 compares the values one by one, and NaN is not NaN
    assert repr(find_label_issues(predictions, top=top)) == repr(found)


def test_permuting_classes_changes_nothing_but_their_order():
    predictions, _ = planted()
    alone = find_label_issues(predictions, classes=("dog",))
    assert [part.name for part in alone.classes] == ["dog"]
    assert alone.classes[0] == find_label_issues(predictions).classes[1]


def test_json_is_plain_and_nan_is_null():
    predictions, _ = planted()
    values = find_label_issues(predictions, top=2).to_json()
    newt = values["per_class"]["newt"]
    assert newt["wrong_present"] is None
    assert set(newt["issues"][0]) == {"id", "given", "probability", "is_counted", "image_path"}
    assert {each["given"] for each in values["per_class"]["cat"]["issues"]} == {"present", "absent"}


def test_invalid_arguments():
    predictions, _ = planted(num_images=100)
    with pytest.raises(UsageError) as caught:
        find_label_issues(predictions, top=0)
    assert str(caught.value) == "nothing to list\n  where: top\n  got: 0\n  expected: 1 or more"
    with pytest.raises(UsageError, match="unknown class name"):
        find_label_issues(predictions, classes=("cow",))
    with pytest.raises(PredictionsError, match="ranks cannot be calibrated"):
        find_label_issues(replace(predictions, scale="rank"))
    with pytest.raises(PredictionsError, match="too few images"):
        find_label_issues(predictions.take([0, 1, 2]))


def test_cleanlab_agrees_where_there_is_an_estimate(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("cleanlab", reason="cleanlab, which is optional, is not installed")
    predictions, _ = planted()
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    theirs = importlib.import_module("label_issues").cleanlab_label_issues(predictions)
    for part in find_label_issues(predictions, top=10_000).classes[:2]:
        ours = {each.row for each in part.issues if each.is_counted}
        assert len(ours & set(theirs[part.name].tolist())) >= 0.9 * max(len(ours), len(theirs[part.name]))


@pytest.mark.slow
@pytest.mark.parametrize(("share", "planted", "estimated"), [(0.05, 301, 845), (0.3, 1800, 1174), (0.5, 3027, 834)])
def test_an_estimate_is_no_bound_in_either_direction(share: float, planted: int, estimated: int):
    """The table of docs/howto/label-issues.md: too high where few labels are missing, too low where many are."""
    numbers = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth_NC = (rng.random((4000, 10)) < 0.15).astype(np.int8)
        logit_NC = rng.normal(3 * truth_NC - 2.5, 1.3)
        is_missing_NC = (truth_NC == 1) & (rng.random((4000, 10)) < share)
        predictions = Predictions(
            ids=tuple(map(str, range(4000))),
            logit_NC=logit_NC,
            target_NC=np.where(is_missing_NC, 0, truth_NC),
            label_set=LabelSet(names=tuple(map(str, range(10)))),
        )
        found = find_label_issues(predictions, top=1)
        numbers.append((is_missing_NC.sum(), sum(part.wrong_absent for part in found.classes)))
    assert np.mean(numbers, axis=0) == pytest.approx((planted, estimated), abs=1)
