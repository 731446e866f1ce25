"""Finds images by a text: the cosine of its vector and those of the images, which are computed once in the background.

Shapes: N images of the scores, n of them that can be read, D features.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from polytag.errors import PolytagError
from polytag.inspector.explain.jobs import PATIENCE_SECONDS, Jobs
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.job_queue import JobQueue
from polytag.machine import num_cores

if TYPE_CHECKING:
    from polytag.inference.text_model import TextModel


class NotYet(PolytagError):
    """What a text finds is not computed yet. Another attempt may succeed in a moment."""


@dataclass(frozen=True, kw_only=True)
class TextSearchState:
    """How far the vectors of the images are.

    status      "waiting" after they were stopped, or ended with `problem`
    num_done    images read so far, of `num_images`
    num_unread  images without a vector, once the others have theirs
    """

    status: Literal["ready", "computing", "waiting"]
    num_done: int
    num_images: int
    num_unread: int = 0
    problem: str = ""


@final
class TextSearch:
    """Answers for one inspection with a text model. Safe to call from many threads.

    Vectors of texts are jobs of `queue`, by default its own; the computation of the images' vectors lets all jobs of it go first.
    `cache_folder` stores those of the images.
    """

    def __init__(self, inspection: Inspection, cache_folder: Path, *, queue: JobQueue | None = None):
        assert inspection.text_model is not None
        self._model: TextModel = inspection.text_model
        self._paths, self._cache_folder = inspection.predictions.image_paths, cache_folder
        self._num_images = len(inspection.predictions)
        self._row_n = np.array([row for row, path in enumerate(self._paths) if path], np.int64)
        self._texts = Jobs(queue)
        self._lock, self._stop = Lock(), Event()
        self._thread: Thread | None = None
        self._vectors: tuple[np.ndarray, np.ndarray] | None = None
        self._num_done, self._problem, self._is_stopped = 0, "", False

    def state(self, *, patience_seconds: float = PATIENCE_SECONDS) -> TextSearchState:
        """Return how far the vectors of the images are. The first call begins to compute them, or to read them from the cache."""
        with self._lock:
            if self._vectors is None and self._thread is None and not self._is_stopped:
                self._num_done, self._problem = 0, ""
                self._stop.clear()
                self._thread = Thread(target=self._run, name="polytag-text-search", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(patience_seconds)
        with self._lock:
            status = "ready" if self._vectors else "computing" if self._thread else "waiting"
            num_unread = self._num_images - len(self._vectors[0]) if self._vectors else 0
            num_done = min(self._num_done, len(self._row_n))
        return TextSearchState(
            status=status, num_done=num_done, num_images=len(self._row_n), num_unread=num_unread, problem=self._problem
        )

    def cosines(self, text: str) -> np.ndarray:
        """Return the cosine of each image's vector and the text's: float32, N, NaN for an image that cannot be read.

        Raises NotYet until they are computed, UsageError for a text that the model gives no finite numbers for.
        """
        state = self.state()
        if state.status == "waiting":
            raise NotYet("the images are not read yet for a search by text" + (f": {state.problem}" if state.problem else ""))
        vectors = self._vectors
        if vectors is None:
            raise NotYet(f"the images are being read for a search by text: {state.num_done:,} of {state.num_images:,}")
        text_D = self._texts.answer(text, lambda: self._vector_of(text))
        if text_D is None:
            raise NotYet("the text waits for its turn")
        row_n, vector_nD = vectors
        cosine_N = np.full(self._num_images, np.nan, np.float32)
        cosine_N[row_n] = vector_nD @ text_D
        return cosine_N

    def begin(self) -> None:
        """Compute the vectors of the images again after they were stopped."""
        self._is_stopped = False
        self.state()

    def stop(self) -> None:
        """End the computation of the images' vectors, and wait until it has ended, which takes a batch of images at most."""
        with self._lock:
            self._is_stopped, thread = True, self._thread
            self._stop.set()
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """Stop, and answer no more."""
        self.stop()
        self._texts.close()

    def _run(self) -> None:
        vectors, problem = None, ""
        try:
            vectors = self._computed()
        except _Stopped:
            pass
        except Exception as error:
            problem = error.what if isinstance(error, PolytagError) else type(error).__name__
        with self._lock:
            self._vectors, self._problem, self._thread = vectors, problem, None
            self._is_stopped = self._is_stopped or bool(problem)

    def _computed(self) -> tuple[np.ndarray, np.ndarray]:
        def on_batch(num_images: int) -> None:
            self._num_done += num_images
            self._texts.queue.wait_until_idle(self._stop)
            if self._stop.is_set():
                raise _Stopped

        _leave_a_core()
        paths = [Path(self._paths[row]) for row in self._row_n.tolist()]
        vector_nD, index, _ = self._model.image_vectors(paths, folder=self._cache_folder, on_batch=on_batch)
        if not len(index):
            raise PolytagError("no image can be read")
        return self._row_n[index], vector_nD

    def _vector_of(self, text: str) -> np.ndarray:
        _leave_a_core()
        return self._model.text_vector(text)


def _leave_a_core() -> None:
    """Leave one core to the pages: torch computes on the others, of the calling thread."""
    import torch

    torch.set_num_threads(max(1, num_cores() - 1))


class _Stopped(Exception):
    """Ends the computation when it is not wanted any more."""
