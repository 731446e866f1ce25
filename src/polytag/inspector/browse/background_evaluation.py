"""Evaluates the run in the background: average precision at once, intervals and decisions when they are ready."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady

import numpy as np

from polytag.contracts import Predictions
from polytag.inspector.browse.ranking import CHANGES, changed
from polytag.inspector.inspection import Inspection
from polytag.metrics.ap import ap_of, rank
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics


class BackgroundEvaluation:
    """Holds average precisions, computed at once, and the Metrics of the run at its thresholds, computed in a thread.

    ap_C            average precision of the run
    ap_compared_C   average precision of the second run, or None without one
    gain_C          average precision of the first run on the images that both scored, minus ap_compared_C, or None
    num_changed_C   for "gained" and "lost" the number of such images of each class; empty without a second run or for ranks
    """

    def __init__(self, inspection: Inspection):
        predictions, compared = inspection.predictions, inspection.compared
        self.ap_C = _ap_of(predictions)
        self.ap_compared_C: np.ndarray | None = None
        self.gain_C: np.ndarray | None = None
        if compared is not None:
            self.ap_compared_C = _ap_of(compared.predictions)
            self.gain_C = _ap_of(predictions.take(compared.row_N >= 0)) - self.ap_compared_C
        self.num_changed_C: dict[str, np.ndarray] = {}
        if compared is not None and predictions.has_probabilities and compared.predictions.has_probabilities:
            columns = range(len(predictions.label_set))
            self.num_changed_C = {each: np.array([changed(inspection, c, each).sum() for c in columns]) for each in CHANGES}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        threshold = tuple(inspection.threshold_C.tolist())
        self._metrics: Future[Metrics] = self._pool.submit(
            evaluate_predictions, predictions, threshold=threshold, groups=inspection.groups
        )

    def metrics(self, *, timeout_seconds: float = 0.0) -> Metrics | None:
        """Return the Metrics, or None while they are being computed."""
        try:
            return self._metrics.result(timeout=timeout_seconds)
        except NotReady:
            return None

    def close(self) -> None:
        """Start no more work. A running evaluation ends in its own time."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _ap_of(predictions: Predictions) -> np.ndarray:
    columns = range(len(predictions.label_set))
    return np.array([ap_of(rank(predictions.target_NC[:, c], predictions.logit_NC[:, c])) for c in columns])
