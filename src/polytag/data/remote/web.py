"""Files at http and https addresses: ranged, bounded in size and time, and resumed where a connection breaks.

A redirect leads to http or https alone, and never from https to http.
"""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import urlsplit

from polytag.data.remote.remote_file import RemoteFile
from polytag.data.remote.retries import BUSY, PATIENCE, Interrupted, NotThere, Patience, with_retries
from polytag.errors import FetchError, ImageError
from polytag.files import saving

_CHUNK_BYTES = 1 << 18
_MAX_REDIRECTS = 5
_WINDOW_SECONDS, _WINDOW_BYTES = 60.0, 1 << 16
"""A body that brings fewer bytes in so many seconds is given up, and asked for again."""


def web_file(url: str, *, patience: Patience = PATIENCE) -> RemoteFile:
    """Size and version of a file; raises NotThere, and FetchError for one whose size the server does not tell."""

    def ask() -> RemoteFile:
        try:
            with _opened(url, {"Range": "bytes=0-0"}, patience) as response:
                text = response.headers.get("Content-Range", "") if response.status == 206 else ""
                return _file_of(url, text.rpartition("/")[2] or response.headers.get("Content-Length", ""), response.headers)
        except _NoSuchRange as error:  # as of a file of no bytes
            return _file_of(url, error.total, error.headers)

    return with_retries(ask, where=url, patience=patience)


def read_web(url: str, *, max_bytes: int, patience: Patience = PATIENCE) -> bytes:
    """The content of a file. Raises NotThere, ImageError for more bytes, and FetchError."""

    def read() -> bytes:
        with _opened(url, {}, patience) as response:
            length = _length(response)
            if length is not None and length > max_bytes:
                raise _too_large(url, f"{length:,} bytes", max_bytes)
            parts: list[bytes] = []
            num_bytes = 0
            for part in _body(response, patience):
                parts.append(part)
                num_bytes += len(part)
                if num_bytes > max_bytes:
                    raise _too_large(url, f"more than {max_bytes:,} bytes", max_bytes)
            if length is not None and num_bytes < length:
                raise Interrupted(f"the connection ended after {num_bytes:,} of {length:,} bytes")
            return b"".join(parts)

    return with_retries(read, where=url, patience=patience)


def download_web(file: RemoteFile, path: Path, *, patience: Patience = PATIENCE) -> None:
    """Write a file to the disk, over as many connections as it needs. Raises FetchError, and RunError for a full disk."""
    with saving(path), open(path, "wb") as out:

        def fetch() -> None:
            at = out.tell()
            headers = {"Range": f"bytes={at}-"} if at else {}
            if at and file.version.startswith('"'):  # a weak tag, W/"...", does not promise equal bytes
                headers["If-Range"] = file.version
            with _opened(file.address, headers, patience) as response:
                if at and response.status != 206:  # the server ignores Range, or has another file by now
                    at = out.seek(0)
                    out.truncate()
                _require_same(file, response, at)
                _copy(response, out, file.num_bytes - at, patience)
            if out.tell() < file.num_bytes:
                raise Interrupted(f"the connection ended after {out.tell():,} of {file.num_bytes:,} bytes")

        if file.num_bytes:
            with_retries(fetch, where=file.address, patience=patience, progress=out.tell)


def _copy(response: HTTPResponse, out: BinaryIO, num_bytes: int, patience: Patience) -> None:
    for part in _body(response, patience):
        out.write(part[:num_bytes])
        num_bytes -= len(part)
        if num_bytes <= 0:
            return


def _require_same(file: RemoteFile, response: HTTPResponse, at: int) -> None:
    if at:
        found = response.headers.get("Content-Range", "")
        is_same = found == f"bytes {at}-{file.num_bytes - 1}/{file.num_bytes}"
    else:
        length = _length(response)
        found = "no length" if length is None else f"{length:,} bytes"
        is_same = length in (None, file.num_bytes)
    version = _version(response.headers)
    if not is_same or (version and file.version and version != file.version):
        raise FetchError(
            "a file of the web changed while it was read",
            where=file.address,
            got=found if not is_same else f"the version {version}",
            expected=f"{file.num_bytes:,} bytes of the version {file.version or 'before'}",
            next_step="run the same command again",
        )


# ---- one request ----


class _NoSuchRange(Exception):
    def __init__(self, headers: Message):
        super().__init__("no such range")
        self.headers, self.total = headers, headers.get("Content-Range", "").rpartition("/")[2]


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            fp.close()
            raise FetchError(
                "a server redirects to an address that is not followed",
                where=req.full_url,
                got=newurl[:200],
                expected="an https address, or http after http",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # and not build_opener, which also opens file:, ftp: and data:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _opened(url: str, headers: dict[str, str], patience: Patience) -> Generator[HTTPResponse]:
    """The response to one request. Raises Interrupted where another may succeed, NotThere, _NoSuchRange, and else FetchError."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "polytag", "Accept-Encoding": "identity", **headers})
        with _opener().open(request, timeout=patience.timeout_seconds) as response:
            yield response
    except urllib.error.HTTPError as error:
        error.close()
        raise _of_status(error, url) from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise FetchError("a server's certificate is not valid", where=url, got=str(reason), expected="a valid one") from error
        raise Interrupted(str(reason) or type(reason).__name__) from error
    except (ValueError, UnicodeError) as error:
        raise FetchError("not a web address", where=url, got=str(error), expected="https://host/path") from error


def _of_status(error: urllib.error.HTTPError, url: str) -> Exception:
    got = f"HTTP {error.code} {error.reason}"
    if error.code == 416:
        return _NoSuchRange(error.headers)
    if error.code in BUSY:
        after = error.headers.get("Retry-After", "")
        return Interrupted(got, after_seconds=float(after) if after.isascii() and after.isdigit() and len(after) < 5 else 0.0)
    if error.code in (404, 410):
        return NotThere("there is no file at this address", where=url, got=got, expected="a file")
    if error.code in (401, 403):
        return FetchError(
            "a server does not let this file be read", where=url, got=got, next_step="check the address and its permissions"
        )
    return FetchError("a server does not send the file", where=url, got=got, expected="the file", next_step="check the address")


def _body(response: HTTPResponse, patience: Patience) -> Generator[bytes]:
    began, num_bytes = time.monotonic(), 0
    while True:
        part = response.read1(_CHUNK_BYTES)
        if not part:
            return
        yield part
        num_bytes += len(part)
        if time.monotonic() - began > _WINDOW_SECONDS * patience.timeout_seconds / PATIENCE.timeout_seconds:
            if num_bytes < _WINDOW_BYTES:
                raise Interrupted(f"only {num_bytes:,} bytes in {time.monotonic() - began:.0f} seconds")
            began, num_bytes = time.monotonic(), 0


def _length(response: HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _file_of(url: str, size: str, headers: Message) -> RemoteFile:
    if not (size.isascii() and size.isdigit() and len(size) < 16):
        raise FetchError(
            "a server does not tell the size of a file",
            where=url,
            got="a response without Content-Length",
            expected="a size",
            next_step="download the file and give the copy",
        )
    return RemoteFile(address=url, num_bytes=int(size), version=_version(headers))


def _version(headers: Message) -> str:
    return headers.get("ETag", "") or headers.get("Last-Modified", "")


def _too_large(url: str, got: str, max_bytes: int) -> ImageError:
    return ImageError("the image has too many bytes", where=url, got=got, expected=f"at most {max_bytes:,} bytes")
