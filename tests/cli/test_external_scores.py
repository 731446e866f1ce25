"""`polytag evaluate` as a user types it: other programs' scores, and slices."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from polytag.errors import PredictionsError, UsageError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.predictions.read import read_predictions


def test_the_same_scores_in_every_layout_give_the_same_numbers(run: Path, tmp_path: Path, polytag):
    """A run's scores as eight other programs would have written them; the truth has no unknown label."""
    predictions = read_predictions(run / "predictions-val.parquet")
    logit_NC, target_NC, names, ids = predictions.logit_NC, predictions.target_NC, predictions.label_set.names, predictions.ids
    assert (target_NC >= 0).all()
    expected = evaluate_predictions(predictions).to_json()
    lists = [[name for name, here in zip(names, row, strict=True) if here] for row in target_NC]

    csv = ["id," + ",".join(reversed(names)) + ",truth"]
    for name, row, labels in zip(ids, logit_NC, lists, strict=True):
        csv.append(",".join([name, *(repr(float(value)) for value in row[::-1]), "|".join(labels)]))
    (tmp_path / "s.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(csv).encode())
    truth = [f"{name},{' '.join(labels)}\n" for name, labels in zip(ids, lists, strict=True)]
    (tmp_path / "t.csv").write_text("image_id,tags\n" + "".join(truth))
    rows = [
        {"id": name, "scores": dict(zip(names, map(float, row), strict=True)), "labels": labels}
        for name, row, labels in zip(ids, logit_NC, lists, strict=True)
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.savez(tmp_path / "s.npz", y_true=target_NC, y_score=logit_NC, classes=np.array(names))
    torch.save({"logits": torch.tensor(logit_NC), "targets": torch.tensor(target_NC), "classes": list(names)}, tmp_path / "s.pt")

    for name, *options in (
        ("s.csv", "--scores", "logit"),
        ("s.csv", "--scores", "logit", "--truth", str(tmp_path / "t.csv"), "--separator", " "),
        ("s.jsonl", "--scores", "logit"),
        ("s.npz", "--scores", "logit"),
        ("s.pt",),
    ):
        result = polytag("evaluate", tmp_path / name, *options, "--json", tmp_path / "m.json")
        found = json.loads((tmp_path / "m.json").read_text())
        assert result.stdout.startswith("class")
        for key in ("mAP", "CF1", "OF1", "samples_AP"):
            assert found[key] == pytest.approx(expected[key], abs=1e-12), (name, options, key)
        for label in names:
            for key, value in expected["per_class"][label].items():
                assert found["per_class"][label][key] == pytest.approx(value, abs=1e-12), (name, options, label, key)


def test_our_own_csv_and_jsonl_with_the_data_set_as_truth(run: Path, colours: Path, tmp_path: Path, polytag):
    images = sorted((colours.parent / "images").iterdir())[48:]
    expected = json.loads((run / "metrics.json").read_text())
    for suffix in (".csv", ".jsonl"):
        polytag("predict", run, *images, "--device", "cpu", "--output", tmp_path / f"p{suffix}")
        polytag("evaluate", tmp_path / f"p{suffix}", "--truth", colours, "--json", tmp_path / "m.json")
        found = json.loads((tmp_path / "m.json").read_text())
        assert found["mAP"]["value"] == pytest.approx(expected["mAP"]["value"], abs=1e-9)
        assert found["OF1"] == pytest.approx(expected["OF1"])


def test_a_scale_must_be_said(tmp_path: Path, shell):
    (tmp_path / "s.csv").write_text("id,cat,truth\na,0.5,cat\nb,0.25,\n")
    result = shell("evaluate", tmp_path / "s.csv")
    assert result.returncode == 2
    assert result.stderr.startswith(f"polytag: the file does not declare the scale of its scores\n  where: {tmp_path / 's.csv'}\n")
    assert result.stdout == ""


def test_a_rank_is_told_and_its_decisions_are_undefined(tmp_path: Path, polytag):
    (tmp_path / "s.csv").write_text("id,cat,dog,truth\na,12,-3,cat\nb,7,80,dog\n")
    result = polytag(
        "evaluate", tmp_path / "s.csv", "--scores", "rank", "--json", tmp_path / "m.json", "--report", tmp_path / "p.html"
    )
    assert "note: these scores are ranks" in result.stderr
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["mAP"]["value"] == 1
    assert found["OF1"] == {"value": None, "num_decisions": 0}
    assert found["per_class"]["cat"]["precision"] is None
    page = (tmp_path / "p.html").read_text()
    assert "These scores are ranks, of which only the order is meaningful" in page
    assert "</div>12</li>" in page


def test_slices(tmp_path: Path, polytag):
    (tmp_path / "s.csv").write_text("id,cat,dog\na,3,3\nb,2,2\nc,1,1\nd,0,0\ne,5,5\n")
    (tmp_path / "t.csv").write_text("id,labels,place\na,cat|dog,x\nb,,x\nc,dog,x\nd,cat,y\ne,,y\n")
    (tmp_path / "c.csv").write_text("id,camera\na,p\nb,p\nc,q\nd,q\n")
    options = ("--scores", "logit", "--truth", tmp_path / "t.csv", "--json", tmp_path / "m.json", "--report", tmp_path / "r.html")
    lines = polytag("evaluate", tmp_path / "s.csv", *options, "--slice", "place", "--slice", "num_labels").stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("place"))
    assert " ".join(lines[start].split()) == "place images classes mAP 95% interval mAP of 1 shared 95% interval"
    assert (lines[start + 1].split()[:4], lines[start + 2].split()[:4]) == (["x", "3", "2", "0.9167"], ["y", "2", "1", "0.5000"])
    content = json.loads((tmp_path / "m.json").read_text())["slices"]
    assert list(content) == ["place", "num_labels"]
    assert content["place"]["values"]["x"]["mAP"]["value"] == pytest.approx(11 / 12)
    assert content["place"]["values"]["x"]["mAP_shared_classes"]["value"] == 1
    page = (tmp_path / "r.html").read_text()
    assert "<h2>Slices</h2>" in page
    assert "mAP of 1 shared" in page

    output = polytag("evaluate", tmp_path / "s.csv", *options, "--slice", "camera", "--columns", tmp_path / "c.csv").stdout
    assert "1 images have no value of camera and are in no slice." in " ".join(output.split())
    polytag("evaluate", tmp_path / "s.csv", *options, "--slice", "num_labels", "--columns", tmp_path / "c.csv")  # built in
    with pytest.raises(UsageError) as error:
        polytag("evaluate", tmp_path / "s.csv", *options, "--columns", tmp_path / "c.csv")
    assert str(error.value) == (
        "a table of columns, none of which is used\n  got: --columns\n"
        "  expected: --slice, --group or --weight COLUMN, naming one of them"
    )


def test_intervals_draw_the_groups_of_a_column(tmp_path: Path, polytag):
    """Ids of patients that differ only as text, or beyond the digits of a float, are different patients."""
    rng = np.random.default_rng(0)
    rows = [(f"i{row}", int(rng.random() < 0.4), rng.normal()) for row in range(60)]
    (tmp_path / "a.csv").write_text("id,cat\n" + "".join(f"{name},{score + 2 * cat}\n" for name, cat, score in rows))
    (tmp_path / "b.csv").write_text("id,cat\n" + "".join(f"{name},{score + cat}\n" for name, cat, score in rows[::-1]))
    patients = [f"0{10**18 + row // 5}" if row > 4 else str(10**18 + row // 5) if row else "" for row in range(60)]
    truth = "".join(f"{name},{cat},{patient}\n" for (name, cat, _), patient in zip(rows, patients, strict=True))
    (tmp_path / "t.csv").write_text("id,cat,patient\n" + truth)
    options = ("--scores", "logit", "--truth", tmp_path / "t.csv", "--json", tmp_path / "m.json")
    options += ("--report", tmp_path / "r.html")
    polytag("evaluate", tmp_path / "a.csv", *options, "--class-column", "cat")
    narrow = json.loads((tmp_path / "m.json").read_text())
    output = polytag("evaluate", tmp_path / "a.csv", *options, "--group", "patient").stdout
    note = "Intervals draw 13 groups of patient, not images. 1 without a value: each image a group of its own."
    found = json.loads((tmp_path / "m.json").read_text())
    assert note in " ".join(output.split())
    assert note in (tmp_path / "r.html").read_text()
    assert (found["group"], found["num_groups"]) == ("patient", 13)
    assert found["mAP"]["value"] == narrow["mAP"]["value"]
    assert found["mAP"]["low"] != narrow["mAP"]["low"]
    assert "group" not in narrow

    output = polytag("compare", tmp_path / "a.csv", tmp_path / "b.csv", *options, "--group", "patient").stdout
    found = json.loads((tmp_path / "m.json").read_text())
    assert f"{note} The permutation test swaps whole groups." in " ".join(output.split())
    assert note in (tmp_path / "r.html").read_text()
    assert (found["group"], found["num_groups"]) == ("patient", 13)

    options += ("--class-column", "cat")
    for words in (("evaluate", tmp_path / "a.csv"), ("compare", tmp_path / "a.csv", tmp_path / "b.csv")):
        with pytest.raises(UsageError, match="unknown column") as unknown:
            polytag(*words, *options, "--group", "patinet")
        assert "--group" in str(unknown.value)
        with pytest.raises(UsageError, match="a table of columns, none of which is used"):
            polytag(*words, *options, "--columns", tmp_path / "t.csv")
    (tmp_path / "c.csv").write_text("id,hospital\n" + "".join(f"{name},one\n" for name, _, _ in rows))
    with pytest.raises(UsageError, match="all images are in a single group"):
        polytag("evaluate", tmp_path / "a.csv", *options, "--group", "hospital", "--columns", tmp_path / "c.csv")


def test_the_groups_of_a_truth_are_no_class_also_where_they_are_numbers(tmp_path: Path, polytag):
    """Of a table with one column per class; without --group, the numbers 0 and 1 would be a class that has no scores."""
    (tmp_path / "s.csv").write_text("id,cat\n" + "".join(f"i{row},{row % 7}\n" for row in range(40)))
    lines = "".join(f"i{row},{row % 2},{row // 20}\n" for row in range(40))
    (tmp_path / "t.csv").write_text("id,cat,ward\n" + lines)
    options = ("--scores", "logit", "--truth", tmp_path / "t.csv", "--group", "ward")
    for verb in (
        ("evaluate",), ("compare", tmp_path / "s.csv"), ("calibrate", "--dry-run"), ("labels", "issues"),
        ("thresholds", "--goal", "recall=0.1", "--confidence", "0.1", "--dry-run"),
    ):  # fmt: skip
        polytag(*verb, tmp_path / "s.csv", *options, "--json", tmp_path / "m.json")
        assert "cat" in (tmp_path / "m.json").read_text()
    polytag("evaluate", tmp_path / "s.csv", *options, "--json", tmp_path / "m.json")
    found = json.loads((tmp_path / "m.json").read_text())
    with pytest.raises(PredictionsError, match="ward"):
        polytag("evaluate", tmp_path / "s.csv", *options[:4])
    assert (list(found["per_class"]), found["num_groups"]) == (["cat"], 2)


@pytest.mark.parametrize("option", ["--slice", "--weight"])
def test_a_column_of_the_truth_to_slice_or_weight_by_is_no_class_unless_it_has_scores(option: str, tmp_path: Path, polytag):
    """As with groups: the numbers 0 and 1 of `night [0]` would be a class. `cat` is one, and slices and weights all the same."""
    (tmp_path / "s.csv").write_text("id,cat\n" + "".join(f"i{row},{row % 7}\n" for row in range(40)))
    lines = "".join(f"i{row},{row % 2},{row // 20}\n" for row in range(40))
    (tmp_path / "t.csv").write_text("id,cat,night [0]\n" + lines)
    options = ("--scores", "logit", "--truth", tmp_path / "t.csv", "--json", tmp_path / "m.json")
    for name in ("night [0]", "cat"):
        ignored = ("--ignore-column", "night*") if name == "cat" else ()
        polytag("evaluate", tmp_path / "s.csv", *options, *ignored, option, name)
        found = json.loads((tmp_path / "m.json").read_text())
        assert list(found["per_class"]) == ["cat"]
        assert list(found["slices"]) == [name] if option == "--slice" else found["weighted"]["column"] == name


def test_an_error_names_the_option_that_caused_it(tmp_path: Path, polytag):
    (tmp_path / "s.csv").write_text("id,cat,truth\na,1,cat\nb,0,\n")
    for option in ("--group", "--slice", "--weight"):
        with pytest.raises(UsageError) as error:
            polytag("evaluate", tmp_path / "s.csv", "--scores", "logit", option, "split")
        assert f"\n  where: {option} split\n" in str(error.value)


def test_images_weighted_by_a_column(tmp_path: Path, polytag):
    """By hand: the cats are first and third of four with weights 1, 3, 1, 2: AP is half of 1 plus half of 2/5."""
    (tmp_path / "s.csv").write_text("id,cat\na,4\nb,3\nc,2\nd,1\n")
    (tmp_path / "t.csv").write_text("id,labels,w\na,cat,1\nb,,3\nc,cat,1\nd,,2\n")
    (tmp_path / "c.csv").write_text("id,v\na,1\nb,-2\nc,\n")
    options = ("--scores", "logit", "--truth", tmp_path / "t.csv", "--json", tmp_path / "m.json")
    plain = polytag("evaluate", tmp_path / "s.csv", *options).stdout
    numbers = json.loads((tmp_path / "m.json").read_text())
    output = polytag("evaluate", tmp_path / "s.csv", *options, "--weight", "w").stdout
    assert output.startswith(plain)
    lines = [line.split() for line in output.removeprefix(plain).splitlines() if line]
    assert lines[:3] == [
        ["Images", "weighted", "by", "w:"],
        ["class", "AP", "95%", "interval", "share", "ROC", "AUC", "95%", "interval", "effective", "positives"],
        lines[2],
    ]
    found = json.loads((tmp_path / "m.json").read_text())
    weighted = found.pop("weighted")
    cat, mean = weighted["per_class"]["cat"], weighted["mAP"]
    of_ap, of_auc = ([f"{low:.3f}", "–", f"{high:.3f}"] for low, high in ((cat["low"], cat["high"]), cat["roc_auc_interval"]))
    assert lines[2] == ["cat", "0.7000", *of_ap, "0.2857", "0.7000", *of_auc, "2.0"]
    assert lines[4] == ["mAP", "0.7000", f"{mean['low']:.3f}", "–", f"{mean['high']:.3f}", "1", "class"]
    assert found == numbers  # the same as without weights
    assert (weighted["column"], weighted["num_images"], weighted["mAP"]["value"]) == ("w", 4, pytest.approx(0.7))
    with pytest.raises(UsageError, match=r"3 images of 4 have no usable weight(.|\n)*got: '-2' for image 'b'"):
        polytag("evaluate", tmp_path / "s.csv", *options, "--weight", "v", "--columns", tmp_path / "c.csv")
    with pytest.raises(UsageError, match="unknown column"):
        polytag("evaluate", tmp_path / "s.csv", *options, "--weight", "missing")


def test_slices_of_real_photographs(shared: Path, tmp_path: Path, polytag):
    """Scores made of the labels and noise, written as VOC's devkit wants them, for all 874 photographs of the subset's val."""
    from polytag.data.load import load_dataset

    devkit = shared / "data" / "voc-mini" / "VOCdevkit" / "VOC2012"
    val_set = load_dataset(devkit).split("val")
    score_NC = np.random.default_rng(0).normal(size=val_set.target_NC.shape) + 2 * (val_set.target_NC == 1)
    (tmp_path / "results").mkdir()
    for column, name in enumerate(val_set.label_set):
        text = "".join(f"{image} {score:f}\n" for image, score in zip(val_set.ids, score_NC[:, column], strict=True))
        (tmp_path / "results" / f"comp1_cls_val_{name}.txt").write_text(text)
    polytag("evaluate", tmp_path / "results", "--truth", devkit, "--slice", "size", "--json", tmp_path / "m.json")
    content = json.loads((tmp_path / "m.json").read_text())
    assert (content["num_images"], content["mAP"]["num_classes"]) == (874, 20)
    assert 0.4 < content["mAP"]["value"] < 0.9
    sizes = content["slices"]["size"]
    assert sum(part["num_images"] for part in sizes["values"].values()) == 874
    assert sizes["num_without"] == 0

    shutil.copytree(devkit / "ImageSets", tmp_path / "bare" / "ImageSets")  # no image at all
    polytag("evaluate", tmp_path / "results", "--truth", tmp_path / "bare", "--json", tmp_path / "bare.json")
    assert json.loads((tmp_path / "bare.json").read_text())["mAP"] == content["mAP"]
