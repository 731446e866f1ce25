"""Renders the pages. Each page has a typed context; docs/reference/inspector.md lists its keys, and a test compares the two.

Overview, rankings and images work without scripts, by links and forms. A script then does the same without loading the page.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from polytag.inspector.browse.answers import ClassAnswer, PageParameters, RunAnswer
from polytag.inspector.browse.both_runs import both_runs
from polytag.inspector.browse.contexts import (
    ImagePage,
    LabelPage,
    ManyPage,
    OverviewPage,
    PredictPage,
    ProblemPage,
    RankingPage,
    ReviewPage,
    RunsPage,
)
from polytag.inspector.browse.epoch_curves import training_charts
from polytag.inspector.browse.finding import finding
from polytag.inspector.browse.goals import GOAL_PATTERN
from polytag.inspector.browse.run_curves import curves_of_group, curves_of_runs
from polytag.inspector.browse.service import InspectorService, NotThere
from polytag.inspector.explain.contexts import ClassPage, DuplicatesPage, TogetherPage
from polytag.inspector.explain.worst import worst_examples
from polytag.inspector.live.contexts import LivePage
from polytag.inspector.map.context import MapPage
from polytag.inspector.model.routes import MAX_UPLOAD_BYTES
from polytag.inspector.model.text_search import NotYet
from polytag.inspector.review.contexts import DecisionsPage
from polytag.inspector.words import COLOUR_TEXT, PAGE_WORDS, PLACE_TEXT, SORT_TEXT
from polytag.report.charts import PAGE, tail_charts, to_svg
from polytag.report.names import name_html
from polytag.runs.leaderboard import FINISHED, leaderboard
from polytag.text import duration_text, storable

PAGE_SIZE = 60
MAX_DRAWN = 5
"""Compared runs that have a column in the table of classes, and a curve in a chart; of more, the chosen one alone has."""

_EVALUATION_TIMEOUT_SECONDS = 0.4  # small runs are evaluated within it, so their first page is complete

PageParametersOfQuery = Annotated[PageParameters, QueryParameter()]
CLASS_SORTS = (
    *("name", "ap", "ap_chance", "num_present", "num_unknown", "threshold", "precision", "recall"),
    *("ap_compared", "gain", "num_gained", "num_lost"),
)


TEMPLATES: Mapping[type, str] = {
    OverviewPage: "overview.html.j2",
    RankingPage: "ranking.html.j2",
    ImagePage: "image.html.j2",
    PredictPage: "predict.html.j2",
    ReviewPage: "review.html.j2",
    ManyPage: "many.html.j2",
    RunsPage: "runs.html.j2",
    LabelPage: "label.html.j2",
    ClassPage: "class.html.j2",
    TogetherPage: "together.html.j2",
    DuplicatesPage: "duplicates.html.j2",
    DecisionsPage: "decisions.html.j2",
    LivePage: "live.html.j2",
    MapPage: "map.html.j2",
    ProblemPage: "problem.html.j2",
}


@cache
def environment() -> Environment:
    """Return the templates with the filters of all pages. An undefined key raises an error."""
    made = Environment(
        loader=PackageLoader("polytag.inspector"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {"number": number_text, "signed": signed_text, "whole": whole_text, "duration": duration_text}
    filters |= {"storable": storable, "quoted": shlex.quote, "name": name_html}
    filters |= {"address": address, "kept": kept_query, "with_run": with_run}
    made.filters.update(filters)
    texts: dict[str, Any] = {"words": PAGE_WORDS, "sort_text": SORT_TEXT, "colour_text": COLOUR_TEXT, "place_text": PLACE_TEXT}
    texts |= {"goal_pattern": GOAL_PATTERN, "has_words": has_words, "max_drawn": MAX_DRAWN}
    made.globals.update(texts)
    return made


def rendered(page: Any, *, status: int = 200) -> HTMLResponse:
    """Render a page from its context."""
    context = {field.name: getattr(page, field.name) for field in fields(page)}
    return HTMLResponse(environment().get_template(TEMPLATES[type(page)]).render(context), status_code=status)


def page_routes(service: InspectorService, *, warm_up: Callable[[], None]) -> APIRouter:
    """Return the routes of the pages. `warm_up` loads the model ahead of the requests of a page that uses it."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    def overview(sort: str = "ap", order: str = "desc", filter: str = "", against: str = "") -> Response:
        place = service.place(against)
        return rendered(overview_page(service, sort=sort, is_ascending=order == "asc", filter=filter, against=place))

    @routes.get("/ranking")
    def ranking(parameters: PageParametersOfQuery, request: Request) -> Response:
        return rendered(ranking_page(service, parameters, query=request.url.query))

    @routes.get("/image")
    def image(parameters: PageParametersOfQuery, request: Request, id: str = "", label: str = "") -> Response:
        return rendered(image_page(service, parameters, image_id=id, label=label, query=request.url.query))

    @routes.get("/predict")
    def predict(against: str = "") -> Response:
        warm_up()
        return rendered(PredictPage(run=service.run(service.place(against)), max_upload_bytes=MAX_UPLOAD_BYTES))

    @routes.get("/label")
    def label(against: str = "") -> Response:
        return rendered(LabelPage(run=service.run(service.place(against))))

    @routes.get("/review")
    def review(request: Request, kind: str = "issues", order: str = "suspicion", view: str = "", against: str = "") -> Response:
        page = ManyPage if view == "grid" else ReviewPage
        class_name = request.query_params.get("class", "")
        return rendered(page(run=service.run(service.place(against)), class_name=class_name, kind=kind, order=order))

    @routes.get("/runs")
    def runs(against: str = "") -> Response:
        return rendered(runs_page(service, against=service.place(against)))

    return routes


def runs_page(service: InspectorService, *, against: int = 0) -> RunsPage:
    """Return the runs in the folder of this one and one level below it; raises NotThere for a predictions file."""
    own_path = service.inspection.run_path
    if own_path is None:
        raise NotThere("a predictions file has no runs beside it")
    board = leaderboard(own_path.parent, max_depth=2)
    own_group = next((group for group in board.groups if any(run.path == own_path for run in group)), ())
    others = [run.path for run in own_group if run.path != own_path and run.status == FINISHED]
    return RunsPage(
        run=service.run(against),
        board=board,
        curves=[curves_of_group(group, own_path=own_path) for group in board.groups],
        own_path=own_path,
        others=others[:MAX_DRAWN],
    )


def overview_page(service: InspectorService, *, sort: str, is_ascending: bool, filter: str = "", against: int = 0) -> OverviewPage:
    """Return the overview with its classes in one of the orders of CLASS_SORTS. Undefined numbers come last.

    `against` is the place of the run that it is compared with. Of the others it shows what is computed by then.
    """
    metrics = service.evaluation.metrics(timeout_seconds=_EVALUATION_TIMEOUT_SECONDS)
    sort = sort if sort in CLASS_SORTS else "ap"
    history, others = service.inspection.history, [each for each in service.inspection.compared if each.history]
    places = range(len(service.inspection.compared))
    tail = tail_charts(metrics, palette=PAGE) if metrics else None
    tail_texts = ("Mean tail accuracy over the threshold", "Number of classes with an image above the threshold")
    return OverviewPage(
        run=service.run(against),
        against=[service.run(place) if place == against or service.evaluation.compared_so_far(place) else None for place in places],
        worth=service.worth(),
        facts=service.inspection.facts,
        worst=worst_examples(service),
        classes=sorted_classes(service.classes(against).classes, sort=sort, is_ascending=is_ascending),
        sort=sort,
        order="asc" if is_ascending else "desc",
        filter=filter,
        history_charts=training_charts(history) if len(history) > 1 else [],
        curves=curves_of_runs([(service.inspection.name, True, history), *((each.name, False, each.history) for each in others)])
        if history and others
        else None,
        tail_charts=[inline_svg(chart, text) for chart, text in zip(tail or (), tail_texts, strict=bool(tail))],
        goal=service.inspection.goal,
    )


def sorted_classes(classes: Sequence[ClassAnswer], *, sort: str, is_ascending: bool) -> list[ClassAnswer]:
    """Sort by a column of the table. Equal classes keep their order, undefined values come last.

    Classes with few positives come after the others in an order by average precision, where chance alone would put them first.
    """

    def value(each: ClassAnswer) -> float | str | None:
        return getattr(each, sort)

    defined = [each for each in classes if value(each) is not None]
    key: Any = (lambda each: str(value(each)).casefold()) if sort == "name" else value
    ordered = sorted(defined, key=key, reverse=not is_ascending)
    if sort in ("ap", "ap_compared", "gain"):
        ordered.sort(key=lambda each: each.is_few)
    return ordered + [each for each in classes if value(each) is None]


def ranking_page(service: InspectorService, parameters: PageParameters, *, query: str) -> RankingPage:
    """Return the ranking of a class from its offset on; raises NotThere for an unknown class."""
    names = service.inspection.predictions.label_set.names
    parameters = parameters.model_copy(update={"class_name": parameters.class_name or names[0]})
    column, query_of_page = service.column(parameters.class_name), service.query(parameters)
    run = service.run(query_of_page.against)
    sorts = ["score", "id"]
    if run.has_probabilities:
        sorts[1:1] = ["loss", "suspicion"]
    if run.compared:
        sorts.insert(-1, "disagreement")
    found = finding(service, parameters.find) if parameters.find else None
    is_there = found is None or found.status == "ready"
    ranked = parameters if is_there else parameters.model_copy(update={"find": ""})  # for the number of images alone
    return RankingPage(
        run=run,
        parameters=parameters,
        chosen=service.classes(query_of_page.against).classes[column],
        threshold=float(service.inspection.threshold_C[column]) if parameters.threshold is None else parameters.threshold,
        part=service.slice_of(parameters),
        both=both_runs(service.inspection, service.rankings, query_of_page) if run.compared else None,
        ranking=service.ranking(ranked, offset=parameters.offset, limit=PAGE_SIZE if is_there else 0),
        finding=found,
        sorts=sorts,
        num_filters=len({re.sub("^(min|max)_", "", name) for name in parameters.filters}),
        tags=list(service.tags()),
        query=query,
        offset=parameters.offset,
        page_size=PAGE_SIZE,
    )


def image_page(service: InspectorService, parameters: PageParameters, *, image_id: str, label: str = "", query: str) -> ImagePage:
    """Return an image with its neighbours in the ranking that it was opened from; `label` is the class to look at, "" for its own.

    Raises NotThere for an unknown image or class.
    """
    row, against = service.row(image_id), service.place(parameters.against)
    image = service.image(row, against)
    parameters = parameters.model_copy(update={"class_name": parameters.class_name or image.classes[0].name})
    try:
        rows = service.rankings.rows(service.query(parameters))
    except NotYet:  # the page of an image waits for no search
        rows = np.zeros(0, np.int64)
    found = np.flatnonzero(rows == row)
    place = int(found[0]) if len(found) else -1
    ids = service.inspection.predictions.ids
    return ImagePage(
        run=service.run(against),
        image=image,
        ranked=parameters.class_name,
        chosen=service.inspection.predictions.label_set.names[service.column(label or parameters.class_name)],
        query=query,
        previous_id=ids[rows[place - 1]] if place > 0 else "",
        next_id=ids[rows[place + 1]] if 0 <= place < len(rows) - 1 else "",
        place=place,
        total=len(rows),
    )


def address(query: str, **changes: object) -> str:
    """Return the query of an address with some parameters replaced, or removed where the value is None."""
    unchanged = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in changes]
    changed = [(name, str(value)) for name, value in changes.items() if value is not None]
    return "?" + urlencode(unchanged + changed)


def kept_query(run: RunAnswer, other: str | None = None) -> str:
    """Return the query that links keep from page to page: `other`, by default the compared run, unless it is the first one."""
    other = other or run.compared
    return "" if other is None or other == run.compared_runs[0] else urlencode({"against": other})


def with_run(link: str, run: RunAnswer) -> str:
    """Return a link with what links keep."""
    kept = kept_query(run)
    path, hash, fragment = link.partition("#")
    return path + ("&" if "?" in path else "?") + kept + hash + fragment if kept else link


def has_words(name: str, text: str) -> bool:
    """Whether a name holds every word of a text, in upper or lower case."""
    return all(word in name.lower() for word in text.lower().split())


def number_text(value: float | None, digits: int = 3) -> str:
    """Return three decimals, or an en dash where the value is undefined."""
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def whole_text(value: int | None) -> str:
    """Return a count, or an en dash where it is undefined."""
    return "–" if value is None else f"{value:,}"


def signed_text(value: float | None, digits: int = 3) -> str:
    """Return a difference with its sign, or an en dash where it is undefined. A difference that rounds to 0 has none."""
    if value is None or np.isnan(value):
        return "–"
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def inline_svg(chart: Any, description: str) -> Markup:
    """Return a chart as inline SVG. The style sheet sets its size: the policy of the pages allows no style attribute."""
    return Markup(re.sub(r' style="[^"]*"', "", to_svg(chart, description=description), count=1))
