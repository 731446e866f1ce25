"""A server of the inspector in a thread, spoken to over real sockets; a browser that looks at its pages; a run with its model."""

import contextlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from starlette.types import ASGIApp

from polytag import FINETUNE, load_dataset, read_predictions, train
from polytag.inspector.inspection import Inspection
from polytag.inspector.web.request_rules import GuardConfig
from polytag.inspector.web.server import bound_socket, server_of

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Live:
    """A running server; `host` is what an honest client puts into its Host header."""

    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def say(self, words: bytes) -> bytes:
        """Send these bytes, HOST in them replaced, and hear all that comes back until the server closes the connection."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):  # the server may have answered, and closed, before the end
                connection.sendall(words.replace(b"HOST", self.host.encode()))
            return hear(connection)

    def get(self, target: str, *headers: str, method: str = "GET") -> bytes:
        """One honest request, but for what is passed."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", "Connection: close", *headers, "", ""]
        return self.say("\r\n".join(lines).encode("latin-1"))


def hear(connection: socket.socket) -> bytes:
    heard = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            heard += more
    return heard


@pytest.fixture(scope="session")
def live() -> Callable[..., AbstractContextManager[Live]]:
    """`with live(app, guard_config=...) as server:` serves an application behind the guard; at any free port, or at a given one."""

    @contextlib.contextmanager
    def serving(app: ASGIApp, *, guard_config: GuardConfig | None = None, port: int = 0) -> Iterator[Live]:
        is_ready = threading.Event()
        listening = bound_socket("127.0.0.1", port)
        port = listening.getsockname()[1]
        server = server_of(app, guard_config=guard_config or GuardConfig(), on_ready=is_ready.set)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert is_ready.wait(PATIENCE_SECONDS), "the server did not start"
            yield Live(port=port)
        finally:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "the server did not end"

    return serving


@pytest.fixture(scope="module")  # as in the report's tests: a thread holds one Playwright at a time
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    quiet = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=[*quiet, "--no-first-run"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """`visit(url, excused=("409",), **context)` opens a page in a context of its own, or in that of `compared`, another page.

    At the end of the test no page may have said anything in its console but what holds an excused text, nor asked any other host.
    """
    said: list[str] = []
    asked: list[str] = []
    hosts: set[str] = set()
    contexts: list[Any] = []

    def visiting(url: str, *, excused: tuple[str, ...] = (), compared: Any = None, **options: Any) -> Any:
        if compared is None:
            contexts.append(browser.new_context(**options))
        page = (compared.context if compared else contexts[-1]).new_page()
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
        hosts.add(urlsplit(url).netloc)
        page.on("console", lambda message: any(each in message.text for each in excused) or said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page

    yield visiting
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc not in hosts] == []


@pytest.fixture(scope="session")
def modelled(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """A finished run of a tiny network on squares of colour, with its model and its data set. Read-only by agreement."""
    run = tmp_path_factory.mktemp("modelled") / "run"
    tiny = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=64, epochs=3)
    train(colours, recipe=tiny, output=run)
    predictions = read_predictions(run / "predictions-val.parquet")
    return Inspection(
        name="run",
        review_file=run / "review.sqlite",
        predictions=predictions,
        threshold_C=np.array([0.5, 0.4, 0.6]),
        split="val",
        checkpoint=run / "best",
        data=load_dataset(colours),
        data_path=colours,
    )
