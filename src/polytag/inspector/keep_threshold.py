"""Keeps the threshold of one class: in thresholds.json and in the model of the run, by the code of `polytag thresholds`."""

from dataclasses import replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from polytag.errors import PolytagError, UsageError
from polytag.inference.decisions import write_thresholds
from polytag.inspector.browse.answers import Problem
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.inspection import Inspection
from polytag.metrics.goals import Goal
from polytag.metrics.operating_points import points_at
from polytag.runs.model import held, of_this_model, open_run


class KeepRequest(BaseModel):
    """A threshold to keep."""

    model_config = ConfigDict(strict=True)

    class_name: str = Field(max_length=1000)
    threshold: Annotated[float, Field(ge=0, le=1)]


class KeptAnswer(BaseModel):
    """The threshold that the run has now, and the one that it had."""

    threshold: float
    before: float


def keep_routes(service: InspectorService) -> APIRouter:
    """Return the route that keeps a threshold."""
    routes = APIRouter()

    @routes.post("/api/thresholds/keep", responses={404: {"model": Problem}, 409: {"model": Problem}, 503: {"model": Problem}})
    def keep(request: KeepRequest) -> KeptAnswer:
        """Save the threshold of one class in the run. Once this answers, `polytag predict` decides by it.

        409 where there is no run with one model whose validation images are shown; 503 where another process holds the run or the
        files cannot be written.
        """
        column = service.column(request.class_name)
        try:
            before = keep_threshold(service.inspection, column, request.threshold)
        except UsageError:
            raise
        except PolytagError as error:
            raise HTTPException(503, f"{error.what}: {error.got}" if error.got else error.what) from error
        return KeptAnswer(threshold=request.threshold, before=before)

    return routes


def keep_threshold(inspection: Inspection, column: int, threshold: float) -> float:
    """Save the threshold of one class, the others as the run's model has them now; returns the one before.

    What was recorded of an earlier choice, its goal and its guarantee, is not true of the whole any more, and goes.
    Raises UsageError where nothing can be kept, RunError where another process holds the run or has changed its model, or a file
    cannot be written, and PredictionsError where the scores are of another model.
    """
    run = open_run(inspection.run_path) if inspection.run_path is not None and inspection.may_keep_thresholds else None
    if run is None:
        raise UsageError("only a run with a model of its own keeps thresholds, chosen on its validation images")
    predictions = of_this_model(run, inspection.predictions, where=run.folder.predictions)
    with held(run, doing="saving a threshold") as checkpoint:  # another request may have saved one since the run was opened
        threshold_C = np.array(checkpoint.thresholds)
        before = float(threshold_C[column])
        threshold_C[column] = threshold
        points = replace(points_at(predictions, threshold_C=threshold_C), goal=Goal(kind="none"))
        write_thresholds(run.folder, checkpoint, points)
    return before
