"""`polytag compare`: runs and files of scores, what is refused, the files that are written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.metrics.compare import compare
from polytag.metrics.comparison import Comparison
from polytag.metrics.recipes import RecipeComparison, compare_recipes
from polytag.models.checkpoint import Checkpoint, update_checkpoint
from polytag.predictions.read import read_predictions
from polytag.predictions.table import write_predictions
from polytag.runs.folder import run_names


@pytest.fixture(scope="module")
def first(run: Path) -> Predictions:
    return read_predictions(run / "predictions-val.parquet")


@pytest.fixture(scope="module")
def other(first: Predictions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of the same images in another order, by another model."""
    path = tmp_path_factory.mktemp("other") / "other.parquet"
    noisy = first.logit_NC + np.random.default_rng(0).normal(0, 1, first.logit_NC.shape).astype(np.float32)
    write_predictions(replace(first, logit_NC=noisy).take(range(len(first) - 1, -1, -1)), path)
    return path


def lines_of(comparison: Comparison | RecipeComparison) -> list[str]:
    """As a terminal of 120 columns shows them, which the suite has."""
    return [line.text for line in comparison.lines(width=120)]


def test_a_run_against_a_file(run: Path, first: Predictions, other: Path, tmp_path: Path, polytag):
    output = polytag("compare", run, other, "--json", tmp_path / "c.json", "--report", tmp_path / "c.html").stdout
    comparison = compare(first, read_predictions(other), names=("colours", "other"))
    assert [line.rstrip() for line in output.splitlines()] == [*lines_of(comparison), "", f"report: {tmp_path / 'c.html'}"]
    assert json.loads((tmp_path / "c.json").read_text()) == json.loads(json.dumps(comparison.to_json()))
    page = (tmp_path / "c.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "<title>other against colours" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.html", "c.json"]


def test_other_images_are_refused_unless_told_to_intersect(run: Path, other: Path, first: Predictions, tmp_path: Path, polytag):
    write_predictions(read_predictions(other).take(range(20)), tmp_path / "part.parquet")
    with pytest.raises(PredictionsError) as error:
        polytag("compare", run, tmp_path / "part.parquet")
    assert str(error.value) == (
        "the runs have different images\n  where: colours and part\n"
        f"  got: 4 only in colours: {', '.join(first.ids[:3])}, ...\n"
        "  expected: the same images, in any order\n  next: give --intersect to compare on the 20 images that all runs have"
    )
    output = polytag("compare", run, tmp_path / "part.parquet", "--intersect").stdout
    assert "Paired by id on the same 20 images and on all 3 classes.\nLeft out: 4 images and 0 classes of colours.\n" in output


def test_one_truth_for_all(run: Path, colours: Path, first: Predictions, tmp_path: Path, polytag):
    target_NC = first.target_NC.copy()
    target_NC[3, 1] = 1 - target_NC[3, 1]
    write_predictions(replace(first, target_NC=target_NC), tmp_path / "other.parquet")
    with pytest.raises(PredictionsError) as error:
        polytag("compare", run, tmp_path / "other.parquet")
    words = {1: "present", 0: "absent"}
    assert str(error.value) == (
        "the runs disagree on 1 label of 1 image\n  where: colours and other\n"
        f"  got: {first.ids[3]!r}, class {first.label_set.names[1]!r}: {words[int(first.target_NC[3, 1])]} in colours, "
        f"{words[int(target_NC[3, 1])]} in other\n"
        "  expected: the same labels for all runs\n"
        "  next: give --truth DATA to evaluate all runs on the labels of one data set, or --intersect to leave those labels out"
    )
    output = polytag("compare", run, tmp_path / "other.parquet", "--intersect").stdout
    assert "Left out: 1 label on which the runs disagree." in output
    output = polytag("compare", run, tmp_path / "other.parquet", "--truth", colours).stdout
    assert "Left out" not in output


def test_scores_of_another_program(run: Path, first: Predictions, tmp_path: Path, polytag):
    """The scale is said for the file that does not say it; the run's own file does."""
    rows = [",".join(["id", *first.label_set, "labels"])]
    for name, probability_C, target_C in zip(first.ids, first.probability_NC, first.target_NC, strict=True):
        labels = "|".join(label for label, target in zip(first.label_set, target_C, strict=True) if target == 1)
        rows.append(",".join([name, *(repr(float(value)) for value in probability_C), labels]))
    (tmp_path / "theirs.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(UsageError, match="the file does not declare the scale of its scores"):
        polytag("compare", run, tmp_path / "theirs.csv")
    lines = polytag("compare", run, tmp_path / "theirs.csv", "--scores", "probability").stdout.splitlines()
    assert lines[0].split()[:3] == ["class", "colours", "theirs"]
    assert lines[1].split()[5] == "0.0000"


def test_thresholds_are_each_runs_own_or_the_given_one(run: Path, other: Path, tmp_path: Path, polytag):
    copy = tmp_path / "mine"
    shutil.copytree(run, copy)
    classes = read_predictions(other).label_set.names
    update_checkpoint(Checkpoint.read(copy), thresholds=(0.25,) * len(classes), calibration=None)
    polytag("compare", copy, other, "--json", tmp_path / "c.json")
    one = json.loads((tmp_path / "c.json").read_text())["differences"][0]["per_class"][classes[0]]
    assert (one["threshold_minus"], one["threshold"]) == (0.25, 0.5)
    polytag("compare", copy, other, "--threshold", "0.7", "--json", tmp_path / "c.json")
    one = json.loads((tmp_path / "c.json").read_text())["differences"][0]["per_class"][classes[0]]
    assert (one["threshold_minus"], one["threshold"]) == (0.7, 0.7)
    with pytest.raises(UsageError) as error:
        polytag("compare", copy, other, "--threshold", "7")
    assert str(error.value) == (
        f"threshold out of range\n  where: mine, class {classes[0]!r}\n  got: 7.0\n  expected: a probability from 0 to 1"
    )


def test_one_run_alone_and_a_file_that_is_not_there(run: Path, shell):
    done = shell("compare", run)
    assert (done.returncode, done.stderr) == (
        2,
        "polytag: a single run cannot be compared\n  got: 1 run\n  expected: two runs or more\n",
    )
    done = shell("compare", run, "nothing.parquet")
    assert done.returncode == 1
    assert done.stderr.startswith("polytag: the predictions file cannot be read\n  where: nothing.parquet\n  got: no such file\n")


def test_the_number_of_permutations(run: Path, other: Path, polytag):
    assert "permutation test, 9,999 permutations" in polytag("compare", run, other).stdout
    output = polytag("compare", run, other, "--permutations", "19").stdout
    assert "permutation test, 19 permutations" in output
    assert "No p of a class can fall below 0.15 with 19 permutations: use more." in output


def test_names_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As short as tells them apart."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/a", "runs/b.2", "old/a"):
        Path(name).mkdir(parents=True)

    def names(*paths: str) -> list[str]:
        return run_names([Path(path) for path in paths])

    assert names("runs/a", "runs/b.2", "scores/mine.parquet") == ["a", "b.2", "mine"]
    assert names("runs/a", "old/a") == ["runs/a", "old/a"]
    assert names("runs/a/predictions-val.parquet", "runs/b.2/predictions-val.parquet") == ["a", "b.2"]
    assert names("runs/a", "runs/a") == ["runs/a (1)", "runs/a (2)"]
    assert names("x.csv", "x.parquet") == ["x.csv", "x.parquet"]
    assert names(".", "runs/a") == [tmp_path.name, "a"]
    assert names("predictions-val.parquet", "runs/a") == ["predictions-val", "a"]


def test_two_recipes_by_their_runs(run: Path, first: Predictions, other: Path, tmp_path: Path, polytag):
    for seed in (1, 2):
        noise = np.random.default_rng(seed).normal(0, 1, first.logit_NC.shape).astype(np.float32)
        write_predictions(replace(first, logit_NC=first.logit_NC + noise), tmp_path / f"b{seed}.parquet")
    second = [tmp_path / "b1.parquet", tmp_path / "b2.parquet"]
    options = [part for path in second for part in ("--with", path)]
    output = polytag("compare", run, other, *options, "--json", tmp_path / "c.json").stdout
    found = compare_recipes(
        [first, read_predictions(other)], [read_predictions(path) for path in second], run_names=("colours", "other", "b1", "b2")
    )
    assert [line.rstrip() for line in output.splitlines()] == lines_of(found)
    assert json.loads((tmp_path / "c.json").read_text()) == json.loads(json.dumps(found.to_json()))
    for option, value in (("--threshold", "0.3"), ("--report", tmp_path / "c.html")):
        with pytest.raises(UsageError) as error:
            polytag("compare", run, other, *options, option, value)
        assert f"got: --with and {option}" in str(error.value)
    write_predictions(first.take(range(20)), tmp_path / "b1.parquet")
    assert "Left out: 4 images and 0 classes of colours;" in polytag("compare", run, other, *options, "--intersect").stdout


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_has_every_number_and_no_longer_line(
    first: Predictions, tmp_path: Path, polytag, monkeypatch: pytest.MonkeyPatch, width: int
):
    names = ("red", "a very long name of a class that no column has room for", "blue")
    tables = [replace(first, label_set=LabelSet(names=names), logit_NC=first.logit_NC + shift) for shift in (0, 1)]
    rng = np.random.default_rng(1)
    tables[1] = replace(tables[1], logit_NC=tables[1].logit_NC + rng.normal(0, 2, tables[1].logit_NC.shape))
    paths = [tmp_path / f"voc_mini-{name}-efficientnet_lite2-seed_7.parquet" for name in ("probe", "finetune")]
    for path, table in zip(paths, tables, strict=True):
        write_predictions(table, path)
    monkeypatch.setenv("COLUMNS", str(width))
    output = polytag("compare", *paths, "--permutations", "19", "--json", tmp_path / "c.json").stdout
    assert max(map(len, output.splitlines())) <= width, output
    found = json.loads((tmp_path / "c.json").read_text())["differences"][0]["per_class"]
    for name, numbers in found.items():
        assert set(name.split()) <= set(output.split())
        for value in (numbers["ap"], numbers["ap_minus"]):
            assert f"{value:.4f}" in output
    assert "gained" in output
    words = " ".join(output.split())
    assert f"difference: {paths[1].stem} − {paths[0].stem}." in words
