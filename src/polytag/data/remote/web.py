"""Files at http and https addresses: their size and version, their content, and downloads that are resumed."""

from email.message import Message
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO

from polytag.data.remote.remote_file import RemoteFile
from polytag.download.requests import NoSuchRange, TooLarge, body, content_length, opened, read_content
from polytag.download.retries import PATIENCE, Interrupted, Patience, with_retries
from polytag.errors import FetchError, ImageError
from polytag.files import saving


def web_file(url: str, *, patience: Patience = PATIENCE) -> RemoteFile:
    """Size and version of a file; raises NotThere, and FetchError for one whose size the server does not tell."""

    def ask() -> RemoteFile:
        try:
            with opened(url, {"Range": "bytes=0-0"}, patience) as response:
                text = response.headers.get("Content-Range", "") if response.status == 206 else ""
                return _file_of(url, text.rpartition("/")[2] or response.headers.get("Content-Length", ""), response.headers)
        except NoSuchRange as error:  # as of a file of no bytes
            return _file_of(url, error.total, error.headers)

    return with_retries(ask, where=url, patience=patience)


def read_web(url: str, *, max_bytes: int, patience: Patience = PATIENCE) -> bytes:
    """The content of an image. Raises NotThere, ImageError for more bytes, and FetchError."""
    try:
        return read_content(url, max_bytes=max_bytes, patience=patience)
    except TooLarge as error:
        raise ImageError("the image has too many bytes", where=url, got=error.got, expected=error.expected) from error


def download_web(file: RemoteFile, path: Path, *, patience: Patience = PATIENCE) -> None:
    """Write a file to the disk, over as many connections as it needs. Raises FetchError, and RunError for a full disk."""
    with saving(path), open(path, "wb") as out:

        def fetch() -> None:
            at = out.tell()
            headers = {"Range": f"bytes={at}-"} if at else {}
            if at and file.version.startswith('"'):  # a weak tag, W/"...", does not promise equal bytes
                headers["If-Range"] = file.version
            with opened(file.address, headers, patience) as response:
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
    for part in body(response, patience):
        out.write(part[:num_bytes])
        num_bytes -= len(part)
        if num_bytes <= 0:
            return


def _require_same(file: RemoteFile, response: HTTPResponse, at: int) -> None:
    if at:
        found = response.headers.get("Content-Range", "")
        is_same = found == f"bytes {at}-{file.num_bytes - 1}/{file.num_bytes}"
    else:
        length = content_length(response)
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
