"""Runs the server: its threads, its signals, and the order in which it shuts down."""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from polytag.errors import UsageError
from polytag.machine import num_cores
from polytag.serve.app import ServeApp
from polytag.serve.measured import Measured
from polytag.serve.models import Models
from polytag.serve.scoring_queue import ScoringQueue
from polytag.serve.served_model import ServedModel, load_served, name_of
from polytag.web.guard import Guard
from polytag.web.request_rules import GuardConfig
from polytag.web.server import QuietServer, address_of, address_rules, bound_socket, guarded_server

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
_SPARE_REQUESTS = 64  # for the page and the metrics, beside those that wait for the model
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How images are scored.

    max_batch       images that a core takes at once
    max_waiting     images that wait for a core; more are refused
    drain_seconds   for how long requests in flight are answered after SIGTERM

    Raises UsageError for a number that is out of range.
    """

    engine: str = "auto"
    precision: str = "auto"
    max_batch: int = 8
    max_waiting: int = 64
    drain_seconds: float = 10.0

    def __post_init__(self):
        for option, value, least, most in (
            ("--max-batch", self.max_batch, 1, 1024),
            ("--max-waiting", self.max_waiting, 1, 100_000),
            ("--drain-seconds", self.drain_seconds, 0, 3600),
        ):
            if not least <= value <= most:  # nor for NaN
                raise UsageError("this is out of range", where=option, got=f"{value:g}", expected=f"{least:,} to {most:,}")


class Serving:
    """A model, the queue before it, the application and its guard. `start` and `close` its threads."""

    def __init__(self, folder: Path, config: ServeConfig, *, guard_config: Callable[..., GuardConfig] = GuardConfig):
        """Load the model; raises as `load_served`. `guard_config` gets what this server needs beside its own settings."""
        measured, num_workers = Measured(), num_cores()
        load = partial(
            load_served,
            folder,
            name=name_of(folder),
            engine=config.engine,
            precision=config.precision,
            max_batch=config.max_batch,
        )
        self.models = Models(folder, measured=measured, load=load)
        self.queue = ScoringQueue(
            num_workers=num_workers, max_batch=config.max_batch, max_waiting=config.max_waiting, measured=measured
        )
        self.app = ServeApp(self.models, self.queue, measured, max_images=config.max_waiting)
        limits = guard_config(
            open_paths=self.app.open_paths,
            error_key="error",
            max_in_flight=config.max_waiting + num_workers * config.max_batch + _SPARE_REQUESTS,
        )
        self.guard = Guard(self.app, config=limits, rule=self.app.rule, on_answer=self.app.on_answer)
        self.app.num_in_flight = lambda: self.guard.num_in_flight

    def start(self) -> None:
        """Start the threads that score and the one that watches the model's files."""
        self.queue.start()
        self.models.start()

    def close(self) -> None:
        """Let the threads end."""
        self.models.close()
        self.queue.close()

    async def drain(self, *, seconds: float) -> int:
        """Refuse images from now on, and wait until what is in flight is answered; the number of requests that were not."""
        self.app.is_draining = True
        waited_until = asyncio.get_running_loop().time() + seconds
        while self.guard.num_in_flight and asyncio.get_running_loop().time() < waited_until:
            await asyncio.sleep(_LOOK_SECONDS)
        return self.guard.num_in_flight


def serve_model(
    folder: Path,
    config: ServeConfig,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str = "",
    on_ready: Callable[[ServedModel, str], None],
) -> None:
    """Serve a model until SIGTERM or Ctrl-C; SIGHUP loads it again. `on_ready` is called once with the model and the address.

    Raises UsageError for an address that is unsafe, belongs to another machine or is in use, before the model is loaded; and as
    `load_served`.
    """
    rules = address_rules(host, token)
    with bound_socket(host, port) as listening:
        serving = Serving(
            folder, config, guard_config=lambda **own: GuardConfig(allowed_hosts=rules.allowed_hosts, token=rules.token, **own)
        )
        ends = _Ends(serving, seconds=config.drain_seconds)

        def ready() -> None:
            ends.loop = asyncio.get_running_loop()
            on_ready(serving.models.current, address_of(rules, listening))

        ends.server = guarded_server(serving.guard, on_ready=ready, on_signal=ends.begin, max_connections=MAX_CONNECTIONS)
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, lambda *_: serving.models.ask())
        serving.start()
        try:
            ends.server.run([listening])
        finally:
            serving.close()


class _Ends:
    """What the first signal does: the server drains, and then ends."""

    loop: asyncio.AbstractEventLoop | None = None
    server: QuietServer

    def __init__(self, serving: Serving, *, seconds: float):
        self._serving, self._seconds = serving, seconds
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Not ready from this moment on. Called by a signal handler."""
        self._serving.app.is_draining = True
        if self.loop is None:  # it has not started
            self.server.should_exit = True
        else:
            self.loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        assert self.loop is not None
        self._task = self.loop.create_task(self._drain())

    async def _drain(self) -> None:
        num_left = await self._serving.drain(seconds=self._seconds)
        if num_left:
            what = "1 request was" if num_left == 1 else f"{num_left:,} requests were"
            logger.error("%s not answered within %g s", what, self._seconds)
        self.server.should_exit = True
