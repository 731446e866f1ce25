"""Progress on the console: the bar of every verb, and a training run with one row per epoch."""

import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn

from polytag.cli.say import say
from polytag.cli.terminal import Terminal
from polytag.cli.what_was_read import print_reading
from polytag.contracts import Dataset


class LastingConsole(Terminal):
    """A console whose reader may leave (`polytag train DATA | head`): the work goes on to its end, and the rest is not printed."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):  # whatever Python itself still holds for the pipe goes nowhere as well
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with suppress(OSError):
            say("polytag: nobody reads the output any more; the work goes on to its end", file=sys.stderr)


_HEADINGS = ("epoch", "train loss", "val loss", "train mAP", "val mAP", "head lr", "images/s", "seconds")
_WIDTHS = (6, 11, 9, 10, 8, 9, 11, 8)


def progress_bar(console: Console, *counts: ProgressColumn, transient: bool = True) -> Progress:
    """A progress bar: description, bar, `counts` (by default "done/total") and the time left. Silent unless on a terminal."""
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=24),
        *(counts or (MofNCompleteColumn(),)),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


class ConsoleCallback:
    """Shows a training run: a progress bar, one row per epoch, and notes. Off a terminal only the rows and notes."""

    def __init__(self, console: Console):
        self._console = console
        self._progress = progress_bar(console, MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"))
        self._task: TaskID | None = None
        self._started_rows = False
        self._val_map = float("nan")

    def __enter__(self) -> "ConsoleCallback":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def read(self, dataset: Dataset) -> None:
        print_reading(self._console, dataset)

    def note(self, text: str) -> None:
        self._console.print(text, style="dim", highlight=False, markup=False)

    def phase(self, name: str, num_images: int) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=num_images or None, numbers="")

    def progress(self, num_images: int, **numbers: float) -> None:
        if self._task is None or self._progress.disable:
            return
        if not math.isnan(self._val_map):
            numbers = {**numbers, "val mAP": self._val_map}
        shown = [f"{name} {value:.4f}" for name, value in numbers.items()]
        speed = self._progress.tasks[-1].speed
        if speed:
            shown.append(f"{speed:.0f} images/s")
        self._progress.update(self._task, advance=num_images, numbers="  ".join(shown))

    def epoch(self, row: Mapping[str, float]) -> None:
        if not self._started_rows:
            self._console.print(_line(_HEADINGS), style="bold", highlight=False)
            self._started_rows = True
        self._val_map = row["val_map"]
        values = (
            "probe" if row["epoch"] == 0 else f"{row['epoch']:.0f}",
            _number(row["train_loss"], ".4f"),
            _number(row["val_loss"], ".4f"),
            _number(row["train_map"], ".4f"),
            _number(row["val_map"], ".4f"),
            _number(row["head_lr"], ".1e"),
            _number(row["images_per_second"], ".0f"),
            _number(row["seconds"], ".1f"),
        )
        self._console.print(_line(values), highlight=False)


def _line(values: tuple[str, ...]) -> str:
    return " ".join(f"{value:>{width}}" for value, width in zip(values, _WIDTHS, strict=True))


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)
