"""A server of the inspector in a thread, spoken to over real sockets."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from starlette.types import ASGIApp

from polytag.inspector.admission import GuardConfig
from polytag.inspector.server import bound_socket, server_of

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
    """`with live(app, guard_config=...) as server:` serves an application behind the guard."""

    @contextlib.contextmanager
    def serving(app: ASGIApp, *, guard_config: GuardConfig | None = None) -> Iterator[Live]:
        is_ready = threading.Event()
        listening = bound_socket("127.0.0.1", 0)
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
