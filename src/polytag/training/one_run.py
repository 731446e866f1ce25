"""One model in one run folder: begun, or continued where it was interrupted, then evaluated and reported."""

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from polytag.contracts import Dataset
from polytag.errors import RunError
from polytag.machine import free_memory_bytes
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics
from polytag.models.backbone import build_model, lay_out, require_input_size
from polytag.models.checkpoint import Checkpoint
from polytag.models.device import choose_arithmetic
from polytag.models.heads import chosen_head
from polytag.models.own_backbone import build_own_network
from polytag.predictions.read import read_predictions
from polytag.runs.args import RunArgs, write_args
from polytag.runs.environment import write_environment
from polytag.runs.folder import RunFolder, locked
from polytag.runs.groups import groups_for_intervals, write_groups
from polytag.runs.plan import Plan, read_plan, write_plan
from polytag.runs.recipe import Recipe
from polytag.training.callback import Callback
from polytag.training.checkpointer import Checkpointer
from polytag.training.clock import clock_of
from polytag.training.context import TrainingContext, at_most
from polytag.training.epoch_choice import optimism_note
from polytag.training.evaluation import evaluate_best
from polytag.training.head_start import HeadStart
from polytag.training.image_sources import ImageSources, open_image_sources
from polytag.training.loop import NO_HOOKS, Interrupted, train_loop
from polytag.training.memory import require_grad_checkpointing, require_micro_batches
from polytag.training.minutes import facts_of_plan, in_time, record
from polytag.training.parts import Parts
from polytag.training.preprocessing import preprocessing_of
from polytag.training.processes import Processes
from polytag.training.state import State, load_state, require_same_model


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished run: its folder, the best model, and that model's metrics on the validation images."""

    folder: RunFolder
    checkpoint: Checkpoint
    metrics: Metrics


@dataclass(frozen=True, kw_only=True, eq=False)
class RunData:
    """The images of a run, in "train" and "val", and how they came to be there, for env.json."""

    dataset: Dataset
    split: Mapping[str, object]


def begin_run(
    run: RunFolder,
    data: RunData,
    *,
    args: RunArgs,
    parts: Parts,
    model: torch.nn.Module,
    processes: Processes,
    callback: Callback,
    plan: Plan | None = None,
    began: float = 0.0,
) -> TrainedRun:
    """Train this `fresh_model` in an empty run folder; one with a plan has its minutes since `began` of `time.monotonic()`."""
    with held(run, processes):
        if processes.is_first:
            if args.options.group_column:
                write_groups(run, data.dataset)
            write_args(run, args)
            if plan is not None:
                write_plan(plan, run.plan)
        callback.begin(run, args.recipe)
        context = _context(
            data.dataset, recipe=args.recipe, parts=parts, processes=processes, callback=callback, plan=plan, began=began
        )
        return _run(run, context, data=data, args=args, model=model, state=None)


def continue_run(
    run: RunFolder, load: Callable[[], RunData], *, args: RunArgs, parts: Parts, processes: Processes, callback: Callback
) -> TrainedRun:
    """Continue a run whose data `load` reads, with the same parts; a finished one is returned as it is. Downloads nothing."""
    args = replace(args, recipe=replace(args.recipe, head=chosen_head(args.recipe.head, backbone=args.recipe.backbone)))
    if processes.from_first(run.is_finished):
        return read_back(run, parts=parts, callback=callback)
    parts.require_same(args.parts, where=str(run.path))
    with held(run, processes):
        callback.begin(run, args.recipe)
        return _resume(run, load, args=args, parts=parts, processes=processes, callback=callback)


def read_back(run: RunFolder, *, parts: Parts, callback: Callback) -> TrainedRun:
    """A finished run."""
    return TrainedRun(
        folder=run, checkpoint=Checkpoint.read(run.best, backbone=parts.backbone), metrics=metrics_of(run, callback=callback)
    )


def metrics_of(run: RunFolder, *, callback: Callback) -> Metrics:
    """The metrics of the predictions in a run folder, in the groups of its training."""
    predictions = read_predictions(run.predictions)
    return evaluate_predictions(predictions, groups=groups_for_intervals(run, predictions.ids, note=callback.note))


def _resume(
    run: RunFolder, load: Callable[[], RunData], *, args: RunArgs, parts: Parts, processes: Processes, callback: Callback
) -> TrainedRun:
    state = load_state(run.state)
    if state is None and run.results.is_file():
        raise RunError(
            "the saved state of the run is missing",
            where=str(run.state),
            expected="the file that `polytag train` wrote before it wrote results.csv",
            next_step="copy the run folder again, or start a new run",
        )
    data = load()
    dataset, recipe = data.dataset, args.recipe
    if state is not None:
        _require_same_classes(state, dataset, run=run)
        require_same_data(dataset, state.data_fingerprint)
        if state.num_threads != torch.get_num_threads():
            callback.note(
                f"this run used {state.num_threads} threads and now has {torch.get_num_threads()}: "
                "the result will be as good, but not the same to the last bit"
            )
        callback.note(f"continuing at epoch {state.epoch}, step {state.step}")
        if not processes.is_first:  # the first process has the results of this epoch so far
            state.begin_epoch_results()
    if parts.backbone is None:
        layout = lay_out(recipe.backbone, **_network(recipe, dataset))  # None for a few backbones of old versions of timm
        if layout is not None:
            _require_modest(layout, state, run=run)
    started = recipe if state is None else replace(recipe, weights="random", micro_batch_size=0, grad_checkpointing=False)
    model = fresh_model(started, dataset, parts=parts, may_download=False, note=callback.note)
    if state is not None:
        require_same_model(state, model.state_dict(), where=run.state)
    began = time.monotonic() - (state.used_seconds if state is not None else 0.0)
    plan = read_plan(run.plan) if recipe.minutes else None
    context = _context(dataset, recipe=recipe, parts=parts, processes=processes, callback=callback, plan=plan, began=began)
    return _run(run, context, data=data, args=args, model=model, state=state)


def _require_modest(layout: Mapping[str, torch.Tensor], state: State | None, *, run: RunFolder) -> None:
    """Refuse a network of another run, or one that no memory holds, before it takes any: args.yaml may be a stranger's."""
    if state is not None:
        require_same_model(state, layout, where=run.state)
    num_bytes, free_bytes = sum(each.numel() * each.element_size() for each in layout.values()), free_memory_bytes()
    if num_bytes > free_bytes:
        raise RunError(
            "the network of the run does not fit into memory",
            where=str(run.args),
            got=f"{num_bytes:,} bytes of weights",
            expected=f"at most the {free_bytes:,.0f} bytes that are free; training takes several times the weights",
            next_step="resume it on a larger machine, or start a new run with a smaller backbone",
        )


@contextlib.contextmanager
def held(run: RunFolder, processes: Processes) -> Generator[None]:
    """The run's lock, which the first of several processes holds for all."""
    with locked(run, doing="training") if processes.is_first else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def interruptible(run: RunFolder) -> Generator[None]:
    """Ctrl-C, in whatever phase, becomes an `Interrupted` that names the run to go on with."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(run.path) from None


def _context(
    dataset: Dataset,
    *,
    recipe: Recipe,
    parts: Parts,
    processes: Processes,
    callback: Callback,
    plan: Plan | None,
    began: float,
) -> TrainingContext:
    clock = None
    if plan is not None:
        clock = clock_of(recipe, began=began, num_classes=len(dataset.label_set), learn_seconds=plan.learn_seconds)
    return TrainingContext(
        recipe=recipe,
        train_set=dataset.split("train"),
        val_set=at_most(recipe.max_val, dataset.split("val"), seed=recipe.seed),
        arithmetic=choose_arithmetic(recipe.device, recipe.precision),
        processes=processes,
        callback=callback,
        parts=parts,
        clock=clock,
    )


def fresh_model(
    recipe: Recipe, dataset: Dataset, *, parts: Parts, note: Callable[[str], None], may_download: bool = True
) -> torch.nn.Module:
    """The network of a recipe with its starting weights; made before a run folder is, so that what cannot be trained leaves none.

    Raises UsageError for a device that is not there, for a backbone of the user's own that does not work, and for one that cannot
    be trained in the memory that the recipe asks for; CheckpointError for weights that are not available.
    """
    choose_arithmetic(recipe.device, recipe.precision)
    network = _network(recipe, dataset)
    torch.manual_seed(recipe.seed)
    if parts.backbone is not None:
        num_classes, size_px = network["num_classes"], network["image_size_px"]
        model = build_own_network(parts.backbone, num_classes=num_classes, image_size_px=size_px, weights=recipe.weights)
    else:
        model = build_model(recipe.backbone, **network, weights=recipe.weights, may_download=may_download, note=note)
        require_input_size(model, backbone=recipe.backbone, image_size_px=network["image_size_px"])
    if recipe.grad_checkpointing:
        require_grad_checkpointing(model, backbone=recipe.backbone)
    if recipe.batch_norm == "batch" or recipe.weights == "random":
        require_micro_batches(model, recipe.micro_batch_size)
    return model


def _network(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """The arguments of the recipe's network."""
    return {
        "num_classes": len(dataset.label_set),
        "backbone_args": recipe.backbone_args,
        "image_size_px": preprocessing_of(recipe).image_size_px,
        "head": recipe.head,
    }


def _run(
    run: RunFolder, context: TrainingContext, *, data: RunData, args: RunArgs, model: torch.nn.Module, state: State | None
) -> TrainedRun:
    """Probe, fine-tune, evaluate; each stage leaves its part of the run folder."""
    dataset = data.dataset
    model = model.to(context.arithmetic.device)
    if context.arithmetic.device == "cuda":
        torch.backends.cudnn.benchmark = True  # batches have one size: the search for the fastest kernels pays
    head_start = HeadStart.prepare(model, context) if state is None and context.recipe.has_head_start else None
    sources = open_image_sources(context, has_probe=head_start is not None and head_start.reads_images)
    how, used = _how(sources, head_start, recipe=context.recipe), sources
    with contextlib.closing(sources):
        _announce(run, context, data=data, sources=sources, how=how)
        if state is None:
            state = State(
                data_fingerprint=dataset.fingerprint,
                classes=list(dataset.label_set),
                num_threads=torch.get_num_threads(),
                ends=list(context.recipe.ends),
            )
            if head_start is not None:
                first = Checkpointer(run, context, dataset=dataset) if context.processes.is_first else None
                looked = head_start.install(
                    state,
                    sources=sources,
                    save_first=lambda: None if first is None else first.save_first(model.state_dict(), state),
                )
                context, used = in_time(context, dataset, looked, sources=sources)
                if context.clock is not None and context.processes.is_first:
                    record(run, args, context)
                    _write_environment(run, context, data=data, how=how)
        context.processes.share_weights(model)
        return _fit_and_evaluate(run, context, dataset=dataset, model=model, state=state, sources=used, how=how)


def _how(sources: ImageSources, head_start: HeadStart | None, *, recipe: Recipe) -> dict[str, str]:
    """Where images and features come from, for env.json and the report."""
    if head_start is None or head_start.reads_images:
        return dict(sources.how)
    return {**sources.how, "features": "of an earlier run"} | ({} if recipe.epochs else {"training": "not read"})


def _announce(run: RunFolder, context: TrainingContext, *, data: RunData, sources: ImageSources, how: Mapping[str, str]) -> None:
    """Write env.json, and note what is unusual in it."""
    processes = context.processes
    if processes.is_first:
        _write_environment(run, context, data=data, how=how)
    if context.labels.note and context.own_loss is None:
        context.callback.note(context.labels.note)
    if set(sources.how.values()) != {"files"}:
        context.callback.note("; ".join(f"{use} images: {way}" for use, way in sources.how.items()))
    if processes.count > 1:
        context.callback.note(
            f"{processes.count} processes share each batch of {context.recipe.batch_size}; batch normalisation, if the backbone "
            "has any, takes its statistics from each process's share, and they are averaged after every epoch"
        )


def _write_environment(run: RunFolder, context: TrainingContext, *, data: RunData, how: Mapping[str, str]) -> None:
    write_environment(
        run,
        data_fingerprint=data.dataset.fingerprint,
        validation_fingerprint=context.val_set.fingerprint,
        arithmetic=f"{context.arithmetic.device} {context.arithmetic.precision}",
        num_threads=torch.get_num_threads(),
        num_processes=context.processes.count,
        images=how,
        split=data.split,
    )


def _fit_and_evaluate(
    run: RunFolder,
    context: TrainingContext,
    *,
    dataset: Dataset,
    model: torch.nn.Module,
    state: State,
    sources: ImageSources,
    how: Mapping[str, str],
) -> TrainedRun:
    is_first, callback = context.processes.is_first, context.callback
    checkpointer = Checkpointer(run, context, dataset=dataset)
    if state.model and is_first:
        checkpointer.catch_up(state)
    hooks = checkpointer.hooks if is_first else NO_HOOKS
    done = train_loop(model, context, state=state, hooks=hooks, sources=sources)
    state = done.state
    if state.failures:
        names = ", ".join(sorted(state.failures)[:5]) + (", ..." if len(state.failures) > 5 else "")
        callback.note(f"{len(state.failures)} training images could not be read and were skipped: {names}")
    trained: TrainedRun | None = None
    if is_first:
        if context.recipe.minutes:
            write_plan(read_plan(run.plan), run.plan, ends=state.ends, stopped_after=state.stopped_after)
        facts = _facts(context, state=state, how=how) | facts_of_plan(run, context)
        metrics = evaluate_best(run, context, done, facts=facts, source=sources.val_views)
        run.running_predictions.unlink(missing_ok=True)  # predictions-val.parquet has them now
        if note := optimism_note(state):
            callback.note(note)
        num_unread = len(context.val_set) - metrics.num_images
        if num_unread:
            callback.note(f"{num_unread} validation images could not be read and are in no number")
        trained = TrainedRun(folder=run, checkpoint=Checkpoint.read(run.best), metrics=metrics)
    trained = context.processes.from_first(trained)
    assert trained is not None
    trained = replace(trained, checkpoint=replace(trained.checkpoint, given_backbone=context.parts.backbone))
    callback.end(run, trained.metrics)
    return trained


def _facts(context: TrainingContext, *, state: State, how: Mapping[str, str]) -> dict[str, str]:
    """Lines for the head of the report."""
    recipe, arithmetic, processes = context.recipe, context.arithmetic, context.processes
    return {
        "recipe": recipe.name,
        **context.parts.facts,
        **({"loss": context.labels.loss} if context.labels.probe != "given" and context.own_loss is None else {}),
        "backbone": context.parts.backbone_name(recipe),
        "head": recipe.head,
        "starting weights": Path(recipe.weights).name,
        "input": f"{context.preprocessing.image_size_px} px, {recipe.fit}",
        **({"best epoch": f"{state.best_epoch} of {state.rows[-1]['epoch']:.0f}"} if recipe.epochs else {}),
        **({"choice of the epoch": note} if (note := optimism_note(state)) else {}),
        "arithmetic": f"{arithmetic.device}, {arithmetic.precision}"
        + (f", {processes.count} processes" if processes.count > 1 else ""),
        "training images": how["training"],
        **({"features": how["features"]} if "features" in how else {}),
        "training time": f"{sum(row['seconds'] for row in state.rows):.0f} s",
    }


def _require_same_classes(state: State, dataset: Dataset, *, run: RunFolder) -> None:
    if state.classes != list(dataset.label_set):
        raise RunError(
            "the data's classes are not those of this run",
            where=str(run.path),
            got=", ".join(dataset.label_set),
            expected=", ".join(state.classes),
            next_step="start a new run, or put the classes back",
        )


def require_same_data(dataset: Dataset, fingerprint: str) -> None:
    """Raises RunError for other data than those that the run began with."""
    if dataset.fingerprint != fingerprint:
        raise RunError(
            "the data have changed since this run began",
            where=dataset.source,
            got=f"fingerprint {dataset.fingerprint}",
            expected=fingerprint,
            next_step="start a new run, or put images, splits and labels back as they were",
        )
