"""VOC's result files next to a devkit, evaluated as in VOCevalcls.m."""

from pathlib import Path

import numpy as np
import pytest

from polytag.errors import PredictionsError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.predictions.read import read_labelled, read_predictions

VAL = {"cat": {"a": 1, "b": -1, "c": 1, "d": 0}, "dog": {"a": -1, "b": 1, "c": 1, "d": -1}}


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """A devkit without any image: the lists are enough to judge."""
    main = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for name, labels in VAL.items():
        (main / f"{name}_val.txt").write_text("".join(f"{image} {label:2}\n" for image, label in labels.items()))
        (main / f"{name}_train.txt").write_text("t1  1\nt2 -1\n")
    (main / "val.txt").write_text("a\nb\nc\nd\n")
    return tmp_path / "VOCdevkit"


def results(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


GOOD = {"comp1_cls_val_cat": "a 7.5\nb -3\nc 120\nd 0\n", "comp1_cls_val_dog": "d 0.1\nc 0.3\nb 0.2\na 0.15\n"}


@pytest.mark.parametrize("place", ["", "Main", "VOC2012/Main", "results/VOC2012/Main"])
def test_confidences_are_a_rank(devkit: Path, tmp_path: Path, place: str):
    folder = tmp_path / "mine"
    results(folder / place, **GOOD)
    labelled = read_labelled(folder, truth=devkit)
    made = labelled.predictions
    assert (made.ids, made.label_set.names, made.scale, labelled.notes) == (("a", "b", "c", "d"), ("cat", "dog"), "rank", ())
    assert made.logit_NC.tolist() == [[7.5, 0.15], [-3, 0.2], [120, 0.3], [0, 0.1]]
    assert made.target_NC.tolist() == [[1, 0], [0, 1], [1, 1], [-1, 0]]
    metrics = evaluate_predictions(made, num_replicates=0)
    assert metrics.ap_C.tolist() == [1.0, 1.0]
    for undefined in (metrics.precision_C, metrics.recall_C, metrics.f1_C, metrics.accuracy_C, metrics.tail.mean_K):
        assert np.isnan(undefined).all()
    for name in ("CP", "OF1", "macro_F1", "top3_CF1", "accuracy"):
        assert np.isnan(metrics.means[name].value), name
        assert metrics.means[name].count == 0


def test_a_devkit_of_another_year_may_say_probability(devkit: Path, tmp_path: Path):
    files = {name: text.replace("120", "0.9").replace("7.5", "0.75").replace("-3", "0.1") for name, text in GOOD.items()}
    made = read_predictions(results(tmp_path / "mine", **files), truth=devkit, scale="probability")
    assert made.probability_NC[:, 0].tolist() == [0.75, 0.1, 0.9, 0]


def test_images_without_a_line_are_ranked_last_as_in_the_devkit(devkit: Path, tmp_path: Path):
    files = {**GOOD, "comp1_cls_val_cat": "c 120\nb -3\n"}
    labelled = read_labelled(results(tmp_path / "mine", **files), truth=devkit)
    assert labelled.predictions.logit_NC[:, 0].tolist() == [-4, -3, 120, -4]
    assert labelled.notes == (
        "the result file of 1 class omits up to 2 of 4 images: those are ranked last, together, as in VOC's devkit",
    )
    assert evaluate_predictions(labelled.predictions, num_replicates=0).ap_C[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    with pytest.raises(PredictionsError) as error:
        read_labelled(tmp_path / "mine", truth=devkit, scale="probability")
    assert str(error.value) == (
        f"the result files omit images\n  where: {tmp_path / 'mine'}/comp1_cls_val_*.txt\n"
        "  got: no line for 2 of 4 images in the file of class 'cat'\n"
        "  expected: a line for every image if the confidences are probabilities\n"
        "  next: give --scores rank, which ranks omitted images last"
    )


def test_an_image_that_no_file_names_still_counts(devkit: Path, tmp_path: Path):
    files = {name: "".join(line for line in text.splitlines(True) if line[0] != "c") for name, text in GOOD.items()}
    made = read_labelled(results(tmp_path / "mine", **files), truth=devkit).predictions
    assert made.ids == ("a", "b", "c", "d")
    assert made.logit_NC[2].tolist() == [-4, -1]


def test_very_large_confidences_stay_apart_from_what_is_left_out(devkit: Path, tmp_path: Path):
    made = read_labelled(results(tmp_path / "m", **{**GOOD, "comp1_cls_val_cat": "a -1e300\n"}), truth=devkit).predictions
    assert made.logit_NC[0, 0] > made.logit_NC[1, 0]


def test_several_competitions_and_none(devkit: Path, tmp_path: Path):
    folder = results(tmp_path / "mine", **GOOD, comp2_cls_val_cat="a 1\nb 2\nc 3\nd 4\n", comp2_cls_val_dog="a 1\nb 2\nc 3\nd 4\n")
    with pytest.raises(PredictionsError) as error:
        read_predictions(folder)
    assert str(error.value) == (
        f"several sets of VOC result files in one folder\n  where: {folder}\n  got: comp1_cls_val, comp2_cls_val\n"
        f"  expected: one\n  next: give one of its files, such as {folder / 'comp1_cls_val_cat.txt'}"
    )
    assert read_predictions(folder / "comp2_cls_val_cat.txt", truth=devkit).logit_NC[:, 0].tolist() == [1, 2, 3, 4]
    empty = results(tmp_path / "empty", notes="hello")
    with pytest.raises(PredictionsError) as error:
        read_predictions(empty)
    assert str(error.value) == (
        f"no scores in the folder\n  where: {empty}\n  got: notes.txt\n"
        "  expected: VOC result files, such as comp1_cls_val_cat.txt, or the path of a file"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a 1\nb\n",
            "a line of a VOC result file cannot be read\n  where: {path}:2\n  got: 'b'\n"
            "  expected: an image id and a finite confidence",
        ),
        (
            "a high\n",
            "a line of a VOC result file cannot be read\n  where: {path}:1\n  got: 'a high'\n"
            "  expected: an image id and a finite confidence",
        ),
        (
            "\na nan\n",
            "a line of a VOC result file cannot be read\n  where: {path}:2\n  got: 'a nan'\n"
            "  expected: an image id and a finite confidence",
        ),
        ("a 1\nb 1\na 2\n", "an image id is scored twice\n  where: {path}:3\n  got: 'a'\n  expected: every id once"),
        (
            "\n",
            "an empty VOC result file\n  where: {path}\n  got: no line\n  expected: one line per image: its id and a confidence",
        ),
    ],
)
def test_what_a_result_file_should_not_say(tmp_path: Path, text: str, message: str):
    folder = results(tmp_path / "mine", comp1_cls_val_cat=text)
    with pytest.raises(PredictionsError) as error:
        read_predictions(folder)
    assert str(error.value) == message.format(path=folder / "comp1_cls_val_cat.txt")


def test_a_class_without_a_file_and_an_image_of_another_set(devkit: Path, tmp_path: Path):
    with pytest.raises(PredictionsError, match=r"only in the labels: dog"):
        read_predictions(results(tmp_path / "one", comp1_cls_val_cat="a 1\nb 2\nc 3\nd 4\n"), truth=devkit)
    with pytest.raises(PredictionsError, match=r"1 of 5 scored images are not in the labelled data\n.*\n  got: z\n"):
        read_predictions(results(tmp_path / "z", **{**GOOD, "comp1_cls_val_cat": "z 1\n"}), truth=devkit)
