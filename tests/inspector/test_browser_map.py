"""The map in a real browser: a lasso and a rectangle select, the slice has its numbers, and the address holds it all."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import until
from PIL import Image
from umap_stand_in import ENDLESS, PRINTS, stand_in

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import open_review

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ANN = "localStorage.setItem('polytag.reviewer', 'Ann')"


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """Two groups of images, far from each other in their scores; the right one has all the cats."""
    folder = tmp_path_factory.mktemp("map")
    rng = np.random.default_rng(0)
    is_right = np.arange(80) >= 40
    paths: list[str] = []
    for row in range(80):
        paths.append(str(folder / f"{row:02}.png"))
        Image.new("RGB", (40, 30), (200, 40, 40) if is_right[row] else (40, 40, 200)).save(paths[-1])
    logit_NC = rng.normal(0, 0.5, (80, 2)) + np.where(is_right, 4, -4)[:, None]
    target_NC = np.stack([is_right & (np.arange(80) % 2 == 0), np.arange(80) % 3 == 0], axis=1).astype(np.int8)
    predictions = Predictions(
        ids=tuple(f"p{row:02}" for row in range(80)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=("cat", "dog")),
        image_paths=tuple(paths),
    )
    return Inspection(
        name="run", review_file=folder / "review.sqlite", predictions=predictions, threshold_C=np.full(2, 0.5), split="val"
    )


@pytest.fixture(scope="module")
def server(live, inspection: Inspection) -> Iterator[Any]:
    with live(create_app(inspection)) as running:
        yield running


def drawn(page: Any) -> None:
    until(page, "document.querySelector('#legend li') && document.querySelector('#computing').hidden")


def drag(page: Any, *path: tuple[float, float]) -> None:
    box = page.locator("#canvas").bounding_box()
    places = [(box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in path]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def test_a_lasso_is_a_slice_and_a_selection_and_an_address(server, visit, inspection: Inspection):
    page = visit(server.url + "/map?class=cat", viewport={"width": 1280, "height": 800})
    page.evaluate(ANN)
    drawn(page)
    assert "80 images" in page.get_attribute("#canvas", "aria-label")
    drag(page, (0.5, 0.02), (0.98, 0.02), (0.98, 0.98), (0.5, 0.98), (0.5, 0.02))
    until(page, "document.querySelectorAll('#slice-numbers dd').length > 3")
    first = page.inner_text("#slice-title")
    assert first == "40 images"
    assert "AP of cat" in page.inner_text("#slice-numbers")
    assert "20 with, 20 without" in page.inner_text("#slice-numbers")  # or all cats are on the left, as signs go
    page.keyboard.press("#")
    page.fill("#asked", "group")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#slice-tag a')?.textContent === '#group in the ranking'")
    with open_review(inspection.review_file) as store:
        assert store.batches.tags("val") == {"group": 40}
    page.reload()
    drawn(page)
    until(page, "document.querySelector('#slice-title').textContent === '40 images'")
    page.keyboard.press("Escape")
    until(page, "document.querySelector('#slice').hidden && !location.search.includes('lasso')")
    page.go_back()
    until(page, "document.querySelector('#slice-title').textContent === '40 images'")


def test_a_lasso_is_shown_in_the_ranking_in_one_action(server, visit):
    page = visit(server.url + "/map?class=cat", viewport={"width": 1280, "height": 800})
    drawn(page)
    drag(page, (0.5, 0.02), (0.98, 0.02), (0.98, 0.98), (0.5, 0.98), (0.5, 0.02))
    until(page, "document.querySelectorAll('#slice-numbers dd').length > 3")
    shown = page.inner_text("#slice-numbers b")
    page.click("#more")
    until(page, "document.querySelectorAll('#strip .id').length === 40")
    ids = page.evaluate("[...document.querySelectorAll('#strip .id')].map((each) => each.textContent)")
    page.click("text=These in the ranking")
    until(page, "document.querySelector('#total')?.textContent === '40' && document.querySelector('#grid .id')")
    assert len(page.url) < 1500
    for _ in range(2):
        until(page, "(ap) => document.querySelector('#ap').textContent === ap", shown)
        assert page.inner_text("#ap-of").endswith("of these images")
        until(page, "document.querySelectorAll('#grid .id').length >= 10")
        assert set(page.evaluate("[...document.querySelectorAll('#grid .id')].map((each) => each.textContent)")) <= set(ids)
        answer = page.evaluate("fetch('/api/ranking' + location.search + '&limit=100').then((found) => found.json())")
        assert sorted(each["id"] for each in answer["images"]) == sorted(ids), "the images of the slice, and no others"
        assert page.is_checked("input[name=region]")
        assert "lasso on the map of scores" in page.inner_text("#regions")
        page.reload()
        until(page, "document.querySelector('#total')?.textContent === '40'")
    page.check("input[name=outcome][value=true_positive]")
    until(page, "document.querySelector('#total').textContent === '20'")
    page.click("#to-map")
    until(page, "document.querySelector('#count')?.textContent.startsWith('20 of 80 images')")
    page.go_back()
    until(page, "document.querySelector('#total')?.textContent === '20' && document.querySelector('input[name=region]').checked")
    page.click("input[name=region]")
    until(page, "document.querySelector('#regions').hidden && !location.search.includes('region')")
    assert page.is_hidden("#regions")
    page.go_back()
    until(page, "document.querySelector('#total').textContent === '20' && location.search.includes('region')")
    assert page.is_checked("input[name=region]")
    page.click("#clear")
    until(page, "document.querySelector('#total').textContent === '80' && !location.search.includes('region')")


def test_images_of_a_class_that_was_left_are_forgotten_also_where_their_answer_comes_late(server, visit):
    page = visit(server.url + "/map?class=cat")
    drawn(page)
    found = page.evaluate("""async () => {
        const { Images } = await import("/static/map/images.js");
        const asked = [];
        window.fetch = () => new Promise((resolve) => asked.push(resolve));
        const images = new Images({ queryOf: () => new URLSearchParams() });
        const answer = (text) => new Response(JSON.stringify({ images: [{ row: 0, text }] }));
        const before = images.of([0]);
        images.clear();
        const after = images.of([0]);
        asked[1](answer("of dog"));
        await after;
        asked[0](answer("of cat"));
        return [await before, await images.of([0])];
    }""")
    assert found == [[], [{"row": 0, "text": "of dog"}]]


def test_the_keys_go_from_image_to_image_and_draw_a_rectangle(server, visit):
    page = visit(server.url + "/map?class=cat", viewport={"width": 1024, "height": 768})
    drawn(page)
    page.focus("#canvas")
    page.keyboard.press("ArrowRight")
    until(page, "!document.querySelector('#card').hidden")
    one = page.inner_text("#card .id")
    until(page, f"document.querySelector('#announcement').textContent.startsWith('{one}, cat ')")
    page.keyboard.press("r")
    for _ in range(12):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#num-selected').textContent.endsWith('selected')")
    assert int(page.inner_text("#num-selected").split()[0]) >= 1
    page.keyboard.press("Escape")
    until(page, "document.querySelector('#selection').hidden")
    page.keyboard.press("+")
    until(page, "location.search.includes('view=')")
    page.keyboard.press("]")
    until(page, "document.querySelector('#canvas').getAttribute('aria-label').endsWith('of dog')")
    assert page.input_value("#class") == "dog"
    page.select_option("#colour", "score")
    until(page, "document.querySelector('#legend').textContent.includes('0.8 – 1.0')")
    page.go_back()
    until(page, "document.querySelector('#legend').textContent.includes('missed')")
    assert page.input_value("#colour") == "error", "Back shows the colour of the address"


def test_umap_says_how_far_it_is_and_stops(live, visit, modelled: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    stand_in(ENDLESS, tmp_path, monkeypatch)
    with live(create_app(replace(modelled, review_file=tmp_path / "review.sqlite"))) as server:
        page = visit(server.url + "/map?class=red&by=features")
        drawn(page)
        page.select_option("#by", "umap")
        until(page, "document.querySelector('#computing').textContent.includes('UMAP places the images: 25%.')")
        assert "Until then this is the map of what the model sees." in page.inner_text("#computing")
        page.click("text=Stop")
        until(page, "document.querySelector('#computing').textContent.includes('The map by UMAP is not computed.')")
        page.reload()
        until(page, "document.querySelector('#computing').textContent.includes('The map by UMAP is not computed.')")
        (tmp_path / "umap" / "__init__.py").write_text(PRINTS)
        page.click("text=Compute it")
        until(page, "document.querySelector('#made-of').textContent.includes('by UMAP')")
        assert page.is_hidden("#computing")
