"""Says how far a search by text is, stops it, and lets it go on."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from polytag.errors import UsageError
from polytag.inspector.browse.answers import SearchText
from polytag.inspector.browse.ranking import NO_TEXT_MODEL, Query
from polytag.inspector.browse.routes import REFUSED
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.model.text_search import NotYet, TextSearchState
from polytag.text import counted


class FindingAnswer(BaseModel):
    """How far a search by text is. The first one computes the vectors of the images, which are then cached."""

    status: Literal["ready", "computing", "waiting"] = Field(
        description='"ready": /api/ranking has the images in the order of the text. "waiting": it was stopped, or has a problem.'
    )
    num_done: int = Field(description="Number of images that are read so far.")
    num_images: int
    num_unread: int = Field(description="Number of images that cannot be read and come last, once the others are read.")
    text: str = Field(description="What the page says of it; empty where there is nothing to say.")


def finding_routes(service: InspectorService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/api/find", responses=REFUSED)
    def find(find: SearchText) -> FindingAnswer:
        """How far a search by a text is; the first one begins to read the images. 409 without a text model."""
        return finding(service, find)

    @routes.post("/ranking", include_in_schema=False)
    def stop_or_begin(request: Request, action: Literal["stop", "begin"]) -> Response:
        if service.text_search is not None:
            (service.text_search.stop if action == "stop" else service.text_search.begin)()
        return RedirectResponse(f"/ranking?{request.url.remove_query_params('action').query}", status_code=303)

    return routes


def finding(service: InspectorService, text: str) -> FindingAnswer:
    """Return how far the search is. Raises UsageError without a text model, or for a text that it gives no finite numbers for."""
    if service.text_search is None:
        raise UsageError(NO_TEXT_MODEL)
    is_there = True
    try:
        service.rankings.values(Query(column=0, find=text))
    except NotYet:
        is_there = False
    state = service.text_search.state(patience_seconds=0)
    status = "ready" if is_there else "waiting" if state.status == "waiting" else "computing"
    return FindingAnswer(
        status=status,
        num_done=state.num_done,
        num_images=state.num_images,
        num_unread=state.num_unread,
        text=_sentence(status, state),
    )


def _sentence(status: str, state: TextSearchState) -> str:
    if status == "ready":
        return f"At the end, as without a readable file: {counted(state.num_unread, 'images')}." if state.num_unread else ""
    if status == "waiting":
        return f"The images cannot be searched: {state.problem}." if state.problem else "The text model has not read the images."
    return (
        "The text waits for its turn."
        if state.status == "ready"
        else f"The text model reads every image once: {state.num_done:,} of {state.num_images:,}."
    )
