"""Defines the JSON API of selections under /api/selection: labels, tags and notes of many images at once, and exports."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from polytag.inspector.browse.answers import Row
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.browse.thumbnails import Thumbnails
from polytag.inspector.review.batches import LabelDecision
from polytag.inspector.review.replies import (
    WRITES,
    BatchAnswer,
    GivenLabel,
    Id,
    Note,
    Number,
    Reviewer,
    Tag,
    batch_answer,
    or_503,
    written,
)
from polytag.inspector.selection.export import dataset_table, ids_text, score_table, selection_file
from polytag.inspector.selection.numbers import SelectionNumbers, selection_numbers
from polytag.inspector.selection.selected import MAX_ROWS, Selection, selected_rows


class LabelsRequest(BaseModel):
    """One label for a class of all selected images."""

    selection: Selection
    class_name: Id
    label: GivenLabel = Field(description="1 present, 0 absent, -1 unknown")
    reviewer: Reviewer
    note: Note = ""
    based_on: Number = Field(description="Number of the last row of the review that the client has seen of all these labels.")
    later: dict[Row, Number] = Field(
        {}, max_length=MAX_ROWS, description="Numbers of later rows that the client has seen, by the row of the image."
    )
    leave_out_conflicts: bool = Field(False, description="Whether labels with another decision are left out, and the others saved.")


class TagRequest(BaseModel):
    """A tag for all selected images."""

    selection: Selection
    tag: Tag = Field(description='One word; a leading "#" is dropped.')
    is_on: bool = Field(True, description="Whether they have it from now on.")
    reviewer: Reviewer


class NoteRequest(BaseModel):
    """The note of all selected images."""

    selection: Selection
    note: Note = Field(description="Empty to remove it.")
    reviewer: Reviewer


class ExportRequest(BaseModel):
    """A selection to export, or to measure."""

    selection: Selection


class TagsAnswer(BaseModel):
    """The number of images of every tag."""

    tags: dict[str, int]


_REFUSALS: dict[int | str, dict[str, Any]] = {status: WRITES[status] for status in (400, 404, 409, 503)}


def text_reply(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Return what the document says of an answer that is a file."""
    return {
        200: {"content": {media_type: {"schema": {"type": "string"}}}},
        **_REFUSALS,
    }


def selection_routes(service: InspectorService, thumbnails: Thumbnails) -> APIRouter:
    """Return the routes over one inspection.

    404: an unknown image or class. 409: other decisions came first, or the selection holds another number of images by now. 503:
    the review file cannot be read or written.
    """
    routes = APIRouter(prefix="/api/selection")
    _add_write_routes(routes, service)
    _add_export_routes(routes, service, thumbnails)
    return routes


def _add_write_routes(routes: APIRouter, service: InspectorService) -> None:
    inspection, store = service.inspection, service.store

    @routes.post("/labels", response_model=BatchAnswer, responses=WRITES)
    def labels(request: LabelsRequest) -> BatchAnswer | JSONResponse:
        """Decide about one class of all selected images as one batch, all or none. Once this answers, no crash loses it."""
        rows, column = selected_rows(service, request.selection), service.column(request.class_name)
        ids, given_N = inspection.predictions.ids, inspection.predictions.target_NC[:, column]
        decisions = [
            LabelDecision(
                image_id=ids[row],
                class_name=request.class_name,
                label=request.label,
                given=int(given_N[row]),
                based_on=max(request.based_on, request.later.get(row, 0)),
            )
            for row in rows.tolist()
        ]
        return written(
            lambda: store.batches.decide(
                decisions, split=inspection.split, reviewer=request.reviewer, note=request.note,
                leave_out_conflicts=request.leave_out_conflicts,
            ),
            to_answer=batch_answer,
        )  # fmt: skip

    @routes.post("/tag", response_model=BatchAnswer, responses=WRITES)
    def tag(request: TagRequest) -> BatchAnswer | JSONResponse:
        """Give all selected images a tag, or take it away, as one batch."""
        ids = _ids(service, selected_rows(service, request.selection))
        return written(
            lambda: store.batches.mark(
                ids, kind="tag", text=request.tag, is_on=request.is_on, split=inspection.split, reviewer=request.reviewer
            ),
            to_answer=batch_answer,
        )

    @routes.post("/note", response_model=BatchAnswer, responses=WRITES)
    def note(request: NoteRequest) -> BatchAnswer | JSONResponse:
        """Give all selected images a note in place of theirs, as one batch."""
        ids = _ids(service, selected_rows(service, request.selection))
        return written(
            lambda: store.batches.mark(ids, kind="note", text=request.note, split=inspection.split, reviewer=request.reviewer),
            to_answer=batch_answer,
        )

    @routes.get("/tags", responses={503: WRITES[503]})
    def tags() -> TagsAnswer:
        """The number of images of every tag."""
        return TagsAnswer(tags=dict(or_503(lambda: store.batches.tags(inspection.split))))


def _add_export_routes(routes: APIRouter, service: InspectorService, thumbnails: Thumbnails) -> None:
    def attached(content: str, name: str, media_type: str) -> Response:
        return Response(content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    @routes.post("/numbers", responses=_REFUSALS)
    def numbers(request: ExportRequest) -> SelectionNumbers:
        """Average precision of the class on the selected images, with its 95% interval, and their most frequent labels."""
        return selection_numbers(service, request.selection)

    @routes.post("/ids", responses=text_reply("text/plain"), response_class=Response)
    def ids(request: ExportRequest) -> Response:
        """The ids, one a line."""
        return Response(ids_text(service, request.selection), media_type="text/plain; charset=utf-8")

    @routes.post("/scores", responses=text_reply("text/csv"), response_class=Response)
    def scores(request: ExportRequest) -> Response:
        """A CSV table of ids, tags, notes, scores and labels, decisions of the review in place."""
        lines = or_503(lambda: score_table(service, request.selection))
        headers = {"Content-Disposition": 'attachment; filename="selection.csv"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)

    @routes.post("/dataset", responses=text_reply("text/csv"), response_class=Response)
    def dataset(request: ExportRequest) -> Response:
        """A CSV data set, as `labels export` writes it, decisions of the review in place."""
        return attached(
            or_503(lambda: dataset_table(service, request.selection)), "selection-labels.csv", "text/csv; charset=utf-8"
        )

    @routes.post("/page", responses=text_reply("text/html"), response_class=Response)
    def page(request: ExportRequest) -> Response:
        """One HTML file without scripts: the first 500 images with their numbers."""
        content = or_503(lambda: selection_file(service, request.selection, thumbnails))
        return attached(content, "selection.html", "text/html; charset=utf-8")


def _ids(service: InspectorService, rows: np.ndarray) -> list[str]:
    return [service.inspection.predictions.ids[row] for row in rows.tolist()]
