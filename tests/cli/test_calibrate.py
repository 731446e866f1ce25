"""`polytag calibrate`: fitted, measured, kept in the run, used by everything downstream, and taken away again bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polytag.data.load import load_dataset
from polytag.errors import PredictionsError, UsageError
from polytag.inference.predictor import Predictor
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.read import read_predictions
from polytag.predictions.table import source_in


@pytest.fixture
def mine(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "mine"))


def calibrate(polytag: Callable, run: Path, *options: object) -> str:
    """24 images are few: with temperature, five positives are enough."""
    return polytag("calibrate", run, "--method", "temperature", *options).stdout


def decisions(run: Path) -> np.ndarray:
    predictions = read_predictions(run / "predictions-val.parquet")
    return predictions.probability_NC > np.array(Checkpoint.read(run).thresholds)


def test_the_table_and_the_file(mine: Path, tmp_path: Path, polytag: Callable):
    stdout = calibrate(polytag, mine, "--dry-run", "--json", tmp_path / "c.json")
    lines = [line.split() for line in stdout.splitlines()]
    values = json.loads((tmp_path / "c.json").read_text())
    assert lines[0] == ["class", "positives", "log-loss", "Brier", "error"]
    blue = values["per_class"]["blue"]
    assert lines[1] == [
        "blue", str(blue["num_positives"]), f"{blue['log_loss_before']:.4f}", "→", f"{blue['log_loss_after']:.4f}",
        f"{blue['brier_before']:.4f}", "→", f"{blue['brier_after']:.4f}",
        f"{blue['calibration_error_before']:.4f}", "→", f"{blue['calibration_error_after']:.4f}",
    ]  # fmt: skip
    assert lines[4][:3] == ["mean", "of", "3"]
    assert (values["calibration"]["method"], values["num_folds"], values["seed"]) == ("temperature", 5, 0)
    assert "kept" not in stdout
    assert not (mine / "calibration.json").exists()
    assert Checkpoint.read(mine).calibration is None


def test_groups_share_a_part(run: Path, tmp_path: Path, polytag: Callable):
    """The cross-fitted numbers are those of folds that divide no patient; the saved maps are the same."""
    ids = read_predictions(run / "predictions-val.parquet").ids
    table = tmp_path / "patients.csv"
    table.write_text("id,patient\n" + "".join(f"{name},p{row // 3}\n" for row, name in enumerate(ids)))
    plain, grouped = tmp_path / "plain.json", tmp_path / "grouped.json"
    calibrate(polytag, run, "--dry-run", "--json", plain)
    stdout = calibrate(polytag, run, "--dry-run", "--json", grouped, "--group", "patient", "--columns", table)
    assert "fitted on the others, and none of 8 groups of patient was divided." in " ".join(stdout.split())
    first, second = (json.loads(path.read_text()) for path in (plain, grouped))
    assert (first["group"], second["group"]) == (None, "patient")
    assert first["calibration"] == second["calibration"]
    assert first["per_class"]["blue"]["brier_before"] == second["per_class"]["blue"]["brier_before"]
    assert first["per_class"] != second["per_class"]


def test_it_is_kept_and_everything_downstream_uses_it(mine: Path, colours: Path, tmp_path: Path, polytag: Callable):
    before, plain = Checkpoint.read(mine), read_predictions(mine / "predictions-val.parquet")
    stdout = calibrate(polytag, mine)
    assert "Thresholds stay 0.5, now of the calibrated probability." in " ".join(stdout.split())
    after = Checkpoint.read(mine)
    assert after.calibration is not None
    assert (after.id, after.thresholds) == (before.id, (0.5, 0.5, 0.5))

    kept = read_predictions(mine / "predictions-val.parquet")
    assert kept.calibration == after.calibration.id
    assert kept.logit_NC.tobytes() == after.calibration.apply(plain.logit_NC).tobytes()
    assert source_in(mine / "predictions-val.parquet") == source_in(mine / "predictions-val-uncalibrated.parquet")
    # the model, asked again, gives those very scores: in Python and through the command
    val_set = load_dataset(colours).split("val")
    assert Predictor.load(after, device="cpu").score(val_set).logit_NC.tobytes() == kept.logit_NC.tobytes()
    polytag("predict", mine, colours, "--split", "val", "--device", "cpu", "--output", tmp_path / "p.parquet")
    again = read_predictions(tmp_path / "p.parquet")
    assert (again.calibration, again.logit_NC.tobytes()) == (kept.calibration, kept.logit_NC.tobytes())
    assert json.loads((mine / "thresholds.json").read_text())["calibration"] == after.calibration.id
    polytag("evaluate", mine / "predictions-val.parquet", "--json", tmp_path / "m.json")
    old, new = (json.loads(path.read_text()) for path in (mine / "metrics.json", tmp_path / "m.json"))
    assert new["mAP"]["value"] == pytest.approx(old["mAP"]["value"], abs=1e-9)  # no ranking changes


def test_chosen_thresholds_move_along_and_decide_the_same(mine: Path, polytag: Callable):
    polytag("thresholds", mine, "--goal", "recall=0.7", "--confidence", "0.5")
    chosen, first = json.loads((mine / "thresholds.json").read_text()), decisions(mine)
    assert "Thresholds for recall=0.7 are converted: no decision changes." in " ".join(calibrate(polytag, mine).split())
    moved = json.loads((mine / "thresholds.json").read_text())
    assert np.array_equal(decisions(mine), first)
    assert moved["thresholds"] != chosen["thresholds"]
    assert moved["goal"] == "recall=0.7"
    for name, point in moved["per_class"].items():
        assert point["threshold"] == moved["thresholds"][name]
        assert {**point, "threshold": 0} == {**chosen["per_class"][name], "threshold": 0}
    # and with another method, from the scores as the model gave them
    polytag("calibrate", mine, "--method", "platt")
    assert np.array_equal(decisions(mine), first)
    polytag("calibrate", mine, "--method", "none")
    assert np.array_equal(decisions(mine), first)
    assert json.loads((mine / "thresholds.json").read_text())["thresholds"] == pytest.approx(chosen["thresholds"], abs=1e-6)


def test_taken_away_the_run_is_as_it_was(mine: Path, polytag: Callable):
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    calibrate(polytag, mine)
    assert "none" not in calibrate(polytag, mine)  # twice is no more than once
    assert {path.name for path in mine.iterdir()} >= {"calibration.json", "predictions-val-uncalibrated.parquet"}
    polytag("calibrate", mine, "--method", "none")
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


def test_thresholds_after_a_calibration_are_of_calibrated_scores(mine: Path, tmp_path: Path, polytag: Callable):
    calibrate(polytag, mine)
    polytag("thresholds", mine, "--goal", "f1")
    kept = json.loads((mine / "thresholds.json").read_text())
    # scores from before the calibration are mended on the way
    polytag("thresholds", mine, "--on", mine / "predictions-val-uncalibrated.parquet", "--dry-run", "--json", tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["thresholds"] == kept["thresholds"]
    assert kept["calibration"] == Checkpoint.read(mine).calibration.id
    calibrated = tmp_path / "c.parquet"
    shutil.copy(mine / "predictions-val.parquet", calibrated)
    polytag("calibrate", mine, "--method", "none")
    with pytest.raises(PredictionsError) as error:
        polytag("thresholds", mine, "--on", calibrated)
    assert str(error.value) == (
        f"these scores are under another calibration\n  where: {calibrated}\n  got: {kept['calibration']}\n"
        "  expected: none, as the run's best/ has it\n"
        f"  next: predict again, or calibrate again: polytag calibrate {mine}"
    )


def test_a_bare_file_is_measured_and_never_changed(mine: Path, tmp_path: Path, polytag: Callable):
    scores = tmp_path / "p.parquet"
    shutil.copy(mine / "predictions-val.parquet", scores)
    before = scores.read_bytes()
    calibrate(polytag, scores, "--json", tmp_path / "c.json")
    assert scores.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.json", "mine", "p.parquet"]
    with pytest.raises(UsageError) as error:
        polytag("calibrate", scores, "--method", "none")
    assert str(error.value) == (
        f"no calibration to remove\n  where: --method\n  got: none, for {scores}\n  expected: a run folder with one model"
    )
    calibrate(polytag, mine)
    with pytest.raises(PredictionsError) as error:
        calibrate(polytag, mine / "predictions-val.parquet")
    checkpoint = Checkpoint.read(mine)
    assert str(error.value) == (
        f"these are not the uncalibrated scores of the run's model\n  where: {mine / 'predictions-val.parquet'}\n"
        f"  got: checkpoint {checkpoint.id}, calibration {checkpoint.calibration.id}\n  expected: calibration none\n"
        "  next: calibrate on uncalibrated scores"
    )
