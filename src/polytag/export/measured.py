"""What a run measured of its model, for the model card: metrics of the validation images, and how thresholds were chosen."""

from dataclasses import dataclass

from polytag.calibration import calibrated
from polytag.contracts import Predictions
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics
from polytag.models.checkpoint import Checkpoint
from polytag.parsing import parse_json, read_small_text
from polytag.plain import from_plain
from polytag.predictions.table import read_parquet_predictions
from polytag.predictions.thresholds import thresholds_of
from polytag.runs.folder import run_of
from polytag.runs.groups import groups_for_intervals


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Of the validation images of the run that the checkpoint is the best of.

    goal, guarantee   of the thresholds, as thresholds.json says; "" where it is not of these thresholds
    lost_groups       whether intervals draw images although the run was trained with groups, which are not in it any more
    """

    metrics: Metrics
    goal: str = ""
    guarantee: str = ""
    lost_groups: bool = False


def measured(checkpoint: Checkpoint) -> Measured | None:
    """Evaluate the run's predictions under the checkpoint's calibration and thresholds; None without predictions of this model.

    Raises PredictionsError where they cannot be read.
    """
    run = run_of(checkpoint.folder)
    if run is None or not run.predictions.is_file():
        return None
    predictions = _of(checkpoint, read_parquet_predictions(run.predictions))
    if predictions is None:
        return None
    notes: list[str] = []  # they may name folders of this machine
    groups = groups_for_intervals(run, predictions.ids, note=notes.append)
    metrics = evaluate_predictions(predictions, threshold=checkpoint.thresholds, groups=groups)
    chosen = thresholds_of(run.thresholds, checkpoint)
    guarantee = ""
    if chosen is not None:
        values = from_plain(dict, parse_json(read_small_text(run.thresholds)))
        guarantee = from_plain(str, values.get("guarantee", ""), name="guarantee")
    return Measured(
        metrics=metrics, goal=chosen.goal if chosen else "", guarantee=guarantee, lost_groups=groups is None and bool(notes)
    )


def _of(checkpoint: Checkpoint, predictions: Predictions) -> Predictions | None:
    """The predictions under the checkpoint's calibration; None where they are of another model or calibration."""
    if (predictions.checkpoint_id, predictions.label_set) != (checkpoint.id, checkpoint.label_set):
        return None
    if predictions.calibration == checkpoint.calibration_id:
        return predictions
    return None if predictions.calibration else calibrated(predictions, checkpoint.calibration)
