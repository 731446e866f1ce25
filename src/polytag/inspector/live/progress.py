"""How far a run is, from the small files in its folder alone: any of them may be missing, old or half written."""

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from polytag.errors import PolytagError, RunError
from polytag.models.checkpoint_files import CONFIG
from polytag.runs.args import RunArgs, read_run_args
from polytag.runs.folder import RunFolder, is_held
from polytag.runs.history import Row, read_history
from polytag.runs.plan import read_plan

RUNNING, INTERRUPTED, ENDED = "running", "interrupted", "ended"
_NUM_TIMED = 5  # epochs whose duration the next ones are expected to have


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A run as its folder shows it.

    status            running, while a process of this machine holds it; interrupted; or ended, once its scores are written
    fold, num_folds   of a run of folds, the one that is being trained; 0 without
    rows              of results.csv, those of the last look where it cannot be read now, which `problem` says
    epochs            that are done, of `planned_epochs`
    best_epoch, best_map   the highest validation mAP so far; -1 and NaN without one
    lost_epoch        the first epoch whose loss is not a number, if the last one has none either; else -1
    seconds_left      about, NaN where it is not known; `minutes` the limit of the run, 0 without
    is_late           whether this epoch takes longer than those before it
    quiet_seconds     since a file of the run was last written
    """

    status: str
    recipe: str = ""
    backbone: str = ""
    fold: int = 0
    num_folds: int = 0
    rows: Sequence[Row] = ()
    problem: str = ""
    epochs: int = 0
    planned_epochs: int = 0
    best_epoch: int = -1
    best_map: float = math.nan
    lost_epoch: int = -1
    minutes: float = 0.0
    seconds_left: float = math.nan
    is_late: bool = False
    quiet_seconds: float = 0.0


def has_ended(run: RunFolder) -> bool:
    """Whether the scores of the run are written, and nothing else of it is being written."""
    return run.predictions.is_file() and (run.is_finished or not is_held(run))


def progress_of(run: RunFolder, *, before: Progress | None = None) -> Progress:
    """Look at the folder of a run; `before` is what the last look saw. Raises nothing for what the folder holds."""
    folder, args, fold = run, None, 0
    problem = ""
    try:
        args = read_run_args(run)
        if args.has_all_folds:
            fold = _fold_of(run, args)
            folder = run.fold(fold)
    except PolytagError as error:
        problem = f"args.yaml cannot be read now: {error.what}"
    rows: Sequence[Row] = before.rows if before is not None and before.fold == fold else ()
    try:
        rows = read_history(folder)
    except RunError as error:
        problem = f"results.csv cannot be read now ({error.got})"
    status = ENDED if has_ended(run) else RUNNING if is_held(folder) or is_held(run) else INTERRUPTED
    best = max(
        (row for row in rows if math.isfinite(row["val_map"])), key=lambda row: (row["val_map"], -row["epoch"]), default=None
    )
    now = time.time()
    left, is_late = (math.nan, False) if args is None or status != RUNNING else _seconds_left(folder, args, rows, now=now)
    return Progress(
        status=status,
        recipe=args.recipe.name if args else "",
        backbone=args.recipe.backbone if args else "",
        fold=fold,
        num_folds=args.folds if args is not None and args.has_all_folds else 0,
        rows=rows,
        problem=problem,
        epochs=int(rows[-1]["epoch"]) if rows else 0,
        planned_epochs=args.recipe.epochs if args else 0,
        best_epoch=int(best["epoch"]) if best else -1,
        best_map=best["val_map"] if best else math.nan,
        lost_epoch=_lost_epoch(rows),
        minutes=args.recipe.minutes if args else 0.0,
        seconds_left=left,
        is_late=is_late,
        quiet_seconds=max(0.0, now - max(map(_written_at, _files_of(folder)))),
    )


def _fold_of(run: RunFolder, args: RunArgs) -> int:
    """The last fold that has begun."""
    return max((number for number in range(1, args.folds + 1) if run.fold(number).is_run), default=1)


def _lost_epoch(rows: Sequence[Row]) -> int:
    """The first of the last epochs whose training loss is not a number; epoch 0 has none."""
    lost = -1
    for row in reversed(rows):
        if row["epoch"] < 1 or math.isfinite(row["train_loss"]):
            break
        lost = int(row["epoch"])
    return lost


def _seconds_left(run: RunFolder, args: RunArgs, rows: Sequence[Row], *, now: float) -> tuple[float, bool]:
    """About the seconds until the training ends, and whether the present epoch takes longer than those before."""
    if args.recipe.minutes:
        return _seconds_of_limit(run, args, rows, now=now), False
    timed = [row["seconds"] for row in rows if row["epoch"] >= 1 and row["seconds"] > 0][-_NUM_TIMED:]
    if not timed:
        return math.nan, False
    an_epoch, since = statistics.median(timed), max(0.0, now - max(_written_at(run.results), _written_at(run.lock)))
    still = max(0, args.recipe.epochs - int(rows[-1]["epoch"]))
    left = still * an_epoch - min(since, an_epoch)
    return max(0.0, left), still > 0 and since > 1.5 * an_epoch + 10


def _seconds_of_limit(run: RunFolder, args: RunArgs, rows: Sequence[Row], *, now: float) -> float:
    """Of a run with a limit of minutes: its lock was taken when training began, after the plan was made."""
    with suppress(RunError):
        plan = read_plan(run.plan)
        whole = 60 * args.recipe.minutes
        whole = min(whole, sum(plan.seconds.values())) if plan.needs_less else whole
        is_resumed = _written_at(run.args) < _written_at(run.lock) - 1
        used = sum(row["seconds"] for row in rows if row["seconds"] > 0) if is_resumed else 0.0
        since = now - (max(_written_at(run.lock), _written_at(run.results)) if is_resumed else _written_at(run.lock))
        return max(0.0, whole - plan.seconds.get("measuring", 0.0) - used - since)
    return math.nan


def _files_of(run: RunFolder) -> tuple[Path, ...]:
    return (
        run.args,
        run.results,
        run.plan,
        run.environment,
        run.state,
        run.lock,
        run.best / CONFIG,
        run.last / CONFIG,
        run.predictions,
    )


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
