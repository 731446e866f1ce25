"""A run or a bare file of scores, for the verbs that choose what a model decides: thresholds and calibration."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from polytag.runs.folder import RunFolder, locked, require_own_folders
from polytag.text import word

if TYPE_CHECKING:
    from polytag.contracts import Predictions
    from polytag.models.checkpoint import Checkpoint

_WAIT_SECONDS = 10.0  # for a process that holds the run: saving takes less than a second, training longer


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder with its best checkpoint."""

    folder: RunFolder
    checkpoint: "Checkpoint"


def open_run(path: Path) -> Run | None:
    """The run in this folder, or None for what can be evaluated but not changed: a file, or a run of folds, which has no one model.

    Raises RunError for a folder that is no run's or has links out of it, and for a model on the hub; CheckpointError where its
    best/ cannot be read.
    """
    from polytag.errors import RunError
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.hub import address_of

    if address := address_of(path):
        raise RunError(
            "a model on the hub is not changed in place",
            where=str(address),
            expected="the run that it was pushed from",
            next_step="do this with the run, then `polytag push` it again",
        )
    if not path.is_dir() or _holds_results(path) or RunFolder(path=path).has_folds:
        return None
    folder = RunFolder(path=path)
    if not folder.predictions.is_file():
        raise RunError(
            "no finished run in this folder",
            where=str(path),
            got=f"no {folder.predictions.name}",
            expected="a run folder that `polytag train` finished, or a file of scores",
        )
    require_own_folders(folder)
    return Run(folder=folder, checkpoint=Checkpoint.read(folder.best))


@contextlib.contextmanager
def held(run: Run, *, doing: str) -> Generator["Checkpoint"]:
    """Hold the run while what its model decides is saved; yields best/ as it is then, which may have other thresholds than before.

    Raises RunError as `locked` does, after ten seconds, and where best/ has become another model or another calibration since it
    was opened.
    """
    from polytag.errors import RunError
    from polytag.models.checkpoint import Checkpoint

    with locked(run.folder, doing=doing, wait_seconds=_WAIT_SECONDS):
        now, before = Checkpoint.read(run.folder.best), run.checkpoint
        if (now.id, now.calibration) != (before.id, before.calibration):
            raise RunError(
                "another process has changed the run meanwhile: nothing was saved",
                where=str(run.folder.best),
                got=_name_of(now),
                expected=_name_of(before),
                next_step="run the same command again",
            )
        yield now


def _name_of(checkpoint: "Checkpoint") -> str:
    calibration = checkpoint.calibration
    return f"checkpoint {checkpoint.id}, calibration {calibration.id if calibration else 'none'}"


def of_this_model(run: Run, predictions: "Predictions", *, where: Path) -> "Predictions":
    """The predictions under the checkpoint's calibration, which is applied here if it was not before.

    Raises PredictionsError where another model made them, or where they are under another calibration.
    """
    from polytag.calibration import calibrated
    from polytag.errors import PredictionsError

    if predictions.checkpoint_id != run.checkpoint.id:
        raise PredictionsError(
            "these scores are of another model",
            where=str(where),
            got=f"checkpoint {predictions.checkpoint_id or 'none'}",
            expected=f"{run.checkpoint.id}, the run's best/",
            next_step=f"score with this run: polytag predict {word(run.folder.path)} DATA --split NAME --output FILE.parquet",
        )
    calibration = run.checkpoint.calibration
    if not predictions.calibration:
        return calibrated(predictions, calibration)
    if calibration is None or predictions.calibration != calibration.id:
        raise PredictionsError(
            "these scores are under another calibration",
            where=str(where),
            got=predictions.calibration,
            expected=f"{calibration.id if calibration else 'none'}, as the run's best/ has it",
            next_step=f"predict again, or calibrate again: polytag calibrate {word(run.folder.path)}",
        )
    return predictions


def _holds_results(folder: Path) -> bool:
    """A folder of VOC result files is a table of scores."""
    return not RunFolder(path=folder).best.is_dir() and any(folder.glob("*_cls_*.txt"))
