"""The JSON API of the review: what it answers, and that nothing a client sends can break it."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.errors import RunError
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.queue import IssueFinder, queue
from polytag.inspector.review.store import ReviewStore, open_review
from polytag.inspector.review.worth import CorrectedLabels

WRONG, NUM_IMAGES = (3, 11), 80


def inspection_of(folder: Path, *, scale: str = "logit", num_images: int = NUM_IMAGES) -> Inspection:
    """Cats are known well, with two wrong labels; nobody said of four dogs, which the model sees."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((num_images, 2)) < 0.4).astype(np.int8)
    logit_NC = 5.0 * target_NC - 2.5 + rng.normal(0, 0.5, target_NC.shape)
    rows = [row for row in WRONG if row < num_images]
    target_NC[rows, 0] = 1 - target_NC[rows, 0]
    target_NC[np.flatnonzero(target_NC[:, 1] == 1)[:4], 1] = -1
    predictions = Predictions(
        ids=tuple(f"{row:02}.jpg" for row in range(num_images)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=("cat", "dog")),
        scale=scale,
    )
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=predictions,
        threshold_C=np.full(2, 0.5),
        split="train",
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    """The review that the client's server has open too."""
    with open_review(tmp_path / "review.sqlite") as store:
        yield store


def labels_of(image: str, **label_of: int) -> dict[str, Any]:
    """The body that says so of an image that nobody decided about."""
    labels = [{"class_name": name, "label": label, "based_on": 0} for name, label in label_of.items()]
    return {"image": image, "labels": labels, "reviewer": "Ada"}


def client_of(inspection: Inspection) -> TestClient:
    return TestClient(create_app(inspection), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(inspection_of(tmp_path)) as client:
        yield client


def ready(client: TestClient, **asked: str | int) -> dict[str, Any]:
    """The queue, asked for as the page does: again and again until it is there."""
    for _ in range(1000):
        answer = client.get("/api/review/queue", params=asked)
        assert answer.status_code == 200, answer.text
        if answer.json()["status"] != "computing":
            return answer.json()
        time.sleep(0.02)
    raise AssertionError("never ready")


def decision(**changes: object) -> dict[str, object]:
    return {"image": "03.jpg", "class_name": "cat", "label": 1, "reviewer": "Ada", "based_on": 0} | changes


def decide(client: TestClient, **changes: object) -> dict[str, Any]:
    answer = client.post("/api/review/decisions", json=decision(**changes))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_most_suspicious_labels_come_first(client: TestClient):
    found = ready(client)
    assert (found["status"], found["reason"], found["offset"]) == ("ready", "", 0)
    assert {(entry["image"], entry["class_name"]) for entry in found["entries"][:2]} == {("03.jpg", "cat"), ("11.jpg", "cat")}
    first = found["entries"][0]
    assert (first["decision"], first["number"], first["row"]) == (None, 0, int(first["image"][:2]))
    assert abs(first["given"] - first["probability"]) > 0.9
    assert first["is_counted"]
    unknown = ready(client, kind="unknown")
    assert unknown["total"] == 4
    assert {(entry["class_name"], entry["given"]) for entry in unknown["entries"]} == {("dog", -1)}
    everything = ready(client, kind="all")
    assert everything["total"] == found["total"] + 4
    assert ready(client, **{"class": "dog"})["total"] == sum(entry["class_name"] == "dog" for entry in found["entries"])


def test_pages_of_the_queue(client: TestClient):
    everything = ready(client, kind="all")["entries"]
    assert ready(client, kind="all", limit=2, offset=1)["entries"] == everything[1:3]
    assert ready(client, kind="all", offset=10_000)["entries"] == []


def test_what_is_decided_leaves_the_queue_and_comes_back(client: TestClient):
    before = ready(client)
    made = decide(client, note=" no cat ")
    assert made | {"time": ""} == {
        "number": 1, "split": "train", "image": "03.jpg", "class_name": "cat", "label": 1, "given": made["given"],
        "reviewer": "Ada", "author": "Ada", "note": "no cat", "time": "", "undoes": None,
    }  # fmt: skip
    after = ready(client)
    assert after["total"] == before["total"] - 1
    assert "03.jpg" not in [entry["image"] for entry in after["entries"][:1]]
    shown = ready(client, include_decided="true")
    (entry,) = [entry for entry in shown["entries"] if entry["image"] == "03.jpg" and entry["class_name"] == "cat"]
    assert (entry["decision"], entry["number"]) == (made, 1)
    undone = client.post("/api/review/undo", json={"reviewer": "Ada"}).json()
    assert (undone["undoes"], undone["label"], undone["author"]) == (1, None, "")
    back = ready(client)
    assert back["total"] == before["total"]
    (entry,) = [entry for entry in back["entries"] if entry["image"] == "03.jpg" and entry["class_name"] == "cat"]
    assert (entry["decision"], entry["number"]) == (None, 2)
    assert decide(client, based_on=2)["number"] == 3


def test_two_windows_do_not_overwrite_each_other(client: TestClient):
    first = decide(client)
    answer = client.post("/api/review/decisions", json=decision(label=0, reviewer="Ben"))
    assert answer.status_code == 409
    assert answer.json() == {"detail": "another decision on this label came first", "current": first, "num_conflicts": 1}
    decide(client, label=0, reviewer="Ben", based_on=1)
    answer = client.post("/api/review/undo", json={"reviewer": "Ada"})
    assert (answer.status_code, answer.json()["current"]["reviewer"]) == (409, "Ben")
    assert client.post("/api/review/undo", json={"reviewer": "Eve"}).json() == {"detail": "nothing to undo"}
    assert client.post("/api/review/undo", json={"reviewer": "Ben", "number": 2}).json()["author"] == "Ada"


def test_progress_history_and_the_labels_of_an_image(client: TestClient):
    total = ready(client)["total"]
    made = decide(client)
    decide(client, image="00.jpg", label=-1)
    progress = client.get("/api/review/progress").json()
    given = made["given"] == 1
    assert progress == {
        "num_decided": 2, "num_changed": 2 - given, "num_confirmed": int(given), "status": "ready", "num_label_issues": total,
        "num_label_issues_decided": 1,
    }  # fmt: skip
    history = client.get("/api/review/history").json()["decisions"]
    assert [row["number"] for row in history] == [2, 1]
    assert client.get("/api/review/history", params={"image": "03.jpg", "class": "cat"}).json()["decisions"] == [made]
    assert client.get("/api/review/history", params={"limit": 1}).json()["decisions"] == history[:1]
    labels = client.get("/api/review/labels", params={"image": "03.jpg"}).json()
    assert (labels["row"], [each["class_name"] for each in labels["classes"]]) == (3, ["cat", "dog"])
    assert [each["number"] for each in labels["classes"]] == [1, 0]
    assert labels["classes"][0]["decision"] == made
    assert 0 < labels["classes"][1]["probability"] < 1


def test_images_without_labels_are_labelled_at_once(tmp_path: Path, store: ReviewStore):
    inspection = inspection_of(tmp_path)
    target_NC = np.array(inspection.predictions.target_NC)
    target_NC[[7, 2]] = -1
    client = client_of(replace(inspection, predictions=replace(inspection.predictions, target_NC=target_NC)))
    assert client.get("/api/run").json()["num_unlabelled"] == 2
    assert client.get("/api/review/images").json() == {
        "total": 2,
        "num_labelled": 0,
        "offset": 0,
        "images": [{"row": row, "image": f"{row:02}.jpg", "is_labelled": False} for row in (2, 7)],
    }
    proposed = client.get("/api/review/labels", params={"image": "02.jpg"}).json()["classes"]
    assert [each["is_predicted"] for each in proposed] == [each["probability"] > 0.5 for each in proposed]
    answer = client.post("/api/review/image", json=labels_of("02.jpg", cat=1, dog=-1))
    assert [(row["class_name"], row["label"], row["given"]) for row in answer.json()["decisions"]] == [
        ("cat", 1, -1),
        ("dog", -1, -1),
    ]
    assert client.post("/api/review/image", json=labels_of("07.jpg", cat=0)).status_code == 200
    listed = client.get("/api/review/images", params={"offset": 1}).json()
    assert (listed["num_labelled"], listed["images"]) == (1, [{"row": 7, "image": "07.jpg", "is_labelled": False}])
    conflict = client.post("/api/review/image", json=labels_of("07.jpg", dog=1, cat=1))
    assert (conflict.status_code, conflict.json()["current"]["class_name"]) == (409, "cat")
    assert ("07.jpg", "dog") not in store.current("train"), "all of them or none"


@pytest.mark.parametrize("labels", [[], [{}], "cat", [{"class_name": "cat", "label": True, "based_on": 0}], None])
def test_bodies_that_label_no_image(client: TestClient, store: ReviewStore, labels: object):
    answer = client.post("/api/review/image", json={"image": "03.jpg", "labels": labels, "reviewer": "Ada"})
    assert answer.status_code == 422
    assert store.history("train") == ()


def test_the_first_question_does_not_wait(store: ReviewStore, tmp_path: Path):
    inspection = inspection_of(tmp_path)
    finder = IssueFinder(inspection)
    corrected = CorrectedLabels(inspection, store, ap_C=np.full(2, np.nan))
    assert queue(inspection, finder, store, corrected, timeout_seconds=30).status == "ready"
    again = queue(inspection, finder, store, corrected)
    assert again.entries == queue(inspection, IssueFinder(inspection), store, corrected, timeout_seconds=30).entries


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"scale": "rank"}, "ranks cannot be calibrated"),
        ({"num_images": 3}, "too few images to calibrate on"),
    ],
)
def test_scores_without_label_issues_can_still_be_reviewed(tmp_path: Path, asked: dict[str, Any], reason: str):
    with client_of(inspection_of(tmp_path, **asked)) as client:
        found = ready(client)
        assert (found["status"], found["reason"], found["entries"]) == ("unavailable", reason, [])
        assert client.get("/api/review/progress").json()["status"] == "unavailable"
        decide(client, image="02.jpg")
        assert client.get("/api/review/labels", params={"image": "02.jpg"}).json()["classes"][0]["decision"]["label"] == 1


# ---- what cannot be asked


@pytest.mark.parametrize(
    ("method", "path", "asked", "detail"),
    [
        ("GET", "queue", {"class": "cow"}, "no such class"),
        ("GET", "history", {"class": "cow"}, "no such class"),
        ("GET", "history", {"image": "x\0"}, "no such image"),
        ("GET", "labels", {"image": "../03.jpg"}, "no such image"),
        ("POST", "decisions", decision(image="x"), "no such image"),
        ("POST", "decisions", decision(class_name="CAT"), "no such class"),
        ("POST", "image", labels_of("x", cat=1), "no such image"),
        ("POST", "image", labels_of("04.jpg", cat=1, CAT=1), "no such class"),
        ("POST", "undo", {"reviewer": "Ada", "number": 2**63 - 1}, "nothing to undo"),
    ],
)
def test_what_is_not_there(client: TestClient, method: str, path: str, asked: dict[str, Any], detail: str):
    answer = client.get(f"/api/review/{path}", params=asked) if method == "GET" else client.post(f"/api/review/{path}", json=asked)
    assert (answer.status_code, answer.json()) == (404, {"detail": detail})


@pytest.mark.parametrize(
    "body",
    [
        decision(label=2),
        decision(label=True),
        decision(label=None),
        decision(label=1e400),
        decision(label="1"),
        decision(based_on=-1),
        decision(based_on=2**63),
        decision(based_on=10**400),
        decision(based_on=float("nan")),
        decision(reviewer=" "),
        decision(reviewer="x" * 81),
        decision(reviewer="a\0b"),
        decision(reviewer="a\ud800"),
        decision(note="x" * 2001),
        decision(note="\x1b[31m"),
        decision(note="\udfff"),
        decision(image="\ud800"),
        decision(image="x" * 5000),
        decision(image=None),
        {},
        [],
        None,
        "text",
        {"\ud800": "\ud800"},
    ],
    ids=lambda body: ascii(body)[:60],
)
def test_bodies_that_are_no_decision(client: TestClient, store: ReviewStore, body: object):
    answer = client.post("/api/review/decisions", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (404, 422), answer.text
    assert answer.json()["detail"]
    assert store.history("train") == ()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"label": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 50_000, b"\x00"]
)
def test_bodies_that_are_no_json(client: TestClient, content: bytes):
    for path in ("decisions", "undo"):
        answer = client.post(f"/api/review/{path}", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    ["kind=none", "limit=0", "limit=501", "limit=" + "9" * 5000, "offset=-1", "offset=nan", "include_decided=perhaps",
     "class=%00", "class=%ff%fe", "class=%ed%a0%80", "class=" + "x" * 5000],
)  # fmt: skip
def test_queries_that_are_none(client: TestClient, query: str):
    answer = client.get(f"/api/review/queue?{query}")
    assert answer.status_code in (404, 422)
    assert answer.json()["detail"]


TEXTS = st.text(st.characters(codec=None), max_size=100)  # with lone surrogates and NUL
VALUES = st.one_of(
    TEXTS,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from([1, 0, -1, "03.jpg", "cat", "Ada", 2**63 - 1, 2**70]),
)


@pytest.fixture(scope="module")
def one_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(inspection_of(tmp_path_factory.mktemp("any"))) as client:
        yield client


@settings(max_examples=150)
@given(
    body=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("image", "class_name", "label", "reviewer", "note", "based_on", "number"), VALUES)
    ),
    path=st.sampled_from(["decisions", "undo"]),
)
def test_no_body_breaks_it(one_client: TestClient, body: dict[str, object], path: str):
    answer = one_client.post(f"/api/review/{path}", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 404, 409, 422), answer.text


def test_a_disk_in_trouble_is_told_without_a_path(client: TestClient, store: ReviewStore, tmp_path: Path):
    store.path.write_bytes(b"not a database " * 100)
    for answer in (
        client.post("/api/review/decisions", json=decision()),
        client.post("/api/review/undo", json={"reviewer": "Ada"}),
        client.post("/api/review/image", json=labels_of("03.jpg", cat=1)),
        client.get("/api/review/progress"),
        client.get("/api/review/history"),
        client.get("/api/review/images"),
        client.get("/api/review/labels", params={"image": "03.jpg"}),
    ):
        assert (answer.status_code, answer.json()) == (503, {"detail": "not a review, or a damaged one"})
    with pytest.raises(RunError):
        store.current("train")


def test_reviewers_who_disagree(client: TestClient):
    assert client.get("/api/review/agreement").json() == {"classes": [], "num_disputed": 0, "disputed": [], "num_second": 0}
    for image, other in (("03.jpg", 0), ("11.jpg", 1)):
        first = decide(client, image=image)
        decide(client, image=image, label=other, reviewer="Ben", based_on=first["number"])
    found = client.get("/api/review/agreement").json()
    assert found["classes"] == [
        {"class_name": "cat", "first": "Ada", "second": "Ben", "num_labels": 2, "num_equal": 1, "kappa": 0.0}
    ]
    assert found["disputed"] == [{"image": "03.jpg", "class_name": "cat", "votes": {"Ada": 1, "Ben": 0}}]


def test_the_labels_on_which_reviewers_disagree_are_a_queue(client: TestClient):
    assert ready(client, kind="disputed")["entries"] == []
    doubted = {(entry["image"], entry["class_name"]): entry for entry in ready(client, kind="all", limit=500)["entries"]}
    trusted = next(name for name in (f"{row:02}.jpg" for row in range(NUM_IMAGES)) if (name, "cat") not in doubted)
    for image in (trusted, "03.jpg"):
        first = decide(client, image=image)
        last = decide(client, image=image, label=0, reviewer="Ben", based_on=first["number"])
    found = ready(client, kind="disputed")
    assert found["total"] == 2
    assert [entry["image"] for entry in found["entries"]] == ["03.jpg", trusted], "what the model doubts comes first"
    assert found["entries"][0]["probability"] == doubted["03.jpg", "cat"]["probability"]
    assert 0 < found["entries"][1]["probability"] < 1
    assert [entry["decision"]["author"] for entry in found["entries"]] == ["Ben", "Ben"]
    assert ready(client, kind="disputed", **{"class": "dog"})["total"] == 0
    decide(client, image="03.jpg", label=0, reviewer="Cleo", based_on=last["number"])
    assert [entry["image"] for entry in ready(client, kind="disputed")["entries"]] == [trusted], "two of three agree"


def test_every_status_is_declared(client: TestClient):
    paths = client.get("/api/openapi.json").json()["paths"]
    declared = {
        (method, path.removeprefix("/api/review/")): set(operation["responses"])
        for path, operations in paths.items()
        if path.startswith("/api/review/")
        for method, operation in operations.items()
    }
    assert declared == {
        ("get", "queue"): {"200", "404", "422", "503"},
        ("get", "progress"): {"200", "503"},
        ("get", "worth"): {"200", "503"},
        ("get", "history"): {"200", "404", "422", "503"},
        ("get", "labels"): {"200", "404", "422", "503"},
        ("get", "images"): {"200", "422", "503"},
        ("get", "agreement"): {"200", "422", "503"},
        ("post", "image"): {"200", "400", "404", "409", "422", "503"},
        ("post", "batch"): {"200", "400", "404", "409", "422", "503"},
        ("post", "decisions"): {"200", "400", "404", "409", "422", "503"},
        ("post", "undo"): {"200", "400", "404", "409", "422", "503"},
    }
