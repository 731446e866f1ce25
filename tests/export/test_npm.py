"""A package of npm comes from a registry with the bytes that are pinned, once, or an error says what to put where."""

import base64
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from polytag.download import retries
from polytag.errors import FetchError, UsageError
from polytag.export.export import export_model
from polytag.export.npm import ONNXRUNTIME_WEB, Package, cached_place, files_of
from polytag.export.npm import registry as registry_address
from polytag.models.checkpoint import Checkpoint


def tarball(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, each in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(each)
            archive.addfile(member, io.BytesIO(each))
    return content.getvalue()


CONTENT = tarball({"dist/a.js": b"let a;", "dist/b.wasm": b"\0asm", "README.md": b"text"})
PACKAGE = Package(
    name="small",
    version="1.2.3",
    integrity="sha512-" + base64.b64encode(hashlib.sha512(CONTENT).digest()).decode(),
    num_bytes=len(CONTENT),
)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A registry at this machine, and an empty cache. `answer` is the status, the body and its announced length."""

    class Handler(BaseHTTPRequestHandler):
        answer = (200, CONTENT, len(CONTENT))
        asked: list[str] = []  # noqa: RUF012

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.asked.append(self.path)
            status, body, length = self.answer
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # a client that goes away at the byte that is too many
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/")
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path))
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: None)
    yield Handler
    server.shutdown()
    server.server_close()


def test_it_is_fetched_once(registry: Any):
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        found = files_of(PACKAGE, ("dist/a.js", "dist/b.wasm"), on_progress=lambda done, total: seen.append((done, total)))
        assert found == {"dist/a.js": b"let a;", "dist/b.wasm": b"\0asm"}
    assert registry.asked == ["/small/-/small-1.2.3.tgz"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    cached_place(PACKAGE).write_bytes(b"damaged")
    assert files_of(PACKAGE, ("dist/a.js",)) == {"dist/a.js": b"let a;"}
    assert len(registry.asked) == 2


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ((404, b"", 0), "HTTP 404"),
        ((503, b"", 0), "HTTP 503"),
        ((200, CONTENT[:-1] + b"x", len(CONTENT)), "sha512-"),
        ((200, CONTENT[:50], len(CONTENT)), "ended after 50 of"),
        ((200, CONTENT + b"x" * 10_000_000, len(CONTENT) + 10_000_000), f"{len(CONTENT) + 10_000_000:,} bytes"),
        ((200, b"<html>", 6), "6 bytes"),
    ],
)
def test_another_file_is_an_error_and_is_not_kept(registry: Any, answer: tuple[int, bytes, int], got: str):
    registry.answer = answer
    with pytest.raises(FetchError) as caught:
        files_of(PACKAGE, ("dist/a.js",))
    assert got in caught.value.got
    assert str(cached_place(PACKAGE)) in caught.value.next_step
    assert "small-1.2.3.tgz" in caught.value.where
    assert not cached_place(PACKAGE).exists()


def test_without_a_network_a_file_put_there_by_hand_is_taken(registry: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="cannot be fetched from the npm registry"):
        files_of(PACKAGE, ("dist/a.js",))
    cached_place(PACKAGE).parent.mkdir(parents=True)
    cached_place(PACKAGE).write_bytes(CONTENT)
    assert files_of(PACKAGE, ("dist/a.js",)) == {"dist/a.js": b"let a;"}
    assert registry.asked == []


def test_only_the_web_is_a_registry(registry: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "small" / "-").mkdir(parents=True)
    (tmp_path / "small" / "-" / PACKAGE.file_name).write_bytes(CONTENT)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", tmp_path.as_uri())
    with pytest.raises(FetchError, match="not http or https"):
        files_of(PACKAGE, ("dist/a.js",))


def test_an_export_that_cannot_get_it_writes_nothing(registry: Any, checkpoint: Checkpoint, tmp_path: Path):
    registry.answer = (404, b"", 0)
    with pytest.raises(FetchError, match=f"onnxruntime-web {ONNXRUNTIME_WEB.version}"):
        export_model(checkpoint, tmp_path / "out", web=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="--web"):
        export_model(checkpoint, tmp_path / "out", to=["openvino"], web=True)


@pytest.mark.skipif(os.name == "nt", reason="npm is a shell script here")
def test_the_registry_is_the_one_that_npm_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\n[ \"$*\" = 'config get registry' ] && echo http://127.0.0.1:9/mirror/\n")
    npm.chmod(0o755)
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    assert registry_address() == "http://127.0.0.1:9/mirror"
    npm.write_bytes(b"no program")
    assert registry_address() == ""
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(FetchError, match="npm names no registry, and NPM_CONFIG_REGISTRY is not set"):
        files_of(PACKAGE, ("dist/a.js",))
