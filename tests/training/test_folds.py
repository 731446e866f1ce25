"""Runs of folds: every image scored by a model that did not see it, one set of numbers, a resume after a kill to the same bits."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from polytag.cli.main import app
from polytag.contracts import Predictions
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError, PolytagError, RunError
from polytag.inference.out_of_fold import training_images
from polytag.metrics.evaluate import evaluate_predictions
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.read import read_predictions
from polytag.predictions.table import write_predictions
from polytag.runs.args import load_folds, load_run_data, read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.model import open_run
from polytag.runs.recipe import Recipe
from polytag.training.callback import SilentCallback
from polytag.training.folds import TrainedFolds, out_of_fold_predictions, resume_folds, spread_of, train_folds
from polytag.training.train import data_of_fold, resume

RECIPE = Recipe(
    name="finetune", backbone="test_resnet", weights="random", image_size_px=32, epochs=1, batch_size=16, head_lr=3e-3,
    save_every_minutes=0, device="cpu", precision="fp32",
)  # fmt: skip


PAGES = "polytag.report.grids"
"""What a machine that only trains lacks."""


class Notes(SilentCallback):
    def __init__(self):
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def people(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours without splits, four images of each of 18 people."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "images").symlink_to(colours.parent / "images")
    lines = [line.rsplit(",", 1)[0] for line in colours.read_text().splitlines()[1:]]
    (folder / "labels.csv").write_text(
        "\n".join(["file_name,labels,person", *(f"{line},p{row // 4}" for row, line in enumerate(lines))]) + "\n"
    )
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainedFolds, list[str]]]:
    """Two folds, without pages, which take longer than the training."""
    listener, num_threads = Notes(), torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "folds"
    options = ReadOptions(group_column="person")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, PAGES, None)
        run = train_folds(people, num_folds=2, recipe=RECIPE, output=folder, options=options, callbacks=[listener])
    yield run, listener.notes
    torch.set_num_threads(num_threads)


@pytest.fixture
def copied(trained: tuple[TrainedFolds, list[str]], tmp_path: Path) -> RunFolder:
    """The finished run, to be changed."""
    return RunFolder(path=Path(shutil.copytree(trained[0].folder.path, tmp_path / "run")))


class Begun(Exception):
    """The first fold is about to be trained."""


class StopAtTheFirstFold(Notes):
    def note(self, text: str) -> None:
        super().note(text)
        if text.startswith("fold 1 of"):
            raise Begun


def test_every_image_is_scored_once_by_the_model_of_its_fold(trained, people: Path):
    run, data = trained[0].folder, load_dataset(people)
    predictions = read_predictions(run.predictions)
    assert (predictions.ids, predictions.target_NC.tolist()) == (data.ids, data.target_NC.tolist())
    assert predictions.checkpoint_id == ""
    with run.assignment.open() as file:
        fold_of = {row["id"]: row["fold"] for row in csv.DictReader(file)}
    assert set(fold_of) == set(data.ids)
    for number in (1, 2):
        fold = run.fold(number)
        own = read_predictions(fold.predictions)
        rows = [predictions.ids.index(name) for name in own.ids]
        assert np.array_equal(predictions.logit_NC[rows], own.logit_NC)
        assert {fold_of[name] for name in own.ids} == {f"fold-{number}"}
        assert set(load_run_data(read_run_args(fold)).split("train").ids) == set(data.ids) - set(own.ids)


def test_groups_stay_in_one_fold_and_what_was_done_is_written_down(trained):
    run, notes = trained[0].folder, trained[1]
    data = load_run_data(read_run_args(run))
    assert data.splits == ("fold-1", "fold-2") or data.splits == ("fold-2", "fold-1")
    assert len(set(zip(data.group_N, data.split_N, strict=True))) == 18
    environment = json.loads(run.fold(2).environment.read_text())
    assert environment["split"] == {"method": "labels", "seed": 0, "folds": 2, "group": "person"}
    assert (read_run_args(run).folds, read_run_args(run.fold(2)).fold) == (2, 2)
    assert notes[0] == "72 images in 2 folds, stratified by label"
    assert notes[1].startswith("fold 1 of 2: ")


def test_one_set_of_numbers_and_their_spread(trained):
    run = trained[0].folder
    numbers = json.loads(run.metrics.read_text())
    metrics = evaluate_predictions(read_predictions(run.predictions))
    assert numbers["mAP"]["value"] == metrics.mean_ap.value == trained[0].metrics.mean_ap.value
    folds = [json.loads(run.fold(number).metrics.read_text())["mAP"]["value"] for number in (1, 2)]
    assert [each["mAP"] for each in numbers["folds"]["per_fold"]] == folds == list(trained[0].map_of_folds)
    assert numbers["folds"]["mAP"] == spread_of(folds)
    assert spread_of([1.0, 3.0]) == {"mean": 2.0, "sd": pytest.approx(2**0.5), "low": 1.0, "high": 3.0}


def test_a_resume_after_the_last_fold_writes_the_numbers_and_the_report_of_all(trained, copied: RunFolder):
    copied.metrics.unlink()
    copied.predictions.unlink()
    listener = Notes()
    resume_folds(copied.path, callbacks=[listener])
    assert [note for note in listener.notes if note.startswith("fold ")] == [f"fold {number} of 2 is finished" for number in (1, 2)]
    for name in ("predictions-val.parquet", "metrics.json"):
        assert (copied.path / name).read_bytes() == (trained[0].folder.path / name).read_bytes()
    assert "mAP of the folds" in copied.report.read_text()


def test_a_finished_run_is_read_back_without_its_data(trained, copied: RunFolder):
    for args in copied.path.rglob("args.yaml"):
        args.write_text(args.read_text().replace("labels.csv", "gone.csv"))
    listener = Notes()
    again = resume_folds(copied.path, callbacks=[listener])
    assert again.metrics.mean_ap.value == trained[0].metrics.mean_ap.value
    assert listener.notes[0] == f"{copied.path} is finished; nothing to resume"


def test_out_of_fold_predictions_say_what_an_absent_label_means(people: Path):
    dataset = load_dataset(people, options=ReadOptions(absent_means="unknown")).take(range(4))
    parts = [
        Predictions(
            ids=part.ids,
            logit_NC=np.zeros((2, 3)),
            target_NC=part.target_NC,
            label_set=part.label_set,
            absent_means=part.absent_means,
        )
        for part in (dataset.take([1, 3]), dataset.take([0, 2]))
    ]
    together = out_of_fold_predictions(dataset, parts)
    assert (together.ids, together.absent_means) == (dataset.ids, "unknown")


def test_runs_of_folds_are_compared_image_by_image(trained, copied: RunFolder):
    """The same folds without a word, other folds with a note; a recipe is compared by its runs of folds."""
    predictions = read_predictions(copied.predictions)
    write_predictions(replace(predictions, logit_NC=-predictions.logit_NC), copied.predictions)
    both = [str(trained[0].folder.path), str(copied.path)]
    out = copied.path / "comparison.json"
    assert "other folds" not in command("compare", *both, "--permutations", "99", "--json", str(out))
    found = json.loads(out.read_text())
    assert found["num_images"] == 72
    assert found["group"] == "person"
    copied.assignment.write_text(copied.assignment.read_text().replace("fold-1", "fold-3"))
    said = command("compare", *both, "--permutations", "99")
    assert "note: the runs divided their images into other folds; they are still paired image by image" in said


def test_what_has_no_one_model_to_save_it_in_is_shown_alone(copied: RunFolder):
    before = sorted(copied.path.rglob("*"))
    for verb in (("thresholds",), ("calibrate",)):
        said = command(*verb, str(copied.path))
        assert (
            f"Nothing is saved: a run of folds has a model for each of them. To save, give a fold, such as {copied.fold(1).path}."
            in said
        )
    assert sorted(copied.path.rglob("*")) == before


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


_KILLED = """
import os, signal, sys
import torch
from polytag.training.callback import SilentCallback
from polytag.training.folds import resume_folds

class Kill(SilentCallback):
    def progress(self, num_images, **numbers):
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
resume_folds(sys.argv[1], callbacks=[Kill()])
"""


@pytest.mark.slow
def test_killed_in_a_fold_and_resumed_gives_the_same_bits(trained, copied: RunFolder, monkeypatch: pytest.MonkeyPatch):
    """From a second fold of which a kill left the folder alone: begun, killed again in its training, and continued."""
    for left in (copied.metrics, copied.predictions):
        left.unlink()
    shutil.rmtree(copied.fold(2).path)
    copied.fold(2).path.mkdir()
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(copied.path)], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (copied.fold(1).is_finished, copied.fold(2).is_run, copied.fold(2).is_finished) == (True, True, False)
    monkeypatch.setitem(sys.modules, PAGES, None)
    listener = Notes()
    resume_folds(copied.path, callbacks=[listener])
    assert [note for note in listener.notes if note.startswith("fold ")] == ["fold 1 of 2 is finished", "fold 2 of 2"]
    for name in ("predictions-val.parquet", "metrics.json", "fold-2/best/model.safetensors", "fold-2/last/model.safetensors"):
        assert (copied.path / name).read_bytes() == (trained[0].folder.path / name).read_bytes()


def test_a_dataset_is_divided_as_its_path_and_a_resume_needs_it_again(
    trained, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(people.parent)
    dataset = load_dataset(people, options=ReadOptions(group_column="person"))
    given = replace(dataset, paths=tuple(path.relative_to(people.parent) for path in dataset.paths))
    run = RunFolder(path=tmp_path / "run")
    with pytest.raises(Begun):
        train_folds(given, num_folds=2, recipe=RECIPE, output=run.path, callbacks=[StopAtTheFirstFold()])
    assert run.assignment.read_bytes() == trained[0].folder.assignment.read_bytes()
    assert run.groups.read_bytes() == trained[0].folder.groups.read_bytes()
    assert failure(resume_folds, run.path, kind=DataError) == (
        f"the run was trained on a Dataset, which is not in its folder\n  where: {dataset.source}\n"
        "  expected: the same Dataset, or a run that `polytag train DATA` or `train(path)` made\n"
        "  next: to go on, give it again in Python: resume(run_folder, data=dataset), or resume_folds for a run of folds"
    )
    with pytest.raises(Begun):
        resume_folds(run.path, data=given, callbacks=[StopAtTheFirstFold()])


def failure(call, *arguments, kind: type[PolytagError] = RunError) -> str:
    with pytest.raises(kind) as error:
        call(*arguments)
    return str(error.value)


def test_changed_labels_are_refused(copied: RunFolder, people: Path, tmp_path: Path):
    run = copied
    run.metrics.unlink()
    (tmp_path / "images").symlink_to(people.parent / "images")
    lines = people.read_text().splitlines()
    (tmp_path / "labels.csv").write_text(
        "\n".join([lines[0], lines[1].replace("000", "001"), lines[2].replace("001", "000"), *lines[3:]])
    )
    run.args.write_text(run.args.read_text().replace(str(people), str(tmp_path / "labels.csv")))
    message = failure(resume_folds, run.path)
    assert message.startswith(f"the data have changed since this run began\n  where: csv {tmp_path / 'labels.csv'}\n")
    assert message.endswith("next: start a new run, or put images, splits and labels back as they were")


def test_what_a_run_of_folds_is_not(trained):
    run = trained[0].folder
    assert failure(resume, run.path) == (
        f"this is a run of folds\n  where: {run.path}\n  got: 2 folds\n  expected: a run of one model\n"
        "  next: continue it with `polytag train --resume`, or in Python with `resume_folds`"
    )
    assert failure(resume_folds, run.fold(1).path) == (
        f"this run has no folds\n  where: {run.fold(1).path}\n  got: the run of fold 1\n"
        "  expected: a run that `polytag train --folds K` made"
    )
    assert failure(Checkpoint.read, run.path, kind=PolytagError) == (
        f"a run of folds has a model for each of them\n  where: {run.path}\n  got: fold-1, fold-2, ...\n"
        "  expected: a run or a checkpoint with one model\n"
        f"  next: give a fold, such as {run.path / 'fold-1'}, or train one model on all images, without --folds"
    )
    assert failure(training_images, run, kind=PolytagError) == (
        "a run of folds has no training images of its own: all its images are scored out-of-fold\n"
        f"  where: {run.path}\n  got: --split train\n"
        f"  expected: the run without --split, or the run of a fold, such as {run.path / 'fold-1'}"
    )
    assert open_run(run.path) is None


def test_folds_that_the_annotations_name(people: Path, tmp_path: Path):
    """Leave one hospital out: the column decides, and the names are kept."""
    (tmp_path / "images").symlink_to(people.parent / "images")
    rows = [line.rsplit(",", 1)[0] for line in people.read_text().splitlines()[1:]]
    lines = [f"{line},{('Bern', 'Rome')[row % 2]}" for row, line in enumerate(rows)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,labels,hospital", *lines]) + "\n")
    listener = StopAtTheFirstFold()
    options = ReadOptions(split_column="hospital")
    run = RunFolder(path=tmp_path / "run")
    with pytest.raises(Begun):
        train_folds(tmp_path / "labels.csv", num_folds=2, recipe=RECIPE, output=run.path, options=options, callbacks=[listener])
    assert listener.notes[0] == "72 images in 2 folds, as the annotations name them: Bern, Rome"
    assert run.assignment.read_text().splitlines()[:3] == [
        "id,fold,name",
        "images/000.png,fold-1,Bern",
        "images/001.png,fold-2,Rome",
    ]
    args = replace(read_run_args(run), fold=1)
    data = data_of_fold(args, load_folds(args))
    assert data.split == {"method": "annotations"}
    assert all(int(Path(name).stem) % 2 == 0 for name in data.dataset.split("val").ids)


def test_a_fold_of_which_nothing_can_be_learned_leaves_no_folder(people: Path, tmp_path: Path):
    (tmp_path / "labels.csv").write_text(
        "file_name,labels,split\n"
        + "".join(f"{people.parent}/images/{row:03}.png,{'red' if row < 9 else ''},{'ab'[row < 9]}\n" for row in range(20))
    )
    with pytest.raises(
        PolytagError, match=r"fold 1 of 2: no class has a negative in split 'train'(?s:.*)  next: take fewer folds; "
    ):
        train_folds(tmp_path / "labels.csv", num_folds=2, recipe=RECIPE, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
