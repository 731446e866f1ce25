"""`polytag labels next`: which images of a pool to label next, as a list with reasons."""

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.say import say
from polytag.text import cell, counted, storable, word

if TYPE_CHECKING:
    from rich.console import Console

    from polytag.inference.label_next import NextImages

CSV_COLUMNS = ("rank", "image", "labels", "reason")
_NUM_PRINTED = 10


def next_labels(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; its training images are the labelled ones.")],
    pool: Annotated[
        list[str], typer.Argument(metavar="POOL", help="Images without labels, as `polytag predict` takes them; - reads a list.")
    ],
    budget: Annotated[int, typer.Option(metavar="N", min=1, help="How many images to choose.")],
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The list: .parquet, to label in the browser, or .csv for another tool.")
    ] = Path("labels-next.parquet"),
    review: Annotated[bool, typer.Option("--review", help="Label the images in the browser, as `polytag inspect` does.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="From frame to frame of a video.")] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Choose the images to label next: those that the model is unsure about, of rare classes, and unlike what is labelled."""
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.predict_many import require_seconds
    from polytag.cli.progress import progress_bar
    from polytag.cli.standard_input import with_standard_input
    from polytag.cli.terminal import Terminal
    from polytag.inference.label_next import next_images
    from polytag.inference.listing import opened
    from polytag.runs.folder import RunFolder

    require_seconds(every)
    _require_output(output, review=review)
    console, errors = Terminal(), Terminal(stderr=True)
    keep_freed_memory_on_cpu(device)
    with (
        opened(with_standard_input(pool), every_seconds=every, are_distinct=True) as (images, left_out),
        progress_bar(errors) as bar,
    ):
        if left_out:
            errors.print(left_out, highlight=False, markup=False, soft_wrap=True)
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.advance(tasks[what], done)

        found = next_images(RunFolder(path=run), images, budget=budget, device=device, on_batch=show)
    for path, reason in found.failures:
        errors.print(f"{path}: {reason}", highlight=False, markup=False, soft_wrap=True)
    _write(found, output)
    print_next(console, found)
    say(f"\n{counted(len(found.images), 'images')} to label: {output}")
    if output.suffix == ".parquet":
        if review:
            _label(output, errors)
        first = "" if review else f"  polytag inspect {word(output)}\n"
        added = f"polytag labels export {word(run)} labelled --add {word(output)}"
        say(f"\nNext:\n{first}  {added}\n  polytag train labelled/labels.csv")


def _require_output(output: Path, *, review: bool) -> None:
    """Raises UsageError for a list of another kind, and for one whose labels would no longer be those of its images."""
    from polytag.errors import UsageError
    from polytag.inspector.review.store import review_file_of

    endings = (".parquet",) if review else (".csv", ".parquet")
    if output.suffix not in endings:
        raise UsageError(
            "unknown kind of list", where="--output", got=str(output), expected="a name that ends in " + " or ".join(endings)
        )
    if output.suffix == ".parquet" and review_file_of(output).exists():
        raise UsageError(
            "images of an earlier list of this name are being labelled",
            where=str(review_file_of(output)),
            got=f"--output {output}",
            expected="a new name",
            next_step=f"label more of the earlier list with `polytag inspect {word(output)}`, or give another --output",
        )


def _label(output: Path, errors: "Console") -> None:
    """Serve the pages of the list until Ctrl-C."""
    from polytag.cli.inspect import serve_pages
    from polytag.data.read_options import ReadOptions
    from polytag.inspector.open import OpenOptions, open_inspection

    serve_pages(open_inspection(output, OpenOptions(), options=ReadOptions()), errors=errors)


def print_next(console: Any, found: "NextImages") -> None:
    """Print the first images of the list with their reasons, and what the pool was."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", justify="right", style="dim")
    for heading in ("image", "predicted", "why"):
        table.add_column(heading, overflow="fold")
    for rank, image in enumerate(found.images[:_NUM_PRINTED], start=1):
        table.add_row(str(rank), Text(Path(image.path).name), Text(", ".join(image.labels) or "–"), Text(image.reason, style="dim"))
    console.print(table)
    more = f"… and {len(found.images) - _NUM_PRINTED:,} more; " if len(found.images) > _NUM_PRINTED else ""
    known = f"; left out as labelled already: {found.num_labelled:,}" if found.num_labelled else ""
    console.print(f"{more}of {counted(found.num_pool, 'images')} without labels{known}", style="dim", highlight=False)


def next_to_csv(found: "NextImages") -> str:
    """rank, image, labels (predicted, separated by |), reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for rank, image in enumerate(found.images, start=1):
        writer.writerow([rank, cell(storable(image.path)), cell("|".join(image.labels)), cell(image.reason)])
    return text.getvalue()


def _write(found: "NextImages", output: Path) -> None:
    """The list as CSV, or as predictions of these images whose labels are all unknown."""
    import numpy as np

    from polytag import files
    from polytag.contracts import UNKNOWN
    from polytag.data.columns import IdColumns
    from polytag.predictions.table import PredictionsWriter

    if output.suffix == ".csv":
        files.write_text(output, next_to_csv(found))
        return
    rows = {image.path: (str(rank), image.reason) for rank, image in enumerate(found.images, start=1)}
    columns = IdColumns(names=("rank", "reason"), where=str(output), key="id", sha256="", cells_of=rows)
    writer = PredictionsWriter(
        output,
        label_set=found.label_set,
        checkpoint_id=found.checkpoint.id,
        thresholds=found.checkpoint.thresholds,
        calibration=found.checkpoint.calibration_id,
        source="polytag labels next",
        columns=columns,
    )
    target_NC = np.full((1, len(found.label_set)), UNKNOWN, np.int8)
    with writer:
        for image in found.images:
            writer.write([image.path], [_absolute(image.path)], image.logit_C[None], target_NC)


def _absolute(path: str) -> str:
    """The place of an image from any working folder; addresses, and places in files at addresses, as they are."""
    from polytag.data.remote.addresses import is_address

    return path if is_address(path) else os.path.abspath(path)
