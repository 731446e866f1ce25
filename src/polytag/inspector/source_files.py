"""The files that an inspection was read from, as they were then: whether they changed since costs a few looks at the disk."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from polytag.models.checkpoint_files import CONFIG
from polytag.predictions.thresholds import FILE
from polytag.runs.folder import RunFolder, predictions_path

Change = Literal["", "thresholds", "scores"]
Stamp = tuple[int, int, int]


class SourceFiles:
    """Files by what is read from them. Made before they are read, so that no change is missed."""

    def __init__(self, *, scores: Sequence[Path], thresholds: Sequence[Path]):
        self._scores, self._thresholds = _stamps(scores), _stamps(thresholds)

    @classmethod
    def of(cls, path: Path, compare_with: Sequence[Path] = ()) -> "SourceFiles":
        """Return those of a run folder or a predictions file, and of the runs that it is compared with."""
        run = RunFolder(path=path)
        file = run.predictions if run.is_run else path
        scores = [file]
        for other in map(predictions_path, compare_with):  # its thresholds are read with its scores
            scores += [other, other.parent / FILE, other.parent / "best" / CONFIG]
        return cls(scores=scores, thresholds=[file.parent / FILE, file.parent / "best" / CONFIG])

    def changed(self) -> Change:
        """Return what changed since; scores before thresholds, as `polytag calibrate` changes both."""
        if _stamps(self._scores) != self._scores:
            return "scores"
        return "thresholds" if _stamps(self._thresholds) != self._thresholds else ""

    def now(self) -> "SourceFiles":
        """Return the same files as they are now."""
        return SourceFiles(scores=tuple(self._scores), thresholds=tuple(self._thresholds))


def _stamps(paths: Sequence[Path] | Mapping[Path, Stamp | None]) -> dict[Path, Stamp | None]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp | None:
    """Return what a new file at this path changes, as every file of a run is replaced whole; None without a file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
