"""Every number of the run, computed beside the pages: average precision at once, intervals when they are ready."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady

import numpy as np

from polytag.contracts import Predictions
from polytag.inspector.inspection import Inspection
from polytag.metrics.ap import ap_of, rank
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics


class BackgroundEvaluation:
    """The Metrics of the run at its thresholds, judged in a thread that starts at once, and average precisions, known at once.

    ap_C                    of the run
    ap_compared_C, gain_C     of the run beside it, and how much more that is than the run's own on the images that both scored;
                            None without a second run
    """

    def __init__(self, inspection: Inspection):
        predictions, compared = inspection.predictions, inspection.compared
        self.ap_C = _ap_of(predictions)
        self.ap_compared_C: np.ndarray | None = None
        self.gain_C: np.ndarray | None = None
        if compared is not None:
            self.ap_compared_C = _ap_of(compared.predictions)
            self.gain_C = self.ap_compared_C - _ap_of(predictions.take(compared.row_N >= 0))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="judging")
        threshold = tuple(inspection.threshold_C.tolist())
        self._scores: Future[Metrics] = self._pool.submit(evaluate_predictions, predictions, threshold=threshold)

    def metrics(self, *, patience_seconds: float = 0.0) -> Metrics | None:
        """The Metrics, or None while they are being computed."""
        try:
            return self._scores.result(timeout=patience_seconds)
        except NotReady:
            return None

    def close(self) -> None:
        """Begin nothing more; what is running goes on to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _ap_of(predictions: Predictions) -> np.ndarray:
    columns = range(len(predictions.label_set))
    return np.array([ap_of(rank(predictions.target_NC[:, c], predictions.logit_NC[:, c])) for c in columns])
