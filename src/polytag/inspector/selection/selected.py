"""Defines a selection of images in a request, and finds its rows. The browser lists no million rows: it names the ranking."""

import numpy as np
from pydantic import BaseModel, Field

from polytag.contracts import UNKNOWN
from polytag.errors import UsageError
from polytag.inspector.browse.answers import RankingParameters, Row
from polytag.inspector.browse.service import InspectorService, NotThere

MAX_ROWS = 2_000_000


class Selection(BaseModel):
    """Some images, or all of a ranking but some."""

    ranking: RankingParameters = Field(description="The ranking in which they are selected.")
    is_all: bool = Field(False, description="Whether all of the ranking is selected, without `rows`.")
    rows: list[Row] = Field([], max_length=MAX_ROWS, description="The selected images; or, with `is_all`, those that are not.")
    total: int = Field(ge=1, description="The number of selected images that the client shows. Another one is refused.")


def selected_rows(service: InspectorService, selection: Selection) -> np.ndarray:
    """Return the selected rows, in the order of the ranking where all of it is selected.

    Raises NotThere for a row or class that is not there, and UsageError where the selection holds another number of images than the
    client shows: a filter may hold other images since, by tags for example.
    """
    num_images = len(service.inspection.predictions)
    named_n = np.unique(np.array(selection.rows, np.int64))
    if len(named_n) and named_n[-1] >= num_images:
        raise NotThere("no such image", got=f"row {named_n[-1]}")
    if selection.is_all:
        rows = service.rankings.rows(service.query(selection.ranking))
        rows = rows[~np.isin(rows, named_n)] if len(named_n) else rows
    else:
        service.column(selection.ranking.class_name)
        rows = named_n
    if len(rows) != selection.total:
        raise UsageError(f"{len(rows):,} images are selected now, and the page shows {selection.total:,}: select them again")
    return rows


def reviewed_targets(service: InspectorService, rows: np.ndarray) -> np.ndarray:
    """Return the labels of some rows with the decisions of the review in place: int8, n x C. Raises RunError."""
    predictions = service.inspection.predictions
    target_nC = predictions.target_NC[rows].copy()
    place_of = {predictions.ids[row]: place for place, row in enumerate(rows.tolist())}
    column_of = {name: column for column, name in enumerate(predictions.label_set)}
    for (image_id, class_name), label in service.store.labels(service.inspection.split).items():
        if image_id in place_of and class_name in column_of:
            target_nC[place_of[image_id], column_of[class_name]] = label
    assert target_nC.min(initial=UNKNOWN) >= UNKNOWN
    return target_nC
