"""The end of a run: the saved best model is read back, judged, and everything that people look at is written."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from polytag import files
from polytag.contracts import Dataset, Predictions
from polytag.inference.predictor import Predictor, Source
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.operating_points import points_at
from polytag.metrics.values import Metrics
from polytag.models.checkpoint import Checkpoint
from polytag.predictions.table import write_predictions
from polytag.predictions.thresholds import write_thresholds
from polytag.runs.folder import Row, RunFolder
from polytag.runs.recipe import Recipe
from polytag.training.loop import Callback, validate


def evaluate_best(
    run: RunFolder,
    *,
    val_set: Dataset,
    recipe: Recipe,
    rows: Sequence[Row],
    facts: Mapping[str, str],
    callback: Callback,
    source: Source | None = None,
) -> Metrics:
    """Score the validation images with `best/` as it lies on disk, and write predictions, metrics, plots, grids and report.

    What is recorded is thus what the saved file gives. metrics.json comes last: a run that has it is finished.
    """
    checkpoint = Checkpoint.read(run.best)
    predictor = Predictor.load(checkpoint, device=recipe.device, precision=recipe.precision)
    callback.phase("judging best/", len(val_set))
    predictions = validate(
        predictor.model,
        val_set,
        recipe=recipe,
        arithmetic=predictor.arithmetic,
        callback=callback,
        checkpoint_id=checkpoint.id,
        source=source,
    )
    write_predictions(predictions, run.predictions)
    metrics = evaluate_predictions(predictions)
    points = points_at(predictions, threshold_C=np.asarray(checkpoint.thresholds))
    write_thresholds(run.path / "thresholds.json", points, checkpoint_id=checkpoint.id)

    callback.phase("report", 0)
    facts = {**facts, "scoring": f"{predictor.frozen.how} network, {predictor.arithmetic.precision}"}
    _write_pages(run, metrics=metrics, predictions=predictions, rows=rows, facts=facts, callback=callback)
    files.write_text(run.metrics, json.dumps(metrics.to_json(), indent=1, allow_nan=False) + "\n")
    return metrics


def _write_pages(
    run: RunFolder, *, metrics: Metrics, predictions: Predictions, rows: Sequence[Row], facts: Mapping[str, str], callback: Callback
) -> None:
    """Plots, grids and report; without Altair, as on a machine that only trains, a note instead: the numbers need none of it."""
    try:
        from polytag.report.grids import write_grids
        from polytag.report.page import write_report
        from polytag.report.plots import write_plots
    except ModuleNotFoundError as error:
        callback.note(
            f"no plots and no report: {error.name} is not installed; `polytag evaluate {run.predictions}` makes one later"
        )
        return
    write_plots(run.path / "plots", metrics=metrics, predictions=predictions, history=rows)
    write_grids(run.path / "grids", predictions=predictions)
    write_report(run.report, metrics=metrics, predictions=predictions, history=rows, title=run.path.name, facts=facts)
