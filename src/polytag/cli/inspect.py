"""`polytag inspect`: serve pages over a run, to look at its predictions and correct its labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.reading import reads_annotations
from polytag.cli.say import say
from polytag.cli.scores import Scale, Truth

if TYPE_CHECKING:
    from polytag.data.read_options import ReadOptions


@reads_annotations
def inspect(
    options: "ReadOptions",
    run: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A run folder, or scores with their labels.")],
    split: Annotated[
        str, typer.Option(metavar="val|train", help="Of a run: its validation images, or its training images, scored out-of-fold.")
    ] = "val",
    compare_with: Annotated[Path | None, typer.Option(metavar="RUN|PREDICTIONS", help="A second run, to compare with.")] = None,
    columns: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="A table by id, with columns to filter by.")] = None,
    host: Annotated[str, typer.Option(help="Other than 127.0.0.1 only with --token.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(show_default="the first free one from 8421 on", help="0: any that is free.")] = None,
    token: Annotated[str, typer.Option(metavar="random|TEXT", help="What a visitor must show; random makes one.")] = "",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    truth: Truth = None,
    scale: Scale = None,
) -> None:
    """Serve pages over a run: ranked images of every class, errors, heat maps, label review, predictions on other images.

    They answer on this machine alone, until Ctrl-C. Nothing of the run is changed; a review is a file in its folder.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from polytag.allocator import return_freed_memory
    from polytag.cli.terminal import Terminal
    from polytag.errors import UsageError
    from polytag.inspector.open import OpenOptions, open_inspection
    from polytag.web.server import address_rules, serve

    if split not in ("val", "train"):
        raise UsageError("unknown split", where="--split", got=repr(split), expected="val or train")
    address_rules(host, token)  # raises before anything is read
    open_options = OpenOptions(
        split=split, compare_with=compare_with, image_dirs=options.image_dirs, truth=truth, scale=scale, columns=columns
    )
    errors = Terminal(stderr=True)
    return_freed_memory()
    bar_columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*bar_columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("features of the training images", total=None, visible=False)
        inspection = open_inspection(
            run,
            open_options,
            options=options,
            note=lambda text: errors.print(f"note: {text}", highlight=False, markup=False, soft_wrap=True),
            on_progress=lambda num_images: progress.update(task, advance=num_images, visible=True),
        )

    from polytag.inspector.app import create_app

    def ready(address: str) -> None:
        predictions = inspection.predictions
        say(f"{inspection.name}: {len(predictions):,} images, {len(predictions.label_set):,} classes")
        say(f"open  {address}")
        errors.print("[dim]Ctrl-C ends it[/dim]")

    serve(create_app(inspection), host=host, port=port, token=token, open_browser=browser, on_ready=ready)
