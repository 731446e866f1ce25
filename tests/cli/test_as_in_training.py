"""Labels for the scores of a run are read with the classes of its training, unless the command line says otherwise."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from polytag.data.classes import ClassShaping
from polytag.data.load import load_labels
from polytag.data.read_options import ReadOptions
from polytag.errors import PredictionsError
from polytag.inspector.open import OpenOptions, open_inspection
from polytag.predictions.read import read_predictions
from polytag.runs.args import as_in_training, read_run_args, write_args
from polytag.runs.folder import RunFolder


@pytest.fixture
def shaped(run: Path, colours: Path, tmp_path: Path) -> RunFolder:
    """A copy of a run of the classes blue, green and red, as if the annotations called red crimson and had a rare fourth."""
    found = RunFolder(path=Path(shutil.copytree(run, tmp_path / "run")))
    lines = colours.read_text().replace("red", "crimson").replace("images/", f"{colours.parent}/images/").splitlines()
    first, labels, split = lines[-1].split(",")
    (tmp_path / "labels.csv").write_text("\n".join([*lines[:-1], f"{first},{labels}|violet,{split}"]) + "\n")
    args = read_run_args(found)
    shaping = ClassShaping(rename={"crimson": "red"}, min_support=2)
    write_args(found, replace(args, data=tmp_path / "labels.csv", options=replace(args.options, shaping=shaping)))
    return found


def test_a_truth_is_read_with_the_classes_of_the_run(shaped: RunFolder, tmp_path: Path, polytag):
    said = "note: labels are read as in the training of run: --rename, --min-support\n"
    for verb in (("evaluate", shaped.predictions), ("compare", shaped.path, shaped.path), ("thresholds", shaped.path, "--dry-run")):
        assert said in polytag(*verb, "--truth", tmp_path / "labels.csv").stderr
    polytag("grid", shaped.path, "--truth", tmp_path / "labels.csv", "--class", "red", "--output", tmp_path / "grid.png")
    notes: list[str] = []
    both = OpenOptions(truth=tmp_path / "labels.csv", compare_with=[shaped.path])
    found = open_inspection(shaped.predictions, both, options=ReadOptions(), note=notes.append)
    assert len(found.compared) == 1
    assert [f"note: {note}\n" for note in notes] == [said, said]
    with pytest.raises(PredictionsError, match=r"only in the labels: azure, crimson; only in the predictions: blue"):
        polytag("evaluate", shaped.predictions, "--truth", tmp_path / "labels.csv", "--rename", "blue=azure")


def test_a_split_is_scored_with_the_classes_of_the_run(shaped: RunFolder, run: Path, tmp_path: Path, polytag):
    out = tmp_path / "val.parquet"
    for model in (shaped.path, shaped.best):
        done = polytag("predict", model, tmp_path / "labels.csv", "--split", "val", "--output", out, "--device", "cpu")
        assert "note: labels are read as in the training of run" in done.stderr
        found, expected = read_predictions(out), read_predictions(run / "predictions-val.parquet")
        assert found.label_set == expected.label_set
        assert (found.target_NC == expected.target_NC).all()


def test_what_the_command_line_gives_wins_field_by_field(shaped: RunFolder):
    args = read_run_args(shaped)
    write_args(shaped, replace(args, options=replace(args.options, absent_means="unknown")))
    given = ReadOptions(shaping=ClassShaping(rename={"a": "b"}), given=("rename",))
    options, text = as_in_training(given, shaped.path)
    assert (options.shaping, options.absent_means) == (replace(given.shaping, min_support=2), "unknown")
    assert text == "labels are read as in the training of run: --min-support, --absent-means unknown"
    kept = ReadOptions(given=("rename", "min_support", "absent_means"))
    assert as_in_training(kept, shaped.path) == (kept, "")
    assert as_in_training(given, shaped.path / "report.html") == (given, "")


def test_labels_have_the_order_of_the_scores_and_their_rare_classes(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("id,labels\na,dog|cat\nb,newt\n")
    options = ReadOptions(shaping=ClassShaping(min_support=9))
    dataset = load_labels(tmp_path / "labels.csv", options=options, classes=("dog", "cow", "cat"))
    assert dataset.label_set.names == ("dog", "cow", "cat")
    assert dataset.target_NC.tolist() == [[1, 0, 1], [0, 0, 0]]
    frequent = load_labels(
        tmp_path / "labels.csv", options=ReadOptions(shaping=ClassShaping(min_support=1)), classes=("dog", "cow", "cat")
    )
    assert set(frequent.label_set) == {"cat", "cow", "dog", "newt"}, "a frequent class may be one of them under another name"
