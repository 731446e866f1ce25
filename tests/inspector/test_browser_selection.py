"""Many labels at once in a real browser: chips, the type-ahead, selections, and 24 label issues at a time."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import hold, press_at_once, until, until_held
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import ReviewStore, open_review

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

NUM_IMAGES = 600
LONG = "Great-crested-grebe_in_its_winter_plumage (Podiceps cristatus), seen from far away"


def inspection_of(folder: Path, names: tuple[str, ...]) -> Inspection:
    rng = np.random.default_rng(0)
    path = folder / "image.png"
    Image.new("RGB", (60, 40), (90, 130, 170)).save(path)
    target_NC = (rng.random((NUM_IMAGES, len(names))) < min(0.3, 4 / len(names))).astype(np.int8)
    logit_NC = 5.0 * target_NC - 3 + rng.normal(0, 0.7, target_NC.shape)
    flipped = rng.choice(NUM_IMAGES, 60, replace=False)
    target_NC[flipped, 0] = 1 - target_NC[flipped, 0]
    predictions = Predictions(
        ids=tuple(f"{row:04}.png" for row in range(NUM_IMAGES)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=names),
        image_paths=(str(path),) * NUM_IMAGES,
    )
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=predictions,
        threshold_C=np.full(len(names), 0.5),
        split="train",
    )


NAMES = ("cat", "dog", "bird", "boat", "person", "traffic light", LONG)
THOUSAND = (*(f"{kind} number {k}" for k in range(333) for kind in ("Canis lupus", "hand-bag", "Zug")), LONG)


@pytest.fixture
def open_page(
    visit: Callable[..., Any], live: Callable[..., AbstractContextManager], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """`open_page(address, names=..., **context)` opens a page with a reviewer's name at a running inspector."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    servers: list[AbstractContextManager] = []
    pages: list[Any] = []

    def opening(address: str, *, names: tuple[str, ...] = NAMES, excused: tuple[str, ...] = (), **context: Any) -> Any:
        servers.append(live(create_app(inspection_of(tmp_path, names))))
        url = servers[-1].__enter__().url
        page = visit(url + address, excused=("404", *excused), reviewer="Ada", **context)
        pages.append(page)
        page.wait_for_load_state("networkidle")
        if address.startswith("/ranking"):
            settled(page)
        return page

    yield opening
    for page in pages:
        page.close()  # it asks on while the numbers are computed
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    with open_review(tmp_path / "review.sqlite") as store:
        yield store


def settled(page: Any) -> None:
    until(page, "document.querySelector('#grid.virtual') && !document.querySelector('#grid[aria-busy]')")


def selected(page: Any) -> str:
    return page.locator("#num-selected").inner_text()


def said(page: Any, text: str) -> None:
    until(page, f"document.querySelector('#notice')?.textContent.includes({text!r})")


def shown_labels(store: ReviewStore, class_name: str = "cat") -> dict[str, int | None]:
    return {name: row.label for name, row in store.of_class("train", class_name).items() if row.label is not None}


def ids_in_grid(page: Any, number: int) -> list[str]:
    cells = page.eval_on_selector_all(
        "#grid > li", "cells => cells.map(cell => [Number(cell.dataset.index), cell.querySelector('.caption.id').textContent])"
    )
    return [name for _, name in sorted(cells)][:number]


def test_a_class_of_a_thousand_is_found_by_keys_alone(open_page: Callable[..., Any]):
    page = open_page("/", names=THOUSAND)
    page.keyboard.press("g")
    box = page.get_by_role("combobox", name="Go to a class")
    box.wait_for()
    page.keyboard.type("winter grebe")
    until(page, "document.querySelectorAll('#class-options li').length === 1")
    assert page.locator("#class-options li").all_inner_texts() == [LONG]
    assert box.get_attribute("aria-activedescendant") == page.get_by_role("option", selected=True).get_attribute("id")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ranking?class=Great*")
    until(page, "document.querySelector('#grid.virtual .cell .id')?.textContent")
    page.evaluate("window.marker = 'the same page'")
    page.keyboard.press("g")
    page.keyboard.type("zug number 33")
    options = page.locator("#class-options li").all_inner_texts()
    assert options[:4] == ["Zug number 33", "Zug number 330", "Zug number 331", "Zug number 332"]
    assert sorted(options[4:]) == ["Zug number 133", "Zug number 233"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#class').value === 'Zug number 330'")
    assert page.evaluate("window.marker") == "the same page"
    page.keyboard.press("g")
    page.keyboard.press("Escape")
    assert page.get_by_role("combobox", name="Go to a class").count() == 0


def test_a_page_of_a_class_stays_with_the_class_that_is_found(open_page: Callable[..., Any]):
    page = open_page("/", names=THOUSAND)

    def find(text: str) -> None:
        page.keyboard.press("g")
        page.locator("#class-wanted").wait_for()
        page.keyboard.type(text)
        until(page, "document.querySelectorAll('#class-options li').length === 1")
        page.keyboard.press("Enter")

    host = page.url.rstrip("/")
    page.goto(host + "/class?class=" + THOUSAND[1])
    find("winter grebe")
    page.wait_for_url("**/class?class=Great*")
    page.goto(host + "/together")
    find("winter grebe")
    page.wait_for_url("**/together?class=Great*#one")
    page.goto(host + "/image?id=0005.png")
    until(page, "document.querySelector('#labels h3')")
    find("winter grebe")
    until(page, "(name) => document.querySelector('#labels b').textContent === name", LONG)
    assert "label=Great" in page.url
    chosen = page.locator("#bars .chosen")
    box, bars = chosen.bounding_box(), page.locator("#bars").bounding_box()
    assert bars["y"] <= box["y"] <= bars["y"] + bars["height"] - box["height"] + 1, "it is in sight"


def test_the_table_of_a_thousand_classes_is_filtered(open_page: Callable[..., Any]):
    page = open_page("/", names=THOUSAND)
    page.keyboard.press("/")
    page.keyboard.type("bag 12")
    until(page, "document.querySelector('#num-classes').textContent.endsWith('of 1,000')")
    shown = page.locator("table.classes tbody tr:visible th").all_inner_texts()
    assert sorted(shown) == sorted(name for name in THOUSAND if "bag" in name and "12" in name)
    page.get_by_role("link", name="positives").click()
    page.wait_for_url("**sort=num_present**")
    assert "filter=bag+12" in page.url
    assert page.locator("table.classes tbody tr:visible").count() == len(shown)


@pytest.mark.parametrize("width_px", [390, 1280])
def test_sizes_are_in_the_address_and_keep_the_place(open_page: Callable[..., Any], width_px: int):
    page = open_page("/ranking?class=cat&size=l", viewport={"width": width_px, "height": 800})
    widths = [page.locator("#grid > li").first.bounding_box()["width"]]
    for name in ("medium", "small"):
        page.get_by_role("radio", name=name).check(force=True)
        until(page, f"document.body.classList.contains('size-{name[0]}')")
        widths.append(page.locator("#grid > li").first.bounding_box()["width"])
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.5 * widths[2]
    until(page, "/size=s/.test(location.href)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    no_overlap = """[...document.querySelectorAll('#grid > li')].every(cell =>
        cell.firstElementChild.getBoundingClientRect().height <= parseFloat(getComputedStyle(cell).width) + 64)"""
    assert page.evaluate(no_overlap), "chips stay in their cell"


def test_images_are_selected_labelled_and_undone_as_one(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/ranking?class=cat")
    names = ids_in_grid(page, 20)
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    assert selected(page) == "1 image selected"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    until(page, "document.querySelectorAll('#grid .selected').length === 5")
    page.keyboard.press("Shift+ArrowLeft")  # the range shrinks
    until(page, "document.querySelectorAll('#grid .selected').length === 4")
    expected = {names[0], *names[2:5]}
    page.keyboard.press("0")
    said(page, "4 labels of cat: absent")
    assert shown_labels(store) == dict.fromkeys(expected, 0)
    until(page, "document.querySelectorAll('#grid .reviewed:not([hidden])').length === 4")
    assert selected(page) == "4 images selected", "they can be tagged too"
    page.keyboard.press("z")
    said(page, "Undone: 4")
    assert shown_labels(store) == {}
    until(page, "document.querySelectorAll('#grid .reviewed:not([hidden])').length === 0")
    page.keyboard.press("Escape")
    assert not page.locator("#selection").is_visible()


def test_ranges_by_mouse_and_all_of_a_filter(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/ranking?class=cat&outcome=false_positive&outcome=false_negative")
    total = int(page.locator("#total").inner_text())
    cells = page.locator("#grid > li")
    cells.nth(2).hover()
    cells.nth(2).locator(".pick").click()
    cells.nth(8).locator("a").click(modifiers=["Shift"])
    until(page, "document.querySelectorAll('#grid .selected').length === 7")
    page.get_by_role("button", name=f"All {total}").click()
    assert selected(page) == f"{total} images selected"
    cells.nth(0).locator(".pick").click()
    assert selected(page) == f"{total - 1} images selected"
    page.locator("#selection-class").click()
    page.keyboard.type("traf")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#selection-class').textContent === 'traffic light'")
    page.get_by_role("button", name="Unknown", exact=True).click()
    said(page, f"{total - 1} labels of traffic light: unknown")
    assert list(shown_labels(store, "traffic light").values()) == [-1] * (total - 1)
    page.locator("input[name=outcome][value=false_negative]").uncheck()
    until(page, "document.querySelector('#selection').hidden")  # it was all of another list


def test_tags_are_written_shown_and_filtered_by(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/ranking?class=cat")
    names = ids_in_grid(page, 2)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    until(page, "document.querySelectorAll('#grid .selected').length === 2")
    page.keyboard.press("#")
    page.get_by_label("One word").fill("blurred")
    page.keyboard.press("Enter")
    said(page, "2 images tagged")
    assert store.batches.tagged("train", "blurred") == set(names)
    until(page, "document.querySelectorAll('#grid .chip.tag').length === 2")
    page.keyboard.press("f")
    page.locator("#tag").fill("blurred")
    until(page, "document.querySelector('#total').textContent === '2' && /tag=blurred/.test(location.href)")
    page.reload()
    until(page, "document.querySelector('#total').textContent === '2'")


def test_what_another_decided_is_offered_to_be_left_out(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/ranking?class=cat", excused=("409",))
    names = ids_in_grid(page, 3)
    store.decide(split="train", image_id=names[1], class_name="cat", label=-1, given=1, reviewer="Ben")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    until(page, "document.querySelectorAll('#grid .selected').length === 3")
    page.keyboard.press("1")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("1 of 3 labels were decided since").wait_for()
    assert shown_labels(store) == {names[1]: -1}
    dialog.get_by_role("button", name="Save the other 2").click()
    said(page, "2 labels of cat: present")
    assert shown_labels(store) == {names[0]: 1, names[1]: -1, names[2]: 1}


def test_a_selection_is_exported_in_two_actions(open_page: Callable[..., Any], tmp_path: Path):
    page = open_page("/ranking?class=cat&outcome=false_positive")
    total = int(page.locator("#total").inner_text())
    page.keyboard.press("a")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    text = Path(download.value.path()).read_text()
    assert (download.value.suggested_filename, text.count("\n")) == ("selection.csv", total + 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Page", exact=True).click()
    download.value.save_as(tmp_path / "selection.html")
    page.goto("about:blank")
    page.set_content((tmp_path / "selection.html").read_text())
    assert page.locator(".cell").count() == total
    until(page, "[...document.images].every(image => image.naturalWidth > 20)")


def history(store: ReviewStore) -> list[int | None]:
    """The labels of all rows, the oldest first; None of an undo."""
    return [row.label for row in store.history("train")[::-1]]


def test_what_is_undone_is_the_decision_before_also_where_it_is_on_its_way(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/ranking?class=cat")
    page.keyboard.press("ArrowRight")
    until(page, "document.activeElement.querySelector('img')?.naturalWidth > 20")
    press_at_once(page, "1", "z")
    said(page, "Undone: cat in")
    assert history(store) == [1, None]
    press_at_once(page, "1", "0")  # each knows of the one before it
    said(page, "cat is absent")
    assert history(store) == [1, None, 1, 0]
    page.keyboard.press("Enter")
    page.wait_for_selector("#labels button")
    until(page, "document.querySelector('#full').dataset.state === 'shown'")
    press_at_once(page, "u", "z")
    said(page, "Undone: cat in")
    assert history(store) == [1, None, 1, 0, -1, 0]


HELD = """() => {
    const send = window.fetch;
    window.held = {};  // the first request to each of these, which goes on when it is called
    window.fetch = (path, options = {}) => {
        const name = ["/api/selection/labels", "/api/ranking?"].find((each) => path.startsWith(each) && !(each in held));
        if (!name) return send(path, options);
        return new Promise((resolve, reject) => {
            held[name] = () => send(path, options).then(resolve, reject);
            options.signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
        });
    };
}"""


def test_a_batch_that_is_saved_while_another_class_is_drawn(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/ranking?class=cat")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    page.evaluate(HELD)
    page.keyboard.press("1")
    until(page, "'/api/selection/labels' in held")
    page.keyboard.press("]")
    until(page, "'/api/ranking?' in held")
    page.evaluate("void held['/api/selection/labels']()")
    said(page, "1 label of cat: present")
    settled(page)
    assert page.input_value("#class") == "dog"
    until(page, "document.querySelectorAll('#grid > li .score').length > 10")
    assert list(shown_labels(store).values()) == [1]


def test_an_image_stands_over_its_own_name_also_where_answers_come_late(open_page: Callable[..., Any], store: ReviewStore):
    """Ten tagged images; the first loses its tag while thumbnails are on their way, and all others move up by one cell."""
    ids = [f"{row:04}.png" for row in range(10)]
    store.batches.mark(ids, kind="tag", text="x", split="train", reviewer="Ada")
    page = open_page("/ranking?class=cat&tag=x", excused=("ERR_FAILED",))
    page.route("**/thumbnails/*", lambda route: route.abort())  # else they are there already
    held = hold(page, "**/api/thumbnails?*")

    def answer(number: int) -> None:
        until_held(page, held, number + 1)
        rows = re.search(r"rows=([\d,]+)", held[number].request.url.replace("%2C", ","))[1].split(",")
        images = [b64encode(f"image {int(row):04}".encode()).decode() for row in rows]
        held[number].fulfill(status=200, content_type="application/json", body=json.dumps({"images": images}))

    page.reload()
    settled(page)
    until_held(page, held, 2)
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    page.keyboard.press("#")
    page.get_by_label("One word").fill("x")
    page.get_by_role("button", name="Remove the tag").click()
    said(page, "1 image without the tag")
    for number in (2, 0, 3, 1):
        answer(number)
    shown = """[...document.querySelectorAll('#grid > li')].map((cell) =>
        [cell.querySelector('.caption.id').textContent, atob(cell.querySelector('img').src.split(',').pop())])"""
    until(page, f"{shown}.length === 9 && {shown}.every(([name, image]) => image === `image ${{name.slice(0, 4)}}`)")
    page.wait_for_timeout(200)
    assert all(image == f"image {name[:4]}" for name, image in page.evaluate(shown))


def many(page: Any) -> list[str]:
    until(page, "!document.querySelector('#confirm').disabled")
    return page.locator("#many .id").all_inner_texts()


def test_enter_and_undo_take_turns_and_what_is_skipped_is_not_confirmed(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/review?view=grid&class=cat")
    many(page)
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#standing').textContent.startsWith('24 saved')")
    first, second = shown_labels(store), many(page)
    press_at_once(page, "Enter", "z")
    until(page, "document.querySelector('#standing').textContent.startsWith('Undone: ')")
    assert shown_labels(store) == first
    assert many(page) == second
    held = hold(page, "**/api/review/queue?*", times=1)
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    until_held(page, held)
    held[0].continue_()
    until(page, f"document.querySelector('#many .id').textContent !== {second[0]!r}")
    assert shown_labels(store) == first


def test_of_two_classes_the_last_one_is_reviewed(open_page: Callable[..., Any]):
    page = open_page("/review?view=grid&class=cat")
    names = many(page)
    held = hold(page, "**/api/review/queue?*")
    for number, name in enumerate(("dog", "cat"), 1):  # nothing is doubtful about dogs
        page.select_option("#class", name)
        until_held(page, held, number)
    held[1].continue_()
    assert many(page) == names
    with page.expect_response(lambda response: "class=dog" in response.url):
        held[0].continue_()
    page.wait_for_timeout(200)
    assert page.is_hidden("#state")
    assert many(page) == names


def test_24_labels_at_a_time(open_page: Callable[..., Any], store: ReviewStore):
    page = open_page("/review?class=cat")
    page.get_by_role("link", name="24 at a time").click()
    page.wait_for_selector("#many button")
    until(page, "!document.querySelector('#confirm').disabled")
    names = page.locator("#many .id").all_inner_texts()
    given = 1 if "Labelled cat" in re.sub(r"\s+", " ", page.locator("#question").inner_text()) else 0
    assert len(names) == 24
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    page.locator("#many button").nth(5).click()
    assert "2 wrong, 22 right" in page.locator("#confirm").inner_text()
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('#many .id') && document.querySelector('#many .id').textContent !== {names[0]!r}")
    decided = shown_labels(store)
    assert decided == {name: (1 - given if place in (1, 5) else given) for place, name in enumerate(names)}
    page.keyboard.press("z")
    until(page, f"document.querySelector('#many .id').textContent === {names[0]!r}")
    assert shown_labels(store) == {}
    page.get_by_role("link", name="One at a time").click()
    page.wait_for_selector("#question b")
