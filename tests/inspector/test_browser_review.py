"""Label review in a real browser: as a person does it, by keys and by hand, alone, beside another, and while the server is gone."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import hold, press_at_once, until, until_held
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import Decision, ReviewStore, open_review

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAMES = ("cat", "dog", "<b>boat</b>")


def inspection_of(folder: Path, *, num_images: int = 120, share_wrong: float = 0.1) -> Inspection:
    """A model that knows three classes well, and labels of which a share is wrong and a few are unknown."""
    rng = np.random.default_rng(0)
    truth_NC = rng.random((num_images, 3)) < 0.4
    logit_NC = np.where(truth_NC, 2.5, -2.5) + rng.normal(0, 0.5, truth_NC.shape)
    target_NC = (truth_NC ^ (rng.random(truth_NC.shape) < share_wrong)).astype(np.int8)
    target_NC[np.flatnonzero(truth_NC[:, 1])[:5], 1] = -1
    paths: list[str] = []
    for row in range(num_images):
        paths.append(str(folder / f"{row:03}.png"))
        Image.new("RGB", (60, 40) if row % 2 else (40, 60), tuple(rng.integers(0, 255, 3).tolist())).save(paths[-1])
    predictions = Predictions(
        ids=tuple(f"p{row:03}" for row in range(num_images)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=NAMES),
        image_paths=tuple(paths),
    )
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=predictions,
        threshold_C=np.full(3, 0.5),
        split="val",
    )


@pytest.fixture
def inspection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    return inspection_of(tmp_path)


@pytest.fixture
def server(live, inspection: Inspection) -> Iterator[Any]:
    with live(create_app(inspection)) as running:
        yield running


@pytest.fixture
def store(inspection: Inspection) -> Iterator[ReviewStore]:
    with open_review(inspection.review_file) as store:
        yield store


def rows(store: ReviewStore) -> tuple[Decision, ...]:
    """All rows, the oldest first."""
    return store.history("val", limit=1000)[::-1]


def ready(page: Any) -> None:
    """The image of a label is there to be decided."""
    page.wait_for_selector("#workspace:not([hidden])")
    until(page, "document.querySelector('#full').naturalWidth && !document.querySelector('.loading')")


def shown(page: Any) -> tuple[str, str]:
    return page.inner_text("#id"), page.inner_text("#question b")


def shows(page: Any, wanted: tuple[str, str]) -> None:
    """The page shows this question, once the answer that brings it is there."""
    shown_now = "[document.querySelector('#id').innerText, document.querySelector('#question b')?.innerText]"
    until(page, f"(wanted) => String({shown_now}) === String(wanted)", list(wanted))


def press(page: Any, *keys: str) -> None:
    for key in keys:
        ready(page)
        page.keyboard.press(key)


def saved(page: Any, number: int) -> None:
    """The page counts so many decisions."""
    counts = r"document.querySelector('#counts').textContent.matchAll(/(\d+) (?:changed|confirmed)/g)"
    until(page, f"(wanted) => [...{counts}].reduce((sum, each) => sum + Number(each[1]), 0) === wanted", number)


@pytest.fixture
def as_ann(visit: Any) -> Any:
    """`as_ann(url, **context)` opens a page of the review that knows its reviewer, with the image of a label to decide."""

    def visiting(url: str, **options: Any) -> Any:
        page = visit(url, reviewer="Ann", **options)
        ready(page)
        return page

    return visiting


def swiped(page: Any, *moves: tuple[float, float]) -> None:
    """A finger goes over the image, by shares of the window's width and by pixels down; the browser says what it is."""
    session = page.context.new_cdp_session(page)
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": px, "y": py} for px, py in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (x, y))
    for across, down in moves:
        touch("touchMove", (x + across * box["width"], y + down))
    touch("touchEnd")
    session.detach()


def test_a_finger_swipes_the_answers(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.locator("#present").bounding_box()["y"] > 844 / 2  # in reach of the thumb, without scrolling
    assert page.locator("#present").bounding_box()["y"] + 60 <= 844
    first = shown(page)
    swiped(page, (0.05, 0), (0.2, 0))  # not far enough
    swiped(page, (0.2, 0), (0.4, 0), (0.1, 0))  # thought better of
    swiped(page, (0.02, 40), (0.02, 160))  # the browser scrolls
    assert shown(page) == first
    swiped(page, (0.1, 0), (0.25, 0), (0.4, 0))
    until(page, "(before) => document.querySelector('#id').textContent != before", first[0])
    ready(page)
    second = shown(page)
    swiped(page, (-0.1, 0), (-0.25, 0), (-0.4, 0))
    saved(page, 2)
    assert [(row.image_id, row.class_name, row.label) for row in rows(store)] == [(*first, 1), (*second, 0)]


def test_one_key_decides_and_the_name_is_asked_for_once(server, visit, store: ReviewStore):
    page = visit(server.url + "/review")
    ready(page)
    first = shown(page)
    page.keyboard.press("0")
    page.wait_for_selector("dialog[open]")
    assert rows(store) == ()
    page.keyboard.type("Ann")
    page.keyboard.press("Enter")
    until(page, "(before) => document.querySelector('#id').textContent != before", first[0])
    second = shown(page)
    press(page, "y")
    third = shown(page)
    press(page, "u")
    saved(page, 3)
    found = rows(store)
    assert [(row.image_id, row.class_name) for row in found] == [first, second, third]
    assert [row.label for row in found] == [0, 1, -1]
    assert {row.reviewer for row in found} == {"Ann"}
    assert page.inner_text("#reviewer") == "Reviewer: Ann"
    until(
        page, r"/mAP 0\.\d{4} → 0\.\d{4} with 3 decisions, \d of them confirmed/.test(document.querySelector('#worth').textContent)"
    )
    assert f"id={shown(page)[0]}" in page.url
    page.reload()
    ready(page)
    assert page.inner_text("#reviewer") == "Reviewer: Ann"
    saved(page, 3)


def test_without_a_name_nothing_is_decided(server, visit, store: ReviewStore):
    page = visit(server.url + "/review")
    ready(page)
    before = shown(page)
    page.keyboard.press("1")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Enter")  # an empty name is not taken
    assert page.is_visible("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.inner_text("#standing") == "Nothing is saved: a decision needs a name."
    assert shown(page) == before
    assert rows(store) == ()


def test_a_key_held_down_decides_one_label(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review")
    for _ in range(10):
        page.keyboard.down("1")
    page.keyboard.up("1")
    saved(page, 1)
    assert len(rows(store)) == 1


def test_skip_back_and_undo_even_after_a_reload(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review", excused=("404",))
    first = shown(page)
    press(page, "s")
    second = shown(page)
    assert second != first
    press(page, "ArrowLeft")
    assert shown(page) == first
    press(page, "ArrowRight", "1")
    third = shown(page)
    press(page, "0")
    saved(page, 2)
    press(page, "z")
    saved(page, 1)
    shows(page, third)
    page.reload()
    ready(page)
    press(page, "z")
    saved(page, 0)
    shows(page, second)
    assert page.inner_text("#standing") == ""
    page.keyboard.press("z")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "Nothing is left to undo." in page.inner_text("#trouble")
    found = rows(store)
    assert [(row.label, row.undoes) for row in found] == [(1, None), (0, None), (None, 2), (None, 1)]


def test_a_note_is_saved_by_enter(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review")
    press(page, "m")
    page.keyboard.type("hides behind 1 tree")
    page.keyboard.press("Enter")
    assert page.inner_text("#note-status") == "It is saved with your decision."
    assert rows(store) == ()
    press(page, "1")
    saved(page, 1)
    press(page, "0")
    saved(page, 2)
    press(page, "ArrowLeft", "m")
    page.keyboard.type("none at all")
    assert page.is_visible("#save-note")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#save-note').hidden")
    press(page, "l")
    page.wait_for_selector("#rows tr:nth-child(3)")
    assert [(row.label, row.note) for row in rows(store)] == [(1, "hides behind 1 tree"), (0, ""), (0, "none at all")]
    assert "none at all" in page.inner_text("#rows tr:first-child")


def test_class_and_kind_stand_in_the_address_and_back_returns(server, as_ann, inspection: Inspection):
    page = as_ann(server.url + "/review?class=dog")
    assert shown(page)[1] == "dog"
    press(page, "s", "s")
    place = shown(page)
    page.select_option("#kind", "unknown")
    until(page, "document.querySelector('#given').textContent.includes('unknown')")
    assert "kind=unknown" in page.url
    assert "class=dog" in page.url
    page.go_back()
    until(page, "(id) => document.querySelector('#id').textContent == id", place[0])
    assert page.input_value("#kind") == "issues"
    page.select_option("#order", "map")
    until(page, "/^If that is wrong: mAP [+−]0/.test(document.querySelector('#change').textContent)")
    assert "order=map" in page.url
    assert "order=map" in page.get_attribute("#many", "href")
    page.go_back()
    until(page, "(id) => document.querySelector('#id').textContent == id", place[0])
    page.click("#open")
    page.wait_for_url("**/image?*")
    page.go_back()
    ready(page)
    assert shown(page) == place
    page.select_option("#class", "<b>boat</b>")
    until(page, "document.querySelector('#question b').textContent == '<b>boat</b>'")
    page.goto(server.url + f"/review?id={inspection.predictions.ids[7]}&label=cat")  # in no list, perhaps
    ready(page)
    assert shown(page) == (inspection.predictions.ids[7], "cat")


def test_the_list_goes_on_past_its_first_part_and_ends(live, tmp_path: Path, as_ann):
    inspection = inspection_of(tmp_path, num_images=150, share_wrong=0.3)
    with live(create_app(inspection)) as server, open_review(inspection.review_file) as store:
        page = as_ann(server.url + "/review?class=cat&order=map", excused=("409",))  # an order that the decisions change
        total = page.evaluate("fetch('/api/review/queue?class=cat&limit=500').then(answer => answer.json())")["entries"]
        assert len(total) > 30
        for entry in total[20:25]:  # somebody else works on the same list
            store.decide(
                split="val", image_id=entry["image"], class_name="cat", label=1, given=entry["given"], reviewer="Bo"
            )  # fmt: skip
        press(page, "s")
        skipped = 1
        for _ in range(len(total)):
            ready(page)
            page.keyboard.press("0")
            page.wait_for_timeout(5)
            if page.is_visible("#state"):
                break
        saved(page, len(total) - skipped)
        assert page.inner_text("#state").startswith("The end of the list; 1 skipped.")
        decided = [(row.image_id, row.reviewer) for row in rows(store)]
        assert len({image for image, _ in decided}) == len(total) - skipped
        assert len(set(decided)) == len(decided), "nobody decides the same twice"
        page.get_by_role("button", name="To the first that was skipped").click()
        press(page, "1")
        until(page, "document.querySelector('#state').textContent.startsWith('Nothing is left')")
        page.close()  # before its server is


def test_whoever_is_faster_than_the_list_is_shown_the_rest_when_it_comes(live, tmp_path: Path, as_ann):
    inspection = inspection_of(tmp_path, num_images=300, share_wrong=0.3)
    with live(create_app(inspection)) as server:
        page = as_ann(server.url + "/review?class=cat")
        held = hold(page, re.compile(r"/api/review/queue\?.*offset=[1-9]"), times=1)
        while page.is_hidden("#state"):
            page.keyboard.press("s")
        assert page.inner_text("#state").startswith("The end of the list")
        until_held(page, held)
        held[0].continue_()
        ready(page)
        assert page.is_hidden("#state")
        page.close()


def test_by_hand_on_a_phone(server, as_ann, store: ReviewStore):
    page = as_ann(
        server.url + "/review", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme="dark"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("#absent").bounding_box()
    assert box["y"] + box["height"] < 844, "the buttons are in sight, under the image"
    before = shown(page)
    page.tap("#absent")
    saved(page, 1)
    assert shown(page) != before
    page.tap("#undo")
    saved(page, 0)
    assert shown(page) == before
    page.tap("#strip li:nth-child(3) button")
    assert shown(page) != before
    assert [row.label for row in rows(store)] == [0, None]


@pytest.mark.parametrize(("width_px", "zoom"), [(1280, 1), (640, 2)])
def test_it_fits(server, as_ann, width_px: int, zoom: int):
    page = as_ann(server.url + "/review", viewport={"width": width_px, "height": 800 // zoom}, device_scale_factor=zoom)
    press(page, "1", "l")
    page.wait_for_selector("#rows tr")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_focus_stays_in_the_strip(server, as_ann):
    page = as_ann(server.url + "/review")
    assert page.locator("#strip").bounding_box()["height"] > 90, "the whole thumbnails are to be seen"
    page.focus("#strip li:nth-child(4) button")
    name = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("Enter")
    until(page, "(key) => document.activeElement.dataset.key === key && document.activeElement.ariaCurrent === 'true'", name)
    assert "\n".join(shown(page)) == name


def test_two_tabs_do_not_overwrite_each_other(server, visit, as_ann, store: ReviewStore):
    excused = ("409",)
    ann = as_ann(server.url + "/review", excused=excused)
    bo = visit(server.url + "/review", excused=excused)
    bo.evaluate("localStorage.setItem('polytag.reviewer', 'Bo')")
    bo.reload()
    ready(bo)
    assert shown(ann) == shown(bo)
    contested = shown(ann)
    press(ann, "1")
    saved(ann, 1)
    press(bo, "0")
    bo.wait_for_selector("#conflicts:not([hidden])")
    told = bo.inner_text("#conflicts")
    assert "Ann decided present" in told
    assert "Your “absent” is not saved." in told
    assert len(rows(store)) == 1
    assert shown(bo) != contested, "nobody is torn away from the label that is being looked at"
    bo.get_by_role("button", name="Look at it").click()
    question = "[document.querySelector('#id').textContent, document.querySelector('#question b').textContent]"
    until(bo, f"([id, name]) => {question}[0] === id && {question}[1] === name", list(contested))
    ready(bo)
    assert shown(bo) == contested
    assert "Decided meanwhile: present, by Ann" in bo.inner_text("#standing")
    press(bo, "u")
    end = time.monotonic() + 20
    while len(rows(store)) < 2 and time.monotonic() < end:  # the page counts one decision already, Ann's
        time.sleep(0.03)
    until(bo, "document.querySelector('#conflicts').hidden")
    assert [(row.reviewer, row.label) for row in rows(store)] == [("Ann", 1), ("Bo", -1)]
    press(ann, "z")
    ann.wait_for_selector("#trouble:not([hidden])")
    assert "Bo decided about" in ann.inner_text("#trouble")
    assert len(rows(store)) == 2


def test_what_others_decide_is_seen_when_its_turn_comes(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review")
    listed = page.evaluate("fetch('/api/review/queue').then(answer => answer.json())")["entries"]
    third = listed[2]
    store.decide(split="val", image_id=third["image"], class_name=third["class_name"], label=1, given=third["given"], reviewer="Bo")
    press(page, "s")
    until(page, "document.querySelector('#strip li:nth-child(3) .mark')")
    press(page, "s")
    assert "by Bo" in page.inner_text("#standing")


def test_a_killed_server_is_told_and_nothing_is_claimed(live, inspection: Inspection, as_ann):
    excused = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    with contextlib.ExitStack() as first:
        server = first.enter_context(live(create_app(inspection)))
        page = as_ann(server.url + "/review", excused=excused)
        press(page, "0")
        saved(page, 1)
        ready(page)
        page.wait_for_timeout(300)  # the images ahead are there
    press(page, "1")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "1 decision is not saved: polytag does not answer" in page.inner_text("#trouble")
    assert page.inner_text("#strip .mark.waiting") == "not saved"
    assert page.inner_text("#counts").endswith("1 changed · 0 confirmed") or page.inner_text("#counts").endswith(
        "0 changed · 1 confirmed"
    )
    with open_review(inspection.review_file) as store:
        assert len(rows(store)) == 1
        with live(create_app(inspection), port=server.port):
            page.get_by_role("button", name="Try again").click()
            saved(page, 2)
            assert page.is_hidden("#trouble")
            assert [row.label for row in rows(store)] == [0, 1]


def test_a_decision_that_was_not_saved_outlives_a_reload(live, inspection: Inspection, as_ann):
    excused = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "beforeunload")
    with live(create_app(inspection)) as server:
        page = as_ann(server.url + "/review", excused=excused)
        ready(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("1")
    page.wait_for_selector("#trouble:not([hidden])")
    with live(create_app(inspection), port=server.port), open_review(inspection.review_file) as store:
        page.reload()
        saved(page, 1)
        assert [row.label for row in rows(store)] == [1]


def test_an_answer_that_was_lost_is_not_written_twice(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review", excused=("ERR_FAILED", "409"))

    def lose(route: Any) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/review/decisions", lose, times=1)
    press(page, "0")
    page.wait_for_selector("#trouble:not([hidden])")
    page.get_by_role("button", name="Try again").click()
    saved(page, 1)
    assert page.is_hidden("#trouble")
    assert page.is_hidden("#conflicts")
    assert len(rows(store)) == 1


def test_keys_that_are_pressed_while_one_is_undone_wait_for_it(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review")
    first = shown(page)
    press(page, "0", "1", "0")
    saved(page, 3)
    press_at_once(page, "z", "z", "z")
    saved(page, 0)
    until(page, "(id) => document.querySelector('#id').textContent === id", first[0])
    ready(page)
    page.evaluate("document.querySelector('#announcement').textContent = ''")
    press_at_once(page, "1", "z")
    until(page, "document.querySelector('#announcement').textContent.startsWith('Undone')")
    saved(page, 0)
    press(page, "1")
    saved(page, 1)
    assert [key for key, decision in store.current("val").items() if decision.label is not None] == [first]


def test_a_full_disk_is_told_and_what_waits_can_be_discarded(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review", excused=("503",))
    answer = {"status": 503, "content_type": "application/json", "body": '{"detail": "the disk is full"}'}
    page.route("**/api/review/decisions", lambda route: route.fulfill(**answer))
    press(page, "0", "1")
    until(page, "document.querySelector('#trouble').textContent.includes('2 decisions are not saved: the disk is full')")
    saved(page, 0)
    press(page, "z")  # the second was never sent
    until(page, "document.querySelector('#trouble').textContent.includes('1 decision is not saved')")
    press(page, "z")
    until(page, "document.querySelector('#trouble').textContent.includes('cannot be undone')")
    page.get_by_role("button", name="Discard it").click()
    page.get_by_role("button", name="Close").click()
    assert page.is_hidden("#trouble")
    assert rows(store) == ()
    page.unroute("**/api/review/decisions")
    press(page, "0")
    saved(page, 1)


def test_another_reviewer_takes_over(server, as_ann, store: ReviewStore):
    page = as_ann(server.url + "/review")
    press(page, "1")
    saved(page, 1)
    page.click("#reviewer")
    page.fill("#reviewer-name", "Bo")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#reviewer').textContent === 'Reviewer: Bo'")  # the dialog tells of its end a moment later
    press(page, "1")
    saved(page, 2)
    press(page, "z")
    saved(page, 1)
    assert [(row.reviewer, row.label) for row in rows(store)] == [("Ann", 1), ("Bo", 1), ("Bo", None)]


def test_it_can_be_heard(server, as_ann):
    page = as_ann(server.url + "/review")
    until(page, "document.querySelector('#announcement').textContent.startsWith('Is ')")
    assert re.search(r"Labelled (present|absent); the model says", page.inner_text("#announcement"))
    for role, name in [("region", "Image"), ("group", "Decide"), ("region", "Queue"), ("navigation", "Pages"), ("main", None)]:
        assert page.get_by_role(role, name=name, exact=True).count() == 1, (role, name)
    controls = "[...document.querySelectorAll('button, select, input, textarea')].filter(each => each.checkVisibility())"
    unnamed = controls + ".filter(each => !each.textContent.trim() && !each.labels?.length)"
    assert page.evaluate(unnamed + ".map(each => each.outerHTML)") == []
    page.keyboard.press("?")
    told = page.inner_text("dialog[open]")
    for text in ("present", "absent", "unknown", "skip", "back", "note", "heat map" if page.locator("#heat").count() else "undo"):
        assert text in told


def test_without_scripts_the_page_says_what_it_needs(server, visit):
    page = visit(server.url + "/review", java_script_enabled=False)
    assert "needs JavaScript" in page.inner_text("main")


def test_the_heat_map_stays_on_from_label_to_label(
    live, modelled: Inspection, visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    ids = modelled.predictions.ids
    with live(create_app(replace(modelled, review_file=tmp_path / "review.sqlite"))) as server:
        page = visit(server.url + f"/review?id={ids[0]}&label=red")
        ready(page)
        page.keyboard.press("h")
        page.wait_for_selector(".heat[alt='Where the model looks for red']")
        until(page, "document.querySelector('.heat').naturalWidth > 0 && !document.querySelector('#stage-status').textContent")
        heat, image = (page.locator(f"#sheet > {which}").bounding_box() for which in ("img.heat", "#full"))
        assert heat == pytest.approx(image)
        assert "heat=1" in page.url
        page.goto(server.url + f"/review?id={ids[1]}&label=blue&heat=1")
        page.wait_for_selector(".heat[alt='Where the model looks for blue']")
        page.keyboard.press("h")
        assert page.locator(".heat").count() == 0
        assert "heat=1" not in page.url
        page.wait_for_load_state("networkidle")  # a map that is on its way would find no server


def test_labels_on_which_two_disagree_are_settled_one_after_another(server, as_ann, store: ReviewStore, inspection: Inspection):
    for image in ("p001", "p002"):
        for reviewer, label in (("Bob", 1), ("Cleo", 0)):
            last = store.of_image("val", image).get("cat")
            store.decide(
                split="val", image_id=image, class_name="cat", label=label, given=0, reviewer=reviewer,
                based_on=last.number if last else 0,
            )  # fmt: skip
    page = as_ann(server.url + "/review")
    page.get_by_text("Agreement of the reviewers").click()
    assert "Bob, Cleo" in page.locator("#agreement-rows tr").inner_text().replace("\t", " ")
    page.get_by_role("link", name="Review them").click()
    until(page, "document.querySelector('#kind')?.value === 'disputed' && document.querySelectorAll('#strip li').length === 2")
    first = shown(page)
    press(page, "1")
    until(page, "(before) => document.querySelector('#id').textContent != before", first[0])
    second = shown(page)
    assert {first, second} == {("p001", "cat"), ("p002", "cat")}
    press(page, "0")
    until(page, "document.querySelector('#state').textContent.startsWith('Nothing is left to decide among the disputed labels')")
    until(page, "fetch('/api/review/agreement').then(answer => answer.json()).then(answer => answer.num_disputed === 0)")
    votes = store.votes("val")
    assert (votes[first]["Ann"], votes[second]["Ann"]) == (1, 0)
    page.select_option("#kind", "issues")
    ready(page)
    assert not page.is_checked("#decided")


def test_a_second_opinion_is_given_without_seeing_the_first(server, as_ann, store: ReviewStore):
    def decide(image: str, reviewer: str, label: int) -> None:
        last = store.of_image("val", image).get("cat")
        store.decide(
            split="val", image_id=image, class_name="cat", label=label, given=0, reviewer=reviewer, note=f"{reviewer} is sure",
            based_on=last.number if last else 0,
        )  # fmt: skip

    for image in ("p001", "p002", "p003", "p004"):
        decide(image, "Bob", 1)
    decide("p004", "Ann", 0)
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = as_ann(server.url + "/review", excused=("409",), **phone)  # Cleo's decision below is told to the page
    page.get_by_text("Agreement of the reviewers").click()
    until(
        page, "document.querySelector('#second').innerText.startsWith('3 labels that others decided wait for your second opinion.')"
    )
    page.get_by_role("link", name="Give it without seeing theirs").click()
    until(page, "document.querySelector('#kind')?.value === 'second' && document.querySelectorAll('#strip li').length === 3")
    ready(page)

    def left(number: int) -> None:
        until(page, "(text) => document.querySelector('#counts').textContent.startsWith(text)", f"{number} left")

    def next_than(before: tuple[str, str]) -> tuple[str, str]:
        until(page, "(before) => document.querySelector('#id').textContent != before", before[0])
        ready(page)
        return shown(page)

    left(3)
    first = shown(page)
    unseen = [first[0]]
    assert "Bob" not in page.inner_text("body")
    decide(first[0], "Cleo", -1)  # meanwhile: it neither comes in the way, nor is it shown
    page.keyboard.press("0")
    second = next_than(first)
    left(2)
    assert page.locator("#conflicts").is_hidden()
    page.keyboard.press("z")
    assert next_than(second) == first
    left(3)
    assert (page.inner_text("#standing"), page.input_value("#note")) == ("", "")
    assert page.locator("[aria-pressed=true]").count() == 0
    swiped(page, (-0.1, 0), (-0.25, 0), (-0.4, 0))
    assert next_than(first) == second
    page.reload()
    ready(page)
    left(2)
    unseen += [shown(page)[0]]
    page.keyboard.press("1")
    unseen += [next_than(second)[0]]
    assert not {name for name in ("Bob", "Cleo") if name in page.inner_text("body")}
    page.keyboard.press("1")
    until(page, "document.querySelector('#state').textContent.startsWith('Nothing is left to decide among the labels that others')")
    left(0)
    assert sorted(unseen) == ["p001", "p002", "p003"], "the one that Ann has decided is not asked again"
    votes = store.votes("val")
    assert votes[first] == {"Bob": 1, "Cleo": -1, "Ann": 0}
    page.goto(server.url + "/decisions")
    page.evaluate("localStorage.setItem('polytag.reviewer', 'Bob')")
    page.reload()
    page.wait_for_load_state("networkidle")
    assert page.locator("#second").is_hidden(), "Bob has decided all of them"
    page.evaluate("localStorage.setItem('polytag.reviewer', 'Dora')")
    page.reload()
    page.get_by_role("link", name="Give it without seeing theirs").click()
    left(4)
    page.select_option("#kind", "disputed")
    until(page, "document.querySelectorAll('#strip li').length === 2")
    assert page.locator("#standing").inner_text().startswith("Decided: ")


def test_a_class_that_is_found_by_typing_is_reviewed(server, as_ann):
    page = as_ann(server.url + "/review")
    page.keyboard.press("g")
    page.keyboard.type("boat")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#class')?.value === '<b>boat</b>'")
    ready(page)
    assert page.url.startswith(server.url + "/review?")
    until(page, "[...document.querySelectorAll('#strip li')].every(each => each.textContent.includes('<b>boat</b>'))")
    assert shown(page)[1] == "<b>boat</b>"


def test_back_and_forward_keep_the_page(server, as_ann):
    page = as_ann(server.url + "/review")
    page.evaluate("window.marker = 'the same page'")
    press(page, "s")
    first = shown(page)
    page.select_option("#class", "cat")
    until(page, "document.querySelector('#question b').textContent == 'cat'")
    press(page, "s", "s")
    second = shown(page)
    page.check("#decided")
    until(page, "location.search.includes('decided=1')")
    ready(page)
    page.go_back()
    until(page, "(id) => document.querySelector('#id').textContent == id", second[0])
    ready(page)
    assert shown(page) == second
    assert not page.is_checked("#decided")
    page.go_back()
    until(page, "document.querySelector('#class').value == ''")
    until(page, "(id) => document.querySelector('#id').textContent == id", first[0])
    assert shown(page) == first
    page.go_forward()
    until(page, "document.querySelector('#class').value == 'cat'")
    until(page, "(id) => document.querySelector('#id').textContent == id", second[0])
    assert page.evaluate("window.marker") == "the same page"
