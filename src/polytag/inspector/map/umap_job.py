"""Computes the map by UMAP in the background, once, with progress and a stop.

Shapes: N images of the run, D features.
"""

from collections.abc import Callable
from threading import Lock, Thread
from typing import Generic, TypeVar, final

from polytag.inference.umap_process import UmapProcess, UmapStopped

Made = TypeVar("Made")


@final
class UmapJob(Generic[Made]):
    """One computation by UMAP. It has no turn in a queue of jobs, as another process computes. Safe to call from many threads.

    A failure is raised once, and the next visit tries again.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: UmapProcess | None = None
        self._thread: Thread | None = None
        self._made: Made | None = None
        self._failure: Exception | None = None
        self._is_stopped = False

    def found(self, make: Callable[[UmapProcess], Made], *, is_asked_for: bool) -> tuple[Made | None, float | None]:
        """Return what `make` returned, or None before it has, and the share that is computed; None where nothing is computed.

        Raises what `make` raised. A visit begins the computation unless it was stopped; with `is_asked_for` after a stop too.
        """
        with self._lock:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            self._is_stopped = self._is_stopped and not is_asked_for
            if self._made is None and self._thread is None and not self._is_stopped:
                self._process = UmapProcess()
                self._thread = Thread(target=self._run, args=(make, self._process), name="polytag-umap", daemon=True)
                self._thread.start()
            return self._made, None if self._process is None else self._process.progress

    def stop(self) -> bool:
        """End the computation until it is asked for, and wait until it has ended; return whether there was one."""
        with self._lock:
            process, thread, self._is_stopped = self._process, self._thread, True
        if process is None or thread is None:
            return False
        process.stop()
        thread.join()
        return True

    def _run(self, make: Callable[[UmapProcess], Made], process: UmapProcess) -> None:
        made, failure = None, None
        try:
            made = make(process)
        except UmapStopped:
            pass
        except Exception as error:  # whatever it is, the next visit raises it, and none waits for ever
            failure = error
        with self._lock:
            self._made, self._failure, self._process, self._thread = made, failure, None, None
