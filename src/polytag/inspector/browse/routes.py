"""The JSON API over rankings, classes and images, and the images themselves. Documented at /api/openapi.json."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter
from fastapi import Query as QueryParameter

from polytag.errors import ImageError
from polytag.inspector.browse.answers import (
    ChartsAnswer,
    ClassesAnswer,
    ImageAnswer,
    OperatingAnswer,
    PageQuery,
    Problem,
    RankingAnswer,
    RunAnswer,
)
from polytag.inspector.browse.charts import histogram_chart, precision_recall_chart
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.browse.thumbnails import Thumbnails, full_image

ClassName = Annotated[str, QueryParameter(alias="class", max_length=1000)]
RowNumber = Annotated[int, PathParameter(ge=0, lt=2**31)]
Version = Annotated[str, QueryParameter(max_length=64, description="RunAnswer.version: the image may then be kept for ever.")]

IMAGES_AT_ONCE = 16

NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
REFUSED: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 409: {"model": Problem}}
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}, "image/svg+xml": {}}},
    304: {"description": "the browser has it already"},
    404: {"model": Problem},
}


def service_routes(service: InspectorService, thumbnails: Thumbnails) -> APIRouter:
    """Routes that need neither a model nor a review."""
    routes = APIRouter()
    # Images have threads of their own, so that however many large ones are waited for, the pages find a free one.
    for_images = CapacityLimiter(IMAGES_AT_ONCE)

    @routes.get("/api/run")
    def run() -> RunAnswer:
        """What is being looked at, and what can be asked of it."""
        return service.run()

    @routes.get("/api/classes")
    def classes() -> ClassesAnswer:
        """All classes with their numbers; those that take time are null until `is_evaluated`."""
        return service.classes()

    @routes.get("/api/operating", responses=REFUSED)
    def operating(class_name: ClassName) -> OperatingAnswer:
        """Counts of a class at every threshold of the slider. 409 where the scores are ranks."""
        return service.operating(class_name)

    @routes.get("/api/charts", responses=NOT_THERE)
    def charts(class_name: ClassName) -> ChartsAnswer:
        """Precision over recall, and the histogram of scores, as Vega-Lite specifications."""
        column = service.column(class_name)
        predictions = service.inspection.predictions
        return ChartsAnswer(
            precision_recall=precision_recall_chart(predictions, column), histogram=histogram_chart(predictions, column)
        )

    @routes.get("/api/ranking", responses=REFUSED)
    def ranking(asked: PageQuery) -> RankingAnswer:
        """A part of a ranking. 409 for what these scores cannot be asked."""
        return service.ranking(asked, offset=asked.offset, limit=asked.limit)

    @routes.get("/api/images/{row}", responses=NOT_THERE)
    def image(row: RowNumber) -> ImageAnswer:
        """One image and all classes."""
        return service.image(row)

    @routes.get("/thumbnails/{row}", responses=JPEG, response_class=Response)
    async def thumbnail(row: RowNumber, request: Request, v: Version = "") -> Response:
        """At most 250 pixels a side."""
        return await to_thread.run_sync(
            lambda: _image(request, lambda: service.image_path(row), thumbnails.get, keep=v == service.inspection.version),
            limiter=for_images,
        )

    @routes.get("/images/{row}", responses=JPEG, response_class=Response)
    async def full(row: RowNumber, request: Request, v: Version = "") -> Response:
        """At most 2,048 pixels a side."""
        return await to_thread.run_sync(
            lambda: _image(request, lambda: service.image_path(row), full_image, keep=v == service.inspection.version),
            limiter=for_images,
        )

    @routes.get("/data/{row}/thumbnail", responses=JPEG, response_class=Response)
    async def data_thumbnail(row: RowNumber, request: Request) -> Response:
        """Of an image of the data set, in whatever split; at most 250 pixels a side."""
        return await to_thread.run_sync(
            lambda: _image(request, lambda: service.data_image_path(row), thumbnails.get, keep=False), limiter=for_images
        )

    return routes


def _image(request: Request, find: Callable[[], Path], make: Callable[[Path], bytes], *, keep: bool) -> Response:
    """The image as JPEG, to be kept for ever where the address has its version, else asked for again by its tag."""
    path = find()
    try:
        status = path.stat()
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    except (OSError, ValueError):
        return no_image()
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable" if keep else "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    try:
        return Response(make(path), media_type="image/jpeg", headers=headers)
    except ImageError:
        return no_image()


@cache
def _missing() -> bytes:
    return (package_files("polytag.inspector") / "static" / "shared" / "missing.svg").read_bytes()


def no_image() -> Response:
    """Instead of an image that cannot be read: a missing one is ordinary here, and no error of the page."""
    return Response(_missing(), media_type="image/svg+xml", headers={"Cache-Control": "no-store"})
