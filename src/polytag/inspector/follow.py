"""Serves an inspection, and follows its files: answers of the API say that they changed, and the next page is of the new ones."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from polytag.errors import PolytagError
from polytag.inspector.app import create_app, is_page
from polytag.inspector.inspection import Inspection
from polytag.inspector.source_files import SourceFiles

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

HEADER = b"polytag-changed"
UNREADABLE = "unreadable"
_LOOK_SECONDS = 1.0  # between two looks at the disk


class Follower:
    """An ASGI application over an inspection. A page that is asked for after its files changed is of the inspection that
    `reopen(inspection)` returns, which raises PolytagError where the files cannot be read now: then the one before stays.

    An answer of the API has the header `polytag-changed` while the files on the disk are others than those that it is from:
    "thresholds", "scores", or "unreadable" where they could not be opened again.
    """

    def __init__(self, inspection: Inspection, *, reopen: Callable[[Inspection], Inspection]):
        self._reopen = reopen
        self._served = _Served(inspection)
        self._reopening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if is_page(scope.get("method", ""), scope["path"]):
            await self.follow()
        served = self._served
        served.num_active += 1
        try:
            await served.app(scope, receive, served.marked(send) if scope["path"].startswith("/api/") else send)
        finally:
            served.num_active -= 1
            self._close_if_left(served)

    async def _live(self, receive: "Receive", send: "Send") -> None:
        """Answer the server's questions about beginning and end."""
        await receive()
        await self.begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.end()
        await send({"type": "lifespan.shutdown.complete"})

    @property
    def app(self) -> FastAPI:
        """The application over the inspection that is served now."""
        return self._served.app

    async def begin(self) -> None:
        """Begin to serve, where no server does it by the lifespan."""
        await self._served.begin()

    async def end(self) -> None:
        """Serve no more."""
        await self._served.end()
        await asyncio.gather(*self._closing)

    async def follow(self) -> None:
        """Look at the disk, and serve the files as they are now."""
        async with self._reopening:
            served = self._served
            if served.change() in ("", UNREADABLE):
                return
            files = served.files_now()  # before they are read, so that no change is missed
            try:
                inspection = await run_in_threadpool(self._reopen, served.inspection)
            except PolytagError:
                served.unreadable = files
                return
            fresh = await run_in_threadpool(_Served, inspection)
            await fresh.begin()
            self._served = fresh
            self._close_if_left(served)

    def _close_if_left(self, served: "_Served") -> None:
        """End what is served no more, once its last request is answered. Its end waits for its jobs, and no page does."""
        if served is not self._served and not served.num_active:
            closing = asyncio.create_task(served.end())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


class _Served:
    """The application over one inspection."""

    def __init__(self, inspection: Inspection):
        self.inspection = inspection
        self.app = create_app(inspection)
        self.num_active = 0
        self._life: AbstractAsyncContextManager[object] | None = None
        self.unreadable: SourceFiles | None = None  # the state of the files that could not be opened
        self._looked_at, self._seen = -_LOOK_SECONDS, ""

    async def begin(self) -> None:
        self._life = self.app.router.lifespan_context(self.app)
        await self._life.__aenter__()

    async def end(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            await life.__aexit__(None, None, None)

    def change(self) -> str:
        """Look at the disk; the value of the header, or "" where the files are those of the inspection."""
        files = self.inspection.source_files
        change = files.changed() if files is not None else ""
        if change and self.unreadable is not None and not self.unreadable.changed():
            change = UNREADABLE
        self._looked_at, self._seen = time.monotonic(), change
        return change

    def files_now(self) -> SourceFiles | None:
        files = self.inspection.source_files
        return files.now() if files is not None else None

    def marked(self, send: "Send") -> "Send":
        """Return `send` with the header added to an answer."""

        async def marking(message: "Message") -> None:
            if message["type"] == "http.response.start":
                is_due = time.monotonic() - self._looked_at >= _LOOK_SECONDS
                if change := self.change() if is_due else self._seen:
                    message = {**message, "headers": [*message.get("headers", []), (HEADER, change.encode())]}
            await send(message)

        return marking
