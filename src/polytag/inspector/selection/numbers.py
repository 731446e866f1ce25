"""The numbers of a selection: a slice, with its own average precision and interval, and what its images are labelled with."""

import numpy as np
from pydantic import BaseModel, Field

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.inspector.browse.answers import to_json
from polytag.inspector.browse.filtered import FilteredSlice, ap_with_interval
from polytag.inspector.browse.ranking import one_class
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.selection.selected import Selection, selected_rows
from polytag.metrics.ap import chance_ap
from polytag.metrics.intervals import FEW_POSITIVES

NUM_LABELS = 6


class LabelCount(BaseModel):
    """A class, and the number of selected images that are labelled with it."""

    name: str
    num: int


class SelectionNumbers(BaseModel):
    """Average precision of the class of the ranking on the selected images alone, with its 95% interval."""

    num_images: int
    num_present: int
    num_absent: int
    num_unknown: int
    ap: float | None = Field(description="Null without a positive or without a negative.")
    low: float | None
    high: float | None
    chance: float | None = Field(description="The expected average precision of a random order of these images.")
    ap_of_all: float | None = Field(description="Average precision on all images of the run.")
    is_few: bool = Field(description="Whether there are positives, but fewer than 10.")
    labels: list[LabelCount] = Field(description="The most frequent labels of these images, at most 6.")


def selection_numbers(service: InspectorService, selection: Selection) -> SelectionNumbers:
    """Return the numbers of a selection; raises as `selected_rows` does. The labels are those of the run, without the review."""
    rows = np.sort(selected_rows(service, selection))  # the interval is the same in whatever order they were selected
    inspection, column = service.inspection, service.column(selection.ranking.class_name)
    own = one_class(inspection.predictions, column).take(rows)
    groups = inspection.groups.take(rows) if inspection.groups else None
    ap, low, high = ap_with_interval(FilteredSlice(rows=rows, predictions=own, groups=groups, is_whole=False, scope=""))
    present, absent, unknown = (int((own.target_NC == label).sum()) for label in (PRESENT, ABSENT, UNKNOWN))
    count_C = (inspection.predictions.target_NC[rows] == PRESENT).sum(axis=0)
    frequent = [c for c in np.argsort(-count_C, kind="stable")[:NUM_LABELS].tolist() if count_C[c]]
    return SelectionNumbers(
        num_images=len(rows),
        num_present=present,
        num_absent=absent,
        num_unknown=unknown,
        ap=to_json(ap),
        low=to_json(low),
        high=to_json(high),
        chance=to_json(float(chance_ap(np.array([present]), np.array([absent]))[0])),
        ap_of_all=to_json(float(service.evaluation.ap_C[column])),
        is_few=0 < present < FEW_POSITIVES,
        labels=[LabelCount(name=inspection.predictions.label_set.names[c], num=int(count_C[c])) for c in frequent],
    )
