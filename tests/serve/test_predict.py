"""POST /predict, health and metrics: the answers are those of `polytag predict`, and one bad image spoils no other."""

import http.client
import json
import struct
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.inference.predict import predict
from polytag.models.exported import Exported
from polytag.web.request_rules import GuardConfig

TOKEN = "abcdefghijklmnop-_0123456789"
BOUNDARY = "cut-here"


def ask(server, method, path, body=b"", **headers):
    """(status, headers, body) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def form(*files: tuple[str, bytes], field: str = "file") -> bytes:
    """A form of files, as curl -F writes it."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        f"Content-Type: image/jpeg\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def send_form(server, body, **headers):
    return ask(server, "POST", "/predict", body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}", **headers)


def test_the_answers_are_those_of_predict(server, small_export: Exported, jpegs, tmp_path: Path):
    paths = [tmp_path / f"{number}.jpg" for number in range(len(jpegs))]
    for path, content in zip(paths, jpegs, strict=True):
        path.write_bytes(content)
    expected = list(predict(small_export, paths))
    status, headers, body = send_form(server, form(*[(path.name, path.read_bytes()) for path in paths]))
    answer = json.loads(body)
    assert status == 200
    assert headers["polytag-model"] == answer["model"] == small_export.id
    assert answer["thresholds"] == dict(zip(small_export.label_set, small_export.thresholds, strict=True))
    assert [image["file"] for image in answer["images"]] == [path.name for path in paths]
    for image, result in zip(answer["images"], expected, strict=True):
        assert tuple(image["labels"]) == result.labels
        assert list(image["probabilities"]) == list(result.probabilities)
        assert max(abs(image["probabilities"][name] - p) for name, p in result.probabilities.items()) < 1e-6
    for content, result in zip(jpegs, expected, strict=True):
        status, _, body = ask(server, "POST", "/predict", content, Content_Type="image/jpeg")
        (image,) = json.loads(body)["images"]
        assert (status, tuple(image["labels"]), image["file"]) == (200, result.labels, "")


def test_one_bad_image_spoils_no_other(server, jpegs):
    files = [("a.jpg", jpegs[0]), ("b.jpg", b"no image"), ("c.jpg", b""), ("d.jpg", jpegs[1][:300]), ("e.jpg", jpegs[2])]
    status, _, body = send_form(server, form(*files))
    images = json.loads(body)["images"]
    assert status == 200
    assert ["error" in image for image in images] == [False, True, True, True, False]
    assert images[1] == {"file": "b.jpg", "error": "not an image in a known format: a file that begins with b'no image'"}
    assert images[2] == {"file": "c.jpg", "error": "the image is empty: 0 bytes"}
    alone = json.loads(ask(server, "POST", "/predict", jpegs[2], Content_Type="image/jpeg")[2])["images"][0]
    assert images[4]["labels"] == alone["labels"]


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\nbroken", b"<svg/>"])
def test_where_no_image_can_be_read_the_status_says_so(server, content):
    status, _, body = ask(server, "POST", "/predict", content, Content_Type="image/jpeg")
    answer = json.loads(body)
    assert status == 422
    assert answer["error"] == answer["images"][0]["error"] != ""
    status, _, body = send_form(server, form(("a", content), ("b", b"also none")))
    assert (status, json.loads(body)["error"]) == (422, "none of the 2 images has an answer")


def test_a_decompression_bomb_is_an_unreadable_image(server):
    """A PNG of a few bytes that says it is 60,000 pixels wide."""
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    status, _, body = ask(server, "POST", "/predict", content, Content_Type="image/png")
    assert (status, json.loads(body)["error"]) == (422, "the image has too many pixels: 60000 x 60000 pixels")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/x-www-form-urlencoded", 415),  # curl --data-binary without a header
        ("text/plain", 415),
        ("application/json", 415),
        ("", 415),
        ("multipart/mixed; boundary=x", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "x" * 71, 400),
        ("multipart/form-data; boundary=other", 400),
        ("IMAGE/JPEG", 200),
        ("image/anything; q=1", 200),
        ("application/octet-stream", 200),
    ],
)
def test_content_types(server, jpegs, kind, status):
    found, _, body = ask(server, "POST", "/predict", jpegs[0], Content_Type=kind)
    assert found == status
    assert set(json.loads(body)) == ({"model", "images", "thresholds"} if status == 200 else {"error"})


def test_a_compressed_body_is_refused(server, jpegs):
    for encoding in ("gzip", "deflate", "br"):
        assert ask(server, "POST", "/predict", jpegs[0], Content_Type="image/jpeg", Content_Encoding=encoding)[0] == 415
    assert ask(server, "POST", "/predict", jpegs[0], Content_Type="image/jpeg", Content_Encoding="identity")[0] == 200


def test_addresses_and_methods(server, small_export: Exported):
    base = f"/v2/models/{small_export.folder.name}"
    for method, path, status in (
        ("GET", "/v2", 200), ("GET", "/v2/", 200), ("GET", base, 200), ("GET", f"{base}/ready", 200),
        ("HEAD", "/v2/health/live", 200), ("GET", "/v2/models/", 404), ("GET", f"{base}/x", 404),
        ("GET", f"{base}/versions/{small_export.id}", 200), ("GET", f"{base}/versions/{small_export.id}/ready", 200),
        ("GET", f"{base}/versions/0", 404), ("GET", "/v2/models/other", 404),
        ("GET", f"{base}/infer", 405), ("GET", "/predict", 405), ("POST", "/v2/health/live", 405), ("DELETE", "/metrics", 405),
        ("GET", "/nowhere", 404), ("POST", "/nowhere", 404), ("GET", "/static/../app.py", 404), ("GET", "/openapi.json", 200),
    ):  # fmt: skip
        found, headers, body = ask(server, method, path)
        assert found == status, (method, path, body)
        if status in (404, 405):
            assert list(json.loads(body)) == ["error"]
        assert ("allow" in headers) == (status == 405)


def test_health_needs_no_token_and_all_else_does(serve_live, small_export: Exported, jpegs):
    name = small_export.folder.name
    with serve_live(small_export.folder, guard={"token": TOKEN, "allowed_hosts": ()}) as (server, _):
        for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{name}/ready"):
            assert ask(server, "GET", path)[0] == 200
        for path in ("/", "/v2", "/metrics", "/openapi.json", f"/v2/models/{name}", "/v2/health", "/v2/health/live/x"):
            status, _, body = ask(server, "GET", path)
            assert (status, list(json.loads(body))) == (401, ["error"])
        image = {"Content_Type": "image/jpeg"}
        assert ask(server, "POST", "/predict", jpegs[0], **image)[0] == 401
        assert ask(server, "POST", "/predict", jpegs[0], **image, Authorization=f"Bearer {TOKEN}")[0] == 200
        assert ask(server, "GET", "/v2/health/live", Origin="http://evil.example", Sec_Fetch_Site="cross-site")[0] == 403
        assert ask(server, "GET", f"/?token={TOKEN}")[0] == 303


def test_a_body_that_is_too_large(serve_live, small_export: Exported):
    with serve_live(small_export.folder, guard={"max_body_bytes": 1000, "linger_seconds": 0.1}) as (server, _):
        status, _, body = ask(server, "POST", "/predict", b"x" * 1001, Content_Type="image/jpeg")
        assert (status, list(json.loads(body))) == (413, ["error"])
        assert ask(server, "POST", "/predict", iter([b"x" * 600, b"x" * 600]), Content_Type="image/jpeg")[0] == 413
        assert ask(server, "POST", "/predict", b"x" * 1000, Content_Type="image/jpeg")[0] == 422


def test_too_many_images_in_one_request(serve_live, small_export: Exported, jpegs):
    with serve_live(small_export.folder, max_waiting=4) as (server, _):
        assert send_form(server, form(*[("a.jpg", jpegs[0])] * 4))[0] == 200
        status, _, body = send_form(server, form(*[("a.jpg", jpegs[0])] * 5))
        assert (status, json.loads(body)["error"]) == (413, "Too many parts: at most 4 images can be sent at once.")
        assert send_form(server, form(*[("a.jpg", b"")] * 10_000))[0] == 413


@pytest.fixture
def blocked(serve_live, small_export: Exported, monkeypatch):
    """A server whose model waits until `release` is set: (server, serving, entered, release)."""
    entered, release = threading.Semaphore(0), threading.Event()
    with serve_live(small_export.folder, max_waiting=3, max_batch=1) as (server, serving):
        scorer = serving.models.current.scorer
        own = scorer.logits_of

        def waiting(pixels: np.ndarray) -> np.ndarray:
            entered.release()
            assert release.wait(30)
            return own(pixels)

        monkeypatch.setattr(scorer, "logits_of", waiting)
        yield server, serving, entered, release
        release.set()


def send_in_thread(server, content):
    """A thread that asks, and the list that its status will be in."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(ask(server, "POST", "/predict", content, Content_Type="image/jpeg")[0]))
    thread.start()
    return thread, found


def wait_until(holds, seconds=20.0):
    """Look every few milliseconds."""
    import time

    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.005)


def test_a_full_queue_says_when_to_come_again(blocked, jpegs):
    server, serving, entered, release = blocked
    from polytag.machine import num_cores

    sent = [send_in_thread(server, jpegs[0]) for _ in range(num_cores())]
    assert all(entered.acquire(timeout=30) for _ in sent)  # every core has one
    sent += [send_in_thread(server, jpegs[0]) for _ in range(3)]
    wait_until(lambda: serving.queue.num_waiting == 3)
    status, headers, body = ask(server, "POST", "/predict", jpegs[0], Content_Type="image/jpeg")
    assert (status, headers["retry-after"], json.loads(body)["error"][:9]) == (503, "1", "Too many ")
    assert ask(server, "POST", f"/v2/models/{serving.models.name}/infer", b"{}")[0] == 503
    assert ask(server, "GET", "/v2/health/ready")[0] == 200
    metrics = ask(server, "GET", "/metrics")[2].decode()
    assert "\npolytag_waiting_images 3\n" in metrics
    assert f"\npolytag_in_flight_requests {len(sent) + 1}\n" in metrics
    release.set()
    for thread, _ in sent:
        thread.join(30)
    assert [found for _, found in sent] == [[200]] * len(sent)
    assert ask(server, "POST", "/predict", jpegs[0], Content_Type="image/jpeg")[0] == 200


def test_what_a_client_that_went_away_left_behind_is_not_scored(blocked, jpegs):
    server, serving, entered, release = blocked
    from polytag.machine import num_cores

    sent = [send_in_thread(server, jpegs[0]) for _ in range(num_cores())]
    assert all(entered.acquire(timeout=30) for _ in sent)
    with server.connect() as connection:
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpegs[0])}\r\n\r\n"
        )
        connection.sendall(head.encode() + jpegs[0])
        wait_until(lambda: serving.queue.num_waiting == 1)
    wait_until(lambda: serving.guard.num_in_flight == len(sent))
    release.set()
    for thread, _ in sent:
        thread.join(30)
    wait_until(lambda: serving.queue.num_waiting == 0 and serving.guard.num_in_flight == 0)
    assert f'polytag_images_total{{outcome="scored"}} {len(sent)}\n' in ask(server, "GET", "/metrics")[2].decode()


def test_a_model_that_fails_for_one_image_answers_the_others(serve_live, small_export: Exported, jpegs, monkeypatch, caplog):
    with serve_live(small_export.folder) as (server, serving):
        serving.models.current = replace(serving.models.current, batch_size=8)
        scorer = serving.models.current.scorer
        own = scorer.logits_of
        first = json.loads(ask(server, "POST", "/predict", jpegs[0], Content_Type="image/jpeg")[2])

        sizes: list[int] = []

        def failing(pixels: np.ndarray) -> np.ndarray:
            sizes.append(len(pixels))
            logit_NC = own(pixels).copy()
            if len(pixels) > 1:
                raise RuntimeError("the password is swordfish")
            return logit_NC

        monkeypatch.setattr(scorer, "logits_of", failing)
        body = send_form(server, form(*[("a.jpg", content) for content in jpegs * 2]))[2]
        assert max(sizes) > 1
        assert json.loads(body)["images"][0]["labels"] == first["images"][0]["labels"]
        assert all("error" not in image for image in json.loads(body)["images"])
        monkeypatch.setattr(scorer, "logits_of", lambda pixels: np.full((len(pixels), 3), np.nan, np.float32))
        status, _, body = ask(server, "POST", "/predict", jpegs[0], Content_Type="image/jpeg")
        assert (status, json.loads(body)["error"]) == (500, "the model gives no finite score for it")

        def broken(pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("the password is swordfish")

        monkeypatch.setattr(scorer, "logits_of", broken)
        status, _, body = ask(server, "POST", "/predict", jpegs[0], Content_Type="image/jpeg")
        assert (status, b"swordfish" in body) == (500, False)
        assert "swordfish" in caplog.text


def test_the_guards_config_still_asks_for_a_token_where_any_name_will_do():
    with pytest.raises(AssertionError, match="needs a token"):
        GuardConfig(allowed_hosts=(), open_paths=frozenset(("/v2/health/live",)))
