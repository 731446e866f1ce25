"""The command `polytag`: its verbs, and its errors as a message and an exit status."""

import errno
import os
import sys

import typer

from polytag.cli import (
    bench,
    calibrate,
    compare,
    data,
    demo,
    evaluate,
    export,
    grid,
    inspect,
    labels,
    predict,
    push,
    runs,
    serve,
    thresholds,
    train,
    weights,
)
from polytag.cli.say import say
from polytag.errors import PolytagError, UsageError
from polytag.extras import explaining_missing_extras

app = typer.Typer(
    name="polytag",
    help="Multi-label image classification: train, judge, inspect, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("runs")(runs.runs)
app.command("inspect")(inspect.inspect)
app.command("grid")(grid.grid)
app.command("thresholds")(thresholds.thresholds)
app.command("calibrate")(calibrate.calibrate)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("push")(push.push)
app.command("bench")(bench.bench)
app.add_typer(data.app, name="data")
app.add_typer(labels.app, name="labels")
app.add_typer(weights.app, name="weights")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True)) -> None:
    if version:
        from polytag import __version__

        say(f"polytag {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command; a PolytagError, or a path that the system cannot open, is printed to stderr without a traceback."""
    # PyTorch's threads wait for each other at every layer. Spinning threads take the cores from the threads that decode images, and
    # sleeping threads wake up too late, so they spin for a moment and then sleep (docs/experiments.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}
    try:
        with explaining_missing_extras():
            app()
    except PolytagError as error:
        say(f"polytag: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        say("polytag: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `polytag ... | head` closed the pipe
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        refused = UsageError(
            "a path cannot be used", got=f"{error.strerror}: {error.filename}", expected="a path that the system can open"
        )
        say(f"polytag: {refused}", file=sys.stderr)
        sys.exit(refused.exit_status)
