"""`polytag train`, from the command line to everything that a run folder holds."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from polytag.cli.train import parse_backbone_args
from polytag.data.groups import divided_groups
from polytag.data.load import load_dataset
from polytag.data.read_options import FORMATS, ReadOptions
from polytag.data.splits import with_validation_split
from polytag.errors import DataError, UsageError
from polytag.inference.predictor import Predictor
from polytag.metrics.evaluate import evaluate_predictions
from polytag.models.backbone import build_model
from polytag.models.checkpoint import Checkpoint
from polytag.models.heads import head_parameters
from polytag.predictions.read import read_predictions
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE
from polytag.training.callback import SilentCallback
from polytag.training.train import train


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(run / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_labels_of_one_kind_are_refused_before_any_work(tmp_path: Path):
    """A table of 1 and -1, and a tree of one folder: any model would have a mAP of 1."""
    (tmp_path / "images").mkdir()
    for number in range(8):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    table = tmp_path / "labels.csv"
    table.write_text("image,cat,dog\n" + "".join(f"images/{number}.png,{1 - 2 * (number % 2)},1\n" for number in range(8)))
    for data in (table, tmp_path):
        options = ReadOptions(format="folder", accept_doubts=True) if data == tmp_path else ReadOptions(minus_one="ignore")
        with pytest.raises(DataError, match=r"no class has a negative in split 'train'"):
            train(
                data, recipe=replace(FINETUNE, backbone="test_resnet", weights="random"), output=tmp_path / "run", options=options
            )
        assert not (tmp_path / "run").exists()


# ---- the run folder ----


def test_the_run_folder_holds_what_the_design_says(run: Path):
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    checkpoint = ("README.md", "config.json", "model.safetensors")
    assert files == {
        "args.yaml", "env.json", "metrics.json", "predictions-val.parquet", "report.html", "results.csv", "thresholds.json",
        *(f"{folder}/{name}" for folder in ("best", "last") for name in checkpoint),
        "state/lock", "state/state.pt",
        *(f"plots/{name}.png" for name in ("loss", "mean-average-precision", "precision-recall", "tail-accuracy")),
        *(f"grids/{name}-{end}.png" for name in ("red", "green", "blue") for end in ("top", "bottom", "bottom-positives")),
    }  # fmt: skip


def test_what_it_prints_is_the_number_where_everything_lies_and_what_to_type_next(trained):
    run, result = trained
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    mean = json.loads((run / "metrics.json").read_text())["mAP"]
    assert lines[0] == "read as    csv"
    heading = next(number for number, line in enumerate(lines) if line.endswith("seconds"))
    assert [line.split()[0] for line in lines[heading + 1 : heading + 3]] == ["1", "2"]
    best = Checkpoint.read(run).facts["epoch"]
    assert lines[heading + 3 :] == [
        "",
        f"validation mAP {mean['value']:.4f}  {mean['low']:.3f} – {mean['high']:.3f}  over 3 classes, 24 images (epoch {best})",
        "",
        f"  report   {run}/report.html",
        f"  model    {run}/best",
        "",
        "Next:",
        f"  polytag inspect {run}",
        f"  polytag predict {run} IMAGE...",
        f"  polytag evaluate {run}/predictions-val.parquet",
    ]
    assert result.stderr == ""


def test_results_have_a_row_an_epoch(run: Path):
    rows = rows_of(run)
    assert list(rows[0]) == [
        "epoch", "train_loss", "val_loss", "train_map", "val_map", "head_lr", "backbone_lr", "images_per_second", "seconds",
    ]  # fmt: skip
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(value) > 0 for row in rows for value in row.values())


def test_args_and_environment_say_how_it_was_made(run: Path, colours: Path):
    args = yaml.safe_load((run / "args.yaml").read_text())
    assert args["data"] == str(colours)
    chosen = {
        "backbone": "test_resnet", "weights": "random", "image_size_px": 32, "batch_size": 8, "epochs": 2, "seed": 3,
        "head_lr": 0.03, "device": "cpu",
    }  # fmt: skip
    wanted = asdict(replace(FINETUNE, **chosen, head="linear"))  # what `auto` is for this backbone
    assert args["recipe"] == {**wanted, "ends": list(wanted["ends"])}
    assert set(args["recipe"]) == {field.name for field in fields(FINETUNE)}
    environment = json.loads((run / "env.json").read_text())
    assert set(environment) == {
        "python", "versions", "system", "processor", "num_threads", "num_processes", "arithmetic", "images", "split",
        "data_fingerprint", "validation_fingerprint", "commit", "command",
    }  # fmt: skip
    assert environment["data_fingerprint"] == load_dataset(colours).fingerprint
    assert environment["validation_fingerprint"] == load_dataset(colours).split("val").fingerprint
    assert environment["split"] == {"method": "annotations"}
    assert environment["num_threads"] >= 1


def test_the_best_epoch_is_the_one_with_the_highest_validation_map(run: Path):
    facts = Checkpoint.read(run / "best").facts
    val_maps = [float(row["val_map"]) for row in rows_of(run)]
    assert facts["epoch"] == 1 + int(np.argmax(val_maps))
    assert facts["val_map"] == pytest.approx(max(val_maps), abs=1e-5)
    assert Checkpoint.read(run / "last").facts["epoch"] == 2


def test_what_is_recorded_is_what_the_saved_best_gives_again(run: Path, colours: Path):
    recorded = read_predictions(run / "predictions-val.parquet")
    checkpoint = Checkpoint.read(run / "best")
    assert recorded.checkpoint_id == checkpoint.id
    again = Predictor.load(checkpoint, device="cpu").score(load_dataset(colours).split("val"))
    assert again.ids == recorded.ids
    assert again.logit_NC.tobytes() == recorded.logit_NC.tobytes()
    assert again.target_NC.tobytes() == recorded.target_NC.tobytes()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == evaluate_predictions(again).to_json()
    assert metrics["mAP"]["value"] == pytest.approx(max(float(row["val_map"]) for row in rows_of(run)), abs=1e-5)
    assert metrics["mAP"]["value"] > 0.7  # two epochs are enough to learn colours


def test_thresholds_are_named_by_class(run: Path):
    written = json.loads((run / "thresholds.json").read_text())
    assert written["thresholds"] == {"blue": 0.5, "green": 0.5, "red": 0.5}
    assert (written["goal"], written["confidence"], written["calibration"]) == ("default", None, "")
    assert written["checkpoint_id"] == Checkpoint.read(run).id


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_also_to_two_runs_started_under_one_name_at_once(
    run: Path, command: tuple[str, ...], tmp_path: Path
):
    """Two processes of their own against the run of this one, all with the same number of threads."""
    line = [sys.executable, "-m", "polytag", *command, "--output", str(tmp_path / "run")]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, ""), out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]
    for other in tmp_path.iterdir():
        for name in ("predictions-val.parquet", "best/model.safetensors", "last/model.safetensors", "metrics.json"):
            assert (other / name).read_bytes() == (run / name).read_bytes(), name


def test_a_probe_that_fine_tuning_only_harms_stays_the_best(colours: Path, tmp_path: Path, quick, polytag):
    """Epoch 0 is the probe; a learning rate of 1 ruins everything after it."""
    model = build_model("test_resnet", num_classes=3)
    start = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(start, tmp_path / "start.safetensors")
    options = ("--weights", tmp_path / "start.safetensors", "--head-lr", "1", "--backbone-lr", "1", "--augment", "none")
    polytag("train", colours, *quick, *options, "--epochs", "1", "--output", tmp_path / "r")
    rows = rows_of(tmp_path / "r")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[0]["val_map"]) > float(rows[1]["val_map"])
    assert (rows[0]["train_loss"], rows[0]["head_lr"]) == ("", "")
    best, last = Checkpoint.read(tmp_path / "r"), Checkpoint.read(tmp_path / "r" / "last")
    assert (best.facts["epoch"], last.facts["epoch"], best.id != last.id) == (0, 1, True)
    found = load_file(best.folder / "model.safetensors")
    changed = {name for name, value in start.items() if not torch.equal(found[name], value)}
    assert changed == head_parameters(model)
    value = json.loads((tmp_path / "r" / "metrics.json").read_text())["mAP"]["value"]
    assert value == pytest.approx(float(rows[0]["val_map"]), abs=1e-5)


def test_results_and_checkpoints_are_written_as_it_goes(colours: Path, tmp_path: Path):
    recipe = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, epochs=3, batch_size=24, device="cpu")
    seen: list[tuple[int, int, int]] = []

    class Onlooker(SilentCallback):
        def epoch(self, row) -> None:  # told when an epoch is over, before it is saved
            run = tmp_path / "run"
            if not (run / "results.csv").is_file():
                seen.append((int(row["epoch"]), 0, 0))
                return
            assert not (run / "metrics.json").exists()
            seen.append((int(row["epoch"]), len(rows_of(run)), int(str(Checkpoint.read(run / "last").facts["epoch"]))))

    train(colours, recipe=recipe, output=tmp_path / "run", callbacks=[Onlooker()])
    assert seen == [(1, 0, 0), (2, 1, 1), (3, 2, 2)]


# ---- recipes, names, data without splits ----


def test_the_probe_and_the_name_a_run_gets_by_itself(colours: Path, tmp_path: Path, quick, polytag, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("labels-probe", "labels-probe-2"):
        result = polytag("train", colours, *quick, "--recipe", "probe")
        run = Path("runs") / name
        assert f"  model    {run}/best" in result.stdout.splitlines()
        assert "probe: L2 strength " in result.stdout
        assert [row["epoch"] for row in rows_of(run)] == ["0"]
        facts = Checkpoint.read(run).facts
        assert (facts["recipe"], facts["epoch"]) == ("probe", 0)
        assert (run / "metrics.json").is_file()
    assert sorted(path.name for path in Path("runs").iterdir()) == ["labels-probe", "labels-probe-2"]


def test_data_without_a_split_get_one_and_broken_images_are_told(colours: Path, tmp_path: Path, quick, polytag):
    lines = [line.rpartition(",")[0] for line in colours.read_text().splitlines()]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "images").mkdir()
    for path in (colours.parent / "images").iterdir():
        (tmp_path / "images" / path.name).symlink_to(path)
    divided = with_validation_split(load_dataset(tmp_path / "data.csv"))
    broken = {name: divided.split(name).paths[0] for name in ("train", "val")}
    for path in broken.values():
        path.unlink()
        path.write_bytes(b"not an image")
    output = polytag("train", tmp_path / "data.csv", *quick, "--recipe", "probe", "--output", tmp_path / "run").stdout
    told = " ".join(output.split())
    assert "the annotations name no split: 14 of 72 images, stratified by label, are held out for validation" in told
    assert f"1 training images could not be read and were skipped: images/{broken['train'].name}" in told
    assert "1 validation images could not be read and are in no number" in told
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["num_images"] == 13


def test_groups_stay_together_and_a_resume_keeps_them(colours: Path, tmp_path: Path, quick, polytag):
    """The table of groups is found again from another folder; `labels issues` of the training images keeps the split too."""
    lines = [line.rpartition(",")[0] for line in colours.read_text().splitlines()]
    data, table, run = tmp_path / "data.csv", tmp_path / "patients.csv", tmp_path / "run"
    data.write_text("\n".join(lines) + "\n")
    (tmp_path / "images").symlink_to(colours.parent / "images")
    table.write_text("id,patient\n" + "".join(f"images/{row:03}.png,p{row // 4}\n" for row in range(72)))
    given = ("--group", "patient", "--columns", os.path.relpath(table))
    told = " ".join(polytag("train", data, *quick, *given, "--epochs", "1", "--output", run).stdout.split())
    assert "14 of 72 images" not in told
    assert "16 of 72 images (4 of 18 groups of patient), stratified by label, are held out for validation" in told
    options = read_run_args(RunFolder(path=run)).options
    assert (options.group_column, options.columns_file) == ("patient", str(table))
    divided = load_run_data(read_run_args(RunFolder(path=run)))
    assert read_predictions(run / "predictions-val.parquet").ids == divided.split("val").ids
    assert not divided_groups(divided)
    for name in ("metrics.json", "predictions-val.parquet"):  # as after a kill
        (run / name).unlink()
    resumed = polytag("train", "--resume", run)
    assert read_predictions(run / "predictions-val.parquet").ids == divided.split("val").ids
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["group"], metrics["num_groups"]) == ("patient", 4)
    assert "--group patient, as in the training of run: 4 groups in 16 images" in " ".join(told.split())
    assert "--group patient, as in the training of run: 4 groups in 16 images" in " ".join(resumed.stdout.split())
    assert (run / "groups.csv").read_text().splitlines()[:2] == ["id,group", "images/000.png,p0"]


def test_a_patient_in_both_splits_is_told(colours: Path, tmp_path: Path, quick, polytag):
    table = tmp_path / "patients.csv"
    table.write_text("id,patient\nimages/000.png,p\nimages/001.png,p\nimages/050.png,p\n")
    output = polytag(
        "train", colours, *quick, "--recipe", "probe", "--group", "patient", "--columns", table, "--output", tmp_path / "run"
    ).stdout
    assert (
        "1 group of dependent images is in more than one split, so validation scores are too high: p (2 train, 1 val)"
        in " ".join(output.split())
    )


# ---- options ----


def test_backbone_args_are_yaml_scalars():
    assert parse_backbone_args(["a=3", "b=0.1", "c=true", "d=same", "e=x=y", "f="]) == {
        "a": 3, "b": 0.1, "c": True, "d": "same", "e": "x=y", "f": None,
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["drop_rate", "=3"])
def test_a_backbone_arg_that_is_no_pair(colours: Path, pair: str, polytag):
    with pytest.raises(UsageError) as error:
        polytag("train", colours, "--backbone-arg", pair)
    assert str(error.value) == (
        f"not a KEY=VALUE pair\n  where: --backbone-arg\n  got: '{pair}'\n  expected: such as pad_type=same"
    )


def test_backbone_args_reach_the_model_and_its_checkpoint(colours: Path, tmp_path: Path, quick, polytag):
    polytag(
        "train", colours, *quick, "--recipe", "probe", "--output", tmp_path / "r",
        "--backbone-arg", "drop_rate=0.25", "--backbone-arg", "output_stride=16",
    )  # fmt: skip
    assert Checkpoint.read(tmp_path / "r").backbone_args == {"drop_rate": 0.25, "output_stride": 16}
    assert yaml.safe_load((tmp_path / "r" / "args.yaml").read_text())["recipe"]["backbone_args"]["drop_rate"] == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "quick"), "unknown recipe\n  where: --recipe\n  got: 'quick'\n  expected: one of finetune, probe, baseline"),
        (("--loss", "hinge"), "unknown loss\n  got: 'hinge'\n  expected: one of auto, bce, focal, asl, ll-r"),
        (("--crops", "six"), "unknown crops\n  got: 'six'\n  expected: one of center, flip, five, ten"),
        (("--format", "doc"), "unknown format\n  got: 'doc'\n  expected: one of auto, " + ", ".join(FORMATS)),
        (("--device", "tpu"), "unknown device\n  where: --device\n  got: 'tpu'\n  expected: auto, cpu or cuda"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_leave_no_folder(colours: Path, tmp_path: Path, quick, polytag, options, message: str):
    with pytest.raises(UsageError) as error:
        polytag("train", colours, *quick, *options, "--output", tmp_path / "run")
    assert str(error.value) == message
    assert not (tmp_path / "run").exists()


def test_a_missing_split_is_told_before_anything_is_made(colours: Path, tmp_path: Path, quick, polytag):
    text = colours.read_text().replace(",val", ",holdout").replace("images/", f"{colours.parent}/images/")
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(DataError) as error:
        polytag("train", tmp_path / "data.csv", *quick, "--output", tmp_path / "run")
    assert str(error.value) == (
        f"the split 'val' is missing\n  where: csv {tmp_path / 'data.csv'}\n  got: 'train', 'holdout'\n"
        "  expected: images in split 'val'\n"
        "  next: add the split to the annotations; `polytag data check` shows what was read"
    )
    assert not (tmp_path / "run").exists()


# ---- --resume ----


def test_a_finished_run_is_returned_as_it_is(trained, polytag):
    run, first = trained
    before = (run / "metrics.json").stat().st_mtime_ns
    lines = polytag("train", "--resume", run).stdout.splitlines()
    assert "".join(lines[: lines.index("")]) == f"{run} is finished; nothing to resume"
    shown = first.stdout.splitlines()
    assert lines[lines.index("") :] == shown[shown.index("") :]
    assert (run / "metrics.json").stat().st_mtime_ns == before


def test_resume_goes_alone(run: Path, colours: Path, polytag):
    for given, got in (((), "neither"), ((colours, "--resume", run), "both")):
        with pytest.raises(UsageError) as error:
            polytag("train", *given)
        assert str(error.value) == (
            f"give either DATA or --resume RUN_DIR\n  got: {got}\n"
            "  next: `polytag train DATA`, or `polytag train --resume runs/NAME`"
        )


@pytest.mark.parametrize(
    ("options", "got"),
    [
        (("--epochs", "9"), "--epochs"),
        (("--recipe", "finetune"), "--recipe"),
        (("--output", "elsewhere"), "--output"),
        (("--format", "csv"), "--format"),
        (("--image-size", "64", "--backbone-arg", "a=1", "--class-column", "red"), "--backbone-arg, --class-column, --image-size"),
    ],
)
def test_a_resumed_run_keeps_its_recipe(run: Path, polytag, options: tuple[str, ...], got: str):
    with pytest.raises(UsageError) as error:
        polytag("train", "--resume", run, *options)
    assert str(error.value) == (
        f"a resumed run keeps its recipe\n  where: --resume\n  got: {got}\n  next: leave those options out, or start a new run"
    )


# ---- images in other folders ----


def test_image_folders_are_found_again_on_resume_from_another_working_folder(
    scattered: tuple[str, ...], quick, tmp_path: Path, polytag, monkeypatch: pytest.MonkeyPatch
):
    polytag("train", *scattered, *quick, "--epochs", "1", "--output", tmp_path / "run")
    args = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert args["reading"]["image_dirs"] == [str(tmp_path / "one"), str(tmp_path / "two")]
    expected = (tmp_path / "run" / "metrics.json").read_text()
    (tmp_path / "run" / "metrics.json").unlink()  # as if it was killed before the end
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    polytag("train", "--resume", tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").read_text() == expected
    paths = read_predictions(tmp_path / "run" / "predictions-val.parquet").image_paths
    assert {Path(path).parent for path in paths} == {tmp_path / "one", tmp_path / "two"}
