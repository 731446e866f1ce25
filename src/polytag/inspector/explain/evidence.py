"""Computes what is known about the errors of one class: companions and sizes, and its slices. The findings and the page read it.

Shapes: N images, C classes, P positives.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytag.contracts import ABSENT, PRESENT, Predictions
from polytag.data.formats.boxes import Boxes
from polytag.errors import UsageError
from polytag.inspector.browse.ranking import one_class, probability_of, text_of
from polytag.inspector.inspection import Inspection
from polytag.metrics.class_errors import Companions, RecallBySize, companions, more_misses, recall_by_size
from polytag.metrics.decisions import decide
from polytag.metrics.groups import Value, is_missing
from polytag.metrics.significance import holm
from polytag.metrics.slices import Slices, slice_scores
from polytag.metrics.values import Metrics

BoxesOfRow = Callable[[int], Boxes]
MAX_SIZED = 2000
"""Positives whose boxes are read: an annotation is often a file of its own."""

MAX_SLICED = 200_000
"""Images of which slices are evaluated."""

NUM_LABELS = "num_labels"


@dataclass(frozen=True, kw_only=True)
class SliceOfClass:
    """The images of one value of a column, for one class.

    filters       the parameters by which a ranking shows these images; none where no filter does
    p             of at least as many misses if they were spread evenly over the column, corrected by Holm over all slices of all
                  columns; NaN without decisions
    """

    column: str
    value: str
    num_images: int
    num_present: int
    num_found: int
    ap: float
    low: float
    high: float
    chance: float
    p: float
    filters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassEvidence:
    """What the errors of a class have in common. Without decisions there are no errors.

    names                of all classes
    in_false_positives   classes that its false positives are labelled with, against all images labelled without it
    beside_misses        classes that its misses are predicted as, against all images labelled with it
    among_misses         classes that its misses are labelled with, against the same
    sizes                recall by the size of the object, or None without boxes; num_sized positives have one
    """

    names: tuple[str, ...]
    num_present: int
    num_found: int
    num_false_positives: int
    in_false_positives: Companions | None
    beside_misses: Companions | None
    among_misses: Companions | None
    sizes: RecallBySize | None
    num_sized: int

    @property
    def num_misses(self) -> int:
        return self.num_present - self.num_found


def predicted_of(inspection: Inspection) -> np.ndarray:
    """Return the decisions of every class at its own threshold: boolean, N x C."""
    columns = range(len(inspection.predictions.label_set))
    predicted_NC = np.zeros(inspection.predictions.target_NC.shape, bool)
    for column in columns:
        probability_N = probability_of(inspection.predictions, column)
        predicted_NC[:, column] = decide(probability_N, threshold_C=float(inspection.threshold_C[column]))
    return predicted_NC


def class_evidence(inspection: Inspection, column: int, *, boxes_of: BoxesOfRow | None) -> ClassEvidence:
    """Compute everything about one class. `boxes_of` returns the boxes of an image by its row."""
    predictions = inspection.predictions
    target_NC = predictions.target_NC
    is_present_N, is_absent_N = target_NC[:, column] == PRESENT, target_NC[:, column] == ABSENT
    if not predictions.has_probabilities:
        return ClassEvidence(
            names=predictions.label_set.names,
            num_present=int(is_present_N.sum()),
            num_found=0,
            num_false_positives=0,
            in_false_positives=None,
            beside_misses=None,
            among_misses=None,
            sizes=None,
            num_sized=0,
        )
    predicted_NC = predicted_of(inspection)
    is_predicted_N = predicted_NC[:, column]
    is_miss_N, is_known_NC, all_known_NC = is_present_N & ~is_predicted_N, target_NC >= 0, np.ones(target_NC.shape, bool)
    positives = np.flatnonzero(is_present_N)
    sized = positives[np.unique(np.linspace(0, len(positives) - 1, min(len(positives), MAX_SIZED)).round().astype(int))]
    area_P = np.array([_area(boxes_of(row), predictions.label_set.names[column]) for row in sized.tolist()] if boxes_of else [])
    return ClassEvidence(
        names=predictions.label_set.names,
        num_present=len(positives),
        num_found=int((is_present_N & is_predicted_N).sum()),
        num_false_positives=int((is_absent_N & is_predicted_N).sum()),
        in_false_positives=companions(
            is_absent_N & is_predicted_N,
            is_possible_N=is_absent_N,
            has_NC=target_NC == PRESENT,
            is_known_NC=is_known_NC,
            own=column,
        ),
        beside_misses=companions(is_miss_N, is_possible_N=is_present_N, has_NC=predicted_NC, is_known_NC=all_known_NC, own=column),
        among_misses=companions(
            is_miss_N, is_possible_N=is_present_N, has_NC=target_NC == PRESENT, is_known_NC=is_known_NC, own=column
        ),
        sizes=recall_by_size(area_P, is_predicted_N[sized]) if np.isfinite(area_P).any() else None,
        num_sized=int(np.isfinite(area_P).sum()),
    )


def slices_of_class(inspection: Inspection, column: int) -> tuple[tuple[SliceOfClass, ...], ...]:
    """Evaluate one class on the images of every value, or bin, of every column, each the lowest AP first, undefined ones last.

    The columns are those that a ranking filters by, and the number of labels and the folder of an image, which are known without
    opening it: these two only where at least two of their slices have a positive. A column of more than 50 texts is left out. With
    more than 200,000 images there are no slices: intervals would take minutes.
    """
    if len(inspection.predictions) > MAX_SLICED:
        return ()
    predictions, threshold = one_class(inspection.predictions, column), float(inspection.threshold_C[column])
    known = {name: values for name, values in _known_columns(inspection.predictions).items() if name not in inspection.column_N}
    found: list[Slices] = []
    for name, values in (dict(inspection.column_N) | known).items():
        with suppress(UsageError):  # no value, or too many texts
            each = slice_scores(predictions, values, column=name, threshold=threshold, groups=inspection.groups)
            if name not in known or sum(part.metrics.support_C[0] > 0 for part in each.slices) > 1:
                found.append(each)
    counts = [[_positives(part.metrics) for part in each.slices] for each in found]
    raw = [more_misses(*np.array(each).T) for each in counts]
    p_S = holm(np.concatenate([np.zeros(0), *raw]) if predictions.has_probabilities else np.full(sum(map(len, raw)), np.nan))
    p_of = np.split(p_S, np.cumsum([len(each) for each in raw]))
    return tuple(
        _worst_first(
            [
                SliceOfClass(
                    column=each.column,
                    value=part.value,
                    num_images=part.num_images,
                    num_present=num_present,
                    num_found=num_found,
                    ap=float(part.metrics.ap_C[0]),
                    low=float(part.metrics.ap_low_C[0]),
                    high=float(part.metrics.ap_high_C[0]),
                    chance=float(part.metrics.ap_chance_C[0]),
                    p=float(p),
                    filters=filters,
                )
                for part, filters, (num_present, num_found), p in zip(
                    each.slices, _filters(each, inspection), of_slices, of_column, strict=True
                )
            ]
        )
        for each, of_slices, of_column in zip(found, counts, p_of[: len(found)], strict=True)
    )


def _positives(metrics: Metrics) -> tuple[int, int]:
    """The number of positives of the one class, and of those that are found."""
    num_present = int(metrics.support_C[0])
    return num_present, round(float(metrics.recall_C[0]) * num_present) if num_present and metrics.recall_C[0] >= 0 else 0


def _known_columns(predictions: Predictions) -> dict[str, Sequence[Value]]:
    """What `evaluate --slice` calls num_labels and source, of every image. A folder is written from the one that all share."""
    folders = [os.path.dirname(path) + "/" if path else None for path in predictions.image_paths]
    shared = os.path.commonprefix([folder for folder in set(folders) if folder])  # noqa: RUF071  the next line cuts it at a slash
    start = shared.rfind("/") + 1
    return {
        NUM_LABELS: [float(num) for num in (predictions.target_NC == PRESENT).sum(axis=1)],
        "source": [None if folder is None else folder[start:-1] or "." for folder in folders],
    }


def _filters(slices: Slices, inspection: Inspection) -> list[dict[str, str]]:
    """The parameters of the ranking of each slice."""
    column = slices.column
    if column in inspection.column_N:
        values = [] if slices.edges else _texts(inspection.column_N[column])
        return [{"column": column, "value": value} if value else {} for value in values or [""] * len(slices.slices)]
    if column != NUM_LABELS:
        return [{} for _ in slices.slices]
    if not slices.edges:
        return [{"min_labels": part.value, "max_labels": part.value} for part in slices.slices]
    firsts = [math.ceil(edge) for edge in slices.edges]  # of each bin; the last edge is inside the last one
    lasts = [*(first - 1 for first in firsts[1:-1]), math.floor(slices.edges[-1])]
    return [{"min_labels": str(first), "max_labels": str(last)} for first, last in zip(firsts[:-1], lasts, strict=True)]


def _texts(values: Sequence[Value]) -> list[str]:
    """The distinct values as a ranking filters by them, in the order of the slices."""
    distinct = {value for value in values if not is_missing(value)}
    key: Any = str if any(isinstance(value, str) for value in distinct) else float
    return [text_of(value) for value in sorted(distinct, key=key)]


def _worst_first(slices: list[SliceOfClass]) -> tuple[SliceOfClass, ...]:
    return tuple(sorted(slices, key=lambda each: (np.isnan(each.ap), each.ap)))


def _area(boxes: Boxes, class_name: str) -> float:
    """Return the share of the image that the largest object of a class takes; NaN without a box. Doubtful ones count if all are."""
    own = [box for box in boxes.boxes if box.class_name == class_name]
    sure = [box for box in own if not box.is_doubtful] or own
    return max(((box.right - box.left) * (box.bottom - box.top) for box in sure), default=float("nan"))
