"""The map's page and API: where images are, what their points show, and the numbers of a selection."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from small_inspection import NAMES, small_inspection
from starlette.testclient import TestClient
from umap_stand_in import ENDLESS, MISFIT, PRINTS, stand_in

from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.map.places import EXTENT


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))


def serving(inspection: Inspection) -> TestClient:
    return TestClient(create_app(inspection), base_url="http://127.0.0.1", raise_server_exceptions=True)


@pytest.fixture
def inspection(tmp_path: Path, cache: None) -> Inspection:
    return small_inspection(tmp_path, num_images=60)


@pytest.fixture
def client(inspection: Inspection) -> Iterator[TestClient]:
    with serving(inspection) as client:
        yield client


def ready(client: TestClient, by: str) -> dict[str, Any]:
    give_up = time.monotonic() + 60
    while (answer := client.get("/api/map", params={"by": by, "begin": True}).json())["status"] != "ready":
        assert answer["status"] == "computing", answer
        assert time.monotonic() < give_up, answer
        time.sleep(0.05)
    return answer


def test_images_with_the_same_scores_are_in_one_place(client: TestClient):
    answer = ready(client, "scores")
    places = np.stack([answer["x"], answer["y"]], axis=1)
    assert places.shape == (60, 2)
    assert (places[0] == places[1]).all()
    assert (places[0] == places[2]).all()
    assert places.min() == 0  # the map is filled along its longer side, by one scale along both
    assert places.max() == EXTENT
    assert len(np.unique(places, axis=0)) == 58
    assert 0.5 < sum(answer["shares"]) < 1
    assert answer["others"] == []


def test_what_cannot_be_mapped_is_said(client: TestClient):
    for by in ("features", "umap"):
        answer = client.get("/api/map", params={"by": by})
        assert answer.status_code == 409
        assert "it needs the model of the run" in answer.json()["detail"]
    assert client.get("/api/map?by=horoscope").status_code == 422


def test_points_show_what_a_ranking_shows(client: TestClient, inspection: Inspection):
    answer = client.get("/api/map/points?class=dog").json()
    predictions = inspection.predictions
    assert answer["truth"] == predictions.target_NC[:, 1].tolist()
    assert answer["num_labels"] == (predictions.target_NC == 1).sum(axis=1).tolist()
    assert answer["score"] == np.rint(1000 * predictions.probability_NC[:, 1]).astype(int).tolist()
    assert (answer["threshold"], answer["passing"]) == (0.3, None)
    ranked = client.get("/api/ranking?class=dog&limit=60").json()["images"]
    assert {each["row"]: each["outcome"] for each in ranked} == {
        row: answer["outcomes"][place] for row, place in enumerate(answer["outcome"])
    }
    wrong = client.get("/api/map/points?class=dog&outcome=false_negative").json()["passing"]
    assert sorted(wrong) == [row for row, place in enumerate(answer["outcome"]) if answer["outcomes"][place] == "false_negative"]
    assert client.get("/api/map/points?class=lion").status_code == 404


def test_images_come_in_the_order_of_their_rows_each_once(client: TestClient):
    images = client.get("/api/map/images", params={"class": "cat", "row": [7, 3, 7]}).json()["images"]
    assert [each["id"] for each in images] == ["07", "03"]
    assert client.get("/api/map/images?class=cat").json() == {"images": []}
    assert client.get("/api/map/images?class=cat&row=60").status_code == 404
    assert client.get("/api/map/images", params={"class": "cat", "row": [0] * 101}).status_code == 422


def numbers_of(client: TestClient, rows: list[int], name: str = "cat") -> dict[str, Any]:
    body = {"selection": {"ranking": {"class": name}, "rows": rows, "total": len(rows)}}
    answer = client.post("/api/selection/numbers", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_numbers_of_a_selection_are_those_of_its_images_alone(client: TestClient, inspection: Inspection):
    rows = list(range(0, 60, 2))
    found = numbers_of(client, rows)
    target_N, logit_N = inspection.predictions.target_NC[rows, 0], inspection.predictions.logit_NC[rows, 0]
    known_N = target_N >= 0
    assert found["ap"] == pytest.approx(average_precision_score(target_N[known_N], logit_N[known_N]))
    assert found["low"] < found["ap"] < found["high"]
    assert (found["num_images"], found["num_present"], found["num_absent"], found["num_unknown"]) == (
        30, (target_N == 1).sum(), (target_N == 0).sum(), (target_N == -1).sum(),
    )  # fmt: skip
    assert {each["name"]: each["num"] for each in found["labels"]} == {
        name: int((inspection.predictions.target_NC[rows, column] == 1).sum()) for column, name in enumerate(NAMES)
    }
    absent = np.flatnonzero(inspection.predictions.target_NC[:, 0] == 0).tolist()
    assert [numbers_of(client, absent)[key] for key in ("ap", "low", "high", "is_few")] == [None, None, None, False]
    few = [*absent[:5], *np.flatnonzero(inspection.predictions.target_NC[:, 0] == 1)[:2].tolist()]
    assert numbers_of(client, few)["is_few"]


def test_the_page_offers_what_there_is(client: TestClient, tmp_path: Path):
    html = client.get("/map?class=dog&outcome=false_positive").text
    assert '<option value="scores">' in html
    assert '<option value="features">' not in html
    assert "needs the model of the run" in html
    without_scripts = html.split("<noscript>")[1].split("</noscript>")[0]
    assert "class=dog" in without_scripts
    assert "outcome=false_positive" in without_scripts
    assert "&lt;b&gt;big" in html
    assert "<b>big</b>" not in html
    assert client.get("/map?class=lion").status_code == 404
    (tmp_path / "ranks").mkdir()
    with serving(small_inspection(tmp_path / "ranks", num_images=60, scale="rank")) as ranks:
        assert '<option value="error">' not in ranks.get("/map").text  # ranks have no threshold
        assert len(ready(ranks, "scores")["x"]) == 60
        assert set(ranks.get("/api/map/points?class=cat").json()["score"]) <= set(range(1001))


@pytest.mark.parametrize("num_images", [1, 2])
def test_one_image_and_two_have_a_map(tmp_path: Path, cache: None, num_images: int):
    inspection = small_inspection(tmp_path, num_images=3)
    predictions = inspection.predictions.take(list(range(num_images)))
    with serving(replace(inspection, predictions=predictions)) as client:
        answer = ready(client, "scores")
        assert answer["x"] == answer["y"] == [round(EXTENT / 2)] * num_images  # alike, so in the middle
        assert client.get("/map").status_code == 200


def test_what_the_model_sees_has_the_other_splits_too(modelled: Inspection, tmp_path: Path, cache: None):
    with serving(replace(modelled, review_file=tmp_path / "review.sqlite")) as client:
        assert client.get("/map").text.count('value="features"') == 1
        answer = ready(client, "features")
        num = len(modelled.predictions)
        assert len(answer["x"]) == len(answer["y"]) == num
        assert min(answer["x"]) >= -1
        (other,) = answer["others"]
        assert other["split"] == "train"
        assert modelled.data is not None
        assert {modelled.data.split_N[row] for row in other["rows"]} == {"train"}
        assert len(other["x"]) == len(other["y"]) == len(other["rows"]) > 0
        assert client.post("/api/map/stop").json()["status"] == "waiting"
        assert ready(client, "features") == answer


@pytest.fixture
def umap(
    modelled: Inspection, tmp_path: Path, cache: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], TestClient]]:
    """Serves the run beside a stand-in for umap-learn."""
    with ExitStack() as stack:

        def of(code: str) -> TestClient:
            stand_in(code, tmp_path, monkeypatch)
            return stack.enter_context(serving(replace(modelled, review_file=tmp_path / "review.sqlite")))

        yield of


def asked(client: TestClient, is_there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Visit the map by UMAP until its answer is so."""
    give_up = time.monotonic() + 60
    while not is_there(answer := client.get("/api/map?by=umap").json()):
        assert time.monotonic() < give_up, answer
        time.sleep(0.02)
    return answer


def test_umap_has_its_progress_and_a_stop_that_ends_its_process(umap: Callable[[str], TestClient], tmp_path: Path):
    client = umap(ENDLESS)
    assert '<option value="umap">' in client.get("/map").text
    answer = asked(client, lambda answer: answer["step"] == "umap" and answer["progress"] > 0)
    assert (answer["status"], answer["progress"], answer["x"]) == ("computing", 0.25, [])
    number = int((tmp_path / "number").read_text())
    assert client.post("/api/map/stop").json() | {"status": "waiting", "step": "umap"} == client.get("/api/map?by=umap").json()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert len(ready(client, "features")["x"]) > 0, "the features are not what was stopped"
    (tmp_path / "umap" / "__init__.py").write_text(PRINTS)
    answer = ready(client, "umap")
    assert (answer["step"], answer["shares"], answer["others"]) == ("umap", None, [])
    assert len(answer["x"]) == len(client.get("/api/map/points?class=red").json()["truth"])
    assert max(answer["x"] + answer["y"]) == EXTENT


def test_a_failure_of_umap_is_said_and_the_next_visit_tries_again(umap: Callable[[str], TestClient], tmp_path: Path):
    client = umap(MISFIT)
    for _ in range(2):
        failed = asked(client, lambda answer: "detail" in answer)
        assert failed == {"detail": "UMAP failed: ImportError: Numba needs NumPy 1.0 or less"}
    assert len(ready(client, "features")["x"]) > 0


def test_a_map_by_umap_outlives_the_inspector(umap: Callable[[str], TestClient], tmp_path: Path):
    answer = ready(umap(PRINTS), "umap")
    assert ready(umap(MISFIT), "umap") == answer, "it is read and not computed"
    (file,) = (tmp_path / "cache").rglob("*.places")
    file.write_bytes(file.read_bytes()[:-40])
    failed = asked(umap(MISFIT), lambda answer: "detail" in answer)
    assert "UMAP failed" in failed["detail"], "a damaged file is not read"
    assert ready(umap(PRINTS), "umap") == answer
    assert ready(umap(MISFIT), "umap") == answer, "it was written again"


def test_closing_ends_umap(modelled: Inspection, tmp_path: Path, cache: None, monkeypatch: pytest.MonkeyPatch):
    stand_in(ENDLESS, tmp_path, monkeypatch)
    with serving(replace(modelled, review_file=tmp_path / "review.sqlite")) as client:
        asked(client, lambda answer: answer["progress"] == 0.25 and answer["step"] == "umap")
        number = int((tmp_path / "number").read_text())
        os.kill(number, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
