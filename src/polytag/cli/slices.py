"""`polytag evaluate --slice COLUMN`: metrics of each slice on the console and in JSON; and `--group COLUMN`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.say import say
from polytag.errors import UsageError
from polytag.text import interval_text, number_text

if TYPE_CHECKING:
    from polytag.data.read_options import ReadOptions
    from polytag.metrics.frequency import Frequency
    from polytag.metrics.groups import Groups
    from polytag.metrics.slices import Slices
    from polytag.metrics.values import Mean
    from polytag.predictions.read import LabelledPredictions

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--slice",
        metavar="COLUMN",
        help="Also evaluate each value's images separately: num_labels, size, source, split, or a column of --columns; repeatable.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="COLUMN",
        help="Intervals and p treat the images of each value as one group that belongs together: a patient, a scene, a video.",
    ),
]
FoldGroup = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="COLUMN",
        help="The images of each value share a fold: a patient, a scene, a video; columns as of evaluate.",
    ),
]
ColumnsFile = Annotated[
    Path | None,
    typer.Option("--columns", metavar="FILE.csv", help="A table by id, with the columns of --slice, --group and --weight."),
]


def slices_of(
    labelled: "LabelledPredictions",
    columns: Sequence[str],
    *,
    file: Path | None,
    truth: Path | None,
    threshold: float | Sequence[float],
    groups: "Groups | None",
    frequency: "Frequency",
) -> "list[Slices]":
    """Slices by each column."""
    from polytag.metrics.slices import slice_scores
    from polytag.predictions.columns import column_values

    found: list[Slices] = []
    for name in dict.fromkeys(columns):
        value_N = column_values(labelled, name, table=table_with(name, file=file, truth=truth))
        found.append(
            slice_scores(labelled.predictions, value_N, column=name, threshold=threshold, groups=groups, frequency=frequency)
        )
    return found


def groups_by(labelled: "LabelledPredictions", column: str | None, *, file: Path | None, truth: Path | None) -> "Groups | None":
    """Groups of images by a column, whose cells are compared as they are written; None without a column."""
    from polytag.metrics.groups import groups_of
    from polytag.predictions.columns import column_values

    if column is None:
        return None
    table = table_with(column, file=file, truth=truth)
    return groups_of(column_values(labelled, column, table=table, option="--group", numbers=False), column=column)


def apart_from_groups(options: "ReadOptions", column: str | None, *, truth: Path | None) -> "ReadOptions":
    """The options that read a truth with one column per class, of which this one is no class but the groups."""
    if column is None or truth is None or table_with(column, file=None, truth=truth) is None:
        return options
    return dataclasses.replace(options, group_column=column)


def numbers_of_truth(names: Sequence[str | None], *, truth: Path | None) -> tuple[str, ...]:
    """The named columns of a truth that hold numbers, which could be read as classes; `read_labelled` decides."""
    if truth is None or not any(names):
        return ()
    from polytag.predictions.columns import holds_numbers

    there = [name for name in names if name and table_with(name, file=None, truth=truth) is not None]
    return tuple(name for name in there if holds_numbers(truth, name))


def groups_of_training(labelled: "LabelledPredictions", path: Path, *, is_required: bool = True) -> "Groups | None":
    """The groups that the run of this path was trained with, which a note on stderr says; None for another path or a run without.

    Unless `is_required`, groups that cannot be read, or are a single one, are another note and None.
    """
    from polytag.runs.folder import run_of
    from polytag.runs.groups import groups_for_intervals, groups_of_run

    run = run_of(path)
    if run is None:
        return None
    find = groups_of_run if is_required else groups_for_intervals
    return find(run, labelled.predictions.ids, note=lambda text: say(f"note: {text}", file=sys.stderr))


def require_use_of_columns(file: Path | None, *, used: bool, options: str) -> None:
    """Raise UsageError for a table of columns of which none is named."""
    if file is not None and not used:
        raise UsageError(
            "a table of columns, none of which is used", got="--columns", expected=f"{options} COLUMN, naming one of them"
        )


def table_with(name: str, *, file: Path | None, truth: Path | None) -> Path | None:
    """The table that has this column: the file, or the truth if it is a table with it; None for a built-in column."""
    from polytag.predictions.columns import BUILT_IN, has_column, is_table

    if file is not None:
        return None if name in BUILT_IN and not has_column(file, name) else file
    return truth if truth is not None and is_table(truth) and name not in BUILT_IN and has_column(truth, name) else None


def print_slices(console: "Any", slices: "Slices") -> None:
    """Print one line per slice, and the caveats of their comparison."""
    from rich.markup import escape
    from rich.table import Table

    from polytag.metrics.slices import caveats

    num_shared = len(slices.shared_classes)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(escape(slices.column), overflow="fold")
    for heading in ("images", "classes", "mAP", "95% interval"):
        table.add_column(heading, justify="right")
    if not slices.is_comparable:
        table.add_column(f"mAP of {num_shared} shared", justify="right")
        table.add_column("95% interval", justify="right")
    for part in slices.slices:
        mean = part.metrics.mean_ap
        shared = () if slices.is_comparable else _cells(part.shared_map)
        table.add_row(escape(part.value), f"{part.num_images:,}", str(mean.count), *_cells(mean), *shared)
    console.print()
    console.print(table)
    for sentence in caveats(slices):
        console.print(sentence, highlight=False, markup=False)


def _cells(mean: "Mean") -> tuple[str, str]:
    return number_text(mean.value, digits=4), interval_text(mean.low, mean.high)
