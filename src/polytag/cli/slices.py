"""`polytag evaluate --slice COLUMN`: metrics of each slice on the console and in JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.errors import UsageError
from polytag.text import interval_text, number_text

if TYPE_CHECKING:
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
ColumnsFile = Annotated[Path | None, typer.Option("--columns", metavar="FILE.csv", help="A table by id, with columns to slice by.")]


def slices_of(
    labelled: "LabelledPredictions",
    columns: Sequence[str],
    *,
    file: Path | None,
    truth: Path | None,
    threshold: float | Sequence[float],
) -> "list[Slices]":
    """Slices by each column: a column of the file, of the truth if that is a table with it, or a built-in one."""
    from polytag.metrics.slices import slice_scores
    from polytag.predictions.columns import BUILT_IN, column_values, has_column, is_table

    if file is not None and not columns:
        raise UsageError("columns without a slice", got="--columns", expected="--slice COLUMN, naming one of them")
    found: list[Slices] = []
    for name in dict.fromkeys(columns):
        table = file
        if file is not None and name in BUILT_IN and not has_column(file, name):
            table = None
        elif file is None and truth is not None and is_table(truth) and name not in BUILT_IN and has_column(truth, name):
            table = truth
        value_N = column_values(labelled, name, table=table)
        found.append(slice_scores(labelled.predictions, value_N, column=name, threshold=threshold))
    return found


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
