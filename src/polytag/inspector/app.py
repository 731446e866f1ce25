"""The inspector as one ASGI application: pages, their API, their images and their few files."""

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files as package_files

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from polytag.data.cache.store import store_folder
from polytag.errors import UsageError
from polytag.files import cache_folder
from polytag.inspector.browse.charts import bundle
from polytag.inspector.browse.pages import ProblemPage, page_routes, rendered
from polytag.inspector.browse.routes import service_routes
from polytag.inspector.browse.service import InspectorService, NotThere
from polytag.inspector.browse.thumbnails import Thumbnails
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.routes import model_routes
from polytag.inspector.model.worker import ModelWorker
from polytag.inspector.review.routes import review_routes
from polytag.inspector.review.store import ReviewStore

_FOR_PROGRAMS = ("/api/", "/thumbnails/", "/images/", "/data/", "/static/")
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def create_app(inspection: Inspection) -> FastAPI:
    """The application; whoever serves it puts the guard around it (`guard.py`)."""
    store = ReviewStore.open(inspection.review_file)
    service = InspectorService(inspection, store)
    thumbnails = Thumbnails(cache_folder() / "thumbnails")
    worker = None if inspection.checkpoint is None else ModelWorker(inspection, store_folder())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        if worker is not None:
            worker.close()
        service.evaluation.close()
        store.close()

    app = FastAPI(
        title="polytag inspector",
        summary="Ranked images, errors and label review of one run.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # those pages fetch their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(page_routes(service, warm_up=worker.warm_up if worker is not None else lambda: None))
    app.include_router(service_routes(service, thumbnails))
    app.include_router(review_routes(inspection, store))
    app.include_router(model_routes(inspection, worker))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        return _static(name, tag=request.headers.get("if-none-match", ""))

    def refused(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
        if request.url.path.startswith(_FOR_PROGRAMS):
            return JSONResponse({"detail": detail}, status_code=status, headers=headers)
        return rendered(ProblemPage(run=service.run(), status=status, detail=detail), status=status)

    @app.exception_handler(NotThere)
    def not_there(request: Request, error: NotThere) -> Response:
        return refused(request, 404, f"{error.what}: {error.got}" if error.got else error.what)

    @app.exception_handler(UsageError)
    def cannot_be_asked(request: Request, error: UsageError) -> Response:
        return refused(request, 409, error.what)

    @app.exception_handler(HTTPException)
    def problem(request: Request, error: HTTPException) -> Response:
        return refused(request, error.status_code, str(error.detail), error.headers)  # Allow, where a method is not

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        told = [{"loc": list(each["loc"]), "msg": each["msg"], "type": each["type"]} for each in error.errors()]
        if request.url.path.startswith(_FOR_PROGRAMS):
            return JSONResponse({"detail": told}, status_code=422)
        detail = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in told)
        return refused(request, 422, detail)

    return app


@cache
def static_files() -> dict[str, bytes]:
    """The style sheet and the modules, by name; they are few and small."""
    folder = package_files("polytag.inspector") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if "." + each.name.rpartition(".")[2] in _TYPES}


def _static(name: str, *, tag: str) -> Response:
    if name == "charts.js":
        content = bundle()
    elif name in static_files():
        content = static_files()[name]
    else:
        raise HTTPException(404, "no such file")
    own_tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": own_tag, "Cache-Control": "no-cache"}
    if tag == own_tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES["." + name.rpartition(".")[2]], headers=headers)
