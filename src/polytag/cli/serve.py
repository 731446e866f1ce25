"""`polytag serve`: a model behind HTTP."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from polytag.cli.say import say


def serve(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL|EXPORT", help="A run, a checkpoint folder, or an export.")],
    host: Annotated[str, typer.Option(help="Other than 127.0.0.1 only with --token.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(show_default="the first free one from 8421 on", help="0: any that is free.")] = None,
    token: Annotated[
        str,
        typer.Option(metavar="random|TEXT", envvar="POLYTAG_TOKEN", help="What a client must show; random makes one."),
    ] = "",
    engine: Annotated[str, typer.Option(help="auto, torch, onnx or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or one that the model has, such as fp32 or int8.")] = "auto",
    max_batch: Annotated[int, typer.Option(help="Images that a core scores at once, where that is faster.")] = 8,
    max_waiting: Annotated[int, typer.Option(help="Images that wait for a core; more are refused with 503.")] = 64,
    drain_seconds: Annotated[float, typer.Option(help="After SIGTERM, how long requests in flight are answered.")] = 10.0,
) -> None:
    """Answer images over HTTP: POST /predict, the Open Inference Protocol under /v2, /metrics, and a page at /.

    A changed model, or SIGHUP, is loaded aside, tried, and takes the place of the old one. SIGTERM drains and ends.
    """
    from polytag.allocator import keep_freed_memory, return_freed_images
    from polytag.models.checkpoint_files import EXPORT
    from polytag.serve.run import ServeConfig, serve_model
    from polytag.serve.served_model import ServedModel
    from polytag.text import counted, printable_lines

    class Printable(logging.Formatter):
        """Names from strangers' files reach the terminal without what acts on it."""

        def format(self, record: logging.LogRecord) -> str:
            return printable_lines(super().format(record))

    def ready(served: ServedModel, address: str) -> None:
        classes = counted(len(served.label_set), "classes")
        say(f"{served.name}: {classes}, model {served.id}, {served.scorer.engine} {served.scorer.precision}")
        say(f"open  {address}")

    config = ServeConfig(
        engine=engine, precision=precision, max_batch=max_batch, max_waiting=max_waiting, drain_seconds=drain_seconds
    )
    if (model / EXPORT).is_file():
        return_freed_images()
    else:  # PyTorch maps the memory of every batch anew unless it is kept
        keep_freed_memory()
    handler = logging.StreamHandler()
    handler.setFormatter(Printable("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("polytag")
    log.addHandler(handler)
    log.propagate = False
    try:
        serve_model(model, config, host=host, port=port, token=token, on_ready=ready)
    finally:
        log.removeHandler(handler)
        log.propagate = True
