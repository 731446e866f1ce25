"""`polytag predict`: a table for one image, a line each for several, a file for many; a broken image stops nothing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from polytag.data.load import load_dataset
from polytag.errors import CheckpointError, DataError, UsageError
from polytag.inference.predict import predict
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.read import read_predictions


@pytest.fixture(scope="module")
def images(colours: Path) -> list[Path]:
    """Five images of which every class is in one."""
    return sorted((colours.parent / "images").iterdir())[48:53]


def as_printed(run: Path, path: Path) -> str:
    (result,) = predict(run, path, device="cpu")
    return f"{path}  " + (", ".join(f"{name} {result.probabilities[name]:.2f}" for name in result.labels) or "–")


# ---- printed ----


def test_one_image_prints_a_table_with_every_class_highest_first(run: Path, images, polytag):
    (result,) = predict(run, images[0], device="cpu")
    lines = [line.split() for line in polytag("predict", run, images[0], "--device", "cpu").stdout.splitlines()]
    assert lines[:2] == [["048.png"], ["class", "probability"]]
    assert [line[:2] for line in lines[2:]] == [[name, f"{value:.3f}"] for name, value in result.probabilities.items()]
    assert [len("".join(line[2:])) for line in lines[2:]] == [round(24 * value) for value in result.probabilities.values()]


def test_several_images_print_a_line_each_in_order(run: Path, images, polytag):
    result = polytag("predict", run, *images, "--device", "cpu")
    assert result.stdout.splitlines() == [as_printed(run, path) for path in images]
    assert len({line.split("  ")[1] for line in result.stdout.splitlines()}) > 1


def test_a_folder_and_a_best_folder(run: Path, images, tmp_path: Path, polytag):
    (tmp_path / "inner").mkdir()
    for path in images[:2]:
        (tmp_path / "inner" / path.name).write_bytes(path.read_bytes())
    output = polytag("predict", run / "best", tmp_path, "--device", "cpu").stdout
    assert output.splitlines() == [as_printed(run, tmp_path / "inner" / path.name) for path in images[:2]]


def test_an_image_given_twice_is_scored_once(run: Path, images, tmp_path: Path, polytag):
    out = tmp_path / "p.parquet"
    polytag("predict", run, images[0], images[1], images[0], "--output", out)
    assert read_predictions(out).ids == (str(images[0]), str(images[1]))


# ---- written ----


def test_the_three_kinds_of_file_say_the_same(run: Path, images, tmp_path: Path, polytag):
    for name in ("p.parquet", "p.csv", "p.jsonl"):
        output = polytag("predict", run, *images, "--device", "cpu", "--output", tmp_path / name).stdout
        assert output == f"5 images scored: {tmp_path / name}\n"
    results = list(predict(run, images, device="cpu"))
    table = read_predictions(tmp_path / "p.parquet")
    assert table.ids == table.image_paths == tuple(map(str, images))
    assert table.checkpoint_id == Checkpoint.read(run).id
    assert (table.target_NC == -1).all()
    np.testing.assert_array_equal(table.logit_NC, [result.logit_C for result in results])

    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    for result, row, value in zip(results, rows, values, strict=True):
        assert row["id"] == value["id"] == str(result.path)
        assert (row["error"], value["error"]) == ("", None)
        assert {name: float(row[name]) for name in table.label_set} == value["probability"]
        assert value["probability"] == pytest.approx(result.probabilities, rel=1e-12)
        assert set(row["labels"].split("|")) - {""} == set(value["labels"]) == set(result.labels)


def test_the_thresholds_are_the_models_own(run: Path, images, tmp_path: Path, polytag):
    model = tmp_path / "model"
    model.mkdir()
    for path in (run / "best").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"thresholds": [1e-9, 1 - 1e-9, 1e-9]}))
    polytag("predict", model, *images, "--output", tmp_path / "p.jsonl")
    labels = [json.loads(line)["labels"] for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert labels == [["blue", "red"]] * 5


def test_a_split_keeps_its_ids_and_labels_and_repeats_the_runs_own_scores(run: Path, colours: Path, tmp_path: Path, polytag):
    polytag("predict", run, colours, "--split", "val", "--device", "cpu", "--output", tmp_path / "p.parquet")
    found, recorded = read_predictions(tmp_path / "p.parquet"), read_predictions(run / "predictions-val.parquet")
    assert found.ids == recorded.ids == load_dataset(colours).split("val").ids
    assert found.logit_NC.tobytes() == recorded.logit_NC.tobytes()
    assert found.target_NC.tobytes() == recorded.target_NC.tobytes()
    assert (found.image_paths, found.checkpoint_id) == (recorded.image_paths, recorded.checkpoint_id)


# ---- what goes wrong ----


@pytest.fixture
def with_broken(images, tmp_path: Path) -> list[Path]:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    return [tmp_path / "empty.jpg", images[0], tmp_path / "missing.jpg", tmp_path / "text.png", images[1]]


def told(with_broken: list[Path]) -> list[str]:
    return [
        f"{with_broken[0]}: the image is empty",
        f"{with_broken[2]}: the image is missing",
        f"{with_broken[3]}: not an image in a known format",
    ]


def test_broken_images_are_told_on_stderr_the_others_scored_and_the_exit_status_is_1(run: Path, with_broken, polytag):
    result = polytag("predict", run, *with_broken, "--device", "cpu", status=1)
    assert result.stdout.splitlines() == [as_printed(run, with_broken[1]), as_printed(run, with_broken[4])]
    assert result.stderr.splitlines() == told(with_broken)


def test_a_single_broken_image(run: Path, with_broken, polytag):
    result = polytag("predict", run, with_broken[0], status=1)
    assert (result.stdout, result.stderr) == ("", told(with_broken)[0] + "\n")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_file_has_a_row_with_an_error_for_a_broken_image(run: Path, with_broken, tmp_path: Path, polytag, suffix: str):
    out = tmp_path / f"p{suffix}"
    result = polytag("predict", run, *with_broken, "--output", out, status=1)
    assert result.stdout == f"2 images scored: {out}\n"
    assert [line for line in result.stderr.splitlines() if line.strip()] == told(with_broken)
    if suffix == ".parquet":
        assert read_predictions(out).ids == (str(with_broken[1]), str(with_broken[4]))
    elif suffix == ".csv":
        with open(out, newline="") as file:
            assert [row["error"] for row in csv.DictReader(file)] == [
                "the image is empty", "", "the image is missing", "not an image in a known format", "",
            ]  # fmt: skip
    else:
        assert [json.loads(line)["probability"] is None for line in out.read_text().splitlines()] == [
            True,
            False,
            True,
            True,
            False,
        ]


def test_no_model_here(images, tmp_path: Path, polytag):
    with pytest.raises(CheckpointError) as error:
        polytag("predict", tmp_path, images[0])
    assert str(error.value) == (
        f"no checkpoint here\n  where: {tmp_path}\n  got: No such file or directory\n"
        "  expected: a folder with config.json and model.safetensors, or a run folder with best/\n"
        "  next: `polytag train DATA` makes one"
    )


def test_no_image_here(run: Path, tmp_path: Path, polytag):
    with pytest.raises(DataError) as error:
        polytag("predict", run, tmp_path)
    assert str(error.value) == (
        f"no images to predict on\n  where: {tmp_path}\n"
        "  expected: image files (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .tif, .tiff, .webp), or folders "
        "or tar, zip, Arrow or Parquet files that hold some"
    )


def test_an_output_of_an_unknown_kind(run: Path, images, tmp_path: Path, polytag):
    with pytest.raises(UsageError) as error:
        polytag("predict", run, images[0], "--output", tmp_path / "p.txt")
    assert str(error.value) == (
        f"unknown kind of predictions file\n  where: {tmp_path / 'p.txt'}\n  got: .txt\n  expected: one of .parquet, .csv, .jsonl"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_split_of_two_data_sets(run: Path, colours: Path, polytag):
    with pytest.raises(UsageError) as error:
        polytag("predict", run, colours, colours, "--split", "val")
    assert str(error.value) == (
        "--split takes one data set\n  where: IMAGES\n  got: 2 paths\n  expected: one folder or file of labels"
    )


def test_a_split_that_is_not_there(run: Path, colours: Path, polytag):
    with pytest.raises(DataError) as error:
        polytag("predict", run, colours, "--split", "test")
    assert str(error.value) == (
        f"the split 'test' is missing\n  where: csv {colours}\n  got: 'train', 'val'\n  expected: images in split 'test'\n"
        "  next: add the split to the annotations; `polytag data check` shows what was read"
    )


def test_a_split_of_other_classes(run: Path, colours: Path, tmp_path: Path, polytag):
    text = colours.read_text().replace("red", "crimson").replace("images/", f"{colours.parent}/images/")
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(CheckpointError) as error:
        polytag("predict", run, tmp_path / "other.csv", "--split", "val")
    assert str(error.value) == (
        f"the checkpoint is of another class list\n  where: {run / 'best'}\n  got: blue, green, red\n"
        "  expected: blue, crimson, green, red\n"
        "  next: choose classes as for the training (--classes, --rename, --merge, --drop), or train on these"
    )
