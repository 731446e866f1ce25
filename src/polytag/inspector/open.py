"""A run folder or a file of scores, opened for the inspector: its scores, labels, images and model, as far as they are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytag.errors import PolytagError, UsageError
from polytag.runs.folder import RunFolder, predictions_path
from polytag.runs.history import read_history

if TYPE_CHECKING:
    from rich.console import Console

    from polytag.contracts import Dataset, Predictions
    from polytag.data.load import ReadOptions
    from polytag.inspector.inspection import ComparedRun, Inspection
    from polytag.predictions.read import LabelledPredictions


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """What the command line says beside the run or file itself."""

    split: str = "val"
    compare_with: Path | None = None
    image_dirs: Sequence[str] = ()
    truth: Path | None = None
    scale: str | None = None
    columns: Path | None = None


def open_inspection(path: Path, asked: OpenOptions, *, options: "ReadOptions", errors: "Console") -> "Inspection":
    """Everything the pages show of one run or file; what is missing beside the scores is told in a note, and left out.

    Raises PolytagError where the scores themselves cannot be had.
    """
    from polytag.inspector.inspection import Inspection
    from polytag.inspector.review.store import review_file_of
    from polytag.predictions.read import LabelledPredictions, read_labelled

    run = RunFolder(path=path)
    is_run = run.is_run
    if asked.split != "val" and not is_run:
        raise UsageError("only a run folder has training images", where="--split", got=str(path), expected="a run folder")
    data, data_path, data_options = _data_of_run(path, errors=errors) if is_run else (None, asked.truth, options)
    if is_run and asked.split == "train":
        labelled = LabelledPredictions(predictions=_training_scores(path, data=data, errors=errors))
    else:
        labelled = read_labelled(run.predictions if is_run else path, scale=asked.scale or "", truth=asked.truth, options=options)
    for note in labelled.notes:
        _note(errors, note)
    data = data or labelled.dataset
    predictions = _with_paths(labelled.predictions, data=data, image_dirs=asked.image_dirs)
    threshold_C, goal = _thresholds(run.predictions if is_run else path, predictions)
    return Inspection(
        name=path.resolve().name if path.is_dir() else path.stem,
        review_file=review_file_of(path),
        predictions=predictions,
        threshold_C=threshold_C,
        goal=goal,
        split=asked.split if is_run else "",
        history=read_history(run) if is_run else (),
        facts=_facts(path, predictions) if is_run else {},
        compared=_compared(asked, first=predictions, options=options) if asked.compare_with else None,
        checkpoint=run.best if is_run and (run.best / "config.json").is_file() else None,
        data=data,
        data_path=data_path,
        data_options=data_options,
        column_N=_columns(replace(labelled, predictions=predictions), asked),
    )


def _data_of_run(run: Path, *, errors: "Console") -> "tuple[Dataset | None, Path | None, ReadOptions]":
    """The labelled data that a run learned from, split as it was; a note and None where they are gone."""
    from polytag.data.load import ReadOptions
    from polytag.runs.args import load_run_data, read_run_args

    try:
        args = read_run_args(RunFolder(path=run))
        dataset = load_run_data(args)
    except PolytagError as error:
        _note(errors, f"the run's data set cannot be read, so there are no boxes and no neighbours: {error.what} ({error.where})")
        return None, None, ReadOptions()
    return dataset, args.data, args.options


def _training_scores(run: Path, *, data: "Dataset | None", errors: "Console") -> "Predictions":
    """Scores of the training images by a model that did not see their labels; kept in the run while that and the labels stay."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from polytag.inference.out_of_fold import out_of_fold_of_run
    from polytag.predictions.read import read_predictions
    from polytag.predictions.table import write_predictions

    folder = RunFolder(path=run)
    kept = folder.training_predictions
    if kept.is_file() and kept.stat().st_mtime >= folder.predictions.stat().st_mtime:
        predictions = read_predictions(kept)
        if data is None or _has_labels_of(predictions, data.split("train")):
            return predictions
    columns = (
        TextColumn("features of the training images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("", total=None)
        predictions, note = out_of_fold_of_run(RunFolder(path=run), on_batch=lambda num_images: progress.advance(task, num_images))
    if note:
        _note(errors, note)
    write_predictions(predictions, kept)
    return predictions


def _has_labels_of(predictions: "Predictions", data: "Dataset") -> bool:
    """Whether every scored image is in the data with the very labels that the scores carry."""
    row_of = {name: row for row, name in enumerate(data.ids)}
    rows = [row_of.get(name, -1) for name in predictions.ids]
    return -1 not in rows and np.array_equal(data.target_NC[rows], predictions.target_NC)


def _with_paths(predictions: "Predictions", *, data: "Dataset | None", image_dirs: Sequence[str]) -> "Predictions":
    """Every image with the path where it lies now: in the folder that was given, as the scores say, or as the data set does."""
    if image_dirs:
        from polytag.inspector.browse.find_images import find_images

        return replace(predictions, image_paths=find_images(predictions.ids, [Path(folder) for folder in image_dirs]))
    if data is None:
        return predictions
    path_of = {name: str(path) for name, path in zip(data.ids, data.paths, strict=True)}
    found = [
        path if path and Path(path).is_file() else path_of.get(name, path)
        for name, path in zip(predictions.ids, predictions.image_paths, strict=True)
    ]
    return replace(predictions, image_paths=tuple(found))


def _thresholds(path: Path, predictions: "Predictions") -> tuple[np.ndarray, str]:
    from polytag.predictions.thresholds import find_thresholds

    found = find_thresholds(path, replace(predictions, source=str(path)))
    if found is None:
        return np.full(len(predictions.label_set), 0.5), ""
    return np.asarray(found.thresholds), found.goal


def _compared(asked: OpenOptions, *, first: "Predictions", options: "ReadOptions") -> "ComparedRun":
    from polytag.inspector.inspection import compared
    from polytag.predictions.read import read_predictions

    assert asked.compare_with is not None
    path = asked.compare_with
    file = predictions_path(path)
    second = read_predictions(file, scale=asked.scale or "", truth=asked.truth, options=options)
    return compared(path.resolve().name if path.is_dir() else path.stem, second, first=first)


def _columns(labelled: "LabelledPredictions", asked: OpenOptions) -> Mapping[str, Sequence[Any]]:
    """The columns of --columns, or else of a table of truth: those with few values, which can be chosen from."""
    from polytag.data.formats.rows import read_table
    from polytag.data.formats.tables import id_column
    from polytag.inspector.browse.ranking import text_of
    from polytag.predictions.columns import column_values, is_table

    table = asked.columns or (asked.truth if is_table(asked.truth) else None)
    if table is None:
        return {}
    names = [name for name in read_table(table).columns if name not in labelled.predictions.label_set.names]
    key = id_column(names)
    found = {name: column_values(labelled, name, table=table) for name in names if name != key}
    return {name: values for name, values in found.items() if len({text_of(value) for value in values}) <= 200}


def _facts(run: Path, predictions: "Predictions") -> Mapping[str, str]:
    """What is worth knowing of how the model came to be."""
    from polytag.runs.args import read_run_args

    try:
        args = read_run_args(RunFolder(path=run))
    except PolytagError:
        return {}
    facts = {name: str(args.recipe[key]) for name, key in (("recipe", "name"), ("backbone", "backbone")) if key in args.recipe}
    facts["data"] = args.data.name
    return facts | ({"checkpoint": predictions.checkpoint_id} if predictions.checkpoint_id else {})


def _note(errors: "Console", text: str) -> None:
    errors.print(f"note: {text}", highlight=False, markup=False, soft_wrap=True)
