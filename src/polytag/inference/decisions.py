"""Saves what a run's model decides: its thresholds and its calibration. Imports no torch.

best/config.json is the truth and changes in one step; the other files follow from it. Between any two writes `find_thresholds` has
the old or the new thresholds for the scores that are there: a kill leaves one or the other, and the same command completes it.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from polytag import files
from polytag.calibration import Calibration, calibrated, convert_thresholds
from polytag.contracts import Predictions
from polytag.metrics.calibration import keep_decisions
from polytag.metrics.operating_points import OperatingPoints, points_at
from polytag.models.checkpoint import Checkpoint, update_checkpoint
from polytag.parsing import parse_json, read_small_text
from polytag.plain import from_plain
from polytag.predictions.table import source_in, write_predictions
from polytag.predictions.thresholds import ThresholdsFile, read_thresholds, thresholds_of, thresholds_to_json
from polytag.runs.folder import RunFolder
from polytag.runs.model import Run, held


def save_thresholds(run: Run, points: OperatingPoints) -> None:
    """Save thresholds that were chosen on scores of the run's model under its calibration, in thresholds.json and best/config.json.

    Raises RunError where another process holds the run or has changed its model, or a file cannot be written.
    """
    with held(run, doing="saving thresholds") as checkpoint:
        write_thresholds(run.folder, checkpoint, points)


def write_thresholds(folder: RunFolder, checkpoint: Checkpoint, points: OperatingPoints) -> None:
    """As `save_thresholds`, in a run that is held; `checkpoint` is its best/ as it is now."""
    calibration = checkpoint.calibration
    values = thresholds_to_json(points, checkpoint_id=checkpoint.id, calibration=calibration.id if calibration else "")
    _write_json(folder, values)
    update_checkpoint(checkpoint, thresholds=points.thresholds, calibration=calibration)


def save_calibration(run: Run, raw: Predictions, calibration: Calibration | None, *, facts: str = "") -> str:
    """Save a calibration, or take it away: in best/, the run's predictions, its thresholds and calibration.json (`facts`).

    `raw` are the run's uncalibrated scores. Chosen thresholds are converted, so that no decision changes; thresholds of 0.5 stay.
    Returns the goal of the converted thresholds, "" where nobody recorded it, and "default" where they stay.
    Raises RunError as `save_thresholds` does, PredictionsError for a thresholds.json that cannot be read.
    """
    with held(run, doing="saving a calibration") as checkpoint:
        folder = run.folder
        saved = read_thresholds(folder.thresholds, label_set=checkpoint.label_set) if folder.thresholds.is_file() else None
        goal = saved.goal if saved is not None and saved.checkpoint_id == checkpoint.id else "default"
        chosen = goal not in ("", "default") or set(checkpoint.thresholds) != {0.5}
        after = calibrated(raw, calibration)
        thresholds = _converted(checkpoint, calibration, raw=raw, after=after) if chosen else checkpoint.thresholds
        made = replace(checkpoint, thresholds=thresholds, calibration=calibration)

        _write_raw_predictions(folder)  # scores under another calibration than that of best/ are never there
        known = thresholds_of(folder.thresholds, checkpoint) or thresholds_of(folder.thresholds, made)
        _write_json(folder, _values_of(known, made, after=after))
        update_checkpoint(checkpoint, thresholds=thresholds, calibration=calibration)
        if calibration is not None:
            write_predictions(replace(after, source=source_in(folder.uncalibrated)), folder.predictions)
            files.write_text(folder.calibration, facts)
        else:
            folder.calibration.unlink(missing_ok=True)
            folder.uncalibrated.unlink(missing_ok=True)
        return "default" if not chosen else goal if goal != "default" else ""


def _converted(
    checkpoint: Checkpoint, calibration: Calibration | None, *, raw: Predictions, after: Predictions
) -> tuple[float, ...]:
    if calibration == checkpoint.calibration:
        return checkpoint.thresholds
    moved = convert_thresholds(checkpoint.thresholds, undo=checkpoint.calibration, apply=calibration)
    return keep_decisions(calibrated(raw, checkpoint.calibration), after, thresholds=checkpoint.thresholds, moved=moved)


def _write_raw_predictions(folder: RunFolder) -> None:
    if not folder.uncalibrated.is_file():
        files.write_bytes(folder.uncalibrated, folder.predictions.read_bytes())
    elif (content := folder.uncalibrated.read_bytes()) != folder.predictions.read_bytes():
        files.write_bytes(folder.predictions, content)


def _values_of(known: ThresholdsFile | None, checkpoint: Checkpoint, *, after: Predictions) -> dict[str, Any]:
    """The content of thresholds.json: the facts of the choice do not change, where they are known."""
    if known is not None and known.goal not in ("", "default"):
        values = from_plain(dict, parse_json(read_small_text(known.where)))
        if _is_complete(values.get("per_class"), checkpoint.label_set.names):
            for name, threshold in zip(checkpoint.label_set, checkpoint.thresholds, strict=True):
                values["thresholds"][name] = values["per_class"][name]["threshold"] = threshold
            return values | {"calibration": after.calibration}
    points = points_at(after, threshold_C=np.asarray(checkpoint.thresholds))
    return thresholds_to_json(points, checkpoint_id=checkpoint.id, calibration=after.calibration)


def _is_complete(per_class: object, names: Sequence[str]) -> bool:
    return isinstance(per_class, dict) and all(isinstance(per_class.get(name), dict) for name in names)


def _write_json(folder: RunFolder, values: dict[str, Any]) -> None:
    files.write_text(folder.thresholds, json.dumps(values, indent=2, allow_nan=False) + "\n")
