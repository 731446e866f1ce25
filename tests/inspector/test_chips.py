"""The classes on a cell against a plain reading, and that a thousand of them do not swell an answer."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.browse.chips import MAX_CHIPS, chips_of
from polytag.inspector.inspection import Inspection

ERRORS_FIRST = ["false_negative", "false_positive", "true_positive", "unknown", "undecided"]


def table(*, num_images: int = 6, num_classes: int = 20, seed: int = 0, scale: str = "logit") -> Predictions:
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([-1, 0, 0, 0, 1], (num_images, num_classes)).astype(np.int8)
    names = tuple(f"class {c}" for c in range(num_classes))
    logit_NC = np.round(rng.normal(0, 2, target_NC.shape), 1)
    ids = tuple(map(str, range(num_images)))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=names), scale=scale)


def plain_reading(predictions: Predictions, row: int, threshold: float, column: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for c, name in enumerate(predictions.label_set):
        label, probability = predictions.target_NC[row, c], 1 / (1 + np.exp(-predictions.logit_NC[row, c]))
        above = probability > threshold
        if c == column:
            continue
        if label == 1:
            found[name] = "undecided" if not predictions.has_probabilities else "true_positive" if above else "false_negative"
        elif above and predictions.has_probabilities:
            found[name] = "false_positive" if label == 0 else "unknown"
    return found


@settings(max_examples=60)
@given(seed=st.integers(0, 1000), threshold=st.sampled_from([0.2, 0.5, 0.9]), scale=st.sampled_from(["logit", "rank"]))
def test_chips_are_the_labels_and_the_predictions(seed: int, threshold: float, scale: str):
    predictions = table(seed=seed, scale=scale)
    for row, (chips, num_more) in enumerate(chips_of(predictions, threshold_C=np.full(20, threshold), column=3)):
        expected = plain_reading(predictions, row, threshold, 3)
        assert expected.items() >= {(chip.name, chip.outcome) for chip in chips}
        assert len(chips) + num_more == len(expected)
        assert len(chips) == min(MAX_CHIPS, len(expected))
        kinds = [ERRORS_FIRST.index(chip.outcome) for chip in chips]
        assert kinds == sorted(kinds)
        labels = {name for name, outcome in expected.items() if outcome in ("true_positive", "false_negative", "undecided")}
        shown = {chip.name for chip in chips}
        assert labels <= shown or shown <= labels, "no prediction takes the place of a label"


def client_of(folder: Path, predictions: Predictions, threshold: float = 0.5) -> TestClient:
    threshold_C = np.full(len(predictions.label_set), threshold)
    inspection = Inspection(name="run", review_file=folder / "r.sqlite", predictions=predictions, threshold_C=threshold_C)
    return TestClient(create_app(inspection), base_url="http://127.0.0.1")


def test_an_answer_about_a_thousand_classes_is_small(tmp_path: Path):
    client = client_of(tmp_path, table(num_images=200, num_classes=1000), threshold=0.0)  # every class of every image is predicted
    answer = client.get("/api/ranking", params={"class": "class 7", "limit": 200})
    assert len(answer.content) < 200 * 1000
    for image in answer.json()["images"]:
        assert len(image["chips"]) + image["num_more"] == 999


@pytest.mark.parametrize(("size", "expected"), [("", "size-m"), ("l", "size-l")])
def test_the_size_is_in_the_address(tmp_path: Path, size: str, expected: str):
    assert f'<body class="ranking {expected}"' in client_of(tmp_path, table()).get(f"/ranking?size={size}").text


def test_the_table_of_classes_is_filtered_without_scripts_too(tmp_path: Path):
    html = client_of(tmp_path, table()).get("/?filter=CLASS+1&sort=name").text
    rows = html.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr")[1:]
    shown = {row.partition('<bdi class="name">')[2].partition("<")[0] for row in rows if not row.startswith(" hidden")}
    assert shown == {"class 1", *(f"class {c}" for c in range(10, 20))}
    assert "filter=CLASS+1" in html.partition("<thead>")[2], "an order keeps the filter"
