"""Defines the routes that need the model or the annotations: predictions on uploads, heat maps, neighbours, boxes.

Heavy work never runs in the threads that serve the pages. An endpoint here waits for the model worker without holding a thread.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Query as QueryParameter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from polytag.errors import CheckpointError, DataError, ImageError, UsageError
from polytag.inspector.browse.annotated_boxes import AnnotatedBoxes
from polytag.inspector.browse.answers import Problem
from polytag.inspector.browse.routes import ClassName, RowNumber
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.answers import (
    BoxAnswer,
    BoxesAnswer,
    NeighbourAnswer,
    NeighboursAnswer,
    PredictedClass,
    PredictionAnswer,
    SplitNeighbours,
)
from polytag.inspector.model.job_queue import Busy
from polytag.inspector.model.worker import ModelWorker, NearestNeighbors
from polytag.report.ranking import probability_text
from polytag.text import with_minus

MAX_UPLOAD_BYTES = 32 * 2**20
RETRY_SECONDS = 2

Answer = TypeVar("Answer")
Responses = dict[int | str, dict[str, Any]]
Limit = Annotated[int, QueryParameter(ge=1, le=50, description="Images of each split.")]

_BUSY: Responses = {503: {"model": Problem, "description": "the queue is full: try again after Retry-After seconds"}}
_NO_MODEL: Responses = {409: {"model": Problem, "description": "there is no model, or it does not support this"}}
_UPLOAD: Responses = {
    413: {"model": Problem, "description": "the file is too large"},
    415: {"model": Problem, "description": "the content type is neither image/* nor application/octet-stream"},
    422: {"description": "the image cannot be read (detail is a sentence), or a parameter is wrong (detail is a list)"},
    **_NO_MODEL,
    **_BUSY,
}
_PNG: Responses = {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}}
_NOT_THERE: Responses = {404: {"model": Problem}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The content of an image file; its content type may be any image/*.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def model_routes(
    inspection: Inspection,
    worker: ModelWorker | None,
    *,
    annotated: AnnotatedBoxes | None = None,
    max_upload_bytes: int = MAX_UPLOAD_BYTES,
) -> APIRouter:
    """Return the routes. Without a worker, those that need the model answer 409. The caller closes the worker."""
    routes = APIRouter()
    reader = annotated or AnnotatedBoxes(inspection)

    @routes.post("/api/predict", responses=_UPLOAD, openapi_extra=_BODY)
    async def predict(request: Request) -> PredictionAnswer:
        """Probabilities and decisions at the run's thresholds for the image in the body."""
        at_worker = _required(worker)
        content = await _uploaded_image(request, at_worker, max_bytes=max_upload_bytes)
        decisions = await _answered(lambda: at_worker.predict(content))
        return PredictionAnswer(
            classes=[PredictedClass(**asdict(each), text=with_minus(probability_text(each.probability))) for each in decisions]
        )

    @routes.post("/api/predict/heat", responses=_PNG | _UPLOAD | _NOT_THERE, response_class=Response, openapi_extra=_BODY)
    async def predict_heat(request: Request, class_name: ClassName) -> Response:
        """A heat map of the class for the image in the body: a PNG to lay over it, transparent where the heat is low."""
        at_worker, column = _required(worker), _column(inspection, class_name)
        content = await _uploaded_image(request, at_worker, max_bytes=max_upload_bytes)
        heat = await _answered(lambda: at_worker.heat_of_upload(content, column))
        return Response(heat, media_type="image/png", headers={"Cache-Control": "no-store"})

    @routes.post("/api/predict/nearest", responses=_UPLOAD, openapi_extra=_BODY)
    async def predict_nearest(request: Request, limit: Limit = 12, begin: bool = True) -> NeighboursAnswer:
        """The images of each split whose features are most similar to those of the image in the body. Without `begin` no features
        of the data set are computed that are not cached."""
        at_worker = _required(worker)
        if not begin and inspection.data is None:
            return NeighboursAnswer(status="waiting", progress=0.0, splits=[])
        _require_data(inspection)
        content = await _uploaded_image(request, at_worker, max_bytes=max_upload_bytes)
        found = await _answered(lambda: at_worker.nearest_of_upload(content, limit=limit, is_asked_for=begin))
        return _neighbours(found, image_of_row=await run_in_threadpool(reader.image_of_row))

    @routes.get(
        "/api/images/{row}/heat",
        responses=_PNG | {304: {"description": "the copy of the browser is current"}} | _NOT_THERE | _NO_MODEL | _BUSY,
        response_class=Response,
    )
    async def heat(row: RowNumber, class_name: ClassName, request: Request) -> Response:
        """A heat map of the class: a PNG to lay over the image, transparent where the heat is low."""
        _require_row(inspection, row)
        at_worker, column = _required(worker), _column(inspection, class_name)
        tag = f'"{await run_in_threadpool(at_worker.heat_tag, row, column)}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        content = await _answered(lambda: at_worker.heat_of_row(row, column), unreadable_status=404)
        return Response(content, media_type="image/png", headers=headers)

    @routes.get("/api/images/{row}/nearest", responses=_NOT_THERE | _NO_MODEL | _BUSY)
    async def nearest(row: RowNumber, limit: Limit = 12) -> NeighboursAnswer:
        """The images of each split with the most similar features. The first request starts the computation."""
        _require_row(inspection, row)
        at_worker = _required(worker)
        _require_data(inspection)
        found = await _answered(lambda: at_worker.nearest(row, limit=limit), unreadable_status=404)
        return _neighbours(found, image_of_row=await run_in_threadpool(reader.image_of_row))

    @routes.get("/api/images/{row}/boxes", responses=_NOT_THERE)
    def boxes(row: RowNumber) -> BoxesAnswer:
        """The annotated boxes of an image."""
        _require_row(inspection, row)
        found = reader.boxes(row)
        return BoxesAnswer(boxes=[BoxAnswer(**asdict(box)) for box in found.boxes], note=found.note)

    return routes


def _neighbours(found: NearestNeighbors, *, image_of_row: Mapping[int, str]) -> NeighboursAnswer:
    splits = [
        SplitNeighbours(
            split=split,
            images=[
                NeighbourAnswer(
                    row=each.row, id=each.id, image=image_of_row.get(each.row), distance=each.distance, labels=list(each.labels)
                )
                for each in images
            ],
        )
        for split, images in found.of_split.items()
    ]
    return NeighboursAnswer(status=found.status, progress=found.progress, splits=splits)


def _required(worker: ModelWorker | None) -> ModelWorker:
    if worker is None:
        raise HTTPException(409, "no model is at hand: open the run folder that it was trained in")
    return worker


def _require_data(inspection: Inspection) -> None:
    if inspection.data is None:
        raise HTTPException(409, "the data set of this run cannot be read, so there is nothing to compare with")


def _require_row(inspection: Inspection, row: int) -> None:
    if not 0 <= row < len(inspection.predictions):
        raise HTTPException(404, f"no such image: row {row}")


def _column(inspection: Inspection, class_name: str) -> int:
    names = inspection.predictions.label_set.names
    if class_name not in names:
        raise HTTPException(404, f"no such class: {class_name[:100]!r}")
    return names.index(class_name)


async def _answered(submit: Callable[[], Future[Answer]], *, unreadable_status: int = 422) -> Answer:
    """Wait for the worker without holding a thread. Errors become statuses with sentences that contain no path."""
    try:
        return await asyncio.wrap_future(submit())
    except Busy as error:
        raise HTTPException(503, error.what, headers={"Retry-After": str(RETRY_SECONDS)}) from error
    except ImageError as error:
        raise HTTPException(unreadable_status, error.what) from error
    except (CheckpointError, DataError, UsageError) as error:
        raise HTTPException(409, error.what) from error


async def _uploaded_image(request: Request, worker: ModelWorker, *, max_bytes: int) -> bytes:
    """Return the body, or refuse it before the first byte where the worker is full or the body too long."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not content_type.startswith("image/") and content_type != "application/octet-stream":
        raise HTTPException(415, "send the content of an image file, as image/* or application/octet-stream")
    if worker.is_full:
        raise HTTPException(503, "the model is busy with other images", headers={"Retry-After": str(RETRY_SECONDS)})
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect as error:  # the client is gone; this keeps the server's log free of a traceback
        raise HTTPException(400, "the image did not arrive whole") from error
    return bytes(content)


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the file is larger than {max_bytes // 2**20} MiB")
