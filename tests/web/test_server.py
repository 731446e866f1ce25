"""The server over real sockets: malformed, oversized, slow and crowding requests; addresses, ports and Ctrl-C."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from fastapi import FastAPI, Request

from polytag.errors import UsageError
from polytag.web import server as server_module
from polytag.web.request_rules import GuardConfig
from polytag.web.server import address_rules, bound_socket

MIB = 1024**2


def small_app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def page() -> str:
        return "page"

    @app.post("/write")
    async def write(request: Request) -> dict[str, int]:
        return {"num_bytes": len(await request.body())}

    return app


@pytest.fixture(scope="module")
def server(live):
    with live(small_app(), guard_config=GuardConfig(max_body_bytes=MIB, body_timeout_seconds=0.5, linger_seconds=0.5)) as running:
        yield running


def status_of(heard: bytes) -> int:
    return int(heard.split(b" ")[1]) if heard else 0


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\nHost: HOST\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: HOST\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nForwarded: host=HOST\r\n\r\n", 421),
        (b"GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET ../../etc/passwd HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 404),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 404),
        (b"GET /..\\..\\etc\\passwd HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 404),
        (b"GET /%00 HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (b"GET /%ff%fe HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 404),
        (b"GET /\xff HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\r\n folded\r\nConnection: close\r\n\r\n", 200),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n" + b"X: a\r\n" * 150 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),  # in one packet h11 lets it pass
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"a" * 4 * MIB, 400),
        (b"GET /" + b"a" * 4 * MIB, 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", 400),
        (b"POST /write HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 4000 + b"\r\n", 400),
    ],
)
def test_what_is_malformed_is_refused_and_nothing_breaks(server, words, status):
    heard = server.say(words)
    assert status_of(heard) == status, heard[:300]
    assert b"passwd" not in heard
    assert b"root:" not in heard
    assert b"server:" not in heard.lower().partition(b"\r\n\r\n")[0]
    assert status_of(server.get("/")) == 200


def test_a_long_body_is_refused_before_it_is_sent(server):
    with server.connect() as connection:
        connection.sendall(f"POST /write HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {MIB + 1}\r\n\r\n".encode())
        assert status_of(connection.recv(65536)) == 413


def test_expect_100_continue_is_not_told_to_send_a_body_that_is_too_long(server):
    head = f"POST /write HTTP/1.1\r\nHost: {server.host}\r\nExpect: 100-continue\r\nContent-Length: "
    with server.connect() as connection:
        connection.sendall(f"{head}{MIB + 1}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    with server.connect() as connection:
        connection.sendall(f"{head}5\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(b"hello")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_the_answer_survives_although_the_client_goes_on_sending(server):
    """Were the connection closed at once, it would be reset, and the client would hear nothing."""
    head = b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: %d\r\n\r\n" % (20 * MIB)
    assert status_of(server.say(head + b"x" * 20 * MIB)) == 413


def test_a_chunked_body_is_cut_where_it_passes_the_limit(server):
    head = b"POST /write HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    assert server.say(head + chunk * 16 + b"0\r\n\r\n").endswith(b'{"num_bytes":1048576}')
    assert status_of(server.say(head + chunk * 17 + b"0\r\n\r\n")) == 413
    endless = b"POST /write HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status_of(server.say(endless + b"1\r\nx\r\n" * 2 * MIB)) in {408, 413}  # whichever comes first, it ends


def test_a_slow_body_is_given_up(server):
    with server.connect() as connection:
        connection.sendall(f"POST /write HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: 100\r\n\r\n".encode())
        started = time.monotonic()
        heard = b""
        with contextlib.suppress(ConnectionError):
            connection.settimeout(0.05)
            while not heard and time.monotonic() - started < 20:
                connection.sendall(b"x")  # a byte now and then does not help
                with contextlib.suppress(TimeoutError):
                    heard = connection.recv(65536)
        assert status_of(heard) == 408
    assert status_of(server.get("/")) == 200


def test_headers_that_never_end_lose_the_connection(server, monkeypatch):
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT_SECONDS", 0.3)
    for first in (b"", b"GET / HTTP/1.1\r\n", f"GET / HTTP/1.1\r\nHost: {server.host}\r\n\r\nGET".encode()):
        with server.connect() as connection:
            connection.sendall(first)
            connection.settimeout(0.05)
            started, closed, heard = time.monotonic(), False, b""
            while not closed and time.monotonic() - started < 20:
                try:
                    connection.sendall(b"X" if first else b"")
                    more = connection.recv(65536)
                    heard += more
                    closed = not more
                except TimeoutError:
                    continue
                except ConnectionError:
                    closed = True
            assert closed
            assert status_of(heard) == (200 if first.endswith(b"GET") else 0)


def test_a_slow_answer_is_not_mistaken_for_slow_headers(live, monkeypatch):
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT_SECONDS", 0.1)
    app = FastAPI()

    @app.get("/slow")
    def slow() -> str:
        time.sleep(0.6)
        return "done"

    with live(app) as server:
        assert server.get("/slow").endswith(b'"done"')


def test_pipelined_requests_are_answered_in_order(server):
    one = b"POST /write HTTP/1.1\r\nHost: HOST\r\nContent-Length: %d\r\n\r\n%s"
    heard = server.say(b"".join(one % (length, b"x" * length) for length in (1, 2, 3)) + b"GET / HTTP/1.0\r\nHost: HOST\r\n\r\n")
    places = [heard.index(words) for words in (b'{"num_bytes":1}', b'{"num_bytes":2}', b'{"num_bytes":3}', b'"page"')]
    assert places == sorted(places)


def test_what_follows_a_refusal_on_the_same_connection_is_not_heard(server):
    """Else the body of a refused request could pass as the next request."""
    hidden = b"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
    words = b"POST /write HTTP/1.1\r\nHost: HOST\r\nOrigin: null\r\nContent-Length: 9\r\n\r\n" + hidden
    heard = server.say(words)
    assert heard.count(b"HTTP/1.1 ") == 1
    assert status_of(heard) == 403


@pytest.mark.parametrize("value", ["bytes=0-1", "bytes=" + ",".join(f"{n}-{n}" for n in range(3000)), "bytes=-1", "x" * 5000])
def test_ranges_change_nothing(server, value):
    heard = server.get("/", f"Range: {value}", "If-Range: x")
    assert status_of(heard) == 200
    assert heard.endswith(b'"page"')


def test_an_upgrade_is_answered_as_an_ordinary_request(server, capfd):
    for kind in ("websocket", "h2c"):
        words = f"GET / HTTP/1.1\r\nHost: HOST\r\nUpgrade: {kind}\r\nConnection: Upgrade, close\r\n\r\n"
        assert status_of(server.say(words.encode())) == 200
    assert capfd.readouterr().err == ""


def test_too_many_requests_at_once_are_told_to_come_again(live):
    gate, entered = threading.Event(), threading.Semaphore(0)
    app = FastAPI()

    @app.get("/wait")
    def wait() -> str:
        entered.release()
        gate.wait(30)
        return "done"

    with live(app, guard_config=GuardConfig(max_in_flight=3)) as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(3)]
        for connection in connections:
            connection.sendall(f"GET /wait HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode())
        assert all(entered.acquire(timeout=30) for _ in range(3))
        crowded = server.get("/wait")
        gate.set()
        assert status_of(crowded) == 503
        assert b"retry-after: 1\r\n" in crowded
        assert [status_of(connection.recv(65536)) for connection in connections] == [200, 200, 200]
        assert status_of(server.get("/wait")) == 200


# Addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_needs_no_token(host):
    rules = address_rules(host, "")
    assert (rules.is_loopback, rules.token) == (True, "")
    assert {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host} == set(rules.allowed_hosts)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "box.lan", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_any_other_address_needs_a_token(host):
    with pytest.raises(UsageError) as raised:
        address_rules(host, "")
    assert str(raised.value) == (
        "this address can be reached from other machines, so a token is needed\n"
        f"  where: --host {host}\n"
        "  got: no --token\n"
        "  expected: --host 127.0.0.1, which only this machine can reach, or a token\n"
        "  next: add --token random; the printed address then contains it"
    )
    rules = address_rules(host, "random")
    assert (rules.is_loopback, rules.allowed_hosts, len(rules.token)) == (False, (), 32)
    assert rules.token != address_rules(host, "random").token


@pytest.mark.parametrize("token", ["short", "a" * 15, "a" * 16 + " ", "a" * 16 + ";", "a" * 16 + "ä", "a" * 16 + "\n"])
def test_a_token_that_is_guessed_or_does_not_fit_is_refused_and_not_repeated(token):
    with pytest.raises(UsageError) as raised:
        address_rules("127.0.0.1", token)
    assert str(raised.value) == (
        "this token is easy to guess, or does not fit into an address\n"
        "  where: --token\n"
        f"  got: {len(token)} characters\n"
        "  expected: at least 16 of the characters A-Z, a-z, 0-9, - and _\n"
        "  next: --token random generates one"
    )


def test_a_port_in_use_is_passed_over_unless_it_was_asked_for(monkeypatch):
    with bound_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(server_module, "DEFAULT_PORT", port)
        with bound_socket("127.0.0.1", None) as other:
            assert port < other.getsockname()[1] < port + server_module.NUM_PORTS_TRIED
        with pytest.raises(UsageError, match="this port is in use") as raised:
            bound_socket("127.0.0.1", port)
        assert f"--port {port}" in str(raised.value)
        assert "--port 0" in str(raised.value)
        monkeypatch.setattr(server_module, "NUM_PORTS_TRIED", 1)
        with pytest.raises(UsageError, match="no port is free"):
            bound_socket("127.0.0.1", None)


def test_no_answer_waits_for_nagle():
    """asyncio turns it off only where the socket names its protocol; else every answer on an open connection takes 40 ms more."""
    with bound_socket("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_that_does_not_exist(port):
    with pytest.raises(UsageError, match="there is no such port"):
        bound_socket("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 300, "nul\0", "no-such-host.invalid", "256.256.256.256"])
def test_an_address_that_is_not_this_machines(host):
    with pytest.raises(UsageError, match="the server cannot be bound to this address"):
        bound_socket(host, 0)


SERVING = """
import sys, time
from fastapi import FastAPI
from polytag.web.server import serve

app = FastAPI()

@app.get("/")
def page():
    return "page"

@app.get("/wait")
async def wait():
    import asyncio
    print("waiting", flush=True)
    await asyncio.sleep(60)

serve(app, **eval(sys.argv[1]), on_ready=lambda address: print(address, flush=True))
print("ended", flush=True)
"""


@contextlib.contextmanager
def serving(*, variables=(), **arguments):
    environment = {key: value for key, value in os.environ.items() if key not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    environment.update(variables)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVING, repr(arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while a request is answered"])
def test_ctrl_c_ends_cleanly(busy):
    with serving(port=0, open_browser=True) as (process, address):
        port = int(address.removeprefix("http://127.0.0.1:").removesuffix("/"))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(f"GET /{'wait' if busy else ''} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            if busy:
                assert process.stdout.readline() == "waiting\n"
            else:
                assert status_of(connection.recv(65536)) == 200  # and the connection stays open
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_the_address_that_is_printed_holds_the_token():
    with serving(host="0.0.0.0", port=0, token="random") as (_, address):
        start, _, token = address.partition("/?token=")
        port = int(start.rpartition(":")[2])
        assert start == f"http://{socket.gethostname()}:{port}"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: any.name\r\nConnection: close\r\n\r\n")
            assert status_of(connection.recv(65536)) == 401
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(f"GET / HTTP/1.0\r\nHost: any.name\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            assert status_of(connection.recv(65536)) == 200


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize(
    ("variables", "arguments", "opens"),
    [
        ({"DISPLAY": ":0"}, {}, True),
        ({}, {}, False),
        ({"DISPLAY": ":0"}, {"token": "random"}, False),  # it would show in the list of processes
        ({"DISPLAY": ":0"}, {"host": "0.0.0.0", "token": "random"}, False),
    ],
)
def test_the_browser_is_opened_where_somebody_sees_it(tmp_path, variables, arguments, opens):
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    with serving(variables={**variables, "BROWSER": f"{browser} %s"}, port=0, open_browser=True, **arguments) as (process, address):
        waited_until = time.monotonic() + (20 if opens else 0.3)
        while not opened.exists() and time.monotonic() < waited_until:
            time.sleep(0.02)
        assert opened.exists() == opens
        if opens:
            assert opened.read_text() == address + "\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_browser_that_fails_does_no_harm():
    with serving(variables={"DISPLAY": ":0", "BROWSER": "/nowhere/at-all"}, port=0, open_browser=True) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
