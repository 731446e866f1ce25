"""Labelling images that have no labels, in a real browser: as a person does it, by keys and by hand, alone and beside another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import until
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import Answer, ReviewStore, open_review

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAMES = ("cat", "dog", "<b>boat</b>")


def inspection_of(folder: Path) -> Inspection:
    """Four images: the model sees a cat, a dog, a boat, nothing."""
    logit_NC = np.full((4, 3), -2.0) + 5 * np.eye(4, 3)
    paths = [folder / f"{row}.png" for row in range(4)]
    for row, path in enumerate(paths):
        Image.new("RGB", (60, 40), (60 * row, 90, 120)).save(path)
    predictions = Predictions(
        ids=tuple(f"image {row}" for row in range(4)),
        logit_NC=logit_NC,
        target_NC=np.full((4, 3), -1, np.int8),
        label_set=LabelSet(names=NAMES),
        image_paths=tuple(map(str, paths)),
    )
    return Inspection(name="next", review_file=folder / "next-review.sqlite", predictions=predictions, threshold_C=np.full(3, 0.5))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    with open_review(tmp_path / "next-review.sqlite") as store:
        yield store


@pytest.fixture
def page(live, visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page, as Ann opens it."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    with live(create_app(inspection_of(tmp_path))) as server:
        page = visit(server.url + "/", excused=("409",))
        page.evaluate("localStorage.setItem('polytag.reviewer', 'Ann')")
        page.click("nav a[href='/label']")
        shows(page, "image 0")
        yield page
        page.close()  # before its server is: it loads the next image ahead


def shows(page: Any, image: str) -> None:
    """This image is there, with its classes, and can be labelled."""
    until(page, "(image) => document.querySelector('#id')?.textContent === image", image)
    until(page, "document.querySelector('#full').dataset.state === 'shown'")
    until(page, "document.querySelectorAll('#choices li').length === 3")


def chosen(page: Any) -> list[str]:
    return page.locator("#choices .choose[aria-pressed='true'] [data-name]").all_inner_texts()


def labels(store: ReviewStore, image: str) -> dict[str, int | None]:
    return {name: decision.label for name, decision in store.of_image("", image).items()}


def test_keys_label_image_after_image(page: Any, store: ReviewStore):
    assert chosen(page) == ["cat"]
    page.keyboard.press("Enter")  # the model is right
    shows(page, "image 1")
    assert labels(store, "image 0") == {"cat": 1, "dog": 0, "<b>boat</b>": 0}
    assert "1 of 4 images labelled" in page.inner_text("#counts")
    page.keyboard.press("1")  # no dog; the highest probability stands first
    assert chosen(page) == []
    page.keyboard.press("2")
    page.get_by_role("button", name="<b>boat</b>: unknown").click()
    page.click("#save")
    shows(page, "image 2")
    assert labels(store, "image 1") == {"dog": 0, "cat": 1, "<b>boat</b>": -1}
    page.keyboard.press("ArrowRight")
    shows(page, "image 3")
    page.keyboard.press("Enter")
    shows(page, "image 2")  # the one that was skipped
    assert labels(store, "image 3") == dict.fromkeys(NAMES, 0)
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#state').textContent.startsWith('All images of the list are labelled.')")
    assert {decision.reviewer for decision in store.current("").values()} == {"Ann"}


def test_a_class_is_found_by_typing_and_is_present(page: Any, store: ReviewStore):
    assert chosen(page) == ["cat"]
    page.keyboard.press("g")
    page.keyboard.type("boat")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#choices .choose[aria-pressed=true]').length === 2")
    assert page.url.endswith("/label?id=image+0"), "what was chosen is not lost"
    page.get_by_role("button", name="Find a class").click()
    page.keyboard.press("Escape")
    page.click("#save")
    shows(page, "image 1")
    assert labels(store, "image 0") == {"cat": 1, "dog": 0, "<b>boat</b>": 1}


def test_a_labelled_image_shows_its_labels_and_adds_rows_for_changes_alone(page: Any, store: ReviewStore):
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    shows(page, "image 1")
    page.keyboard.press("ArrowLeft")
    shows(page, "image 0")
    assert chosen(page) == ["cat", "dog"]
    page.reload()
    shows(page, "image 0")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    shows(page, "image 1")
    assert labels(store, "image 0") == {"cat": 0, "dog": 1, "<b>boat</b>": 0}
    assert len(store.history("")) == 4


def test_what_another_labelled_meanwhile_is_not_overwritten(page: Any, store: ReviewStore):
    answers = [Answer(class_name=name, label=int(name == "dog"), given=-1) for name in NAMES]
    store.decide_image(split="", image_id="image 0", answers=answers, reviewer="Ben")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#standing').textContent.startsWith('Nothing is saved: somebody else labelled')")
    assert chosen(page) == ["dog"]
    assert labels(store, "image 0") == {"cat": 0, "dog": 1, "<b>boat</b>": 0}
    page.keyboard.press("Enter")
    shows(page, "image 1")
    assert {decision.reviewer for decision in store.current("").values()} == {"Ben"}


def test_a_run_with_labels_has_no_such_page_in_its_navigation(live, visit, modelled: Inspection):
    with live(create_app(modelled)) as server:
        page = visit(server.url + "/")
        assert page.locator(".bar nav a").all_inner_texts() == ["Overview", "Images", "Map", "Review", "Predict"]
        page.goto(server.url + "/label")
        until(page, "document.querySelector('#state').textContent.startsWith('Every image has labels already.')")
