"""What the engines that run an export's graphs have in common: batches for each core, and a check of what a graph gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np

from polytag.data.images.batches import Batch, batches_of
from polytag.errors import ExportError
from polytag.inference.parallel import in_parallel
from polytag.inference.scored import Scored
from polytag.machine import num_cores

BATCH_SIZE = 8  # a core's: a few images are enough for all cores


class GraphScorer(ABC):
    """A graph from resized images to logits as a `Scorer`; each core computes a batch of its own."""

    def __init__(self, *, num_classes: int, precision: str, where: str):
        self.precision = precision
        self._num_classes, self._where = num_classes, where

    @abstractmethod
    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """The output `logit` of uint8 N x S x S x 3, or N x V x S x S x 3 of several views; raises ExportError where it fails."""

    def prepare_thread(self) -> None:  # noqa: B027 - no engine needs more
        """Nothing to do: a graph is computed on one core, for the thread that calls."""

    def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
        """See `Scorer`; raises ExportError where the graph fails, or gives scores of another shape."""
        logit_NC = self._run(pixels_NVHWC[:, 0] if pixels_NVHWC.shape[1] == 1 else pixels_NVHWC)
        expected = (len(pixels_NVHWC), self._num_classes)
        if logit_NC.dtype != np.float32 or logit_NC.shape != expected:
            raise ExportError(
                "the graph gives scores of another shape",
                where=self._where,
                got=f"{logit_NC.dtype} {logit_NC.shape}",
                expected=f"float32 {expected} (images, classes)",
                next_step="copy the folder again, or export again",
            )
        return logit_NC

    def score_rows(self, num_rows: int, read: Callable[[int], np.ndarray]) -> Iterator[Scored]:
        """See `Scorer`."""
        ready = batches_of(range(num_rows), batch_size=BATCH_SIZE, read=read, num_threads=num_cores())
        yield from in_parallel(self._score, ready, num_workers=num_cores())

    def _score(self, batch: Batch) -> Scored:
        logit_NC = self.logits_of(batch.pixels_NVHWC) if len(batch.rows) else np.zeros((0, 0), np.float32)
        return Scored(rows=batch.rows, output_ND=logit_NC, failures=batch.failures)
