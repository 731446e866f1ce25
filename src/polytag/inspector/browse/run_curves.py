"""Lays the training curves of several runs over each other: validation mAP over the epochs, and what each line reaches."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from polytag.errors import RunError
from polytag.inspector.browse.epoch_curves import EpochChart, EpochLine, epoch_chart, line_of
from polytag.runs.folder import RunFolder
from polytag.runs.history import Row, read_history
from polytag.runs.leaderboard import RunSummary

MAX_RUNS = 20
_KEY = "val_map"


@dataclass(frozen=True, kw_only=True)
class CurveRow:
    """A run of the chart: its number there, its best validation mAP, the epoch of that, and how many epochs have one."""

    number: int
    name: str
    is_own: bool
    best: float
    epoch: int
    num_epochs: int
    dash: int


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """The chart, a row for each of its lines, the best first, and how many further runs it leaves out."""

    chart: EpochChart
    rows: Sequence[CurveRow]
    num_left_out: int


def curves_of_runs(named: Sequence[tuple[str, bool, Sequence[Row]]]) -> RunCurves | None:
    """Return the curves of runs: (name, whether it is the run of the page, rows of results.csv).

    A run without a validated epoch is left out, and so are all but the best 20 and the page's own. None where no run has two such
    epochs: dots alone say no more than the table.
    """
    found = [(name, is_own, line_of(rows, _KEY, tag="", is_main=is_own)) for name, is_own, rows in named]
    found = [each for each in found if each[2].points]
    if max((len(line.points) for _, _, line in found), default=0) < 2:
        return None
    found.sort(key=lambda each: (-_best(each[2])[1], each[0]))
    kept = found[:MAX_RUNS]
    own = next((each for each in found[MAX_RUNS:] if each[1]), None)
    if own is not None:
        kept[-1] = own
    lines = [EpochLine(tag=str(number), points=line.points, is_main=is_own) for number, (_, is_own, line) in enumerate(kept, 1)]
    described = "; ".join(f"{name} {_best(line)[1]:.3f} at epoch {_best(line)[0]:.0f}" for name, _, line in kept)
    chart = epoch_chart(lines, description=f"Validation mAP over the epochs, the best of each run: {described}")
    assert chart is not None
    return RunCurves(
        chart=chart,
        rows=[
            CurveRow(
                number=number,
                name=name,
                is_own=is_own,
                best=_best(line)[1],
                epoch=int(_best(line)[0]),
                num_epochs=len(line.points),
                dash=drawn.dash,
            )
            for number, ((name, is_own, line), drawn) in enumerate(zip(kept, chart.lines, strict=True), 1)
        ],
        num_left_out=len(found) - len(kept),
    )


def curves_of_group(group: Sequence[RunSummary], *, own_path: Path) -> RunCurves | None:
    """Return the curves of runs of a leaderboard. That of a run of folds is the mean over its folds, where all have the epoch."""
    named: list[tuple[str, bool, Sequence[Row]]] = []
    for run in group:
        with suppress(RunError):  # a file that is being copied; the next visit may read it
            rows = _mean_of([read_history(RunFolder(path=fold.path)) for fold in run.folds]) if run.folds else _rows(run.path)
            named.append((run.name, run.path == own_path, rows))
    return curves_of_runs(named)


def _rows(path: Path) -> Sequence[Row]:
    return read_history(RunFolder(path=path))


def _mean_of(histories: Sequence[Sequence[Row]]) -> list[Row]:
    of_folds = [{row["epoch"]: row[_KEY] for row in rows if math.isfinite(row[_KEY])} for rows in histories]
    shared = sorted(set.intersection(*map(set, of_folds)))
    return [{"epoch": epoch, _KEY: math.fsum(each[epoch] for each in of_folds) / len(of_folds)} for epoch in shared]


def _best(line: EpochLine) -> tuple[float, float]:
    """The epoch of the highest value, the first of equal ones, and that value."""
    return max(line.points, key=lambda point: (point[1], -point[0]))
