"""Writes and reads thresholds.json: the threshold of each class, and its metrics when it was chosen. Imports no torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytag import files
from polytag.calibration import Calibration, convert_thresholds
from polytag.contracts import LabelSet, Predictions
from polytag.errors import CheckpointError, PredictionsError
from polytag.metrics.risk_control import RiskControl
from polytag.models.checkpoint import Checkpoint
from polytag.models.checkpoint_files import CONFIG
from polytag.parsing import Malformed, parse_json, read_small_text
from polytag.plain import WrongValue, from_plain, shown

if TYPE_CHECKING:
    from polytag.metrics.operating_points import OperatingPoints

VERSION = 1
FILE = "thresholds.json"
PREDICTIONS = "predictions-val.parquet"
"""Those of a run, next to its thresholds."""
_NEXT = f"choose thresholds again, or remove {FILE}: every class then has that of best/, or 0.5"


@dataclass(frozen=True, kw_only=True)
class ThresholdsFile:
    """The content of thresholds.json that an evaluation needs.

    thresholds     C probabilities, in the order of the label set
    goal           "default", "f1", "precision=0.9", ...; "" if the file has none
    checkpoint_id, calibration   of the scores that they are for; "" if the file has none
    ids_fingerprint     of the images that they were chosen on; "" if the file has none
    risk_control   what the goal "fnr" guarantees; None for another
    where          the file that they come from
    """

    thresholds: tuple[float, ...]
    goal: str = ""
    checkpoint_id: str = ""
    calibration: str = ""
    ids_fingerprint: str = ""
    risk_control: RiskControl | None = None
    where: Path = Path(FILE)

    def chosen_on(self, predictions: Predictions) -> bool:
        """Whether these images have the ids of those that the thresholds were chosen on."""
        return self.ids_fingerprint == predictions.ids_fingerprint


def thresholds_to_json(points: "OperatingPoints", *, checkpoint_id: str = "", calibration: str = "") -> dict[str, Any]:
    """The content of thresholds.json: plain values, NaN as None."""
    per_class = {
        point.name: {key: _plain(value) for key, value in asdict(point).items() if key != "name"} for point in points.points
    }
    return {
        "version": VERSION,
        "thresholds": {point.name: point.threshold for point in points.points},
        "goal": str(points.goal),
        "confidence": points.confidence,
        "joint": points.joint,
        "num_images": points.num_images,
        "ids_fingerprint": points.ids_fingerprint,
        "risk_control": None if points.risk_control is None else asdict(points.risk_control),
        "guarantee": points.guarantee,
        "checkpoint_id": checkpoint_id,
        "calibration": calibration,
        "per_class": per_class,
    }


def write_thresholds(path: Path, points: "OperatingPoints", *, checkpoint_id: str = "", calibration: str = "") -> None:
    """Write thresholds.json atomically; raises RunError if that fails."""
    values = thresholds_to_json(points, checkpoint_id=checkpoint_id, calibration=calibration)
    files.write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_thresholds(path: Path, *, label_set: LabelSet) -> ThresholdsFile:
    """Read the thresholds of these classes from a thresholds.json, or from any JSON object of class name: probability.

    Raises PredictionsError for a file that cannot be read, lacks a class, has another class, or has a value outside [0, 1].
    """
    where = str(path)
    values = _read_values(path)
    nested = isinstance(values, Mapping) and isinstance(values.get("thresholds"), Mapping)
    found = values["thresholds"] if nested else values
    if not isinstance(found, Mapping):
        raise PredictionsError("the file has no thresholds", where=where, expected="an object of class name: probability")
    if nested and (values.get("version") != VERSION or isinstance(values["version"], bool)):
        raise PredictionsError(
            "the thresholds were written by another version of polytag",
            where=where,
            got=f"version {shown(values.get('version'))}",
            expected=f"version {VERSION}",
        )
    missing, unknown = [name for name in label_set if name not in found], [name for name in found if name not in set(label_set)]
    if missing or unknown:
        raise PredictionsError(
            "the thresholds are for other classes",
            where=where,
            got="lacks " + ", ".join(missing) if missing else "has " + ", ".join(unknown),
            expected=", ".join(label_set),
        )
    for name in label_set:
        value = found[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise PredictionsError(
                "a threshold is not a probability", where=where, got=f"{shown(value)} for {name!r}", expected="a number from 0 to 1"
            )
    names = ("goal", "checkpoint_id", "calibration", "ids_fingerprint", "risk_control")
    metadata = {name: values[name] for name in names if nested and name in values}
    try:
        if nested and "per_class" in values:
            per_class = from_plain(dict, values["per_class"], name="per_class")
            for name in label_set:
                from_plain(dict, per_class.get(name), name=f"per_class, {name!r}")
        read = from_plain(ThresholdsFile, {"thresholds": [found[name] for name in label_set], **metadata})
        if (control := read.risk_control) is not None and not 0 < control.level < 1:
            raise WrongValue("risk_control.level", control.level, expected="a rate between 0 and 1")
        return replace(read, where=path)
    except WrongValue as error:
        raise PredictionsError(
            "the thresholds cannot be read", where=where, got=error.got, expected=error.expected, next_step=_NEXT
        ) from error


def _read_values(path: Path) -> Any:
    where = str(path)
    try:
        return parse_json(read_small_text(path))
    except OSError as error:
        got = error.strerror or str(error)
        raise PredictionsError("the thresholds cannot be read", where=where, got=got, expected=f"a {FILE}") from error
    except Malformed as error:
        raise PredictionsError(
            "the thresholds are not JSON", where=error.place(path), got=error.problem, expected=f"a {FILE}", next_step=_NEXT
        ) from error


def thresholds_of(path: Path, checkpoint: Checkpoint) -> ThresholdsFile | None:
    """thresholds.json, if it has the thresholds of this checkpoint; None where it has others, as after a kill, or is malformed."""
    if not path.is_file():
        return None
    try:
        found = read_thresholds(path, label_set=checkpoint.label_set)
    except PredictionsError:  # a file of another program
        return None
    theirs = (found.checkpoint_id, found.calibration, found.thresholds)
    return found if theirs == (checkpoint.id, _id_of(checkpoint.calibration), checkpoint.thresholds) else None


def require_same_calibration(thresholds: ThresholdsFile, predictions: Predictions, *, where: Path) -> None:
    """Raises PredictionsError if the thresholds are for scores under another calibration."""
    if thresholds.checkpoint_id == predictions.checkpoint_id != "" and thresholds.calibration != predictions.calibration:
        raise PredictionsError(
            "the thresholds are for scores under another calibration",
            where=str(where),
            got=f"calibration {thresholds.calibration or 'none'}",
            expected=f"{predictions.calibration or 'none'}, that of the predictions",
            next_step="predict again with the current model, or choose thresholds on these predictions",
        )


def find_thresholds(path: Path, predictions: Predictions) -> ThresholdsFile | None:
    """The thresholds of a predictions file in a run folder, or next to a thresholds.json; None unless they are for this model.

    best/config.json decides: it is written whole, and has the thresholds before calibration for scores before it. thresholds.json
    adds their goal. Without a best/ of this model, thresholds.json has them, for scores under its calibration.
    Raises PredictionsError where the run was calibrated since its own predictions were read, and for a
    thresholds.json that is not JSON. One of another program has no checkpoint, and is passed over.
    """
    if not predictions.checkpoint_id:
        return None
    file, checkpoint = path.parent / FILE, _checkpoint_of(path.parent, predictions)
    if file.is_file():
        _read_values(file)
    if checkpoint is not None and predictions.calibration in ("", _id_of(checkpoint.calibration)):
        return _of_checkpoint(checkpoint, predictions, chosen=thresholds_of(file, checkpoint))
    if checkpoint is not None and path.name == PREDICTIONS:
        raise PredictionsError(
            "these scores are under another calibration than the run's model",
            where=str(path),
            got=predictions.calibration,
            expected=f"{_id_of(checkpoint.calibration) or 'none'}, as best/ has it",
            next_step="run the same command again, or `polytag calibrate` if the file stays like this",
        )
    try:
        found = read_thresholds(file, label_set=predictions.label_set) if file.is_file() else None
    except PredictionsError:  # a file of another program
        return None
    same = found is not None and (found.checkpoint_id, found.calibration) == (predictions.checkpoint_id, predictions.calibration)
    return found if same else None


def _checkpoint_of(folder: Path, predictions: Predictions) -> Checkpoint | None:
    """The best/ in this folder, if it made these predictions."""
    if not (folder / "best").is_dir():
        return None
    try:
        checkpoint = Checkpoint.read(folder / "best")
    except CheckpointError:
        return None
    same = (checkpoint.id, checkpoint.label_set) == (predictions.checkpoint_id, predictions.label_set)
    return checkpoint if same else None


def _of_checkpoint(checkpoint: Checkpoint, predictions: Predictions, *, chosen: ThresholdsFile | None) -> ThresholdsFile:
    before = checkpoint.calibration is not None and not predictions.calibration
    if chosen is not None and not before:
        return chosen
    undo = checkpoint.calibration if before else None
    facts = chosen or ThresholdsFile(thresholds=())
    return replace(
        facts,
        thresholds=convert_thresholds(checkpoint.thresholds, undo=undo),
        checkpoint_id=checkpoint.id,
        calibration=predictions.calibration,
        where=checkpoint.folder / CONFIG,
    )


def _id_of(calibration: Calibration | None) -> str:
    return "" if calibration is None else calibration.id


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
