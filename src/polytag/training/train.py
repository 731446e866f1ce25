"""`polytag train`: from a folder of labelled images to a judged model, in one function; and the same after an interruption."""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from polytag.contracts import Dataset
from polytag.data.load import ReadOptions, load_dataset
from polytag.data.splits import require_trainable, with_validation_split
from polytag.errors import RunError, UsageError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics
from polytag.models.backbone import build_model, require_input_size
from polytag.models.checkpoint import Checkpoint
from polytag.models.device import Arithmetic, choose_arithmetic
from polytag.predictions.read import read_predictions
from polytag.runs.folder import (
    RunFolder,
    create_run_folder,
    locked,
    open_run_folder,
    read_args,
    write_args,
    write_environment,
)
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training.checkpointer import Checkpointer
from polytag.training.evaluation import evaluate_best
from polytag.training.head_start import HeadStart
from polytag.training.image_sources import ImageSources, open_image_sources
from polytag.training.loop import Callback, CheckpointHooks, Interrupted, SilentCallback, has_head_start, train_loop
from polytag.training.preprocessing import preprocessing_of
from polytag.training.processes import Processes, joined
from polytag.training.state import State, load_state


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished run: its folder, the best model, and that model's scores on the validation images."""

    folder: RunFolder
    checkpoint: Checkpoint
    metrics: Metrics


def train(
    data: str | Path,
    *,
    recipe: Recipe = FINETUNE,
    output: str | Path | None = None,
    options: ReadOptions | None = None,
    callback: Callback | None = None,
) -> TrainedRun:
    """Train on a folder of labelled images, judge the best model, and write a run folder.

    `data` is anything that `load_dataset` reads; annotations that name no split get a stratified validation split. `output` is the
    run folder, by default `runs/<data>-<recipe>`; a name in use gets a number. Raises DataError for data that cannot be trained on,
    CheckpointError for weights that cannot be had, RunError for a folder that cannot be written, and `Interrupted` after Ctrl-C.
    """
    callback = callback or SilentCallback()
    options = _reading(options or ReadOptions(), recipe=recipe)
    dataset = _load(Path(data), options=options, callback=callback)
    arithmetic = choose_arithmetic(recipe.device, recipe.precision)
    model = _fresh_model(recipe, dataset)  # weights that do not fit are told before a folder is made
    wanted = Path(output) if output else Path("runs") / f"{_name_of(Path(data))}-{recipe.name}"
    with joined(recipe.device) as processes:
        run = processes.from_first(create_run_folder(wanted) if processes.is_first else RunFolder(path=wanted))
        with _held(run, processes), _interruptible(run):
            if processes.is_first:
                write_args(run, recipe=recipe, data=Path(data), options=options)
            return _run(
                run,
                model=model,
                dataset=dataset,
                recipe=recipe,
                arithmetic=arithmetic,
                state=None,
                callback=callback,
                processes=processes,
            )


def resume(run_folder: str | Path, *, callback: Callback | None = None) -> TrainedRun:
    """Go on with a run that was killed or interrupted; at the same thread count its weights become, bit for bit, those of a run
    that never was. A finished run is returned as it is.

    Raises RunError for a folder without a run, one that another process is training in, or data that have changed.
    """
    callback = callback or SilentCallback()
    run = open_run_folder(Path(run_folder))
    recipe, data, options = read_args(run)
    with joined(recipe.device) as processes, _held(run, processes), _interruptible(run):
        if processes.from_first(run.metrics.is_file()):
            callback.note(f"{run.path} is finished; nothing to resume")
            return TrainedRun(
                folder=run, checkpoint=Checkpoint.read(run.best), metrics=evaluate_predictions(read_predictions(run.predictions))
            )
        dataset = _load(data, options=options, callback=callback)
        state = load_state(run.state)
        if state is not None:
            _require_same_data(state, dataset, run=run)
            if state.num_threads != torch.get_num_threads():
                callback.note(
                    f"this run used {state.num_threads} threads and now has {torch.get_num_threads()}: "
                    "the result will be as good, but not the same to the last bit"
                )
            callback.note(f"going on at epoch {state.epoch}, step {state.step}")
            if not processes.is_first:  # what this epoch gave so far is in the hands of the first
                state.begin_epoch_results()
        arithmetic = choose_arithmetic(recipe.device, recipe.precision)
        model = _fresh_model(recipe if state is None else replace(recipe, weights="random"), dataset)
        return _run(
            run,
            model=model,
            dataset=dataset,
            recipe=recipe,
            arithmetic=arithmetic,
            state=state,
            callback=callback,
            processes=processes,
        )


@contextlib.contextmanager
def _held(run: RunFolder, processes: Processes) -> Generator[None]:
    """The run's lock, which the first of several processes holds for all."""
    with locked(run) if processes.is_first else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _interruptible(run: RunFolder) -> Generator[None]:
    """Ctrl-C, in whatever phase, becomes an `Interrupted` that names the run to go on with."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(run.path) from None


def _name_of(data: Path) -> str:
    """What a run is called after: the data folder's name, or the file's without its ending."""
    return data.resolve().name if data.is_dir() else data.resolve().stem


def _reading(options: ReadOptions, *, recipe: Recipe) -> ReadOptions:
    """The recipe says how difficult labels are treated; raises UsageError where the options say otherwise."""
    if options.difficult not in (ReadOptions().difficult, recipe.difficult):
        raise UsageError(
            "the recipe and the reading options treat difficult labels differently",
            got=f"{options.difficult} in the options, {recipe.difficult} in the recipe {recipe.name}",
            next_step="give it to the recipe alone: `dataclasses.replace(recipe, difficult=...)`",
        )
    return replace(options, difficult=recipe.difficult)


def _load(data: Path, *, options: ReadOptions, callback: Callback) -> Dataset:
    dataset = load_dataset(data, options=options)
    if dataset.splits == ("",):
        dataset = with_validation_split(dataset)
        callback.note(
            f"the annotations name no split: {len(dataset.split('val'))} of {len(dataset)} images, stratified by label, "
            "are kept for validation"
        )
    require_trainable(dataset)
    return dataset


def _fresh_model(recipe: Recipe, dataset: Dataset) -> torch.nn.Module:
    torch.manual_seed(recipe.seed)
    image_size_px = preprocessing_of(recipe).image_size_px
    model = build_model(
        recipe.backbone,
        num_classes=len(dataset.label_set),
        backbone_args=recipe.backbone_args,
        image_size_px=image_size_px,
        weights=recipe.weights,
    )
    require_input_size(model, backbone=recipe.backbone, image_size_px=image_size_px)
    return model


def _run(
    run: RunFolder,
    *,
    model: torch.nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    arithmetic: Arithmetic,
    state: State | None,
    callback: Callback,
    processes: Processes,
) -> TrainedRun:
    """Probe, fine-tune, judge; each stage leaves its part of the run folder."""
    train_set, val_set = dataset.split("train"), dataset.split("val")
    model = model.to(arithmetic.device)
    if arithmetic.device == "cuda":
        torch.backends.cudnn.benchmark = True  # batches have one size: the fastest kernels for it are worth looking for
    head_start = None
    if state is None and has_head_start(recipe):
        head_start = HeadStart.prepare(model, train_set, recipe=recipe, arithmetic=arithmetic)
    sources = open_image_sources(
        train_set,
        val_set,
        recipe=recipe,
        arithmetic=arithmetic,
        has_probe=head_start is not None and head_start.reads_images,
        num_processes=processes.count,
        phase=callback.phase,
        on_batch=callback.progress,
    )
    how = dict(sources.how)
    if head_start is not None and not head_start.reads_images:
        how |= {"features": "of an earlier run"} | ({} if recipe.epochs else {"training": "not read"})
    with contextlib.closing(sources):
        if processes.is_first:
            write_environment(
                run,
                data_fingerprint=dataset.fingerprint,
                arithmetic=f"{arithmetic.device} {arithmetic.precision}",
                num_threads=torch.get_num_threads(),
                num_processes=processes.count,
                images=how,
            )
        if set(sources.how.values()) != {"files"}:
            callback.note("; ".join(f"{use} images: {way}" for use, way in sources.how.items()))
        if processes.count > 1:
            callback.note(
                f"{processes.count} processes share every batch of {recipe.batch_size}; batch normalisation, where the backbone "
                "has any, takes its statistics from each process's share, and they are averaged after every epoch"
            )
        if state is None:
            state = State(
                data_fingerprint=dataset.fingerprint, classes=list(dataset.label_set), num_threads=torch.get_num_threads()
            )
            if head_start is not None:
                head_start.give(state, sources=sources, callback=callback)
        processes.share_weights(model)
        return _fit_and_evaluate(
            run,
            model=model,
            dataset=dataset,
            recipe=recipe,
            arithmetic=arithmetic,
            state=state,
            sources=sources,
            how=how,
            callback=callback,
            processes=processes,
        )


def _fit_and_evaluate(
    run: RunFolder,
    *,
    model: torch.nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    arithmetic: Arithmetic,
    state: State,
    sources: ImageSources,
    how: Mapping[str, str],
    callback: Callback,
    processes: Processes,
) -> TrainedRun:
    train_set, val_set = dataset.split("train"), dataset.split("val")
    checkpointer = Checkpointer(run=run, dataset=dataset, recipe=recipe, may_skip=arithmetic.device != "cpu")
    if state.model and processes.is_first:  # a kill between the state and the folders that follow from it is mended here
        checkpointer.correct(state)
    state = train_loop(
        model,
        train_set=train_set,
        val_set=val_set,
        recipe=recipe,
        arithmetic=arithmetic,
        state=state,
        hooks=checkpointer.hooks
        if processes.is_first
        else CheckpointHooks(save_state=lambda state: None, epoch_done=lambda state: None),
        callback=callback,
        sources=sources,
        processes=processes,
    )
    if state.failures:
        names = ", ".join(sorted(state.failures)[:5]) + (", ..." if len(state.failures) > 5 else "")
        callback.note(f"{len(state.failures)} training images could not be read and were skipped: {names}")
    trained: TrainedRun | None = None
    if processes.is_first:
        metrics = evaluate_best(
            run,
            val_set=val_set,
            recipe=recipe,
            rows=state.rows,
            facts=_facts(recipe, arithmetic=arithmetic, state=state, how=how, processes=processes),
            callback=callback,
            source=sources.val_views,
        )
        if metrics.num_images < len(val_set):
            callback.note(f"{len(val_set) - metrics.num_images} validation images could not be read and are in no number")
        trained = TrainedRun(folder=run, checkpoint=Checkpoint.read(run.best), metrics=metrics)
    trained = processes.from_first(trained)
    assert trained is not None
    return trained


def _facts(recipe: Recipe, *, arithmetic: Arithmetic, state: State, how: Mapping[str, str], processes: Processes) -> dict[str, str]:
    """Lines for the head of the report."""
    return {
        "recipe": recipe.name,
        "backbone": recipe.backbone,
        "starting weights": Path(recipe.weights).name,
        "input": f"{preprocessing_of(recipe).image_size_px} px, {recipe.fit}",
        **({"best epoch": f"{state.best_epoch} of {recipe.epochs}"} if recipe.epochs else {}),
        "arithmetic": f"{arithmetic.device}, {arithmetic.precision}"
        + (f", {processes.count} processes" if processes.count > 1 else ""),
        "training images": how["training"],
        **({"features": how["features"]} if "features" in how else {}),
        "training time": f"{sum(row['seconds'] for row in state.rows):.0f} s",
    }


def _require_same_data(state: State, dataset: Dataset, *, run: RunFolder) -> None:
    if state.classes != list(dataset.label_set):
        raise RunError(
            "the data's classes are not those of this run",
            where=str(run.path),
            got=", ".join(dataset.label_set),
            expected=", ".join(state.classes),
            next_step="start a new run, or put the classes back",
        )
    if state.data_fingerprint != dataset.fingerprint:
        raise RunError(
            "the data have changed since this run began",
            where=dataset.source,
            got=f"fingerprint {dataset.fingerprint}",
            expected=state.data_fingerprint,
            next_step="start a new run, or put images, splits and labels back as they were",
        )
