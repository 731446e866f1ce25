"""Fetching against a server that misbehaves, and unpacking archives that mean harm. Nothing here leaves this machine."""

import hashlib
import importlib.util
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from polytag.data.fetch.fetch import RELEASES, Archive, Release, fetch
from polytag.data.fetch.unpack import unpack
from polytag.download.retries import Patience
from polytag.errors import FetchError, UsageError

QUICK = Patience(timeout_seconds=2.0, max_tries=3, pause_seconds=0.0)


def tar_of(members: list[tuple[tarfile.TarInfo | str, bytes]]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if isinstance(member, str):
                info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


IMAGES = {f"VOCdevkit/VOC2012/JPEGImages/{i:03}.jpg": os.urandom(3000) for i in range(40)}
LISTS = {"VOCdevkit/VOC2012/ImageSets/Main/train.txt": b"000\n", "VOCdevkit/VOC2012/Annotations/000.xml": b"<annotation/>"}
DEVKIT = tar_of([(special("VOCdevkit", tarfile.DIRTYPE), b""), *IMAGES.items(), *LISTS.items(), ("VOCdevkit/readme.txt", b"x")])


@dataclass
class Server:
    """What is served and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: int | None = None  # bytes a connection brings before it is cut
    num_breaks: int = 10**9  # connections that are cut
    honours_range: bool = True
    states_length: bool = True
    statuses: list[int] = field(default_factory=list)  # answered before anything else
    etag: str = '"v1"'
    after_break: Callable[[], None] = lambda: None
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # (path, Range, If-Range)
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            state.requests.append((self.path, asked, condition))
            self.close_connection = True
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if asked and state.honours_range and condition in (None, state.etag):
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("ETag", state.etag)
            self.send_header("Connection", "close")
            if state.states_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if state.break_after is not None and state.num_breaks > 0:
                state.num_breaks -= 1
                body = body[: state.break_after]
                state.after_break()
            self.wfile.write(body)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def release(server: Server, *contents: bytes, **changes: object) -> dict[str, Release]:
    """A table of one data set, served under its official path."""
    archives = []
    for number, content in enumerate(contents):
        server.files[f"/voc2012/part{number}.tar"] = content
        archive = Archive(path=f"voc2012/part{number}.tar", num_bytes=len(content), md5=hashlib.md5(content).hexdigest())
        archives.append(replace(archive, **changes))
    return {"voc2012": Release(folder="VOCdevkit/VOC2012", base_urls=(server.url,), archives=tuple(archives))}


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_fetched(place: Path, folder: Path) -> None:
    """The devkit, whole, and nothing beside it."""
    assert place == folder / "VOCdevkit" / "VOC2012"
    assert tree(folder) == {**IMAGES, **LISTS}
    assert sorted(path.name for path in folder.iterdir()) == ["VOCdevkit"]


def test_the_official_table():
    """Sizes and MD5 sums as torchvision and the VOC pages state them."""
    for name, year in (("voc2007", "VOC2007"), ("voc2012", "VOC2012")):
        official = RELEASES[name]
        assert official.folder == f"VOCdevkit/{year}"
        for base in official.base_urls:
            assert re.fullmatch(r"https?://(host|thor)\.robots\.ox\.ac\.uk/pascal/VOC", base)
    package = importlib.util.find_spec("torchvision")  # read, not imported: that takes seconds
    assert package is not None
    table = (Path(package.origin).parent / "datasets" / "voc.py").read_text()
    archives = "VOC(?:trainval_11-May-2012|trainval_06-Nov-2007|test_06-Nov-2007).tar"
    known = set(re.findall(rf'"url": ".*/pascal/VOC/(.*{archives})"', table))
    assert {
        archive.path for official in RELEASES.values() for archive in official.archives
    } == known  # versions name different hosts
    for official in RELEASES.values():
        for archive in official.archives:
            assert re.search(rf'{archive.name}",\s*"md5": "{archive.md5}"', table)


def test_fetch(server, tmp_path):
    told: list[tuple[str, int, int]] = []
    releases = release(server, DEVKIT)
    place = fetch("voc2012", tmp_path / "new" / "data", releases=releases, on_progress=lambda *parts: told.append(parts))
    assert_fetched(place, tmp_path / "new" / "data")
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "downloading part0.tar",
        "checking part0.tar",
        "unpacking part0.tar",
    ]
    for what in {what for what, _, _ in told}:
        done = [done for told_of, done, _ in told if told_of == what]
        assert done == sorted(done)
        assert done[-1] <= len(DEVKIT)


def test_a_second_call_does_nothing(server, tmp_path):
    releases = release(server, DEVKIT)
    first = fetch("voc2012", tmp_path, releases=releases)
    num_requests = len(server.requests)
    assert fetch("voc2012", tmp_path, releases=releases) == first
    assert len(server.requests) == num_requests


def test_two_archives_make_one_folder_and_another_year_beside_it_stays(server, tmp_path):
    (tmp_path / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    parts = list(IMAGES.items())
    halves = tar_of(parts[:20] + list(LISTS.items())), tar_of(parts[20:] + list(LISTS.items()))
    fetch("voc2012", tmp_path, releases=release(server, *halves))
    assert tree(tmp_path) == {**IMAGES, **LISTS}
    assert (tmp_path / "VOCdevkit" / "VOC2007").is_dir()


# Connections that break


def test_a_connection_that_breaks_is_taken_up_where_it_stopped(server, tmp_path):
    server.break_after, server.num_breaks = 50_000, 2
    told: list[str] = []
    releases = release(server, DEVKIT)
    place = fetch("voc2012", tmp_path, releases=releases, patience=QUICK, on_progress=lambda what, *_: told.append(what))
    assert_fetched(place, tmp_path)
    assert list(dict.fromkeys(told))[:2] == ["downloading part0.tar", "retrying (the connection ended after 50,000 bytes)"]
    assert [(asked, condition) for _, asked, condition in server.requests] == [
        (None, None),
        ("bytes=50000-", '"v1"'),
        ("bytes=100000-", '"v1"'),
    ]


def test_a_later_call_goes_on_from_what_an_earlier_one_left(server, tmp_path):
    server.break_after = 1000
    releases = release(server, DEVKIT)
    with pytest.raises(FetchError) as error:
        fetch("voc2012", tmp_path, releases=releases, patience=QUICK)
    assert str(error.value) == (
        "an address could not be read, 3 times in a row\n"
        f"  where: {server.url}/voc2012/part0.tar\n"
        "  got: the connection ended after 3,000 bytes\n"
        "  expected: the file\n"
        "  next: run the same command again when the server or the network is well"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part0.tar.part"]
    server.break_after = None
    server.requests.clear()
    assert_fetched(fetch("voc2012", tmp_path, releases=releases, patience=QUICK), tmp_path)
    assert [asked for _, asked, _ in server.requests] == ["bytes=3000-"]


def test_attempts_that_bring_much_do_not_count_against_the_limit(server, tmp_path):
    content = tar_of([*IMAGES.items(), *LISTS.items(), ("VOCdevkit/VOC2012/JPEGImages/big.jpg", bytes(6 << 20))])
    server.break_after, server.num_breaks = (1 << 20) + 1, 5
    fetch("voc2012", tmp_path, releases=release(server, content), patience=QUICK)
    assert len(server.requests) == 6 > QUICK.max_tries


def test_a_server_that_ignores_range_starts_again(server, tmp_path):
    server.honours_range, server.break_after, server.num_breaks = False, 50_000, 2
    assert_fetched(fetch("voc2012", tmp_path, releases=release(server, DEVKIT), patience=QUICK), tmp_path)
    assert len(server.requests) == 3


def test_a_file_that_changes_between_two_connections_is_not_mixed(server, tmp_path):
    releases = release(server, DEVKIT)
    server.files["/voc2012/part0.tar"] = bytes(len(DEVKIT))  # an older file of the same size
    server.break_after, server.num_breaks = 50_000, 1

    def replace_file() -> None:
        server.files["/voc2012/part0.tar"], server.etag = DEVKIT, '"v2"'

    server.after_break = replace_file
    assert_fetched(fetch("voc2012", tmp_path, releases=releases, patience=QUICK), tmp_path)
    assert [(asked, condition) for _, asked, condition in server.requests] == [(None, None), ("bytes=50000-", '"v1"')]


def test_a_part_of_another_file_left_by_an_earlier_call_is_found_by_its_checksum(server, tmp_path):
    (tmp_path / "part0.tar.part").write_bytes(bytes(50_000))
    assert_fetched(fetch("voc2012", tmp_path, releases=release(server, DEVKIT), patience=QUICK), tmp_path)
    assert [asked for _, asked, _ in server.requests] == ["bytes=50000-", None]


def test_a_part_longer_than_the_archive_is_dropped(server, tmp_path):
    (tmp_path / "part0.tar.part").write_bytes(bytes(len(DEVKIT) + 1))
    assert_fetched(fetch("voc2012", tmp_path, releases=release(server, DEVKIT), patience=QUICK), tmp_path)


def test_a_server_without_content_length(server, tmp_path):
    server.states_length = False
    assert_fetched(fetch("voc2012", tmp_path, releases=release(server, DEVKIT), patience=QUICK), tmp_path)


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429]
    assert_fetched(fetch("voc2012", tmp_path, releases=release(server, DEVKIT), patience=QUICK), tmp_path)


def test_the_second_address_where_the_first_is_gone(server, tmp_path):
    releases = release(server, DEVKIT)
    for gone in (server.url + "/elsewhere", "http://127.0.0.1:9"):
        folder = tmp_path / str(len(gone))
        both = {"voc2012": replace(releases["voc2012"], base_urls=(gone, server.url))}
        assert_fetched(fetch("voc2012", folder, releases=both, patience=QUICK), folder)


def test_a_mirror_of_ones_own(server, tmp_path):
    releases = release(server, DEVKIT)
    server.files = {"/mirror" + path: content for path, content in server.files.items()}
    official = {"voc2012": replace(releases["voc2012"], base_urls=("http://127.0.0.1:9",))}
    assert_fetched(fetch("voc2012", tmp_path, base_url=server.url + "/mirror/", releases=official, patience=QUICK), tmp_path)


def test_an_archive_that_lies_there_is_used_and_kept(server, tmp_path):
    (tmp_path / "part0.tar").write_bytes(DEVKIT)
    fetch("voc2012", tmp_path, releases=release(server, DEVKIT))
    assert server.requests == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["VOCdevkit", "part0.tar"]


def test_a_killed_call_leaves_nothing_that_hinders_the_next(server, tmp_path):
    unpacked = tmp_path / ".polytag-0123456789abcdef.part" / "VOCdevkit"
    unpacked.mkdir(parents=True)
    (unpacked / "half.jpg").write_bytes(b"half")
    (tmp_path / "part0.tar.part").write_bytes(DEVKIT)
    assert_fetched(fetch("voc2012", tmp_path, releases=release(server, DEVKIT)), tmp_path)
    assert server.requests == []


# What is refused


def failure(server: Server, folder: Path, releases: dict[str, Release], **options) -> str:
    with pytest.raises(FetchError) as error:
        fetch("voc2012", folder, releases=releases, **{"patience": QUICK, **options})
    return str(error.value)


def test_a_wrong_checksum(server, tmp_path):
    releases = release(server, DEVKIT, md5="0" * 32)
    assert failure(server, tmp_path, releases) == (
        "the download has a wrong checksum and was removed\n"
        "  where: part0.tar\n"
        f"  got: MD5 {hashlib.md5(DEVKIT).hexdigest()}\n"
        f"  expected: MD5 {'0' * 32}\n"
        "  next: fetch again; if it stays wrong, the server has another file: name a mirror with --base-url"
    )
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_the_archive(server, tmp_path):
    releases = release(server, DEVKIT)
    server.files["/voc2012/part0.tar"] = b"<html>moved</html>"
    assert failure(server, tmp_path, releases) == (
        "the server has another file\n"
        f"  where: {server.url}/voc2012/part0.tar\n"
        "  got: 18 bytes\n"
        f"  expected: {len(DEVKIT)} bytes\n"
        "  next: check the address, or name a mirror with --base-url"
    )


def test_no_such_file_on_the_server(server, tmp_path):
    releases = release(server, DEVKIT)
    server.files.clear()
    assert failure(server, tmp_path, releases) == (
        "there is no file at this address\n"
        f"  where: {server.url}/voc2012/part0.tar\n"
        "  got: HTTP 404 Not Found\n"
        "  expected: a file\n"
        "  next: check the address, or name a mirror with --base-url"
    )
    assert len(server.requests) == 1


def test_no_server(tmp_path, server):
    releases = {"voc2012": replace(release(server, DEVKIT)["voc2012"], base_urls=("http://127.0.0.1:9",))}
    assert failure(server, tmp_path, releases) == (
        "an address could not be read, 3 times in a row\n"
        "  where: http://127.0.0.1:9/voc2012/part0.tar\n"
        "  got: [Errno 111] Connection refused\n"
        "  expected: the file\n"
        "  next: run the same command again when the server or the network is well"
    )


def test_a_silent_server_is_given_up(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        archive = Archive(path="a.tar", num_bytes=10, md5="")
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        releases = {"voc2012": Release(folder="VOCdevkit/VOC2012", base_urls=(base,), archives=(archive,))}
        with pytest.raises(FetchError) as error:
            fetch("voc2012", tmp_path, releases=releases, patience=Patience(timeout_seconds=0.1, max_tries=2, pause_seconds=0))
    assert error.value.got == "timed out"


def test_too_little_space(server, tmp_path):
    message = failure(server, tmp_path, release(server, DEVKIT, num_bytes=10**18))
    assert re.fullmatch(
        "too little space for the download and the unpacked data\n"
        f"  where: {re.escape(str(tmp_path))}\n"
        r"  got: [\d,]+ bytes free" + "\n"
        "  expected: 2,000,000,000,000,000,000 bytes free\n"
        "  next: free some space, or fetch into a folder on another disk",
        message,
    )
    assert server.requests == []


def test_the_place_is_taken(server, tmp_path):
    place = tmp_path / "VOCdevkit" / "VOC2012"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine")
    assert failure(server, tmp_path, release(server, DEVKIT)) == (
        "the folder of the data contains something else\n"
        f"  where: {place}\n"
        "  expected: no such folder, or a VOC devkit with JPEGImages and ImageSets\n"
        "  next: move it away, or fetch into another folder"
    )
    assert tree(tmp_path) == {"VOCdevkit/VOC2012/mine.txt": b"mine"}


def test_the_folder_is_a_file(server, tmp_path):
    (tmp_path / "data").write_text("mine")
    assert failure(server, tmp_path / "data", release(server, DEVKIT)) == (
        "the data could not be written\n"
        f"  where: {tmp_path / 'data'}\n"
        "  got: File exists\n"
        "  expected: a folder that can be written, with enough space\n"
        "  next: correct that and fetch again: the download resumes"
    )


def test_two_calls_at_once(server, tmp_path):
    releases = release(server, DEVKIT)
    seen: list[str] = []

    def again(what: str, _done: int, _total: int) -> None:
        if not seen:
            seen.append(failure(server, tmp_path, releases))

    assert_fetched(fetch("voc2012", tmp_path, releases=releases, on_progress=again), tmp_path)
    assert seen == [
        f"another call is fetching into this folder\n  where: {tmp_path}\n  next: wait for it, or fetch into another folder"
    ]


def test_names_and_addresses(tmp_path):
    with pytest.raises(UsageError) as error:
        fetch("voc2011", tmp_path)
    assert str(error.value) == "unknown data set\n  got: 'voc2011'\n  expected: one of voc2007, voc2012"
    with pytest.raises(UsageError) as error:
        fetch("voc2012", tmp_path, base_url="file:///etc")
    assert str(error.value) == "not a web address\n  where: base_url\n  got: 'file:///etc'\n  expected: http:// or https://"
    assert list(tmp_path.iterdir()) == []


# Archives that mean harm. The target lies two folders deep, so that every escape would land inside tmp_path and be seen.

ROOT = "VOCdevkit/VOC2012"
SPARSE = special(f"{ROOT}/hole.jpg", tarfile.GNUTYPE_SPARSE)
HOSTILE = {
    "parent": ([(f"{ROOT}/../../../outside.txt", b"x")], "a path that could leave the folder"),
    "parent-not-kept": ([("../outside.txt", b"x")], "a path that could leave the folder"),
    "absolute": ([("/tmp/polytag-outside.txt", b"x")], "a path that could leave the folder"),
    "backslash": ([(f"{ROOT}\\..\\outside.txt", b"x")], "a path that could leave the folder"),
    "drive": ([("C:/outside.txt", b"x")], "a path that could leave the folder"),
    "empty-name": ([(".", b"x")], "a path that could leave the folder"),
    "symlink": (
        [(special(f"{ROOT}/way", tarfile.SYMTYPE, "../../.."), b""), (f"{ROOT}/way/outside.txt", b"x")],
        "a symbolic link",
    ),
    "symlink-not-kept": ([(special("elsewhere", tarfile.SYMTYPE, "/etc"), b"")], "a symbolic link"),
    "hardlink": ([(special(f"{ROOT}/passwd", tarfile.LNKTYPE, "/etc/passwd"), b"")], "a hard link"),
    "pipe": ([(special(f"{ROOT}/pipe", tarfile.FIFOTYPE), b"")], "a special file"),
    "device": ([(special(f"{ROOT}/null", tarfile.CHRTYPE), b"")], "a special file"),
    "block-device": ([(special(f"{ROOT}/disk", tarfile.BLKTYPE), b"")], "a special file"),
    "count": ([(f"{ROOT}/{i}", b"") for i in range(60)], "more than 50 members"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_kept(server, tmp_path, name):
    members, got = HOSTILE[name]
    folder = tmp_path / "deep" / "data"
    message = failure(server, folder, release(server, tar_of([*LISTS.items(), *members]), max_members=50))
    assert message == (
        "the archive is not safe to unpack; nothing of it remains\n"
        f"  where: {folder / 'part0.tar.part'}: {_culprit(name)!r}\n"
        f"  got: {got}\n"
        "  expected: regular files and folders inside the archive's own folder"
    )
    assert set(tree(tmp_path)) == {"deep/data/part0.tar.part"}
    assert not Path("/tmp/polytag-outside.txt").exists()


def _culprit(name: str) -> str:
    members, _ = HOSTILE[name]
    member = members[50 - len(LISTS)][0] if name == "count" else members[0][0]
    return member if isinstance(member, str) else member.name


def test_a_member_that_claims_more_bytes_than_the_archive_has(tmp_path):
    info = tarfile.TarInfo(f"{ROOT}/JPEGImages/bomb.jpg")
    info.size = 10**12
    path = tmp_path / "bomb.tar"
    path.write_bytes(info.tobuf() + bytes(20_000))
    with pytest.raises(FetchError) as error:
        unpack(path, tmp_path / "out", folder=ROOT, max_members=10)
    assert error.value.got == f"1,000,000,000,000 bytes of content in an archive of {path.stat().st_size:,}"
    assert not (tmp_path / "out").exists()


def test_a_sparse_file(tmp_path):
    """Its header claims a gigabyte of holes, in an archive of a few blocks."""
    header = bytearray(SPARSE.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[483:495] = b"%011o\0" % (1 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "sparse.tar"
    path.write_bytes(bytes(header) + bytes(10_240))
    with pytest.raises(FetchError) as error:
        unpack(path, tmp_path / "out", folder=ROOT, max_members=10)
    assert error.value.got in ("a special file", f"{1 << 30:,} bytes of content in an archive of 10,752")


@pytest.mark.parametrize("cut", [100, 700, 60_000, len(DEVKIT) // 2])
def test_a_cut_archive_is_never_taken_for_a_whole_one(server, tmp_path, cut):
    message = failure(server, tmp_path, release(server, DEVKIT[:cut]))
    assert message.splitlines()[0] in (
        "the archive is broken",
        "the archive lacks the data",
        "the archive is not safe to unpack; nothing of it remains",
    )
    assert set(tree(tmp_path)) == {"part0.tar.part"}


def test_a_file_in_the_place_of_a_folder(server, tmp_path):
    content = tar_of([*LISTS.items(), (f"{ROOT}/ImageSets/Main", b"a file")])
    assert failure(server, tmp_path, release(server, content)).startswith("the archive is broken\n")
    assert set(tree(tmp_path)) == {"part0.tar.part"}


def test_an_archive_of_something_else(server, tmp_path):
    assert failure(server, tmp_path, release(server, tar_of([("cats/1.jpg", b"x")]))) == (
        f"the archive lacks the data\n  where: {tmp_path / 'part0.tar.part'}\n  expected: a folder VOCdevkit/VOC2012"
    )


def test_a_compressed_archive_is_not_opened(server, tmp_path):
    import gzip

    assert failure(server, tmp_path, release(server, gzip.compress(DEVKIT))).startswith("the archive is broken\n")


def test_modes_and_owners_of_the_archive_are_not_taken_over(server, tmp_path):
    info = tarfile.TarInfo(f"{ROOT}/JPEGImages/set-uid.jpg")
    info.mode, info.size = 0o6777, 1
    place = fetch("voc2012", tmp_path, releases=release(server, tar_of([*LISTS.items(), (info, b"x")])))
    assert (place / "JPEGImages" / "set-uid.jpg").stat().st_mode & 0o7111 == 0
