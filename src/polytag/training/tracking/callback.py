"""The Callback between training and a tracker: a tracker that fails, early or late, never stops a training."""

import contextlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Protocol

from polytag import files
from polytag.metrics.values import Metrics
from polytag.parsing import Malformed, parse_json, read_small_text
from polytag.plain import WrongValue, from_plain
from polytag.runs.folder import RunFolder
from polytag.runs.history import Row
from polytag.runs.recipe import Recipe
from polytag.text import printable
from polytag.training.callback import SilentCallback
from polytag.training.tracking.contents import (
    Params,
    name_of,
    numbers_of_epoch,
    numbers_of_metrics,
    params_of,
    params_of_environment,
)

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 30.0, 600.0
_MAX_IDS_BYTES = 10_000
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Tracker(Protocol):
    """Where runs are shown. Every method may raise whatever its library raises; it is then called again later."""

    name: str

    def open(self, run: RunFolder, *, name: str, tracker_id: str) -> str:
        """Begin a run in the tracker, or continue the one of this id, "" for none; returns its id, "" where it needs none."""
        ...

    def describe(self, params: Params) -> None:
        """What does not change with the epochs."""
        ...

    def log(self, numbers: Mapping[str, float], *, epoch: int) -> None:
        """Numbers of an epoch."""
        ...

    def result(self, numbers: Mapping[str, float]) -> None:
        """The final numbers."""
        ...

    def close(self, *, is_finished: bool) -> None:
        """The run has ended, or was interrupted and may be continued."""
        ...


class TrackingCallback(SilentCallback):
    """Tells one tracker of a training.

    What cannot be told waits, and is told with what comes next; after a failure, tries have growing pauses, and the end of the run
    has one. `note` hears of the first failure, and of what was never told.
    """

    def __init__(self, tracker: Tracker, *, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._tracker, self._tell, self._clock = tracker, note, clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._pause_seconds, self._next_try, self._has_failed = _FIRST_PAUSE_SECONDS, 0.0, False
        self._run: RunFolder | None = None
        self._is_described = False

    def begin(self, run: RunFolder, recipe: Recipe) -> None:
        self.stop()
        self._run = run
        self._is_described = False
        self._waiting.append(partial(self._open, run))
        self._do(partial(self._tracker.describe, params_of(run, recipe)))

    def phase(self, name: str, num_images: int) -> None:
        if self._run is not None and not self._is_described and self._run.environment.is_file():
            self._is_described = True
            self._do(partial(self._tracker.describe, params_of_environment(self._run)))

    def epoch(self, row: Row) -> None:
        if self._run is not None:
            self._do(partial(self._tracker.log, numbers_of_epoch(row), epoch=int(row["epoch"])))

    def end(self, run: RunFolder, metrics: Metrics) -> None:
        if self._run is not None:
            self._waiting.append(partial(self._tracker.result, numbers_of_metrics(metrics)))
            self._close(is_finished=True)

    def stop(self) -> None:
        """The training has stopped before its end, if it has not ended."""
        if self._run is not None:
            self._close(is_finished=False)

    def _open(self, run: RunFolder) -> None:
        name, ids = self._tracker.name, _read_ids(run)
        tracker_id = self._tracker.open(run, name=name_of(run), tracker_id=ids.get(name, ""))
        if tracker_id != ids.get(name, ""):
            files.write_text(run.trackers, json.dumps({**ids, name: tracker_id}) + "\n")

    def _close(self, *, is_finished: bool) -> None:
        self._run = None
        self._waiting.append(partial(self._tracker.close, is_finished=is_finished))
        self._try()
        if self._waiting:
            self._tell(f"{self._tracker.name} was not told everything of this run; the run folder has it all")
            self._waiting.clear()

    def _do(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)
        if self._clock() >= self._next_try:
            self._try()

    def _try(self) -> None:
        while self._waiting:
            try:
                self._waiting[0]()
            except Exception as error:  # trackers and their transport raise errors of many kinds
                if not self._has_failed:
                    reason = printable((str(error).splitlines() or [""])[0])[:200]
                    self._tell(f"{self._tracker.name} cannot be told ({type(error).__name__}: {reason}); the training goes on")
                self._has_failed = True
                self._next_try = self._clock() + self._pause_seconds
                self._pause_seconds = min(2 * self._pause_seconds, _MAX_PAUSE_SECONDS)
                return
            self._waiting.popleft()


def _read_ids(run: RunFolder) -> dict[str, str]:
    """The ids that trackers gave this run; none where the file is missing, or is not ours: then the tracker begins a new one."""
    try:
        values = from_plain(dict, parse_json(read_small_text(run.trackers, max_bytes=_MAX_IDS_BYTES)))
    except (OSError, Malformed, WrongValue):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, str) and _ID.fullmatch(value)}


@contextlib.contextmanager
def stopping(*callbacks: TrackingCallback) -> Generator[None]:
    """Whatever ends the training, the trackers hear that it is over."""
    try:
        yield
    finally:
        for each in callbacks:
            each.stop()
