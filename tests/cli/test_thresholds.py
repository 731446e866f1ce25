"""`polytag thresholds`: chosen, printed, kept in the run, and used by what comes after."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, RunError, UsageError
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.read import read_predictions
from polytag.predictions.table import write_predictions


@pytest.fixture
def mine(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "mine"))


def hand(folder: Path) -> Path:
    """120 images: cat is ranked perfectly, dog by chance, elk is nowhere."""
    rng = np.random.default_rng(0)
    target_NC = np.stack([np.arange(120) < 80, rng.random(120) < 0.5, np.zeros(120)], axis=1).astype(int)
    logit_NC = np.stack([np.linspace(4, -4, 120), rng.normal(size=120), rng.normal(size=120) - 5], axis=1)
    labels = LabelSet(names=("cat", "dog", "elk"))
    write_predictions(
        Predictions(ids=tuple(map(str, range(120))), logit_NC=logit_NC, target_NC=target_NC, label_set=labels),
        folder / "hand.parquet",
    )
    return folder / "hand.parquet"


def lines_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_table_of_a_plain_goal(tmp_path: Path, polytag: Callable):
    lines = lines_of(polytag("thresholds", hand(tmp_path), "--goal", "precision=0.9").stdout)
    assert lines[0] == ["class", "threshold", "precision", "95%", "recall", "95%", "predicted", "positives"]
    assert lines[1][0] == "cat"
    assert lines[1][2:] == ["1.000", "0.95–1.00", "1.000", "0.95–1.00", "80", "80"]  # 88 would do, and find no more
    assert lines[3] == ["elk", "never", "–", "–", "0", "0"]
    text = " ".join(" ".join(line) for line in lines)
    assert "Not attainable: elk: no positive" in text
    assert "without a guarantee for new ones" in text
    assert text.endswith("Where it is not attainable, the class is never predicted.")


def test_the_table_of_a_guarantee(tmp_path: Path, polytag: Callable):
    result = polytag("thresholds", hand(tmp_path), "--goal", "precision=0.9", "--confidence", "0.95", "--json", tmp_path / "t.json")
    lines = lines_of(result.stdout)
    assert lines[0] == ["class", "threshold", "precision", "at", "least", "recall", "95%", "predicted", "positives"]
    values = json.loads((tmp_path / "t.json").read_text())
    assert lines[1][3] == f"{values['per_class']['cat']['bound']:.3f}"
    assert 0.9 <= values["per_class"]["cat"]["bound"] <= values["per_class"]["cat"]["precision"]
    assert [values["per_class"][name]["attainable"] for name in ("cat", "dog", "elk")] == [True, False, False]
    text = " ".join(" ".join(line) for line in lines)
    assert "1 of 3 classes reach a precision of 0.9, chosen on 120 images. Guaranteed with 0.95 confidence, each class" in text
    assert "elk: no positive; at least 57 are needed" in text
    joint = polytag("thresholds", hand(tmp_path), "--goal", "recall=0.9", "--confidence", "0.9", "--joint").stdout
    assert "all classes together" in " ".join(joint.split())
    top = lines_of(polytag("thresholds", hand(tmp_path), "--goal", "top=0.1", "--confidence", "0.9").stdout)
    assert top[0] == ["class", "threshold", "share", "at", "most", "precision", "recall", "predicted", "positives"]
    assert float(top[1][2]) < float(top[1][3]) <= 0.1


def test_they_are_kept_in_the_run_and_used(mine: Path, colours: Path, tmp_path: Path, polytag: Callable):
    before = Checkpoint.read(mine)
    stdout = polytag("thresholds", mine, "--goal", "recall=0.9").stdout
    assert f"Saved in {mine / 'thresholds.json'} and in best/" in stdout
    values = json.loads((mine / "thresholds.json").read_text())
    after = Checkpoint.read(mine)
    assert after.thresholds == tuple(values["thresholds"].values()) != before.thresholds
    assert (after.id, values["checkpoint_id"], values["goal"]) == (before.id, before.id, "recall=0.9")

    # evaluate on the run's predictions decides by them, and says so
    said = polytag("evaluate", mine / "predictions-val.parquet", "--json", tmp_path / "m.json", "--report", tmp_path / "r.html")
    assert f"Decisions by each class's own threshold, from {mine / 'thresholds.json'}, chosen for recall=0.9." in said.stdout
    labelled = json.loads((tmp_path / "m.json").read_text())["per_class"]
    for name, point in values["per_class"].items():
        assert (labelled[name]["threshold"], labelled[name]["precision"]) == (point["threshold"], point["precision"])
        assert labelled[name]["recall"] == point["recall"] >= 0.9
    page = (tmp_path / "r.html").read_text()
    assert "the threshold of each class" in page

    # predict decides by them
    images = sorted((colours.parent / "images").iterdir())[48:]
    polytag("predict", mine, *images, "--device", "cpu", "--output", tmp_path / "p.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    for row in rows:
        assert set(row["labels"]) == {name for name, p in row["probability"].items() if p > values["thresholds"][name]}
    num_labels = sum(len(row["labels"]) for row in rows)
    assert num_labels == sum(point["num_predicted"] for point in values["per_class"].values())


def test_prediction_sets_with_a_stated_risk(mine: Path, tmp_path: Path, polytag: Callable):
    """Chosen on half of the images, kept in the run, and evaluated on the other half and on the same."""
    predictions = read_predictions(mine / "predictions-val.parquet")
    half, rest = (mine / f"{name}.parquet" for name in ("half", "rest"))
    write_predictions(predictions.take(range(12)), half)
    write_predictions(predictions.take(range(12, len(predictions))), rest)
    said = " ".join(polytag("thresholds", mine, "--on", half, "--goal", "fnr=0.2").stdout.split())
    control = (values := json.loads((mine / "thresholds.json").read_text()))["risk_control"]
    assert (values["goal"], values["num_images"], control["num_images"], control["level"]) == ("fnr=0.2", 12, 9, 0.2)
    assert set(Checkpoint.read(mine).thresholds) == set(values["thresholds"].values())
    assert f"Their sets have {control['set_size']:.2f} labels on average and a false negative rate of" in said
    assert values["guarantee"] in said
    assert "best/ was selected" not in said

    outputs = ("--json", tmp_path / "m.json", "--report", tmp_path / "r.html")
    told = " ".join(polytag("evaluate", rest, *outputs).stdout.split())
    promise = "Guaranteed on average for images that did not choose them: a false negative rate of at most 0.2."
    found = json.loads((tmp_path / "m.json").read_text())
    rate = found["samples_FNR"]
    here = f"Here: {rate['value']:.3f} ({rate['low']:.3f} – {rate['high']:.3f}), with {found['set_size']['value']:.2f} labels"
    assert f"chosen for fnr=0.2. {promise} {here} predicted for an image." in told
    assert rate["promised"] == 0.2
    assert "mean over images; guaranteed: at most 0.2 on average<" in (tmp_path / "r.html").read_text()
    told = " ".join(polytag("evaluate", half, *outputs).stdout.split())
    assert "promised" not in json.loads((tmp_path / "m.json").read_text())["samples_FNR"]
    assert "guaranteed" not in (tmp_path / "r.html").read_text()
    assert "chosen for fnr=0.2. These images chose the thresholds: decisions on new images are likely to be worse." in told

    polytag("calibrate", mine, "--method", "temperature")  # decisions stay, and so does what is guaranteed about them
    assert json.loads((mine / "thresholds.json").read_text())["risk_control"] == control
    said = " ".join(polytag("thresholds", mine, "--goal", "fnr=0.2", "--dry-run").stdout.split())
    assert "best/ was selected among the epochs by its mAP on these images, and calibrated on them, which" in said


def test_prediction_sets_of_groups(tmp_path: Path, polytag: Callable):
    scores = hand(tmp_path)
    (tmp_path / "g.csv").write_text("id,scene\n" + "".join(f"{row},{row // 10}\n" for row in range(120)))
    chosen = ("--goal", "fnr=0.1", "--group", "scene", "--columns", tmp_path / "g.csv", "--json", tmp_path / "t.json")
    said = " ".join(polytag("thresholds", scores, *chosen).stdout.split())
    assert "rate of a new group, the mean of its images, is at most 0.1, if it and these 12 groups are" in said
    control = json.loads((tmp_path / "t.json").read_text())["risk_control"]
    assert (control["group"], control["num_groups"], control["num_needed"]) == ("scene", 12, 9)
    with pytest.raises(UsageError, match="a table of columns, none of which is used"):
        polytag("thresholds", scores, "--goal", "fnr=0.1", "--columns", tmp_path / "g.csv")


def test_a_guarantee_of_groups(tmp_path: Path, polytag: Callable):
    """80 positives of cat are in 20 scenes: they prove a recall of 0.8, and not the 0.9 that 80 images would."""
    (tmp_path / "g.csv").write_text("id,scene\n" + "".join(f"{row},s{row // 4}\n" for row in range(120)))
    chosen = ("thresholds", hand(tmp_path), "--confidence", "0.95", "--json", tmp_path / "t.json")
    grouped = ("--group", "scene", "--columns", tmp_path / "g.csv")
    for goal, groups, attained in (("recall=0.9", (), True), ("recall=0.9", grouped, False), ("recall=0.8", grouped, True)):
        said = " ".join(polytag(*chosen, "--goal", goal, *groups).stdout.split())
        cat = json.loads((tmp_path / "t.json").read_text())["per_class"]["cat"]
        assert (cat["attainable"], cat["num_positives"]) == (attained, 80)
        assert ("cat: of one image of each group: 20 positives; at least 29 are needed" in said) == (not attained)
        sentences = (
            "for an image drawn from a new group of scene, by one image of each of 30, if the model was neither trained nor "
            "selected on these. The 95% intervals count images, not groups."
        )
        assert (sentences in said) == bool(groups)
    assert "a new group of scene" in json.loads((tmp_path / "t.json").read_text())["guarantee"]


def test_a_dry_run_changes_nothing(mine: Path, tmp_path: Path, polytag: Callable):
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    stdout = polytag("thresholds", mine, "--dry-run", "--json", tmp_path / "t.json").stdout
    assert "kept" not in stdout
    assert json.loads((tmp_path / "t.json").read_text())["goal"] == "f1"
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


def test_on_other_scores_of_the_same_model(mine: Path, tmp_path: Path, polytag: Callable):
    predictions = read_predictions(mine / "predictions-val.parquet")
    write_predictions(predictions.take(range(12)), tmp_path / "half.parquet")
    stdout = polytag("thresholds", mine, "--on", tmp_path / "half.parquet", "--goal", "recall=0.2", "--confidence", "0.5").stdout
    assert "best/ was selected" not in stdout
    assert json.loads((mine / "thresholds.json").read_text())["num_images"] == 12
    stdout = polytag("thresholds", mine, "--goal", "recall=0.2", "--confidence", "0.5").stdout
    assert "best/ was selected among the epochs by its mAP on these images" in " ".join(stdout.split())

    other = tmp_path / "other.parquet"
    write_predictions(replace(predictions, checkpoint_id="f" * 16), other)
    with pytest.raises(PredictionsError) as error:
        polytag("thresholds", mine, "--on", other)
    assert str(error.value) == (
        f"these scores are of another model\n  where: {other}\n  got: checkpoint {'f' * 16}\n"
        f"  expected: {Checkpoint.read(mine).id}, the run's best/\n"
        f"  next: score with this run: polytag predict {mine} DATA --split NAME --output FILE.parquet"
    )
    with pytest.raises(UsageError) as error:
        polytag("thresholds", other, "--on", other)
    assert (
        str(error.value)
        == f"--on needs a run with one model\n  where: --on\n  got: {other}\n  expected: a run folder, or that of a fold"
    )


def test_evaluate_takes_a_file_of_thresholds(tmp_path: Path, polytag: Callable):
    scores = hand(tmp_path)
    (tmp_path / "t.json").write_text('{"cat": 0.9, "dog": 0.5, "elk": 1}')
    said = polytag("evaluate", scores, "--thresholds", tmp_path / "t.json", "--json", tmp_path / "m.json").stdout
    assert f"Decisions by each class's own threshold, from {tmp_path / 't.json'}." in said
    assert said.splitlines()[0].split()[-1] == "threshold"
    labelled = json.loads((tmp_path / "m.json").read_text())["per_class"]
    assert [labelled[name]["threshold"] for name in ("cat", "dog", "elk")] == [0.9, 0.5, 1.0]
    assert labelled["cat"]["precision"] == 1
    assert labelled["elk"]["precision"] is None
    with pytest.raises(UsageError) as error:
        polytag("evaluate", scores, "--thresholds", tmp_path / "t.json", "--threshold", "0.5")
    assert str(error.value) == "two kinds of thresholds\n  got: --threshold and --thresholds\n  expected: one of them"


def test_a_folder_that_is_no_run(tmp_path: Path, polytag: Callable):
    with pytest.raises(RunError) as error:
        polytag("thresholds", tmp_path)
    assert str(error.value) == (
        f"no finished run in this folder\n  where: {tmp_path}\n  got: no predictions-val.parquet\n"
        "  expected: a run folder that `polytag train` finished, or a file of scores"
    )
