"""Serves a run that trains: its page, the inspector over its best epoch so far, and once it has ended the inspector itself."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from polytag.errors import PolytagError
from polytag.inspector.app import is_page, static_answer
from polytag.inspector.browse.pages import rendered
from polytag.inspector.follow import Follower
from polytag.inspector.inspection import Inspection
from polytag.inspector.live.page import live_page
from polytag.inspector.live.progress import Progress, has_ended, progress_of
from polytag.runs.folder import RunFolder

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class LiveRun:
    """An ASGI application over a run without scores of its own yet.

    `open_running()` returns the inspection of the best epoch so far, None while there are no scores of it; `open_ended()` returns
    that of the run once it has ended, with the function that opens it again after a change. Both raise PolytagError for files that
    cannot be read now: then the page stays what it is.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        open_running: Callable[[], Inspection | None],
        open_ended: Callable[[], tuple[Inspection, Callable[[Inspection], Inspection]]],
    ):
        self._run, self._open_running, self._open_ended = run, open_running, open_ended
        self._followed: Follower | None = None  # of the best epoch so far, and then of the run
        self._is_ended = False
        self._progress: Progress | None = None
        self._looking = asyncio.Lock()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope["path"]
        if is_page(scope.get("method", ""), path):
            await self._look()
        answer: ASGIApp
        if self._followed is not None and (self._is_ended or path != "/"):
            answer = self._followed
        elif path == "/":
            answer = await run_in_threadpool(self._page)
        else:
            answer = self._without_scores(Request(scope))
        await answer(scope, receive, send)

    async def _live(self, receive: "Receive", send: "Send") -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._followed is not None:
            await self._followed.end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _look(self) -> None:
        """Take up what the folder holds now."""
        if self._is_ended:
            return
        async with self._looking:
            if not self._is_ended and await run_in_threadpool(has_ended, self._run):
                try:
                    inspection, reopen = await run_in_threadpool(self._open_ended)
                except PolytagError:
                    return
                await self._follow(await run_in_threadpool(Follower, inspection, reopen=reopen))
                self._is_ended = True
            elif self._followed is None:
                try:
                    running = await run_in_threadpool(self._open_running)
                except PolytagError:
                    return
                if running is not None:
                    await self._follow(await run_in_threadpool(Follower, running, reopen=self._open_again))
            elif not self._is_ended:
                await self._followed.follow()

    def _open_again(self, before: Inspection) -> Inspection:
        return self._open_running() or before

    async def _follow(self, follower: Follower) -> None:
        before, self._followed = self._followed, follower
        await follower.begin()
        if before is not None:
            await before.end()

    def _page(self) -> Response:
        self._progress = progress_of(self._run, before=self._progress)
        service = self._followed.app.state.service if self._followed is not None else None
        return rendered(live_page(self._run.path, self._progress, service=service))

    def _without_scores(self, request: Request) -> Response:
        path = request.url.path
        if path.startswith("/static/"):
            return static_answer(path.removeprefix("/static/"), tag=request.headers.get("if-none-match", ""))
        if is_page(request.method, path):
            return RedirectResponse("/", status_code=303)
        return JSONResponse({"detail": "the run has no scores yet"}, status_code=404)
