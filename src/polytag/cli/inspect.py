"""`polytag inspect`: serve pages over a run, to look at its predictions and correct its labels."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.reading import reads_annotations
from polytag.cli.say import say
from polytag.cli.scores import Scale, Truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from starlette.types import ASGIApp

    from polytag.data.read_options import ReadOptions
    from polytag.inference.text_model import TextModel
    from polytag.inspector.inspection import Inspection


@reads_annotations
def inspect(
    options: "ReadOptions",
    run: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A run folder, or scores with their labels.")],
    split: Annotated[
        str, typer.Option(metavar="val|train", help="Of a run: its validation images, or its training images, scored out-of-fold.")
    ] = "val",
    compare_with: Annotated[
        list[Path] | None, typer.Option(metavar="RUN|PREDICTIONS", help="Another run, to compare with; repeatable.")
    ] = None,
    columns: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="A table by id, with columns to filter by.")] = None,
    text_model: Annotated[
        str, typer.Option(metavar="NAME:WEIGHTS|DIR", help="A model of open_clip, to find images by a text.")
    ] = "",
    host: Annotated[str, typer.Option(help="Other than 127.0.0.1 only with --token.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(show_default="the first free one from 8421 on", help="0: any that is free.")] = None,
    token: Annotated[str, typer.Option(metavar="random|TEXT", help="What a visitor must show; random makes one.")] = "",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    truth: Truth = None,
    scale: Scale = None,
) -> None:
    """Serve pages over a run: ranked images of every class, errors, heat maps, label review, predictions on other images.

    They answer on this machine alone, until Ctrl-C. Nothing of the run is changed; a review is a file in its folder. Of a run that
    still trains, the page follows the training.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from polytag.allocator import return_freed_memory
    from polytag.cli.terminal import Terminal
    from polytag.errors import UsageError
    from polytag.inspector.live.app import LiveRun
    from polytag.inspector.live.progress import has_ended
    from polytag.inspector.open import OpenOptions, open_inspection, open_running, reopen_inspection
    from polytag.runs.folder import RunFolder
    from polytag.web.server import address_rules

    if split not in ("val", "train"):
        raise UsageError("unknown split", where="--split", got=repr(split), expected="val or train")
    address_rules(host, token)  # raises before anything is read
    errors = Terminal(stderr=True)
    open_options = OpenOptions(
        split=split,
        compare_with=compare_with or (),
        image_dirs=options.image_dirs,
        truth=truth,
        scale=scale,
        columns=columns,
        text_model=_loaded(text_model, errors=errors) if text_model else None,
    )
    return_freed_memory()
    bar_columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))

    def note(text: str) -> None:
        errors.print(f"note: {text}", highlight=False, markup=False, soft_wrap=True)

    def reopen(before: "Inspection") -> "Inspection":
        return reopen_inspection(before, run, open_options, options=options, note=note)

    if split == "val" and RunFolder(path=run).is_run and not has_ended(RunFolder(path=run)):
        live = LiveRun(
            RunFolder(path=run),
            open_running=lambda: open_running(RunFolder(path=run)),
            open_ended=lambda: (open_inspection(run, open_options, options=options, note=note), reopen),
        )
        say(f"{run.resolve().name}: no scores yet; the page follows the training")
        _serve(live, host=host, port=port, token=token, browser=browser, errors=errors)
        return

    with Progress(*bar_columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("features of the training images", total=None, visible=False)
        inspection = open_inspection(
            run,
            open_options,
            options=options,
            note=note,
            on_progress=lambda num_images: progress.update(task, advance=num_images, visible=True),
        )

    serve_pages(inspection, reopen=reopen, host=host, port=port, token=token, browser=browser, errors=errors)


def _loaded(name: str, *, errors: "Console") -> "TextModel":
    """Load the text model before the pages are there, so that a wrong name or damaged weights end the command."""
    if find_spec("open_clip") is None:  # before torch, which takes seconds
        raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
    from polytag.inference.text_model import TextModel

    with errors.status("loading the text model"):
        return TextModel.load(name)


def serve_pages(
    inspection: "Inspection",
    *,
    reopen: "Callable[[Inspection], Inspection] | None" = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str = "",
    browser: bool = True,
    errors: "Console",
) -> None:
    """Serve the pages until Ctrl-C; the browser opens the one that labels images where none has a label.

    With `reopen` the pages follow the files of the inspection.
    """
    from polytag.inspector.app import create_app
    from polytag.inspector.follow import Follower

    predictions = inspection.predictions

    say(f"{inspection.name}: {len(predictions):,} images, {len(predictions.label_set):,} classes")
    page = "label" if len(inspection.unlabelled_rows) == len(predictions) else ""
    app = create_app(inspection) if reopen is None else Follower(inspection, reopen=reopen)
    _serve(app, host=host, port=port, token=token, page=page, browser=browser, errors=errors)


def _serve(app: "ASGIApp", *, host: str, port: int | None, token: str, page: str = "", browser: bool, errors: "Console") -> None:
    from polytag.web.server import serve

    def ready(address: str) -> None:
        say(f"open  {address}")
        errors.print("[dim]Ctrl-C ends it[/dim]")

    serve(app, host=host, port=port, token=token, page=page, open_browser=browser, on_ready=ready)
