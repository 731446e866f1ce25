"""Finds the threshold that a goal in words leads to for one class."""

import math
import re

from polytag.errors import UsageError
from polytag.inspector.browse.answers import GoalAnswer, PointAnswer
from polytag.inspector.browse.ranking import one_class
from polytag.inspector.inspection import Inspection
from polytag.metrics.goals import Goal
from polytag.metrics.operating_points import OperatingPoint, choose_thresholds

CONFIDENCE = 0.95
_SAFE_SIDES = {"recall": "below", "precision": "", "top": "above"}  # a higher threshold may have a lower precision
_SHARE = r"0?\.\d{0,5}[1-9]\d{0,5}|(?:[1-9]\d?(?:\.\d{1,5})?|0\.\d{0,4}[1-9]) ?%"
_CAVEAT = "The best epoch was chosen on these images too, which this does not account for."
GOAL_PATTERN = rf"(recall|precision|top)(?: |=| = )({_SHARE})|(f[1-9]\d?(?:\.\d{{1,5}})?|f0\.\d{{0,4}}[1-9])"
"""Of what a person types, in lower case; of pages and API."""


def goal_of_text(text: str) -> Goal:
    """Return the goal that a person typed: "recall 0.8", "precision = 90%", "top 0.05", "f1". Raises UsageError for another."""
    found = re.fullmatch(GOAL_PATTERN, text.strip().casefold(), re.ASCII)
    if found is None:
        raise UsageError("no goal for a threshold", got=repr(text), expected="recall 0.8, precision 0.9, top 0.05 or f1")
    if found[3]:
        return Goal.parse(found[3])
    level = found[2]
    share = float(level.rstrip("% ")) / 100 if level.endswith("%") else float(level)
    return Goal(kind=found[1], level=share)


def goal_answer(inspection: Inspection, column: int, *, text: str) -> GoalAnswer:
    """Return the best threshold of one class for a goal on these images, and the one that is guaranteed for new ones.

    Dependent images count as in `polytag thresholds`. Raises UsageError for a text that is no goal, and where the scores are ranks.
    """
    if not inspection.predictions.has_probabilities:
        raise UsageError("these scores are ranks: no threshold means anything")
    goal, predictions = goal_of_text(text), one_class(inspection.predictions, column)
    best = choose_thresholds(predictions, goal=goal).points[0]
    guaranteed, is_selected = None, inspection.run_path is not None and inspection.split == "val"
    if goal.kind in _SAFE_SIDES:
        guaranteed = choose_thresholds(predictions, goal=goal, confidence=CONFIDENCE, groups=inspection.groups).points[0]
    return GoalAnswer(
        goal=str(goal),
        best=_point_answer(best),
        confidence=CONFIDENCE,
        guaranteed=None if guaranteed is None else _point_answer(guaranteed),
        caveat=_CAVEAT if guaranteed is not None and guaranteed.attainable and is_selected else "",
        safe_side=_SAFE_SIDES.get(goal.kind, ""),  # pyright: ignore[reportArgumentType]
    )


def _point_answer(point: OperatingPoint) -> PointAnswer:
    names = ("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high", "bound")
    numbers = {name: None if math.isnan(value := getattr(point, name)) else float(value) for name in names}
    return PointAnswer(threshold=point.threshold, attainable=point.attainable, reason=point.reason, **numbers)
