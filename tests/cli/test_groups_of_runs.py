"""A run that was trained with groups passes them on by itself, and says so, unless the user names others."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import RunError, UsageError
from polytag.inspector.browse.ranking import sort_values
from polytag.inspector.open import OpenOptions, open_inspection
from polytag.inspector.review.queue import IssueFinder
from polytag.metrics.groups import groups_of
from polytag.metrics.label_issues import find_label_issues
from polytag.predictions.read import read_predictions
from polytag.predictions.table import write_predictions
from polytag.runs.args import read_run_args, write_args
from polytag.runs.folder import RunFolder
from polytag.runs.groups import groups_of_run, write_groups

SAID = "note: --group patient, as in the training of grouped: 8 groups in 24 images\n"


def grouped_run(run: Path, folder: Path, colours: Path, group_of: Callable[[int], str]) -> RunFolder:
    """A copy of a run, as if it had been trained with these groups of the image of each number."""
    found = RunFolder(path=Path(shutil.copytree(run, folder / "grouped")))
    args, dataset = read_run_args(found), load_dataset(colours)
    write_args(found, replace(args, options=replace(args.options, group_column="patient")))
    write_groups(found, replace(dataset, group_N=tuple(group_of(number_of(name)) for name in dataset.ids)))
    return found


def number_of(name: str) -> int:
    return int(name[7:10])


def groups_in(ids: Sequence[str]):
    return groups_of([f"p{number_of(name) % 8}" for name in ids], column="patient")


@pytest.fixture
def grouped(run: Path, tmp_path: Path, colours: Path) -> RunFolder:
    return grouped_run(run, tmp_path, colours, lambda number: f"p{number % 8}")


def test_every_verb_has_the_groups_of_the_training(grouped: RunFolder, run: Path, tmp_path: Path, polytag: Callable):
    out = tmp_path / "out.json"
    for run_or_file, verb in (
        (grouped.path, ("calibrate", "--dry-run")),
        (grouped.path, ("thresholds", "--goal", "recall=0.5", "--confidence", "0.9", "--dry-run")),
        (grouped.path, ("thresholds", "--goal", "fnr=0.5", "--dry-run")),
        (grouped.path, ("labels", "issues")),
        (grouped.predictions, ("labels", "issues")),
        (grouped.predictions, ("evaluate",)),
    ):
        done = polytag(*verb, run_or_file, "--json", out)
        assert done.stderr.count(SAID) == 1, verb
        by_itself = out.read_text()
        table = tmp_path / "patients.csv"
        ids = read_predictions(grouped.predictions).ids
        table.write_text("id,patient\n" + "".join(f"{name},p{number_of(name) % 8}\n" for name in ids))
        named = polytag(*verb, run if run_or_file == grouped.path else run / run_or_file.name,
                        "--json", out, "--group", "patient", "--columns", table)  # fmt: skip
        assert "as in the training" not in named.stderr
        assert by_itself.replace("/grouped/", "/colours/") == out.read_text().replace(str(run.parent), str(tmp_path)), verb
        if verb[0] != "thresholds":
            polytag(*verb, run if run_or_file == grouped.path else run / run_or_file.name, "--json", out)
            assert by_itself.replace("/grouped/", "/colours/") != out.read_text().replace(str(run.parent), str(tmp_path)), verb
    assert json.loads(out.read_text())["num_images"] == 24


def test_other_groups_of_the_user_and_thresholds_without_a_guarantee(grouped: RunFolder, tmp_path: Path, polytag: Callable):
    table = tmp_path / "scenes.csv"
    ids = read_predictions(grouped.predictions).ids
    table.write_text("id,scene\n" + "".join(f"{name},s{row // 2}\n" for row, name in enumerate(ids)))
    done = polytag("evaluate", grouped.predictions, "--group", "scene", "--columns", table, "--json", tmp_path / "m.json")
    assert "as in the training" not in done.stderr
    assert json.loads((tmp_path / "m.json").read_text())["group"] == "scene"
    assert "as in the training" not in polytag("thresholds", grouped.path, "--goal", "f1", "--dry-run").stderr


def test_the_pages_fold_by_the_groups(grouped: RunFolder):
    told: list[str] = []
    inspection = open_inspection(grouped.path, OpenOptions(), options=ReadOptions(), note=told.append)
    groups, predictions = groups_in(inspection.predictions.ids), inspection.predictions
    assert SAID.removeprefix("note: ").strip() in told
    assert inspection.groups is not None
    np.testing.assert_array_equal(inspection.groups.group_N, groups.group_N)
    found = IssueFinder(inspection).found(timeout_seconds=30)
    expected = find_label_issues(predictions, top=10**4, groups=groups)
    assert found is not None
    assert found.lists["issues"] == expected.issues != find_label_issues(predictions, top=10**4).issues
    suspicion_N = sort_values(inspection, 0, "suspicion")
    for issue in expected.classes[0].issues:
        assert suspicion_N[issue.row] == pytest.approx(-issue.belief)


def test_scores_of_other_images_count_each_by_itself(grouped: RunFolder, tmp_path: Path, polytag: Callable):
    predictions = read_predictions(grouped.predictions)
    other = tmp_path / "other.parquet"
    write_predictions(replace(predictions, ids=tuple(f"new{row}" for row in range(len(predictions)))), other)
    done = polytag("thresholds", grouped.path, "--on", other, "--goal", "recall=0.5", "--confidence", "0.9", "--dry-run")
    assert (
        done.stderr
        == "note: the run was trained with groups of patient, and none of these images is in one: each counts by itself\n"
    )
    assert "a new group" not in done.stdout


def test_one_group_is_refused_where_it_decides_and_told_where_it_does_not(
    run: Path, tmp_path: Path, colours: Path, polytag: Callable
):
    single = grouped_run(run, tmp_path, colours, lambda number: "p")
    with pytest.raises(UsageError, match="all images are in a single group\n  where: --group patient"):
        polytag("calibrate", single.path, "--dry-run")
    told = "note: intervals draw images, not the groups that the run was trained with: all images are in a single group"
    assert told in polytag("evaluate", single.predictions).stderr


def test_few_groups_are_a_fold_each(run: Path, tmp_path: Path, colours: Path, polytag: Callable):
    three = grouped_run(run, tmp_path, colours, lambda number: f"p{number % 3}")
    polytag("calibrate", three.path, "--dry-run", "--json", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["num_folds"] == 3


def test_missing_and_damaged_groups(grouped: RunFolder):
    grouped.groups.write_text("id,patient\nimages/000.png,p\n")
    with pytest.raises(RunError) as caught:
        groups_of_run(grouped, ["images/000.png"], note=print)
    assert str(caught.value) == (
        "the groups of the run cannot be read\n"
        f"  where: {grouped.groups}:1\n"
        "  got: id, patient\n"
        "  expected: the file that `polytag train --group patient` wrote\n"
        "  next: name the groups: --group patient --columns FILE"
    )
    grouped.groups.unlink()
    with pytest.raises(RunError, match="the groups of the run are missing"):
        groups_of_run(grouped, ["images/000.png"], note=print)


def test_groups_are_read_back_as_they_were_written(tmp_path: Path, colours: Path, run: Path):
    """Names with separators, quotes, line breaks and spaces around them; without a value, an image is a group of its own."""
    names = ("a,b", 'a"b', "a;b", " a", "=1", "")
    found = grouped_run(run, tmp_path, colours, lambda number: names[number % 6])
    ids = load_dataset(colours).ids
    groups = groups_of_run(found, ids, note=print)
    assert groups is not None
    expected = groups_of([names[number_of(name) % 6] for name in ids], column="patient")
    np.testing.assert_array_equal(groups.group_N, expected.group_N)
    assert groups.is_without_N.sum() == len(ids) // 6
