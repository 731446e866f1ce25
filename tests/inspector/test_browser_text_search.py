"""A search by text in a real browser: typed, seen in the order of open_clip and in the address, and gone again with Back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browsing import until
from PIL import Image
from small_inspection import small_inspection

from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'polytag[open-clip]'")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

TEXTS = ("a very red square", "two birds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_text_model import write_text_model

    return write_text_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def inspection(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    from polytag.inference.text_model import TextModel

    made, rng = small_inspection(tmp_path_factory.mktemp("images")), np.random.default_rng(0)
    for path in made.predictions.image_paths:
        Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize((60, 60), Image.Resampling.NEAREST).save(path)
    return replace(made, text_model=TextModel.load(str(folder), device="cpu"))


@pytest.fixture
def server(live, inspection: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    with live(create_app(inspection)) as running:
        yield running


def orders(folder: Path, inspection: Inspection) -> list[list[str]]:
    from tiny_text_model import oracle_cosines

    paths, ids = inspection.predictions.image_paths, inspection.predictions.ids
    return [[ids[row] for row in np.argsort(-oracle_cosines(folder, paths, text))] for text in TEXTS]


SHOWN = """() => [...document.querySelectorAll('#grid > li')].sort((a, b) => a.dataset.index - b.dataset.index)
    .map((cell) => cell.querySelector('.caption.id')?.textContent.split(' · ').pop())"""


def shows(page: Any, ids: list[str]) -> None:
    until(page, f"(ids) => ids.join() === ({SHOWN})().slice(0, ids.length).join()", ids)


def parameters(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_a_text_orders_the_images_and_back_brings_the_order_before(server, visit, folder: Path, inspection: Inspection):
    first, second = orders(folder, inspection)
    assert first[:9] != second[:9]
    page = visit(f"{server.url}/ranking?class=cat&sort=id&order=asc")
    shows(page, sorted(inspection.predictions.ids)[:9])
    page.keyboard.press("w")
    page.keyboard.type(TEXTS[0])
    page.keyboard.press("Enter")
    shows(page, first[:9])
    assert parameters(page) == {"class": ["cat"], "find": [TEXTS[0]]}, "highest first, and no other order"
    assert page.eval_on_selector("#sort", "(select) => select.selectedOptions[0].textContent") == "by text"
    assert page.is_hidden("#finding")
    assert "·" in page.locator("#grid .caption.id").first.inner_text()
    page.fill("#find", TEXTS[1])
    page.press("#find", "Enter")
    shows(page, second[:9])
    page.go_back()
    shows(page, first[:9])
    assert page.input_value("#find") == TEXTS[0]
    page.reload()
    shows(page, first[:9])
    page.go_back()
    shows(page, sorted(inspection.predictions.ids)[:9])
    assert page.input_value("#find") == ""
    assert parameters(page)["sort"] == ["id"]


def test_another_order_or_an_empty_field_ends_the_search_and_filters_stay(server, visit, folder: Path, inspection: Inspection):
    labelled = {
        name for name, target in zip(inspection.predictions.ids, inspection.predictions.target_NC[:, 1], strict=True) if target == 1
    }
    found = [name for name in orders(folder, inspection)[0] if name in labelled]
    page = visit(f"{server.url}/ranking?class=cat&find=a+very+red+square&present=dog")
    shows(page, found)
    page.select_option("#order", "asc")
    shows(page, found[::-1])
    page.select_option("#sort", "id")
    until(page, "!/find=/.test(location.href) && /sort=id/.test(location.href)")
    assert page.input_value("#find") == ""
    shows(page, sorted(labelled))
    page.go_back()
    shows(page, found[::-1])
    page.fill("#find", "")  # as the cross in it does
    until(page, "!/find=/.test(location.href)")
    assert page.input_value("#sort") == "score"
    assert parameters(page)["present"] == ["dog"]


def test_an_image_and_the_map_keep_the_text(server, visit, folder: Path, inspection: Inspection):
    first = orders(folder, inspection)[0]
    page = visit(f"{server.url}/ranking?class=cat&find=a+very+red+square")
    shows(page, first[:9])
    page.locator("#grid a").nth(2).click()
    page.wait_for_selector("#closer")
    assert "of 40 for cat" in page.inner_text(".crumbs")
    opened = page.inner_text("h1")
    page.keyboard.press("ArrowRight")
    until(page, "(name) => document.querySelector('h1')?.textContent === name", first[first.index(opened) + 1])
    page.click("#back")
    shows(page, first[:9])
    page.click("#to-map")
    page.wait_for_selector("#to-ranking")
    until(page, "/find=/.test(document.querySelector('#to-ranking').search)")
    page.click("#to-ranking")
    shows(page, first[:9])


def test_without_scripts_the_form_finds_as_well(server, browser, folder: Path, inspection: Inspection):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/ranking?class=cat&sort=loss")
    page.fill("#find", TEXTS[0])
    page.press("#find", "Enter")
    while page.locator("#finding").is_visible():
        page.click("#finding a")
    names = [text.split(" · ")[-1] for text in page.locator("#grid .caption.id").all_inner_texts()]
    assert names == orders(folder, inspection)[0]
    context.close()
