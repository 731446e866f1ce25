"""The numbers beside a filter: those of the images that pass it, against a plain reading; filters on decisions left out."""

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection, compared
from polytag.metrics.ap import average_precision
from polytag.metrics.groups import groups_of

NAMES = ("cat", "dog", "boat")
NUM_IMAGES = 400


def table(seed: int = 0, scale: str = "logit") -> Predictions:
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([-1, 0, 0, 1], (NUM_IMAGES, 3)).astype(np.int8)
    logit_NC = np.round(1.5 * target_NC + rng.normal(0, 1.5, target_NC.shape), 1)  # with ties
    return Predictions(
        ids=tuple(f"p{row:03}" for row in range(NUM_IMAGES)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=NAMES),
        scale=scale,
    )


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    first = table()
    inspection = Inspection(
        name="run",
        review_file=tmp_path / "review.sqlite",
        predictions=first,
        threshold_C=np.array([0.4, 0.5, 0.5]),
        compared=[compared("other", table(seed=1), first=first)],
        groups=groups_of([f"scene {row // 2}" for row in range(NUM_IMAGES)]),
        column_N={"camera": tuple("ab"[row % 2] for row in range(NUM_IMAGES))},
    )
    return TestClient(create_app(inspection), base_url="http://127.0.0.1")


FILTERS = {
    "": lambda target_NC, row_N: row_N >= 0,
    "&column=camera&value=b": lambda target_NC, row_N: row_N % 2 == 1,
    "&present=dog&absent=boat": lambda target_NC, row_N: (target_NC[:, 1] == 1) & (target_NC[:, 2] == 0),
    "&min_labels=1&max_labels=1": lambda target_NC, row_N: (target_NC == 1).sum(axis=1) == 1,
    "&text=p00": lambda target_NC, row_N: row_N < 10,
}


@pytest.mark.parametrize("query", FILTERS)
@pytest.mark.parametrize(
    "decided", ["", "&outcome=false_negative", "&disagree=true", "&predicted=cat", "&other=dog&bond=kept", "&min_score=0.3"]
)
def test_numbers_are_those_of_the_images_that_pass(client: TestClient, query: str, decided: str):
    predictions = table()
    rows = np.flatnonzero(FILTERS[query](predictions.target_NC, np.arange(NUM_IMAGES)))
    target_N, logit_N = predictions.target_NC[rows, 0], predictions.logit_NC[rows, 0]
    answer = client.get(f"/api/slice?class=cat{query}{decided}").json()
    assert (answer["num_images"], answer["num_present"], answer["num_absent"]) == (
        len(rows),
        int((target_N == 1).sum()),
        int((target_N == 0).sum()),
    )
    ap = average_precision(target_N[:, None], logit_N[:, None])[0]
    assert answer["ap"] == pytest.approx(ap, nan_ok=True)
    if query:
        assert answer["low"] < answer["ap"] < answer["high"]
    sweep = client.get(f"/api/thresholds?class=cat{query}{decided}").json()
    at = sweep["threshold"].index(0.4)
    above = predictions.probability_NC[rows, 0] > 0.4
    true = int((above & (target_N == 1)).sum())
    assert (sweep["own_threshold"], sweep["present"][at], sweep["num_present"]) == (0.4, true, int((target_N == 1).sum()))
    assert sweep["precision"]["value"][at] == pytest.approx(true / (above & (target_N >= 0)).sum(), abs=1e-4)
    assert sweep["recall"]["value"][at] == pytest.approx(true / (target_N == 1).sum(), abs=1e-4)
    expected = f"of {len(rows)}, right or wrong" if decided else "of these images" if query else ""
    assert answer["scope"] == sweep["scope"] == expected
    charts = client.get(f"/api/charts?class=cat{query}{decided}").json()
    assert charts["scope"] == expected
    assert sum(charts["histogram"]["present"]) == int((target_N == 1).sum())


def test_no_image_and_no_positive_have_no_numbers(client: TestClient):
    for query in ("text=nowhere", "present=cat"):
        answer = client.get(f"/api/slice?class=cat&{query}").json()
        assert (answer["ap"], answer["low"], answer["high"]) == (None, None, None)
        assert client.get(f"/api/charts?class=cat&{query}").json()["precision_recall"] == []
        assert client.get(f"/api/thresholds?class=cat&{query}").status_code == 200
        assert client.get(f"/ranking?class=cat&{query}").status_code == 200


def test_a_filter_that_the_scores_do_not_have_is_refused(client: TestClient):
    for route in ("slice", "thresholds", "charts"):
        assert client.get(f"/api/{route}?class=cat&column=lens&value=1").status_code == 409
        assert client.get(f"/api/{route}?class=lion").status_code == 404


def test_ranks_have_an_average_precision_and_no_threshold(tmp_path: Path):
    inspection = Inspection(
        name="run", review_file=tmp_path / "r.sqlite", predictions=table(scale="rank"), threshold_C=np.full(3, 0.5)
    )
    client = TestClient(create_app(inspection), base_url="http://127.0.0.1")
    assert client.get("/api/slice?class=cat&text=p0").json()["ap"] > 0
    assert client.get("/api/thresholds?class=cat&text=p0").status_code == 409
    assert client.get("/api/charts?class=cat&text=nowhere").status_code == 200
