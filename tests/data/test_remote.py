"""Files at addresses, from a server and a store that fail in every way: the right bytes, or one clear error in bounded time."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from polytag.data.remote.addresses import as_path, is_address, name_at, suffix_at
from polytag.data.remote.remote_file import RemoteFile
from polytag.data.remote.stores import download_store, files_below, put_file, read_store, read_store_image, store_file
from polytag.data.remote.web import download_web, read_web, web_file
from polytag.download import retries
from polytag.download.retries import NotThere, Patience
from polytag.errors import FetchError, ImageError, MissingExtraError, UsageError

CONTENT = bytes(range(256)) * 4096  # a mebibyte
HASTY = Patience(timeout_seconds=30, max_tries=4, pause_seconds=0.01, max_pause_seconds=0.05)


@dataclass
class Server:
    """Answers requests by `script`, one function after the other, and then honestly; notes the Range of each request."""

    url: str = ""
    script: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    content: bytes = CONTENT


def honest(handler: BaseHTTPRequestHandler, server: Server, *, cut: int | None = None, etag: str = '"one"') -> None:
    asked, whole = handler.headers.get("Range", ""), server.content
    start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
    end = asked.rpartition("-")[2]
    part = whole[start : int(end) + 1 if end else None]
    handler.send_response(206 if asked else 200)
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(whole)}")
    handler.send_header("Content-Length", str(len(part)))
    handler.send_header("ETag", etag)
    handler.end_headers()
    handler.wfile.write(part[:cut])


@pytest.fixture
def server() -> Iterator[Server]:
    said = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.ranges.append(self.headers.get("Range", ""))
            answer = said.script.pop(0) if said.script else lambda handler: honest(handler, said)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    said.url = f"http://127.0.0.1:{running.server_port}/a.tar"
    yield said
    running.shutdown()
    running.server_close()
    thread.join()


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def read(server: Server, **options: Any) -> bytes:
    return read_web(server.url, **{"max_bytes": 1 << 21, "patience": HASTY, **options})


# ---- the web ----


def test_a_file_of_the_web(server: Server, tmp_path: Path):
    file = web_file(server.url, patience=HASTY)
    assert file == RemoteFile(address=server.url, num_bytes=len(CONTENT), version='"one"')
    assert read(server) == CONTENT
    download_web(file, tmp_path / "a", patience=HASTY)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=0-0", "", ""]


def test_an_empty_file(server: Server, tmp_path: Path):
    server.content = b""
    server.script = [status(416, Content_Range="bytes */0")]
    file = web_file(server.url, patience=HASTY)
    assert file.num_bytes == 0
    download_web(file, tmp_path / "a", patience=HASTY)
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize("code", sorted(retries.BUSY))
def test_a_server_that_is_busy_twice(code: int, server: Server):
    server.script = [status(code), status(code, Retry_After="1")]
    assert read(server) == CONTENT


def test_a_server_that_stays_busy(server: Server):
    server.script = [status(503)] * 99
    with pytest.raises(FetchError) as error:
        read(server)
    assert str(error.value) == (
        f"an address could not be read, 4 times in a row\n  where: {server.url}\n  got: HTTP 503 Service Unavailable\n"
        "  expected: the file\n  next: run the same command again when the server or the network is well"
    )
    assert len(server.ranges) == 4


@pytest.mark.parametrize(
    ("code", "kind"), [(404, NotThere), (410, NotThere), (403, FetchError), (401, FetchError), (400, FetchError)]
)
def test_what_no_other_try_changes(code: int, kind: type[FetchError], server: Server):
    server.script = [status(code)]
    with pytest.raises(kind) as error:
        read(server)
    assert type(error.value) is kind
    assert error.value.got.startswith(f"HTTP {code}")
    assert len(server.ranges) == 1


def test_a_body_that_is_cut(server: Server, tmp_path: Path):
    server.script = [lambda handler: honest(handler, server, cut=1000)] * 2
    assert read(server) == CONTENT
    file = web_file(server.url, patience=HASTY)
    server.ranges.clear()
    server.script = [lambda handler: honest(handler, server, cut=200_000)] * 3
    download_web(file, tmp_path / "a", patience=HASTY)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=200000-", "bytes=400000-", "bytes=600000-"], "it goes on where the connection broke"


def test_a_body_that_stops(server: Server):
    def stalls(handler: BaseHTTPRequestHandler) -> None:
        honest(handler, server, cut=1000)
        time.sleep(1.2)

    server.script = [stalls]
    assert read(server, patience=replace(HASTY, timeout_seconds=0.5)) == CONTENT


def test_a_body_that_only_drips(server: Server):
    def drips(handler: BaseHTTPRequestHandler) -> None:
        honest(handler, server, cut=0)
        for _ in range(60):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    server.script = [drips] * 9
    began = time.monotonic()
    with pytest.raises(FetchError, match=r"only .* bytes in"):
        read(server, patience=Patience(timeout_seconds=0.5, max_tries=2, pause_seconds=0.01))
    assert time.monotonic() - began < 10


def test_a_server_that_ignores_ranges(server: Server, tmp_path: Path):
    def whole(handler: BaseHTTPRequestHandler) -> None:
        handler.headers.replace_header("Range", "") if "Range" in handler.headers else None
        honest(handler, server)

    server.script = [whole]
    file = web_file(server.url, patience=HASTY)
    assert file.num_bytes == len(CONTENT)
    server.script = [lambda handler: honest(handler, server, cut=500_000), whole]
    download_web(file, tmp_path / "a", patience=HASTY)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_that_changes_while_it_is_read(server: Server, tmp_path: Path):
    file = web_file(server.url, patience=HASTY)
    server.script = [lambda handler: honest(handler, server, cut=500_000), lambda handler: honest(handler, server, etag='"two"')]
    with pytest.raises(FetchError, match="changed while it was read"):
        download_web(file, tmp_path / "a", patience=HASTY)
    server.content = CONTENT + b"more"
    with pytest.raises(FetchError, match="changed while it was read"):
        download_web(file, tmp_path / "a", patience=HASTY)


def test_more_bytes_than_an_image_has(server: Server):
    with pytest.raises(ImageError, match="too many bytes"):
        read(server, max_bytes=1000)

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(100_000))

    server.script = [endless]
    with pytest.raises(ImageError, match="too many bytes"):
        read(server)


def test_a_size_that_is_not_told(server: Server):
    def without(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"abc")

    server.script = [without]
    with pytest.raises(FetchError, match="does not tell the size"):
        web_file(server.url, patience=HASTY)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "gopher://127.0.0.1/", "unix:/x"])
def test_a_redirect_that_leaves_the_web(target: str, server: Server):
    server.script = [status(302, Location=target)]
    with pytest.raises(FetchError) as error:
        read(server)
    assert "passwd" not in error.value.what
    assert len(server.ranges) == 1


def test_redirects(server: Server):
    server.script = [status(302, Location="/b"), status(307, Location=server.url)]
    assert read(server) == CONTENT
    server.script = [status(302, Location=server.url)] * 50
    with pytest.raises(FetchError):
        read(server)


def test_a_server_that_is_none():
    began = time.monotonic()
    with pytest.raises(FetchError, match="4 times in a row"):
        read_web("http://127.0.0.1:9/a.jpg", max_bytes=10, patience=HASTY)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b/", "https://x\ny/", "http://127.0.0.1:99999/a"])
def test_what_is_no_address(url: str):
    with pytest.raises(FetchError):
        read_web(url, max_bytes=10, patience=Patience(max_tries=1, timeout_seconds=0.5))


def test_pauses_grow_to_a_limit_and_are_random():
    patience = Patience(pause_seconds=1, max_pause_seconds=8)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        pauses = {patience.pause(failures) for _ in range(20)}
        assert len(pauses) > 1
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest
    assert patience.pause(1, at_least=99) == 8


# ---- stores ----


@pytest.fixture
def store() -> Iterator[str]:
    import fsspec

    system: Any = fsspec.filesystem("memory")
    yield "memory://bucket/"
    system.store.clear()


def test_a_store(store: str, tmp_path: Path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert files_below(store + "folder/") == []
    for name in ("b.tar", "deep er/ü.zip", "a.tar"):
        put_file(f"{store}folder/{name}", tmp_path / "a")
    below = files_below(store + "folder/")
    assert [file.address for file in below] == [f"{store}folder/{name}" for name in ("a.tar", "b.tar", "deep er/ü.zip")]
    assert {file.num_bytes for file in below} == {len(CONTENT)}
    assert replace(store_file(below[0].address) or below[1], version="") == replace(below[0], version="")
    assert store_file(store + "folder") is None
    assert read_store(below[0].address, start=5, stop=9) == CONTENT[5:9]
    download_store(below[0], tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == CONTENT
    with pytest.raises(NotThere):
        store_file(store + "nothing")
    with pytest.raises(ImageError, match="too many bytes"):
        read_store_image(below[0].address, max_bytes=10)
    with pytest.raises(NotThere):
        read_store_image(store + "folder", max_bytes=10)


class Answer(Exception):
    def __init__(self, status: int):
        super().__init__(f"answer {status}")
        self.status = status


class EndpointConnectionError(Exception):
    """As botocore's, which is no OSError."""


FAILURES = {
    "no connection": (EndpointConnectionError("could not connect"), True),
    "503": (Answer(503), True), "timeout": (TimeoutError("slow"), True), "reset": (ConnectionResetError("reset"), True),
    "an error of the system": (OSError(5, "I/O"), True), "403": (Answer(403), False), "denied": (PermissionError("no"), False),
    "404": (FileNotFoundError("x"), False), "400": (Answer(400), False), "a fault of its own": (KeyError("x"), False),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_a_store_that_fails_twice(case: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fsspec.implementations.memory import MemoryFileSystem

    error, is_tried_again = FAILURES[case]
    (tmp_path / "a").write_bytes(CONTENT)
    put_file(store + "a.tar", tmp_path / "a")
    left = [error, error]
    for name in ("cat_file", "pipe_file"):
        own = getattr(MemoryFileSystem, name)

        def failing(self: Any, *arguments: Any, own: Any = own, **options: Any) -> Any:
            if left:
                raise left.pop()
            return own(self, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, name, failing)
    for work in (
        lambda: read_store(store + "a.tar", patience=HASTY),
        lambda: put_file(store + "a.tar", tmp_path / "a", patience=HASTY),
    ):
        left[:] = [error, error]
        if is_tried_again:
            work()
            assert left == []
        else:
            with pytest.raises(FetchError) as caught:
                work()
            assert len(left) == 1
            assert (type(caught.value) is NotThere) == (case == "404")
    left.clear()
    assert read_store(store + "a.tar") == CONTENT


def test_a_range_that_comes_short(store: str, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    put_file(store + "a", tmp_path / "a")
    with pytest.raises(FetchError, match="times in a row"):
        read_store(store + "a", start=0, stop=9, patience=HASTY)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_package_that_is_missing(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as error:
        store_file(f"{scheme}://bucket/a.tar")
    assert str(error.value) == (
        f"addresses of {scheme}:// need the package {package}, which is not installed\n  next: pip install {package}"
    )


# ---- addresses ----


def test_which_text_is_an_address():
    assert [is_address(text) for text in ("s3://a/b", "https://a/b", "a/b", "C://x", "file:///a", "://x", "a b://x", "-")] == [
        True, True, False, False, False, False, False, False,
    ]  # fmt: skip
    assert as_path("file:///a%20b/c") == "/a b/c"
    assert as_path("a%20b") == "a%20b"
    for text in ("ftp://a/b", "simplecache::s3://a/b", "reference://x", "hdfs://a"):
        if "::" in text:
            assert not is_address(text), "chains of systems are names of files"
            continue
        with pytest.raises(UsageError, match="addresses of this kind are not read"):
            is_address(text)
    assert (name_at("https://a/b/c.JPG?x=/d.tar#e"), suffix_at("https://a/b/c.JPG?x=/d.tar#e")) == ("c.JPG", ".jpg")
    assert (name_at("s3://a/b?c.tar"), suffix_at("s3://a/b?c.tar")) == ("b?c.tar", ".tar")
