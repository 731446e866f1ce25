"""Builds the inspector as one ASGI application: pages, their API, images and static files."""

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.resources import files as package_files
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from polytag.data.cache.store import store_folder
from polytag.errors import UsageError
from polytag.files import cache_folder
from polytag.inspector.browse.annotated_boxes import AnnotatedBoxes
from polytag.inspector.browse.answers import RunAnswer
from polytag.inspector.browse.contexts import ProblemPage
from polytag.inspector.browse.finding import finding_routes
from polytag.inspector.browse.pages import page_routes, rendered
from polytag.inspector.browse.routes import service_routes
from polytag.inspector.browse.service import InspectorService, NotThere
from polytag.inspector.browse.thumbnails import Thumbnails
from polytag.inspector.explain.duplicate_search import DuplicateSearch
from polytag.inspector.explain.jobs import Jobs
from polytag.inspector.explain.routes import explain_routes
from polytag.inspector.inspection import Inspection
from polytag.inspector.keep_threshold import keep_routes
from polytag.inspector.map.places import MapOfImages
from polytag.inspector.map.routes import map_routes
from polytag.inspector.model.routes import RETRY_SECONDS, model_routes
from polytag.inspector.model.text_search import NotYet, TextSearch
from polytag.inspector.model.worker import ModelWorker
from polytag.inspector.review.agreement_routes import agreement_routes
from polytag.inspector.review.queue import IssueFinder
from polytag.inspector.review.routes import review_routes
from polytag.inspector.review.store import ReviewStore
from polytag.inspector.review.training import DecisionTraining
from polytag.inspector.review.worth_routes import worth_routes
from polytag.inspector.selection.routes import selection_routes
from polytag.inspector.validation import sentence

_JSON_PREFIXES = ("/api/", "/thumbnails/", "/images/", "/data/", "/static/")
_MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def is_page(method: str, path: str) -> bool:
    """Whether a request asks for a page, and not for a part of one."""
    return method == "GET" and not path.startswith(_JSON_PREFIXES)


def create_app(inspection: Inspection) -> FastAPI:
    """Return the application over one inspection. The caller puts the guard around it (`web/guard.py`)."""
    store = ReviewStore.open(inspection.review_file)
    worker = None if inspection.checkpoint is None else ModelWorker(inspection, store_folder())
    text_search = None
    if inspection.text_model is not None:
        text_search = TextSearch(inspection, store_folder(), queue=worker.queue if worker is not None else None)
    jobs, slow_jobs, map_jobs = Jobs(), Jobs(), Jobs()
    images = MapOfImages(inspection, worker, map_jobs)
    service = InspectorService(inspection, store, text_search=text_search, inside=images.inside)
    search = DuplicateSearch(inspection, jobs.queue)
    training = DecisionTraining(inspection, store, slow_jobs.queue)

    def close() -> None:
        if worker is not None:
            worker.close()
        if text_search is not None:
            text_search.close()
        images.close()
        search.stop()
        training.close()
        jobs.close()
        slow_jobs.close()
        map_jobs.close()
        service.evaluation.close()
        thumbnails.flush()
        store.close()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await run_in_threadpool(close)  # it waits for what runs, and the server answers for a newer application meanwhile

    app = FastAPI(
        title="polytag inspector",
        summary="Ranked images, errors and label review of one run.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # those pages load scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(page_routes(service, warm_up=worker.warm_up if worker is not None else lambda: None))
    thumbnails = Thumbnails(cache_folder() / "thumbnails")
    app.include_router(service_routes(service, thumbnails))
    app.include_router(finding_routes(service))
    app.include_router(selection_routes(service, thumbnails))
    app.include_router(keep_routes(service))
    app.include_router(map_routes(service, images))
    issue_finder, annotated = IssueFinder(inspection), AnnotatedBoxes(inspection)
    app.include_router(review_routes(inspection, store, issue_finder=issue_finder, corrected=service.corrected))
    app.include_router(agreement_routes(inspection, store))
    app.include_router(worth_routes(service, training))
    app.include_router(model_routes(inspection, worker, annotated=annotated))
    app.include_router(
        explain_routes(
            service, jobs=jobs, slow_jobs=slow_jobs, search=search, boxes=annotated, issue_finder=issue_finder, store=store
        )
    )

    app.state.service = service

    @app.get("/static/{name:path}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        return static_answer(name, tag=request.headers.get("if-none-match", ""))

    _add_error_handlers(app, service)
    return app


def _add_error_handlers(app: FastAPI, service: InspectorService) -> None:
    """Answer errors as JSON where a program asks, and as a page where a person does."""

    def run_of(request: Request) -> RunAnswer:
        with suppress(NotThere):
            return service.run(service.place(request.query_params.get("against", "")))
        return service.run()

    def problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
        if request.url.path.startswith(_JSON_PREFIXES):
            return JSONResponse({"detail": detail}, status_code=status, headers=headers)
        page = rendered(ProblemPage(run=run_of(request), status=status, detail=detail), status=status)
        page.headers.update(headers or {})
        if "Retry-After" in page.headers:
            page.headers["Refresh"] = page.headers["Retry-After"]  # the browser asks again, without a script
        return page

    @app.exception_handler(NotThere)
    def not_there(request: Request, error: NotThere) -> Response:
        return problem(request, 404, f"{error.what}: {error.got}" if error.got else error.what)

    @app.exception_handler(UsageError)
    def usage_error(request: Request, error: UsageError) -> Response:
        return problem(request, 409, error.what)

    @app.exception_handler(NotYet)
    def not_yet(request: Request, error: NotYet) -> Response:
        return problem(request, 503, error.what, {"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(HTTPException)
    def http_exception(request: Request, error: HTTPException) -> Response:
        return problem(request, error.status_code, str(error.detail), error.headers)  # 405 carries Allow

    @app.exception_handler(RequestValidationError)
    def validation_error(request: Request, error: RequestValidationError) -> Response:
        details = [{"loc": list(each["loc"]), "msg": sentence(each), "type": each["type"]} for each in error.errors()]
        if request.url.path.startswith(_JSON_PREFIXES):
            return JSONResponse({"detail": details}, status_code=422)
        return problem(request, 422, " ".join(map(sentence, error.errors())))


@cache
def static_files() -> Mapping[str, bytes]:
    """Return the content of every static file by its path under /static/.

    Only these paths are served. A request never becomes a path of the file system.
    """
    found = dict(_files_in(package_files("polytag.inspector") / "static", prefix=""))
    palette = package_files("polytag.report") / "templates" / "palette.css"
    take_files = package_files("polytag.web") / "cards" / "take-files.js"
    return found | {"shared/palette.css": palette.read_bytes(), "shared/take-files.js": take_files.read_bytes()}


def _files_in(folder: Traversable, *, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _files_in(each, prefix=f"{prefix}{each.name}/")
        elif _suffix(each.name) in _MEDIA_TYPES:
            found.append((prefix + each.name, each.read_bytes()))
    return found


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2]


def static_answer(name: str, *, tag: str) -> Response:
    """Return a static file, or that the copy with this tag is current; raises HTTPException for another path."""
    if name not in static_files():
        raise HTTPException(404, "no such file")
    content = static_files()[name]
    own_tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": own_tag, "Cache-Control": "no-cache"}
    if tag == own_tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_MEDIA_TYPES[_suffix(name)], headers=headers)
