"""Opens a run folder or a predictions file for the inspector: scores, labels, images and model, as far as they exist."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytag.data.images.stored import is_image_there
from polytag.errors import AnnotationError, CheckpointError, PolytagError, RunError, UsageError
from polytag.models.checkpoint import Checkpoint
from polytag.models.checkpoint_files import CONFIG
from polytag.runs.folder import RunFolder, predictions_path, run_names, run_of
from polytag.runs.history import read_history
from polytag.text import storable

if TYPE_CHECKING:
    from polytag.contracts import Dataset, Predictions
    from polytag.data.read_options import ReadOptions
    from polytag.inference.text_model import TextModel
    from polytag.inspector.inspection import ComparedRun, Inspection
    from polytag.predictions.read import LabelledPredictions

Note = Callable[[str], None]


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """Options that the command line adds to the run or file.

    split          "val", or "train" for the training images of a run
    compare_with   other runs or predictions files, to compare with
    image_dirs     folders in which images are looked up by id
    truth          labels for scores that have none
    scale          what the scores are: logit, probability or rank
    columns        a table by id with columns to filter by
    text_model     finds images by a text
    """

    split: str = "val"
    compare_with: Sequence[Path] = ()
    image_dirs: Sequence[str] = ()
    truth: Path | None = None
    scale: str | None = None
    columns: Path | None = None
    text_model: "TextModel | None" = None


@dataclass(frozen=True, kw_only=True)
class _Source:
    """The scores under inspection, and the annotations that belong to them."""

    labelled: "LabelledPredictions"
    data: "Dataset | None"
    data_path: Path | None
    data_options: "ReadOptions"


def open_inspection(
    path: Path,
    open_options: OpenOptions,
    *,
    options: "ReadOptions",
    note: Note = _ignore,
    on_progress: Callable[[int], None] = _ignore,
) -> "Inspection":
    """Return everything that the pages show of a run or a predictions file.

    `note` receives a sentence about everything that is missing in addition to the scores. `on_progress` receives the number of
    images of each batch while features of the training images are computed. Raises PolytagError where the scores cannot be read.
    """
    from polytag.inspector.inspection import Inspection
    from polytag.inspector.review.store import review_file_of
    from polytag.inspector.source_files import SourceFiles
    from polytag.runs.groups import groups_for_intervals

    source_files = SourceFiles.of(path, open_options.compare_with)
    run = RunFolder(path=path)
    is_run = run.is_run
    if open_options.split != "val" and not is_run:
        raise UsageError("only a run folder has training images", where="--split", got=str(path), expected="a run folder")
    if is_run:
        source = _run_source(run, open_options, options=options, note=note, on_progress=on_progress)
    else:
        source = _file_source(path, open_options, options=options, note=note)
    for text in source.labelled.notes:
        note(text)
    predictions = _with_paths(source.labelled.predictions, data=source.data, image_dirs=open_options.image_dirs)
    threshold_C, goal = _thresholds(run.predictions if is_run else path, predictions)
    return Inspection(
        name=path.resolve().name if path.is_dir() else path.stem,
        review_file=review_file_of(path),
        predictions=predictions,
        threshold_C=threshold_C,
        goal=goal,
        split=open_options.split if is_run else "",
        history=read_history(run) if is_run else (),
        facts=_facts(run, predictions) if is_run else {},
        compared=_compared(path, open_options, first=predictions, options=options, note=note),
        checkpoint=_model_of(run) if is_run else None,
        data=source.data,
        data_path=source.data_path,
        data_options=source.data_options,
        groups=groups_for_intervals(run, predictions.ids, note=note) if is_run else None,
        run_path=path.resolve() if is_run else None,
        column_N=_columns(replace(source.labelled, predictions=predictions), open_options),
        source_files=source_files,
        text_model=open_options.text_model,
    )


def open_running(run: RunFolder) -> "Inspection | None":
    """Return the inspection of the best epoch so far of a run that trains: its scores at the thresholds that it begins with.

    None while there are none, or those that there are belong to other weights than best/. Raises PolytagError where files cannot be
    read.
    """
    from polytag.inspector.inspection import Inspection
    from polytag.inspector.review.store import review_file_of
    from polytag.inspector.source_files import SourceFiles
    from polytag.predictions.read import read_predictions

    if not run.running_predictions.is_file():
        return None
    files = SourceFiles(scores=[run.running_predictions], thresholds=[])
    predictions = read_predictions(run.running_predictions)
    if predictions.checkpoint_id != Checkpoint.read(run.best).id:
        return None
    return Inspection(
        name=run.path.resolve().name,
        review_file=review_file_of(run.path),
        predictions=predictions,
        threshold_C=np.full(len(predictions.label_set), 0.5),
        split="val",
        facts=_facts(run, predictions),
        run_path=run.path.resolve(),
        source_files=files,
    )


def reopen_inspection(
    inspection: "Inspection", path: Path, open_options: OpenOptions, *, options: "ReadOptions", note: Note = _ignore
) -> "Inspection":
    """Return the inspection as its files are now: with new thresholds, or where its scores changed, opened again.

    Scores of training images are not computed again: they keep the model that they are from. Raises PolytagError where the files
    cannot be read.
    """
    files = inspection.source_files
    if files is not None and (files.changed() == "thresholds" or open_options.split == "train"):
        files = files.now()
        run = RunFolder(path=path)
        threshold_C, goal = _thresholds(run.predictions if run.is_run else path, inspection.predictions)
        return replace(inspection, threshold_C=threshold_C, goal=goal, source_files=files)
    return open_inspection(path, open_options, options=options, note=note)


def _model_of(run: RunFolder) -> Path | None:
    """The folder of a run's model; None where there is none that images can be given to without more than its folder."""
    if not (run.best / CONFIG).is_file():
        return None
    with suppress(CheckpointError):  # the request that needs the model says what is wrong with it
        checkpoint = Checkpoint.read(run.best)
        if checkpoint.num_features is not None or checkpoint.own_backbone is not None:
            return None
    return run.best


def _run_source(
    run: RunFolder, open_options: OpenOptions, *, options: "ReadOptions", note: Note, on_progress: Callable[[int], None]
) -> _Source:
    from polytag.predictions.read import LabelledPredictions

    data, data_path, data_options = _data_of_run(run, note=note)
    if open_options.split == "train":
        labelled = LabelledPredictions(predictions=_training_scores(run, data=data, note=note, on_progress=on_progress))
    else:
        labelled, _ = _labelled(run.predictions, open_options, options=options, note=note)
    return _Source(labelled=labelled, data=data or labelled.dataset, data_path=data_path, data_options=data_options)


def _file_source(path: Path, open_options: OpenOptions, *, options: "ReadOptions", note: Note) -> _Source:
    labelled, options = _labelled(path, open_options, options=options, note=note)
    return _Source(labelled=labelled, data=labelled.dataset, data_path=open_options.truth, data_options=options)


def _labelled(
    path: Path, open_options: OpenOptions, *, options: "ReadOptions", note: Note
) -> "tuple[LabelledPredictions, ReadOptions]":
    """Return the scores with their labels, and the options that a truth was read with: those of the run that the path is of."""
    from polytag.predictions.read import read_labelled
    from polytag.runs.args import as_in_training

    if open_options.truth is not None:
        options, text = as_in_training(options, path)
        if text:
            note(text)
    return read_labelled(path, scale=open_options.scale or "", truth=open_options.truth, options=options), options


def _data_of_run(run: RunFolder, *, note: Note) -> "tuple[Dataset | None, Path | None, ReadOptions]":
    """Return the labelled data that the run was trained on, with its split; a note and None where the data cannot be read."""
    from polytag.data.read_options import ReadOptions
    from polytag.runs.args import load_run_data, read_run_args

    try:
        args = read_run_args(run)
        dataset = load_run_data(args)
    except PolytagError as error:
        note(f"the run's data set cannot be read, so there are no boxes and no neighbours: {error.what} ({error.where})")
        return None, None, ReadOptions()
    return dataset, args.data, args.options


def _training_scores(run: RunFolder, *, data: "Dataset | None", note: Note, on_progress: Callable[[int], None]) -> "Predictions":
    """Return out-of-fold scores of the training images. The run folder caches them while the run and the labels are unchanged."""
    from polytag.inference.out_of_fold import out_of_fold_of_run
    from polytag.predictions.read import read_predictions
    from polytag.predictions.table import write_predictions

    cached = run.training_predictions
    if cached.is_file() and cached.stat().st_mtime >= run.predictions.stat().st_mtime:
        predictions = read_predictions(cached)
        if data is None or _has_labels_of(predictions, data.split("train")):
            return predictions
    predictions, text = out_of_fold_of_run(run, on_batch=on_progress)
    if text:
        note(text)
    write_predictions(predictions, cached)
    return predictions


def _has_labels_of(predictions: "Predictions", data: "Dataset") -> bool:
    """Whether the data hold every scored image with the labels that the scores carry."""
    row_of = {name: row for row, name in enumerate(data.ids)}
    rows = [row_of.get(name, -1) for name in predictions.ids]
    return -1 not in rows and np.array_equal(data.target_NC[rows], predictions.target_NC)


def _with_paths(predictions: "Predictions", *, data: "Dataset | None", image_dirs: Sequence[str]) -> "Predictions":
    """Return the predictions with current image paths: from the given folders, else from the scores, else from the data set."""
    if image_dirs:
        from polytag.inspector.browse.find_images import find_images

        return replace(predictions, image_paths=find_images(predictions.ids, [Path(folder) for folder in image_dirs]))
    if data is None:
        return predictions
    path_of = {name: str(path) for name, path in zip(data.ids, data.paths, strict=True)}
    found = [
        path if path and is_image_there(path) else path_of.get(name, path)
        for name, path in zip(predictions.ids, predictions.image_paths, strict=True)
    ]
    return replace(predictions, image_paths=tuple(found))


def _thresholds(path: Path, predictions: "Predictions") -> tuple[np.ndarray, str]:
    from polytag.predictions.thresholds import find_thresholds

    found = find_thresholds(path, replace(predictions, source=str(path)))
    if found is None:
        return np.full(len(predictions.label_set), 0.5), ""
    return np.asarray(found.thresholds), found.goal


def _compared(
    path: Path, open_options: OpenOptions, *, first: "Predictions", options: "ReadOptions", note: Note
) -> "Sequence[ComparedRun]":
    """Return the runs to compare with, each once, by names that tell them apart from each other and from the first run."""
    from polytag.inspector.inspection import compared

    paths: dict[Path, Path] = {}
    for each in open_options.compare_with:
        paths.setdefault(predictions_path(each).resolve(), each)
    is_own = predictions_path(path).resolve() in paths
    names = run_names([*paths.values(), *([] if is_own else [path])])
    found: list[ComparedRun] = []
    for each, name in zip(paths.values(), names, strict=False):
        file = predictions_path(each)
        second, _ = _labelled(file, open_options, options=options, note=note)
        threshold_C, _ = _thresholds(file, second.predictions)
        made, run = compared(storable(name), second.predictions, first=first, threshold_C=threshold_C), run_of(each)
        with suppress(RunError):  # its curves are no part of the comparison
            made = replace(made, history=read_history(run) if run is not None else ())
        found.append(made)
    return found


def _columns(labelled: "LabelledPredictions", open_options: OpenOptions) -> Mapping[str, Sequence[Any]]:
    """Return the columns of --columns, or else of the table of truth: of numbers, or of at most 200 texts."""
    from polytag.data.formats.column_names import id_column
    from polytag.data.formats.rows import read_table
    from polytag.inspector.browse.ranking import text_of
    from polytag.predictions.columns import column_values, is_table

    table = open_options.columns or (open_options.truth if is_table(open_options.truth) else None)
    if table is None:
        return {}
    names = [name for name in read_table(table).columns if name not in labelled.predictions.label_set.names]
    key = id_column(names)
    try:
        found = {name: column_values(labelled, name, table=table) for name in names if name != key}
    except AnnotationError:
        if open_options.columns is not None:
            raise
        return {}  # a truth that was joined by the images' paths: nobody asked for its columns, and they are by id
    texts = {name for name, values in found.items() if any(isinstance(value, str) for value in values)}
    return {name: values for name, values in found.items() if name not in texts or len({text_of(each) for each in values}) <= 200}


def _facts(run: RunFolder, predictions: "Predictions") -> Mapping[str, str]:
    """Return recipe, backbone, data and checkpoint of the run."""
    from polytag.runs.args import read_run_args

    try:
        args = read_run_args(run)
    except PolytagError:
        return {}
    facts = {"recipe": args.recipe.name, "backbone": args.recipe.backbone, "data": args.data.name if args.data else args.dataset}
    return facts | ({"checkpoint": predictions.checkpoint_id} if predictions.checkpoint_id else {})
