"""The runs below a folder as rows of a leaderboard, from the small files of each; a run may be broken or unfinished."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from polytag.errors import PolytagError, RunError
from polytag.parsing import Malformed, parse_json, read_small_text
from polytag.plain import WrongValue, from_plain
from polytag.runs.args import RunArgs, read_run_args
from polytag.runs.folder import RunFolder, is_held
from polytag.runs.history import Row, read_history
from polytag.text import json_number

FINISHED, RUNNING, INTERRUPTED, UNREADABLE = "finished", "running", "interrupted", "unreadable"
MAX_DEPTH = 8
"""Folders below the one that is searched."""
_NAN = math.nan


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run.

    name          its path below the folder that was searched
    status        finished, running, interrupted (by Ctrl-C or a kill; a resume continues it), or unreadable, for a `reason`
    data          path or name of its data
    same_data     fingerprint of the validation images and labels; runs with another are not comparable. "" where it is not known
    image_size_px None: the backbone's own
    epochs        that are done, of `planned_epochs`
    value, low, high, num_classes   validation mAP and its interval; NaN and 0 until it is finished
    best_so_far   highest validation mAP of an epoch
    seconds       of the epochs, and of the probe
    date          of the last change: when it finished, or its last epoch
    folds         the run of each fold, in a run of folds
    """

    path: Path
    name: str
    status: str
    reason: str = ""
    data: str = ""
    same_data: str = ""
    recipe: str = ""
    backbone: str = ""
    image_size_px: int | None = None
    epochs: int = 0
    planned_epochs: int = 0
    value: float = _NAN
    low: float = _NAN
    high: float = _NAN
    num_classes: int = 0
    best_so_far: float = _NAN
    seconds: float = _NAN
    date: datetime | None = None
    folds: tuple["RunSummary", ...] = ()

    def to_json(self) -> dict[str, object]:
        """Every field; numbers that are not known are null."""
        return {
            "name": self.name,
            "path": str(self.path),
            "status": self.status,
            "reason": self.reason,
            "data": self.data,
            "same_data": self.same_data,
            "recipe": self.recipe,
            "backbone": self.backbone,
            "image_size_px": self.image_size_px,
            "epochs": self.epochs,
            "planned_epochs": self.planned_epochs,
            "mAP": {"value": json_number(self.value), "low": json_number(self.low), "high": json_number(self.high)},
            "num_classes": self.num_classes,
            "best_so_far": json_number(self.best_so_far),
            "seconds": json_number(self.seconds),
            "date": None if self.date is None else self.date.isoformat(timespec="seconds"),
            "folds": [fold.to_json() for fold in self.folds],
        }


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The runs below a folder: in groups of the same validation data, the largest group first, best first in each; and the rest.

    unreadable   run folders that cannot be read, with the reason
    """

    folder: Path
    groups: tuple[tuple[RunSummary, ...], ...]
    unreadable: tuple[RunSummary, ...]

    def to_json(self) -> dict[str, object]:
        """The groups as lists of runs, and the runs that cannot be read."""
        return {
            "folder": str(self.folder),
            "groups": [[run.to_json() for run in group] for group in self.groups],
            "unreadable": [run.to_json() for run in self.unreadable],
        }


def leaderboard(folder: Path, *, max_depth: int = MAX_DEPTH) -> Leaderboard:
    """The runs in a folder and up to `max_depth` folders below it. Reads no weights and no scores.

    Raises RunError for a folder that is not there.
    """
    if not folder.is_dir():
        raise RunError(
            "no folder of runs", where=str(folder), expected="a folder with runs below it", next_step="`polytag runs DIR`"
        )
    found = [_summary(RunFolder(path=path), name=_name(path, folder)) for path in _run_folders(folder, deeper=max_depth)]
    groups: dict[str, list[RunSummary]] = {}
    for run in found:
        if run.status != UNREADABLE:
            groups.setdefault(run.same_data or f"\0{run.data}", []).append(run)
    ordered = [tuple(sorted(group, key=_place)) for group in groups.values()]
    return Leaderboard(
        folder=folder,
        groups=tuple(sorted(ordered, key=lambda group: (-len(group), group[0].data, group[0].same_data))),
        unreadable=tuple(run for run in found if run.status == UNREADABLE),
    )


def _place(run: RunSummary) -> tuple[bool, float, str]:
    """The finished ones by mAP, then the others by their best epoch."""
    value = run.best_so_far if math.isnan(run.value) else run.value
    return math.isnan(run.value), math.inf if math.isnan(value) else -value, run.name


def _run_folders(folder: Path, *, deeper: int) -> Iterator[Path]:
    """Run folders, in the order of their names; not those of folds, and none behind a link."""
    if RunFolder(path=folder).is_run:
        yield folder
        return
    if not deeper:
        return
    try:
        with os.scandir(folder) as entries:
            inner = sorted(
                entry.path for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
    except OSError:  # a folder that may not be listed holds no run of the user
        return
    for path in inner:
        yield from _run_folders(Path(path), deeper=deeper - 1)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path != folder else path.resolve().name


def _summary(run: RunFolder, *, name: str) -> RunSummary:
    try:
        args = read_run_args(run)
        summary = _readable(run, args, name=name)
    except (PolytagError, OSError) as error:
        reason = f"{error.what}: {error.got}" if isinstance(error, PolytagError) and error.got else str(error).partition("\n")[0]
        return RunSummary(path=run.path, name=name, status=UNREADABLE, reason=reason)
    if args.has_all_folds:
        own = [run.fold(number) for number in range(1, args.folds + 1)]
        folds = tuple(_summary(fold, name=fold.path.name) for fold in own if fold.is_run)
        seconds = math.fsum(fold.seconds for fold in folds if not math.isnan(fold.seconds))
        return replace(summary, folds=folds, same_data=args.data_fingerprint, seconds=seconds, epochs=sum(f.epochs for f in folds))
    return summary


def _readable(run: RunFolder, args: RunArgs, *, name: str) -> RunSummary:
    rows = read_history(run)
    is_finished = run.is_finished
    last = run.metrics if is_finished else run.results if rows else run.args
    mean = _mean_of(run) if is_finished else {}
    return RunSummary(
        path=run.path,
        name=name,
        status=FINISHED if is_finished else RUNNING if is_held(run) else INTERRUPTED,
        data=args.dataset or str(args.data),
        same_data=_fingerprint_of(run),
        recipe=args.recipe.name,
        backbone=args.recipe.backbone,
        image_size_px=args.recipe.image_size_px,
        epochs=int(rows[-1]["epoch"]) if rows else 0,
        planned_epochs=args.recipe.epochs * max(1, args.folds if args.has_all_folds else 1),
        value=_number(mean, "value"),
        low=_number(mean, "low"),
        high=_number(mean, "high"),
        num_classes=int(max(0.0, _number(mean, "num_classes"))) if mean else 0,
        best_so_far=_highest(rows),
        seconds=math.fsum(row["seconds"] for row in rows if not math.isnan(row["seconds"])) if rows else _NAN,
        date=datetime.fromtimestamp(last.stat().st_mtime, tz=UTC),
    )


def _highest(rows: Sequence[Row]) -> float:
    return max((row["val_map"] for row in rows if not math.isnan(row["val_map"])), default=_NAN)


def _mean_of(run: RunFolder) -> Mapping[str, object]:
    """`mAP` of metrics.json."""
    return _checked(run.metrics, "mAP")


def _fingerprint_of(run: RunFolder) -> str:
    """Of the validation images and labels; of all images for a run of an earlier version; "" before env.json is written."""
    if not run.environment.is_file():
        return ""
    values = _checked(run.environment)
    found = values.get("validation_fingerprint") or values.get("data_fingerprint")
    return found if isinstance(found, str) else ""


def _checked(path: Path, *keys: str) -> Mapping[str, object]:
    """The mapping in a JSON file, or that of a key in it; raises RunError for another file."""
    try:
        values = from_plain(dict, parse_json(read_small_text(path)))
        for key in keys:
            values = from_plain(dict, values.get(key), name=key)
    except (OSError, Malformed, WrongValue) as error:
        got = error.got if isinstance(error, WrongValue) else str(error)
        raise RunError(f"{path.name} cannot be read", where=str(path), got=got, expected="what `polytag train` wrote") from error
    return values


def _number(values: Mapping[str, object], key: str) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else _NAN
