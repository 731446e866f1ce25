"""Shows the worst errors of the run, over all classes."""

from functools import lru_cache
from urllib.parse import urlencode

import numpy as np

from polytag.inspector.browse.ranking import Query
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.explain.contexts import Example
from polytag.inspector.inspection import Inspection
from polytag.metrics.worst_errors import WorstError, worst_errors

NUM_WORST = 8


@lru_cache(2)
def _errors(inspection: Inspection) -> tuple[WorstError, ...]:
    return worst_errors(inspection.predictions, inspection.threshold_C, top=NUM_WORST)


def worst_examples(service: InspectorService) -> list[Example]:
    """Return the eight images with the highest loss of a wrong decision, each with its class; none for ranks."""
    inspection = service.inspection
    found: list[Example] = []
    for error in _errors(inspection):
        name = inspection.predictions.label_set.names[error.column]
        query = Query(column=error.column, threshold=float(inspection.threshold_C[error.column]))
        (image,) = service.images(np.array([error.row]), query)
        link = "/image?" + urlencode({"class": name, "sort": "loss", "id": image.id})
        found.append(Example(image=image, link=link, class_name=name))
    return found
