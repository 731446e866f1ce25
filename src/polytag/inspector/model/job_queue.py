"""One heavy job at a time, a short line behind it, and whatever goes on in the background steps aside for both."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Event, Lock
from typing import TypeVar, final

from polytag.errors import PolytagError

Answer = TypeVar("Answer")


class Busy(PolytagError):
    """So many wait already that one more would wait too long: try again in a moment."""


@final
class JobQueue:
    """A thread of its own that does jobs in the order they came in; at most `max_waiting` wait beside the one that is done."""

    def __init__(self, *, max_waiting: int):
        self._max_waiting = max_waiting
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="polytag-model")
        self._turn = Lock()
        self._changed = Condition()
        self._num_inside = 0
        self._is_closed = False

    def submit(self, job: Callable[[], Answer]) -> Future[Answer]:
        """Do a job when its turn comes; raises Busy where the line is full, and where it is closed."""
        with self._changed:
            if self._is_closed or self._num_inside > self._max_waiting:
                raise Busy("the model is busy with other images", next_step="try again in a moment")
            self._num_inside += 1
            future = self._pool.submit(self._in_turn, job)
        future.add_done_callback(self._leave)
        return future

    @property
    def is_full(self) -> bool:
        """Whether `submit` would raise Busy now."""
        return self._is_closed or self._num_inside > self._max_waiting

    def _in_turn(self, job: Callable[[], Answer]) -> Answer:
        with self._turn:
            return job()

    def _leave(self, _: object) -> None:
        with self._changed:
            self._num_inside -= 1
            self._changed.notify_all()

    def begin_background(self) -> None:
        """Called by the one background job before its first piece of work; it holds the turn until it steps aside or ends."""
        self._turn.acquire()

    def step_aside(self, stop: Event) -> None:
        """Between two pieces of background work: let everybody pass who waits, unless it is told to stop."""
        self._turn.release()
        with self._changed:
            while self._num_inside and not stop.is_set():
                self._changed.wait(timeout=0.1)
        self._turn.acquire()

    def end_background(self) -> None:
        """Called by the background job at its end, however it ends."""
        self._turn.release()

    def close(self) -> None:
        """Take no more jobs, drop those that wait, and wait for the one that is being done."""
        with self._changed:
            self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
