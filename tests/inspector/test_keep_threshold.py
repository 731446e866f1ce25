"""A threshold that is kept in the inspector is the run's: in thresholds.json, in the model, and in what it predicts."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from polytag.data.read_options import ReadOptions
from polytag.errors import UsageError
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.keep_threshold import keep_threshold
from polytag.inspector.open import OpenOptions, open_inspection
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.read import read_predictions
from polytag.predictions.thresholds import find_thresholds
from polytag.runs.folder import RunFolder, locked
from polytag.runs.model import open_run


@pytest.fixture
def run(modelled: Inspection, tmp_path: Path) -> Path:
    assert modelled.checkpoint is not None
    return Path(shutil.copytree(modelled.checkpoint.parent, tmp_path / "run"))


def opened(run: Path) -> Inspection:
    return open_inspection(run, OpenOptions(), options=ReadOptions())


def test_a_kept_threshold_is_the_runs(run: Path):
    inspection = opened(run)
    assert inspection.may_keep_thresholds
    before = Checkpoint.read(run).thresholds
    assert keep_threshold(inspection, 1, 0.125) == before[1]
    expected = (before[0], 0.125, *before[2:])
    assert Checkpoint.read(run).thresholds == expected
    values = json.loads((run / "thresholds.json").read_text())
    assert list(values["thresholds"].values()) == list(expected)
    assert (values["goal"], values["confidence"], values["guarantee"]) == ("", None, "")
    again = opened(run)
    assert again.threshold_C.tolist() == list(expected)
    path = run / "predictions-val.parquet"
    predictions = read_predictions(path)
    found = find_thresholds(path, replace(predictions, source=str(path)))
    assert found is not None
    assert found.thresholds == expected
    point = values["per_class"][predictions.label_set.names[1]]
    above_N = decide(predictions.probability_NC[:, 1], threshold_C=0.125) & (predictions.target_NC[:, 1] >= 0)
    assert point["num_predicted"] == above_N.sum()


def test_two_thresholds_kept_one_after_the_other_are_both_there(run: Path):
    """The second request knows nothing of the first: the thresholds of the model count, and not those of the page."""
    inspection = opened(run)
    keep_threshold(inspection, 0, 0.25)
    keep_threshold(inspection, 2, 0.75)
    thresholds = Checkpoint.read(run).thresholds
    assert (thresholds[0], thresholds[2]) == (0.25, 0.75)


def test_two_thresholds_kept_at_the_same_time_are_both_there(run: Path, monkeypatch: pytest.MonkeyPatch):
    both = threading.Barrier(2, timeout=20)

    def opened_by_both(path: Path):
        found = open_run(path)
        both.wait()
        return found

    monkeypatch.setattr("polytag.inspector.keep_threshold.open_run", opened_by_both)
    inspection = opened(run)
    with ThreadPoolExecutor(2) as pool:
        for kept in [pool.submit(keep_threshold, inspection, column, 0.25) for column in (0, 2)]:
            kept.result(30)
    thresholds = Checkpoint.read(run).thresholds
    assert (thresholds[0], thresholds[2]) == (0.25, 0.25)


def test_the_api_keeps_and_refuses(run: Path):
    inspection = opened(run)
    name = inspection.predictions.label_set.names[0]
    with TestClient(create_app(inspection)) as client:
        kept = client.post("/api/thresholds/keep", json={"class_name": name, "threshold": 0.3})
        assert (kept.status_code, kept.json()["threshold"]) == (200, 0.3)
        assert client.post("/api/thresholds/keep", json={"class_name": "no", "threshold": 0.3}).status_code == 404
        for threshold in (-0.1, 1.1, "0.5", None, True):
            refused = client.post("/api/thresholds/keep", json={"class_name": name, "threshold": threshold})
            assert refused.status_code == 422, threshold
    assert Checkpoint.read(run).thresholds[0] == 0.3


def test_a_run_that_another_process_holds_keeps_nothing(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polytag.runs.model._WAIT_SECONDS", 0.1)
    inspection, before = opened(run), Checkpoint.read(run).thresholds
    name = inspection.predictions.label_set.names[0]
    with TestClient(create_app(inspection)) as client, locked(RunFolder(path=run), doing="a test"):
        refused = client.post("/api/thresholds/keep", json={"class_name": name, "threshold": 0.3})
    assert refused.status_code == 503
    assert Checkpoint.read(run).thresholds == before


def test_only_a_run_with_its_validation_images_keeps(run: Path, tmp_path: Path):
    file = tmp_path / "predictions.parquet"
    shutil.copy(run / "predictions-val.parquet", file)
    for inspection in (opened(file), replace(opened(run), split="train"), replace(opened(run), checkpoint=None)):
        assert not inspection.may_keep_thresholds
        with pytest.raises(UsageError):
            keep_threshold(inspection, 0, 0.3)
        names = inspection.predictions.label_set.names
        with TestClient(create_app(replace(inspection, review_file=tmp_path / "review.sqlite"))) as client:
            assert client.post("/api/thresholds/keep", json={"class_name": names[0], "threshold": 0.3}).status_code == 409
    assert np.all(np.array(Checkpoint.read(run).thresholds) != 0.3)
