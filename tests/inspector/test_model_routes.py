"""The model's routes: what they answer, what they refuse and how, hostile uploads, and that the page stays alive meanwhile."""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.data.load import load_dataset
from polytag.demo.scenes import write_scenes
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.routes import model_routes
from polytag.inspector.model.worker import ModelWorker

MAX_BYTES = 3 * 2**20
BINARY = {"Content-Type": "application/octet-stream"}
PATIENCE_SECONDS = 60.0


def client_of(inspection: Inspection, worker: ModelWorker | None) -> TestClient:
    app = FastAPI()
    app.include_router(model_routes(inspection, worker, max_upload_bytes=MAX_BYTES))
    app.add_api_route("/ping", lambda: "pong")
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def client(modelled: Inspection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    worker = ModelWorker(modelled, tmp_path_factory.mktemp("cache"))
    with client_of(modelled, worker) as client:
        yield client
    worker.close()


@pytest.fixture
def image(modelled: Inspection) -> bytes:
    return Path(modelled.predictions.image_paths[0]).read_bytes()


# ---- one's own image ----


def test_predict_answers_all_classes_with_decisions(client: TestClient, image: bytes, modelled: Inspection):
    answer = client.post("/api/predict", content=image, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    classes = answer.json()["classes"]
    assert [set(each) for each in classes] == [{"name", "probability", "text", "threshold", "is_present"}] * 3
    assert {each["name"] for each in classes} == set(modelled.predictions.label_set)
    probabilities = [each["probability"] for each in classes]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(each["is_present"] == (each["probability"] > each["threshold"]) for each in classes)


def test_predict_heat_is_a_transparent_png(client: TestClient, image: bytes):
    answer = client.post("/api/predict/heat", params={"class": "green"}, content=image, headers=BINARY)
    assert (answer.status_code, answer.headers["content-type"], answer.headers["cache-control"]) == (200, "image/png", "no-store")
    assert Image.open(BytesIO(answer.content)).convert("RGBA").size == (512, 512)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/json", ""])
def test_other_content_types_are_refused(client: TestClient, image: bytes, content_type: str):
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post("/api/predict", content=image, headers=headers)
    detail = "send the content of an image file, as image/* or application/octet-stream"
    assert (answer.status_code, answer.json()) == (415, {"detail": detail})


# ---- hostile uploads ----


def png_claiming(width: int, height: int) -> bytes:
    """A small, well-formed PNG whose header claims this many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(kind: str, **options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


HOSTILE = {
    "empty": b"",
    "text": b"<script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:1/x"/></svg>',
    "an address": b"http://127.0.0.1:1/image.jpg",
    "a path": b"/etc/passwd",
    "pdf": b"%PDF-1.7\n",
    "archive": b"PK\3\4" + bytes(100),
    "169 megapixels": png_claiming(13_000, 13_000),
    "2^62 pixels": png_claiming(2**31 - 1, 2**31 - 1),
    "no width": png_claiming(0, 5),
    "bmp of 4 gigapixels": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 65_000, 65_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "gif of 65,535 squared": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"\x2c" + bytes(20),
    "tiff that points to itself": b"II*\0" + struct.pack("<IHHHII", 8, 1, 330, 4, 1, 8) + struct.pack("<I", 8),
    "cut png": encoded("PNG")[:4000],
    "cut webp": encoded("WEBP")[:500],
    "cut tiff": encoded("TIFF")[:5000],
    "jpeg head alone": encoded("JPEG")[:300],
    "png bomb of text": encoded("PNG")[:33] + b"\x7f\xff\xff\xffzTXt" + bytes(50),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("route", ["/api/predict", "/api/predict/heat?class=red"])
def test_hostile_files_are_a_short_sentence_without_insides(client: TestClient, name: str, route: str):
    answer = client.post(route, content=HOSTILE[name], headers=BINARY)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert 10 < len(detail) < 80
    assert not [word for word in ("/", "\\", "0x", "Error", "<", "PIL") if word in detail]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), data=st.data())
def test_whatever_is_broken_in_a_file_the_answer_is_200_or_422(client: TestClient, kind: str, data: st.DataObject):
    content = bytearray(encoded(kind))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
        content[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(content)))
    assert client.post("/api/predict", content=bytes(content[:end]), headers=BINARY).status_code in (200, 422)


def test_64_million_pixels_are_the_limit(client: TestClient):
    assert client.post("/api/predict", content=png_claiming(8001, 8000), headers=BINARY).json() == {
        "detail": "the image has too many pixels"
    }


@pytest.mark.parametrize("route", ["/api/predict", "/api/predict/heat?class=red"])
def test_bodies_that_are_too_large_are_refused_before_they_are_read(client: TestClient, route: str):
    answer = client.post(route, content=bytes(MAX_BYTES + 1), headers=BINARY)
    assert (answer.status_code, answer.json()) == (413, {"detail": "the file is larger than 3 MiB"})
    assert client.post(route, content=bytes(MAX_BYTES), headers=BINARY).status_code == 422
    for length in ("9" * 5000, "-1", "1e3", "²"):
        headers = {**BINARY, "Content-Length": length.encode()}
        assert client.post(route, content=b"x", headers=headers).status_code == 413


def test_a_stream_without_a_length_is_cut_off_at_the_limit(client: TestClient):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(2**16)

    assert client.post("/api/predict", content=endless(), headers=BINARY).status_code == 413


# ---- images of the run ----


def test_heat_of_a_row_is_kept_by_its_tag(client: TestClient):
    address = "/api/images/2/heat?class=red"
    first = client.get(address)
    assert (first.status_code, first.headers["content-type"]) == (200, "image/png")
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = client.get("/api/images/2/heat?class=blue", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200
    assert other.headers["etag"] != first.headers["etag"]


def test_neighbours_are_computed_and_then_there(client: TestClient, modelled: Inspection):
    deadline = time.monotonic() + PATIENCE_SECONDS
    answer = client.get("/api/images/0/nearest?limit=3").json()
    while answer["status"] == "computing" and time.monotonic() < deadline:
        assert answer["splits"] == []
        assert 0 <= answer["progress"] <= 1
        time.sleep(0.02)
        answer = client.get("/api/images/0/nearest?limit=3").json()
    assert (answer["status"], answer["progress"]) == ("ready", 1)
    assert [(each["split"], len(each["images"])) for each in answer["splits"]] == [("train", 3), ("val", 3)]
    assert modelled.data is not None
    for split in answer["splits"]:
        for each in split["images"]:
            assert set(each) == {"row", "id", "image", "distance", "labels"}
            assert each["image"] == (each["id"] if split["split"] == "val" else None), "training images have no page"
            assert each["id"] == modelled.data.ids[each["row"]]


ROW_ROUTES = ("/api/images/{row}/heat?class=red", "/api/images/{row}/nearest", "/api/images/{row}/boxes")


@pytest.mark.parametrize("route", ROW_ROUTES)
@pytest.mark.parametrize(("row", "status"), [("24", 404), (str(2**31 - 1), 404), (str(2**31), 422), ("-1", 422), ("x", 422)])
def test_rows_that_are_not_there(client: TestClient, route: str, row: str, status: int):
    assert client.get(route.format(row=row)).status_code == status


@pytest.mark.parametrize("row", ["..%2f..%2fetc%2fpasswd", "%00", "1%2f..%2f2", "/etc/passwd"])
def test_images_have_no_paths(client: TestClient, row: str):
    assert client.get(f"/api/images/{row}/heat?class=red").status_code in (404, 422)


def test_unknown_classes_and_limits(client: TestClient, image: bytes):
    missing = client.get("/api/images/0/heat", params={"class": "<b>'\u202e"})
    assert missing.status_code == 404
    assert missing.json()["detail"].startswith("no such class: ")
    assert client.post("/api/predict/heat", params={"class": "purple"}, content=image, headers=BINARY).status_code == 404
    assert client.post("/api/predict/heat", content=image, headers=BINARY).status_code == 422
    assert client.get("/api/images/0/heat", params={"class": "x" * 1001}).status_code == 422
    assert client.get("/api/images/0/nearest?limit=0").status_code == 422
    assert client.get("/api/images/0/nearest?limit=51").status_code == 422


def test_an_image_of_the_run_that_is_gone_is_404_without_its_path(modelled: Inspection, tmp_path: Path):
    paths = ("", str(tmp_path / "gone.png"), *modelled.predictions.image_paths[2:])
    worker = ModelWorker(replace(modelled, predictions=replace(modelled.predictions, image_paths=paths)), tmp_path)
    with client_of(replace(modelled, predictions=replace(modelled.predictions, image_paths=paths)), worker) as client:
        nameless, gone = (client.get(f"/api/images/{row}/heat?class=red") for row in (0, 1))
        assert (nameless.status_code, nameless.json()) == (404, {"detail": "no image file is known"})
        assert (gone.status_code, gone.json()) == (404, {"detail": "the image is missing"})
    worker.close()


# ---- boxes ----


def test_boxes_of_generated_scenes_need_no_model(tmp_path: Path):
    path = write_scenes(tmp_path / "scenes", num_train=3, num_val=4, size_px=48)
    data = load_dataset(path)
    val_set = data.split("val")
    predictions = Predictions(
        ids=(*val_set.ids, "foreign"),
        logit_NC=np.zeros((5, len(data.label_set))),
        target_NC=np.full((5, len(data.label_set)), -1),
        label_set=data.label_set,
    )
    inspection = scores_alone(predictions, folder=tmp_path, data=data, data_path=path, split="val")
    with client_of(inspection, None) as client:
        for row in range(4):
            answer = client.get(f"/api/images/{row}/boxes").json()
            assert answer["note"] == ""
            sure = {each["class_name"] for each in answer["boxes"] if not each["is_doubtful"]}
            assert sure == {name for name, target in zip(data.label_set, val_set.target_NC[row], strict=True) if target == 1}
            assert all(0 <= each["left"] < each["right"] <= 1 for each in answer["boxes"])
        assert client.get("/api/images/4/boxes").json() == {"boxes": [], "note": "this image is not in the data set"}


def scores_alone(predictions: Predictions, *, folder: Path, **others: object) -> Inspection:
    threshold_C = np.full(len(predictions.label_set), 0.5)
    return Inspection(
        name="scores",
        review_file=folder / "review.sqlite",
        predictions=predictions,
        threshold_C=threshold_C,
        **others,  # pyright: ignore[reportArgumentType]
    )


def test_annotations_without_boxes_say_so(client: TestClient):
    note = "the annotations of this run have no boxes, or cannot be read"
    assert client.get("/api/images/0/boxes").json() == {"boxes": [], "note": note}


def test_an_image_that_is_sent_finds_itself_and_what_is_like_it(client: TestClient, modelled: Inspection):
    path = Path(modelled.predictions.image_paths[1])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = client.post("/api/predict/nearest?limit=4", content=path.read_bytes(), headers=BINARY).json()
        if answer["status"] == "ready":
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    train, val = answer["splits"]
    assert (val["images"][0]["id"], val["images"][0]["distance"]) == (modelled.predictions.ids[1], pytest.approx(0, abs=1e-3))
    beside = client.get("/api/images/1/nearest?limit=4").json()["splits"][0]
    assert [each["id"] for each in train["images"]] == [each["id"] for each in beside["images"]]
    for content, status in ((b"", 422), (b"no image", 422)):
        assert client.post("/api/predict/nearest", content=content, headers=BINARY).status_code == status
    assert client.post("/api/predict/nearest", content=path.read_bytes(), headers={"content-type": "text/plain"}).status_code == 415


# ---- without a model, or with one that is of no use ----


def test_scores_without_a_model_are_told(tmp_path: Path, image: bytes):
    predictions = Predictions(ids=("a",), logit_NC=np.zeros((1, 1)), target_NC=np.zeros((1, 1)), label_set=LabelSet(names=("red",)))
    with client_of(scores_alone(predictions, folder=tmp_path), None) as client:
        answers = [
            client.post("/api/predict", content=image, headers=BINARY),
            client.post("/api/predict/heat?class=red", content=image, headers=BINARY),
            client.get("/api/images/0/heat?class=red"),
            client.get("/api/images/0/nearest"),
        ]
        for answer in answers:
            assert answer.status_code == 409
            assert answer.json() == {"detail": "no model is at hand: open the run folder that it was trained in"}
        assert client.get("/api/images/0/boxes").json()["boxes"] == []


def test_a_model_that_is_gone_and_data_that_are_gone_are_told_without_paths(modelled: Inspection, tmp_path: Path, image: bytes):
    gone = replace(modelled, checkpoint=tmp_path / "gone", data=None)
    worker = ModelWorker(gone, tmp_path)
    with client_of(gone, worker) as client:
        answer = client.post("/api/predict", content=image, headers=BINARY)
        assert (answer.status_code, answer.json()) == (409, {"detail": "no checkpoint here"})
        for nearest in (
            client.get("/api/images/0/nearest"),
            client.post("/api/predict/nearest", content=image, headers=BINARY),
        ):
            assert nearest.status_code == 409
            assert nearest.json() == {"detail": "the data set of this run cannot be read, so there is nothing to compare with"}
        unasked = client.post("/api/predict/nearest?begin=false", content=image, headers=BINARY)
        assert (unasked.status_code, unasked.json()["status"]) == (200, "waiting")
    worker.close()


# ---- many at once ----


def test_ten_heavy_requests_do_not_stop_the_page(modelled: Inspection, tmp_path: Path):
    """36 megapixels keep the model busy for long: the page is answered meanwhile, and who does not fit in is told to come again."""
    file = BytesIO()
    Image.new("RGB", (6000, 6000)).save(file, "PNG")
    assert len(file.getvalue()) < MAX_BYTES
    worker = ModelWorker(modelled, tmp_path, max_waiting=4)
    with client_of(modelled, worker) as client, ThreadPoolExecutor(24) as pool:

        def heavy(_: int) -> httpx.Response:
            return client.post("/api/predict", content=file.getvalue(), headers=BINARY)

        waiting = [pool.submit(heavy, number) for number in range(20)]
        began, slowest, num_pings = time.perf_counter(), 0.0, 0
        while not all(future.done() for future in waiting):
            start = time.perf_counter()
            assert client.get("/ping").json() == "pong"
            slowest, num_pings = max(slowest, time.perf_counter() - start), num_pings + 1
            time.sleep(0.02)
        all_of_them = time.perf_counter() - began
        answers = [future.result() for future in waiting]
    worker.close()
    assert {answer.status_code for answer in answers} == {200, 503}
    assert sum(answer.status_code == 200 for answer in answers) >= 5
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json() == {"detail": "the model is busy with other images"}
            assert answer.headers["retry-after"] == "2"
    assert num_pings > 3
    assert slowest < all_of_them / 2  # measured: 0.1 s on an idle machine; the point is that it does not wait for 20 images


def test_threads_of_the_page_are_not_held_while_waiting(modelled: Inspection, tmp_path: Path):
    """More requests wait than the page has threads: were each to hold one, nothing else would be answered."""
    file = BytesIO()
    Image.new("RGB", (6000, 6000)).save(file, "PNG")
    worker = ModelWorker(modelled, tmp_path, max_waiting=100)
    before = [worker.predict(file.getvalue()) for _ in range(8)]
    with client_of(modelled, worker) as client, ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(client.get, f"/api/images/{row % 24}/heat?class=red") for row in range(60)]
        time.sleep(0.3)
        assert client.get("/ping").json() == "pong"
        assert not any(future.done() for future in (before[-1], *waiting))
        assert {future.result().status_code for future in waiting} == {200}
    worker.close()


# ---- the document ----


def test_every_status_is_declared(client: TestClient):
    paths = client.app.openapi()["paths"]  # pyright: ignore[reportAttributeAccessIssue]
    declared = {(path, method): set(each["responses"]) for path, of in paths.items() for method, each in of.items()}
    upload = {"200", "409", "413", "415", "422", "503"}
    assert declared["/api/predict", "post"] == declared["/api/predict/nearest", "post"] == upload
    assert declared["/api/predict/heat", "post"] == upload | {"404"}
    assert declared["/api/images/{row}/heat", "get"] == {"200", "304", "404", "409", "422", "503"}
    assert declared["/api/images/{row}/nearest", "get"] == {"200", "404", "409", "422", "503"}
    assert declared["/api/images/{row}/boxes", "get"] == {"200", "404", "422"}
    assert list(paths["/api/predict"]["post"]["requestBody"]["content"]) == ["application/octet-stream"]
    json.dumps(paths)
