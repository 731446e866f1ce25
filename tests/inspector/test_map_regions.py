"""A ranking of what lies in a region of the map: the same images as on the map, its numbers, and addresses that are refused."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from small_inspection import small_inspection
from starlette.testclient import TestClient

from polytag.inspector.app import create_app
from polytag.inspector.browse.regions import parsed_region
from polytag.inspector.inspection import Inspection

LEFT = "scores.0_0-32767_0-32767_65535-0_65535"
MIDDLE = "scores.16000_0-48000_0-48000_66000-16000_66000"


@pytest.fixture
def inspection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    return small_inspection(tmp_path, num_images=60)


def serving(inspection: Inspection) -> TestClient:
    return TestClient(create_app(inspection), base_url="http://127.0.0.1")


@pytest.fixture
def client(inspection: Inspection) -> Iterator[TestClient]:
    with serving(inspection) as client:
        yield client


def places(client: TestClient) -> np.ndarray:
    give_up = time.monotonic() + 60
    while (answer := client.get("/api/map?by=scores").json())["status"] != "ready":
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return np.stack([answer["x"], answer["y"]], axis=1)


def rows_of(client: TestClient, query: str) -> set[int]:
    answer = client.get(f"/api/ranking?class=cat&limit=1000&{query}").json()
    rows = [each["row"] for each in answer["images"]]
    assert len(rows) == len(set(rows)) == answer["total"]
    return set(rows)


def test_the_ranking_and_its_numbers_are_those_of_the_region(client: TestClient, inspection: Inspection):
    x_N = places(client)[:, 0]
    rows = np.flatnonzero((x_N >= 0) & (x_N < 32767))
    assert 5 < len(rows) < 55
    assert rows_of(client, f"region={LEFT}") == set(rows.tolist())
    target_N, logit_N = inspection.predictions.target_NC[rows, 0], inspection.predictions.logit_NC[rows, 0]
    known_N = target_N >= 0
    answer = client.get(f"/api/slice?class=cat&region={LEFT}").json()
    assert answer["num_images"] == len(rows)
    assert answer["ap"] == pytest.approx(average_precision_score(target_N[known_N], logit_N[known_N]))
    assert answer["scope"] == "of these images"
    body = {"selection": {"ranking": {"class": "cat"}, "rows": rows.tolist(), "total": len(rows)}}
    of_slice = client.post("/api/selection/numbers", json=body).json()
    assert {key: answer[key] for key in ("ap", "low", "high")} == {key: of_slice[key] for key in ("ap", "low", "high")}
    bins = client.get(f"/api/charts?class=cat&region={LEFT}").json()["histogram"]
    assert sum(bins["present"] + bins["absent"] + bins["unknown"]) == len(rows)
    of_all = {"selection": {"ranking": {"class": "cat", "region": [LEFT]}, "is_all": True, "total": len(rows)}}
    assert client.post("/api/selection/numbers", json=of_all).json() == of_slice


def test_other_filters_go_on_and_regions_hold_together(client: TestClient):
    left, middle = rows_of(client, f"region={LEFT}"), rows_of(client, f"region={MIDDLE}")
    assert rows_of(client, f"region={LEFT}&region={MIDDLE}") == left & middle != left
    either = LEFT + MIDDLE.removeprefix("scores")
    assert rows_of(client, f"region={either}") == left | middle != left
    missed = rows_of(client, "outcome=true_negative")
    assert rows_of(client, f"region={LEFT}&outcome=true_negative") == left & missed
    assert set(client.get(f"/api/map/points?class=cat&region={LEFT}").json()["passing"]) == left


def test_the_page_names_the_filter_and_ends_it(client: TestClient):
    html = client.get(f"/ranking?class=cat&region={LEFT}").text
    assert f'<input type="checkbox" name="region" form="controls" value="{LEFT}" checked> lasso on the map of scores' in html
    assert "Filters (1)" in html
    assert '<fieldset id="regions" hidden>' in client.get("/ranking?class=cat").text


@pytest.mark.parametrize(
    "region",
    ["lasso", "scores", "scores.1_2-3_4", "planets.1_2-3_4-5_6", "scores.1_2-3_4-5_x", "scores.-1_2-3_4-5_6", "scores.1_2-3_4-5_6.",
     "scores.1.5_2-3_4-5_6", "scores.1_2-3_4-5_123456", "scores." + "-".join(["1_2"] * 61), "scores" + ".1_2-3_4-5_6" * 9,
     "scores.1_2-3_4-5_\u0666", "scores.1_2-3_4-5_6\n"],
)  # fmt: skip
def test_a_bad_region_is_refused_in_plain_words(client: TestClient, region: str):
    sentence = "The region of the map (region): it names a map (features, umap or scores), and 1 to 8 polygons of 3 to 60 corners"
    for path in ("/ranking", "/api/ranking", "/api/slice", "/map", "/api/map/points"):
        answer = client.get(path, params={"class": "cat", "region": region})
        assert answer.status_code == 422
        assert sentence in answer.text
    body = {"selection": {"ranking": {"class": "cat", "region": [region]}, "is_all": True, "total": 1}}
    assert client.post("/api/selection/numbers", json=body).status_code == 422


def test_what_is_too_long_or_of_no_map_here_is_refused(client: TestClient):
    longest = "scores" + ("." + "-".join(["65535_65535"] * 60)) * 8
    assert client.get("/api/ranking", params={"class": "cat", "region": longest}).status_code == 200
    assert client.get("/api/ranking", params={"class": "cat", "region": longest + "1"}).status_code == 422
    assert client.get("/api/ranking", params={"class": "cat", "region": [LEFT] * 5}).status_code == 422
    for source in ("features", "umap"):
        answer = client.get("/ranking", params={"class": "cat", "region": LEFT.replace("scores", source)})
        assert answer.status_code == 409
        assert "the map that the region was drawn on needs the model of the run" in answer.text


def test_a_map_that_is_not_there_yet_is_waited_for(modelled: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    address = "/ranking?class=red&region=features.0_0-66000_0-66000_66000-0_66000"
    with serving(replace(modelled, review_file=tmp_path / "review.sqlite")) as client:
        answer = client.get(address)
        assert answer.status_code == 503
        assert answer.headers["refresh"] == answer.headers["retry-after"]
        assert "the map that the region was drawn on is being computed" in answer.text
        client.post("/api/map/stop")
        answer = client.get(address)
        if answer.status_code == 409:  # else the features were there before the stop
            assert "is not computed: the page of the map computes it" in answer.text
            client.get("/api/map?by=features&begin=true")
        give_up = time.monotonic() + 60
        while (answer := client.get(address)).status_code == 503:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        assert answer.status_code == 200
        assert f'<b id="total">{len(modelled.predictions)}</b>' in answer.text


corners = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=3, max_size=12, unique=True)


@given(corners, st.integers(0, 2**32 - 1))
def test_it_is_the_winding_of_a_star(found: list[tuple[int, int]], seed: int):
    """Corners sorted by their angle around a point make a polygon that crosses itself nowhere, and winds around an image in it."""
    corner_K2 = np.array(found, float)
    middle = corner_K2.mean(axis=0)
    angle_K = np.arctan2(*(corner_K2 - middle).T[::-1])
    _, first = np.unique(np.round(angle_K, 9), return_index=True)
    corner_K2 = corner_K2[first]
    if len(corner_K2) < 3:
        return
    place_N2 = np.random.default_rng(seed).integers(0, 99, (50, 2))
    to_N2K = corner_K2[None] - (place_N2[:, None] + np.array([0.25, 0.125]))
    # what lies on a side has no winding: the cross product of its directions to both corners is 0
    following = np.roll(to_N2K, -1, axis=1)
    cross_NK = to_N2K[..., 0] * following[..., 1] - to_N2K[..., 1] * following[..., 0]
    is_beside_N = (np.abs(cross_NK) > 1e-9).all(axis=1)
    turned_NK = np.angle(np.exp(1j * np.diff(np.arctan2(to_N2K[..., 1], to_N2K[..., 0]), append=np.nan)[:, :-1]))
    angle_N = np.arctan2(to_N2K[..., 1], to_N2K[..., 0])
    turned_N = turned_NK.sum(axis=1) + np.angle(np.exp(1j * (angle_N[:, 0] - angle_N[:, -1])))
    text = "scores." + "-".join(f"{int(800 * x)}_{int(800 * y)}" for x, y in corner_K2)
    ours_N = parsed_region(text).holds(800 * place_N2 + np.array([200, 100]))
    assert (ours_N == (np.abs(turned_N) > np.pi))[is_beside_N].all()
