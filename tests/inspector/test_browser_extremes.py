"""Decisions in a real browser at thresholds and probabilities next to 0 and 1: the page's are the server's."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import until

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.metrics.decisions import decide

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

THRESHOLDS = {"far": 2e-18, "always": 0.0, "never": 1.0, "near": 1 - 2**-53, "half": 0.5}


def far_from_half(folder: Path) -> Inspection:
    """The same logits for every class: their probabilities are 1, almost 1, 4e-18, 9e-27 and exactly 0."""
    logit_N = np.array([60.0, 30.0, -40.0, -60.0, -800.0])
    names = tuple(THRESHOLDS)
    predictions = Predictions(
        ids=("a", "b", "c", "d", "e"),
        logit_NC=np.repeat(logit_N[:, None], len(names), axis=1),
        target_NC=np.repeat(np.array([1, 0, 1, 0, 1])[:, None], len(names), axis=1),
        label_set=LabelSet(names=names),
    )
    return Inspection(
        name="far", review_file=folder / "review.sqlite", predictions=predictions, threshold_C=np.array(list(THRESHOLDS.values()))
    )


def outcomes(page: Any) -> dict[str, str]:
    cells = page.eval_on_selector_all(
        "#grid > li .cell",
        "cells => cells.map(cell => [cell.querySelector('.caption.id').textContent, cell.className.split(' ')[1]])",
    )
    return dict(cells)


def expected(inspection: Inspection, threshold: float) -> dict[str, str]:
    predictions = inspection.predictions
    predicted_N = decide(predictions.probability_NC[:, 0], threshold_C=threshold)
    names = {(1, True): "true_positive", (0, True): "false_positive", (1, False): "false_negative", (0, False): "true_negative"}
    rows = zip(predictions.ids, predictions.target_NC[:, 0], predicted_N, strict=True)
    return {name: names[int(target), bool(predicted)] for name, target, predicted in rows}


def until_outcomes(page: Any, wanted: dict[str, str], name: str) -> None:
    """Wait until the grid is drawn by the page's script and shows these."""
    until(page, "document.querySelector('#grid.virtual') && !document.querySelector('#grid[aria-busy]')")
    give_up = time.monotonic() + 30
    while outcomes(page) != wanted and time.monotonic() < give_up:
        page.wait_for_timeout(20)
    assert outcomes(page) == wanted, name


def test_the_page_decides_as_the_server_does(
    tmp_path: Path, visit: Callable[..., Any], live: Callable[..., AbstractContextManager], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    inspection = far_from_half(tmp_path)
    with live(create_app(inspection)) as server:
        page = visit(f"{server.url}/ranking?class=half", excused=("404",))
        for name, threshold in THRESHOLDS.items():
            page.goto(f"{server.url}/ranking?class={name}")
            until_outcomes(page, expected(inspection, threshold), name)
            num_above = sum(outcome in ("true_positive", "false_positive") for outcome in outcomes(page).values())
            assert f"{num_above} above" in page.locator("#numbers").inner_text()
            page.locator("#threshold").fill("0")  # every image, whatever its score
            page.locator("#threshold").press("Enter")
            until_outcomes(page, expected(inspection, 0.0), name)
            assert "5 above" in page.locator("#numbers").inner_text()
        page.close()  # before its server is
