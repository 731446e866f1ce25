"""The value Calibration: rises strictly, can be undone, goes to JSON and back, and carries thresholds with it."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.calibration import Calibration, ClassMap, calibrated, convert_thresholds
from polytag.contracts import LabelSet, Predictions

LINE = ClassMap(kind="platt", slope=2.0, bias=-1.0)
KNOTS = ClassMap(kind="isotonic", slope=0.5, logit=(-2.0, 0.0, 4.0), calibrated=(-3.0, 1.0, 2.0))
COOL = ClassMap(kind="pooled", slope=0.25)
CALIBRATION = Calibration(method="platt", maps=(LINE, KNOTS, COOL))
numbers = st.floats(-30, 30)


def test_by_hand():
    assert LINE.apply(np.array([0.0, 1.5])).tolist() == [-1.0, 2.0]
    # before the first knot and after the last by the slope, between them straight
    assert KNOTS.apply(np.array([-4.0, -2.0, -1.0, 0.0, 2.0, 4.0, 6.0])).tolist() == [-4.0, -3.0, -1.0, 1.0, 1.5, 2.0, 3.0]
    assert CALIBRATION.apply(np.array([[1.0, 2.0, 4.0]])).tolist() == [[1.0, 1.5, 1.0]]


@given(st.lists(numbers, min_size=1), st.sampled_from((LINE, KNOTS, COOL)))
def test_what_is_applied_can_be_undone(values: list[float], each: ClassMap):
    assert each.undo(each.apply(np.array(values))) == pytest.approx(values, abs=1e-9)


@given(st.lists(numbers, min_size=2), st.sampled_from((LINE, KNOTS, COOL)))
def test_no_order_changes(values: list[float], each: ClassMap):
    value_N = np.unique(np.round(values, 6))
    assert (np.diff(each.apply(value_N)) > 0).all()


def test_the_kind_of_float_stays():
    for kind in (np.float32, np.float64):
        assert CALIBRATION.apply(np.zeros((2, 3), kind)).dtype == kind


def test_json_and_back():
    text = json.dumps(CALIBRATION.to_json())
    assert Calibration.from_json(json.loads(text)) == CALIBRATION
    assert json.loads(text)["maps"][0] == {"kind": "platt", "slope": 2.0, "bias": -1.0}


def test_the_id_changes_with_any_number():
    other = Calibration(method="platt", maps=(ClassMap(kind="platt", slope=2.0, bias=-1.0000001), KNOTS, COOL))
    assert len(CALIBRATION.id) == 16
    assert other.id != CALIBRATION.id


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 0.0},
        {"slope": -1.0},
        {"slope": math.nan},
        {"bias": math.inf},
        {"kind": "magic"},
        {"logit": (1.0,), "calibrated": (1.0,)},
        {"logit": (1.0, 1.0), "calibrated": (1.0, 2.0)},
        {"logit": (1.0, 2.0), "calibrated": (2.0, 1.0)},
        {"logit": (1.0, 2.0), "calibrated": (1.0, 2.0, 3.0)},
    ],
)
def test_a_map_that_does_not_rise_is_refused(change):
    with pytest.raises(ValueError, match="calibration"):
        ClassMap(**{"kind": "platt", "slope": 1.0} | change)


def test_a_number_changed_in_the_file_is_found():
    values = CALIBRATION.to_json()
    values["maps"][0]["slope"] = 2.5
    with pytest.raises(ValueError, match="were modified"):
        Calibration.from_json(values)


@st.composite
def isotonic_maps(draw: st.DrawFn) -> ClassMap:
    numbers_up = st.lists(st.floats(-30, 30), min_size=2, max_size=6, unique=True).map(sorted)
    knots = draw(numbers_up)
    values = draw(st.lists(st.floats(-30, 30), min_size=len(knots), max_size=len(knots), unique=True).map(sorted))
    return ClassMap(kind="isotonic", slope=draw(st.floats(0.01, 20)), logit=tuple(knots), calibrated=tuple(values))


@given(isotonic_maps(), st.floats(-40, 40), st.sampled_from((np.float32, np.float64)), st.data())
def test_no_two_scores_change_their_order_whatever_is_rounded(each: ClassMap, around: float, kind: type, data: st.DataObject):
    """Neighbouring floats around a score and around a knot may become equal, and never the other way round."""
    start = np.asarray(data.draw(st.sampled_from((around, *each.logit))), kind)
    step = np.spacing(np.abs(start))
    logit_N1 = np.unique(start + step * np.arange(-60, 60).astype(kind))[:, None]
    calibrated_N1 = Calibration(method="isotonic", maps=(each,)).apply(logit_N1)
    assert calibrated_N1.dtype == kind
    assert (np.diff(calibrated_N1[:, 0]) >= 0).all()


@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=3, max_size=3))
def test_thresholds_are_carried_there_and_back(thresholds: list[float]):
    there = convert_thresholds(thresholds, apply=CALIBRATION)
    assert convert_thresholds(there, undo=CALIBRATION) == pytest.approx(thresholds, abs=1e-9)
    logit = math.log(thresholds[0] / (1 - thresholds[0]))
    assert there[0] == pytest.approx(1 / (1 + math.exp(-(2 * logit - 1))), abs=1e-9)


def test_never_and_always_stay():
    assert convert_thresholds((0.0, 1.0, 0.5), apply=CALIBRATION) == (0.0, 1.0, 0.5)


@given(st.sampled_from((5e-324, 1e-300, 1e-20, 1 - 2**-53)), st.sampled_from((50.0, 0.02)))
def test_no_other_threshold_becomes_always_or_never(threshold: float, slope: float):
    steep = Calibration(method="temperature", maps=(ClassMap(kind="temperature", slope=slope),))
    (there,) = convert_thresholds((threshold,), apply=steep)
    (back,) = convert_thresholds((threshold,), undo=steep)
    assert 0 < there < 1
    assert 0 < back < 1


def test_predictions_say_what_they_were_calibrated_with():
    logit_NC = np.array([[1.0, 2.0, 4.0]])
    before = Predictions(ids=("a",), logit_NC=logit_NC, target_NC=np.array([[1, 0, -1]]), label_set=LabelSet(names=("x", "y", "z")))
    after = calibrated(before, CALIBRATION)
    assert calibrated(before, None) is before
    assert (before.calibration, after.calibration) == ("", CALIBRATION.id)
    assert after.probability_NC[0, 0] == pytest.approx(1 / (1 + math.exp(-1.0)))
