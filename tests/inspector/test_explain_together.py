"""Pairs of classes on their page: every number is that of its ranking, and the graph has an orange edge for what was planted."""

import re
import time
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.explain import together_page
from polytag.inspector.inspection import Inspection
from polytag.metrics.class_pairs import ClassPairs, class_pairs


def opened(
    tmp_path: Path, *, num_classes: int, num_images: int = 400, unknown: float = 0.1, is_planted: bool = False
) -> TestClient:
    rng = np.random.default_rng(num_classes)
    target_NC = (rng.random((num_images, num_classes)) < min(0.25, 3 / num_classes)).astype(np.int8)
    is_said_NC = rng.random(target_NC.shape) < np.where(target_NC == 1, 0.7, 0.02)
    if is_planted:
        is_said_NC[(target_NC[:, 0] == 1) & (target_NC[:, 1] == 0) & (rng.random(num_images) < 0.7), :2] = True
        is_both_N = (target_NC[:, 2] == 1) & (target_NC[:, 3] == 1)
        is_said_NC[is_both_N, 2] = True
        is_said_NC[is_both_N, 3] = False
    target_NC[rng.random(target_NC.shape) < unknown] = -1
    predictions = Predictions(
        ids=tuple(f"{row:04}.jpg" for row in range(num_images)),
        logit_NC=np.where(is_said_NC, 1.0, -1.0) * rng.uniform(0.5, 3, target_NC.shape),
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(f"class <{column}>" for column in range(num_classes))),
    )
    inspection = Inspection(
        name="run", review_file=tmp_path / "review.sqlite", predictions=predictions, threshold_C=np.full(num_classes, 0.5)
    )
    return TestClient(create_app(inspection), base_url="http://127.0.0.1")


def page(client: TestClient, path: str = "/together") -> str:
    for _ in range(200):
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        if "data-pending" not in answer.text:
            return answer.text
        time.sleep(0.05)
    raise AssertionError("the pairs are never counted")


def test_every_number_is_that_of_its_ranking(tmp_path: Path):
    client = opened(tmp_path, num_classes=6, is_planted=True)
    html = page(client)
    counts = re.findall(r'<td class="num"><a href="([^"]*)"(?: class="wrong")?>([\d,]+)', html)
    cells = re.findall(r'<td class="t\d[^"]*"><a href="([^"]*)"[^>]*>([\d,]+)</a>', html)
    assert html.count('<td class="t') == 36
    assert len(counts) > 30
    for link, number in counts + cells:
        parts = urlsplit(unescape(link))
        assert client.get("/api/ranking", params=parse_qsl(parts.query)).json()["total"] == int(number.replace(",", "")), link
    assert client.get(unescape(counts[0][0])).status_code == 200


def test_what_was_planted_is_orange_and_nothing_else_is(tmp_path: Path):
    html = page(opened(tmp_path, num_classes=6, unknown=0, is_planted=True))
    assert "Of 15 pairs of classes, the model invents 1 and breaks 1 beyond noise." in html
    edges = re.findall(r'<a href="([^"]*)" aria-label="([^"]*)"><path class="reach"', html)
    found = {tuple(dict(parse_qsl(urlsplit(unescape(link)).query)).values()) for link, _ in edges}
    assert found == {("class <0>", "class <1>", "invented"), ("class <2>", "class <3>", "broken")}
    quiet = page(opened(tmp_path / "quiet", num_classes=7)) if (tmp_path / "quiet").mkdir() is None else ""
    assert 'class="wrong"' not in quiet
    assert "no pair is invented or broken beyond noise" in quiet


def test_a_class_is_chosen_by_its_address(tmp_path: Path):
    client = opened(tmp_path, num_classes=5)
    html = page(client, "/together?class=class+%3C3%3E")
    assert "<option selected>class &lt;3&gt;</option>" in html
    assert "Pairs of class &lt;3&gt;" in html
    assert client.get("/together?class=lion").status_code == 404


def test_a_thousand_classes_have_a_page_without_a_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counted: list[int] = []

    def counting(target_NC: np.ndarray, is_predicted_NC: np.ndarray) -> ClassPairs:
        counted.append(target_NC.shape[1])
        return class_pairs(target_NC, is_predicted_NC)

    monkeypatch.setattr(together_page, "class_pairs", counting)
    client = opened(tmp_path, num_classes=1000, num_images=1500, unknown=0.01)
    html = page(client)
    assert 'class="matrix"' not in html
    assert html.count("<circle") == 40
    assert len(html) < 400_000
    assert "Pairs of class &lt;3&gt;" in page(client, "/together?class=class+%3C3%3E")
    assert counted == [1000], "what is counted once is not counted again"


@pytest.mark.parametrize("num_classes", [1, 2])
def test_few_classes_have_their_page(tmp_path: Path, num_classes: int):
    page(opened(tmp_path, num_classes=num_classes))
