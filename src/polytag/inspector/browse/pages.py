"""The pages: for each a typed context, and how it is made. docs/reference/inspector.md lists every key, which a test compares.

Pages work as pages: links and forms do everything that needs no moving, and a script then does it without loading anew.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from polytag.inspector.browse.answers import ClassAnswer, ImageAnswer, PageParameters, RankingAnswer, RunAnswer
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.model.routes import MAX_UPLOAD_BYTES
from polytag.report.charts import PAGE, history_chart, tail_charts, to_svg

PAGE_SIZE = 60
_PATIENCE_SECONDS = 0.4  # small runs are judged in that time, and their first page is whole

OUTCOME_TEXT: Mapping[str, str] = {
    "true_positive": "right",
    "true_negative": "right",
    "false_positive": "false positive",
    "false_negative": "false_negative",
    "unknown": "unknown",
    "undecided": "",
}
TRUTH_TEXT: Mapping[int, str] = {1: "labelled with it", 0: "labelled without it", -1: "label unknown"}
SORT_TEXT: Mapping[str, str] = {
    "score": "score",
    "loss": "loss",
    "suspicion": "suspicion of the label",
    "disagreement": "disagreement of the runs",
    "id": "name",
}
AskedOfPage = Annotated[PageParameters, QueryParameter()]
CLASS_SORTS = ("name", "ap", "num_present", "num_unknown", "threshold", "precision", "recall", "ap_compared", "gain")


@dataclass(frozen=True, kw_only=True)
class OverviewPage:
    """The run at a glance."""

    run: RunAnswer
    facts: Mapping[str, str]
    classes: Sequence[ClassAnswer]
    sort: str
    order: str
    history_charts: Sequence[Markup]
    tail_charts: Sequence[Markup]
    goal: str


@dataclass(frozen=True, kw_only=True)
class RankingPage:
    """The ranked images of a class."""

    run: RunAnswer
    asked: PageParameters
    chosen: ClassAnswer
    threshold: float
    ranking: RankingAnswer
    sorts: Sequence[str]
    num_filters: int
    query: str
    offset: int
    page_size: int


@dataclass(frozen=True, kw_only=True)
class ImagePage:
    """One image and all classes."""

    run: RunAnswer
    image: ImageAnswer
    chosen: str
    query: str
    previous_id: str
    next_id: str
    place: int
    total: int


@dataclass(frozen=True, kw_only=True)
class PredictPage:
    """The model on images of one's own."""

    run: RunAnswer
    max_upload_bytes: int


@dataclass(frozen=True, kw_only=True)
class ReviewPage:
    """Labels to decide, the most suspicious first."""

    run: RunAnswer
    class_name: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class ProblemPage:
    """What cannot be shown, and why."""

    run: RunAnswer
    status: int
    detail: str


TEMPLATES: Mapping[type, str] = {
    OverviewPage: "overview.html.j2",
    RankingPage: "ranking.html.j2",
    ImagePage: "image.html.j2",
    PredictPage: "predict.html.j2",
    ReviewPage: "review.html.j2",
    ProblemPage: "problem.html.j2",
}


@cache
def environment() -> Environment:
    """Templates with the filters of all pages; a key that a template misspells is an error."""
    made = Environment(
        loader=PackageLoader("polytag.inspector"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["number"] = number_text
    made.filters["address"] = address
    texts: dict[str, Any] = {"outcome_text": OUTCOME_TEXT, "truth_text": TRUTH_TEXT, "sort_text": SORT_TEXT}
    made.globals.update(texts)
    return made


def rendered(page: Any, *, status: int = 200) -> HTMLResponse:
    """A page of its context."""
    context = {field.name: getattr(page, field.name) for field in fields(page)}
    return HTMLResponse(environment().get_template(TEMPLATES[type(page)]).render(context), status_code=status)


def page_routes(service: InspectorService, *, warm_up: Callable[[], None]) -> APIRouter:
    """The pages, as routes that the documented API leaves out. `warm_up` is called by those that will ask the model."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    def overview(sort: str = "ap", order: str = "desc") -> Response:
        return rendered(overview_page(service, sort=sort, is_ascending=order == "asc"))

    @routes.get("/ranking")
    def ranking(asked: AskedOfPage, request: Request) -> Response:
        return rendered(ranking_page(service, asked, query=request.url.query))

    @routes.get("/image")
    def image(asked: AskedOfPage, request: Request, id: str = "") -> Response:
        return rendered(image_page(service, asked, image_id=id, query=request.url.query))

    @routes.get("/predict")
    def predict() -> Response:
        warm_up()
        return rendered(PredictPage(run=service.run(), max_upload_bytes=MAX_UPLOAD_BYTES))

    @routes.get("/review")
    def review(request: Request, kind: str = "issues") -> Response:
        return rendered(ReviewPage(run=service.run(), class_name=request.query_params.get("class", ""), kind=kind))

    return routes


def overview_page(service: InspectorService, *, sort: str, is_ascending: bool) -> OverviewPage:
    """The overview, its classes by one of CLASS_SORTS; undefined numbers last."""
    metrics = service.evaluation.metrics(patience_seconds=_PATIENCE_SECONDS)
    sort = sort if sort in CLASS_SORTS else "ap"
    history = service.inspection.history
    charts = [
        (history_chart(history, train_key="train_loss", val_key="val_loss", title="loss", palette=PAGE), "Loss over the epochs"),
        (
            history_chart(history, train_key="train_map", val_key="val_map", title="mean average precision", palette=PAGE),
            "Mean average precision over the epochs",
        ),
    ]
    tail = tail_charts(metrics, palette=PAGE) if metrics else None
    told = ("Mean tail accuracy over the threshold", "Number of classes with an image above the threshold")
    return OverviewPage(
        run=service.run(),
        facts=service.inspection.facts,
        classes=sorted_classes(service.classes().classes, sort=sort, is_ascending=is_ascending),
        sort=sort,
        order="asc" if is_ascending else "desc",
        history_charts=[inline_svg(chart, text) for chart, text in charts if chart is not None],
        tail_charts=[inline_svg(chart, text) for chart, text in zip(tail or (), told, strict=bool(tail))],
        goal=service.inspection.goal,
    )


def sorted_classes(classes: Sequence[ClassAnswer], *, sort: str, is_ascending: bool) -> list[ClassAnswer]:
    """By a column of the table; equal ones in their own order, undefined ones last."""

    def value(each: ClassAnswer) -> float | str | None:
        return getattr(each, sort)

    defined = [each for each in classes if value(each) is not None]
    key: Any = (lambda each: str(value(each)).casefold()) if sort == "name" else value
    ordered = sorted(defined, key=key, reverse=not is_ascending)
    return ordered + [each for each in classes if value(each) is None]


def ranking_page(service: InspectorService, asked: PageParameters, *, query: str) -> RankingPage:
    """A class's ranking from `offset` on; raises NotThere for an unknown class."""
    names = service.inspection.predictions.label_set.names
    asked = asked.model_copy(update={"class_name": asked.class_name or names[0]})
    column = service.column(asked.class_name)
    run = service.run()
    sorts = ["score", "id"]
    if run.has_probabilities:
        sorts[1:1] = ["loss", "suspicion"]
    if run.compared:
        sorts.insert(-1, "disagreement")
    filters = (
        asked.outcome,
        asked.min_labels,
        asked.max_labels,
        asked.present,
        asked.absent,
        asked.column,
        asked.text,
        asked.disagree,
    )
    return RankingPage(
        run=run,
        asked=asked,
        chosen=service.classes().classes[column],
        threshold=float(service.inspection.threshold_C[column]) if asked.threshold is None else asked.threshold,
        ranking=service.ranking(asked, offset=asked.offset, limit=PAGE_SIZE),
        sorts=sorts,
        num_filters=sum(1 for each in filters if each not in (None, [], "", 0, False)),
        query=query,
        offset=asked.offset,
        page_size=PAGE_SIZE,
    )


def image_page(service: InspectorService, asked: PageParameters, *, image_id: str, query: str) -> ImagePage:
    """An image, and its neighbours in the ranking that it was opened from."""
    row = service.row(image_id)
    image = service.image(row)
    asked = asked.model_copy(update={"class_name": asked.class_name or image.classes[0].name})
    rows = service.rankings.rows(service.query(asked))
    found = np.flatnonzero(rows == row)
    place = int(found[0]) if len(found) else -1
    ids = service.inspection.predictions.ids
    return ImagePage(
        run=service.run(),
        image=image,
        chosen=asked.class_name,
        query=query,
        previous_id=ids[rows[place - 1]] if place > 0 else "",
        next_id=ids[rows[place + 1]] if 0 <= place < len(rows) - 1 else "",
        place=place,
        total=len(rows),
    )


def address(query: str, **changes: object) -> str:
    """The query of an address with some parameters replaced, or removed by None; lists give several."""
    kept = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in changes]
    added = [(name, str(value)) for name, value in changes.items() if value is not None]
    return "?" + urlencode(kept + added)


def number_text(value: float | None, digits: int = 3) -> str:
    """Three decimals, or an en dash where undefined."""
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def inline_svg(chart: Any, description: str) -> Markup:
    """A chart inside the page; its size is the style sheet's, for the page's policy allows no style in an element."""
    return Markup(re.sub(r' style="[^"]*"', "", to_svg(chart, description=description), count=1))
