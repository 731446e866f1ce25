"""Files of object stores, through fsspec: s3://, gs://, az:// and abfs://; memory:// in tests.

Who may read and write, and where the store is, stands in the environment, as the store's own tools have it
(AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME and so on).
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from polytag.data.remote.remote_file import RemoteFile
from polytag.download.retries import BUSY, PATIENCE, Interrupted, NotThere, Patience, with_retries
from polytag.errors import FetchError, ImageError, MissingExtraError, PolytagError
from polytag.files import saving

T = TypeVar("T")
PACKAGE_OF = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "memory": "fsspec"}
"""The package that reads and writes at the addresses of a scheme."""

_CHUNK_BYTES = 8 << 20
_MAX_LISTED = 10_000_000
_VERSION_KEYS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "content_md5",
    "last_modified",
    "LastModified",
    "updated",
    "mtime",
    "created",
)


def store_file(address: str, *, patience: Patience = PATIENCE) -> RemoteFile | None:
    """Size and version of a file; None for a folder. Raises NotThere and FetchError."""
    info = _call(address, lambda system, path: system.info(path), patience)
    return None if info.get("type") == "directory" else _file_of(address, info)


def files_below(address: str, *, patience: Patience = PATIENCE) -> list[RemoteFile]:
    """The files below a folder, by address; none where there is no such folder. Raises FetchError."""
    base = address.rstrip("/")
    try:
        found = _call(address, lambda system, path: (system.find(path, detail=True), path), patience)
    except NotThere:
        return []
    infos, root = found
    if len(infos) > _MAX_LISTED:
        raise FetchError(
            "a folder of a store has too many files", where=address, got=f"{len(infos):,}", expected=f"{_MAX_LISTED:,}"
        )
    files = [(path.removeprefix(root.rstrip("/")).lstrip("/"), info) for path, info in infos.items()]
    return [_file_of(f"{base}/{name}", info) for name, info in sorted(files, key=lambda each: each[0]) if name]


def read_store(address: str, *, start: int | None = None, stop: int | None = None, patience: Patience = PATIENCE) -> bytes:
    """A range of a file, or all of it. Raises NotThere and FetchError."""

    def read(system: Any, path: str) -> bytes:
        content = system.cat_file(path, start=start, end=stop)
        if start is not None and stop is not None and len(content) != stop - start:
            raise Interrupted(f"{len(content):,} of {stop - start:,} bytes")
        return content

    return _call(address, read, patience)


def read_store_image(address: str, *, max_bytes: int, patience: Patience = PATIENCE) -> bytes:
    """The content of a file. Raises NotThere, ImageError for more bytes, and FetchError."""
    file = store_file(address, patience=patience)
    if file is None:
        raise NotThere("there is no file at this address", where=address, got="a folder", expected="a file")
    if file.num_bytes > max_bytes:
        got = f"{file.num_bytes:,} bytes"
        raise ImageError("the image has too many bytes", where=address, got=got, expected=f"at most {max_bytes:,} bytes")
    return read_store(address, start=0, stop=file.num_bytes, patience=patience) if file.num_bytes else b""


def download_store(file: RemoteFile, path: Path, *, patience: Patience = PATIENCE) -> None:
    """Write a file to the disk, range by range. Raises FetchError, and RunError for a full disk."""
    with saving(path), open(path, "wb") as out:
        for start in range(0, file.num_bytes, _CHUNK_BYTES):
            stop = min(start + _CHUNK_BYTES, file.num_bytes)
            out.write(read_store(file.address, start=start, stop=stop, patience=patience))


def put_file(address: str, path: Path, *, patience: Patience = PATIENCE) -> None:
    """Write a local file to a store in one request, or in parts that appear together. Raises FetchError."""
    content = path.read_bytes()
    _call(address, lambda system, target: system.pipe_file(target, content), patience)


def _file_of(address: str, info: dict[str, Any]) -> RemoteFile:
    found = next((info[key] for key in _VERSION_KEYS if info.get(key)), "")
    version = found.isoformat() if isinstance(found, datetime) else str(found)
    return RemoteFile(address=address, num_bytes=int(info.get("size") or 0), version=version)


def _call(address: str, work: Callable[[Any, str], T], patience: Patience) -> T:
    scheme = address.partition("://")[0]
    system = _system(scheme, address)

    def attempt() -> T:
        try:
            system.invalidate_cache()
            return work(system, system._strip_protocol(address))
        except (Interrupted, PolytagError):
            raise
        except Exception as error:  # each store's package has exceptions of its own
            raise _explained(error, address) from error

    return with_retries(attempt, where=address, patience=patience)


def _system(scheme: str, address: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        package = PACKAGE_OF[scheme]
        raise MissingExtraError(
            f"addresses of {scheme}:// need the package {package}, which is not installed", next_step=f"pip install {package}"
        ) from error
    except Exception as error:  # such as a missing name of the account
        raise FetchError(
            "a store cannot be used", where=address, got=_first_line(error), next_step="check its environment"
        ) from error


def _explained(error: Exception, address: str) -> Exception:
    """Interrupted where another try may succeed, NotThere, or FetchError."""
    if isinstance(error, FileNotFoundError):
        return NotThere("there is no file at this address", where=address, got=_first_line(error), expected="a file")
    status = next((code for name in ("status", "status_code", "code") if isinstance(code := getattr(error, name, None), int)), 0)
    is_denied = isinstance(error, PermissionError) or status in (401, 403)
    if is_denied or "credentials" in type(error).__name__.lower():
        return FetchError(
            "a store does not allow this",
            where=address,
            got=_first_line(error),
            expected="permission",
            next_step="check the credentials in the environment",
        )
    is_of_network = isinstance(error, OSError) or any(word in type(error).__name__ for word in ("Connect", "Timeout"))
    if status in BUSY or (is_of_network and not status):  # botocore's and azure's errors of the network are no OSError
        return Interrupted(_first_line(error))
    return FetchError("a store does not answer as it should", where=address, got=_first_line(error), expected="the file")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
