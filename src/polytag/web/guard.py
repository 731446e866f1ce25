"""Wraps the pages and refuses requests that neither a page nor its owner would send.

A request passes these rules in this order. The first rule that it breaks determines the answer.

    form       the path begins with "/" and has no control character; one length; limited headers             400, 404, 431
    host       the host is one of the server's own names, so a name rebound to 127.0.0.1 reads nothing        400, 421
    origin     the request does not come from another site                                                    403
    token      the request has the token, where one is set                                                    401
    own rule   of the application, such as that its queue is full
    load       the number of requests in flight is limited                                                    503
    body       limited in size and time; it is read completely before the application sees any of it          413, 408

Answers get headers that restrict the browser. An exception becomes a 500 without its message.
"""

import asyncio
import contextlib
import html
import json
import logging
from collections.abc import Callable, Iterable
from typing import final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polytag.web.request_rules import GuardConfig, Refusal, Request, admit, too_large

logger = logging.getLogger(__name__)

SAFE_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"manifest-src 'self'; font-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# Removed from every request: all answers are made in memory and sent whole, and Starlette took minutes to parse one header with
# many small ranges (CVE-2025-62727).
IGNORED_HEADERS = frozenset((b"range", b"if-range"))


@final
class Guard:
    """Serves the ASGI application `app` behind the rules above, and counts the requests in flight.

    `rule` is the application's own, asked before a body is read. `on_answer` is called with the path and status of every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        config: GuardConfig,
        rule: Callable[[Request], Refusal | None] = lambda request: None,
        on_answer: Callable[[str, int], None] | None = None,
    ):
        self._app = app
        self._config = config
        self._rule = rule
        self._on_answer = on_answer
        self._num_in_flight = 0
        self._num_held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request.of(scope)
        send = self._told(request, send)
        # A body of unknown length counts as one of the maximum length.
        num_bytes = self._config.max_body_bytes if request.is_chunked else request.num_declared_bytes
        is_open = request.path in self._config.open_paths and not request.has_body
        refusal = admit(request, config=self._config) or self._rule(request) or (None if is_open else self._overload(num_bytes))
        if refusal is not None:
            await _refuse(refusal, request=request, config=self._config, receive=receive, send=send)
            return
        self._num_in_flight += not is_open
        self._num_held_bytes += num_bytes
        try:
            await self._answer(request, scope, receive, send)
        finally:
            self._num_in_flight -= not is_open
            self._num_held_bytes -= num_bytes

    @property
    def num_in_flight(self) -> int:
        """Requests that were admitted and are not answered yet, without those for open paths."""
        return self._num_in_flight

    def _told(self, request: Request, send: Send) -> Send:
        on_answer = self._on_answer
        if on_answer is None:
            return send

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                on_answer(request.path, message["status"])
            await send(message)

        return tell

    def _overload(self, num_bytes: int) -> Refusal | None:
        config = self._config
        if self._num_in_flight < config.max_in_flight and self._num_held_bytes + num_bytes <= config.max_held_bytes:
            return None
        return Refusal(status=503, detail="Too many requests at once; ask again in a moment.", headers=((b"retry-after", b"1"),))

    async def _answer(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive, config=self._config)
        if isinstance(body, Refusal):
            await _refuse(body, request=request, config=self._config, receive=receive, send=send)
        elif body is not None:
            headers = [(name, value) for name, value in scope["headers"] if name.lower() not in IGNORED_HEADERS]
            scope = {**scope, "headers": headers}
            await _call(self._app, scope, _replay(body, then=receive), send, error_key=self._config.error_key)


async def _read(receive: Receive, *, config: GuardConfig) -> bytes | Refusal | None:
    """Return the whole body, or a refusal, or None where the client has disconnected."""
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(config.body_timeout_seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if refusal := too_large(len(body), config=config):
                    return refusal
                more = message.get("more_body", False)
    except TimeoutError:
        return Refusal(status=408, detail=f"The request was not complete after {config.body_timeout_seconds:g} s.")
    return bytes(body)


def _replay(body: bytes, *, then: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await then()

    return receive


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, error_key: str) -> None:
    """Let the application answer, add the safe headers, and log an exception without sending it to the client."""
    has_begun = False
    held: list[Message] = []

    async def pass_on(message: Message) -> None:
        nonlocal has_begun
        # Starlette answers an exception first and raises it afterwards, so a 500 is held back until it is clear whether an
        # exception follows.
        if held or message.get("status") == 500:
            held.append(message)
            return
        has_begun = True
        await _send_safely(message, send)

    try:
        await app(scope, receive, pass_on)
    except Exception:
        logger.exception("%s %r failed", scope["method"], scope["path"])
        if not has_begun:  # else the server closes the connection, and the client sees an incomplete answer
            held = _json(500, "polytag failed to answer. The terminal where it runs shows the error.", key=error_key)
    for message in held:
        await _send_safely(message, send)


async def _refuse(refusal: Refusal, *, request: Request, config: GuardConfig, receive: Receive, send: Send) -> None:
    # The rest of the body is not read, so the connection cannot be reused.
    headers = (*refusal.headers, (b"connection", b"close"))
    if request.wants_page:
        page = f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>polytag: {refusal.status}</title>\n'
        page += f"<p>{html.escape(refusal.detail)}</p>\n"
        if refusal.status == 401 and request.values(b"sec-fetch-site") not in ((), [b"none"], [b"same-origin"]):
            # The browser requests the first page after a link of another site without the cookie; one more click sends it.
            page += '<p>If you came by a link: <a href="">continue</a>.</p>\n'
        answer = _whole(refusal.status, page.encode(), b"text/html; charset=utf-8", headers)
    else:
        answer = _json(refusal.status, refusal.detail, headers, key=config.error_key)
    *most, last = answer
    for message in most:
        await _send_safely(message, send)
    if refusal.status == 413:
        await _drain(receive, seconds=config.linger_seconds)
    await _send_safely(last, send)


def _json(status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = (), *, key: str) -> list[Message]:
    return _whole(status, json.dumps({key: detail}).encode(), b"application/json", headers)


def _whole(status: int, body: bytes, kind: bytes, headers: Iterable[tuple[bytes, bytes]]) -> list[Message]:
    every_header = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    return [
        {"type": "http.response.start", "status": status, "headers": every_header},
        {"type": "http.response.body", "body": body, "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]


async def _drain(receive: Receive, *, seconds: float) -> None:
    """Read and drop the rest of the body for a moment. Closing at once would reset the connection and lose the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass


async def _send_safely(message: Message, send: Send) -> None:
    if message["type"] == "http.response.start":
        headers = [
            (name, value)
            for name, value in message.get("headers", ())
            if name.lower() not in SAFE_HEADERS and not name.lower().startswith(b"access-control-")
        ]
        if not any(name.lower() == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-store"))
        message = {**message, "headers": [*headers, *SAFE_HEADERS.items()]}
    await send(message)
