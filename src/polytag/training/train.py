"""`polytag train`: trains, evaluates and reports in one function, and continues an interrupted run in another."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from polytag.contracts import Dataset
from polytag.data.divide import Folds
from polytag.data.feature_table import open_feature_table
from polytag.data.groups import divided_groups_note, group_numbers
from polytag.data.read_options import ReadOptions
from polytag.data.settings import with_settings
from polytag.data.splits import lacks_validation, large_group_note, require_trainable, with_validation_split
from polytag.errors import RunError, UsageError
from polytag.models.heads import chosen_head
from polytag.own_parts import FEATURES
from polytag.runs.args import SPLIT_SEED, RunArgs, dataset_of, how_split, load_folds, read_run_args
from polytag.runs.folder import RunFolder, create_run_folder, open_run_folder
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training.callback import Callback, Callbacks
from polytag.training.check_parts import check_parts
from polytag.training.feature_run import class_vectors, require_probe, train_on_features
from polytag.training.one_run import RunData, TrainedRun, begin_run, continue_run, fresh_model, interruptible
from polytag.training.parts import Parts
from polytag.training.planning import plan_run
from polytag.training.processes import joined


def train(
    data: str | Path | Dataset,
    *,
    recipe: Recipe = FINETUNE,
    output: str | Path | None = None,
    options: ReadOptions | None = None,
    augment: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    backbone: Callable[..., Any] | None = None,
    features: str | Path = "",
    class_features: str | Path = "",
    callbacks: Sequence[object] = (),
    began: float | None = None,
) -> TrainedRun:
    """Train on a folder of labelled images, evaluate the best model, and write a run folder.

    `data` is anything that `load_dataset` reads, or a Dataset, without `options` then; one that names no split gets a stratified
    validation split. `output` is the run folder, by default `runs/<data>-<recipe>`; a name in use gets a number. A Dataset is not
    stored: `resume` needs it again. `augment`, `loss` and `backbone` are parts of your own in place of those that the recipe
    names (docs/howto/own-parts.md); `features` is a table of vectors of the images, which then need not exist: the recipe is
    PROBE, and `class_features` may be vectors of the class names (docs/howto/features.md). `callbacks` are objects with some of the
    methods of a `Callback`, which receive those events. A recipe with `minutes` is planned first; they begin at `began` of
    `time.monotonic()`, by default now.
    Raises DataError for data that cannot be trained on, UsageError for a part that does not do its work, CheckpointError for
    weights that are not available, RunError for a folder that cannot be written, and `Interrupted` after Ctrl-C.
    """
    began = time.monotonic() if began is None else began
    callback = Callbacks(callbacks)
    parts = Parts(augment=augment, loss=loss, backbone=backbone)
    recipe = replace(recipe, backbone=FEATURES) if features else parts.recipe_of(recipe)
    recipe = replace(recipe, head=chosen_head(recipe.head, backbone=recipe.backbone))
    args, given = args_of(data, options=options, recipe=recipe)
    args = replace(args, parts=parts.records, features=str(features), class_features=str(class_features))
    found = _load(args, given=given, callback=callback)
    callback.read(found.dataset)
    if features:
        return _on_features(found, args=args, parts=parts, output=output, callback=callback)
    for note in check_parts(parts, recipe, found.dataset):
        callback.note(note)
    wanted = Path(output) if output else default_output(args)
    with joined(recipe.device) as processes:
        plan = None
        if recipe.minutes:
            plan = plan_run(recipe, found.dataset, parts=parts, began=began, callback=callback) if processes.is_first else None
            plan = processes.from_first(plan)
            assert plan is not None
            args = replace(args, recipe=plan.recipe)
            seconds = min(60 * recipe.minutes, sum(plan.seconds.values()))  # a probe alone may need less, too
            ends = datetime.now() + timedelta(seconds=seconds + began - time.monotonic())
            early = ", before its time: more epochs would teach these images by heart" if plan.needs_less else ""
            callback.note(f"plan: {plan.text()}; ends at {ends:%H:%M:%S}{early}")
        model = fresh_model(args.recipe, found.dataset, parts=parts, note=callback.note)  # what cannot be trained leaves no folder
        run = processes.from_first(create_run_folder(wanted) if processes.is_first else RunFolder(path=wanted))
        with interruptible(run):
            return begin_run(
                run, found, args=args, parts=parts, model=model, processes=processes, callback=callback, plan=plan, began=began
            )


def resume(
    run_folder: str | Path,
    *,
    data: str | Path | Dataset | None = None,
    augment: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    backbone: Callable[..., Any] | None = None,
    callbacks: Sequence[object] = (),
) -> TrainedRun:
    """Continue a run that was killed or interrupted.

    `data` are the same data at another place, or the Dataset that the run was given; None: where they were. `augment`,
    `loss` and `backbone` are the parts that it was given; `callbacks` any.
    At the same thread count its weights become, bit for bit, those of a run that never stopped. A finished run is returned as it
    is. Nothing is downloaded: pretrained weights must be in the hub's cache, if the run has no state yet. Raises RunError for a
    folder without a run, one that another process is training in, and data or parts that have changed.
    """
    callback = Callbacks(callbacks)
    parts = Parts(augment=augment, loss=loss, backbone=backbone)
    run = open_run_folder(Path(run_folder))
    args = read_run_args(run)
    if args.has_all_folds:
        raise RunError(
            "this is a run of folds",
            where=str(run.path),
            got=f"{args.folds} folds",
            expected="a run of one model",
            next_step="continue it with `polytag train --resume`, or in Python with `resume_folds`",
        )
    args, given = data_again(args, data)
    with joined("cpu" if args.features else args.recipe.device) as processes, interruptible(run):
        if processes.from_first(run.is_finished):
            callback.note(f"{run.path} is finished; nothing to resume")
        elif args.features:
            found = _load(args, given=given, callback=callback)
            return train_on_features(run, found, args=args, processes=processes, callback=callback)
        return continue_run(
            run,
            lambda: _load(args, given=given, callback=callback),
            args=args,
            parts=parts,
            processes=processes,
            callback=callback,
        )


def _on_features(found: RunData, *, args: RunArgs, parts: Parts, output: str | Path | None, callback: Callback) -> TrainedRun:
    """A new run on a feature table, which is looked at before a folder is made."""
    with joined("cpu") as processes:
        require_probe(args.recipe, parts, processes=processes)
        open_feature_table(args.features)
        if args.class_features:
            class_vectors(args.class_features, found.dataset.label_set, num_features=open_feature_table(args.features).num_features)
        run = create_run_folder(Path(output) if output else default_output(args))
        with interruptible(run):
            return train_on_features(run, found, args=args, processes=processes, callback=callback)


def default_output(args: RunArgs) -> Path:
    """runs/<data>-<recipe>: after the data folder's name, or the file's without its ending; with the number of folds."""
    place = args.data.resolve() if args.data else Path("dataset")
    folds = f"-{args.folds}-folds" if args.folds else ""
    return Path("runs") / f"{place.name if place.is_dir() else place.stem}-{args.recipe.name}{folds}"


def args_of(data: str | Path | Dataset, *, options: ReadOptions | None, recipe: Recipe) -> tuple[RunArgs, Dataset | None]:
    """The arguments of a run on these data, and the Dataset that it is given, with absolute paths, which predictions keep.

    The recipe says how difficult labels are treated. Raises UsageError for options that say otherwise, or that go with a Dataset.
    """
    if not isinstance(data, Dataset):
        options = _with_recipes_treatment(options or ReadOptions(), data=Path(data), recipe=recipe)
        return RunArgs(data=Path(data), options=options, recipe=recipe), None
    if options is not None:
        raise UsageError(
            "options for reading a Dataset, which is read already",
            got=repr(options),
            expected="a path with options, or a Dataset without",
        )
    options = ReadOptions(difficult=recipe.difficult, group_column="group" if any(data.group_N) else "")
    args = RunArgs(data=None, dataset=data.source or "a Dataset", options=options, recipe=recipe)
    return data_again(args, data)


def data_again(args: RunArgs, data: str | Path | Dataset | None) -> tuple[RunArgs, Dataset | None]:
    """The arguments of a run whose data are now at this place, and the Dataset with absolute paths if it is one."""
    if not isinstance(data, Dataset):
        return (replace(args, data=Path(data)) if data is not None else args), None
    if not all(path.is_absolute() for path in data.paths):
        data = replace(data, paths=tuple(path.absolute() for path in data.paths))
    return args, data


def _with_recipes_treatment(options: ReadOptions, *, data: Path, recipe: Recipe) -> ReadOptions:
    said = with_settings(options, data)[0]
    if said.difficult not in (ReadOptions().difficult, recipe.difficult):
        raise UsageError(
            "the recipe and the reading options treat difficult labels differently",
            got=f"{said.difficult} in the options, {recipe.difficult} in the recipe {recipe.name}",
            next_step="give it to the recipe alone: `dataclasses.replace(recipe, difficult=...)`, or --difficult",
        )
    return replace(
        options,
        difficult=recipe.difficult,
        group_column=said.group_column,  # the run writes the groups down, also those that polytag.yaml names
        columns_file=said.columns_file,
        given=(*options.given, "difficult"),
    )


def _load(args: RunArgs, *, given: Dataset | None, callback: Callback) -> RunData:
    if args.fold:
        return data_of_fold(args, load_folds(args, given=given))
    dataset = dataset_of(args, given=given)
    is_made = lacks_validation(dataset)
    if is_made:
        lacking = "no split" if dataset.splits == ("",) else "no validation split"
        dataset = with_validation_split(dataset, seed=SPLIT_SEED)
        callback.note(
            f"the annotations name {lacking}: {_held_out(dataset, column=args.options.group_column)}, stratified by label, "
            "are held out for validation"
        )
        if note := large_group_note(dataset):
            callback.note(note)
    elif note := divided_groups_note(dataset):
        callback.note(note)
    require_trainable(dataset)
    return RunData(dataset=dataset, split=how_split(args, is_made=is_made))


def data_of_fold(args: RunArgs, folds: Folds) -> RunData:
    """The data of the run of one fold."""
    return RunData(dataset=folds.fold(args.fold), split=how_split(args, is_made=folds.is_made))


def _held_out(dataset: Dataset, *, column: str) -> str:
    """ "14 of 72 images", with a column of groups "14 of 72 images (3 of 20 groups of patient)"."""
    val_set = dataset.split("val")
    divided = dataset.take([row for row, split in enumerate(dataset.split_N) if split != "test"])
    images = f"{len(val_set)} of {len(divided)} images"
    if not column:
        return images
    return f"{images} ({group_numbers(val_set).max() + 1} of {group_numbers(divided).max() + 1} groups of {column})"
