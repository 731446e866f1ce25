"""`polytag labels issues`, `data check --near` and `evaluate --train-data`, as a user types them."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from polytag import load_dataset, read_predictions, write_predictions
from polytag.cli.labels import CSV_COLUMNS
from polytag.contracts import LabelSet, Predictions
from polytag.errors import DataError, PredictionsError, UsageError
from polytag.inference.out_of_fold import out_of_fold_of_run
from polytag.metrics.groups import groups_of
from polytag.metrics.label_issues import find_label_issues
from polytag.runs.folder import RunFolder


@pytest.fixture(scope="module")
def scores(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of 72 images in which red is known well, with three wrong labels and one unknown, and blue is rare."""
    dataset = load_dataset(colours)
    target_NC = np.array(dataset.target_NC)
    rng = np.random.default_rng(0)
    logit_NC = (5.0 * target_NC - 2.5 + rng.normal(0, 0.8, target_NC.shape)).astype(np.float32)
    target_NC[[3, 11], 0] = 1 - target_NC[[3, 11], 0]
    target_NC[np.flatnonzero(target_NC[:, 2] == 1)[4:], 2] = -1
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    predictions = Predictions(
        ids=dataset.ids,
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=("red", "green", "blue")),
        image_paths=tuple(map(str, dataset.paths)),
        source="scores",
    )
    write_predictions(predictions, path)
    return path


def test_the_list_on_the_console_and_in_files(polytag, scores: Path, tmp_path: Path):
    done = polytag(
        "labels", "issues", scores, "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv", "--report", tmp_path / "s.html"
    )
    assert "blue: 4 of 20 positives needed" in done.output
    assert re.search(r"red +(present|absent) +\S+ +images/0(03|11)", done.output)
    assert "Unknown, and probably present" in done.output
    values = json.loads((tmp_path / "s.json").read_text())
    assert values["per_class"]["blue"]["wrong_present"] is None
    assert values["per_class"]["red"]["wrong_present"] + values["per_class"]["red"]["wrong_absent"] == pytest.approx(2, abs=1)
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert {row["id"] for row in rows[:2]} == {"images/003.png", "images/011.png"}
    assert len(rows) == sum(len(part["issues"]) for part in values["per_class"].values())
    page = (tmp_path / "s.html").read_text()
    assert page.count("<details>") >= 2
    assert "data:image/jpeg;base64," in page
    assert "<script" not in page
    assert "could not be read" not in page


def test_one_class(polytag, scores: Path):
    done = polytag("labels", "issues", scores, "--class", "red", "--top", "1")
    assert "green" not in done.output
    assert len(re.findall(r"images/\d+", done.output)) == 1


def test_a_page_without_images_and_with_names_that_are_markup(polytag, scores: Path, tmp_path: Path):
    predictions = read_predictions(scores)
    odd = replace(
        predictions,
        label_set=LabelSet(names=("<b>red</b>", "green", "blue")),
        image_paths=("",) * len(predictions),
        ids=tuple(f"<i>{name}</i>" for name in predictions.ids),
    )
    write_predictions(odd, tmp_path / "odd.parquet")
    polytag("labels", "issues", tmp_path / "odd.parquet", "--report", tmp_path / "odd.html")
    page = (tmp_path / "odd.html").read_text()
    assert "<i>images" not in page
    assert "&lt;b&gt;red&lt;/b&gt;" in page
    assert "could not be read and are shown as grey tiles" in page


def test_names_that_look_like_the_markup_of_the_console(polytag, scores: Path, leaky: Path, leaky_scores: Path, tmp_path: Path):
    predictions = read_predictions(scores)
    odd = replace(
        predictions,
        label_set=LabelSet(names=("[bold]red", "green", "blue")),
        ids=tuple(f"[/b]{name}" for name in predictions.ids),
    )
    write_predictions(odd, tmp_path / "odd.parquet")
    output = polytag("labels", "issues", tmp_path / "odd.parquet").output
    assert re.search(r"\[bold\]red +(present|absent) +\S+ +\[/b\]images", output)
    scored = read_predictions(leaky_scores)
    write_predictions(replace(scored, ids=tuple(f"[/b]{name}" for name in scored.ids)), tmp_path / "odd-2.parquet")
    assert "[/b]12.jpg ≈" in polytag("evaluate", tmp_path / "odd-2.parquet", "--train-data", leaky).output


def test_of_a_run_its_validation_and_its_training_images(polytag, run: Path, tmp_path: Path):
    assert "blue" in polytag("labels", "issues", run).output
    done = polytag("labels", "issues", run, "--split", "train", "--json", tmp_path / "t.json")
    values = json.loads((tmp_path / "t.json").read_text())
    assert values["num_images"] == 48
    assert values["source"].endswith(", out-of-fold")
    assert "note: the backbone was fine-tuned on these labels" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "test"), "unknown split\n  where: --split\n  got: 'test'\n  expected: val or train"),
        (("--top", "0"), "nothing to list\n  where: top\n  got: 0\n  expected: 1 or more"),
    ],
)
def test_what_cannot_be_asked(polytag, scores: Path, arguments: tuple[str, ...], message: str):
    with pytest.raises(UsageError) as caught:
        polytag("labels", "issues", scores, *arguments)
    assert str(caught.value) == message


def test_training_images_have_the_groups_of_their_training(polytag, colours: Path, run: Path, quick, tmp_path: Path):
    table = tmp_path / "patients.csv"
    table.write_text("id,patient\n" + "".join(f"images/{row:03}.png,p{row // 4}\n" for row in range(72)))
    grouped = ("--group", "patient", "--columns", table)
    polytag("train", colours, *quick, "--recipe", "probe", *grouped, "--output", tmp_path / "run")
    polytag("labels", "issues", tmp_path / "run", "--split", "train", "--json", tmp_path / "a.json")
    predictions, _ = out_of_fold_of_run(RunFolder(path=tmp_path / "run"))
    groups = groups_of([f"p{int(name[7:10]) // 4}" for name in predictions.ids])
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(
        json.dumps(find_label_issues(predictions, groups=groups).to_json())
    )
    with pytest.raises(UsageError, match="in the groups of its training\n  where: --split train\n  got: --group"):
        polytag("labels", "issues", tmp_path / "run", "--split", "train", *grouped)
    polytag("labels", "issues", run, *grouped, "--json", tmp_path / "b.json")
    predictions = read_predictions(run / "predictions-val.parquet")
    groups = groups_of([f"p{int(name[7:10]) // 4}" for name in predictions.ids])
    assert json.loads((tmp_path / "b.json").read_text()) == json.loads(
        json.dumps(find_label_issues(predictions, groups=groups).to_json())
    )


def test_training_images_need_a_run(polytag, scores: Path):
    with pytest.raises(UsageError) as caught:
        polytag("labels", "issues", scores, "--split", "train")
    assert str(caught.value) == (
        "training images are scored out-of-fold by a run's own model, in the groups of its training\n"
        f"  where: --split train\n  got: {scores}\n  expected: a run folder alone"
    )


# ---- near duplicates and leakage


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise images: 12 to train on, 12 for validation, of which one has a twin in training, one a mirror image."""
    folder = tmp_path_factory.mktemp("leaky")
    rng = np.random.default_rng(0)
    lines = ["file_name,labels,split"]
    for row in range(24):
        pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{row:02}.jpg", quality=90)
        lines.append(f"{row:02}.jpg,{'cat' if row % 2 else 'dog'},{'train' if row < 12 else 'val'}")
    shutil.copy(folder / "12.jpg", folder / "00.jpg")
    ImageOps.mirror(Image.open(folder / "13.jpg")).resize((80, 60)).save(folder / "01.jpg", quality=60)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def leaky_scores(leaky: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    val = load_dataset(leaky).split("val")
    path = tmp_path_factory.mktemp("scores") / "leaky.parquet"
    predictions = Predictions(
        ids=val.ids,
        logit_NC=np.random.default_rng(0).normal(size=(12, 2)) + val.target_NC,
        target_NC=val.target_NC,
        label_set=val.label_set,
        image_paths=tuple(map(str, val.paths)),
    )
    write_predictions(predictions, path)
    return path


def test_check_near_on_the_console(polytag, leaky: Path, tmp_path: Path):
    done = polytag("data", "check", leaky, "--near", "--json", tmp_path / "c.json")
    assert "near duplicates: 1 group, 1 across splits" in done.output
    assert re.search(r"01\.jpg \(train\) ≈ 13\.jpg \(val\) .* mirrored", done.output)
    assert len(json.loads((tmp_path / "c.json").read_text())["near_duplicates"]) == 1
    assert "near duplicates" not in polytag("data", "check", leaky).output


def test_look_alikes_by_a_model(polytag, leaky: Path, run: Path):
    done = polytag("data", "check", leaky, "--near-model", run, "--min-cosine", "0.5")
    assert "near duplicates by the model: " in done.output
    with pytest.raises(UsageError, match="cosine out of range"):
        polytag("data", "check", leaky, "--near-model", run, "--min-cosine", "1.5")


def test_evaluate_with_and_without_leaks(polytag, leaky: Path, leaky_scores: Path, tmp_path: Path):
    done = polytag("evaluate", leaky_scores, "--train-data", leaky, "--json", tmp_path / "m.json")
    assert "Leakage: 2 of 12 scored images are in the training data too: 1 byte for byte, 1 in another version." in " ".join(
        done.output.split()
    )
    values = json.loads((tmp_path / "m.json").read_text())
    leakage, trained_on = values["leakage"], load_dataset(leaky).split("train")
    assert (values["frequency_of"], leakage["without"]["frequency_of"]) == ("training data", "training data")
    for name, number in zip(trained_on.label_set, (trained_on.target_NC == 1).sum(axis=0).tolist(), strict=True):
        assert values["per_class"][name]["frequency"] == leakage["without"]["per_class"][name]["frequency"] == number
    assert (leakage["num_leaked"], leakage["num_exact"], leakage["num_trained_on"], leakage["num_not_compared"]) == (2, 1, 12, 0)
    assert [image["id"] for image in leakage["images"]] == ["12.jpg", "13.jpg"]
    assert leakage["without"]["num_images"] == 10
    whole = json.loads((tmp_path / "m.json").read_text())["mAP"]["value"]
    assert leakage["mAP_difference"]["value"] == pytest.approx(whole - leakage["without"]["mAP"]["value"])


def test_no_leaks_is_said_too(polytag, colours: Path, run: Path):
    done = polytag("evaluate", run / "predictions-val.parquet", "--train-data", colours)
    assert "Leakage: none; compared 24 scored images against 48 training images." in done.output


def test_training_images_that_cannot_be_read_are_told(polytag, leaky: Path, leaky_scores: Path, tmp_path: Path):
    folder = tmp_path / "moved"
    shutil.copytree(leaky, folder)
    (folder / "05.jpg").write_bytes(b"")
    (folder / "06.jpg").write_bytes(b"no image")
    output = polytag("evaluate", leaky_scores, "--train-data", folder, "--json", tmp_path / "m.json").output
    assert "  2 training images could not be read, so their leakage is unknown." in output.splitlines()
    leakage = json.loads((tmp_path / "m.json").read_text())["leakage"]
    assert (leakage["num_trained_on"], leakage["num_unread"], leakage["num_leaked"]) == (10, 2, 2)
    for row in range(12):
        (folder / f"{row:02}.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        polytag("evaluate", leaky_scores, "--train-data", folder)
    assert str(caught.value) == (
        f"no training image can be read\n  where: csv {folder}\n  got: such as {folder / '00.jpg'}\n"
        "  expected: the images that the model was trained on\n"
        "  next: `polytag data check` lists the reasons; --image-dir names their folder"
    )


def test_scores_without_images_cannot_be_compared(polytag, leaky: Path, leaky_scores: Path, tmp_path: Path):
    bare = replace(read_predictions(leaky_scores), image_paths=("",) * 12)
    write_predictions(bare, tmp_path / "bare.parquet")
    with pytest.raises(PredictionsError) as caught:
        polytag("evaluate", tmp_path / "bare.parquet", "--train-data", leaky)
    assert str(caught.value) == (
        f"no scored image can be compared with the training images\n  where: {tmp_path / 'bare.parquet'}\n  got: no path\n"
        "  expected: a file at the path of each image\n"
        "  next: give --truth DATA, the data set that has the scored images"
    )
    assert "Leakage: 2 of 12" in polytag("evaluate", tmp_path / "bare.parquet", "--truth", leaky, "--train-data", leaky).output
