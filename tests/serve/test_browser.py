"""The page in a real browser: images chosen, dropped and pasted; what cannot be read; a phone; and only this server is asked."""

from pathlib import Path
from typing import Any

import pytest

from polytag.inference.predict import predict
from polytag.models.exported import Exported

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GIVEN = """([kind, files]) => {
    const held = new DataTransfer();
    for (const { name, type, bytes } of files) held.items.add(new File([new Uint8Array(bytes)], name, { type }));
    const made = { bubbles: true, cancelable: true };
    const event = kind === "paste" ? new ClipboardEvent(kind, { ...made, clipboardData: held })
        : new DragEvent(kind, { ...made, dataTransfer: held });
    document.querySelector("main").dispatchEvent(event);
}"""


def upload(name: str, content: bytes, kind: str = "image/jpeg") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": content}


def test_chosen_images_get_what_predict_says(server, visit, small_export: Exported, jpegs, tmp_path: Path):
    page = visit(server.url)
    page.on("filechooser", lambda _: None)  # from here on Playwright takes the place of the window that asks
    page.reload()
    page.wait_for_selector("#choose:enabled")
    for _ in range(10):
        if page.evaluate("document.activeElement.id") == "choose":
            break
        page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    assert chooser.value.is_multiple()
    chooser.value.set_files([upload(f"{number}.jpg", content) for number, content in enumerate(jpegs[:3])])
    page.locator(".card .verdict:has-text('resent'), .card .verdict:has-text('No class')").nth(2).wait_for()
    for number, content in enumerate(jpegs[:3]):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(content)
        (expected,) = predict(small_export, path)
        card = page.locator(f".card[aria-label='{number}.jpg']")
        assert card.locator(".classes .present .name").all_text_contents() == list(expected.labels)
        shown = dict(zip(card.locator(".name").all_text_contents(), card.locator(".score").all_text_contents(), strict=True))
        assert {name: float(text.strip("<>")) for name, text in shown.items()} == pytest.approx(expected.probabilities, abs=0.0011)
        assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        for row in card.locator(".classes li").all():
            fill = float(row.locator(".fill").get_attribute("width"))
            assert fill == pytest.approx(100 * expected.probabilities[row.locator(".name").text_content()], abs=0.01)
    lefts = page.evaluate(
        "[...document.querySelectorAll('.probability')].map((bar) => Math.round(bar.getBoundingClientRect().left))"
    )
    assert len(set(lefts) - {0}) == 1, "the bars of all cards begin at one line"
    page.locator(".card").first.locator("header button").press("Enter")
    assert page.locator(".card").count() == 2
    page.locator("#clear").press("Enter")
    assert page.locator(".card").count() == 0


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted_images_and_those_that_cannot_be_read(server, visit, jpegs, kind):
    page = visit(server.url, excused=("422",))
    page.wait_for_selector("#choose:enabled")
    files = [("a.jpg", jpegs[0]), ("words.txt", b"hello"), ("<b>empty.png", b"")]
    page.evaluate(GIVEN, [kind, [{"name": name, "type": "", "bytes": list(content)} for name, content in files]])
    page.locator(".card .problem").nth(1).wait_for()
    page.locator(".card .verdict:has-text('resent'), .card .verdict:has-text('No class')").first.wait_for()
    texts = sorted(page.locator(".problem").all_text_contents())
    assert texts == [
        "Not an image in a known format: a file that begins with b'hello'.",
        "The image is empty: 0 bytes.",
    ]
    assert page.locator("h2").all_text_contents() == ["a.jpg", "words.txt", "<b>empty.png"]
    assert page.locator("#counts").text_content() == "3 images · 2 failed"


def test_a_server_that_is_gone_is_told(serve_live, small_export: Exported, visit, jpegs):
    with serve_live(small_export.folder) as (server, _):
        page = visit(server.url, excused=("ERR_CONNECTION_REFUSED",))
        page.wait_for_selector("#choose:enabled")
    page.set_input_files("#files", [upload("a.jpg", jpegs[0])])
    page.locator(".problem").wait_for()
    assert page.locator(".problem").text_content() == "The server does not answer."


def test_a_busy_server_is_asked_again(serve_live, small_export: Exported, visit, jpegs):
    with serve_live(small_export.folder) as (server, serving):
        page = visit(server.url, excused=("503",))
        page.wait_for_selector("#choose:enabled")
        serving.app.is_draining = True
        page.set_input_files("#files", [upload("a.jpg", jpegs[0])])
        page.locator(".verdict:has-text('busy')").wait_for()
        serving.app.is_draining = False
        page.locator(".classes").first.wait_for()


def test_on_a_phone_nothing_is_cut_off(server, visit, jpegs):
    page = visit(server.url, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page.wait_for_selector("#choose:enabled")
    page.set_input_files("#files", [upload("a long name of a photograph " * 5 + ".jpg", jpegs[6])])
    page.locator(".classes").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#choose").bounding_box()["height"] >= 44
    assert page.locator(".by-touch").is_visible()
    papers: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]
