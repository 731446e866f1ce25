"""Defines the JSON API over rankings, classes and images, and serves the images. /api/openapi.json documents it."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter
from fastapi import Query as QueryParameter

from polytag.data.images.stored import image_status
from polytag.errors import ImageError
from polytag.inspector.browse.answers import (
    BothRunsAnswer,
    ChartsAnswer,
    ClassesAnswer,
    CurvePoint,
    GoalAnswer,
    HistogramAnswer,
    ImageAnswer,
    PageQuery,
    Problem,
    RankingAnswer,
    RankingQuery,
    RunAnswer,
    SliceAnswer,
    ThresholdsAnswer,
    ThumbnailsAnswer,
)
from polytag.inspector.browse.both_runs import both_runs
from polytag.inspector.browse.curves import curve_points, histogram
from polytag.inspector.browse.filtered import FilteredSlice
from polytag.inspector.browse.goals import GOAL_PATTERN, goal_answer
from polytag.inspector.browse.service import InspectorService, NotThere
from polytag.inspector.browse.thumbnails import Thumbnails, full_image

ClassName = Annotated[str, QueryParameter(alias="class", max_length=1000)]
RunName = Annotated[str, QueryParameter(max_length=1000, description="The run to compare with; the first one by default.")]
RowNumber = Annotated[int, PathParameter(ge=0, lt=2**31)]
RowNumbers = Annotated[str, QueryParameter(pattern=r"^\d{1,9}(,\d{1,9}){0,63}$", description="up to 64, with commas between them")]
Version = Annotated[str, QueryParameter(max_length=64, description="RunAnswer.version. The image may then be cached for ever.")]

MAX_IMAGE_REQUESTS = 16

NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
REFUSED: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 409: {"model": Problem}}
NOT_YET: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "try again after Retry-After seconds"}}
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}, "image/svg+xml": {}}},
    304: {"description": "the copy of the browser is current"},
    404: {"model": Problem},
}


def service_routes(service: InspectorService, thumbnails: Thumbnails) -> APIRouter:
    """Return the routes that need neither the model nor the review."""
    routes = APIRouter()
    _add_image_routes(routes, service, thumbnails)

    @routes.get("/api/run", responses=NOT_THERE)
    def run(against: RunName = "") -> RunAnswer:
        """The run under inspection, which features it supports, and how it compares with another one."""
        return service.run(service.place(against))

    @routes.get("/api/classes", responses=NOT_THERE)
    def classes(against: RunName = "") -> ClassesAnswer:
        """All classes with their numbers. Intervals, precision and recall are null until `is_evaluated`."""
        return service.classes(service.place(against))

    @routes.get("/api/thresholds", responses=REFUSED)
    def thresholds(parameters: RankingQuery, also: Annotated[float | None, QueryParameter(ge=0, le=1)] = None) -> ThresholdsAnswer:
        """Counts and proportions of a class at every threshold of the slider, and at `also`, on the images that pass the filters.
        Filters on decisions do not count. 409 where the scores are ranks, and for a filter that these scores do not have."""
        return service.thresholds(parameters, also=also)

    @routes.get("/api/slice", responses=REFUSED)
    def slice_of(parameters: RankingQuery) -> SliceAnswer:
        """Average precision of a class on the images that pass the filters, with its 95% interval. Filters on decisions do not
        count."""
        return service.slice_of(parameters)

    @routes.get("/api/charts", responses=REFUSED)
    def charts(parameters: RankingQuery) -> ChartsAnswer:
        """Precision over recall, and the histogram of the scores, of the images that pass the filters."""
        return _charts(service.filtered(parameters))

    @routes.get("/api/compared", responses=REFUSED)
    def compared(parameters: RankingQuery) -> BothRunsAnswer:
        """Both runs on a class: numbers at their own thresholds, what this run gained and lost, and the compared run's curve. 409
        without a compared run."""
        return both_runs(service.inspection, service.rankings, service.query(parameters))

    @routes.get("/api/goal", responses=REFUSED)
    def goal(class_name: ClassName, goal: Annotated[str, QueryParameter(pattern=f"^({GOAL_PATTERN})$")]) -> GoalAnswer:
        """The threshold for "recall 0.8", "precision 0.9", "top 0.05" or "f1", and the one with a guarantee. 409 for ranks."""
        return goal_answer(service.inspection, service.column(class_name), text=goal)

    @routes.get("/api/ranking", responses=REFUSED | NOT_YET)
    def ranking(parameters: PageQuery) -> RankingAnswer:
        """One part of a ranking. 409 for an order or filter that these scores do not have. 503 while `find` waits for the images to
        be read: /api/find says how far that is."""
        return service.ranking(parameters, offset=parameters.offset, limit=parameters.limit)

    @routes.get("/api/images/{row}", responses=NOT_THERE)
    def image(row: RowNumber, against: RunName = "") -> ImageAnswer:
        """One image with all classes."""
        return service.image(row, service.place(against))

    return routes


def _charts(part: FilteredSlice) -> ChartsAnswer:
    bins = histogram(part.predictions, 0)
    return ChartsAnswer(
        precision_recall=[
            CurvePoint(recall=recall, precision=precision, score=score)
            for recall, precision, score in curve_points(part.predictions, 0)
        ],
        histogram=HistogramAnswer(
            low=bins.low,
            high=bins.high,
            present=bins.present_B.tolist(),
            absent=bins.absent_B.tolist(),
            unknown=bins.unknown_B.tolist(),
        ),
        scope=part.scope,
    )


def _add_image_routes(routes: APIRouter, service: InspectorService, thumbnails: Thumbnails) -> None:
    # A separate pool of threads for images leaves threads to the pages while many large images are decoded.
    image_limiter = CapacityLimiter(MAX_IMAGE_REQUESTS)

    @routes.get("/thumbnails/{row}", responses=JPEG, response_class=Response)
    async def thumbnail(row: RowNumber, request: Request, v: Version = "") -> Response:
        """The image fitted into 250 by 250 pixels."""
        return await to_thread.run_sync(
            lambda: _image(request, lambda: service.image_path(row), thumbnails.get, is_versioned=v == service.inspection.version),
            limiter=image_limiter,
        )

    @routes.get("/api/thumbnails")
    async def many_thumbnails(rows: RowNumbers, response: Response, v: Version = "") -> ThumbnailsAnswer:
        """Several thumbnails in one answer."""
        found = [int(row) for row in rows.split(",")]
        answer = await to_thread.run_sync(lambda: _many(found, service, thumbnails), limiter=image_limiter)
        is_kept = v == service.inspection.version and all(answer.images)
        response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if is_kept else "no-store"
        return answer

    @routes.get("/images/{row}", responses=JPEG, response_class=Response)
    async def full(row: RowNumber, request: Request, v: Version = "") -> Response:
        """The image fitted into 2,048 by 2,048 pixels."""
        return await to_thread.run_sync(
            lambda: _image(request, lambda: service.image_path(row), full_image, is_versioned=v == service.inspection.version),
            limiter=image_limiter,
        )

    @routes.get("/data/{row}/thumbnail", responses=JPEG, response_class=Response)
    async def data_thumbnail(row: RowNumber, request: Request) -> Response:
        """An image of the data set, of any split, fitted into 250 by 250 pixels."""
        return await to_thread.run_sync(
            lambda: _image(request, lambda: service.data_image_path(row), thumbnails.get, is_versioned=False), limiter=image_limiter
        )

    @routes.get("/data/{row}/image", responses=JPEG, response_class=Response)
    async def data_image(row: RowNumber, request: Request) -> Response:
        """An image of the data set, of any split, fitted into 2,048 by 2,048 pixels."""
        return await to_thread.run_sync(
            lambda: _image(request, lambda: service.data_image_path(row), full_image, is_versioned=False), limiter=image_limiter
        )


def _image(request: Request, find: Callable[[], Path], make: Callable[[Path], bytes], *, is_versioned: bool) -> Response:
    """Return the image as JPEG: cached for ever if its address has a version, else revalidated by its tag."""
    path = find()
    try:
        status = image_status(path)
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    except (OSError, ValueError):
        return no_image()
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable" if is_versioned else "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    try:
        return Response(make(path), media_type="image/jpeg", headers=headers)
    except ImageError:
        return no_image()


def _many(rows: Sequence[int], service: InspectorService, thumbnails: Thumbnails) -> ThumbnailsAnswer:
    def begun(row: int) -> Future[bytes] | None:
        try:
            return thumbnails.begin(service.image_path(row))
        except (ImageError, NotThere):
            return None

    def content(image: Future[bytes] | None) -> str | None:
        try:
            return image and b64encode(image.result()).decode()
        except ImageError:
            return None

    images = [begun(row) for row in rows]  # both decoders work on one answer, and then on the next
    return ThumbnailsAnswer(images=[content(image) for image in images])


@cache
def _missing() -> bytes:
    return (package_files("polytag.inspector") / "static" / "shared" / "missing.svg").read_bytes()


def no_image() -> Response:
    """Return the placeholder for an image that cannot be read. A missing image is ordinary here, so the status is 200."""
    return Response(_missing(), media_type="image/svg+xml", headers={"Cache-Control": "no-store"})
