"""The end of a run: reads the saved best model back, evaluates it, and writes everything that people look at."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from polytag import files
from polytag.contracts import Predictions
from polytag.inference.predictor import Predictor, Source, score_dataset
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.operating_points import points_at
from polytag.metrics.values import Metrics
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.table import write_predictions
from polytag.predictions.thresholds import write_thresholds
from polytag.runs.folder import RunFolder
from polytag.runs.groups import groups_for_intervals
from polytag.runs.history import Row
from polytag.text import word
from polytag.training.callback import Callback
from polytag.training.clock import num_scored_again
from polytag.training.context import TrainingContext
from polytag.training.loop import Trained, validate
from polytag.training.processes import ALONE


def evaluate_best(
    run: RunFolder, context: TrainingContext, trained: Trained, *, facts: Mapping[str, str], source: Source | None = None
) -> Metrics:
    """Score the validation images with the saved `best/`, and write predictions, metrics, plots, grids and report.

    The numbers recorded are thus those that the saved file gives. Scores of the training are taken for its own where the file has
    every bit of the weights that gave them, and gives the same bits again for some of the images.
    metrics.json comes last: a run that has it is finished.
    """
    checkpoint = Checkpoint.read(run.best, backbone=context.parts.backbone)
    predictor = Predictor.load(checkpoint, device=context.recipe.device, precision=context.recipe.precision)
    callback = context.callback
    if _gives_again(predictor, trained, context, source=source):
        assert trained.best_predictions is not None
        predictions = replace(trained.best_predictions, checkpoint_id=checkpoint.id)
    else:
        callback.phase("evaluating best/", len(context.val_set))
        alone = replace(context, arithmetic=predictor.arithmetic, processes=ALONE)
        predictions = validate(predictor.model, alone, checkpoint_id=checkpoint.id, source=source, features=trained.features)
        trained.features.keep()
    trained.features.write(predictor)
    facts = {**facts, "scoring": f"{predictor.frozen.how} network, {predictor.arithmetic.precision}"}
    return write_results(run, predictions, checkpoint=checkpoint, rows=trained.state.rows, facts=facts, callback=callback)


def _gives_again(predictor: Predictor, trained: Trained, context: TrainingContext, *, source: Source | None) -> bool:
    """Whether this model, read from the disk, is the best of the training to the last bit, in its weights and in some scores."""
    scored, val_set, num_again = trained.best_predictions, context.val_set, num_scored_again(predictor.arithmetic)
    if scored is None or predictor.arithmetic != context.arithmetic or len(val_set) <= num_again:
        return False
    weights, best = predictor.model.state_dict(), trained.state.best
    if weights.keys() != best.keys() or not all(torch.equal(value, best[name]) for name, value in weights.items()):
        return False
    every = -(-len(val_set) // num_again)
    context.callback.phase("evaluating best/", -(-len(val_set) // every))
    some = score_dataset(
        predictor.model,
        val_set,
        preprocessing=context.preprocessing,
        arithmetic=predictor.arithmetic,
        source=source,
        shard=(0, every),
        on_batch=lambda batch: context.callback.progress(len(batch.rows) + len(batch.failures)),
    )
    row_of = {name: row for row, name in enumerate(scored.ids)}
    if not row_of.keys() >= set(some.ids):
        return False
    return np.array_equal(some.logit_NC, scored.logit_NC[[row_of[name] for name in some.ids]])


def write_results(
    run: RunFolder,
    predictions: Predictions,
    *,
    checkpoint: Checkpoint,
    rows: Sequence[Row],
    facts: Mapping[str, str],
    has_images: bool = True,
    callback: Callback,
) -> Metrics:
    """Write predictions, metrics, thresholds and pages of a checkpoint's scores of validation images; metrics.json comes last."""
    write_predictions(predictions, run.predictions)
    metrics = evaluate_predictions(predictions, groups=groups_for_intervals(run, predictions.ids, note=callback.note))
    points = points_at(predictions, threshold_C=np.asarray(checkpoint.thresholds))
    write_thresholds(run.thresholds, points, checkpoint_id=checkpoint.id)
    callback.phase("report", 0)
    write_pages(run, metrics=metrics, predictions=predictions, rows=rows, facts=facts, has_images=has_images, callback=callback)
    files.write_text(run.metrics, json.dumps(metrics.to_json(), indent=1, allow_nan=False) + "\n")
    return metrics


def write_pages(
    run: RunFolder,
    *,
    metrics: Metrics,
    predictions: Predictions,
    rows: Sequence[Row],
    facts: Mapping[str, str],
    has_images: bool = True,
    callback: Callback,
) -> None:
    """Plots, grids (of images that are there) and report; a note where Altair is missing, as on a machine that only trains."""
    try:
        from polytag.report.grids import write_grids
        from polytag.report.page import write_report
        from polytag.report.plots import write_plots
    except ModuleNotFoundError as error:
        callback.note(
            f"no plots and no report: {error.name} is not installed; `polytag evaluate {word(run.predictions)}` makes one later"
        )
        return
    write_plots(run.plots, metrics=metrics, predictions=predictions, history=rows)
    if has_images:
        write_grids(run.grids, predictions=predictions, threshold=metrics.threshold_C)
    write_report(run.report, metrics=metrics, predictions=predictions, history=rows, title=run.path.name, facts=facts)
