"""`polytag train --folds K`: K models, each validated on the fold that it did not learn from, and all their scores as one run.

The run of each fold is an ordinary run in a folder of its own, begun and continued as any other. What is here divides the data,
goes from fold to fold, and evaluates the out-of-fold predictions of all images together.
"""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytag import files
from polytag.contracts import Dataset, Predictions
from polytag.data.divide import Folds, fold_name
from polytag.data.groups import divided_groups_note
from polytag.data.read_options import ReadOptions
from polytag.data.splits import require_trainable
from polytag.errors import DataError, RunError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics
from polytag.models.heads import chosen_head
from polytag.predictions.read import read_predictions
from polytag.predictions.table import write_predictions
from polytag.runs.args import RunArgs, load_folds, read_run_args, write_args
from polytag.runs.folder import RunFolder, create_run_folder, open_run_folder
from polytag.runs.groups import groups_for_intervals, write_groups
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training.callback import Callback, Callbacks
from polytag.training.check_parts import check_parts
from polytag.training.evaluation import write_pages
from polytag.training.one_run import (
    TrainedRun,
    begin_run,
    continue_run,
    fresh_model,
    held,
    interruptible,
    metrics_of,
    read_back,
    require_same_data,
)
from polytag.training.parts import Parts
from polytag.training.processes import Processes, joined
from polytag.training.train import args_of, data_again, data_of_fold, default_output


@dataclass(frozen=True, kw_only=True)
class TrainedFolds:
    """A finished run of folds: its folder, the run of each fold, and the metrics of the out-of-fold predictions of all images."""

    folder: RunFolder
    runs: tuple[TrainedRun, ...]
    metrics: Metrics

    @property
    def map_of_folds(self) -> tuple[float, ...]:
        """The validation mAP of each fold."""
        return tuple(run.metrics.mean_ap.value for run in self.runs)


def train_folds(
    data: str | Path | Dataset,
    *,
    num_folds: int,
    recipe: Recipe = FINETUNE,
    output: str | Path | None = None,
    options: ReadOptions | None = None,
    augment: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    backbone: Callable[..., Any] | None = None,
    callbacks: Sequence[object] = (),
) -> TrainedFolds:
    """Train a model for each fold of a data set, on the other folds, and evaluate every image by the model of its fold.

    The folds are stratified by label, and keep groups together, unless the annotations name as many splits as folds. `output` is
    the run folder, by default `runs/<data>-<recipe>-<K>-folds`, with a run `fold-1`, `fold-2`, ... in it. `data`, own parts,
    `callbacks`, and what it raises, are as for `train`; and DataError for data that cannot be divided, or with a fold that cannot
    be learned from.
    """
    callback = Callbacks(callbacks)
    parts = Parts(augment=augment, loss=loss, backbone=backbone)
    recipe = parts.recipe_of(recipe)
    recipe = replace(recipe, head=chosen_head(recipe.head, backbone=recipe.backbone))
    args, given = args_of(data, options=options, recipe=recipe)
    args = replace(args, folds=num_folds, parts=parts.records)
    folds = load_folds(args, given=given)
    args = replace(args, data_fingerprint=folds.dataset.fingerprint)
    callback.read(folds.dataset)
    callback.note(_how_divided(folds))
    if note := divided_groups_note(folds.dataset):
        callback.note(note)
    for number in range(1, num_folds + 1):
        _require_trainable_fold(folds, number)
    model = fresh_model(recipe, folds.dataset, parts=parts, note=callback.note)
    for note in check_parts(parts, recipe, folds.fold(1)):
        callback.note(note)
    wanted = Path(output) if output else default_output(args)
    with joined(recipe.device) as processes:
        run = processes.from_first(create_run_folder(wanted) if processes.is_first else RunFolder(path=wanted))
        with held(run, processes), interruptible(run):
            if processes.is_first:
                if args.options.group_column:
                    write_groups(run, folds.dataset)
                write_args(run, args)
            return _train(run, folds, args=args, parts=parts, model=model, processes=processes, callback=callback)


def resume_folds(
    run_folder: str | Path,
    *,
    data: str | Path | Dataset | None = None,
    augment: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    backbone: Callable[..., Any] | None = None,
    callbacks: Sequence[object] = (),
) -> TrainedFolds:
    """Continue a run of folds with the fold that was interrupted; a finished one is read back. Arguments and errors as of
    `resume`."""
    callback = Callbacks(callbacks)
    parts = Parts(augment=augment, loss=loss, backbone=backbone)
    run = open_run_folder(Path(run_folder))
    args = read_run_args(run)
    if not args.has_all_folds:
        raise RunError(
            "this run has no folds",
            where=str(run.path),
            got=f"the run of fold {args.fold}" if args.fold else "a run of one model",
            expected="a run that `polytag train --folds K` made",
        )
    args, given = data_again(args, data)
    with joined(args.recipe.device) as processes, interruptible(run):
        if processes.from_first(run.is_finished):
            callback.note(f"{run.path} is finished; nothing to resume")
            return _finished(run, num_folds=args.folds, parts=parts, callback=callback)
        parts.require_same(args.parts, where=str(run.path))
        with held(run, processes):
            folds = load_folds(args, given=given)
            require_same_data(folds.dataset, args.data_fingerprint)
            return _train(run, folds, args=args, parts=parts, model=None, processes=processes, callback=callback)


def _require_trainable_fold(folds: Folds, number: int) -> None:
    try:
        require_trainable(folds.fold(number))
    except DataError as error:
        raise DataError(
            f"fold {number} of {len(folds.names)}: {error.what}",
            where=error.where,
            got=error.got,
            expected=error.expected,
            next_step=f"take fewer folds; {error.next_step}",
        ) from error


def _finished(run: RunFolder, *, num_folds: int, parts: Parts, callback: Callback) -> TrainedFolds:
    """A finished run, read back; its data need not be there any more."""
    runs = tuple(
        read_back(open_run_folder(run.fold(number).path), parts=parts, callback=callback) for number in range(1, num_folds + 1)
    )
    return TrainedFolds(folder=run, runs=runs, metrics=metrics_of(run, callback=callback))


def _train(
    run: RunFolder,
    folds: Folds,
    *,
    args: RunArgs,
    parts: Parts,
    model: torch.nn.Module | None,
    processes: Processes,
    callback: Callback,
) -> TrainedFolds:
    """Every fold in turn, then all together. `model` is the fresh one of the first fold; without it, nothing is downloaded."""
    if processes.is_first and not run.assignment.is_file():
        files.write_text(run.assignment, _assignment(folds))
    may_download = model is not None
    trained: list[TrainedRun] = []
    for number in range(1, args.folds + 1):
        fold, own_args = run.fold(number), replace(args, fold=number)
        load = partial(data_of_fold, own_args, folds)
        if processes.from_first(fold.is_run):
            callback.note(f"fold {number} of {args.folds}" + (" is finished" if fold.is_finished else ""))
            own = open_run_folder(fold.path)
            trained.append(continue_run(own, load, args=read_run_args(own), parts=parts, processes=processes, callback=callback))
            continue
        data = load()
        callback.note(f"fold {number} of {args.folds}: {len(data.dataset.split('val')):,} validation images")
        if processes.is_first:
            fold.lock.parent.mkdir(parents=True, exist_ok=True)  # a kill may have left the folder
        own_model = model or fresh_model(args.recipe, data.dataset, parts=parts, may_download=may_download, note=callback.note)
        model = None
        begun = begin_run(fold, data, args=own_args, parts=parts, model=own_model, processes=processes, callback=callback)
        trained.append(begun)
    metrics: Metrics | None = None
    if processes.is_first:
        metrics = _evaluate(run, folds.dataset, trained, args=args, parts=parts, callback=callback)
    metrics = processes.from_first(metrics)
    assert metrics is not None
    return TrainedFolds(folder=run, runs=tuple(trained), metrics=metrics)


def _evaluate(
    run: RunFolder, dataset: Dataset, trained: Sequence[TrainedRun], *, args: RunArgs, parts: Parts, callback: Callback
) -> Metrics:
    """Write the out-of-fold predictions of all images, their metrics and their report; metrics.json comes last."""
    callback.phase("evaluating all folds", 0)
    predictions = out_of_fold_predictions(dataset, [read_predictions(each.folder.predictions) for each in trained])
    write_predictions(predictions, run.predictions)
    metrics = evaluate_predictions(predictions, groups=groups_for_intervals(run, predictions.ids, note=callback.note))
    spread = spread_of([each.metrics.mean_ap.value for each in trained])
    facts = {
        "recipe": args.recipe.name,
        **parts.facts,
        "backbone": parts.backbone_name(args.recipe),
        "folds": f"{len(trained)}; every image is scored by the model of its fold, which learned from the others",
        "mAP of the folds": f"{spread['mean']:.4f} ± {spread['sd']:.4f} ({spread['low']:.4f} to {spread['high']:.4f})",
    }
    write_pages(run, metrics=metrics, predictions=predictions, rows=(), facts=facts, callback=callback)
    per_fold = [
        {"fold": number, "num_images": each.metrics.num_images, "mAP": _plain(each.metrics.mean_ap.value)}
        for number, each in enumerate(trained, start=1)
    ]
    content = {**metrics.to_json(), "folds": {"mAP": {name: _plain(value) for name, value in spread.items()}, "per_fold": per_fold}}
    files.write_text(run.metrics, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return metrics


def out_of_fold_predictions(dataset: Dataset, parts: Sequence[Predictions]) -> Predictions:
    """The predictions of all folds as one, in the order of the data set. They are of several models, and so of no checkpoint."""
    row_of = {name: row for row, name in enumerate(dataset.ids)}
    ids = [name for part in parts for name in part.ids]
    order = np.argsort([row_of[name] for name in ids], kind="stable")
    paths = [path for part in parts for path in part.image_paths]
    return Predictions(
        ids=tuple(ids[i] for i in order),
        logit_NC=np.concatenate([part.logit_NC for part in parts])[order],
        target_NC=np.concatenate([part.target_NC for part in parts])[order],
        label_set=dataset.label_set,
        image_paths=tuple(paths[i] for i in order),
        source=f"{dataset.source}, out-of-fold, {len(parts)} folds",
        absent_means=dataset.absent_means,
    )


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation (of a sample), lowest and highest of the values that are defined; NaN where too few are."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return dict.fromkeys(("mean", "sd", "low", "high"), math.nan)
    sd = statistics.stdev(known) if len(known) > 1 else math.nan
    return {"mean": statistics.fmean(known), "sd": sd, "low": min(known), "high": max(known)}


def _assignment(folds: Folds) -> str:
    """folds.csv: the fold of each image, and where the annotations name the folds, that name."""
    names = {fold_name(number): name for number, name in enumerate(folds.names, start=1)}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "fold", *([] if folds.is_made else ["name"])))
    for name, split in zip(folds.dataset.ids, folds.dataset.split_N, strict=True):
        if split in names:
            writer.writerow((name, split, *([] if folds.is_made else [names[split]])))
    return text.getvalue()


def _how_divided(folds: Folds) -> str:
    how = "stratified by label" if folds.is_made else f"as the annotations name them: {', '.join(folds.names)}"
    how += f", in place of the annotations' {' and '.join(folds.replaced)}" if folds.replaced else ""
    others = [split for split in folds.dataset.splits if not split.startswith("fold-")]
    left_out = f"; in no fold: {', '.join(f'{folds.dataset.split_N.count(split):,} images of {split}' for split in others)}"
    return f"{folds.num_images:,} images in {len(folds.names)} folds, {how}" + (left_out if others else "")


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
