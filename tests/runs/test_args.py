"""args.yaml: a run works from another folder, and with its data at another place; a Dataset is named and not stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from polytag.contracts import Dataset, LabelSet
from polytag.data.load import ReadOptions
from polytag.errors import DataError
from polytag.runs.args import RunArgs, load_run_data, read_run_args, write_args
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE


def project(folder: Path) -> RunFolder:
    """Data, images, a table of columns and weights, all beside the runs; the run is in runs/r."""
    for name in ("data", "images", "runs/r"):
        (folder / name).mkdir(parents=True)
    (folder / "data/labels.csv").write_text("file_name,labels,split\na.jpg,cat,train\nb.jpg,dog,val\n")
    for name in ("a.jpg", "b.jpg"):
        (folder / "images" / name).write_bytes(b"")
    (folder / "patients.csv").write_text("id,patient\na.jpg,p\n")
    (folder / "w.safetensors").write_bytes(b"")
    return RunFolder(path=folder / "runs/r")


def test_relative_paths_work_from_another_folder_and_where_the_project_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = tmp_path / "here"
    project(here)
    monkeypatch.chdir(here)
    options = ReadOptions(image_dirs=("images",), group_column="patient", columns_file="patients.csv")
    recipe = replace(FINETUNE, weights="w.safetensors")
    write_args(RunFolder(path=Path("runs/r")), RunArgs(recipe=recipe, data=Path("data"), options=options))
    monkeypatch.chdir(tmp_path)
    for place in (here, tmp_path / "there"):
        if place != here:
            here.rename(place)
        args = read_run_args(RunFolder(path=place / "runs/r"))
        assert args.data == place / "data"
        assert (args.options.image_dirs, args.options.columns_file) == ((str(place / "images"),), str(place / "patients.csv"))
        assert args.recipe.weights == str(place / "w.safetensors")
        dataset = load_run_data(args)
        assert dataset.paths == (place / "images/a.jpg", place / "images/b.jpg")
        assert dataset.group_N == ("p", "")


def test_the_place_in_the_file_comes_first_and_is_named_where_both_are_gone(tmp_path: Path):
    """A run folder that is copied into another project, with other data at the same place, keeps its own."""
    run = project(tmp_path / "here")
    write_args(run, RunArgs(recipe=FINETUNE, data=tmp_path / "here/data", options=ReadOptions()))
    copy = project(tmp_path / "there")
    copy.args.write_bytes(run.args.read_bytes())
    assert read_run_args(copy).data == tmp_path / "here/data"
    for name in ("here", "there"):
        (tmp_path / name / "data").rename(tmp_path / name / "gone")
    assert read_run_args(copy).data == tmp_path / "here/data"


def test_a_dataset_is_named_and_not_stored(tmp_path: Path):
    run = RunFolder(path=tmp_path)
    dataset = Dataset(
        ids=("a",),
        paths=(Path("a.jpg"),),
        target_NC=np.array([[1]]),
        split_N=("train",),
        label_set=LabelSet(names=("cat",)),
        source="mine",
    )
    write_args(run, RunArgs(recipe=FINETUNE, data=None, dataset=dataset.source, options=ReadOptions()))
    assert yaml.safe_load(run.args.read_text())["dataset"] == "mine"
    args = read_run_args(run)
    assert (args.data, args.dataset) == (None, "mine")
    with pytest.raises(DataError) as error:
        load_run_data(args)
    assert str(error.value) == (
        "the run was trained on a Dataset, which is not in its folder\n  where: mine\n"
        "  expected: the same Dataset, or a run that `polytag train DATA` or `train(path)` made\n"
        "  next: to go on, give it again in Python: resume(run_folder, data=dataset), or resume_folds for a run of folds"
    )
