"""The pages about errors in a real browser: at every width, without scripts, and while they are being computed."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from browsing import until

from polytag.inspector.app import create_app
from polytag.inspector.explain import duplicate_search
from polytag.inspector.inspection import Inspection

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser]
Live = Callable[..., AbstractContextManager[Any]]
PATHS = ("/", "/class?class=cat", "/together", "/duplicates", "/ranking?class=cat&order=asc&present=cat")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1024, "dark"), (1920, "light")])
def test_nothing_is_wider_than_the_window(live: Live, visit: Callable[..., Any], copies: Inspection, width: int, scheme: str):
    with live(create_app(copies)) as server:
        page = visit(server.url + "/duplicates", viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.wait_for_selector(".groups")
        for path in PATHS:
            page.goto(server.url + path)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} at {width} px"
            broken = page.eval_on_selector_all(
                "main img[src]", "all => all.filter(image => image.complete && !image.naturalWidth).length"
            )
            assert broken == 0, path
        page.close()  # before its server is


def test_without_scripts_a_class_leads_to_its_errors_and_back(live: Live, visit: Callable[..., Any], copies: Inspection):
    with live(create_app(copies)) as server:
        page = visit(server.url + "/", java_script_enabled=False)
        page.get_by_role("link", name="why? cat").click()
        assert page.locator("h1").inner_text() == "Errors of cat"
        page.get_by_label("Class", exact=True).select_option("dog")
        page.get_by_role("button", name="Show").click()
        assert page.locator("h1").inner_text() == "Errors of dog"
        page.locator(".eight a").first.click()
        assert "/image?" in page.url
        page.goto(server.url + "/together")
        page.locator(".matrix a").nth(1).click()
        assert "bond=predicted" in page.url
        assert page.get_by_label("What an image has of the two classes").input_value() == "predicted"
        page.close()  # before its server is


def test_without_scripts_a_search_is_begun_stopped_and_read(
    live: Live, visit: Callable[..., Any], copies: Inspection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(duplicate_search, "AT_ONCE", 1)
    with live(create_app(copies)) as server:
        page = visit(server.url + "/duplicates", java_script_enabled=False)
        page.get_by_role("button", name="Search").click()
        give_up = time.monotonic() + 60
        while not page.locator(".groups").count():
            assert time.monotonic() < give_up
            page.wait_for_timeout(50)
            page.reload()
        assert page.locator(".groups > li").count() == 3
        page.close()  # before its server is


def test_a_page_is_completed_in_place_also_where_one_request_fails(
    live: Live, visit: Callable[..., Any], copies: Inspection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(duplicate_search, "AT_ONCE", 1)
    may_go_on, read = threading.Event(), duplicate_search.read_contents

    def slowly(paths, **more):
        assert may_go_on.wait(60)
        return read(paths, **more)

    monkeypatch.setattr(duplicate_search, "read_contents", slowly)
    with live(create_app(copies)) as server:
        page = visit(server.url + "/duplicates", excused=("ERR_FAILED",))
        page.get_by_role("button", name="Search").click()
        page.wait_for_selector("[data-pending]")
        page.evaluate("document.querySelector('header').dataset.same = 'yes'")
        failed: list[Any] = []
        page.route(server.url + "/duplicates", lambda route: (failed.append(route), route.abort()), times=1)
        while not failed:
            page.wait_for_timeout(20)
        may_go_on.set()
        until(page, "document.querySelectorAll('.groups > li').length === 3 && !document.querySelector('[data-pending]')")
        assert page.locator("header").get_attribute("data-same") == "yes", "the page was not loaded again"
        page.close()  # before its server is


def test_a_view_keeps_to_the_class_that_a_script_has_chosen(live: Live, visit: Callable[..., Any], copies: Inspection):
    with live(create_app(copies)) as server:
        page = visit(server.url + "/ranking?class=cat")
        page.wait_for_selector("#grid.virtual")
        page.keyboard.press("]")
        until(page, "document.querySelector('#class').value === 'dog'")
        page.get_by_role("link", name="lowest scored positives").click()
        page.wait_for_url("**present=dog**")
        assert "class=dog" in page.url
        page.close()  # before its server is
