"""Download of Pascal VOC from its official address: resumable, checked, and safe against malicious archives.

Files get their final name when they are complete: a download is `NAME.part` until its size and checksum are right, and archives are
unpacked into a hidden folder that is renamed at the end. Standard library only.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from polytag.data.fetch.unpack import unpack
from polytag.download.requests import NoSuchRange, body, opened
from polytag.download.retries import PATIENCE, Interrupted, Patience, with_retries
from polytag.errors import FetchError, UsageError
from polytag.files import temporary_folder

_CHUNK_BYTES = 1 << 18

OnProgress = Callable[[str, int, int], None]
"""Receives a phrase such as "downloading NAME", the bytes done and the total bytes."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One tar file: its path below the base address, its size and its checksum."""

    path: str
    num_bytes: int
    md5: str
    max_members: int = 200_000

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True, kw_only=True)
class Release:
    """The archives of one data set, which are unpacked into one folder.

    folder     the extracted part of the archives, which `fetch` returns: "VOCdevkit/VOC2012"
    base_urls  addresses, tried in turn
    """

    folder: str
    base_urls: tuple[str, ...]
    archives: tuple[Archive, ...]


_OFFICIAL = (
    "https://thor.robots.ox.ac.uk/pascal/VOC",
    "http://host.robots.ox.ac.uk/pascal/VOC",
)  # the second redirects to the first
RELEASES: Mapping[str, Release] = {  # sizes from the server, MD5 from torchvision/datasets/voc.py
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
    patience: Patience = PATIENCE,
) -> Path:
    """Download and unpack `name` ("voc2007" or "voc2012") below `folder`; returns the folder to train on.

    Does nothing where that folder exists already. `base_url` is a mirror with the same paths. Broken connections are resumed, also
    by a later call. An archive in `folder` under its own name is used and not removed; downloads are removed after unpacking.

    Raises UsageError for an unknown name or an address that is not http(s), and FetchError for a failed download: no connection, a
    wrong size or checksum, an unsafe archive, too little space, or another call that fetches into the folder.
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
            if _is_there(place):  # another call has finished
                return place
            _require_space(release, folder)
            tars = [_archive_file(archive, folder, bases, on_progress, patience) for archive in release.archives]
            _unpack_all(release, folder, tars, on_progress)
            for tar in tars:
                if tar.suffix == ".part":
                    tar.unlink()
    except OSError as error:
        raise FetchError(
            "the data could not be written",
            where=str(error.filename or folder),
            got=error.strerror or str(error),
            expected="a folder that can be written, with enough space",
            next_step="correct that and fetch again: the download resumes",
        ) from error
    return place


def _is_there(place: Path) -> bool:
    if not os.path.lexists(place):
        return False
    if (place / "JPEGImages").is_dir() and (place / "ImageSets").is_dir():
        return True
    raise FetchError(
        "the folder of the data contains something else",
        where=str(place),
        expected="no such folder, or a VOC devkit with JPEGImages and ImageSets",
        next_step="move it away, or fetch into another folder",
    )


@contextmanager
def _only_one(folder: Path) -> Generator[None]:
    """A lock on the folder, which the system releases at the end of the process."""
    try:
        import fcntl
    except ImportError:  # Windows: two simultaneous calls end in a wrong checksum
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
    missing = sum(archive.num_bytes - _num_bytes(path) for archive in release.archives for path in [_downloaded(archive, folder)])
    free = shutil.disk_usage(folder).free
    if free < unpacked + missing:
        raise FetchError(
            "too little space for the download and the unpacked data",
            where=str(folder),
            got=f"{free:,} bytes free",
            expected=f"{unpacked + missing:,} bytes free",
            next_step="free some space, or fetch into a folder on another disk",
        )


def _downloaded(archive: Archive, folder: Path) -> Path:
    """The file of an archive so far: complete under its name, or partial."""
    whole = folder / archive.name
    return whole if whole.exists() else _part(archive, folder)


def _part(archive: Archive, folder: Path) -> Path:
    return folder / (archive.name + ".part")


def _num_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# The download


def _archive_file(archive: Archive, folder: Path, bases: tuple[str, ...], on_progress: OnProgress, patience: Patience) -> Path:
    """The complete archive with the right checksum: an existing one of the folder, or downloaded."""
    existing = folder / archive.name
    if existing.exists() and _md5(existing, archive, on_progress) == archive.md5:
        return existing
    part = _part(archive, folder)
    for may_restart in (_num_bytes(part) > 0, False):
        _download(part, archive, bases, on_progress, patience)
        md5 = _md5(part, archive, on_progress)
        if md5 == archive.md5:
            return part
        part.unlink()
        if not may_restart:  # the part of an earlier call may be of another file, so the first failure restarts
            raise FetchError(
                "the download has a wrong checksum and was removed",
                where=archive.name,
                got=f"MD5 {md5}",
                expected=f"MD5 {archive.md5}",
                next_step="fetch again; if it stays wrong, the server has another file: name a mirror with --base-url",
            )
    raise AssertionError("the second round returns or raises")


def _download(part: Path, archive: Archive, bases: tuple[str, ...], on_progress: OnProgress, patience: Patience) -> None:
    """Complete the partial file, over as many connections as needed, to one server after the other."""
    urls = [f"{base.rstrip('/')}/{archive.path}" for base in bases]
    etags: dict[str, str] = {}

    def go_on() -> None:
        url = urls[0]
        urls.append(urls.pop(0))  # the next try is at the next server
        try:
            _one_connection(url, part, archive, etags, on_progress, patience)
        except FetchError as error:
            urls.remove(url)
            if not urls:
                raise _refused(error) from error
            raise Interrupted(error.got) from error
        except Interrupted as error:
            on_progress(f"retrying ({error})", _num_bytes(part), archive.num_bytes)
            raise

    if _num_bytes(part) != archive.num_bytes:
        with_retries(go_on, where=urls[0], patience=patience, progress=lambda: _num_bytes(part))


def _refused(error: FetchError) -> FetchError:
    next_step = "check the address, or name a mirror with --base-url"
    return FetchError(error.what, where=error.where, got=error.got, expected=error.expected, next_step=next_step)


def _one_connection(
    url: str, part: Path, archive: Archive, etags: dict[str, str], on_progress: OnProgress, patience: Patience
) -> None:
    """Append the response to one request; `etags` stores the server's tag of the file's version, so that versions never mix."""
    start = _num_bytes(part)
    if start > archive.num_bytes:
        part.unlink()
        start = 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and url in etags:
        headers["If-Range"] = etags[url]
    try:
        with opened(url, headers, patience) as response:
            if start and response.status != 206:  # the server ignores Range, or its file has changed: restart
                start = 0
            _require_size(response, start, url, archive)
            etag = response.headers.get("ETag", "")
            if etag.startswith('"'):  # a weak tag, W/"...", does not guarantee equal bytes
                etags[url] = etag
            with _open_part(part, append=start > 0) as file:
                for content in body(response, patience):
                    file.write(content[: archive.num_bytes - file.tell()])
                    on_progress(f"downloading {archive.name}", file.tell(), archive.num_bytes)
                    if file.tell() == archive.num_bytes:
                        return
                raise Interrupted(f"the connection ended after {file.tell():,} bytes")
    except NoSuchRange as error:  # the partial file is of another file
        part.unlink(missing_ok=True)
        raise Interrupted("the server has no such range") from error


def _open_part(part: Path, *, append: bool) -> BinaryIO:
    """The partial file for writing. Its name is fixed, so that a later call resumes; a link of that name is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(part, flags | (os.O_APPEND if append else os.O_TRUNC), 0o666), "ab" if append else "wb")


def _require_size(response: HTTPResponse, start: int, url: str, archive: Archive) -> None:
    """Raises FetchError where the server announces another size, such as that of an error page."""
    if start:
        announced = response.headers.get("Content-Range", "")
        if announced == f"bytes {start}-{archive.num_bytes - 1}/{archive.num_bytes}":
            return
    else:
        announced = response.headers.get("Content-Length", "")
        if announced in ("", str(archive.num_bytes)):  # without a length only the checksum decides
            return
        announced += " bytes"
    raise FetchError(
        "the server has another file",
        where=url,
        got=announced or "a response without Content-Range",
        expected=f"{archive.num_bytes} bytes",
    )


def _md5(path: Path, archive: Archive, on_progress: OnProgress) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while content := file.read(_CHUNK_BYTES):
            digest.update(content)
            on_progress(f"checking {archive.name}", file.tell(), archive.num_bytes)
    return digest.hexdigest()


def _unpack_all(release: Release, folder: Path, tars: list[Path], on_progress: OnProgress) -> None:
    """Unpack into a temporary folder and rename it."""
    with temporary_folder(folder) as fresh:
        for archive, tar in zip(release.archives, tars, strict=True):
            on_bytes = partial(on_progress, f"unpacking {archive.name}")
            unpack(tar, fresh, folder=release.folder, max_members=archive.max_members, on_progress=on_bytes)
        place = folder / release.folder
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(fresh / release.folder, place)
