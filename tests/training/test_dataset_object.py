"""What `train` and `resume` are given: a Dataset in place of a path, and a path with polytag.yaml beside it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from polytag.data.load import ReadOptions, load_dataset
from polytag.errors import DataError, UsageError
from polytag.predictions.read import read_predictions
from polytag.runs.args import RunArgs, read_run_args, write_args
from polytag.runs.folder import create_run_folder
from polytag.runs.recipe import Recipe
from polytag.training.train import args_of, resume, train

RECIPE = Recipe(
    name="finetune", backbone="test_resnet", weights="random", image_size_px=32, epochs=1, batch_size=16, head_start="none",
    device="cpu", precision="fp32",
)  # fmt: skip


@pytest.fixture(autouse=True)
def without_pages(monkeypatch: pytest.MonkeyPatch):
    """As on a machine that only trains: the pages take longer than the training."""
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)


def test_a_dataset_trains_as_its_path_does(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(colours.parent)
    dataset = load_dataset(colours)
    relative = replace(dataset, paths=tuple(path.relative_to(colours.parent) for path in dataset.paths))
    run = train(relative, recipe=RECIPE, output=tmp_path / "run")
    assert read_run_args(run.folder).dataset == dataset.source
    predictions = read_predictions(run.folder.predictions)
    assert predictions.image_paths == tuple(map(str, dataset.split("val").paths)), "paths are absolute"
    assert resume(run.folder.path).checkpoint.id == run.checkpoint.id, "a finished run needs no data"
    with pytest.raises(UsageError, match="options for reading a Dataset, which is read already"):
        train(dataset, recipe=RECIPE, output=tmp_path / "other", options=ReadOptions())
    assert not (tmp_path / "other").exists()


def test_an_interrupted_run_of_a_dataset_needs_it_again(colours: Path, tmp_path: Path):
    dataset = load_dataset(colours)
    run = create_run_folder(tmp_path / "run")
    write_args(run, RunArgs(recipe=RECIPE, data=None, dataset=dataset.source, options=ReadOptions()))
    with pytest.raises(
        DataError, match=f"the run was trained on a Dataset, which is not in its folder\n  where: {dataset.source}\n"
    ):
        resume(run.path)
    assert resume(run.path, data=dataset).folder.is_finished


def test_groups_that_polytag_yaml_names_are_those_of_the_run(tmp_path: Path):
    """Else the run would have no groups.csv, and its intervals would count dependent images as independent."""
    (tmp_path / "labels.csv").write_text("file_name,labels\n")
    (tmp_path / "polytag.yaml").write_text("group_column: patient\ncolumns_file: patients.csv\n")
    options = args_of(tmp_path, options=None, recipe=RECIPE)[0].options
    assert (options.group_column, options.columns_file) == ("patient", str(tmp_path / "patients.csv"))
