"""thresholds.json: it is read as it was written, so is a plain object of class names, and invalid files are errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError
from polytag.metrics.operating_points import Goal, choose_thresholds
from polytag.metrics.risk_control import RiskControl
from polytag.predictions.thresholds import find_thresholds, read_thresholds, require_same_calibration, write_thresholds

LABELS = LabelSet(names=("cat", "dog"))
PREDICTIONS = Predictions(
    ids=("a", "b", "c"),
    logit_NC=np.array([[2.0, 1.0], [0.5, -1.0], [-1.0, -2.0]]),
    target_NC=np.array([[1, 0], [0, 0], [1, -1]]),
    label_set=LABELS,
    checkpoint_id="0123456789abcdef",
    calibration="fedcba9876543210",
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    points = choose_thresholds(PREDICTIONS, goal=Goal.parse("precision=0.6"))
    write_thresholds(
        tmp_path / "thresholds.json", points, checkpoint_id=PREDICTIONS.checkpoint_id, calibration=PREDICTIONS.calibration
    )
    return tmp_path / "thresholds.json"


def test_what_is_written_is_read(written: Path):
    found = read_thresholds(written, label_set=LABELS)
    values = json.loads(written.read_text())
    assert found.thresholds == tuple(values["thresholds"].values())
    assert (found.goal, found.checkpoint_id, found.calibration) == (
        "precision=0.6", "0123456789abcdef", "fedcba9876543210",
    )  # fmt: skip
    assert values["per_class"]["dog"]["precision"] is None  # NaN is null
    assert (values["thresholds"]["dog"], values["per_class"]["dog"]["reason"]) == (1.0, "no positive")
    assert (values["confidence"], values["joint"], values["num_images"]) == (None, False, 3)
    assert (values["risk_control"], values["guarantee"]) == (found.risk_control, values["guarantee"]) == (None, "")
    assert found.chosen_on(PREDICTIONS.take([2, 0, 1]))
    assert not found.chosen_on(PREDICTIONS.take([0, 1]))
    assert set(values["per_class"]["cat"]) == set(values["per_class"]["dog"])


def test_a_plain_object_is_read_in_any_order(tmp_path: Path):
    (tmp_path / "t.json").write_text('{"dog": 1, "cat": 0.25}')
    found = read_thresholds(tmp_path / "t.json", label_set=LABELS)
    assert (found.thresholds, found.goal) == ((0.25, 1.0), "")


def test_a_class_may_be_called_thresholds(tmp_path: Path):
    (tmp_path / "t.json").write_text('{"thresholds": 0.25}')
    assert read_thresholds(tmp_path / "t.json", label_set=LabelSet(names=("thresholds",))).thresholds == (0.25,)


@pytest.mark.parametrize(
    ("text", "what", "rest"),
    [
        ("{", "the thresholds are not JSON", None),
        ("[1]", "the file has no thresholds", "  expected: an object of class name: probability"),
        ('{"cat": 0.5}', "the thresholds are for other classes", "  got: lacks dog\n  expected: cat, dog"),
        ('{"cat": 0.5, "dog": 0, "elk": 0}', "the thresholds are for other classes", "  got: has elk\n  expected: cat, dog"),
        ('{"cat": 0.5, "dog": 1.5}', "a threshold is not a probability", "  got: 1.5 for 'dog'\n  expected: a number from 0 to 1"),
        ('{"cat": null, "dog": 1}', "a threshold is not a probability", "  got: None for 'cat'\n  expected: a number from 0 to 1"),
        ('{"cat": true, "dog": 1}', "a threshold is not a probability", "  got: True for 'cat'\n  expected: a number from 0 to 1"),
        ('{"cat": NaN, "dog": 1}', "the thresholds are not JSON", None),
        ('{"cat": 0.1, "dog": 1, "cat": 0.9}', "the thresholds are not JSON", None),
        (
            '{"version": 9, "thresholds": {}}',
            "the thresholds were written by another version of polytag",
            "  got: version 9\n  expected: version 1",
        ),
    ],
)
def test_invalid_thresholds_files(tmp_path: Path, text: str, what: str, rest: str | None):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(PredictionsError) as error:
        read_thresholds(path, label_set=LABELS)
    assert error.value.what == what
    if rest is not None:
        assert str(error.value) == f"{what}\n  where: {path}\n{rest}"


CONTROL = {"level": 0.1, "num_images": 9, "num_needed": 9, "false_negative_rate": 0.05, "set_size": 2.5}


@pytest.mark.parametrize(
    ("risk_control", "got", "expected"),
    [
        ({**CONTROL, "level": 1.5}, "risk_control.level: 1.5", "a rate between 0 and 1"),
        ({**CONTROL, "level": "\x1b[2J"}, "risk_control.level: '\\x1b[2J'", "a finite number"),
        ({**CONTROL, "num_images": 1e9}, "risk_control.num_images: 1000000000.0", "a whole number of 64 bits"),
        (
            {**CONTROL, "guarantee": "all is well"},
            "risk_control: 'guarantee'",
            "one of level, num_images, num_needed, false_negative_rate, set_size, group, num_groups",
        ),
        ([0.1], "risk_control: a list of 1", "a mapping of names to values"),
    ],
)
def test_an_invalid_statement_of_risk(tmp_path: Path, risk_control: object, got: str, expected: str):
    path = tmp_path / "t.json"
    values = {"version": 1, "thresholds": {"cat": 0.5, "dog": 0.5}, "goal": "fnr=0.1"}
    path.write_text(json.dumps(values | {"risk_control": CONTROL}))
    assert read_thresholds(path, label_set=LABELS).risk_control == RiskControl(**CONTROL)
    path.write_text(json.dumps(values | {"risk_control": risk_control}))
    with pytest.raises(PredictionsError) as error:
        read_thresholds(path, label_set=LABELS)
    assert str(error.value) == (
        f"the thresholds cannot be read\n  where: {path}\n  got: {got}\n  expected: {expected}\n"
        "  next: choose thresholds again, or remove thresholds.json: every class then has that of best/, or 0.5"
    )


def test_no_file(tmp_path: Path):
    with pytest.raises(PredictionsError) as error:
        read_thresholds(tmp_path / "t.json", label_set=LABELS)
    assert str(error.value) == (
        f"the thresholds cannot be read\n  where: {tmp_path / 't.json'}\n  got: No such file or directory\n"
        "  expected: a thresholds.json"
    )


def test_thresholds_next_to_predictions_are_found(written: Path):
    path = written.with_name("predictions-val.parquet")
    found = find_thresholds(path, PREDICTIONS)
    assert found is not None
    assert found.goal == "precision=0.6"
    external = Predictions(ids=("a",), logit_NC=np.zeros((1, 2)), target_NC=np.zeros((1, 2), int), label_set=LABELS)
    assert find_thresholds(path, external) is None  # of no checkpoint
    written.write_text("{}")
    assert find_thresholds(path, PREDICTIONS) is None


def test_thresholds_for_another_calibration_are_refused(written: Path):
    found = read_thresholds(written, label_set=LABELS)
    require_same_calibration(found, PREDICTIONS, where=written)
    plain = Predictions(
        ids=PREDICTIONS.ids,
        logit_NC=PREDICTIONS.logit_NC,
        target_NC=PREDICTIONS.target_NC,
        label_set=LABELS,
        checkpoint_id="0123456789abcdef",
    )
    with pytest.raises(PredictionsError) as error:
        require_same_calibration(found, plain, where=written)
    assert str(error.value) == (
        f"the thresholds are for scores under another calibration\n  where: {written}\n  got: calibration fedcba9876543210\n"
        "  expected: none, that of the predictions\n"
        "  next: predict again with the current model, or choose thresholds on these predictions"
    )
    assert find_thresholds(written.with_name("predictions-val.parquet"), plain) is None
