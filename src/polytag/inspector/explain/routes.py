"""Serves the pages that explain errors. They work without scripts: what takes longer is shown by a later visit."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from fastapi import Query as QueryParameter
from fastapi.responses import RedirectResponse

from polytag.inspector.browse.annotated_boxes import AnnotatedBoxes
from polytag.inspector.browse.answers import Row
from polytag.inspector.browse.pages import rendered, with_run
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.explain.class_page import class_page
from polytag.inspector.explain.duplicate_search import DuplicateSearch
from polytag.inspector.explain.duplicates_page import duplicates_page
from polytag.inspector.explain.jobs import Jobs
from polytag.inspector.explain.together_page import together_page
from polytag.inspector.review.queue import IssueFinder
from polytag.inspector.review.store import ReviewStore

ClassName = Annotated[str, QueryParameter(alias="class", max_length=1000)]


def explain_routes(
    service: InspectorService,
    *,
    jobs: Jobs,
    slow_jobs: Jobs,
    search: DuplicateSearch,
    boxes: AnnotatedBoxes,
    issue_finder: IssueFinder,
    store: ReviewStore,
) -> APIRouter:
    """Return the routes. The caller closes the jobs and stops the search."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/class")
    def of_class(class_name: ClassName = "", against: str = "") -> Response:
        return rendered(
            class_page(
                service,
                class_name or service.inspection.predictions.label_set.names[0],
                against=service.place(against),
                jobs=jobs,
                slow_jobs=slow_jobs,
                boxes_of=boxes.boxes,
                issue_finder=issue_finder,
                store=store,
                leaked_rows=search.leaked_rows(),
            )
        )

    @routes.get("/together")
    def together(class_name: ClassName = "", against: str = "") -> Response:
        return rendered(together_page(service, class_name, against=service.place(against), jobs=jobs))

    @routes.get("/duplicates")
    def duplicates(show: Literal["", "splits", "labels"] = "", offset: Row = 0, against: str = "") -> Response:
        return rendered(duplicates_page(service, search, against=service.place(against), jobs=jobs, show=show, offset=offset))

    @routes.post("/duplicates")
    def search_or_stop(action: Literal["search", "stop"], against: str = "") -> Response:
        run = service.run(service.place(against))
        if action == "search":
            search.start(is_asked_for=True)
        else:
            search.stop()
        return RedirectResponse(with_run("/duplicates", run), status_code=303)

    return routes
