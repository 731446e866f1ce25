"""`polytag labels export`: parses the options, and prints what was exported."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.reading import reads_annotations
from polytag.text import counted, word

if TYPE_CHECKING:
    from rich.console import Console

    from polytag.data.read_options import ReadOptions
    from polytag.inspector.review.export import Exported


@reads_annotations
def export(
    options: "ReadOptions",
    run: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A reviewed run folder or predictions file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder to write.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="csv, parquet, voc, coco, imagefolder, hf or webdataset.",
            show_default="OUT's ending, or csv",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DATA", help="The reviewed data set, if it is not the run's own.")] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(metavar="LIST", help="Add the labelled images of a list of `labels next` to the training images; repeatable."),
    ] = None,
) -> None:
    """Write the data set with the decisions of a review in `polytag inspect`, and the list of changed labels."""
    from polytag.cli.terminal import Terminal
    from polytag.inspector.review.export import export_labels

    print_export(Terminal(), export_labels(run, out, to=to, data=data, lists=add or (), options=options))


def print_export(console: "Console", exported: "Exported") -> None:
    """Print one line per class with its changed labels, then the sums and the files."""
    from rich.markup import escape
    from rich.table import Table

    from polytag.contracts import ABSENT, PRESENT, UNKNOWN

    became = (PRESENT, ABSENT, UNKNOWN)
    number_of = Counter((each.class_name, each.after) for each in exported.changes)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for heading in ("now present", "now absent", "now unknown"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in dict.fromkeys(each.class_name for each in sorted(exported.changes, key=lambda each: each.class_name)):
        numbers = [number_of[name, label] for label in became]
        table.add_row(escape(name), *(f"{number:,}" if number else "[dim]0[/dim]" for number in numbers))
    console.print(table)
    labels, images = len(exported.changes), len({(each.split, each.image_id) for each in exported.changes})
    text = f"\n{counted(labels, 'labels')} of {counted(images, 'images')} changed, {exported.num_confirmed:,} confirmed"
    console.print(text, highlight=False, markup=False)
    if exported.num_added or exported.num_known:
        known = (
            f"; the data have {counted(exported.num_known, 'labelled images')} of the lists already" if exported.num_known else ""
        )
        console.print(f"{counted(exported.num_added, 'images')} added{known}", highlight=False, markup=False)
    for heading, path in (("data:    ", exported.data), ("changes: ", exported.changes_file)):
        console.print(f"{heading}{path}", highlight=False, markup=False, soft_wrap=True)
    grouped = f" --group {word(exported.group_column)}" if exported.group_column else ""
    console.print(f"\nNext:\n  polytag train {word(exported.data)}{grouped}", highlight=False, markup=False, soft_wrap=True)
