"""Runs one heavy job at a time behind a short queue, and lets background work yield to both."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Event, Lock
from typing import TypeVar, final

from polytag.errors import PolytagError

Answer = TypeVar("Answer")


class Busy(PolytagError):
    """The queue is full. Another attempt may succeed in a moment."""


@final
class JobQueue:
    """Runs jobs in one thread, in the order of submission. At most `max_waiting` wait in addition to the running one."""

    def __init__(self, *, max_waiting: int):
        self._max_waiting = max_waiting
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="polytag-model")
        self._turn = Lock()
        self._changed = Condition()
        self._num_inside = 0
        self._is_closed = False

    def submit(self, job: Callable[[], Answer]) -> Future[Answer]:
        """Run a job in its turn; raises Busy where the queue is full or closed."""
        with self._changed:
            if self._is_closed or self._num_inside > self._max_waiting:
                raise Busy("the model is busy with other images", next_step="try again in a moment")
            self._num_inside += 1
            future = self._pool.submit(self._in_turn, job)
        future.add_done_callback(self._leave)
        return future

    @property
    def is_full(self) -> bool:
        """Whether `submit` would raise Busy."""
        return self._is_closed or self._num_inside > self._max_waiting

    def _in_turn(self, job: Callable[[], Answer]) -> Answer:
        with self._turn:
            return job()

    def _leave(self, _: object) -> None:
        with self._changed:
            self._num_inside -= 1
            self._changed.notify_all()

    def begin_background(self) -> None:
        """Take the turn for the one background job, which holds it until it yields or ends."""
        self._turn.acquire()

    def yield_turn(self, stop: Event) -> None:
        """Let all waiting jobs run between two pieces of background work, unless `stop` is set."""
        self._turn.release()
        self.wait_until_idle(stop)
        self._turn.acquire()

    def wait_until_idle(self, stop: Event) -> None:
        """Wait until no job runs or waits, unless `stop` is set: for background work that has no turn."""
        with self._changed:
            while self._num_inside and not stop.is_set():
                self._changed.wait(timeout=0.1)

    def end_background(self) -> None:
        """Release the turn of the background job; called however the job ends."""
        self._turn.release()

    def close(self) -> None:
        """Refuse new jobs, drop the waiting ones, and wait for the running one."""
        with self._changed:
            self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
