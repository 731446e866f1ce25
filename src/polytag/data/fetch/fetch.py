"""Pascal VOC from its official address: resumed where it broke off, checked, and unpacked without trusting the archive.

Nothing appears under its final name before it is whole: a download is `NAME.part` until its size and checksum are right, and the
archives are unpacked into a hidden folder that is renamed at the end. Standard library only.
"""

import hashlib
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from polytag.data.fetch.unpack import unpack
from polytag.errors import FetchError, UsageError

_CHUNK_BYTES = 1 << 18
_PROGRESS_BYTES = 1 << 20
_MAX_PAUSE_SECONDS = 30.0

OnProgress = Callable[[str, int, int], None]
"""Told (what is being done, bytes done, bytes in all): the first argument is a phrase such as "downloading NAME"."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One tar file: its path below the base address, and what it must be."""

    path: str
    num_bytes: int
    md5: str
    max_members: int = 200_000

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True, kw_only=True)
class Release:
    """Archives that make one data set when unpacked over each other.

    folder     the part of the archives that is kept, and what `fetch` returns: "VOCdevkit/VOC2012"
    base_urls  tried in turn where one cannot be reached
    """

    folder: str
    base_urls: tuple[str, ...]
    archives: tuple[Archive, ...]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to insist: a silent connection is given up, and failures in a row that brought under 1 MiB are counted.

    The pause before each new try doubles from `pause_seconds` up to half a minute.
    """

    timeout_seconds: float = 30.0
    max_tries: int = 6
    pause_seconds: float = 1.0


_OFFICIAL = ("https://thor.robots.ox.ac.uk/pascal/VOC", "http://host.robots.ox.ac.uk/pascal/VOC")  # the second names the first
RELEASES: Mapping[str, Release] = {  # sizes as the server states them, MD5 as in torchvision/datasets/voc.py
    "voc2007": Release(
        folder="VOCdevkit/VOC2007",
        base_urls=_OFFICIAL,
        archives=(
            Archive(path="voc2007/VOCtrainval_06-Nov-2007.tar", num_bytes=460_032_000, md5="c52e279531787c972589f7e41ab4ae64"),
            Archive(path="voc2007/VOCtest_06-Nov-2007.tar", num_bytes=451_020_800, md5="b6e924de25625d8de591ea690078ad9f"),
        ),
    ),
    "voc2012": Release(
        folder="VOCdevkit/VOC2012",
        base_urls=_OFFICIAL,
        archives=(
            Archive(path="voc2012/VOCtrainval_11-May-2012.tar", num_bytes=1_999_639_040, md5="6cd6e144f989b92b3379bac3b3de84fd"),
        ),
    ),
}


def fetch(
    name: str,
    folder: Path | str,
    *,
    base_url: str | None = None,
    releases: Mapping[str, Release] = RELEASES,
    on_progress: OnProgress = lambda _what, _done, _total: None,
    patience: Patience = Patience(),
) -> Path:
    """Download and unpack `name` ("voc2007" or "voc2012") below `folder`; return the folder to train on.

    Where that folder is there already, nothing is done. `base_url` names a mirror that has the same paths. A connection that
    breaks is taken up where it stopped; a later call goes on from what an earlier one left. An archive that lies in `folder`
    under its own name is used and kept; downloads are removed once they are unpacked.

    Raises UsageError for an unknown name or an address that is not http(s), and FetchError for anything that keeps the data
    from arriving whole and true: no connection, a wrong size or checksum, an unsafe archive, too little space, a folder that
    another call is fetching into.
    """
    folder = Path(folder)
    if name not in releases:
        raise UsageError("unknown data set", got=repr(name), expected="one of " + ", ".join(releases))
    release = releases[name]
    bases = (base_url,) if base_url else release.base_urls
    for base in bases:
        if urlsplit(base).scheme not in ("http", "https"):
            raise UsageError("not a web address", where="base_url", got=repr(base), expected="http:// or https://")
    place = folder / release.folder
    if _is_there(place):
        return place
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder):
            if _is_there(place):  # another call has finished meanwhile
                return place
            _require_space(release, folder)
            tars = [_archive_file(archive, folder, bases, on_progress, patience) for archive in release.archives]
            _unpack_all(name, release, folder, tars, on_progress)
            for tar in tars:
                if tar.suffix == ".part":
                    tar.unlink()
    except OSError as error:
        raise FetchError(
            "the data could not be written",
            where=str(error.filename or folder),
            got=error.strerror or str(error),
            expected="a folder that can be written, with enough space",
            next_step="mend that and fetch again: the download goes on where it stopped",
        ) from error
    return place


def _is_there(place: Path) -> bool:
    if not os.path.lexists(place):
        return False
    if (place / "JPEGImages").is_dir() and (place / "ImageSets").is_dir():
        return True
    raise FetchError(
        "the place of the data is taken by something else",
        where=str(place),
        expected="no such folder, or a VOC devkit with JPEGImages and ImageSets",
        next_step="move it away, or fetch into another folder",
    )


@contextmanager
def _only_one(folder: Path) -> Generator[None]:
    """A lock on the folder that the system lifts with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two calls at once end in a wrong checksum instead
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(
                "another call is fetching into this folder",
                where=str(folder),
                next_step="wait for it, or fetch into another folder",
            ) from error
        yield
    finally:
        os.close(handle)


def _require_space(release: Release, folder: Path) -> None:
    unpacked = sum(archive.num_bytes for archive in release.archives)
    missing = sum(archive.num_bytes - _num_bytes(path) for archive in release.archives for path in [_kept(archive, folder)])
    free = shutil.disk_usage(folder).free
    if free < unpacked + missing:
        raise FetchError(
            "too little space for the download and the unpacked data",
            where=str(folder),
            got=f"{free:,} bytes free",
            expected=f"{unpacked + missing:,} bytes free",
            next_step="free some space, or fetch into a folder on another disk",
        )


def _kept(archive: Archive, folder: Path) -> Path:
    """What there is of an archive so far: whole under its name, or what was downloaded of it."""
    whole = folder / archive.name
    return whole if whole.exists() else _part(archive, folder)


def _part(archive: Archive, folder: Path) -> Path:
    return folder / (archive.name + ".part")


def _num_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# The download


class _Interrupted(Exception):
    """The connection failed or ended early: worth another try."""


def _archive_file(archive: Archive, folder: Path, bases: tuple[str, ...], on_progress: OnProgress, patience: Patience) -> Path:
    """The archive, whole and true: the one that lies in the folder, or downloaded."""
    own = folder / archive.name
    if own.exists() and _md5(own, archive, on_progress) == archive.md5:
        return own
    part = _part(archive, folder)
    for may_restart in (_num_bytes(part) > 0, False):
        _download(part, archive, bases, on_progress, patience)
        md5 = _md5(part, archive, on_progress)
        if md5 == archive.md5:
            return part
        part.unlink()
        if not may_restart:  # what an earlier call left may have been of another file: once more, from the beginning
            raise FetchError(
                "the download has a wrong checksum and was removed",
                where=archive.name,
                got=f"MD5 {md5}",
                expected=f"MD5 {archive.md5}",
                next_step="fetch again; if it stays wrong, the server holds another file: name a mirror with --base-url",
            )
    raise AssertionError("the second round returns or raises")


def _download(part: Path, archive: Archive, bases: tuple[str, ...], on_progress: OnProgress, patience: Patience) -> None:
    """Fill the part up to its full size, over as many connections as it takes."""
    num_failures = 0
    etags: dict[str, str] = {}
    while _num_bytes(part) != archive.num_bytes:
        base = bases[num_failures % len(bases)]
        url = f"{base.rstrip('/')}/{archive.path}"
        before = _num_bytes(part)
        try:
            _one_connection(url, part, archive, etags, on_progress, patience.timeout_seconds)
        except FetchError:
            if len(bases) == 1:
                raise
            bases = tuple(other for other in bases if other != base)
        except _Interrupted as error:
            num_failures = 0 if _num_bytes(part) - before >= _PROGRESS_BYTES else num_failures + 1
            if num_failures >= patience.max_tries:
                raise FetchError(
                    f"the download failed {num_failures} times in a row",
                    where=url,
                    got=str(error),
                    expected=f"{archive.num_bytes:,} bytes, of which {_num_bytes(part):,} have arrived",
                    next_step="look at the network and fetch again: it goes on where it stopped",
                ) from error
            on_progress(f"trying again ({error})", _num_bytes(part), archive.num_bytes)
            time.sleep(min(patience.pause_seconds * 2 ** max(0, num_failures - 1), _MAX_PAUSE_SECONDS))


def _one_connection(
    url: str, part: Path, archive: Archive, etags: dict[str, str], on_progress: OnProgress, timeout_seconds: float
) -> None:
    """Append what one request brings; `etags` keeps the server's name for this version of the file, so that none are mixed."""
    start = _num_bytes(part)
    if start > archive.num_bytes:
        part.unlink()
        start = 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "polytag"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if url in etags:
            headers["If-Range"] = etags[url]
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_seconds) as response:
            if start and response.status != 206:  # the server ignores Range, or its file has changed: from the beginning
                start = 0
            _require_size(response, start, url, archive)
            etag = response.headers.get("ETag", "")
            if etag.startswith('"'):  # a weak one, W/"...", promises too little
                etags[url] = etag
            with open(part, "ab" if start else "wb") as file:
                for content in _content(response, archive.num_bytes - start):
                    file.write(content)
                    on_progress(f"downloading {archive.name}", file.tell(), archive.num_bytes)
                if file.tell() < archive.num_bytes:
                    raise _Interrupted(f"the connection ended after {file.tell():,} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there is nothing at that place: what was kept is not of this file
            part.unlink(missing_ok=True)
            raise _Interrupted("the server has no such part") from error
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Interrupted(f"HTTP {error.code} {error.reason}") from error
        raise FetchError(
            "the server does not give the archive",
            where=url,
            got=f"HTTP {error.code} {error.reason}",
            expected="the file",
            next_step="look at the address, or name a mirror with --base-url",
        ) from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _Interrupted(str(reason) or type(reason).__name__) from error


def _content(response: HTTPResponse, num_bytes: int) -> Iterator[bytes]:
    """The body, never more than was agreed; an error of the network is kept apart from one of the disk."""
    while num_bytes > 0:
        try:
            content = response.read(min(_CHUNK_BYTES, num_bytes))
        except (OSError, HTTPException) as error:
            raise _Interrupted(str(error) or type(error).__name__) from error
        if not content:
            return
        num_bytes -= len(content)
        yield content


def _require_size(response: HTTPResponse, start: int, url: str, archive: Archive) -> None:
    """FetchError where the server announces another size than the archive has, such as an error page's."""
    if start:
        announced = response.headers.get("Content-Range", "")
        if announced == f"bytes {start}-{archive.num_bytes - 1}/{archive.num_bytes}":
            return
    else:
        announced = response.headers.get("Content-Length", "")
        if announced in ("", str(archive.num_bytes)):  # without a length the checksum decides
            return
        announced += " bytes"
    raise FetchError(
        "the server holds another file",
        where=url,
        got=announced or "an answer without Content-Range",
        expected=f"{archive.num_bytes} bytes",
        next_step="look at the address, or name a mirror with --base-url",
    )


def _md5(path: Path, archive: Archive, on_progress: OnProgress) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while content := file.read(_CHUNK_BYTES):
            digest.update(content)
            on_progress(f"checking {archive.name}", file.tell(), archive.num_bytes)
    return digest.hexdigest()


def _unpack_all(name: str, release: Release, folder: Path, tars: list[Path], on_progress: OnProgress) -> None:
    """Unpack into a hidden sibling and rename."""
    fresh = folder / f".{name}.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    try:
        fresh.mkdir()
        for archive, tar in zip(release.archives, tars, strict=True):
            told = partial(on_progress, f"unpacking {archive.name}")
            unpack(tar, fresh, keep=release.folder, max_members=archive.max_members, on_progress=told)
        place = folder / release.folder
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(fresh / release.folder, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
