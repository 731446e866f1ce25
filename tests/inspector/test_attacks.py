"""Attacks on the real pages over a real socket: strangers, other sites, hostile addresses and bodies."""

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.web.request_rules import GuardConfig

SECRET = "the password is swordfish"


@pytest.fixture(scope="module")
def server(live, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A run of three images, of which one is there; a secret lies beside it."""
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.txt").write_text(SECRET)
    Image.new("RGB", (64, 48), "red").save(folder / "honest.png")
    predictions = Predictions(
        ids=("honest.png", "../../etc/passwd", "no file"),
        logit_NC=np.array([[1.0, -1.0], [0.5, 2.0], [-2.0, 0.0]]),
        target_NC=np.array([[1, 0], [0, -1], [1, 1]], dtype=np.int8),
        label_set=LabelSet(names=("cat", "dog")),
        image_paths=(str(folder / "honest.png"), str(folder / "outside" / "secret.txt"), ""),
    )
    run = Inspection(name="run", review_file=folder / "review.sqlite", predictions=predictions, threshold_C=np.array([0.5, 0.5]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYTAG_CACHE", str(folder / "cache"))
        with live(create_app(run), guard_config=GuardConfig(linger_seconds=0.2)) as server:
            yield server


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


@pytest.mark.parametrize(
    "start", ["/static/", "/static/shared/", "/images/", "/thumbnails/", "/data/", "/api/images/", "/api/", "/"]
)
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
        "../../app.py",
        "..%2f..%2fapp.py",
        "../../../report/templates/report.css",
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
    for path in ("/", "/ranking", "/image", "/review", "/api/ranking", "/api/review/queue", "/images/0"):
        heard = server.get(f"{path}?class=cat&{name}={value}")
        head, _, body = heard.partition(b"\r\n\r\n")
        assert status_of(heard) in {200, 400, 404, 409, 422}, heard[:300]
        assert b"<script>alert" not in body or b"content-type: application/json" in head
        assert b"set-cookie" not in head.lower()
        assert b"content-security-policy: default-src 'none'; script-src 'self';" in head
        assert tells_nothing(heard)


# Other sites


READS = (
    "/", "/ranking?class=cat", "/image?id=honest.png", "/review", "/predict", "/images/0", "/thumbnails/0", "/api/run",
    "/api/classes", "/api/ranking?class=cat", "/api/images/0", "/api/review/queue", "/api/openapi.json", "/static/shared/frame.js",
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


DECISION = {"image": "honest.png", "class_name": "cat", "label": 1, "reviewer": "Eve", "note": "", "based_on": 0}


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
        json.dumps({**DECISION, "image": "\ud800"}).encode(),
        json.dumps({**DECISION, "class_name": "\ud800"}).encode(),
        json.dumps({**DECISION, "reviewer": "\0"}).encode(),
        json.dumps({**DECISION, "reviewer": "x" * 10**6}).encode(),
        json.dumps({**DECISION, "note": ["x"] * 10**5}).encode(),
        json.dumps({**DECISION, "image": "../../etc/shadow"}).encode(),
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
