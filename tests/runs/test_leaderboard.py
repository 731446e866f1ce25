"""Runs are listed best first, those on the same validation images together; broken and unfinished ones stop nothing."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from polytag.cli.main import app
from polytag.cli.runs import print_leaderboard
from polytag.data.read_options import ReadOptions
from polytag.errors import RunError
from polytag.runs.args import RunArgs, write_args
from polytag.runs.folder import RunFolder, locked
from polytag.runs.history import COLUMNS, write_history
from polytag.runs.leaderboard import Leaderboard, leaderboard
from polytag.runs.recipe import FINETUNE, PROBE


def make_run(
    path: Path, *, value: float | None = 0.5, epochs: int = 2, same: str = "a" * 16, data: str = "colours", **args: int
) -> RunFolder:
    """A run folder as a training leaves it, as far as a leaderboard looks; unfinished without a value."""
    run = RunFolder(path=path)
    run.lock.parent.mkdir(parents=True)
    run.lock.touch()
    recipe = replace(FINETUNE if epochs else PROBE, image_size_px=64)
    write_args(run, RunArgs(data=None, dataset=data, options=ReadOptions(), recipe=recipe, data_fingerprint=same, **args))
    row = {**dict.fromkeys(COLUMNS, 0.25), "seconds": 30.0}
    write_history(run, [{**row, "epoch": float(epoch), "val_map": 0.1 * epoch} for epoch in range(1, epochs + 1)])
    run.environment.write_text(json.dumps({"data_fingerprint": "d" * 16, "validation_fingerprint": same}))
    if value is not None:
        mean = {"value": value, "low": value - 0.1, "high": value + 0.1, "num_classes": 3}
        run.metrics.write_text(json.dumps({"mAP": mean, "per_class": {}}))
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six runs of two data sets, one of folds, at two depths, and what is no run."""
    runs = tmp_path / "runs"
    make_run(runs / "low", value=0.4)
    make_run(runs / "sub" / "high", value=0.8)
    make_run(runs / "other", value=0.9, same="b" * 16, data="shapes")
    make_run(runs / "stopped", value=None, epochs=1)
    make_run(runs / "folds", value=0.6, same="c" * 16, folds=2)
    for number, value in ((1, 0.5), (2, 0.7)):
        make_run(runs / "folds" / f"fold-{number}", value=value, same=f"{number}" * 16, folds=2, fold=number)
    (runs / "notes").mkdir()
    (runs / "notes" / "metrics.json").write_text("{}")
    (runs / "link").symlink_to(runs / "low")
    return runs


def test_groups_of_the_same_validation_images_are_listed_best_first(folder: Path):
    found = leaderboard(folder)
    assert [[run.name for run in group] for group in found.groups] == [["sub/high", "low", "stopped"], ["folds"], ["other"]]
    best, folds = found.groups[0][0], found.groups[1][0]
    assert (best.value, best.low, best.high, best.num_classes) == (0.8, pytest.approx(0.7), pytest.approx(0.9), 3)
    assert (best.recipe, best.backbone, best.image_size_px, best.epochs, best.planned_epochs) == ("finetune", "resnet18", 64, 2, 6)
    assert (best.seconds, best.data, best.status) == (60.0, "colours", "finished")
    assert best.date is not None
    assert abs(best.date.timestamp() - time.time()) < 100
    assert [fold.name for fold in folds.folds] == ["fold-1", "fold-2"]
    assert (folds.seconds, folds.epochs, folds.planned_epochs) == (120.0, 4, 12)
    stopped = found.groups[0][2]
    assert (stopped.status, stopped.best_so_far) == ("interrupted", 0.1)
    assert math.isnan(stopped.value)
    assert found.unreadable == ()


def test_the_lock_tells_which_runs_are_running(folder: Path):
    run = RunFolder(path=folder / "stopped")
    with locked(run, doing="training"):
        assert leaderboard(folder).groups[0][2].status == "running"
    assert leaderboard(folder).groups[0][2].status == "interrupted"
    run.lock.write_text("training, process 1")  # as after a kill
    assert leaderboard(folder).groups[0][2].status == "interrupted"
    with locked(run, doing="training"):  # and looking takes no lock away
        pass


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("args.yaml", "{", "args.yaml cannot be read"),
        ("args.yaml", "recipe: 3", "args.yaml cannot be read"),
        ("results.csv", "a,b\n1,2\n", "results.csv cannot be read"),
        ("metrics.json", "", "metrics.json cannot be read"),
        ("metrics.json", "[]", "metrics.json cannot be read"),
        ("metrics.json", '{"mAP": 3}', "metrics.json cannot be read: mAP: 3"),
        ("env.json", '{"a": NaN}', "env.json cannot be read"),
    ],
)
def test_a_broken_run_is_listed_with_the_reason(folder: Path, name: str, content: str, reason: str):
    (folder / "low" / name).write_text(content)
    found = leaderboard(folder)
    assert [run.name for run in found.unreadable] == ["low"]
    assert reason in found.unreadable[0].reason
    assert [run.name for run in found.groups[0]] == ["sub/high", "stopped"]


def test_numbers_of_a_stranger_are_no_numbers(folder: Path):
    (folder / "low" / "metrics.json").write_text('{"mAP": {"value": "1", "low": true, "high": [], "num_classes": "many"}}')
    run = next(run for run in leaderboard(folder).groups[0] if run.name == "low")
    assert math.isnan(run.value)
    assert math.isnan(run.high)


def test_runs_from_before_the_fingerprint_are_grouped_by_their_data(folder: Path):
    for name in ("low", "other"):
        (folder / name / "env.json").write_text('{"data_fingerprint": "e"}')
    assert {"low", "other"} in [{run.name for run in group} for group in leaderboard(folder).groups]
    (folder / "low" / "env.json").unlink()  # a run that has only begun
    assert ["low"] in [[run.name for run in group] for group in leaderboard(folder).groups]


def shown(found: Leaderboard, *, width: int) -> str:
    out = io.StringIO()
    print_leaderboard(Console(width=width, file=out), found)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_console_has_every_run(folder: Path, width: int):
    make_run(folder / "a-run-with-a-name-that-is-much-too-long-for-its-column-of-the-table", value=0.3)
    (folder / "low" / "args.yaml").write_text("{")
    lines = shown(leaderboard(folder), width=width).splitlines()
    assert all(len(line) <= width for line in lines if "cannot be read" not in line and "polytag inspect" not in line)
    text = "\n".join(lines)
    assert re.search(r"0\.800 +0\.700 – 0\.900 +sub/high", text)
    assert re.search(r"0\.100 +interrupted +stopped", text)
    assert re.search(r"0\.500 +0\.400 – 0\.600 +fold-1", text)
    assert "1 run not listed:\n low: args.yaml cannot be read" in text
    assert "Runs of different groups have other validation images or labels: their numbers are not comparable." in " ".join(
        text.split()
    )
    assert "polytag inspect" in text
    assert ("finetune, resnet18 at 64 px, 2 of 6 epochs, 60 s, 20" in text) == (width == 80)


def test_the_json_file_has_every_field(folder: Path, tmp_path: Path):
    arguments = ["runs", str(folder), "--json", str(tmp_path / "runs.json")]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    values = json.loads((tmp_path / "runs.json").read_text())
    assert values == leaderboard(folder).to_json()
    assert values["groups"][0][0]["mAP"]["value"] == 0.8
    assert values["groups"][0][2]["mAP"]["value"] is None
    assert [fold["name"] for fold in values["groups"][1][0]["folds"]] == ["fold-1", "fold-2"]


def test_one_run_and_none(folder: Path, tmp_path: Path):
    assert [run.name for group in leaderboard(folder / "low").groups for run in group] == ["low"]
    assert "No runs in" in shown(leaderboard(folder / "notes"), width=80)
    with pytest.raises(RunError, match="no folder of runs"):
        leaderboard(tmp_path / "gone")


def test_a_thousand_runs_take_seconds_and_no_torch(tmp_path: Path):
    first = make_run(tmp_path / "runs" / "0", value=0.5)
    for number in range(1, 200):
        shutil.copytree(first.path, tmp_path / "runs" / str(number))
    script = (
        "import sys, time; from pathlib import Path; from polytag.runs.leaderboard import leaderboard\n"
        "started = time.process_time(); found = leaderboard(Path(sys.argv[1]))\n"
        "print(len(found.groups[0]), time.process_time() - started, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "runs")], capture_output=True, text=True, check=True)
    count, seconds, has_torch = done.stdout.split()
    assert (count, has_torch) == ("200", "False")
    assert float(seconds) < 4  # 200 runs: a fifth
