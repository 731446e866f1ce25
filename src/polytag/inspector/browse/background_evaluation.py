"""Evaluates the run in the background: average precision at once, compared runs and intervals when they are ready."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady
from dataclasses import dataclass

import numpy as np

from polytag.contracts import Predictions
from polytag.inspector.browse.ranking import CHANGES, changed
from polytag.inspector.inspection import ComparedRun, Inspection
from polytag.metrics.ap import ap_of, rank
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedEvaluation:
    """The numbers of a compared run, on the images that both runs scored.

    ap_C            its average precision
    gain_C          average precision of the first run on the same images, minus ap_C
    num_changed_C   for "gained" and "lost" the number of such images of each class; empty for ranks
    """

    ap_C: np.ndarray
    gain_C: np.ndarray
    num_changed_C: dict[str, np.ndarray]

    @classmethod
    def of(cls, inspection: Inspection, compared: ComparedRun, *, own_ap_C: np.ndarray) -> "ComparedEvaluation":
        predictions, is_shared_N = inspection.predictions, compared.row_N >= 0
        ap_C = _ap_of(compared.predictions)
        num_changed_C: dict[str, np.ndarray] = {}
        if predictions.has_probabilities and compared.predictions.has_probabilities:
            columns = range(len(predictions.label_set))
            num_changed_C = {each: np.array([changed(inspection, compared, c, each).sum() for c in columns]) for each in CHANGES}
        own_ap_C = own_ap_C if is_shared_N.all() else _ap_of(predictions.take(is_shared_N))
        return cls(ap_C=ap_C, gain_C=own_ap_C - ap_C, num_changed_C=num_changed_C)


class BackgroundEvaluation:
    """Holds average precisions, computed at once, and what one thread computes: first the compared runs in their order, then the
    Metrics of the run at its thresholds.

    ap_C            average precision of the run
    """

    def __init__(self, inspection: Inspection):
        predictions = inspection.predictions
        self.ap_C = _ap_of(predictions)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        self._compared: list[Future[ComparedEvaluation]] = [
            self._pool.submit(ComparedEvaluation.of, inspection, each, own_ap_C=self.ap_C) for each in inspection.compared
        ]
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

    def compared(self, place: int) -> ComparedEvaluation | None:
        """Return the numbers of a compared run, once they are there; None where the run is compared with none."""
        return self._compared[place].result() if self._compared else None

    def compared_so_far(self, place: int) -> ComparedEvaluation | None:
        """Return the numbers of a compared run, or None while they are being computed."""
        return self._compared[place].result() if self._compared[place].done() else None

    def close(self) -> None:
        """Start no more work. A running evaluation ends in its own time."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _ap_of(predictions: Predictions) -> np.ndarray:
    columns = range(len(predictions.label_set))
    return np.array([ap_of(rank(predictions.target_NC[:, c], predictions.logit_NC[:, c])) for c in columns])
