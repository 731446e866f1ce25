"""What decisions are worth: the numbers are those of evaluating the exported labels, and of ranking flipped ones again."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, LabelSet, Predictions
from polytag.data.read_options import ReadOptions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.export import export_labels
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.evaluate import evaluate_predictions
from polytag.predictions.read import read_labelled

FLIPPED = {PRESENT: ABSENT, ABSENT: PRESENT, UNKNOWN: PRESENT}


def client_of(inspection: Inspection) -> TestClient:
    return TestClient(create_app(inspection), base_url="http://127.0.0.1", raise_server_exceptions=False)


def decide(client: TestClient, image: str, class_name: str, label: int, **more: object) -> dict[str, Any]:
    body = {"image": image, "class_name": class_name, "label": label, "reviewer": "Ada", "based_on": 0} | more
    answer = client.post("/api/review/decisions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def worth(client: TestClient) -> dict[str, Any]:
    return client.get("/api/review/worth").json()


def ready(client: TestClient, **asked: str | int) -> list[dict[str, Any]]:
    for _ in range(1000):
        answer = client.get("/api/review/queue", params=asked).json()
        if answer["status"] != "computing":
            return answer["entries"]
        time.sleep(0.02)
    raise AssertionError("never ready")


def of_export(run: Path, folder: Path) -> tuple[float, int]:
    """mAP and its number of classes, of the run's scores under the labels that `labels export` writes."""
    exported = export_labels(run, folder / f"{len(list(folder.iterdir()))}.csv", options=ReadOptions())
    labelled = read_labelled(run / "predictions-val.parquet", scale="", truth=exported.data, options=ReadOptions())
    mean = evaluate_predictions(labelled.predictions, num_replicates=10).mean_ap
    return mean.value, mean.count


@pytest.fixture
def reviewed(modelled: Inspection, tmp_path: Path) -> Inspection:
    """A run of its own, to be reviewed."""
    assert modelled.checkpoint is not None
    run = tmp_path / "run"
    shutil.copytree(modelled.checkpoint.parent, run)
    return replace(modelled, review_file=run / "review.sqlite", run_path=run)


def test_the_number_is_that_of_evaluating_the_exported_labels(reviewed: Inspection, tmp_path: Path):
    """Changed, confirmed and unknown labels, an undo, a second reviewer whose decision holds, a class left without a positive."""
    (exports := tmp_path / "exports").mkdir()
    predictions, run = reviewed.predictions, reviewed.review_file.parent
    ids, names, target_NC = predictions.ids, predictions.label_set.names, predictions.target_NC
    before = mean_average_precision(target_NC, predictions.logit_NC)
    with client_of(reviewed) as client:
        empty = {"num_decided": 0, "num_confirmed": 0, "classes": []}
        assert worth(client) == empty | {
            key: {"value": before, "low": None, "high": None, "num_classes": 3} for key in ("before", "after")
        }
        first = decide(client, ids[0], names[0], FLIPPED[int(target_NC[0, 0])])
        decide(client, ids[1], names[0], int(target_NC[1, 0]))
        assert (worth(client)["after"]["value"], 3) == of_export(run, exports)
        decide(client, ids[2], names[1], UNKNOWN)
        decide(client, ids[0], names[0], int(target_NC[0, 0]), reviewer="Ben", based_on=first["number"])
        decide(client, ids[3], names[1], FLIPPED[int(target_NC[3, 1])], reviewer="Ben")
        decide(client, ids[4], names[1], FLIPPED[int(target_NC[4, 1])])
        client.post("/api/review/undo", json={"reviewer": "Ada"})
        found = worth(client)
        assert (found["after"]["value"], 3) == of_export(run, exports)
        assert (found["num_decided"], found["num_confirmed"], found["before"]["value"]) == (4, 2, before)
        assert {each["name"]: (each["num_decided"], each["num_confirmed"]) for each in found["classes"]} == {
            names[0]: (2, 2), names[1]: (2, 0),
        }  # fmt: skip
        for row in np.flatnonzero(target_NC[:, 2] == PRESENT):
            decide(client, ids[row], names[2], ABSENT)
        found = worth(client)
        assert (found["after"]["value"], found["after"]["num_classes"]) == of_export(run, exports) != (before, 3)
        assert [each["after"] for each in found["classes"] if each["name"] == names[2]] == [None]


# ---- what one label more would change


@pytest.fixture
def doubted(tmp_path: Path) -> Inspection:
    """200 images of three classes, with wrong and unknown labels and tied scores."""
    rng = np.random.default_rng(0)
    truth_NC = rng.random((200, 3)) < (0.4, 0.2, 0.1)
    target_NC = (truth_NC ^ (rng.random(truth_NC.shape) < 0.08)).astype(np.int8)
    target_NC[rng.random(truth_NC.shape) < 0.05] = UNKNOWN
    predictions = Predictions(
        ids=tuple(f"{row:03}" for row in range(200)),
        logit_NC=np.round(np.where(truth_NC, 2.0, -2.0) + rng.normal(0, 1, truth_NC.shape), 1),
        target_NC=target_NC,
        label_set=LabelSet(names=("cat", "dog", "<i>")),
    )
    return Inspection(name="run", review_file=tmp_path / "review.sqlite", predictions=predictions, threshold_C=np.full(3, 0.5))


def changes_by_ranking_again(predictions: Predictions, target_NC: np.ndarray, entries: list[dict[str, Any]]) -> list[float]:
    before, found = mean_average_precision(target_NC, predictions.logit_NC), []
    for entry in entries:
        after_NC, column = target_NC.copy(), predictions.label_set.index(entry["class_name"])
        after_NC[entry["row"], column] = FLIPPED[int(target_NC[entry["row"], column])]
        found.append(mean_average_precision(after_NC, predictions.logit_NC) - before)
    return found


@pytest.mark.parametrize("kind", ["issues", "unknown", "all"])
def test_the_label_that_moves_map_most_comes_first(doubted: Inspection, kind: str):
    with client_of(doubted) as client:
        entries = ready(client, kind=kind, order="map", limit=500)
        assert len(entries) > 5
        target_NC = doubted.predictions.target_NC.copy()
        for _ in range(2):
            changes = [entry["map_change"] for entry in entries]
            np.testing.assert_allclose(changes, changes_by_ranking_again(doubted.predictions, target_NC, entries), atol=1e-12)
            assert changes == sorted(changes, key=abs, reverse=True)
            suspicious = ready(client, kind=kind, limit=500)
            by_key = {(entry["image"], entry["class_name"]): entry for entry in entries}
            assert by_key == {(entry["image"], entry["class_name"]): entry for entry in suspicious}
            assert suspicious != entries
            first = entries[0]
            label = FLIPPED[first["given"]]
            decide(client, first["image"], first["class_name"], label)
            target_NC[first["row"], doubted.predictions.label_set.index(first["class_name"])] = label
            num_before, entries = len(entries), ready(client, kind=kind, order="map", limit=500)
            assert len(entries) == num_before - 1
        assert ready(client, kind=kind, order="map", limit=3, offset=2) == entries[2:5]


# ---- the pages


def test_the_pages_have_the_number_and_say_what_it_is_not(doubted: Inspection):
    caution = "Mostly labels that contradict the model are reviewed, so correcting them favours it"
    with client_of(doubted) as client:
        assert caution not in client.get("/").text
        assert "Nothing is decided yet about these images." in client.get("/decisions").text
        first, second = ready(client, limit=2)
        decide(client, first["image"], first["class_name"], 1 - first["given"])
        decide(client, second["image"], second["class_name"], second["given"])
        found = worth(client)
        change = f"+{found['after']['value'] - found['before']['value']:.4f}"
        assert float(change) > 0
        for path in ("/", "/decisions"):
            html = client.get(path).text
            assert f"{caution}; 1 of the 2 decisions confirms the label as it was." in html
            assert f"{found['after']['value']:.3f}" in html
            assert change in html
        rows = client.get("/decisions").text.split("<tbody>")[1].split("</tbody>")[0]
        assert rows.count("<tr>") == len({first["class_name"], second["class_name"]})


def test_decisions_about_what_has_no_score_count_nowhere(doubted: Inspection):
    with client_of(doubted) as client:
        decide(client, "000", "cat", UNKNOWN)
    predictions = doubted.predictions
    columns = Predictions(
        ids=predictions.ids, logit_NC=predictions.logit_NC[:, 1:], target_NC=predictions.target_NC[:, 1:],
        label_set=LabelSet(names=("dog", "<i>")),
    )  # fmt: skip
    for fewer in (predictions.take(range(1, 200)), columns):
        other = replace(doubted, predictions=fewer, threshold_C=np.full(len(fewer.label_set), 0.5))
        with client_of(other) as client:
            found = worth(client)
            assert (found["num_decided"], found["before"]) == (0, found["after"])


def test_a_review_that_cannot_be_read_leaves_the_overview(doubted: Inspection):
    with client_of(doubted) as client:
        doubted.review_file.write_bytes(b"not a database " * 100)
        answer = client.get("/api/review/worth")
        assert (answer.status_code, answer.json()) == (503, {"detail": "not a review, or a damaged one"})
        assert client.get("/").status_code == 200
        assert client.get("/decisions").status_code == 200
