"""A run that trains: what its folder shows, whatever is missing, cut, killed or lost; and a real training with a real kill."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from polytag import resume
from polytag.data.read_options import ReadOptions
from polytag.inspector.live.app import LiveRun
from polytag.inspector.live.progress import progress_of
from polytag.inspector.open import OpenOptions, open_inspection, open_running, reopen_inspection
from polytag.runs.args import RunArgs, write_args
from polytag.runs.folder import RunFolder, locked
from polytag.runs.history import COLUMNS, read_history, write_history
from polytag.runs.plan import Plan, write_plan
from polytag.runs.recipe import FINETUNE, Recipe

OPTIONS = OpenOptions()


def begun(path: Path, recipe: Recipe = FINETUNE, **args: int) -> RunFolder:
    run = RunFolder(path=path)
    run.lock.parent.mkdir(parents=True)
    write_args(run, RunArgs(data=None, dataset="colours", options=ReadOptions(), recipe=replace(recipe, image_size_px=64), **args))
    return run


def rows(*val_map: float, train_loss: float = 0.5, seconds: float = 30.0, first: int = 1):
    row = {**dict.fromkeys(COLUMNS, 0.25), "seconds": seconds, "train_loss": train_loss}
    return [{**row, "epoch": float(epoch), "val_map": value} for epoch, value in enumerate(val_map, first)]


def app_of(run: RunFolder) -> LiveRun:
    def open_ended():
        inspection = open_inspection(run.path, OPTIONS, options=ReadOptions())
        return inspection, lambda before: reopen_inspection(before, run.path, OPTIONS, options=ReadOptions())

    return LiveRun(run, open_running=lambda: open_running(run), open_ended=open_ended)


def served(run: RunFolder) -> TestClient:
    return TestClient(app_of(run), base_url="http://127.0.0.1")


def aged(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path):
    run = begun(tmp_path / "run")
    with locked(run, doing="training"):
        client = served(run)
        page = client.get("/").text
    assert "The run is training." in page
    assert f"0 of {FINETUNE.epochs}" in page
    assert "not known yet" in page
    assert "They begin with the first epoch that has ended." in page
    assert client.get("/ranking?class=cat", follow_redirects=False).headers["location"] == "/"
    assert client.get("/api/run").status_code == 404
    assert client.get("/static/shared/inspector.css").status_code == 200


def test_the_time_left_is_that_of_the_planned_epochs(tmp_path: Path):
    run = begun(tmp_path / "run", replace(FINETUNE, epochs=10))
    with locked(run, doing="training"):
        write_history(run, rows(0.3, 0.5, 0.4, seconds=60))
        assert progress_of(run).seconds_left == pytest.approx(7 * 60, abs=5)
        aged(run.results, 30)
        aged(run.lock, 200)
        found = progress_of(run)
        assert found.seconds_left == pytest.approx(7 * 60 - 30, abs=5)
        assert not found.is_late
        aged(run.results, 120)
        assert progress_of(run).is_late
        assert (found.status, found.epochs, found.best_epoch, found.best_map) == ("running", 3, 2, 0.5)
        page = served(run).get("/").text
    assert "about 6 min" in page
    assert "This epoch takes longer" in page
    assert "0.500" in page


def test_the_time_left_of_minutes_is_that_of_the_clock(tmp_path: Path):
    recipe = replace(FINETUNE, minutes=10)
    run = begun(tmp_path / "run", recipe)
    plan = Plan(recipe=recipe, num_probe=9, num_val=9, epochs=2, learn_seconds=0.1, seconds={"measuring": 20.0, "probe": 30.0})
    write_plan(plan, run.plan)
    with locked(run, doing="training"):
        write_history(run, rows(0.3, seconds=60))
        aged(run.lock, 100)
        assert progress_of(run).seconds_left == pytest.approx(600 - 20 - 100, abs=3)
        aged(run.args, 5000)  # resumed: the time until then is that of its epochs
        assert progress_of(run).seconds_left == pytest.approx(600 - 20 - 60, abs=3)


def test_a_run_that_nobody_holds_was_interrupted(tmp_path: Path):
    run = begun(tmp_path / "a run")
    write_history(run, rows(0.4))
    for path in (run.args, run.results):
        aged(path, 7200)
    found = progress_of(run)
    assert (found.status, found.seconds_left != found.seconds_left) == ("interrupted", True)
    assert found.quiet_seconds == pytest.approx(7200, abs=60)
    page = served(run).get("/").text
    assert "2.0 h ago" in page
    assert "it was interrupted, or it trains on another machine" in page
    assert "polytag train --resume &#39;" in page


def test_a_row_that_is_cut_leaves_what_was_read_before(tmp_path: Path):
    run = begun(tmp_path / "run")
    write_history(run, rows(0.3, 0.6))
    client = served(run)
    assert "epoch 2" in client.get("/").text
    whole = run.results.read_text()
    run.results.write_text(whole + "3,0.2,0.")
    page = client.get("/").text
    assert "results.csv cannot be read now" in page
    assert "best validation mAP so far, epoch 2" in page
    assert "cannot be read" in served(run).get("/").text, "also without an earlier look"
    run.args.write_text("{")
    assert client.get("/").status_code == 200
    run.results.write_text(whole)
    assert "results.csv" not in client.get("/").text


def test_a_loss_that_is_not_a_number_and_epochs_without_a_map_are_said(tmp_path: Path):
    run = begun(tmp_path / "run")
    lost = rows(0.3, 0.2, 0.2)
    for row in lost[1:]:
        row["train_loss"] = row["val_loss"] = math.nan
    write_history(run, lost)
    assert "not a number since epoch 2" in served(run).get("/").text
    lost[2]["train_loss"] = 0.4
    write_history(run, lost)
    assert progress_of(run).lost_epoch == -1
    probe = rows(0.3, first=0)
    probe[0]["train_loss"] = math.nan
    write_history(run, probe)
    assert (progress_of(run).lost_epoch, progress_of(run).best_epoch) == (-1, 0)
    assert "of the probe" in served(run).get("/").text
    write_history(run, rows(math.nan, math.nan))
    page = served(run).get("/").text
    assert "No epoch has a validation mAP" in page
    assert '<span class="value">–</span>' in page


def test_of_a_run_of_folds_the_page_is_of_the_fold_that_trains(tmp_path: Path):
    run = begun(tmp_path / "run", folds=3)
    for number, val_map in ((1, 0.9), (2, 0.4)):
        fold = begun(run.fold(number).path, folds=3, fold=number)
        write_history(fold, rows(val_map))
    found = progress_of(run)
    assert (found.fold, found.num_folds, found.best_map) == (2, 3, 0.4)
    assert "fold 2 of 3" in served(run).get("/").text
    with locked(run, doing="training"):
        assert "time left of this fold" in served(run).get("/").text


TRAINING = """
import sys
from dataclasses import replace
from polytag import FINETUNE, train

train(
    sys.argv[1],
    recipe=replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=64, epochs=400),
    output=sys.argv[2],
)
"""


def until(condition: Any, seconds: float = 120) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.slow
def test_a_training_is_followed_killed_resumed_and_becomes_the_inspector(colours: Path, tmp_path: Path):
    run = RunFolder(path=tmp_path / "run")
    training = subprocess.Popen([sys.executable, "-c", TRAINING, str(colours), str(run.path)], stdout=subprocess.DEVNULL)
    try:
        until(lambda: run.running_predictions.is_file())
        client = served(run)
        page = client.get("/").text
        assert "The run is training." in page
        until(lambda: 'class="eight"' in client.get("/").text)  # not while best/ is newer than its scores
        page = client.get("/").text
        assert "/thumbnails/0?v=" in page or "/thumbnails/" in page
        assert client.get("/ranking?class=red").status_code == 200
        assert client.get("/api/run").json()["num_images"] == 24
        assert not client.get("/api/run").json()["may_keep_thresholds"]
    finally:
        training.send_signal(signal.SIGKILL)
        training.wait()
    page = client.get("/").text
    assert "it was interrupted" in page
    assert 'class="eight"' in page, "the scores of its best epoch are still there"
    run.args.write_text(run.args.read_text().replace("epochs: 400", f"epochs: {progress_of(run).epochs + 2}"))
    resume(run.path)
    page = client.get("/").text
    assert "mean average precision" in page
    assert 'class="classes"' in page, "the overview of the inspector"
    assert client.get("/api/run").json()["has_model"]
    assert not run.running_predictions.exists()
    metrics = json.loads(run.metrics.read_text())
    assert client.get("/api/run").json()["mAP"]["value"] == pytest.approx(metrics["mAP"]["value"])


@pytest.fixture
def before_its_end(modelled, tmp_path: Path) -> RunFolder:
    """A run as it was after its first epoch."""
    run = RunFolder(path=shutil.copytree(modelled.review_file.parent, tmp_path / "run"))
    for path in (run.predictions, run.metrics):
        path.unlink()
    write_history(run, read_history(run)[:1])
    return run


@pytest.fixture
def server(live, before_its_end: RunFolder):
    with live(app_of(before_its_end)) as running:
        yield running


@pytest.mark.browser
@pytest.mark.slow
def test_an_open_page_follows_the_training_and_becomes_the_inspector(server, before_its_end: RunFolder, visit, modelled):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    whole, run = RunFolder(path=modelled.review_file.parent), before_its_end
    history = read_history(whole)
    with locked(run, doing="training"):
        page = visit(server.url + "/")
        assert page.locator("[data-part=progress] dd").first.inner_text() == "1 of 3"
        page.evaluate("document.querySelector('header').dataset.same = 'yes'")
        write_history(run, history[:2])
        page.wait_for_selector("[data-part=progress][data-epoch='2']")
        assert "Epoch 2 of 3 is done." in page.locator("#announcement").inner_text()
        assert page.locator("header").get_attribute("data-same") == "yes", "the page was not loaded again"
        for path in (whole.predictions, whole.metrics):
            shutil.copy(path, run.path)
        page.wait_for_selector("table.classes")
        assert page.locator("header").get_attribute("data-same") is None
