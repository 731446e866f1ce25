"""The end of a run: reads the saved best model back, evaluates it, and writes everything that people look at."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from polytag import files
from polytag.contracts import Predictions
from polytag.inference.predictor import Predictor, Source
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.operating_points import points_at
from polytag.metrics.values import Metrics
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.table import write_predictions
from polytag.predictions.thresholds import write_thresholds
from polytag.runs.folder import RunFolder
from polytag.runs.groups import groups_for_intervals
from polytag.runs.history import Row
from polytag.training.callback import Callback
from polytag.training.context import TrainingContext
from polytag.training.loop import validate
from polytag.training.processes import ALONE


def evaluate_best(
    run: RunFolder, context: TrainingContext, *, rows: Sequence[Row], facts: Mapping[str, str], source: Source | None = None
) -> Metrics:
    """Score the validation images with the saved `best/`, and write predictions, metrics, plots, grids and report.

    The numbers recorded are thus those that the saved file gives. metrics.json comes last: a run that has it is finished.
    """
    checkpoint = Checkpoint.read(run.best, backbone=context.parts.backbone)
    predictor = Predictor.load(checkpoint, device=context.recipe.device, precision=context.recipe.precision)
    callback = context.callback
    callback.phase("evaluating best/", len(context.val_set))
    alone = replace(context, arithmetic=predictor.arithmetic, processes=ALONE)
    predictions = validate(predictor.model, alone, checkpoint_id=checkpoint.id, source=source)
    facts = {**facts, "scoring": f"{predictor.frozen.how} network, {predictor.arithmetic.precision}"}
    return write_results(run, predictions, checkpoint=checkpoint, rows=rows, facts=facts, callback=callback)


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
            f"no plots and no report: {error.name} is not installed; `polytag evaluate {run.predictions}` makes one later"
        )
        return
    write_plots(run.plots, metrics=metrics, predictions=predictions, history=rows)
    if has_images:
        write_grids(run.grids, predictions=predictions)
    write_report(run.report, metrics=metrics, predictions=predictions, history=rows, title=run.path.name, facts=facts)
