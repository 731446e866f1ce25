"""`polytag evaluate`: judge a predictions file, with the truth in it or beside it."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from polytag.cli.evaluate import print_metrics
from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.predictions.read import read_predictions
from polytag.predictions.table import write_predictions


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images and three classes: a good one, a bad one, and one without a positive."""
    path = tmp_path_factory.mktemp("small") / "small.parquet"
    target_NC = np.array([[1, 0, 0], [1, 1, -1], [0, 0, 0], [0, 1, -1]])
    logit_NC = np.array([[3.0, 2, -1], [2, -1, 1], [1, 1, -2], [-1, -2, -1]])
    write_predictions(
        Predictions(
            ids=("a", "b", "c", "d"), logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=("cat", "dog", "elk"))
        ),
        path,
    )
    return path


def test_the_tables(small: Path, polytag):
    lines = [line.rstrip() for line in polytag("evaluate", small).stdout.splitlines()]
    metrics = evaluate_predictions(read_predictions(small))
    low, high = metrics.ap_low_C[1], metrics.ap_high_C[1]
    assert [line.split() for line in lines[:4]] == [
        ["class", "AP", "95%", "interval", "chance", "positives", "negatives", "unknown", "precision", "recall"],
        ["cat", "1.0000", f"{metrics.ap_low_C[0]:.3f}", "–", "1.000", "0.681", "2*", "2", "0", "0.6667", "1.0000"],
        ["dog", "0.4167", f"{low:.3f}", "–", f"{high:.3f}", "0.681", "2*", "2", "0", "0.0000", "0.0000"],
        ["elk", "–", "–", "0", "2", "2", "–", "–"],
    ]
    assert lines[5] == metrics.note
    assert metrics.note.startswith(
        "mAP rests on 2 classes with fewer than 10 positives (*). AP of few positives is too high: mAP by about 0."
    )
    end = lines.index("", 7)
    averages = {line.split()[0]: line.split() for line in lines[7:end]}
    mean = metrics.mean_ap
    assert averages["mAP"][1:7] == [f"{17 / 24:.4f}", f"{mean.low:.3f}", "–", f"{mean.high:.3f}", "2", "classes"]
    samples = metrics.means["samples_AP"]
    assert averages["samples_AP"][1:7] == [
        f"{samples.value:.4f}",
        f"{samples.low:.3f}",
        "–",
        f"{samples.high:.3f}",
        "3",
        "images",
    ]
    assert averages["OP"][1:4] == ["0.4000", "5", "decisions"]
    assert averages["CP"][1:4] == ["0.3333", "2", "classes"]
    assert list(averages) == [
        "average", "mAP", "mAP_voc10", "mAP_voc07", "weighted_AP", "micro_AP", "samples_AP", "ROC_AUC", "coverage",
        "ranking_loss", "CP", "CR", "CF1", "OP", "OR", "OF1", "top3_CF1", "top3_OF1", "macro_F1", "exact_match",
        "samples_jaccard", "samples_F1", "samples_FNR", "set_size", "Brier", "calibration_error", "accuracy",
    ]  # fmt: skip
    assert " ".join(" ".join(lines[end:]).split()) == (
        "Not in mAP: 1 class without a positive (elk). 4 images. 60.0% of the known labels are absent. "
        "A model that predicts nothing has about that accuracy, so accuracy is uninformative."
    )


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_number_gives_way_in_a_narrow_window(width: int):
    rng = np.random.default_rng(0)
    target_NC = (rng.random((20_000, 3)) < 0.3).astype(np.int8)
    names = LabelSet(names=("cat", "pottedplant", "a name that is longer than there is room for in any window"))
    predictions = Predictions(
        ids=tuple(map(str, range(20_000))),
        logit_NC=rng.standard_normal((20_000, 3)) + 2 * target_NC,
        target_NC=target_NC,
        label_set=names,
    )
    metrics = evaluate_predictions(predictions, num_replicates=20)
    console = Console(width=width, file=io.StringIO())
    print_metrics(console, metrics)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for name, mean in metrics.shown_means.items():
        if not name.startswith("top3_"):
            (line,) = [line for line in lines if line.startswith(f"{name}  ")]
            assert f"{mean.value:.4f}" in line
            assert f"{mean.count:,} {mean.unit}" in line
            assert np.isnan(mean.low) or f"{mean.low:.3f} – {mean.high:.3f}" in line
    for column in (0, 1):
        (line,) = [line for line in lines if line.split()[:1] == [names.names[column]]]
        assert f"{metrics.ap_low_C[column]:.3f} – {metrics.ap_high_C[column]:.3f}" in line
        assert f" {metrics.ap_chance_C[column]:.3f} " in line
        assert f"{metrics.recall_C[column]:.4f}" in line


def test_json_is_every_number_and_that_of_a_run_is_its_metrics_json(run: Path, small: Path, tmp_path: Path, polytag):
    polytag("evaluate", small, "--json", tmp_path / "small.json")
    text = (tmp_path / "small.json").read_text()
    assert json.loads(text) == evaluate_predictions(read_predictions(small)).to_json()
    assert "NaN" not in text
    polytag("evaluate", run / "predictions-val.parquet", "--json", tmp_path / "run.json")
    assert (tmp_path / "run.json").read_bytes() == (run / "metrics.json").read_bytes()


def test_a_threshold_moves_decisions_and_not_ap(small: Path, tmp_path: Path, polytag):
    polytag("evaluate", small, "--threshold", "0.8", "--json", tmp_path / "high.json")
    values = json.loads((tmp_path / "high.json").read_text())
    assert (values["per_class"]["cat"]["precision"], values["per_class"]["cat"]["threshold"]) == (1.0, 0.8)
    assert values["mAP"]["value"] == pytest.approx(17 / 24)
    with pytest.raises(UsageError) as error:
        polytag("evaluate", small, "--threshold", "1")
    assert str(error.value) == "threshold out of range\n  got: 1.0\n  expected: a probability between 0 and 1"


def test_the_report_is_one_page(run: Path, tmp_path: Path, polytag):
    output = polytag("evaluate", run / "predictions-val.parquet", "--report", tmp_path / "page.html").stdout
    assert output.splitlines()[-1] == f"report: {tmp_path / 'page.html'}"
    page = (tmp_path / "page.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "predictions-val" in page
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


# ---- truth ----


@pytest.fixture(scope="module")
def without_truth(run: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory, polytag) -> Path:
    """The validation images scored as files: ids are paths, no label is known."""
    path = tmp_path_factory.mktemp("scored") / "p.parquet"
    images = sorted((colours.parent / "images").iterdir())[48:]
    polytag("predict", run, *images, "--device", "cpu", "--output", path)
    return path


def test_truth_from_a_data_set_gives_the_numbers_of_the_run(run: Path, colours: Path, without_truth: Path, tmp_path: Path, polytag):
    polytag("evaluate", without_truth, "--truth", colours, "--json", tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == (run / "metrics.json").read_bytes()


def test_truth_is_read_with_the_options_for_reading(colours: Path, without_truth: Path, tmp_path: Path, polytag):
    lines = [line.replace("|", " ") for line in colours.read_text().splitlines()]
    (tmp_path / "spaces.csv").write_text("\n".join(lines).replace("images/", f"{colours.parent}/images/") + "\n")
    polytag("evaluate", without_truth, "--truth", tmp_path / "spaces.csv", "--separator", " ", "--json", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["mAP"]["num_classes"] == 3


def test_no_truth_is_told(without_truth: Path, polytag):
    with pytest.raises(PredictionsError) as error:
        polytag("evaluate", without_truth)
    assert str(error.value) == (
        f"these predictions have no labels to evaluate against\n  where: {without_truth}\n"
        "  expected: at least one known label\n"
        "  next: give --truth DATA, the labelled data set that the images are from"
    )


def test_a_truth_of_other_images_is_told(small: Path, without_truth: Path, colours: Path, tmp_path: Path, polytag):
    lines = colours.read_text().splitlines()
    (tmp_path / "images").symlink_to(colours.parent / "images")
    (tmp_path / "part.csv").write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(PredictionsError) as error:
        polytag("evaluate", without_truth, "--truth", tmp_path / "part.csv")
    names = ", ".join(str(colours.parent / "images" / f"{number:03}.png") for number in (48, 49, 50))
    assert str(error.value) == (
        f"24 of 24 scored images are not in the labelled data\n  where: csv {tmp_path / 'part.csv'}\n  got: {names}, ...\n"
        "  expected: ids such as images/000.png, images/001.png, images/002.png (70 in all)\n"
        "  next: give the data set that these images are from"
    )
    with pytest.raises(PredictionsError) as error:
        polytag("evaluate", small, "--truth", colours)
    assert str(error.value) == (
        f"the labels and the predictions have different classes\n  where: csv {colours}\n"
        "  got: only in the labels: blue, green, red\n  expected: the same classes, in any order\n"
        "  next: use the same spelling; --rename and --merge give labels other names, --classes and --drop leave some out"
    )


def test_a_run_folder_in_place_of_its_file(run: Path, polytag):
    with pytest.raises(PredictionsError) as error:
        polytag("evaluate", run)
    assert str(error.value) == (
        f"the predictions file cannot be read\n  where: {run}\n  got: a run folder\n"
        "  expected: a file of scores\n"
        f"  next: give the file itself, such as {run / 'predictions-val.parquet'}"
    )
