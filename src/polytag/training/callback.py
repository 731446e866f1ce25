"""What training reports while it runs. Nothing in this room prints: a `Callback` shows the events as it likes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from polytag.contracts import Dataset
from polytag.errors import UsageError
from polytag.metrics.values import Metrics
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import Recipe


class Callback(Protocol):
    """Receives the events of a run, in this order."""

    def read(self, dataset: Dataset) -> None:
        """The annotations have been read; `dataset.interpretation` says as what."""

    def begin(self, run: RunFolder, recipe: Recipe) -> None:
        """The run begins or goes on in this folder; of a run of folds, that of each fold."""

    def note(self, text: str) -> None:
        """A sentence worth reading once."""

    def phase(self, name: str, num_images: int) -> None:
        """A pass over `num_images` images begins; the previous one has ended."""

    def progress(self, num_images: int, **numbers: float) -> None:
        """`num_images` more images of this pass are done; `numbers` are running figures such as loss and mAP."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch has ended: its row of results.csv."""

    def end(self, run: RunFolder, metrics: Metrics) -> None:
        """The run is finished: every file is in its folder."""


EVENTS = ("read", "begin", "note", "phase", "progress", "epoch", "end")
"""The methods of a Callback."""


class SilentCallback:
    """A Callback that shows nothing."""

    def read(self, dataset: Dataset) -> None: ...
    def begin(self, run: RunFolder, recipe: Recipe) -> None: ...
    def note(self, text: str) -> None: ...
    def phase(self, name: str, num_images: int) -> None: ...
    def progress(self, num_images: int, **numbers: float) -> None: ...
    def epoch(self, row: Mapping[str, float]) -> None: ...
    def end(self, run: RunFolder, metrics: Metrics) -> None: ...


def listed(callbacks: object) -> Sequence[object]:
    """The callbacks that were given; raises UsageError for anything but a list or a tuple of them."""
    if isinstance(callbacks, list | tuple):
        return callbacks  # pyright: ignore[reportUnknownVariableType]  of anything
    raise UsageError(
        "the callbacks are no list", where="callbacks", got=type(callbacks).__qualname__, expected="a list, such as [MyCallback()]"
    )


class Callbacks:
    """Several callbacks as one. Each is any object with some of the methods of a Callback, and receives those events.

    Raises UsageError for an object without any of them, and for one in place of a list. What a callback raises ends the training,
    with a note that names it.
    """

    def __init__(self, given: Sequence[object]):
        for each in listed(given):
            if not any(callable(getattr(each, event, None)) for event in EVENTS):
                raise UsageError(
                    "the callback has no method that training calls",
                    where="callbacks",
                    got=getattr(each, "__qualname__", type(each).__qualname__),
                    expected=f"an object with some of the methods {', '.join(EVENTS)}",
                )
            if isinstance(each, type):
                raise UsageError(
                    "the callback is a class",
                    where="callbacks",
                    got=each.__qualname__,
                    expected=f"an object: {each.__qualname__}()",
                )
        self._given = tuple(given)

    def _tell(self, event: str, *values: object, **numbers: float) -> None:
        for each in self._given:
            method = getattr(each, event, None)
            if method is None:
                continue
            try:
                method(*values, **numbers)
            except Exception as error:
                error.add_note(f"raised by the callback {type(each).__qualname__}, in {event}")
                raise

    def read(self, dataset: Dataset) -> None:
        """See Callback."""
        self._tell("read", dataset)

    def begin(self, run: RunFolder, recipe: Recipe) -> None:
        """See Callback."""
        self._tell("begin", run, recipe)

    def note(self, text: str) -> None:
        """See Callback."""
        self._tell("note", text)

    def phase(self, name: str, num_images: int) -> None:
        """See Callback."""
        self._tell("phase", name, num_images)

    def progress(self, num_images: int, **numbers: float) -> None:
        """See Callback."""
        self._tell("progress", num_images, **numbers)

    def epoch(self, row: Mapping[str, float]) -> None:
        """See Callback."""
        self._tell("epoch", row)

    def end(self, run: RunFolder, metrics: Metrics) -> None:
        """See Callback."""
        self._tell("end", run, metrics)
