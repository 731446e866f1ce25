"""Every number of the run, computed beside the pages: average precision at once, intervals when they are ready."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady

import numpy as np

from polytag.inspector.inspection import Inspection
from polytag.metrics.ap import ap_of, rank
from polytag.metrics.evaluate import judge_predictions
from polytag.scores import Scores


class Judging:
    """The Scores of the run and of the one beside it, at the run's thresholds; judged in a thread that starts at once."""

    def __init__(self, inspection: Inspection):
        predictions = inspection.predictions
        self.ap_C = np.array(
            [ap_of(rank(predictions.target_NC[:, c], predictions.logit_NC[:, c])) for c in range(_num(inspection))]
        )
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="judging")
        threshold = tuple(inspection.threshold_C.tolist())
        self._first: Future[Scores] = self._pool.submit(judge_predictions, predictions, threshold=threshold)
        self._second: Future[Scores] | None = None
        if inspection.beside is not None:
            self._second = self._pool.submit(judge_predictions, inspection.beside.predictions, threshold=threshold)

    def scores(self, *, patience_seconds: float = 0.0) -> Scores | None:
        """The Scores, or None while they are being computed."""
        return _result(self._first, patience_seconds)

    def scores_beside(self, *, patience_seconds: float = 0.0) -> Scores | None:
        """Those of the second run; None while they are being computed, and where there is none."""
        return None if self._second is None else _result(self._second, patience_seconds)

    def close(self) -> None:
        """Begin nothing more; what is running goes on to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _num(inspection: Inspection) -> int:
    return len(inspection.predictions.label_set)


def _result(future: "Future[Scores]", patience_seconds: float) -> Scores | None:
    try:
        return future.result(timeout=patience_seconds)
    except NotReady:
        return None
