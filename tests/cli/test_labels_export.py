"""`polytag labels export`, as a user types it: after decisions in the review of a run, and of a bare predictions file."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from polytag import ReadOptions, load_dataset, read_predictions, write_predictions
from polytag.data.convert import convert
from polytag.data.splits import with_validation_split
from polytag.errors import DataError, RunError, UsageError
from polytag.inspector.review.export import CHANGES_COLUMNS, export_labels
from polytag.inspector.review.store import open_review, review_file_of
from polytag.runs.args import read_run_args, write_args
from polytag.runs.folder import RunFolder


@pytest.fixture
def reviewed(run: Path, colours: Path, tmp_path: Path) -> Path:
    """A run with two training labels turned round, one made unknown in validation, one confirmed, and one taken back."""
    folder = tmp_path / "reviewed"
    folder.mkdir()
    shutil.copy(run / "args.yaml", folder)
    dataset = load_dataset(colours)
    with open_review(review_file_of(folder)) as store:
        for row, column, change in ((3, 0, "flip"), (3, 1, "flip"), (60, 2, "unknown"), (5, 0, "confirm"), (7, 0, "undo")):
            given = int(dataset.target_NC[row, column])
            store.decide(
                split=dataset.split_N[row], image_id=dataset.ids[row], class_name=dataset.label_set.names[column], given=given,
                label={"unknown": -1, "confirm": given}.get(change, 1 - given), reviewer="Ada", note="a=1, b" if row == 3 else "",
            )  # fmt: skip
        store.undo(reviewer="Ada", split="train")
    return folder


def expected_targets(colours: Path) -> list[list[int]]:
    target_NC = load_dataset(colours).target_NC.copy()
    target_NC[3, :2] = 1 - target_NC[3, :2]
    target_NC[60, 2] = -1
    return target_NC.tolist()


def test_the_groups_of_the_training_are_exported(polytag, reviewed: Path, tmp_path: Path):
    """A run with a table of patients: the corrected table has the column, and the next command names it."""
    args = read_run_args(RunFolder(path=reviewed))
    ids = load_dataset(args.data).ids
    (tmp_path / "g.csv").write_text("id,patient\n" + "".join(f"{name},p{row // 4}\n" for row, name in enumerate(ids)))
    options = replace(args.options, group_column="patient", columns_file=str(tmp_path / "g.csv"))
    write_args(RunFolder(path=reviewed), replace(args, options=options))
    output = polytag("labels", "export", reviewed, tmp_path / "new.csv").output
    assert output.endswith(f"Next:\n  polytag train {tmp_path / 'new.csv'} --group patient\n")
    corrected = load_dataset(tmp_path / "new.csv", options=ReadOptions(group_column="patient"))
    assert corrected.group_N == load_dataset(args.data, options=options).group_N
    assert polytag("labels", "export", reviewed, tmp_path / "voc", "--to", "voc").output.endswith(f"train {tmp_path / 'voc'}\n")


@pytest.mark.parametrize(
    ("out", "options", "written"),
    [
        ("new", ("--to", "voc"), "new"),
        ("new.csv", (), "new.csv"),
        ("new", (), "new/labels.csv"),
        ("new.parquet", (), "new.parquet"),
        ("new", ("--to", "parquet"), "new/labels.parquet"),
    ],
)
def test_the_corrected_data_and_the_changes(
    polytag, reviewed: Path, colours: Path, tmp_path: Path, out: str, options: tuple[str, ...], written: str
):
    output = polytag("labels", "export", reviewed, tmp_path / out, *options).output
    assert "3 labels of 2 images changed, 1 confirmed" in output
    assert f"data:    {tmp_path / written}" in output.splitlines()
    assert f"changes: {tmp_path / 'new-changes.csv'}" in output.splitlines()
    assert output.endswith(f"Next:\n  polytag train {tmp_path / written}\n")
    corrected = load_dataset(tmp_path / written)
    if "voc" in options:  # VOC orders classes by name and holds its own ids
        order = [corrected.label_set.index(name) for name in load_dataset(colours).label_set]
        assert corrected.target_NC[:, order].tolist() == expected_targets(colours)
    else:
        assert corrected.target_NC.tolist() == expected_targets(colours)
        assert corrected.ids == load_dataset(colours).ids
    assert corrected.split_N == load_dataset(colours).split_N
    if "/" in written:
        assert load_dataset(tmp_path / "new").fingerprint == corrected.fingerprint  # the folder itself can be trained on
    rows = list(csv.DictReader((tmp_path / "new-changes.csv").read_text().splitlines()))
    assert tuple(rows[0]) == CHANGES_COLUMNS
    assert [(row["split"], row["image"], row["class"]) for row in rows] == [
        ("train", "images/003.png", "blue"),
        ("train", "images/003.png", "green"),
        ("val", "images/060.png", "red"),
    ]
    assert {(row["before"], row["after"]) for row in rows[:2]} <= {("present", "absent"), ("absent", "present")}
    assert rows[2]["after"] == "unknown"
    assert (rows[0]["reviewer"], rows[0]["note"], rows[0]["time"][-6:]) == ("Ada", "a=1, b", "+00:00")


def test_the_table_on_the_console(polytag, reviewed: Path, tmp_path: Path):
    lines = [line.split() for line in polytag("labels", "export", reviewed, tmp_path / "new").output.splitlines()]
    assert lines[0] == ["class", "now", "present", "now", "absent", "now", "unknown"]
    assert [line[0] for line in lines[1:4]] == ["blue", "green", "red"]
    assert lines[3] == ["red", "0", "0", "1"]


def test_data_without_splits_get_those_of_the_training(reviewed: Path, colours: Path, tmp_path: Path):
    dataset = load_dataset(colours)
    bare = convert(replace(dataset, split_N=("",) * len(dataset)), tmp_path / "bare.csv", to="csv")
    divided = with_validation_split(load_dataset(bare))
    row = divided.split_N.index("val")
    review_file_of(reviewed).unlink()
    with open_review(review_file_of(reviewed)) as store:
        store.decide(
            split="val",
            image_id=divided.ids[row],
            class_name="red",
            label=-1,
            given=int(divided.target_NC[row, 0]),
            reviewer="Ada",
        )
    exported = export_labels(reviewed, tmp_path / "new.csv", data=bare, options=ReadOptions())
    corrected = load_dataset(exported.data)
    assert corrected.split_N == divided.split_N
    assert corrected.target_NC[row, corrected.label_set.index("red")] == -1


def test_of_a_predictions_file_whose_ids_are_other_names(polytag, run: Path, colours: Path, tmp_path: Path):
    predictions = read_predictions(run / "predictions-val.parquet")
    scores = tmp_path / "scores.parquet"
    write_predictions(replace(predictions, ids=tuple(f"image {name}" for name in predictions.ids)), scores)
    with open_review(review_file_of(scores)) as store:
        store.decide(
            split="", image_id=f"image {predictions.ids[0]}", class_name="red", label=-1, given=1, reviewer="Ada",
        )  # fmt: skip
    with pytest.raises(UsageError) as caught:
        polytag("labels", "export", scores, tmp_path / "new.csv")
    assert str(caught.value) == (
        f"a predictions file does not contain the whole data set\n  where: {scores}\n"
        "  expected: --data DATA, the labelled data set of its images"
    )
    output = polytag("labels", "export", scores, tmp_path / "new.csv", "--data", colours).output
    assert "1 label of 1 image changed, 0 confirmed" in output
    corrected = load_dataset(tmp_path / "new.csv")
    assert corrected.target_NC[corrected.ids.index(predictions.ids[0]), corrected.label_set.index("red")] == -1
    (row,) = csv.DictReader((tmp_path / "new-changes.csv").read_text().splitlines())
    assert (row["split"], row["image"], row["after"]) == ("val", predictions.ids[0], "unknown")


def test_an_export_that_was_killed_after_its_list_is_done_by_the_same_call(polytag, reviewed: Path, tmp_path: Path):
    polytag("labels", "export", reviewed, tmp_path / "new.csv")
    both = [(tmp_path / name).read_bytes() for name in ("new.csv", "new-changes.csv")]
    (tmp_path / "new.csv").unlink()
    polytag("labels", "export", reviewed, tmp_path / "new.csv")
    assert [(tmp_path / name).read_bytes() for name in ("new.csv", "new-changes.csv")] == both
    with pytest.raises(RunError, match="the output exists already"):
        polytag("labels", "export", reviewed, tmp_path / "new.csv")
    with pytest.raises(UsageError):
        polytag("labels", "export", reviewed, tmp_path / "other", "--to", "kitti")
    assert not (tmp_path / "other-changes.csv").exists()


def test_nothing_to_export(polytag, run: Path, reviewed: Path, tmp_path: Path):
    assert not review_file_of(run).exists()
    with pytest.raises(RunError) as caught:
        polytag("labels", "export", run, tmp_path / "new")
    assert str(caught.value) == (
        f"no label was changed: nothing to export\n  where: {run}\n  got: no review.sqlite\n"
        "  expected: a review with at least one changed label\n"
        f"  next: review labels in the browser: polytag inspect {run} --split train"
    )
    assert not review_file_of(run).exists()
    polytag("labels", "export", reviewed, tmp_path / "new.csv")
    with pytest.raises(RunError, match="got: 4 decisions, all equal to the data"):
        polytag("labels", "export", reviewed, tmp_path / "again.csv", "--data", tmp_path / "new.csv")
    with pytest.raises(RunError, match="nothing to export"):
        polytag("labels", "export", tmp_path / "gone", tmp_path / "new")


def test_what_is_in_the_way_or_does_not_fit(polytag, reviewed: Path, colours: Path, tmp_path: Path):
    (tmp_path / "new-changes.csv").write_text("mine")
    with pytest.raises(RunError, match="the output exists already"):
        polytag("labels", "export", reviewed, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="the run records how its data are read"):
        polytag("labels", "export", reviewed, tmp_path / "other", "--difficult", "positive")
    with pytest.raises(UsageError, match="unknown format to convert to"):
        polytag("labels", "export", reviewed, tmp_path / "other", "--to", "kitti")
    few = convert(load_dataset(colours).take(range(3)), tmp_path / "few.csv", to="csv")
    with pytest.raises(DataError) as caught:
        polytag("labels", "export", reviewed, tmp_path / "other", "--data", few)
    assert caught.value.what == "3 corrected images are not in the data set"
    (tmp_path / "empty").mkdir()
    with open_review(tmp_path / "empty" / "review.sqlite") as store:
        store.decide(split="", image_id="a", class_name="red", label=1, given=0, reviewer="Ada")
    with pytest.raises(RunError, match=r"no run in this folder\n.*\n  got: no args\.yaml"):
        polytag("labels", "export", tmp_path / "empty", tmp_path / "other")
    assert not (tmp_path / "other").exists()
