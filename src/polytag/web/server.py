"""Runs the server of the pages: the rules for its address, its socket, start and shutdown."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from polytag.errors import UsageError
from polytag.web.guard import Guard
from polytag.web.request_rules import LOOPBACK_NAMES, TOKEN_ALPHABET, GuardConfig

DEFAULT_PORT = 8421
NUM_PORTS_TRIED = 50
HEAD_TIMEOUT_SECONDS = 15.0
# Connections, busy or idle. The guard's own limit, of requests that are being answered, is reached first and answers in JSON.
MAX_CONNECTIONS = 256


@dataclass(frozen=True, kw_only=True)
class AddressRules:
    """The address of the server, and what it requires of requests.

    host            the host as given
    is_loopback     whether only this machine can reach it
    token           "" where none is needed
    allowed_hosts   host names that the guard admits; () where a token makes any name safe
    """

    host: str
    is_loopback: bool
    token: str
    allowed_hosts: Sequence[str]


def address_rules(host: str, token: str) -> AddressRules:
    """Check that the server may be bound to `host` with this token; "random" generates one of 192 bits.

    Raises UsageError where other machines could reach the pages without a token, and for a token that is easy to guess.
    """
    is_loopback = _is_loopback(host)
    if token == "random":
        token = secrets.token_urlsafe(24)
    if not is_loopback and not token:
        raise UsageError(
            "this address can be reached from other machines, so a token is needed",
            where=f"--host {host}",
            got="no --token",
            expected="--host 127.0.0.1, which only this machine can reach, or a token",
            next_step="add --token random; the printed address then contains it",
        )
    if token and not TOKEN_ALPHABET.fullmatch(token):
        raise UsageError(
            "this token is easy to guess, or does not fit into an address",
            where="--token",
            got=f"{len(token)} characters",
            expected="at least 16 of the characters A-Z, a-z, 0-9, - and _",
            next_step="--token random generates one",
        )
    own_name = f"[{host}]" if ":" in host else host.lower()
    allowed_hosts = () if not is_loopback else tuple(dict.fromkeys((*LOOPBACK_NAMES, own_name)))
    return AddressRules(host=host, is_loopback=is_loopback, token=token, allowed_hosts=allowed_hosts)


def bound_socket(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens at this address. Port 0 takes any free port, None the first free one from DEFAULT_PORT on.

    Raises UsageError for an address of another machine, and for a given port that is in use.
    """
    if port is not None and not 0 <= port <= 65535:
        raise UsageError("there is no such port", where="--port", got=str(port), expected="1 to 65535, or 0 for any that is free")
    ports = range(DEFAULT_PORT, DEFAULT_PORT + NUM_PORTS_TRIED) if port is None else (port,)
    for number in ports:
        try:
            return _listening(host, number)
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be resolved
            is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not is_taken or port is not None:
                raise _not_bound(error, host=host, port=number, is_taken=is_taken) from error
    raise UsageError(
        "no port is free",
        where=f"--host {host}",
        got=f"all of {ports[0]} to {ports[-1]} are in use",
        next_step="--port 0 takes any free port",
    )


def serve(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str = "",
    page: str = "",
    open_browser: bool = False,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Serve `app` behind the guard until Ctrl-C. `on_ready` is called once with the address of a page, including the token.

    Raises UsageError for an address that is unsafe, belongs to another machine, or is in use.
    """
    rules = address_rules(host, token)
    listening = bound_socket(host, port)
    address = address_of(rules, listening, page=page)

    def ready() -> None:
        on_ready(address)
        # Every user of the machine can read the command line of a browser, so a token must not be in it.
        if open_browser and rules.is_loopback and not rules.token and _has_display():
            threading.Thread(target=_open_browser, args=(address,), daemon=True).start()

    server = server_of(app, guard_config=GuardConfig(allowed_hosts=rules.allowed_hosts, token=rules.token), on_ready=ready)
    # uvicorn shuts down on Ctrl-C and then raises the signal again, which is no longer needed.
    with listening, contextlib.suppress(KeyboardInterrupt):
        server.run([listening])


def server_of(app: ASGIApp, *, guard_config: GuardConfig, on_ready: Callable[[], None]) -> uvicorn.Server:
    """Return the server of `app` behind the guard. Its `run` takes the socket."""
    return guarded_server(Guard(app, config=guard_config), on_ready=on_ready)


def guarded_server(
    guard: Guard,
    *,
    on_ready: Callable[[], None],
    on_signal: Callable[[], None] | None = None,
    max_connections: int = MAX_CONNECTIONS,
) -> "QuietServer":
    """Return the server of a guard. Its `run` takes the socket.

    With `on_signal` the first SIGTERM or Ctrl-C calls that instead of ending the server, which ends at the second, or where
    `should_exit` is set; `run` then returns.
    """
    config = uvicorn.Config(
        guard,
        interface="asgi3",
        http=ImpatientProtocol,
        ws="none",
        loop="asyncio",
        workers=1,
        log_config=None,  # errors still go to stderr, and no logger of the process is changed
        log_level="error",  # its warnings are about malformed requests of strangers
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=max_connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=16 * 1024,
    )
    return QuietServer(config, on_ready=on_ready, on_signal=on_signal)


@final
class QuietServer(uvicorn.Server):
    """uvicorn's server with a callback when it is ready, and without tracebacks of requests that it cancels at shutdown."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None], on_signal: Callable[[], None] | None = None):
        super().__init__(config)
        self._on_ready = on_ready
        self._on_signal = on_signal
        self._is_signalled = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Call `on_signal` at the first signal; end at the second, or where there is no `on_signal`."""
        if self._on_signal is None:
            super().handle_exit(sig, frame)
        elif self._is_signalled:
            self.should_exit = self.force_exit = True
        else:
            self._is_signalled = True
            self._on_signal()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then call `on_ready`."""
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as uvicorn does, without a traceback for every cancelled request."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # the Config of the next server resets it
        await super().shutdown(sockets)


@final
class ImpatientProtocol(H11Protocol):
    """uvicorn's protocol with a timeout for the headers of a request.

    uvicorn waits for headers without a limit, so a client that sends a byte now and then would hold a connection for ever.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the timeout with the connection."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Start the timeout with the first byte of a request, and stop it at the end of its headers."""
        cycle = self.cycle
        if self._head_timer is None and self._is_between_requests():
            self._start_timer()
        super().data_received(data)
        if self.cycle is not cycle:
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._stop_timer()
        super().connection_lost(exc)

    def _is_between_requests(self) -> bool:
        return not self.cycle or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_timeout(self) -> None:
        self._head_timer = None
        if self._is_between_requests():
            self.transport.close()


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    # A name may have several addresses; 127.0.0.1 is preferred to ::1, which some machines lack.
    found = sorted(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), key=lambda each: each[0] != socket.AF_INET)
    family, _, protocol, _, address = found[0]
    if _is_loopback(host) and not _is_loopback(str(address[0])):
        raise OSError(errno.EADDRNOTAVAIL, "this name is not an address of this machine alone")
    # asyncio turns Nagle's algorithm off only for a socket whose protocol is TCP. Otherwise every body waits 40 ms for the client
    # to acknowledge the headers.
    listening = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        if sys.platform != "win32":  # on Windows it would take the port of another program
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except BaseException:
        listening.close()
        raise
    return listening


def _not_bound(error: OSError | ValueError, *, host: str, port: int, is_taken: bool) -> UsageError:
    reason = getattr(error, "strerror", None) or str(error)
    if is_taken:
        return UsageError("this port is in use", where=f"--port {port}", got=reason, next_step="omit --port, or use --port 0")
    return UsageError("the server cannot be bound to this address", where=f"--host {host} --port {port}", got=reason)


def address_of(rules: AddressRules, listening: socket.socket, *, page: str = "") -> str:
    """The address of a page, by default the first one, with the token where there is one."""
    port = listening.getsockname()[1]
    bound = ipaddress.ip_address(listening.getsockname()[0])
    host = socket.gethostname() if bound.is_unspecified else rules.host
    query = f"?token={rules.token}" if rules.token else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{page}{query}"


def _has_display() -> bool:
    return sys.platform in {"win32", "darwin"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_browser(address: str) -> None:
    with contextlib.suppress(Exception):  # the address is printed in any case
        webbrowser.open(address)
