"""`polytag train`: trains, evaluates and reports in one function, and continues an interrupted run in another."""

from dataclasses import replace
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.groups import divided_groups_note, group_numbers
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.data.settings import with_settings
from polytag.data.splits import lacks_validation, large_group_note, require_trainable, with_validation_split
from polytag.errors import RunError, UsageError
from polytag.runs.args import SPLIT_SEED, RunArgs, how_split, load_folds, read_run_args
from polytag.runs.folder import RunFolder, create_run_folder, open_run_folder
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training.callback import Callback, SilentCallback
from polytag.training.one_run import RunData, TrainedRun, begin_run, continue_run, fresh_model, interruptible
from polytag.training.processes import joined


def train(
    data: str | Path | Dataset,
    *,
    recipe: Recipe = FINETUNE,
    output: str | Path | None = None,
    options: ReadOptions | None = None,
    callback: Callback | None = None,
) -> TrainedRun:
    """Train on a folder of labelled images, evaluate the best model, and write a run folder.

    `data` is anything that `load_dataset` reads, or a Dataset, without `options` then; one that names no split gets a stratified
    validation split. `output` is the run folder, by default `runs/<data>-<recipe>`; a name in use gets a number. A Dataset is not
    stored: `resume` needs it again. Raises DataError for data that cannot be trained on,
    CheckpointError for weights that are not available, RunError for a folder that cannot be written, and `Interrupted` after
    Ctrl-C.
    """
    callback = callback or SilentCallback()
    given = _absolute(data, options=options) if isinstance(data, Dataset) else None
    args = _args_of(data, options=options, recipe=recipe)
    found = _load(args, given=given, callback=callback)
    callback.read(found.dataset)
    model = fresh_model(recipe, found.dataset)  # weights that do not fit are an error before a folder is made
    wanted = Path(output) if output else Path("runs") / f"{name_of(args.data) if args.data else 'dataset'}-{recipe.name}"
    with joined(recipe.device) as processes:
        run = processes.from_first(create_run_folder(wanted) if processes.is_first else RunFolder(path=wanted))
        with interruptible(run):
            return begin_run(run, found, args=args, model=model, processes=processes, callback=callback)


def resume(run_folder: str | Path, *, data: str | Path | Dataset | None = None, callback: Callback | None = None) -> TrainedRun:
    """Continue a run that was killed or interrupted.

    `data` are the same data at another place, or the Dataset that the run was given; None: where they were.
    At the same thread count its weights become, bit for bit, those of a run that never stopped. A finished run is returned as it
    is. Nothing is downloaded: pretrained weights must be in the hub's cache, if the run has no state yet. Raises RunError for a
    folder without a run, one that another process is training in, or data that have changed.
    """
    callback = callback or SilentCallback()
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
    given = data if isinstance(data, Dataset) else None
    if isinstance(data, str | Path):
        args = replace(args, data=Path(data))
    with joined(args.recipe.device) as processes, interruptible(run):
        if processes.from_first(run.is_finished):
            callback.note(f"{run.path} is finished; nothing to resume")
        elif args.data is None and given is None:
            raise RunError(
                "the run was trained on a Dataset, which is not in its folder",
                where=str(run.args),
                got=f"dataset: {args.dataset}",
                expected="the same Dataset",
                next_step="give it again, in Python: resume(run_folder, data=dataset)",
            )
        return continue_run(
            run, lambda: _load(args, given=given, callback=callback), args=args, processes=processes, callback=callback
        )


def name_of(data: Path) -> str:
    """What a run is called after: the data folder's name, or the file's without its ending."""
    return data.resolve().name if data.is_dir() else data.resolve().stem


def _args_of(data: str | Path | Dataset, *, options: ReadOptions | None, recipe: Recipe) -> RunArgs:
    if isinstance(data, Dataset):
        options = ReadOptions(difficult=recipe.difficult, group_column="group" if any(data.group_N) else "")
        return RunArgs(data=None, dataset=data.source or "a Dataset", options=options, recipe=recipe)
    options = with_recipes_treatment(options or ReadOptions(), data=Path(data), recipe=recipe)
    return RunArgs(data=Path(data), options=options, recipe=recipe)


def _absolute(dataset: Dataset, *, options: ReadOptions | None) -> Dataset:
    """The data set with absolute paths, which its predictions keep; raises UsageError for options, which would read nothing."""
    if options is not None:
        raise UsageError(
            "options for reading a Dataset, which is read already",
            got=repr(options),
            expected="a path with options, or a Dataset without",
        )
    if all(path.is_absolute() for path in dataset.paths):
        return dataset
    return replace(dataset, paths=tuple(path.absolute() for path in dataset.paths))


def with_recipes_treatment(options: ReadOptions, *, data: Path, recipe: Recipe) -> ReadOptions:
    """The recipe says how difficult labels are treated; raises UsageError where the options, or polytag.yaml, say otherwise."""
    said = with_settings(options, data)[0]
    if said.difficult not in (ReadOptions().difficult, recipe.difficult):
        raise UsageError(
            "the recipe and the reading options treat difficult labels differently",
            got=f"{said.difficult} in the options, {recipe.difficult} in the recipe {recipe.name}",
            next_step="give it to the recipe alone: `dataclasses.replace(recipe, difficult=...)`, or --difficult",
        )
    return replace(options, difficult=recipe.difficult, given=(*options.given, "difficult"))


def _load(args: RunArgs, *, given: Dataset | None, callback: Callback) -> RunData:
    if args.fold:
        folds = load_folds(args)
        return RunData(dataset=folds.fold(args.fold), split=how_split(args, is_made=folds.is_made))
    if given is None:
        assert args.data is not None
        given = load_dataset(args.data, options=args.options)
    dataset = given
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


def _held_out(dataset: Dataset, *, column: str) -> str:
    """ "14 of 72 images", with a column of groups "14 of 72 images (3 of 20 groups of patient)"."""
    val_set = dataset.split("val")
    divided = dataset.take([row for row, split in enumerate(dataset.split_N) if split != "test"])
    images = f"{len(val_set)} of {len(divided)} images"
    if not column:
        return images
    return f"{images} ({group_numbers(val_set).max() + 1} of {group_numbers(divided).max() + 1} groups of {column})"
