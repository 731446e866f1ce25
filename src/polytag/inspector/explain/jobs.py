"""Computes what a page needs behind a job queue, each question once. A page is shown without it while it is computed."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotReady
from threading import Lock
from typing import Any, TypeVar, final

from polytag.inspector.model.job_queue import Busy, JobQueue

Answer = TypeVar("Answer")
PATIENCE_SECONDS = 0.8  # small runs are answered within it, so that their first page is complete
_MAX_ANSWERS, _MAX_WAITING = 64, 8


@final
class Jobs:
    """Answers to questions of the pages, the last 64 of which stay. Safe to call from many threads.

    `queue` is shared with other work, or by default its own.
    """

    def __init__(self, queue: JobQueue | None = None):
        self.queue = queue or JobQueue(max_waiting=_MAX_WAITING)
        self._lock = Lock()
        self._asked: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def answer(self, key: Hashable, compute: Callable[[], Answer], *, patience_seconds: float = PATIENCE_SECONDS) -> Answer | None:
        """Return the answer, or None while it is computed, or where too many questions wait.

        Raises what `compute` raised, and the next call tries again.
        """
        with self._lock:
            if key not in self._asked:
                try:
                    self._asked[key] = self.queue.submit(compute)
                except Busy:
                    return None
            self._asked.move_to_end(key)
            future: Future[Answer] = self._asked[key]
            while len(self._asked) > _MAX_ANSWERS:
                self._asked.popitem(last=False)[1].cancel()
        try:
            return future.result(timeout=patience_seconds)
        except NotReady:
            return None
        except BaseException:
            with self._lock:
                self._asked.pop(key, None)
            raise

    def close(self) -> None:
        """Start no more work, and wait for what runs."""
        self.queue.close()
