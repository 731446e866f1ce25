"""The report in a real browser: no error, no request, nothing wider than a phone, images drawn, with JavaScript off."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.metrics.compare import compare
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Metrics
from polytag.report.comparison import write_comparison
from polytag.report.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=list(_QUIET))
        yield started
        started.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, predictions: Predictions, metrics: Metrics, history) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(path, metrics=metrics, predictions=predictions, history=history, title="run", facts={"backbone": "x" * 300})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1280, 390])
def test_it_opens_quietly_and_fits(browser, written: Path, width_px: int, scheme: str):
    page = browser.new_page(viewport={"width": width_px, "height": 800}, color_scheme=scheme)
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(written.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width_px
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [written.as_uri()]
    page.close()


def test_hostile_names_fit_a_phone_and_run_nothing(browser, tmp_path: Path):
    rng = np.random.default_rng(0)
    names = ("<img src=x onerror=document.title='broken'>", "w" * 200, "two words " * 20, "שלום")
    predictions = Predictions(
        ids=tuple(f"{row}" + "y" * 200 for row in range(20)),
        logit_NC=rng.normal(0, 2, (20, 4)),
        target_NC=rng.integers(0, 2, (20, 4)),
        label_set=LabelSet(names=names),
        source="z" * 500,
    )
    path = tmp_path / "report.html"
    write_report(path, metrics=evaluate_predictions(predictions, num_replicates=0), predictions=predictions, title="t" * 300)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.title() == "t" * 300 + " · polytag report"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1280, 390])
def test_a_comparison_opens_quietly_and_fits(browser, tmp_path: Path, predictions: Predictions, width_px: int, scheme: str):
    noisy = replace(predictions, logit_NC=predictions.logit_NC[::-1])
    comparison = compare(predictions, noisy, noisy, names=("base", "w" * 200, "<img src=x>"), num_replicates=20, num_permutations=9)
    path = write_comparison(tmp_path / "comparison.html", comparison)
    page = browser.new_page(viewport={"width": width_px, "height": 800}, color_scheme=scheme)
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width_px
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    row = page.locator("table.differences tbody tr").first
    zero, dot = (row.locator(f"svg {kind}").first.bounding_box() for kind in ("line.zero", "circle"))
    middle = dot["x"] + dot["width"] / 2
    assert (middle > zero["x"]) == (comparison.pairs[0].value > 0)
    page.close()


def test_without_javascript_a_class_opens_and_shows_its_images(browser, written: Path, predictions: Predictions):
    from io import BytesIO

    from PIL import Image

    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(written.as_uri())
    page.locator("summary").first.click()
    name = page.locator("summary .name").first.inner_text()
    logit_N = predictions.logit_NC[:, predictions.label_set.index(name)]
    best = Path(predictions.image_paths[int(logit_N.argmax())])
    shown = Image.open(BytesIO(page.locator("details ol.grid li > div").first.screenshot())).convert("RGB")
    colour = Image.open(best).convert("RGB").getpixel((0, 0))
    middle = shown.getpixel((shown.width // 2, shown.height // 2))
    assert np.abs(np.subtract(middle, colour)).max() <= 6  # JPEG
    context.close()


def test_paper_has_the_images_of_classes_that_are_folded(browser, written: Path, predictions: Predictions):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(written.as_uri())
    images = page.locator("details ol.grid li > div")
    assert not images.first.evaluate("image => image.checkVisibility()"), "on the screen they are folded"
    page.emulate_media(media="print")
    for image in (images.first, images.last):
        assert image.evaluate("image => image.checkVisibility()")
        assert image.bounding_box()["height"] > 20
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0
    page.close()


@pytest.mark.parametrize("width_px", [390, 1280])
def test_charts_beside_each_other_align_and_nothing_is_clipped(browser, written: Path, width_px: int):
    page = browser.new_page(viewport={"width": width_px, "height": 900})
    page.goto(written.as_uri())
    for section in ("training", "tail"):
        first, second = page.locator(f"#{section} figure svg").all()
        widths = "svg => [svg.viewBox.baseVal.width, svg.getBoundingClientRect().width]"
        assert first.evaluate(widths) == second.evaluate(widths)
    for svg in page.locator("#precision-recall svg").all():
        assert svg.evaluate("svg => getComputedStyle(svg).overflow") == "visible"
        assert svg.locator("text").all_text_contents() == ["precision", "recall"]
    page.close()


def test_no_name_is_split_inside_a_word(browser, tmp_path: Path, predictions: Predictions):
    names = ("pottedplant", "traffic_light glove-box", "Donaudampfschifffahrtsgesellschaftskapitän")
    path = tmp_path / "report.html"
    named = replace(predictions, label_set=LabelSet(names=names))
    write_report(path, metrics=evaluate_predictions(named, num_replicates=0), predictions=named, title="run")
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(path.as_uri())
    found = page.evaluate("""() => [...document.querySelectorAll('.name')].flatMap((name) => [...name.childNodes].map((node) => {
        const range = document.createRange();
        range.selectNodeContents(node);
        return [node.data, new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size];
    }))""")
    found = [(text, number) for text, number in found if text and " " not in text]
    assert {text for text, _ in found} == {"pottedplant", "traffic_", "box", names[2]}
    assert {number for _, number in found} == {1}
    page.close()


def test_numbers_have_a_minus_sign(browser, tmp_path: Path, predictions: Predictions):
    path = tmp_path / "report.html"
    ranks = replace(predictions, scale="rank")
    write_report(path, metrics=evaluate_predictions(ranks, num_replicates=0), predictions=ranks, title="run")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    scores = page.locator("details ol.grid li").all_inner_texts()
    assert any("−" in text for text in scores)
    assert not any("-" in text.replace("image-", "") for text in scores)
    page.close()
