"""From a network's logits to calibrated ones, probabilities and decisions, in float64 as calibration.py, logits.py and decide() do.

Shapes: N images, C classes, K segments of the map with most of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.calibration import Calibration
from polytag.export.graph import DOUBLE, FLOAT, Graph
from polytag.metrics.decisions import ALWAYS

_FAR = -700.0  # as in logits.py: exp(700) is finite


def decisions(graph: Graph, logit_NC: str, *, thresholds: Sequence[float], calibration: Calibration | None) -> None:
    """Add the outputs `logit` (float32), `probability` (float32) and `present` (bool), N x C each."""
    if calibration is not None:
        logit_NC = graph.cast(_calibrated(graph, graph.cast(logit_NC, DOUBLE), calibration), FLOAT)
    graph.op("Identity", logit_NC, outputs=["logit"])
    probability_NC = _sigmoid(graph, graph.cast("logit", DOUBLE))
    graph.op("Greater", probability_NC, graph.constant(lowest_thresholds(thresholds)), outputs=["present"])
    graph.op("Cast", probability_NC, outputs=["probability"], to=FLOAT)


def _sigmoid(graph: Graph, logit_NC: str) -> str:
    far, one = graph.constant(_FAR, np.float64), graph.constant(1.0, np.float64)
    denominator = graph.op("Add", graph.op("Exp", graph.op("Neg", graph.op("Max", logit_NC, far))), one)
    tiny = graph.op("Exp", graph.op("Min", logit_NC, far))
    return graph.op("Where", graph.op("Less", logit_NC, far), tiny, graph.op("Div", one, denominator))


def lowest_thresholds(thresholds: Sequence[float]) -> np.ndarray:
    """float64 C, with -1, which every probability is above, for a class that is always present."""
    return np.where(np.asarray(thresholds, np.float64) == ALWAYS, -1.0, thresholds)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """The maps of a calibration as sums, float64: a line outside first and last knot, and what K segments rise to, inside."""

    first_C: np.ndarray
    last_C: np.ndarray
    base_C: np.ndarray
    slope_C: np.ndarray
    start_CK: np.ndarray
    width_CK: np.ndarray
    rise_CK: np.ndarray


def lines_of(calibration: Calibration) -> Lines:
    """The maps of a calibration; K is 0 where none has knots."""
    maps = calibration.maps
    num_segments = max(0, max(len(each.logit) for each in maps) - 1)
    start_CK, width_CK, rise_CK = np.zeros((3, len(maps), num_segments))
    for c, each in enumerate(maps):
        if each.logit:
            knots, levels = np.array(each.logit), np.array(each.calibrated)
            own = slice(len(knots) - 1)
            start_CK[c, own], width_CK[c, own] = knots[:-1], np.diff(knots)
            rise_CK[c, own] = np.diff(levels) / np.diff(knots)
    return Lines(
        first_C=np.array([each.logit[0] if each.logit else 0.0 for each in maps]),
        last_C=np.array([each.logit[-1] if each.logit else 0.0 for each in maps]),
        base_C=np.array([each.calibrated[0] if each.logit else each.bias for each in maps]),
        slope_C=np.array([each.slope for each in maps]),
        start_CK=start_CK,
        width_CK=width_CK,
        rise_CK=rise_CK,
    )


def _calibrated(graph: Graph, logit_NC: str, calibration: Calibration) -> str:
    lines = lines_of(calibration)
    zero = graph.constant(0.0, np.float64)
    below_NC = graph.op("Min", graph.op("Sub", logit_NC, graph.constant(lines.first_C)), zero)
    above_NC = graph.op("Max", graph.op("Sub", logit_NC, graph.constant(lines.last_C)), zero)
    outside_NC = graph.op("Mul", graph.op("Add", below_NC, above_NC), graph.constant(lines.slope_C))
    line_NC = graph.op("Add", outside_NC, graph.constant(lines.base_C))
    if not lines.rise_CK.shape[1]:
        return line_NC
    into_NCK = graph.op("Sub", graph.op("Unsqueeze", logit_NC, graph.constant([2], np.int64)), graph.constant(lines.start_CK))
    inside_NCK = graph.op("Min", graph.op("Max", into_NCK, zero), graph.constant(lines.width_CK))
    rise_NCK = graph.op("Mul", inside_NCK, graph.constant(lines.rise_CK))
    rise_NC = graph.op("ReduceSum", rise_NCK, graph.constant([2], np.int64), keepdims=0)
    return graph.op("Add", line_NC, rise_NC)
