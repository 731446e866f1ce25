"""What the ranking could not load, in a real browser: the page says so, and loads it when it can, without being scrolled."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from browsing import until
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

NUM_IMAGES = 1500
REST_MS, NUM_PAGES = 300, 2  # a jump asks for its window, and after a rest for the pages around it
LISTS, THUMBNAILS = "**/api/ranking?*", "**/api/thumbnails?*"
REASON = "polytag does not answer: is it still running?"
GONE = "!document.querySelector('#unloaded')"
IN_WINDOW = """[...document.querySelectorAll('#grid li')].filter(each => {
    const {top, bottom} = each.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
})"""
NAMED = f"{IN_WINDOW}.length > 5 && {IN_WINDOW}.every(each => each.querySelector('.caption.id').textContent)"
SHOWN = f"{IN_WINDOW}.length > 5 && {IN_WINDOW}.every(each => each.querySelector('img').naturalWidth)"


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    folder = tmp_path_factory.mktemp("unloaded")
    rng = np.random.default_rng(0)
    Image.new("RGB", (60, 40), (40, 120, 90)).save(folder / "one.png")
    target_NC = (rng.random((NUM_IMAGES, 2)) < 0.4).astype(np.int8)
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=Predictions(
            ids=tuple(f"p{row:04}" for row in range(NUM_IMAGES)),
            logit_NC=2 * target_NC + rng.normal(0, 1.5, target_NC.shape) - 1,
            target_NC=target_NC,
            label_set=LabelSet(names=("cat", "dog")),
            image_paths=(str(folder / "one.png"),) * NUM_IMAGES,
        ),
        threshold_C=np.array([0.4, 0.5]),
        split="val",
    )


@pytest.fixture(scope="module")
def server(live, inspection: Inspection) -> Iterator[Any]:
    with live(create_app(inspection)) as running:
        yield running


@pytest.fixture
def page(server, visit) -> Any:
    """A ranking whose clock stands still: only what a test lets happen happens."""
    excused = ("ERR_FAILED", "404 (", "503 (")
    page = visit(f"{server.url}/ranking?class=cat", excused=excused, viewport={"width": 1000, "height": 700})
    page.clock.install()
    page.reload()
    until(page, "document.querySelector('#grid.virtual') && !document.querySelector('[aria-busy]')")
    until(page, SHOWN)
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 10)
    return page


def failing(page: Any, pattern: str, **answer: Any) -> list[str]:
    """Let the requests to such addresses fail from now on, or have this answer; the addresses that were asked for."""
    asked: list[str] = []
    page.route(pattern, lambda route: (asked.append(route.request.url), route.fulfill(**answer) if answer else route.abort()))
    return asked


def wait_for(page: Any, is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < give_up
        page.wait_for_timeout(20)


def all_failed(page: Any, asked: list[str], failed: list[str]) -> int:
    """Wait until the page knows of all that it asked for that it failed; return their number."""
    wait_for(page, lambda: len(failed) == len(asked) > 0)
    page.evaluate("Promise.resolve()")
    return len(asked)


def jump(page: Any) -> None:
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    until(page, "document.querySelector('#unloaded')")


def rest(page: Any, asked: list[str]) -> None:
    """Let the time pass after which a jump asks for what is beyond the window, at the latest."""
    page.clock.run_for(REST_MS)
    wait_for(page, lambda: len(asked) >= 1 + NUM_PAGES)
    page.wait_for_timeout(200)  # a jump may be more than one event of scrolling, each of which asks


def has_what_is_due(page: Any, inspection: Inspection) -> None:
    until(page, NAMED)
    until(page, SHOWN)
    until(page, GONE)
    ranked = np.argsort(-inspection.predictions.logit_NC[:, 0], kind="stable")
    shown = page.evaluate(IN_WINDOW + ".map(each => [Number(each.dataset.index), each.querySelector('.caption.id').textContent])")
    assert 300 < shown[0][0] < NUM_IMAGES - 300
    assert page.evaluate(IN_WINDOW + ".every(each => each.querySelector('.frame svg').checkVisibility({visibilityProperty: true}))")
    assert [name for _, name in shown] == [inspection.predictions.ids[ranked[index]] for index, _ in shown]


def test_a_window_that_fails_says_so_and_is_tried_again_after_longer_and_longer(page, inspection: Inspection):
    asked, failed = failing(page, LISTS), []
    page.on("requestfailed", lambda request: failed.append(request.url))
    jump(page)
    assert page.inner_text("#unloaded span") == f"Some images are not loaded. {REASON} The page goes on trying."
    assert page.inner_text("#announcement") == page.inner_text("#unloaded span")
    assert not page.evaluate(NAMED)
    is_seen = "[...each.querySelectorAll('.frame > *')].some(part => part.checkVisibility({visibilityProperty: true}))"
    assert not page.evaluate(f"{IN_WINDOW}.some(each => {is_seen})"), "neither a broken image nor the sign of an unknown label"
    rest(page, asked)
    for wait_ms in (1000 - REST_MS, 2000, 4000):
        number = all_failed(page, asked, failed)
        page.clock.run_for(wait_ms - 20)
        page.wait_for_timeout(50)
        assert len(asked) == number, f"before {wait_ms} ms have passed"
        page.clock.run_for(20)
        wait_for(page, lambda number=number: len(asked) > number)
    all_failed(page, asked, failed)
    assert page.locator("#unloaded").count() == 1
    page.unroute(LISTS)
    page.clock.run_for(8000)
    has_what_is_due(page, inspection)
    assert page.inner_text("#announcement") == "All images are loaded."


HAPPENINGS = {
    "the connection returns": "dispatchEvent(new Event('online'))",
    "the page is seen again": "document.dispatchEvent(new Event('visibilitychange'))",
    "somebody wants it": "document.querySelector('#unloaded button').click()",
}


@pytest.mark.parametrize("happening", HAPPENINGS)
def test_it_is_tried_at_once_where(page, inspection: Inspection, happening: str):
    failing(page, LISTS)
    jump(page)
    page.unroute(LISTS)
    page.evaluate(HAPPENINGS[happening])
    has_what_is_due(page, inspection)


def test_the_window_that_moves_on_brings_what_is_missing(page, inspection: Inspection):
    failing(page, LISTS)
    jump(page)
    page.unroute(LISTS)
    page.clock.run_for(990)  # no longer a moment ago, and not yet the time to try again
    page.evaluate("scrollBy(0, 30)")
    has_what_is_due(page, inspection)


def test_a_refusal_is_told_and_not_asked_again(page, inspection: Inspection):
    asked = failing(page, LISTS, status=404, json={"detail": "no such class: 'cat'"})
    jump(page)
    assert page.inner_text("#unloaded span") == "Some images are not loaded. no such class: 'cat'"
    rest(page, asked)
    number = len(asked)
    page.clock.run_for(120_000)
    page.wait_for_timeout(50)
    assert len(asked) == number
    page.unroute(LISTS)
    page.get_by_role("button", name="Try now").focus()
    page.keyboard.press("Enter")
    has_what_is_due(page, inspection)
    assert page.evaluate("document.activeElement.id") == "main", "the focus is not lost with the button"


def test_images_that_fail_come_too(page, inspection: Inspection):
    asked = failing(page, THUMBNAILS)
    single: list[str] = []
    page.on("request", lambda request: single.append(request.url) if "/thumbnails/" in request.url else None)
    jump(page)
    until(page, NAMED)
    assert asked
    assert not page.evaluate(SHOWN)
    page.unroute(THUMBNAILS)
    page.clock.run_for(1000)
    has_what_is_due(page, inspection)
    assert single == [], "no image is asked for by itself, which would fail as well"


def test_a_list_that_fails_comes_by_itself(page):
    failing(page, LISTS, status=503, json={"detail": "the disk is full"})
    page.keyboard.press("b")
    until(page, "document.querySelector('#empty')?.textContent === 'the disk is full. The page goes on trying.'")
    assert page.inner_text("#total") == "0"
    page.unroute(LISTS)
    page.clock.run_for(1000)
    until(page, f"document.querySelector('#total').textContent === '{NUM_IMAGES:,}'")
    until(page, NAMED)
    assert page.locator("#empty").is_hidden()
    assert page.locator("#unloaded").count() == 0
    assert "order=asc" in page.url
