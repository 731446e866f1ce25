"""Attacks on the real pages over a real socket: strangers, other sites, hostile addresses, bodies, pictures and score files."""

import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.errors import DataError
from polytag.inspector.admission import GuardConfig
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.locating import locate_pictures

SECRET = "the password is swordfish"
CLASSES = ("cat", "dog")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def encoded(kind: str, *, size: tuple[int, int] = (64, 48)) -> bytes:
    rng = np.random.default_rng(0)
    file = BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def png_of_zeros(width_px: int, height_px: int) -> bytes:
    """A whole black PNG: 169 megapixels take half a megabyte packed, and half a gigabyte unpacked."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    num_blocks = 100  # packed once and repeated: packing it all takes seconds
    assert height_px % num_blocks == 0
    block = packer.compress(bytes((1 + 3 * width_px) * height_px // num_blocks)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", (1 + 3 * width_px) * height_px % 65521, 1)  # Adler-32 of zeros
    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    pixels = b"\x78\x9c" + block * num_blocks + b"\x03\x00" + checksum
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def hostile_pictures() -> dict[str, bytes]:
    """Files that are no pictures, or less than they say."""
    bomb = png_of_zeros(13_000, 13_000)
    found = {
        "empty": b"",
        "text": SECRET.encode(),
        "page": f"<!doctype html><script>alert(1)</script>{SECRET}".encode(),
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><text>{SECRET}</text></svg>'.encode(),
        "bomb": bomb,
        "bomb that is cut": bomb[:2000],
        "gif that claims": b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + b"\0" * 6 + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
        "bmp that claims": b"BM" + struct.pack("<IHHIIiiHH", 70, 0, 0, 54, 40, 60000, 60000, 1, 24) + bytes(24),
        "jpeg that claims": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xd9",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    }  # fmt: skip
    for kind in FORMATS:
        whole = encoded(kind)
        found |= {f"{kind} cut at {cut}": whole[:cut] for cut in (1, 10, 30, len(whole) // 2)}
        bent = bytearray(whole)
        bent[20 : len(bent) // 2 : 7] = b"\xff" * len(bent[20 : len(bent) // 2 : 7])
        found[f"{kind} bent"] = bytes(bent)
    return found


HOSTILE = hostile_pictures()


def attacked_run(folder: Path) -> tuple[Inspection, dict[str, int]]:
    """A run whose score file names whatever it should not, and one honest picture; the row of each by name."""
    outside, inside = folder / "outside", folder / "pictures"
    outside.mkdir()
    inside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    (inside / "link.png").symlink_to(outside / "secret.txt")
    (inside / "honest.png").write_bytes(encoded("PNG"))
    (inside / "loop.png").symlink_to(inside / "loop.png")
    os.mkfifo(inside / "pipe.png")
    paths = {
        "honest": str(inside / "honest.png"),
        "link to a text": str(inside / "link.png"),
        "link to itself": str(inside / "loop.png"),
        "text": str(outside / "secret.txt"),
        "up": str(inside / ".." / "outside" / "secret.txt"),
        "password file": "/etc/passwd",
        "relative": "../../../../../../etc/passwd",
        "environment": "/proc/self/environ",
        "endless": "/dev/zero",
        "pipe": str(inside / "pipe.png"),
        "folder": str(inside),
        "long": "a" * 5000,
        "nul": "/etc/passwd\0.png",
        "half a character": "\udcff.png",
        "address": "http://127.0.0.1:1/a.png",
        "file address": f"file://{outside}/secret.txt",
        "none": "",
    }
    for number, (name, content) in enumerate(HOSTILE.items()):
        (inside / f"{number}.png").write_bytes(content)
        paths[name if name != "text" else "text as a picture"] = str(inside / f"{number}.png")
    ids = tuple(f"../../etc/{name}" if name != "honest" else "honest.png" for name in paths)
    rng = np.random.default_rng(0)
    predictions = Predictions(
        ids=ids,
        logit_NC=rng.normal(size=(len(ids), 2)),
        target_NC=rng.integers(-1, 2, (len(ids), 2)).astype(np.int8),
        label_set=LabelSet(names=CLASSES),
        picture_paths=tuple(paths.values()),
    )
    run = Inspection(
        name="run", folder=folder, review_file=folder / "review.sqlite", predictions=predictions, threshold_C=np.array([0.5, 0.5])
    )
    return run, {name: row for row, name in enumerate(paths)}


@pytest.fixture(scope="module")
def attacked(live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    folder = tmp_path_factory.mktemp("attacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYTAG_CACHE", str(folder / "cache"))
        run, row_of = attacked_run(folder)
        with live(create_app(run), guard_config=GuardConfig(linger_seconds=0.2)) as server:
            yield server, row_of


@pytest.fixture(scope="module")
def server(attacked):
    return attacked[0]


@pytest.fixture(scope="module")
def client(server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield client


def status_of(heard: bytes) -> int:
    return int(heard.split(b" ")[1])


def tells_nothing(heard: bytes) -> bool:
    """Neither the secret, nor a file of the system or of ours, nor where anything lies."""
    words = (SECRET.encode(), b"root:x:", b"Traceback", b"site-packages", b"/outside", b"import ", b"PATH=")
    return not any(word in heard for word in words)


# Addresses


@pytest.mark.parametrize("start", ["/static/", "/pictures/", "/thumbnails/", "/data/", "/api/pictures/", "/api/", "/"])
@pytest.mark.parametrize(
    "rest",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%252e%252e%252f%252e%252e%252fetc%252fpasswd",
        "..%5c..%5c..%5cetc%5cpasswd",
        "..\\..\\etc\\passwd",
        "....//....//etc/passwd",
        "..;/..;/etc/passwd",
        "%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "../app.py",
        "..%2fapp.py",
        "..%2ftemplates%2fbase.html.j2",
        "frame.js%00.css",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "0%2f..%2f..%2fetc%2fpasswd",
        "-1",
        "1e3",
        "0x1",
        "٣",
        "99999999999999999999999999",
        "9" * 5000,
    ],
)
def test_no_address_leads_out(server, start, rest):
    target = start + rest if rest.isascii() else start + "".join(f"%{byte:02x}" for byte in rest.encode())
    heard = server.get(target)
    # Digits of other scripts are digits to Python, and the row that they name is one of the run's.
    assert status_of(heard) in ({400, 404, 422} if rest != "٣" else {200, 400, 404, 422}), heard[:200]
    assert tells_nothing(heard)


@pytest.mark.parametrize("name", ["id", "class", "text", "column", "value", "sort", "present", "outcome", "kind", "v"])
@pytest.mark.parametrize(
    "value", ["../../etc/passwd", "%00", "%ff", "%ed%a0%80", "'%22<script>alert(1)</script>", "{{7*7}}", "a%0d%0aSet-Cookie:x=1"]
)
def test_whatever_a_parameter_holds_no_page_breaks(server, name, value):
    for path in ("/", "/ranking", "/picture", "/review", "/api/ranking", "/api/review/queue", "/pictures/0"):
        heard = server.get(f"{path}?class=cat&{name}={value}")
        head, _, body = heard.partition(b"\r\n\r\n")
        assert status_of(heard) in {200, 400, 404, 409, 422}, heard[:300]
        assert b"<script>alert" not in body or b"content-type: application/json" in head
        assert b"set-cookie" not in head.lower()
        assert b"content-security-policy: default-src 'none'; script-src 'self';" in head
        assert tells_nothing(heard)


# Pictures that a score file names


def test_a_score_file_shows_pictures_and_nothing_else(attacked, client):
    """Whatever path it names: pictures are decoded and encoded anew, and what is no picture is the sign for a missing one."""
    _, row_of = attacked
    for name, row in row_of.items():
        for path in (f"/pictures/{row}", f"/thumbnails/{row}"):
            answer = client.get(path)
            kind = answer.headers["content-type"]
            if name == "none":
                assert answer.status_code == 404
                continue
            assert answer.status_code == 200, name
            assert kind in {"image/jpeg", "image/svg+xml"}, name
            assert tells_nothing(answer.content), name
            assert b"<script" not in answer.content, name
            if kind == "image/jpeg":
                assert Image.open(BytesIO(answer.content)).size == (64, 48), name
            if name in {"bomb", "honest", "link to a text", "password file", "endless", "pipe", "svg", "page"}:
                assert (kind == "image/jpeg") == (name == "honest"), name
    assert client.get("/").status_code == 200


def test_paths_of_the_machine_stand_in_no_answer(client, attacked):
    server, _ = attacked
    for path in (
        "/",
        "/ranking?class=cat",
        "/picture?id=honest.png",
        "/review",
        "/api/run",
        "/api/pictures/0",
        "/api/ranking?class=cat",
    ):
        text = client.get(path).text
        assert "/outside" not in text
        assert "/etc/passwd" not in text
        assert "/pictures/honest" not in text
        assert str(os.getpid()) not in server.url  # the pages know no process either


def test_ranges_are_not_heard(client, attacked):
    row = attacked[1]["honest"]
    whole = client.get(f"/pictures/{row}")
    many = "bytes=" + ",".join(f"{start}-{start + 1}" for start in range(2000))
    for value in ("bytes=0-0", "bytes=-5", many, "bytes=0-,0-,0-,0-", "x"):
        answer = client.get(f"/pictures/{row}", headers={"Range": value})
        assert (answer.status_code, answer.content) == (200, whole.content)
        assert "content-range" not in answer.headers


def test_a_folder_of_pictures_is_not_left(tmp_path: Path):
    """`--pictures DIR` with ids of anyone's choosing."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside, inside / "deep"):
        folder.mkdir()
        (folder / "a.png").write_bytes(encoded("PNG"))
    (outside / "secret.png").write_bytes(encoded("PNG"))
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "folder-link").symlink_to(outside)
    (inside / "own-link.png").symlink_to(inside / "deep" / "a.png")
    hostile = (
        "../outside/secret.png", str(outside / "secret.png"), "link.png", "link", "folder-link/secret.png", "secret.png", "secret",
        "deep/../../outside/secret.png", "..\\outside\\secret.png", "/etc/passwd", "", ".", "..", "a.png\0",
        "deep/a.png/../../a.png",
    )  # fmt: skip
    found = locate_pictures(("deep/a.png", "own-link.png", *hostile), inside)
    assert found[0] == os.path.realpath(inside / "deep" / "a.png")
    assert found[1].endswith("own-link.png")
    assert set(found[2:]) == {""}
    with pytest.raises(DataError):
        locate_pictures(hostile, inside)


# Other sites


READS = (
    "/", "/ranking?class=cat", "/picture?id=honest.png", "/review", "/predict", "/pictures/0", "/thumbnails/0", "/api/run",
    "/api/classes", "/api/ranking?class=cat", "/api/pictures/0", "/api/review/queue", "/api/openapi.json", "/static/frame.js",
)  # fmt: skip


@pytest.mark.parametrize("path", READS)
def test_a_name_that_was_rebound_reads_nothing(client, path):
    assert client.get(path).status_code == 200
    for host in ("evil.example", f"evil.example:{client.base_url.port}", "127.0.0.1.evil.example", "0.0.0.0", ""):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code in {400, 421}
        assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize("path", READS)
def test_another_site_draws_nothing_from_here(client, path):
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert client.get(path, headers=embedded).status_code == 403
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert client.get(path, headers=framed).status_code == 403
    own = client.get(path)
    assert own.headers["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in own.headers["content-security-policy"]
    assert not [name for name in own.headers if name.startswith("access-control-")]


DECISION = {"picture": "honest.png", "class_name": "cat", "label": 1, "reviewer": "Eve", "note": "", "based_on": 0}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},  # what a form of another site may send
        {"Origin": "http://evil.example", "X-HTTP-Method-Override": "GET"},
        {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},  # rebound
    ],
)
def test_another_site_decides_no_label(client, headers):
    for path in ("/api/review/decisions", "/api/review/undo"):
        answer = client.post(path, content=json.dumps(DECISION), headers={"Content-Type": "application/json", **headers})
        assert answer.status_code in {403, 421}
    assert not [each for each in client.get("/api/review/history").json()["decisions"] if each["reviewer"] == "Eve"]


def test_a_preflight_permits_nothing(client):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/api/review/decisions", headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control-")]


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"\0" * 1000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"label": ' + b"9" * 100_000 + b"}",
        b'{"label": NaN, "based_on": Infinity}',
        json.dumps({**DECISION, "based_on": 10**400}).encode(),
        json.dumps({**DECISION, "based_on": -1}).encode(),
        json.dumps({**DECISION, "based_on": 1.5}).encode(),
        json.dumps({**DECISION, "label": True}).encode(),
        json.dumps({**DECISION, "reviewer": "\ud800"}).encode(),
        json.dumps({**DECISION, "note": "\udfff"}).encode(),
        json.dumps({**DECISION, "picture": "\ud800"}).encode(),
        json.dumps({**DECISION, "class_name": "\ud800"}).encode(),
        json.dumps({**DECISION, "reviewer": "\0"}).encode(),
        json.dumps({**DECISION, "reviewer": "x" * 10**6}).encode(),
        json.dumps({**DECISION, "note": ["x"] * 10**5}).encode(),
        json.dumps({**DECISION, "picture": "../../etc/passwd"}).encode(),
        json.dumps({**DECISION, "reviewer": "'; DROP TABLE decisions; --" * 5}).encode(),
        json.dumps(DECISION).encode("utf-16")[:-1],
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_hostile_body_is_refused_and_writes_nothing(client, body):
    before = client.get("/api/review/history").json()
    for path in ("/api/review/decisions", "/api/review/undo"):
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, answer.text[:300]
        assert len(answer.content) < 5000, "what was sent does not come back"
        assert tells_nothing(answer.content)
    assert client.get("/api/review/history").json() == before


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", ""]
)
def test_a_form_decides_no_label(client, kind):
    """Forms of other sites cannot send JSON as such; that is a second lock behind the guard's."""
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post("/api/review/decisions", content=json.dumps(DECISION), headers=headers)
    assert answer.status_code in {415, 422}


def test_a_body_without_end_and_one_too_long(server):
    chunks = (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 40
    head = b"POST /api/review/decisions HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
    assert status_of(server.say(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)) == 413
    assert status_of(server.say(head + b"Content-Length: 33554433\r\n\r\n")) == 413
    assert status_of(server.get("/")) == 200


def test_a_word_sent_by_chunks_is_heard_whole(server):
    body = json.dumps({**DECISION, "reviewer": "Chunk"}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = b"POST /api/review/decisions HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nConnection: close\r\n"
    assert status_of(server.say(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)) == 200


# Load


def test_many_heavy_requests_do_not_stop_the_page(live, tmp_path, monkeypatch):
    """Twenty-four pictures of 4 megapixels are asked for at once; the overview comes before all of them are made."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "large.png").write_bytes(png_of_zeros(2000, 2000))
    num_pictures = 24
    predictions = Predictions(
        ids=tuple(map(str, range(num_pictures))),
        logit_NC=np.zeros((num_pictures, 2)),
        target_NC=np.zeros((num_pictures, 2), dtype=np.int8),
        label_set=LabelSet(names=CLASSES),
        picture_paths=(str(tmp_path / "large.png"),) * num_pictures,
    )
    run = Inspection(
        name="heavy",
        folder=tmp_path,
        review_file=tmp_path / "review.sqlite",
        predictions=predictions,
        threshold_C=np.array([0.5, 0.5]),
    )
    done: list[str] = []
    with live(create_app(run)) as server:
        client = httpx.Client(base_url=server.url, timeout=120, trust_env=False, limits=httpx.Limits(max_connections=50))

        def ask(path: str) -> None:
            answer = client.get(path)
            done.append(f"{path} {answer.status_code} {answer.headers['content-type']}")

        assert client.get("/").status_code == 200
        heavy = [threading.Thread(target=ask, args=(f"/pictures/{row}",)) for row in range(num_pictures)]
        for thread in heavy:
            thread.start()
        time.sleep(0.2)
        ask("/")
        ask("/api/run")
        for thread in heavy:
            thread.join()
        client.close()
    assert sorted(done) == sorted(
        ["/ 200 text/html; charset=utf-8", "/api/run 200 application/json"]
        + [f"/pictures/{row} 200 image/jpeg" for row in range(num_pictures)]
    )
    assert "/pictures/" in done[-1], "the pages waited for the pictures"
    decoders = [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]
    assert 1 <= len(decoders) <= 2, "glibc keeps for every thread what it once decoded"
