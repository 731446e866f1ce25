"""Two runs on one class: what this one gained and lost against `changes_of` of the metrics, and both runs' numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import until
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.inspector.app import create_app
from polytag.inspector.browse.ranking import Query, Rankings
from polytag.inspector.inspection import Inspection, compared
from polytag.metrics.ap import average_precision
from polytag.metrics.changes import changes_of

NAMES = ("cat", "dog", "boat")
OWN_C, OTHER_C = np.array([0.3, 0.5, 0.7]), np.array([0.6, 0.45, 0.5])
NUM_IMAGES, NUM_SHARED = 300, 240


def table(seed: int, scale: str = "logit") -> Predictions:
    rng = np.random.default_rng(0)
    target_NC = rng.choice([-1, 0, 0, 1], (NUM_IMAGES, 3)).astype(np.int8)
    logit_NC = 1.2 * target_NC + np.random.default_rng(seed).normal(0, 1.5, target_NC.shape)
    ids = tuple(f"p{row:03}" for row in range(NUM_IMAGES))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=NAMES), scale=scale)


FIRST = table(1)
SHARED = np.sort(np.random.default_rng(5).permutation(NUM_IMAGES)[:NUM_SHARED])
SECOND = table(2).take(SHARED)


def inspection(folder: Path, first: Predictions = FIRST) -> Inspection:
    shuffled = SECOND.take(np.random.default_rng(3).permutation(NUM_SHARED))  # and its classes the other way round
    second = replace(
        shuffled, label_set=LabelSet(names=NAMES[::-1]), logit_NC=shuffled.logit_NC[:, ::-1], target_NC=shuffled.target_NC[:, ::-1]
    )
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=first,
        threshold_C=OWN_C,
        compared=[compared("the other", second, first=first, threshold_C=OTHER_C[::-1])],
        column_N={"camera": tuple("ab"[row % 2] for row in range(NUM_IMAGES))},
    )


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return TestClient(create_app(inspection(tmp_path)), base_url="http://127.0.0.1")


def expected_changes():
    """As `polytag compare OTHER THIS` counts them: gained is what the later run, this one, has right alone."""
    return changes_of(SECOND, FIRST.take(SHARED), OTHER_C, OWN_C, num_listed=NUM_IMAGES)


def test_gained_and_lost_are_those_of_compare(tmp_path: Path):
    rankings = Rankings(inspection(tmp_path))
    for column, changes in enumerate(expected_changes()):
        for change, images in (("gained", changes.gained), ("lost", changes.lost)):
            rows = rankings.rows(Query(column=column, change=change, threshold=0.99))  # whatever the threshold of the page
            assert {FIRST.ids[row] for row in rows} == {image.id for image in images}
            assert len(images) > 5


def test_an_unknown_label_and_an_image_of_one_run_count_in_neither(tmp_path: Path):
    rankings = Rankings(inspection(tmp_path))
    left = set(range(NUM_IMAGES)) - set(SHARED.tolist()) | set(np.flatnonzero(FIRST.target_NC[:, 0] == -1).tolist())
    for change in ("gained", "lost"):
        assert not left & set(rankings.rows(Query(column=0, change=change)).tolist())


def test_counts_are_those_of_the_lists_everywhere(client: TestClient):
    changes = expected_changes()
    for each, expected in zip(client.get("/api/classes").json()["classes"], changes, strict=True):
        assert (each["num_gained"], each["num_lost"]) == (expected.num_gained, expected.num_lost)
        both = client.get("/api/compared", params={"class": each["name"]}).json()
        assert (both["num_gained"], both["num_lost"]) == (expected.num_gained, expected.num_lost)
        for change in ("gained", "lost"):
            listed = client.get("/api/ranking", params={"class": each["name"], "change": change}).json()
            assert listed["total"] == each[f"num_{change}"]
    run = client.get("/api/run").json()
    assert (run["num_gained"], run["num_lost"]) == tuple(
        sum(getattr(each, name) for each in changes) for name in ("num_gained", "num_lost")
    )


@pytest.mark.parametrize("filters", ["", "&camera=b", "&change=lost", "&outcome=false_positive"])
def test_both_runs_have_their_numbers_at_their_own_thresholds(client: TestClient, filters: str):
    query = filters.replace("camera=", "column=camera&value=")
    both = client.get("/api/compared?class=dog" + query).json()
    kept = np.array([not filters.startswith("&camera") or row % 2 == 1 for row in SHARED])
    target_N = SECOND.target_NC[kept, 1]
    assert both["num_images"] == kept.sum()
    assert [each["name"] for each in both["runs"]] == ["this run", "the other"]
    for run, scores, threshold in zip(both["runs"], (FIRST.take(SHARED), SECOND), (OWN_C[1], OTHER_C[1]), strict=True):
        is_predicted_N = scores.probability_NC[kept, 1] > threshold
        true, false = (int((is_predicted_N & (target_N == label)).sum()) for label in (1, 0))
        num_present = int((target_N == 1).sum())
        assert run["threshold"] == threshold
        assert (run["num_true_positives"], run["num_false_positives"], run["num_false_negatives"]) == (
            true,
            false,
            num_present - true,
        )
        assert (run["precision"], run["recall"]) == pytest.approx((true / (true + false), true / num_present))
        assert run["precision_low"] < run["precision"] < run["precision_high"]
        assert run["ap"] == pytest.approx(average_precision(target_N[:, None], scores.logit_NC[kept, 1:2])[0])
    assert both["precision_recall"][-1]["recall"] == 1
    gained = (FIRST.take(SHARED).probability_NC[kept, 1] > OWN_C[1]) == (target_N == 1)
    lost = (SECOND.probability_NC[kept, 1] > OTHER_C[1]) == (target_N == 1)
    assert both["num_gained"] == int((gained & ~lost & (target_N >= 0)).sum())
    assert both["num_lost"] == int((lost & ~gained & (target_N >= 0)).sum())


def test_the_pages_link_what_was_gained_and_lost(client: TestClient):
    num_gained = expected_changes()[0].num_gained
    overview, of_class = client.get("/").text, client.get("/class?class=cat").text
    for page in (overview, of_class):
        assert 'href="/ranking?class=cat&amp;change=gained"' in page
    assert f'>{num_gained}<span class="sr"> gained against the other</span></a>' in of_class
    ranking = client.get("/ranking?class=cat&change=gained").text
    assert f'<b data-key="num_gained">{num_gained}</b> gained' in ranking
    assert 'aria-current="true"><b data-key="num_gained">' in ranking
    assert '<option value="gained" selected>' in ranking
    assert f'<b id="total">{num_gained}</b>' in ranking


def test_all_that_was_lost_is_a_selection(client: TestClient):
    lost = expected_changes()[2].lost
    selection = {"ranking": {"class": "boat", "change": "lost"}, "is_all": True, "total": len(lost)}
    answer = client.post("/api/selection/ids", json={"selection": selection})
    assert set(answer.text.split()) == {image.id for image in lost}


def test_without_a_second_run_or_with_ranks_nothing_is_gained(tmp_path: Path):
    alone = Inspection(name="run", review_file=tmp_path / "r.sqlite", predictions=FIRST, threshold_C=OWN_C)
    with pytest.raises(UsageError, match="no second run"):
        Rankings(alone).rows(Query(column=0, change="gained"))
    client = TestClient(create_app(alone), base_url="http://127.0.0.1")
    assert client.get("/api/compared?class=cat").status_code == 409
    assert client.get("/api/ranking?class=cat&change=won").status_code == 422
    assert 'name="change"' not in client.get("/ranking?class=cat").text
    ranks = table(1, scale="rank")
    client = TestClient(create_app(inspection(tmp_path, first=ranks)), base_url="http://127.0.0.1")
    both = client.get("/api/compared?class=cat").json()
    assert (both["num_gained"], both["runs"][0]["precision"]) == (None, None)
    assert both["runs"][1]["ap"] > 0
    assert client.get("/api/classes").json()["classes"][0]["num_gained"] is None
    for path in ("/", "/ranking?class=cat", "/class?class=cat"):
        assert client.get(path).status_code == 200
    assert client.get("/ranking?class=cat&change=lost").status_code == 409


@pytest.fixture
def server(live, tmp_path: Path):
    with live(create_app(inspection(tmp_path))) as running:
        yield running


@pytest.mark.browser
@pytest.mark.slow
def test_what_was_gained_is_a_press_away_and_both_curves_are_drawn(server, visit):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    cat, dog, _ = expected_changes()

    page = visit(f"{server.url}/ranking?class=cat", excused=("404 (Not Found)",))  # there are no image files
    until(page, "document.querySelector('#grid.virtual') && !document.querySelector('[aria-busy]')")
    page.locator("[data-change=gained]").click()
    until(page, f"document.getElementById('total').textContent === '{cat.num_gained}'")
    assert "change=gained" in page.url
    assert page.locator("[data-change=gained]").get_attribute("aria-current") == "true"
    assert page.locator("[data-key=num_lost]").inner_text() == str(cat.num_lost), "both counts stay"
    page.keyboard.press("]")
    until(page, f"document.getElementById('total').textContent === '{dog.num_gained}'")
    until(page, f"document.querySelector('[data-key=num_lost]').textContent === '{dog.num_lost}'")
    page.keyboard.press("c")
    until(page, "document.querySelector('#precision-recall .chosen .curve')")
    assert page.locator("#precision-recall rect.mark").count() == 1
    page.locator("[data-change=gained]").click()
    until(page, f"document.getElementById('total').textContent === '{NUM_IMAGES}'")
    assert "change" not in page.url
