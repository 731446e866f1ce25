"""The command as a process: signals, ports, what it imports and writes, and what it says when it cannot start."""

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from polytag.models.exported import Exported

# An audit hook sees what Python opens for writing, makes, moves and removes, and to whom it connects.
SCRIPT = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # as on a file system that is read-only: no byte can be written
events = []

def watch(event, args):
    if event == "open" and args[0] is not None and not isinstance(args[0], int):
        flags = args[2] if isinstance(args[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or isinstance(args[1], str) and set(args[1]) & set("wax+"):
            events.append((event, str(args[0])))
    if event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.chmod", "socket.connect", "subprocess.Popen"):
        events.append((event, str(args)))

sys.dont_write_bytecode = True
sys.addaudithook(watch)
from polytag.cli.main import main
sys.argv = ["polytag", "serve", *sys.argv[1:]]
try:
    main()
finally:
    heavy = sorted({"torch", "timm", "onnx", "fastapi", "pyarrow"} & set(sys.modules))
    print("HEAVY", heavy, flush=True)
    print("EVENTS", [each for each in events if "/dev/null" not in each[1]], flush=True)
"""


@contextmanager
def serving(*arguments: object, variables: dict[str, str] | None = None):
    """A process that serves, and its port."""
    environment = os.environ | (variables or {})
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[1].startswith("open  http://"), (lines, process.communicate(timeout=30))
        yield process, int(lines[1].rpartition(":")[2].partition("/")[0]), "".join(lines)
    finally:
        process.kill()
        process.communicate()


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def half_a_request(port: int, content: bytes) -> tuple[socket.socket, bytes]:
    """A connection whose request lacks the second half of its body, and that half."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content[: len(content) // 2])
    return connection, content[len(content) // 2 :]


def wait_for_in_flight(port: int, number: int) -> None:
    ends = time.monotonic() + 20
    while f"\npolytag_in_flight_requests {number}\n" not in ask(port, "GET", "/metrics")[2].decode():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_sigterm_drains_and_nothing_was_written(small_export: Exported, jpegs, tmp_path: Path):
    """In a folder and a home that hold nothing afterwards; an export needs neither torch nor a web framework."""
    home = tmp_path / "home"
    home.mkdir()
    variables = {"HOME": str(home), "TMPDIR": str(home), "POLYTAG_CACHE": str(home / "cache")}
    with serving(small_export.folder, "--port", 0, variables=variables) as (process, port, said):
        name = small_export.folder.name
        assert said.startswith(f"{name}: 3 classes, model {small_export.id}, onnx fp32\n")
        assert ask(port, "POST", "/predict", jpegs[0], Content_Type="image/jpeg")[0] == 200
        large_form = b"--x\r\nContent-Disposition: form-data; name=a; filename=a\r\n\r\n" + bytes(2**21) + b"\r\n--x--\r\n"
        assert ask(port, "POST", "/predict", large_form, Content_Type="multipart/form-data; boundary=x")[0] == 422
        assert ask(port, "GET", "/")[0] == 200
        connection, rest = half_a_request(port, jpegs[1])
        with connection:
            wait_for_in_flight(port, 2)  # the other one asks
            process.send_signal(signal.SIGTERM)
            ends = time.monotonic() + 20
            while ask(port, "GET", "/v2/health/ready")[0] == 200:
                assert time.monotonic() < ends
            assert ask(port, "GET", f"/v2/models/{name}/ready")[0] == 503
            assert ask(port, "GET", "/v2/health/live")[0] == 200
            status, headers, body = ask(port, "POST", "/predict", jpegs[0], Content_Type="image/jpeg")
            assert (status, headers["retry-after"], "shutting down" in json.loads(body)["error"]) == (503, "1", True)
            connection.sendall(rest)
            heard = b""
            while more := connection.recv(65536):
                heard += more
        assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'"probabilities"' in heard
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == "HEAVY []\nEVENTS []\n"
    assert list(home.iterdir()) == []


def test_kill_9_a_taken_port_and_a_client_that_never_ends(small_export: Exported, jpegs):
    with serving(small_export.folder, "--port", 0) as (process, port, _):
        connection, _ = half_a_request(port, jpegs[0])
        with connection:
            wait_for_in_flight(port, 2)
            process.kill()
            process.wait(30)
    with serving(small_export.folder, "--port", port, "--drain-seconds", "0.2", "--token", "random") as (process, again, said):
        assert again == port
        token = said.strip().rpartition("=")[2]
        assert ask(port, "GET", "/v2")[0] == 401
        assert ask(port, "GET", "/v2", Authorization=f"Bearer {token}")[0] == 200
        taken = subprocess.run(
            [sys.executable, "-m", "polytag", "serve", str(small_export.folder), "--port", str(port)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (taken.returncode, taken.stderr.splitlines()[0]) == (2, "polytag: this port is in use")
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        with connection:
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/jpeg\r\n"
            connection.sendall((head + f"Authorization: Bearer {token}\r\nContent-Length: 9\r\n\r\nhalf").encode())
            ends = time.monotonic() + 20
            while b"requests 2\n" not in ask(port, "GET", "/metrics", Authorization=f"Bearer {token}")[2]:
                assert time.monotonic() < ends
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "1 request was not answered within 0.2 s" in err
        assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "this address can be reached from other machines, so a token is needed"),
        (("--token", "short"), "this token is easy to guess, or does not fit into an address"),
        (("--max-batch", "0"), "this is out of range"),
        (("--max-waiting", "-1"), "this is out of range"),
        (("--drain-seconds", "-1"), "this is out of range"),
        (("--drain-seconds", "nan"), "this is out of range"),
        (("--engine", "tensorrt"), "unknown engine"),
        (("--port", "70000"), "there is no such port"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(small_export: Exported, capsys, monkeypatch, arguments, message):
    from polytag.cli.main import main

    monkeypatch.setattr(sys, "argv", ["polytag", "serve", str(small_export.folder), "--port", "0", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"polytag: {message}\n")
    log = logging.getLogger("polytag")
    assert (log.propagate, log.handlers) == (True, []), "what the package says later in this process is heard as before"


def test_a_missing_extra_names_itself(small_export: Exported, capsys, monkeypatch):
    from polytag.cli.main import main

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(sys, "argv", ["polytag", "serve", str(small_export.folder), "--port", "0"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code != 0
    assert "pip install 'polytag[runtime]'" in capsys.readouterr().err
