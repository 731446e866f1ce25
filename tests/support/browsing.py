"""Waiting for what a page shows, shared by the browser tests. Playwright is imported inside, as tests without it skip."""

import time
from typing import Any


def until(page: Any, expression: str, arg: object = None, *, patience_seconds: float = 30) -> None:
    """Wait until an expression is true in the page, also across a navigation, after which its parts come one after another.

    Playwright's own waiting evaluates strings in the page, which the page's policy does not allow.
    """
    give_up = time.monotonic() + patience_seconds
    while not _is_true(page, expression, arg):
        assert time.monotonic() < give_up, f"not within {patience_seconds} s: {expression}"
        page.wait_for_timeout(20)


def hold(page: Any, pattern: object, *, times: int | None = None) -> list[Any]:
    """Hold the requests to such addresses, or so many of them: each is put into the list, and goes on when it is told to."""
    held: list[Any] = []
    page.route(pattern, lambda route: held.append(route), times=times)
    return held


def until_held(page: Any, held: list[Any], number: int = 1, *, patience_seconds: float = 30) -> None:
    """Wait until so many requests are held."""
    give_up = time.monotonic() + patience_seconds
    while len(held) < number:
        assert time.monotonic() < give_up, f"{len(held)} requests within {patience_seconds} s"
        page.wait_for_timeout(20)


def press_at_once(page: Any, *keys: str) -> None:
    """Press keys one right after another, sooner than the page can answer the first."""
    page.evaluate(
        "(keys) => { for (const key of keys) document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})); }",
        list(keys),
    )


def _is_true(page: Any, expression: str, arg: object) -> bool:
    import playwright.sync_api as playwright

    try:
        return bool(page.evaluate(expression, arg))
    except playwright.Error as error:
        if "navigation" in str(error) or "Cannot read properties of null" in str(
            error
        ):  # the next page is on its way, or half there
            return False
        raise
