"""`polytag evaluate --weight COLUMN`: metrics of weighted images on the console."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.slices import table_with
from polytag.text import counted, interval_text, number_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polytag.metrics.groups import Groups
    from polytag.metrics.values import Metrics
    from polytag.metrics.weighted import WeightedMetrics
    from polytag.predictions.read import LabelledPredictions

Weight = Annotated[
    str | None,
    typer.Option(
        "--weight",
        metavar="COLUMN",
        help="Also count each image by its number of 0 or more, such as 1 / its sampling probability; columns as of --slice.",
    ),
]


def weighted_by(
    labelled: "LabelledPredictions",
    column: str,
    *,
    file: Path | None,
    truth: Path | None,
    threshold: "float | Sequence[float]",
    groups: "Groups | None",
) -> "WeightedMetrics":
    """Metrics of the images weighted by a column."""
    from polytag.metrics.weighted import weighted_metrics
    from polytag.predictions.columns import column_values

    table = table_with(column, file=file, truth=truth)
    weight_N = column_values(labelled, column, table=table, option="--weight", numbers=False)
    return weighted_metrics(labelled.predictions, weight_N, column=column, threshold=threshold, groups=groups)


def print_weighted(console: "Any", weighted: "WeightedMetrics", metrics: "Metrics") -> None:
    """Print one line per class, in the order of the table without weights, and one line per average."""
    from rich.markup import escape
    from rich.table import Table

    console.print()
    console.print(f"Images weighted by {weighted.column}:", highlight=False, markup=False)
    classes = Table(box=None, pad_edge=False, header_style="bold")
    classes.add_column("class", overflow="fold", min_width=5)
    for heading in ("AP", "95% interval", "share", "ROC AUC", "95% interval", "effective positives"):
        classes.add_column(heading, justify="right")
    for column in metrics.best_first.tolist():
        classes.add_row(
            escape(weighted.names[column]),
            number_text(float(weighted.ap_C[column]), digits=4),
            interval_text(*weighted.ap_interval_C2[column].tolist()),
            number_text(float(weighted.share_C[column]), digits=4),
            number_text(float(weighted.roc_auc_C[column]), digits=4),
            interval_text(*weighted.roc_auc_interval_C2[column].tolist()),
            number_text(float(weighted.effective_positives_C[column]), digits=1),
        )
    averages = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (("average", "left"), ("value", "right"), ("95% interval", "right"), ("over", "right")):
        averages.add_column(heading, justify=justify, no_wrap=True)  # pyright: ignore[reportArgumentType]  rich's literal type
    for name, mean in weighted.means.items():
        interval = interval_text(mean.low, mean.high)
        averages.add_row(name, number_text(mean.value, digits=4), interval, counted(mean.count, mean.unit))
    for part in (classes, "", averages):
        console.print(part)
