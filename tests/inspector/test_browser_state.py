"""The address, the keys and the focus of the pages in a real browser: nothing that is seen is lost, and no key is."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import hold, press_at_once, until, until_held
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import open_review
from polytag.metrics.ap import average_precision

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAMES = ("cat", "bird", "boat", "dog")


def inspection_of(folder: Path, *, num_images: int = 90) -> Inspection:
    rng = np.random.default_rng(0)
    target_NC = (rng.random((num_images, 4)) < 0.4).astype(np.int8)
    paths = [str(folder / f"{row:02}.png") for row in range(num_images)]
    for path in paths:
        Image.new("RGB", (60, 40), tuple(rng.integers(0, 255, 3).tolist())).save(path)
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=Predictions(
            ids=tuple(f"p{row:02}" for row in range(num_images)),
            logit_NC=2.5 * target_NC + rng.normal(0, 1.5, target_NC.shape) - 1.2,
            target_NC=target_NC,
            label_set=LabelSet(names=NAMES),
            image_paths=tuple(paths),
        ),
        threshold_C=np.array([0.4, 0.5, 0.5, 0.6]),
        split="val",
        column_N={"camera": tuple("ab"[row % 2] for row in range(num_images))},
    )


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    return inspection_of(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def server(live, inspection: Inspection) -> Iterator[Any]:
    with live(create_app(inspection)) as running:
        yield running


def settled(page: Any) -> None:
    until(page, "document.querySelector('#grid.virtual') && !document.querySelector('#grid[aria-busy]')")


def ranked(inspection: Inspection, name: str) -> list[str]:
    logit_N = inspection.predictions.logit_NC[:, NAMES.index(name)]
    return [inspection.predictions.ids[row] for row in np.argsort(-logit_N, kind="stable")]


FOCUSED = "document.activeElement.querySelector?.('.caption.id')?.textContent"


# ---- filters ----


def test_the_numbers_beside_a_filter_are_those_of_its_images(server, visit, inspection: Inspection):
    page = visit(f"{server.url}/ranking?class=cat")
    settled(page)
    whole = page.inner_text("#ap")
    assert "these" not in page.inner_text("#ap-of")
    page.goto(f"{server.url}/ranking?class=cat&column=camera&value=b&present=dog")
    settled(page)
    until(page, "/of these images/.test(document.querySelector('#ap-of').textContent)")
    predictions = inspection.predictions
    rows = np.flatnonzero((np.arange(len(predictions)) % 2 == 1) & (predictions.target_NC[:, 3] == 1))
    ap = average_precision(predictions.target_NC[rows][:, [0]], predictions.logit_NC[rows][:, [0]])[0]
    assert page.inner_text("#total") == str(len(rows))
    assert page.inner_text("#ap") == f"{ap:.3f}" != whole
    above = predictions.probability_NC[rows, 0] > 0.4
    true = int((above & (predictions.target_NC[rows, 0] == 1)).sum())
    numbers = " ".join(page.inner_text("#numbers").split())
    assert f"precision {true / above.sum():.3f}" in numbers
    assert f"recall {true / (predictions.target_NC[rows, 0] == 1).sum():.3f}" in numbers
    page.goto(f"{server.url}/ranking?class=cat&outcome=false_negative")
    settled(page)
    until(page, "/right or wrong/.test(document.querySelector('#ap-of').textContent)")
    assert page.inner_text("#ap") == whole, "the missed images alone have no average precision"


# ---- the threshold and the label counts ----


def test_an_emptied_threshold_is_the_own_one_of_the_class(server, visit):
    page = visit(f"{server.url}/ranking?class=cat&threshold=0.9")
    settled(page)
    page.fill("#threshold", "")
    page.press("#threshold", "Enter")
    until(page, "!/threshold=/.test(location.href)")
    assert page.input_value("#threshold") == "0.4"
    assert page.is_hidden("#own")
    page.goto(f"{server.url}/ranking?class=cat&threshold=")
    settled(page)
    assert page.input_value("#threshold") == "0.4"


@pytest.mark.parametrize(("typed", "told"), [("-1", "must be 0 or more."), ("1.5", "must be a whole number.")])
def test_a_wrong_number_of_labels_is_explained_where_the_images_were(server, visit, typed: str, told: str):
    page = visit(f"{server.url}/ranking?class=cat", excused=("422",))
    settled(page)
    page.keyboard.press("f")
    page.fill("input[name=min_labels]", typed)
    until(page, "document.querySelector('#empty') && !document.querySelector('#empty').hidden")
    assert page.inner_text("#empty") == f"The smallest number of labels (min_labels) {told}"
    assert page.locator("#grid > li").count() == 0
    page.fill("input[name=min_labels]", "1")
    until(page, "document.querySelector('#empty').hidden && document.querySelectorAll('#grid > li').length > 5")


# ---- answers that come late ----


def late(page: Any, route: Any) -> None:
    """A request that was held is answered, and the page has had time to make something of it."""
    with page.expect_response(lambda response: response.url == route.request.url):
        route.continue_()
    page.wait_for_timeout(200)


def test_the_curves_of_a_class_that_was_left_are_not_drawn(server, visit):
    page = visit(f"{server.url}/ranking?class=cat")
    settled(page)
    held = hold(page, "**/api/charts?*class=cat*")
    page.keyboard.press("c")
    until_held(page, held)
    page.keyboard.press("]")
    until(page, "document.querySelector('#precision-recall path.curve')")
    drawn = page.inner_html("#precision-recall")
    late(page, held[0])
    assert page.inner_html("#precision-recall") == drawn


def test_of_two_goals_the_last_one_counts(server, visit):
    page = visit(f"{server.url}/ranking?class=cat")
    settled(page)
    held = hold(page, "**/api/goal?*")
    for number, goal in enumerate(("recall 0.9", "recall 0.4"), 1):
        page.fill("#goal", goal)
        page.press("#goal", "Enter")
        until_held(page, held, number)
    held[1].continue_()
    until(page, "document.querySelector('#promise').textContent.startsWith('recall 0.4: ')")
    until(page, "location.search.includes('threshold')")
    threshold = page.input_value("#threshold")
    late(page, held[0])
    assert page.inner_text("#promise").startswith("recall 0.4: ")
    assert page.input_value("#threshold") == threshold


# ---- the address ----


def test_the_address_of_an_image_holds_its_class_and_that_of_a_ranking_its_curves(server, visit, inspection: Inspection):
    first = ranked(inspection, "cat")[2]
    page = visit(f"{server.url}/image?class=cat&id={first}&offset=2")
    page.wait_for_selector("#closer")
    page.locator("#bars li[data-class=dog] a").click()
    until(page, "location.search.includes('label=dog')")
    page.reload()
    assert page.locator("#bars .chosen .name").inner_text() == "dog"
    assert "3 of 90 for cat" in page.inner_text(".crumbs")
    page.wait_for_selector("#closer")
    page.keyboard.press("ArrowRight")
    until(page, "(name) => document.querySelector('h1')?.textContent === name", ranked(inspection, "cat")[3])
    assert page.locator("#bars .chosen .name").inner_text() == "dog"
    page.locator("#bars li[data-class=cat] a").click()
    until(page, "!location.search.includes('label=')")
    page.goto(f"{server.url}/ranking?class=cat")
    settled(page)
    page.keyboard.press("c")
    until(page, "/curves=1/.test(location.href)")
    page.wait_for_selector("#over-threshold svg", timeout=60_000)
    page.reload()
    page.wait_for_selector("#over-threshold svg", timeout=60_000)
    page.keyboard.press("c")
    until(page, "!/curves/.test(location.href)")


def test_without_scripts_a_class_of_an_image_keeps_its_ranking(server, browser, inspection: Inspection):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/image?class=cat&id={ranked(inspection, 'cat')[2]}&offset=2")
    page.locator("#bars li[data-class=dog] a").click()
    assert page.locator("#bars .chosen .name").inner_text() == "dog"
    assert "3 of 90 for cat" in page.inner_text(".crumbs")
    context.close()


# ---- keys ----


def test_a_key_after_a_choice_is_the_pages_and_not_another_choice(server, visit):
    page = visit(f"{server.url}/ranking?class=cat")
    settled(page)
    page.focus("#class")
    page.keyboard.press("b")  # a search of the list, as ever
    until(page, "document.querySelector('#class').value === 'bird'")
    settled(page)
    page.wait_for_timeout(1100)
    page.keyboard.press("b")  # the bottom of the ranking, and not "boat"
    until(page, "document.querySelector('#order').value === 'asc'")
    assert page.input_value("#class") == "bird"
    page.focus("#class")
    page.evaluate("""() => {
        const select = document.querySelector('#class');
        select.value = 'boat';
        select.dispatchEvent(new Event('change', {bubbles: true}));
    }""")  # as the open list of the browser does
    settled(page)
    page.keyboard.press("t")
    until(page, "document.querySelector('#order').value === 'desc'")
    page.keyboard.press("ArrowRight")
    until(page, f"{FOCUSED} !== undefined")
    assert page.input_value("#class") == "boat"


def slow(page: Any, pattern: str, seconds: float) -> None:
    page.route(pattern, lambda route: (time.sleep(seconds), route.continue_()))


def test_keys_that_come_while_the_page_loads_are_not_lost(server, visit, inspection: Inspection):
    page = visit(server.url + "/runs", excused=("404",))
    slow(page, "**/api/ranking?*", 0.5)
    page.goto(f"{server.url}/ranking?class=cat", wait_until="commit")
    page.wait_for_selector("#grid", state="attached")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    settled(page)
    until(page, f"(name) => {FOCUSED} === name", ranked(inspection, "cat")[1])


def test_keys_that_come_between_two_images_count(server, visit, inspection: Inspection):
    names = ranked(inspection, "cat")
    page = visit(f"{server.url}/image?class=cat&id={names[0]}&offset=0")
    page.wait_for_selector("#closer")
    slow(page, "**/image?*", 0.3)
    press_at_once(page, "ArrowRight", "ArrowRight", "ArrowRight")
    until(page, "(name) => document.querySelector('h1')?.textContent === name", names[3])
    assert page.locator("#bars li").count() == 4


def test_a_decision_is_never_held_for_an_image_that_is_not_there_yet(server, visit, inspection: Inspection):
    names = ranked(inspection, "cat")
    page = visit(f"{server.url}/image?class=cat&id={names[0]}&offset=0")
    page.evaluate("localStorage.setItem('polytag.reviewer', 'Ann')")
    page.wait_for_selector("#closer")
    slow(page, "**/image?*", 0.3)
    press_at_once(page, "ArrowRight", "1")
    until(page, "(name) => document.querySelector('h1')?.textContent === name", names[1])
    page.wait_for_selector("#labels button")
    page.wait_for_timeout(300)
    with open_review(inspection.review_file) as store:
        assert store.history("val") == ()


def test_the_focus_returns_to_the_cell_that_was_opened(server, visit, inspection: Inspection):
    names = ranked(inspection, "cat")
    page = visit(f"{server.url}/ranking?class=cat", viewport={"width": 900, "height": 700})
    settled(page)
    for _ in range(14):
        page.keyboard.press("ArrowRight")
    until(page, f"(name) => {FOCUSED} === name", names[13])
    page.keyboard.press("Enter")
    page.wait_for_selector("#closer")
    page.go_back()
    settled(page)
    until(page, f"(name) => {FOCUSED} === name", names[13])
    page.keyboard.press("Enter")
    page.wait_for_selector("#closer")
    page.keyboard.press("ArrowRight")
    until(page, "(name) => document.querySelector('h1')?.textContent === name", names[14])
    page.wait_for_selector("#closer")
    page.keyboard.press("Escape")
    settled(page)
    until(page, f"(name) => {FOCUSED} === name", names[14])
    assert page.locator("#grid a:focus").bounding_box()["y"] >= 0
    assert "id=" not in page.url
