"""Serves the map of the images, and where its points are and what they show."""

from dataclasses import replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Query as QueryParameter

from polytag.contracts import PRESENT
from polytag.errors import CheckpointError, DataError, UsageError
from polytag.inspector.browse.answers import PageParameters, RankingParameters, RankingQuery, Row
from polytag.inspector.browse.pages import PageParametersOfQuery, rendered
from polytag.inspector.browse.ranking import OUTCOMES, outcomes_of, probability_of
from polytag.inspector.browse.regions import Source
from polytag.inspector.browse.routes import NOT_THERE, REFUSED
from polytag.inspector.browse.service import InspectorService, NotThere
from polytag.inspector.map.answers import ImagesAnswer, OtherPlacesAnswer, PlacesAnswer, PointsAnswer
from polytag.inspector.map.context import MapPage
from polytag.inspector.map.places import Found, MapOfImages
from polytag.inspector.model.job_queue import Busy

MAX_IMAGES = 100
_RETRY_SECONDS = 2


class ImagesParameters(RankingParameters):
    """The parameters of a ranking, and rows of images."""

    row: list[Row] = QueryParameter([], max_length=MAX_IMAGES)


ImagesQuery = Annotated[ImagesParameters, QueryParameter()]


def map_routes(service: InspectorService, images: MapOfImages) -> APIRouter:
    """Return the page and its API."""
    routes = APIRouter()

    @routes.get("/map", include_in_schema=False)
    def map_of_images(parameters: PageParametersOfQuery, request: Request) -> Response:
        return rendered(map_page(service, images, parameters, query=request.url.query))

    @routes.get("/api/map", responses=REFUSED)
    def places(by: Source = "scores", begin: bool = False) -> PlacesAnswer:
        """Where the images are, by the features that the model sees, by UMAP of them, or by their scores. Features of a large
        data set, and what was stopped, are computed once they are asked for, with `begin`. 409 for a map that cannot be made."""
        if by not in images.sources:
            raise UsageError("there is no such map of these images: it needs the model of the run, its data set or an extra")
        return _places_answer(_found(images, by, is_asked_for=begin))

    @routes.post("/api/map/stop")
    def stop() -> PlacesAnswer:
        """End the computation by UMAP, or else that of the features, until it is asked for again."""
        return _places_answer(images.stop())

    @routes.get("/api/map/points", responses=REFUSED)
    def points(parameters: RankingQuery) -> PointsAnswer:
        """Decision, label and score of every image for a class, and which images pass the filters."""
        return points_answer(service, parameters)

    @routes.get("/api/map/images", responses=NOT_THERE | REFUSED)
    def some_images(parameters: ImagesQuery) -> ImagesAnswer:
        """Some images as a ranking shows them, by their rows, each once."""
        rows = np.array(list(dict.fromkeys(parameters.row)), np.int64)
        if len(rows) and rows.max() >= len(service.inspection.predictions):
            raise NotThere("no such image", got=f"row {rows.max()}")
        return ImagesAnswer(images=service.images(rows, replace(service.query(parameters), find="")))

    return routes


def map_page(service: InspectorService, images: MapOfImages, parameters: PageParameters, *, query: str) -> MapPage:
    """Return the page for a class; raises NotThere for an unknown one."""
    names = service.inspection.predictions.label_set.names
    column = service.column(parameters.class_name or names[0])
    colours = ["label", "score", "labels"]
    if service.inspection.predictions.has_probabilities:
        colours.insert(0, "error")
    data = service.inspection.data
    if "features" in images.sources and data is not None and len(data.splits) > 1:
        colours.append("split")
    against = service.place(parameters.against)
    return MapPage(
        run=service.run(against),
        chosen=service.classes(against).classes[column],
        sources=images.sources,
        colours=colours,
        query=query,
    )


def points_answer(service: InspectorService, parameters: RankingParameters) -> PointsAnswer:
    """Return what the points show; raises NotThere and UsageError as the query does."""
    last_row = service.last_row()  # before what it is to cover is read
    query, predictions = replace(service.query(parameters), find=""), service.inspection.predictions
    column = query.column
    if predictions.has_probabilities:
        share_N = probability_of(predictions, column)
    else:
        logit_N = predictions.logit_NC[:, column]
        share_N = np.searchsorted(np.sort(logit_N), logit_N) / len(logit_N)
    return PointsAnswer(
        outcomes=list(OUTCOMES),  # pyright: ignore[reportArgumentType]
        outcome=outcomes_of(predictions, column, query.threshold).tolist(),
        truth=predictions.target_NC[:, column].tolist(),
        score=np.rint(1000 * share_N).astype(int).tolist(),
        num_labels=(predictions.target_NC == PRESENT).sum(axis=1).tolist(),
        threshold=query.threshold,
        passing=service.rankings.rows(query).tolist() if parameters.filters else None,
        last_row=last_row,
    )


def _found(images: MapOfImages, source: Source, *, is_asked_for: bool) -> Found:
    """Return the places; the model's own errors become sentences that contain no path."""
    try:
        return images.found(source, is_asked_for=is_asked_for)
    except Busy as error:
        raise HTTPException(503, error.what, headers={"Retry-After": str(_RETRY_SECONDS)}) from error
    except (CheckpointError, DataError) as error:
        raise HTTPException(409, error.what) from error


def _places_answer(found: Found) -> PlacesAnswer:
    places = found.places
    if places is None:
        progress = min(1.0, found.progress)
        return PlacesAnswer(status=found.status, step=found.step, progress=progress, x=[], y=[], shares=None, others=[])
    return PlacesAnswer(
        status=found.status,
        step=found.step,
        progress=1.0,
        x=places.place_N2[:, 0].tolist(),
        y=places.place_N2[:, 1].tolist(),
        shares=None if places.share_2 is None else [round(share, 4) for share in places.share_2],
        others=[
            OtherPlacesAnswer(
                split=each.split, rows=each.row_n.tolist(), x=each.place_n2[:, 0].tolist(), y=each.place_n2[:, 1].tolist()
            )
            for each in places.others
        ],
    )
