"""One request for a file at an http or https address, bounded in time.

A redirect leads to http or https alone, and never from https to http.
"""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO
from urllib.parse import urlsplit

from polytag.download.retries import BUSY, PATIENCE, Interrupted, NotThere, Patience, with_retries
from polytag.errors import FetchError

_CHUNK_BYTES = 1 << 18
_MAX_REDIRECTS = 5
_WINDOW_SECONDS, _WINDOW_BYTES = 60.0, 1 << 16
"""A body that brings fewer bytes in so many seconds is given up, and asked for again."""


class NoSuchRange(Exception):
    """The file has no such bytes; `total` is its size, as the server writes it, or ""."""

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
def opened(url: str, headers: dict[str, str], patience: Patience) -> Generator[HTTPResponse]:
    """The response to one request with these headers.

    Raises Interrupted where another request may succeed, also for what breaks while it is read; NoSuchRange, NotThere, and
    FetchError for anything else.
    """
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("not http or https")
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
        return NoSuchRange(error.headers)
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


def body(response: HTTPResponse, patience: Patience = PATIENCE) -> Generator[bytes]:
    """The parts of a response's body as they arrive; raises Interrupted where next to nothing comes."""
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


def content_length(response: HTTPResponse) -> int | None:
    """The announced number of bytes, or None."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


# ---- a whole content ----


class TooLarge(FetchError):
    """A file has more bytes than the caller takes."""


def read_content(
    url: str,
    *,
    max_bytes: int,
    patience: Patience = PATIENCE,
    on_progress: Callable[[int], None] = lambda num_bytes: None,
) -> bytes:
    """The content of a file, tried again where a connection breaks. Raises NotThere, TooLarge for more bytes, and FetchError.

    `on_progress` receives the number of bytes that have arrived.
    """

    def read() -> bytes:
        with opened(url, {}, patience) as response:
            length = content_length(response)
            if length is not None and length > max_bytes:
                raise _too_large(url, f"{length:,} bytes", max_bytes)
            content = bytearray()
            for part in body(response, patience):
                content += part
                if len(content) > max_bytes:
                    raise _too_large(url, f"more than {max_bytes:,} bytes", max_bytes)
                on_progress(len(content))
            if length is not None and len(content) < length:
                raise Interrupted(f"the connection ended after {len(content):,} of {length:,} bytes")
            return bytes(content)

    return with_retries(read, where=url, patience=patience)


def _too_large(url: str, got: str, max_bytes: int) -> TooLarge:
    return TooLarge("the file has too many bytes", where=url, got=got, expected=f"at most {max_bytes:,} bytes")
