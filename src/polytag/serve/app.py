"""The server as one ASGI application, without a framework: a request costs little beside an image's score.

The guard (web/guard.py) stands before it: what arrives here has a whole body within the limits, and the token where one is set.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar, final

import numpy as np
from starlette.types import Message, Receive, Scope, Send

import polytag
from polytag.serve import inference_protocol as protocol
from polytag.serve.answer import Answer, Refused, json_answer
from polytag.serve.form import files_of
from polytag.serve.measured import CONTENT_TYPE, Measured
from polytag.serve.models import Models
from polytag.serve.openapi import openapi
from polytag.serve.pages import page, static_answer
from polytag.serve.predict_answer import predict_answer
from polytag.serve.scoring_queue import Full, Outcome, ScoringQueue, Ticket
from polytag.serve.served_model import ServedModel
from polytag.web.request_rules import Refusal, Request

logger = logging.getLogger(__name__)

RETRY = (b"retry-after", b"1")
_LARGE_BODY = 256 * 1024  # parsed in another thread, so that the loop goes on
_FULL = "Too many images are waiting; ask again in a moment."
_DRAINING = "The server is shutting down; ask another one."

Parsed = TypeVar("Parsed")


@final
class _Asked:
    """A request with its whole body."""

    def __init__(self, scope: Scope, body: bytes, receive: Receive):
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.body = body
        self.receive = receive
        self.arrived = time.perf_counter()
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    def header(self, name: bytes) -> bytes | None:
        """The value of a header; the last one of several."""
        return self._headers.get(name)

    @property
    def content_type(self) -> bytes:
        """Without its parameters, in lower case."""
        return self._headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


@final
class ServeApp:
    """Answers requests with the model that `models` holds, by way of the queue."""

    def __init__(self, models: Models, queue: ScoringQueue, measured: Measured, *, max_images: int):
        self._models, self._queue, self._measured = models, queue, measured
        self._max_images = max_images
        self._model_path = f"/v2/models/{models.name}"
        self.is_draining = False
        self.num_in_flight: Callable[[], int] = lambda: 0
        self._gets: dict[str, Callable[[], Answer]] = {
            "/": lambda: page(models.current),
            "/metrics": self._metrics,
            "/openapi.json": lambda: Answer(body=json.dumps(openapi(models.current, max_images=max_images)).encode()),
            "/v2": lambda: json_answer(protocol.server_metadata(polytag.__version__)),
            "/v2/health/live": lambda: json_answer({"live": True}),
            "/v2/health/ready": lambda: self._ready({"ready": not self.is_draining}),
            self._model_path: lambda: json_answer(protocol.model_metadata(models.current)),
            f"{self._model_path}/ready": lambda: self._ready({"name": models.name, "ready": not self.is_draining}),
        }

    @property
    def open_paths(self) -> frozenset[str]:
        """The addresses that need no token."""
        return frozenset(("/v2/health/live", "/v2/health/ready", f"{self._model_path}/ready"))

    def rule(self, request: Request) -> Refusal | None:
        """Refuse before the body is read, where no image could be accepted."""
        if request.method != "POST":
            return None
        if self.is_draining:
            return Refusal(status=503, detail=_DRAINING, headers=(RETRY,))
        return Refusal(status=503, detail=_FULL, headers=(RETRY,)) if self._queue.is_full else None

    def on_answer(self, path: str, status: int) -> None:
        """Count an answer, also those of the guard."""
        self._measured.request(self._route(path), status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        asked = _Asked(scope, await _body(receive), receive)
        model = self._models.current
        try:
            answer = await self._answer(asked, model)
        except Refused as refused:
            answer = refused.answer()
        if answer is not None:
            await _send(answer, send, model=model)

    async def _answer(self, asked: _Asked, model: ServedModel) -> Answer | None:
        """None where the client is gone."""
        path = asked.path.rstrip("/") or "/"
        if path == "/predict":
            _require_method(asked, "POST")
            return await self._predict(asked, model)
        if path.startswith("/v2/models/"):
            path = self._checked_model_path(path, model)
            if path == f"{self._model_path}/infer":
                _require_method(asked, "POST")
                return await self._infer(asked, model)
        get = self._gets.get(path)
        if get is not None:
            _require_method(asked, "GET", "HEAD")
            return get()
        answer = static_answer(path, tag=asked.header(b"if-none-match") or b"")
        _require_method(asked, "GET", "HEAD")
        return answer

    def _checked_model_path(self, path: str, model: ServedModel) -> str:
        """The path without its version; raises Refused for another model or version."""
        name, *rest = path.removeprefix("/v2/models/").split("/")
        if name != model.name:
            raise Refused(404, f"There is no model {name[:100]!r}; this server has {model.name!r}.")
        if rest[:1] == ["versions"] and len(rest) > 1:
            if rest[1] != model.id:
                raise Refused(404, f"There is no version {rest[1][:100]!r}; this server has {model.id!r}.")
            rest = rest[2:]
        return "/".join([self._model_path, *rest])

    async def _predict(self, asked: _Asked, model: ServedModel) -> Answer | None:
        _require_plain_encoding(asked)
        kind = asked.content_type
        if kind == b"multipart/form-data":
            files = await _parsed(
                asked, partial(files_of, asked.body, asked.header(b"content-type") or b"", max_files=self._max_images)
            )
            names, images = [each.name for each in files], [each.content for each in files]
        elif kind.startswith(b"image/") or kind == b"application/octet-stream":
            names, images = [""], [asked.body]
        else:
            raise Refused(415, "Send an image as image/*, or several as files of a form (multipart/form-data).")
        outcomes = await self._scored(asked, model, images)
        return None if outcomes is None else predict_answer(model, names, outcomes)

    async def _infer(self, asked: _Asked, model: ServedModel) -> Answer | None:
        _require_plain_encoding(asked)
        parse = partial(
            protocol.infer_request,
            asked.body,
            header_length=asked.header(protocol.HEADER_LENGTH),
            model=model,
            max_images=self._max_images,
        )
        request = await _parsed(asked, parse)
        outcomes = await self._scored(asked, model, request.images)
        return None if outcomes is None else protocol.infer_answer(model, request, outcomes)

    async def _scored(self, asked: _Asked, model: ServedModel, images: Sequence[bytes | np.ndarray]) -> list[Outcome] | None:
        """The outcome of each image; None where the client has gone away meanwhile. Raises Refused where too many images wait."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def on_done(_: Ticket) -> None:
            loop.call_soon_threadsafe(_finish, done)

        try:
            ticket = self._queue.submit(model, images, on_done, since=asked.arrived)
        except Full:
            raise Refused(503, _FULL, headers=(RETRY,)) from None
        gone = loop.create_task(_disconnected(asked.receive))
        gone.add_done_callback(lambda task: None if task.cancelled() else _finish(done))
        try:
            await done
        finally:
            gone.cancel()
            ticket.is_abandoned = True  # what still waits is wanted by nobody
        outcomes = [outcome for outcome in ticket.outcomes if outcome is not None]
        return outcomes if len(outcomes) == len(images) else None

    def _ready(self, values: dict[str, object]) -> Answer:
        return json_answer(values, status=503 if self.is_draining else 200)

    def _metrics(self) -> Answer:
        model = self._models.current
        text = self._measured.text(
            gauges={
                "polytag_waiting_images": ("Images that no core has taken yet.", lambda: self._queue.num_waiting),
                "polytag_in_flight_requests": ("Requests that are being answered.", self.num_in_flight),
                "polytag_ready": ("1, or 0 while the server shuts down.", lambda: int(not self.is_draining)),
            },
            model={
                "name": model.name,
                "id": model.id,
                "calibration": model.model.calibration_id,
                "engine": model.scorer.engine,
                "precision": model.scorer.precision,
                "version": polytag.__version__,
            },
        )
        return Answer(body=text.encode(), kind=CONTENT_TYPE)

    def _route(self, path: str) -> str:
        """One of few names, whatever was asked."""
        path = path.rstrip("/")
        if path in ("/predict", "/metrics", "/openapi.json"):
            return path[1:]
        if path.startswith("/v2"):
            return "infer" if path.endswith("/infer") else "health" if path in self.open_paths else "metadata"
        return "page" if not path or path.startswith("/static") else "other"


def _finish(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


async def _disconnected(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    """The guard passes it on whole."""
    message = await receive()
    return message.get("body", b"")


async def _parsed(asked: _Asked, parse: Callable[[], Parsed]) -> Parsed:
    return parse() if len(asked.body) <= _LARGE_BODY else await asyncio.to_thread(parse)


def _require_method(asked: _Asked, *methods: str) -> None:
    if asked.method not in methods:
        allowed = ", ".join(methods)
        raise Refused(405, f"This address takes {allowed}.", headers=((b"allow", allowed.encode()),))


def _require_plain_encoding(asked: _Asked) -> None:
    if (asked.header(b"content-encoding") or b"identity").strip().lower() not in (b"", b"identity"):
        raise Refused(415, "The body is compressed; send it as it is. Images are compressed already.")


async def _live(receive: Receive, send: Send) -> None:
    """Answer uvicorn at start and shutdown; there is nothing to do."""
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


async def _send(answer: Answer, send: Send, *, model: ServedModel) -> None:
    headers = [
        (b"content-type", answer.kind),
        (b"content-length", str(len(answer.body)).encode()),
        (b"polytag-model", model.id.encode()),
        *answer.headers,
    ]
    start: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
