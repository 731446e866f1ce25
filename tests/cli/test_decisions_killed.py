"""`thresholds` and `calibrate`, killed before file operations or run beside each other: old or new decisions, never 0.5."""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.errors import PredictionsError, RunError
from polytag.inference.decisions import save_calibration, save_thresholds
from polytag.metrics.operating_points import Goal, choose_thresholds
from polytag.models.checkpoint import Checkpoint, save_checkpoint, update_checkpoint
from polytag.predictions.read import read_predictions
from polytag.predictions.thresholds import find_thresholds
from polytag.runs import model
from polytag.runs.model import open_run

KILLING = """
import os, shutil, signal, sys
from pathlib import Path

root, step, command = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
import polytag.cli.main, polytag.inference.decisions, polytag.metrics.calibration  # once, before the forks

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
count = limit = 0

def tick():
    global count
    count += 1
    if count == limit:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, arguments):
    opens = event == "open" and arguments[2] and arguments[2] & WRITING and str(root) in str(arguments[0])
    if limit and (opens or event in ("os.rename", "os.remove", "os.mkdir")):
        tick()

flush = os.fsync
os.fsync = lambda handle: (tick() if limit else None, flush(handle))[1]
sys.addaudithook(hook)

def forked(folder, kill_before):
    global limit
    child = os.fork()
    if not child:
        limit = kill_before
        sys.argv = ["polytag", command[0], str(folder), *command[1:]]
        sys.stdout = open(os.devnull, "w")
        try:
            polytag.cli.main.main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

shutil.copytree(root / "old", root / "warm")  # what a verb imports late is imported once, before the forks
sys.argv = ["polytag", command[0], str(root / "warm"), *command[1:]]
saying, sys.stdout = sys.stdout, open(os.devnull, "w")
try:
    polytag.cli.main.main()
except SystemExit as end:
    assert not end.code
sys.stdout = saying

number = 1
while True:
    killed, again = root / f"killed-{number}", root / f"again-{number}"
    shutil.copytree(root / "old", killed)
    status = forked(killed, number)
    assert status in (0, -signal.SIGKILL), status
    shutil.copytree(killed, again)
    assert forked(again, 0) == 0
    if not status:
        break
    number += step
print(number)
"""

THRESHOLDS, CALIBRATE = ("thresholds", "--goal", "recall=0.3"), ("calibrate", "--method", "temperature")


@pytest.fixture
def mine(run: Path, tmp_path: Path, polytag: Callable) -> Path:
    """A copy of the run with chosen thresholds, none of them 0.5."""
    copy = Path(shutil.copytree(run, tmp_path / "old"))
    polytag("thresholds", copy, "--goal", "recall=0.9")
    assert 0.5 not in Checkpoint.read(copy).thresholds
    return copy


def decisions(run: Path) -> list[bytes]:
    """What `evaluate` and the others decide about the run's own scores, and about the uncalibrated ones."""
    found: list[bytes] = []
    for path in (run / "predictions-val.parquet", run / "predictions-val-uncalibrated.parquet"):
        if path.is_file():
            predictions = read_predictions(path)
            thresholds = find_thresholds(path, predictions)
            assert thresholds is not None, "0.5"
            found.append((predictions.probability_NC > np.array(thresholds.thresholds)).tobytes())
    return found


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("before", "verb", "step"),  # every operation, or every third: benchmarks/kills.py kills before each
    [
        ((), THRESHOLDS, 1),
        pytest.param(CALIBRATE, ("calibrate", "--method", "platt"), 3, marks=pytest.mark.slow),
        pytest.param((), CALIBRATE, 3, marks=pytest.mark.slow),
        pytest.param(CALIBRATE, THRESHOLDS, 3, marks=pytest.mark.slow),
        pytest.param(CALIBRATE, ("calibrate", "--method", "none"), 3, marks=pytest.mark.slow),
    ],
    ids=["thresholds", "recalibrate", "calibrate", "thresholds-calibrated", "none"],
)
def test_a_kill_leaves_the_old_or_the_new_decisions(
    mine: Path, polytag: Callable, before: tuple[str, ...], verb: tuple[str, ...], step: int
):
    if before:
        polytag(before[0], mine, *before[1:])
    new = shutil.copytree(mine, mine.parent / "new")
    polytag(verb[0], new, *verb[1:])
    script = [sys.executable, "-W", "ignore", "-c", KILLING, str(mine.parent), str(step), *verb]
    done = subprocess.run(script, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    num_kills = int(done.stdout) - 1
    assert num_kills > 8
    expected = {*decisions(mine), *decisions(new)}
    for number in range(1, num_kills + 1, step):
        killed = mine.parent / f"killed-{number}"
        assert set(decisions(killed)) <= expected, number
        assert len(set(decisions(killed))) == 1, number  # the calibrated and the uncalibrated scores are decided alike
        assert contents(mine.parent / f"again-{number}") == contents(new), number


@pytest.mark.slow
def test_a_calibration_of_thresholds_of_0_5_is_completed_too(run: Path, tmp_path: Path, polytag: Callable):
    old = Path(shutil.copytree(run, tmp_path / "old"))
    polytag("calibrate", old)
    new = shutil.copytree(old, tmp_path / "new")
    polytag("calibrate", new, "--method", "temperature")
    script = [sys.executable, "-W", "ignore", "-c", KILLING, str(tmp_path), "3", "calibrate", "--method", "temperature"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=400, check=True)
    for number in range(1, int(done.stdout), 3):
        assert set(decisions(tmp_path / f"killed-{number}")) <= {*decisions(old), *decisions(new)}
        assert contents(tmp_path / f"again-{number}") == contents(new)


# ---- two at once ----


def test_a_run_that_another_process_holds_is_not_changed(mine: Path, polytag: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model, "_WAIT_SECONDS", 0.2)
    before = contents(mine)
    with open(mine / "state" / "lock", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in ("thresholds", "calibrate"):
            with pytest.raises(RunError, match="another process holds this run folder"):
                polytag(command, mine)
            polytag(command, mine, "--dry-run")
    assert contents(mine) == before


def test_a_model_that_was_trained_or_calibrated_meanwhile_is_not_given_these_thresholds(mine: Path, polytag: Callable):
    run = open_run(mine)
    assert run is not None
    predictions = read_predictions(mine / "predictions-val.parquet")
    points = choose_thresholds(predictions, goal=Goal.parse("f1"))
    polytag("calibrate", mine, "--method", "temperature")
    before = contents(mine)
    with pytest.raises(RunError) as error:
        save_thresholds(run, points)
    checkpoint = Checkpoint.read(mine)
    assert checkpoint.calibration is not None
    assert str(error.value) == (
        f"another process has changed the run meanwhile: nothing was saved\n  where: {mine / 'best'}\n"
        f"  got: checkpoint {checkpoint.id}, calibration {checkpoint.calibration.id}\n"
        f"  expected: checkpoint {checkpoint.id}, calibration none\n  next: run the same command again"
    )
    assert contents(mine) == before

    tensors = {name: value + 1 for name, value in run.checkpoint.load_model().state_dict().items()}
    kept = {name: getattr(checkpoint, name) for name in ("backbone", "backbone_args", "preprocessing", "label_set", "facts")}
    save_checkpoint(mine / "best", tensors=tensors, **kept, thresholds=(0.5,) * 3, card=str)
    with pytest.raises(RunError, match="another process has changed the run meanwhile"):
        save_calibration(run, predictions, None)


def test_thresholds_and_calibrate_at_once_agree_afterwards(mine: Path):
    commands = [("thresholds", "--goal", "recall=0.3"), ("calibrate", "--method", "temperature"), ("thresholds", "--goal", "f1")]
    running = [
        subprocess.Popen([sys.executable, "-m", "polytag", name, str(mine), *rest], stderr=subprocess.PIPE, text=True)
        for name, *rest in commands * 2
    ]
    for process in running:
        stderr = process.communicate(timeout=400)[1]
        refusals = (
            *("another process has changed the run meanwhile", "another process holds this run folder"),
            *("uncalibrated", "these scores are under another calibration"),
        )
        assert process.returncode == 0 or any(each in stderr for each in refusals), stderr
    assert 0 in [process.returncode for process in running]
    checkpoint, path = Checkpoint.read(mine), mine / "predictions-val.parquet"
    found = find_thresholds(path, read_predictions(path))
    assert found is not None
    assert (found.where, found.thresholds) == (mine / "thresholds.json", checkpoint.thresholds)


# ---- best/config.json is the truth ----


def test_other_thresholds_than_those_of_the_model_are_not_used(mine: Path, polytag: Callable):
    checkpoint, path = Checkpoint.read(mine), mine / "predictions-val.parquet"
    update_checkpoint(checkpoint, thresholds=(0.1, 0.2, 0.3), calibration=None)
    found = find_thresholds(path, read_predictions(path))
    assert found is not None
    assert (found.thresholds, found.goal, found.where) == ((0.1, 0.2, 0.3), "", mine / "best" / "config.json")
    said = polytag("evaluate", path).stdout
    assert f"from {mine / 'best' / 'config.json'}." in " ".join(said.split()).replace("\n", "")


def test_scores_that_the_run_has_replaced_are_not_decided_at_0_5(mine: Path, polytag: Callable):
    polytag("calibrate", mine, "--method", "temperature")
    path = mine / "predictions-val.parquet"
    earlier = read_predictions(path)
    polytag("calibrate", mine, "--method", "platt")
    with pytest.raises(PredictionsError, match="under another calibration than the run's model"):
        find_thresholds(path, earlier)
    assert find_thresholds(mine / "of-old.parquet", earlier) is None
    assert find_thresholds(path, replace(earlier, checkpoint_id="0" * 16)) is None
