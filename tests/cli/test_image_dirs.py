"""`--image-dir`, given twice, on every verb that reads annotations; tests/cli/test_train.py has `train`."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from polytag.errors import AnnotationError, PredictionsError
from polytag.predictions.read import read_predictions

Arguments = tuple[str, ...]


def folders_of(paths: Sequence[str]) -> set[str]:
    return {Path(path).parent.name for path in paths}


@pytest.fixture
def scores(colours: Path, tmp_path: Path) -> Path:
    """Scores of another program over the validation images, by file name."""
    path = tmp_path / "scores.csv"
    with open(colours, newline="") as file:
        names = [row["file_name"].removeprefix("images/") for row in csv.DictReader(file) if row["split"] == "val"]
    lines = [f"{name},{number / 100},{1 - number / 100},0.5" for number, name in enumerate(names)]
    path.write_text("\n".join(["id,blue,green,red", *lines]) + "\n")
    return path


def test_without_it_the_images_are_missing(scattered: Arguments, polytag):
    with pytest.raises(AnnotationError, match="a listed image does not exist"):
        polytag("data", "check", scattered[0], "--image-dir", "one")


def test_data_check(scattered: Arguments, polytag):
    polytag("data", "check", *scattered, "--json", "check.json")
    found = json.loads(Path("check.json").read_text())
    assert (found["num_images"], found["unreadable"], found["images_were_read"]) == (72, [], True)


def test_data_convert(scattered: Arguments, polytag):
    polytag("data", "convert", scattered[0], "converted.csv", "--to", "csv", *scattered[1:])
    with open("converted.csv", newline="") as file:
        assert folders_of([row["file_name"] for row in csv.DictReader(file)]) == {"one", "two"}


def test_predict_split(run: Path, scattered: Arguments, polytag):
    polytag("predict", run, *scattered, "--split", "val", "--device", "cpu", "--output", "p.parquet")
    predictions = read_predictions(Path("p.parquet"))
    assert (len(predictions), folders_of(predictions.image_paths)) == (24, {"one", "two"})


def test_evaluate_truth(scores: Path, scattered: Arguments, polytag):
    """The slice by size reads the images of the truth."""
    options = ("--scores", "probability", "--slice", "size", "--json", "metrics.json")
    polytag("evaluate", scores, "--truth", *scattered, *options)
    assert json.loads(Path("metrics.json").read_text())["slices"]["size"]
    with pytest.raises(PredictionsError, match="sizes of these images"):
        polytag("evaluate", scores, "--truth", scattered[0], *options)


def test_evaluate_train_data(scores: Path, scattered: Arguments, polytag):
    data, *folders = scattered
    options = ("--scores", "probability", "--truth", data, "--json", "metrics.json")
    polytag("evaluate", scores, "--train-data", data, *folders, *options)
    assert json.loads(Path("metrics.json").read_text())["leakage"]["num_trained_on"] == 48


def test_grid(scores: Path, scattered: Arguments, polytag, capsys: pytest.CaptureFixture[str]):
    arguments = ("grid", scores, "--scores", "probability", "--class", "red", "--top", "24")
    polytag(*arguments, "--truth", *scattered, "--output", "found.png")
    polytag(*arguments, "--truth", scattered[0], "--output", "missing.png")
    assert Path("found.png").stat().st_size > 2 * Path("missing.png").stat().st_size


def test_inspect(scores: Path, scattered: Arguments, polytag, monkeypatch: pytest.MonkeyPatch):
    from polytag.inspector.inspection import Inspection
    from polytag.web import server

    served: list[Inspection] = []
    for module in ("app", "follow"):  # which of the two asks depends on whether the files can be followed
        monkeypatch.setattr(f"polytag.inspector.{module}.create_app", served.append)
    monkeypatch.setattr(server, "serve", lambda app, **_: None)
    polytag("inspect", scores, "--scores", "probability", "--truth", *scattered)
    assert folders_of(served[0].predictions.image_paths) == {"one", "two"}
