"""Puts a compared run beside this one: one class on the images that both scored, each run at its own threshold."""

import numpy as np

from polytag.contracts import ABSENT, PRESENT, Predictions
from polytag.errors import UsageError
from polytag.inspector.browse.answers import BothRunsAnswer, CurvePoint, RunOfClass, to_json
from polytag.inspector.browse.curves import curve_points
from polytag.inspector.browse.filtered import filtered_slice
from polytag.inspector.browse.ranking import CHANGES, Query, Rankings, changed, one_class, probability_of
from polytag.inspector.inspection import Inspection
from polytag.metrics.ap import ap_of, rank
from polytag.metrics.decisions import decide
from polytag.metrics.proportions import wilson


def both_runs(inspection: Inspection, rankings: Rankings, query: Query) -> BothRunsAnswer:
    """Return both runs on the images that pass the filters and that both scored. Filters on decisions do not count.

    Raises UsageError without a second run, and as the filters do.
    """
    compared, column = inspection.against(query.against), query.column
    if compared is None:
        raise UsageError("no second run", expected="--compare-with RUN")
    part = filtered_slice(inspection, rankings, query)
    row_n = part.rows[compared.row_N[part.rows] >= 0]
    own = one_class(inspection.predictions, column).take(row_n)
    other = one_class(compared.predictions, column).take(compared.row_N[row_n])
    num_changed: dict[str, int | None] = dict.fromkeys(CHANGES)
    if own.has_probabilities and other.has_probabilities:
        num_changed = {each: int(changed(inspection, compared, column, each)[row_n].sum()) for each in CHANGES}
    return BothRunsAnswer(
        runs=[
            _run_of_class("this run", own, float(inspection.threshold_C[column])),
            _run_of_class(compared.name, other, float(compared.threshold_C[column])),
        ],
        num_images=len(row_n),
        num_left_out=len(part.rows) - len(row_n),
        num_gained=num_changed["gained"],
        num_lost=num_changed["lost"],
        precision_recall=[
            CurvePoint(recall=recall, precision=precision, score=score) for recall, precision, score in curve_points(other, 0)
        ],
        scope=part.scope,
    )


def runs_of_class(inspection: Inspection, rankings: Rankings, column: int) -> list[list[BothRunsAnswer]]:
    """Return this run with each compared one on a class: lists of those that scored the same images, in the order of the first."""
    same: dict[bytes, list[BothRunsAnswer]] = {}
    for place, compared in enumerate(inspection.compared):
        answer = both_runs(inspection, rankings, Query(column=column, against=place))
        same.setdefault(np.packbits(compared.row_N >= 0).tobytes(), []).append(answer)
    return list(same.values())


def _run_of_class(name: str, predictions: Predictions, threshold: float) -> RunOfClass:
    target_n = predictions.target_NC[:, 0]
    numbers: dict[str, float | None] = dict.fromkeys(
        ("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high")
    )
    counts: dict[str, int | None] = dict.fromkeys(("num_true_positives", "num_false_positives", "num_false_negatives"))
    if predictions.has_probabilities:
        is_predicted_n = decide(probability_of(predictions, 0), threshold_C=threshold)
        true, false = (int((is_predicted_n & (target_n == label)).sum()) for label in (PRESENT, ABSENT))
        num_left = int((target_n == PRESENT).sum()) - true
        for share, num in (("precision", true + false), ("recall", true + num_left)):
            low, high = wilson(np.array(true), np.array(num))
            numbers |= {
                share: true / num if num else None,
                f"{share}_low": to_json(float(low)),
                f"{share}_high": to_json(float(high)),
            }
        counts = {"num_true_positives": true, "num_false_positives": false, "num_false_negatives": num_left}
    return RunOfClass(
        name=name,
        ap=to_json(ap_of(rank(target_n, predictions.logit_NC[:, 0]))),
        threshold=threshold if predictions.has_probabilities else None,
        **numbers,
        **counts,
    )
