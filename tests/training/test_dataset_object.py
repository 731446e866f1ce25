"""`train` and `resume` with a Dataset in place of a path."""

from dataclasses import replace
from pathlib import Path

import pytest

from polytag.data.load import ReadOptions, load_dataset
from polytag.errors import RunError, UsageError
from polytag.predictions.read import read_predictions
from polytag.runs.args import RunArgs, read_run_args, write_args
from polytag.runs.folder import create_run_folder
from polytag.runs.recipe import Recipe
from polytag.training.train import resume, train

RECIPE = Recipe(
    name="finetune", backbone="test_resnet", weights="random", image_size_px=32, epochs=1, batch_size=16, head_start="none",
)  # fmt: skip


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
    with pytest.raises(RunError) as error:
        resume(run.path)
    assert str(error.value) == (
        f"the run was trained on a Dataset, which is not in its folder\n  where: {run.args}\n  got: dataset: {dataset.source}\n"
        "  expected: the same Dataset\n  next: give it again, in Python: resume(run_folder, data=dataset)"
    )
    assert resume(run.path, data=dataset).folder.is_finished
