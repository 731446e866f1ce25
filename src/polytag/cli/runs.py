"""`polytag runs`: the runs below a folder as a leaderboard."""

import json as encoder
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.text import counted, duration_text, interval_text, number_text, word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from polytag.runs.leaderboard import Leaderboard, RunSummary

_WIDE = 116  # columns in which a run takes one line


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with runs in it or below.")] = Path("runs"),
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every field of every run as JSON.")] = None,
) -> None:
    """List runs as a leaderboard, best first, those on the same validation images together."""
    from polytag import files
    from polytag.cli.terminal import Terminal
    from polytag.runs.leaderboard import leaderboard

    found = leaderboard(folder)
    if json is not None:
        files.write_text(json, encoder.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    print_leaderboard(Terminal(), found)


def print_leaderboard(console: "Console", found: "Leaderboard") -> None:
    """Print a table per group of comparable runs, and what cannot be read."""
    from rich.padding import Padding
    from rich.text import Text

    if not found.groups and not found.unreadable:
        console.print(f"No runs in {found.folder}, nor below it.", highlight=False, markup=False, soft_wrap=True)
    for number, group in enumerate(found.groups):
        if number:
            console.print()
        console.print(Text(group[0].data, style="bold"), soft_wrap=True)
        known = f"validation data {group[0].same_data}" if group[0].same_data else "validation data not known yet"
        console.print(Text(f"{counted(len(group), 'runs')}, {known}", style="dim"), soft_wrap=True)
        console.print()
        if console.width >= _WIDE:
            console.print(Padding(_table(group), (0, 0, 0, 1)))
        else:
            _print_lines(console, group)
    if len(found.groups) > 1:
        console.print("\nRuns of different groups have other validation images or labels: their numbers are not comparable.")
    if found.unreadable:
        console.print(Text(f"\n{counted(len(found.unreadable), 'runs')} not listed:", style="bold yellow"))
    for run in found.unreadable:
        console.print(Text(f" {run.name}: {run.reason}"), soft_wrap=True)
    best = next((run for group in found.groups for run in group[:1] if not math.isnan(run.value)), None)
    if best is not None:
        console.print(f"\nNext:\n  polytag inspect {word(best.path)}", highlight=False, markup=False, soft_wrap=True)


def _rows(group: "Sequence[RunSummary]") -> "Iterator[tuple[RunSummary, str, str]]":
    """Each run with its indent and style: the best is bold, and the runs of folds stand dim below their run."""
    best = next((run for run in group if not math.isnan(run.value)), None)
    for run in group:
        yield run, "", "bold" if run is best else ""
        yield from ((fold, "  ", "dim") for fold in run.folds)


def _print_lines(console: "Console", group: "Sequence[RunSummary]") -> None:
    """Two lines a run, for a narrow console."""
    from rich.text import Text

    for run, indent, style in _rows(group):
        value, interval = _numbers(run)
        line = Text.assemble((f" {value:>5}", style), (f"  {interval:<13}  ", "dim"), (indent + run.name, style))
        console.print(line)
        console.print(Text(f"        {indent}{_in_words(run)}", style="dim"), soft_wrap=True)


def _table(group: "Sequence[RunSummary]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("mAP", justify="right", no_wrap=True)
    table.add_column("95% interval", no_wrap=True)
    for heading in ("run", "recipe", "backbone"):
        table.add_column(heading, overflow="fold")
    for heading in ("px", "epochs", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True)
    for run, indent, style in _rows(group):
        value, interval = _numbers(run)
        epochs = str(run.epochs) if run.epochs >= run.planned_epochs else f"{run.epochs} of {run.planned_epochs}"
        size = "" if run.image_size_px is None else str(run.image_size_px)
        others = (run.recipe, run.backbone, size, epochs, duration_text(run.seconds), _date(run))
        cells = (Text(value, style=style), Text(interval, style="dim"), Text(indent + run.name, style=style))
        table.add_row(*cells, *(Text(cell, style="dim" if indent else "") for cell in others))
    return table


def _numbers(run: "RunSummary") -> tuple[str, str]:
    """mAP and its interval; of an unfinished run the best epoch so far, and that it is running or interrupted."""
    from polytag.runs.leaderboard import FINISHED

    if run.status == FINISHED:
        return number_text(run.value), interval_text(run.low, run.high)
    return number_text(run.best_so_far), run.status


def _in_words(run: "RunSummary") -> str:
    """Recipe, backbone, size, epochs, time and date in a line."""
    size = "" if run.image_size_px is None else f" at {run.image_size_px} px"
    epochs = counted(run.epochs, "epochs") if run.epochs >= run.planned_epochs else f"{run.epochs} of {run.planned_epochs} epochs"
    parts = (run.recipe, f"{run.backbone}{size}", epochs if run.planned_epochs else "", duration_text(run.seconds), _date(run)[:10])
    return run.reason or ", ".join(part for part in parts if part)


def _date(run: "RunSummary") -> str:
    return "" if run.date is None else run.date.astimezone().strftime("%Y-%m-%d %H:%M")
