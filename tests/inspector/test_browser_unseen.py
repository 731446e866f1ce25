"""Images that cannot be shown, in a real browser: they look alike, and nobody decides about them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import until
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import open_review

pytestmark = [pytest.mark.browser, pytest.mark.slow]

UNSEEN = "The image is missing or cannot be read, so nothing can be decided about it."
ANN = "localStorage.setItem('polytag.reviewer', 'Ann')"


def inspection_of(folder: Path, *, num_images: int = 40, is_labelled: bool = True) -> Inspection:
    """Every even image is missing, every fourth of the others has the size of the drawing that stands for one."""
    rng = np.random.default_rng(0)
    truth_NC = rng.random((num_images, 2)) < 0.5
    paths = [folder / f"{row:02}.png" for row in range(num_images)]
    for row in range(1, num_images, 2):
        Image.new("RGB", (96, 96) if row % 4 == 1 else (60, 40), tuple(rng.integers(0, 255, 3).tolist())).save(paths[row])
    target_NC = (truth_NC ^ (rng.random(truth_NC.shape) < 0.3)).astype(np.int8)
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=Predictions(
            ids=tuple(f"p{row:02}" for row in range(num_images)),
            logit_NC=np.where(truth_NC, 2.5, -2.5) + rng.normal(0, 0.5, truth_NC.shape),
            target_NC=target_NC if is_labelled else np.full_like(target_NC, -1),
            label_set=LabelSet(names=("cat", "dog")),
            image_paths=tuple(map(str, paths)),
        ),
        threshold_C=np.full(2, 0.5),
        split="val",
    )


@pytest.fixture(autouse=True)
def _own_thumbnails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))


STATE = "(state) => document.querySelector('#full').dataset.state === state"


def test_review_offers_the_next_label_in_place_of_the_answers(live, visit, tmp_path: Path):
    inspection = inspection_of(tmp_path)
    with live(create_app(inspection)) as server:
        page = visit(f"{server.url}/review?id=p02&label=cat")
        page.evaluate(ANN)
        until(page, STATE, "missing")
        assert page.inner_text("#unseen p") == UNSEEN
        assert page.is_disabled("#present")
        page.keyboard.press("1")
        page.get_by_role("button", name="Next label").click()
        until(page, "document.querySelector('#id').textContent !== 'p02'")
        page.goto(f"{server.url}/review?id=p05&label=cat")  # it has the size of the drawing
        until(page, STATE, "shown")
        assert page.is_hidden("#unseen")
        page.keyboard.press("1")
        until(page, "/ 1 (changed|confirmed)/.test(document.querySelector('#counts').textContent)")
        page.close()
    with open_review(inspection.review_file) as store:
        assert [row.image_id for row in store.history("val")] == ["p05"]


def test_an_image_that_the_server_did_not_send_can_be_tried_again(live, visit, tmp_path: Path):
    with live(create_app(inspection_of(tmp_path))) as server:
        page = visit(server.url + "/runs", excused=("404", "ERR_FAILED"))
        page.evaluate(ANN)
        page.route("**/images/*", lambda route: route.abort())
        page.goto(f"{server.url}/review?id=p03&label=cat")
        until(page, STATE, "failed")
        assert page.inner_text("#unseen p").startswith("The image could not be loaded")
        assert page.is_disabled("#absent")
        page.unroute("**/images/*")
        page.get_by_role("button", name="Try again").click()
        until(page, STATE, "shown")
        assert page.is_enabled("#absent")
        page.close()


def test_the_pages_of_an_image_and_of_a_ranking_refuse_too(live, visit, tmp_path: Path):
    inspection = inspection_of(tmp_path)
    with live(create_app(inspection)) as server:
        page = visit(f"{server.url}/image?class=cat&id=p02&sort=id&order=asc")
        page.evaluate(ANN)
        until(page, "document.querySelector('#labels .unseen')")
        assert page.inner_text("#labels .unseen p") == UNSEEN
        assert page.locator("#labels .line button:enabled").count() == 0
        page.keyboard.press("1")
        until(page, "(text) => document.querySelector('#notice')?.textContent === text", UNSEEN)
        drawn = page.locator("#full").bounding_box()
        page.get_by_role("link", name="Next image").click()
        until(page, "document.querySelector('h1')?.textContent === 'p03'")
        page.goto(f"{server.url}/ranking?class=cat&sort=id&order=asc")
        until(page, "document.querySelector('#grid.virtual') && document.querySelector('#grid img').naturalWidth")
        page.keyboard.press("ArrowRight")
        until(page, "document.activeElement.matches('#grid a')")
        page.keyboard.press("1")
        until(page, "(text) => document.querySelector('#notice')?.textContent === text", UNSEEN)
        small = page.locator("#grid li img").first.bounding_box()
        assert max(drawn["width"], small["width"]) < 1.5 * min(drawn["width"], small["width"]), "missing images look alike"
        page.close()
    with open_review(inspection.review_file) as store:
        assert store.history("val") == ()


def test_the_label_page_goes_on_to_the_next_image(live, visit, tmp_path: Path):
    inspection = inspection_of(tmp_path, is_labelled=False)
    with live(create_app(inspection)) as server:
        page = visit(f"{server.url}/label?id=p02")
        page.evaluate(ANN)
        until(page, STATE, "missing")
        until(page, "document.querySelectorAll('#choices li').length === 2")
        assert page.is_disabled("#save")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Next image").click()
        until(page, "document.querySelector('#id').textContent === 'p03'")
        until(page, STATE, "shown")
        until(page, "document.querySelectorAll('#choices li').length === 2")  # nobody saves choices that they do not see
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#counts').textContent.startsWith('1 of')")
        page.close()
    with open_review(inspection.review_file) as store:
        assert {row.image_id for row in store.history("val")} == {"p03"}


def test_where_no_label_is_known_the_overview_says_so(live, visit, tmp_path: Path):
    with live(create_app(inspection_of(tmp_path, is_labelled=False))) as server:
        page = visit(server.url + "/")
        until(page, "!document.querySelector('.pending')")
        assert "No label of these images is known" in page.inner_text(".lead")
        assert "–––" not in page.inner_text("main")


@pytest.mark.parametrize("viewport", [(390, 844), (640, 400), (1024, 768), (1920, 1080)])
def test_the_answers_stay_in_their_place(live, visit, tmp_path: Path, viewport: tuple[int, int]):
    inspection = inspection_of(tmp_path)
    names = ("cat", "a name of several words that needs two lines of the question at least")
    predictions = replace(inspection.predictions, label_set=LabelSet(names=names))
    with live(create_app(replace(inspection, predictions=predictions))) as server:
        page = visit(server.url + "/", viewport={"width": viewport[0], "height": viewport[1]})
        places = set()
        for name in names:
            page.goto(f"{server.url}/review?id=p03&label={name}")
            until(page, "(name) => document.querySelector('#question .name')?.textContent === name", name)
            until(page, STATE, "shown")
            places.add(page.locator("#present").bounding_box()["y"])
        assert len(places) == 1, places
        page.close()


def test_many_at_a_time_are_those_that_are_shown(live, visit, tmp_path: Path):
    """A batch leaves out what is not there, and it cannot be pressed."""
    inspection = inspection_of(tmp_path)
    with live(create_app(inspection)) as server:
        page = visit(f"{server.url}/review?view=grid&class=cat")
        page.evaluate(ANN)
        until(page, "/^Save: 0 wrong, \\d+ right, \\d+ not shown/.test(document.querySelector('#confirm')?.textContent)")
        names = page.locator("#many .id").all_inner_texts()
        hidden = [name for name in names if int(name[1:]) % 2 == 0]
        assert 0 < len(hidden) < len(names)
        cell = page.locator("#many button").nth(names.index(hidden[0]))
        assert cell.locator(".verdict").inner_text() == "not shown"
        cell.click()
        assert cell.get_attribute("aria-pressed") == "false"
        until(page, "(text) => document.querySelector('#notice')?.textContent === text", UNSEEN)
        page.click("#confirm")
        until(page, "/ saved. z undoes them/.test(document.querySelector('#standing').textContent)")
        page.close()
    with open_review(inspection.review_file) as store:
        assert sorted(row.image_id for row in store.history("val")) == sorted(set(names) - set(hidden))
