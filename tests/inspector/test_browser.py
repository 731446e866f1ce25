"""Overview, rankings and single images in a real browser, driven as a person would: on handwriting scenes and on photographs."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from browsing import until
from typer.testing import CliRunner

from polytag.cli.main import app as command
from polytag.contracts import Predictions
from polytag.data.read_options import ReadOptions
from polytag.demo.scenes import write_scenes
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.keep_threshold import keep_threshold
from polytag.inspector.open import OpenOptions, open_inspection
from polytag.inspector.review.store import open_review
from polytag.metrics.goals import Goal
from polytag.metrics.operating_points import choose_thresholds
from polytag.models.checkpoint import Checkpoint

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def trained(folder: Path, *arguments: object) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "polytag.report.grids", None)  # without pages
        done = CliRunner().invoke(command, ["train", *map(str, arguments), "--output", str(folder / "run")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    data = write_scenes(folder / "scenes", num_train=80, num_val=300)
    return trained(folder, data, "--backbone", "test_resnet", "--weights", "random", "--recipe", "probe", "--image-size", 64)


@pytest.fixture(scope="module")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = shared / "weights" / "mobilenetv2_100.keras_in1k.imagenet-norm.fp16.safetensors"
    folder, whole = tmp_path_factory.mktemp("photographs"), shared / "data" / "voc-mini" / "VOCdevkit" / "VOC2012"
    data = folder / "VOC2012"  # every fourth photograph
    (data / "ImageSets" / "Main").mkdir(parents=True)
    for name in ("Annotations", "JPEGImages"):
        (data / name).symlink_to(whole / name)
    for name in ("train.txt", "val.txt"):
        ids = (whole / "ImageSets" / "Main" / name).read_text().split()
        (data / "ImageSets" / "Main" / name).write_text("\n".join(ids[::4]))
    backbone = ("--backbone", "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--weights", weights)
    return trained(folder, data, *backbone, "--recipe", "probe", "--image-size", 96)


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A page of a browser at a running inspector; what it said and asked for is judged when the visit ends."""

    page: "playwright.Page"
    inspection: Inspection
    url: str

    @property
    def predictions(self) -> Predictions:
        return self.inspection.predictions

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)
        self.page.wait_for_load_state("networkidle")
        if path.startswith("/ranking"):
            self.settled()

    def until(self, expression: str, *, patience_seconds: float = 20) -> None:
        until(self.page, expression, patience_seconds=patience_seconds)

    def settled(self) -> None:
        """Wait until the grid shows what was asked for."""
        self.until("document.querySelector('#grid.virtual') && !document.querySelector('#grid[aria-busy]')")

    def count(self) -> int:
        """What the page says of the number of images, once it has said it."""
        self.settled()
        return int(self.page.locator("#total").inner_text().replace(",", ""))

    def ids(self) -> list[str]:
        """The ids of the cells in the document, in the order of their places."""
        found = self.page.eval_on_selector_all(
            "#grid > li", "cells => cells.map(cell => [Number(cell.dataset.index), cell.querySelector('.caption.id').textContent])"
        )
        return [name for _, name in sorted(found)]

    def ranked(self, class_name: str, *, lowest: bool = False) -> list[str]:
        logit_N = self.predictions.logit_NC[:, self.predictions.label_set.index(class_name)]
        names = self.predictions.ids
        return [
            names[row] for row in sorted(range(len(names)), key=lambda row: (logit_N[row] if lowest else -logit_N[row], names[row]))
        ]


on_photographs_too = pytest.mark.parametrize("visit", ["scenes", "photographs"], indirect=True)


@pytest.fixture
def visit(
    request: pytest.FixtureRequest, browser, live: Callable[..., AbstractContextManager], tmp_path, monkeypatch
) -> Iterator[Visit]:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    run = request.getfixturevalue(getattr(request, "param", "scenes"))
    inspection = open_inspection(run, OpenOptions(), options=ReadOptions())
    with live(create_app(inspection)) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        yield Visit(page=page, inspection=inspection, url=server.url)
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((server.url, "blob:", "data:"))] == []


@on_photographs_too
def test_the_overview_leads_to_a_class(visit: Visit):
    visit.go("/")
    page = visit.page
    names = page.locator("table.classes tbody th").all_inner_texts()
    assert sorted(names) == sorted(visit.predictions.label_set)
    page.get_by_role("link", name="class", exact=True).click()
    page.wait_for_url("**sort=name**")
    page.wait_for_load_state()
    assert page.locator("table.classes tbody th").all_inner_texts() == sorted(names, key=str.casefold)
    assert "sort=name" in page.url
    page.locator("table.classes").get_by_role("link", name=names[0], exact=True).click()
    page.wait_for_selector("#grid.virtual > li")
    assert page.locator("#class").input_value() == names[0]
    assert visit.ids()[:10] == visit.ranked(names[0])[:10]
    page.go_back()
    assert "sort=name" in page.url


def test_top_and_bottom_are_one_key_away_and_stand_in_the_address(visit: Visit):
    name = visit.predictions.label_set.names[1]
    visit.go(f"/ranking?class={name}")
    page = visit.page
    page.keyboard.press("b")
    visit.until("document.querySelector('#order').value === 'asc'")
    visit.settled()
    assert visit.ids()[:24] == visit.ranked(name, lowest=True)[:24]
    assert "order=asc" in page.url
    page.keyboard.press("t")
    visit.settled()
    assert visit.ids()[:24] == visit.ranked(name)[:24]
    page.go_back()
    visit.until("document.querySelector('#order').value === 'asc'")
    visit.settled()
    page.keyboard.press("]")
    visit.settled()
    assert page.locator("#class").input_value() == visit.predictions.label_set.names[2]


def test_one_scrolls_down_to_the_last_image_and_only_what_is_seen_is_drawn(visit: Visit):
    name = visit.predictions.label_set.names[0]
    visit.go(f"/ranking?class={name}")
    page = visit.page
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    last = f"[...document.querySelectorAll('#grid > li')].find(cell => cell.dataset.index == {len(visit.predictions) - 1})"
    visit.until(f"{last}?.querySelector('.caption.id').textContent")  # it is drawn empty, and filled when its page has come
    assert visit.ids()[-1] == visit.ranked(name)[-1]
    assert page.locator("#grid > li").count() < 150
    visit.until("/offset=/.test(location.href)")
    place = page.evaluate("scrollY")
    page.reload()
    visit.settled()
    visit.until("document.querySelectorAll('#grid > li').length > 5")
    assert abs(page.evaluate("scrollY") - place) < 420, "an address leads to the same place"


IN_WINDOW = """[...document.querySelectorAll('#grid > li')].filter(cell => {
    const { top, bottom } = cell.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
})"""


def test_after_a_jump_the_window_is_asked_for_alone_and_then_what_is_around_it(visit: Visit):
    name = visit.predictions.label_set.names[0]
    visit.go(f"/ranking?class={name}")
    page = visit.page
    visit.settled()
    asked: list[dict[str, str]] = []
    page.on(
        "request",
        lambda request: asked.append(dict(parse_qsl(urlsplit(request.url).query))) if "/api/ranking?" in request.url else None,
    )
    page.evaluate("scrollTo(0, 0.8 * document.documentElement.scrollHeight)")
    visit.until(f"{IN_WINDOW}.length && {IN_WINDOW}.every(cell => cell.querySelector('img').naturalWidth)")
    first, last = int(asked[0]["offset"]), int(asked[0]["offset"]) + int(asked[0]["limit"])
    assert last - first <= 64, "less than a page"
    shown = page.evaluate(f"{IN_WINDOW}.map(cell => [Number(cell.dataset.index), cell.querySelector('.id').textContent])")
    assert [first <= index < last for index, _ in shown] == [True] * len(shown)
    assert [image_id for _, image_id in shown] == [visit.ranked(name)[index] for index, _ in shown]
    own = """Promise.all(cells.map(async cell => {
        const bytes = new Uint8Array(await (await fetch(cell.querySelector('img').dataset.source)).arrayBuffer());
        return cell.querySelector('img').src === 'data:image/jpeg;base64,' + btoa(String.fromCharCode(...bytes));
    }))"""
    assert page.evaluate(f"(cells => {own})({IN_WINDOW})") == [True] * len(shown), "each cell has its own image"
    visit.until(f"document.querySelectorAll('#grid > li').length > {len(shown) + 8}")
    page.evaluate("scrollBy(0, -250)")
    visit.until(f"{IN_WINDOW}.every(cell => cell.querySelector('img').naturalWidth)")
    assert any(each["limit"] == "200" for each in asked[1:]), "what is around it comes in pages"
    for index, image_id in page.evaluate(
        f"{IN_WINDOW}.map(cell => [Number(cell.dataset.index), cell.querySelector('.id').textContent])"
    ):
        assert image_id == visit.ranked(name)[index]


@on_photographs_too
def test_images_are_drawn(visit: Visit):
    visit.go(f"/ranking?class={visit.predictions.label_set.names[0]}")
    visit.until("[...document.querySelectorAll('#grid img')].slice(0, 8).every(image => image.naturalWidth > 20)")


def test_the_threshold_moves_the_line_and_every_number_follows(visit: Visit):
    name = visit.predictions.label_set.names[0]
    column = visit.predictions.label_set.index(name)
    visit.go(f"/ranking?class={name}")
    page = visit.page
    probability_N, target_N = visit.predictions.probability_NC[:, column], visit.predictions.target_NC[:, column]
    threshold = round(float(np.sort(probability_N)[-20]), 3)
    page.locator("#slider").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", 1000 * threshold
    )
    above = probability_N > threshold
    true, false = int((above & (target_N == 1)).sum()), int((above & (target_N == 0)).sum())
    told = page.locator("#numbers").inner_text()
    assert f"{true} true positives" in told
    assert f"{false} false positives" in told
    assert f"{int((target_N == 1).sum()) - true} missed" in told
    assert f"precision {true / (true + false):.3f}" in re.sub(r"\s+", " ", told)
    cells = page.eval_on_selector_all(
        "#grid > li a", "links => links.map(link => [link.querySelector('.caption.id').textContent, link.className.split(' ')[1]])"
    )
    rows = {identity: row for row, identity in enumerate(visit.predictions.ids)}
    for identity, outcome in cells[:40]:
        row = rows[identity]
        expected = {
            (1, True): "true_positive",
            (1, False): "false_negative",
            (0, True): "false_positive",
            (0, False): "true_negative",
        }
        assert outcome == expected.get((int(target_N[row]), bool(above[row])), "unknown")
    visit.until("/threshold=/.test(location.href)")
    page.locator("#own").click()
    visit.until("!/threshold=/.test(location.href)")


def test_filters_are_in_the_address_and_leave_what_they_say(visit: Visit):
    names = visit.predictions.label_set.names
    visit.go(f"/ranking?class={names[0]}")
    page = visit.page
    page.keyboard.press("f")
    page.locator("input[name=outcome][value=false_negative]").check()
    visit.until("/outcome=false_negative/.test(location.href)")
    visit.settled()
    missed = (visit.predictions.probability_NC[:, 0] <= 0.5) & (visit.predictions.target_NC[:, 0] == 1)
    assert visit.count() == int(missed.sum())
    page.locator("select[name=present]").first.select_option(names[1])
    visit.until("/present=/.test(location.href)")
    visit.settled()
    both = missed & (visit.predictions.target_NC[:, 1] == 1)
    assert visit.count() == int(both.sum())
    assert page.locator("select[name=present]").count() == 2, "another class can be added"
    page.reload()
    visit.settled()
    assert visit.count() == int(both.sum())
    page.locator("#clear").click()
    visit.settled()
    assert visit.count() == len(visit.predictions)
    page.keyboard.press("/")
    page.keyboard.type(visit.predictions.ids[7])
    visit.until(f"new URLSearchParams(location.search).get('text') === {visit.predictions.ids[7]!r}")
    visit.settled()
    assert visit.predictions.ids[7] in visit.ids()


def test_by_keys_alone_to_an_image_and_back(visit: Visit):
    name = visit.predictions.label_set.names[0]
    visit.go(f"/ranking?class={name}")
    page, ranked = visit.page, visit.ranked(name)
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    visit.until(f"document.activeElement.querySelector('.caption.id')?.textContent === {ranked[1]!r}")
    page.keyboard.press("Enter")
    page.wait_for_selector(".image-page")
    assert page.locator("h1").inner_text() == ranked[1]
    page.wait_for_selector("#closer")
    page.keyboard.press("ArrowRight")
    visit.until(f"document.querySelector('h1').textContent === {ranked[2]!r}")
    page.wait_for_selector("#closer")  # the page's script is there
    page.keyboard.press("Escape")
    page.wait_for_selector("#grid.virtual > li")
    assert f"class={name}" in page.url


@on_photographs_too
def test_one_image_shows_every_class_and_enlarges(visit: Visit):
    name, identity = visit.predictions.label_set.names[0], visit.predictions.ids[3]
    visit.go(f"/image?class={name}&id={identity}")
    page = visit.page
    shown = page.locator("#bars .name").all_inner_texts()
    logit_C = visit.predictions.logit_NC[3]
    assert shown == [visit.predictions.label_set.names[column] for column in np.argsort(-logit_C, kind="stable")]
    visit.until("document.querySelector('#full').dataset.state === 'shown' && document.querySelector('#sheet').style.width")
    before = page.locator("#full").bounding_box()
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.locator("#full").bounding_box()["width"] > 2 * before["width"]
    page.keyboard.press("w")
    assert page.locator("#full").bounding_box()["width"] == pytest.approx(before["width"])
    chosen = page.locator("#bars .chosen .name").inner_text()
    page.keyboard.press("ArrowDown" if shown.index(chosen) < len(shown) - 1 else "ArrowUp")
    assert page.locator("#bars .chosen .name").inner_text() != chosen


@on_photographs_too
def test_heat_map_boxes_and_nearest_images(visit: Visit):
    column = int(np.argmax((visit.predictions.target_NC == 1).sum(axis=0)))
    row = int(np.flatnonzero(visit.predictions.target_NC[:, column] == 1)[0])
    name, identity = visit.predictions.label_set.names[column], visit.predictions.ids[row]
    visit.go(f"/image?class={name}&id={identity}")
    page = visit.page
    page.keyboard.press("h")
    visit.until("document.querySelector('.heat')?.naturalWidth > 0", patience_seconds=60)
    heat, full = page.locator(".heat").bounding_box(), page.locator("#full").bounding_box()
    assert heat == pytest.approx(full)
    page.keyboard.press("x")
    assert page.locator(".box.own").count() >= 1
    assert set(page.locator(".box.own").all_inner_texts()) == {name}
    page.keyboard.press("s")
    page.wait_for_selector(".neighbours li", timeout=120_000)
    assert page.locator("#nearest-found h3").all_inner_texts() == ["train", "val"]
    distances = [float(text) for text in page.locator(".neighbours").nth(0).locator("b").all_inner_texts()]
    assert distances == sorted(distances)
    assert identity not in page.locator(".neighbours").nth(1).inner_text()
    assert {"heat=1", "boxes=1", "nearest=1"} <= set(page.url.partition("?")[2].split("&"))
    assert page.locator(".neighbours").nth(0).locator("a").count() == 0, "training images have no page"
    link = page.locator(".neighbours").nth(1).locator("a").first
    nearest = link.locator(".id").inner_text()
    link.click()
    visit.until(f"document.querySelector('h1')?.textContent === {nearest!r}")
    assert page.locator("#bars .chosen .name").inner_text() == name
    assert "heat=1" in page.url


def test_a_nearest_image_of_another_split_opens_in_place(visit: Visit):
    visit.go(f"/image?id={visit.predictions.ids[0]}")
    page, address = visit.page, visit.page.url
    page.keyboard.press("s")
    page.wait_for_selector(".neighbours li", timeout=120_000)
    opener = page.locator(".neighbours").nth(0).get_by_role("button").nth(1)
    distance, name = opener.locator("b").inner_text(), opener.locator(".id").inner_text()
    assert name not in visit.predictions.ids
    opener.focus()
    for close in ("Escape", "Enter"):  # Enter presses the button that has the focus
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name=name)
        visit.until("document.querySelector('dialog img')?.naturalWidth > 0")
        assert dialog.get_by_role("img", name=name).bounding_box()["height"] > 2 * opener.locator("img").bounding_box()["height"]
        text = dialog.locator("#enlarged-text").inner_text()
        assert (text.startswith("train · "), text.endswith(f" · distance {distance}")) == (True, True)
        assert dialog.get_by_role("button", name="Close").evaluate("button => button === document.activeElement")
        page.keyboard.press("ArrowRight")  # no key of the page
        page.keyboard.press(close)
        visit.until("!document.querySelector('dialog')")
        assert opener.evaluate("button => button === document.activeElement")
    assert page.url.partition("?")[0] == address.partition("?")[0]
    assert page.inner_text("h1") == visit.predictions.ids[0]


def test_labels_are_decided_in_the_grid_and_on_the_image(visit: Visit):
    names = visit.predictions.label_set.names
    visit.go(f"/ranking?class={names[0]}")
    page, first = visit.page, visit.ranked(names[0])[0]
    page.keyboard.press("ArrowRight")
    visit.until("document.activeElement.querySelector('img')?.naturalWidth > 20")  # nobody decides about what is not shown
    page.keyboard.press("0")
    page.get_by_label("Your name").fill("Ada")
    page.keyboard.press("Enter")
    page.wait_for_selector("#grid .reviewed:visible")
    assert page.locator("#grid .reviewed:visible").inner_text() == "reviewed: absent"
    visit.go(f"/image?class={names[0]}&id={first}")
    page.wait_for_selector("#labels button")
    visit.until("document.querySelector('#full').dataset.state === 'shown'")
    assert "decided: absent, by Ada" in page.locator("#labels").inner_text()
    page.keyboard.press("u")
    page.wait_for_selector("#labels button[aria-pressed=true] >> text=unknown")
    page.keyboard.press("z")
    page.wait_for_selector("#labels button[aria-pressed=true] >> text=absent")
    with open_review(visit.inspection.review_file) as store:
        rows = store.history("val")
    assert [(row.label, row.reviewer) for row in rows] == [(0, "Ada"), (-1, "Ada"), (0, "Ada")]
    visit.inspection.review_file.unlink()  # the run is the next test's too


def test_curves_answer_to_the_pointer(visit: Visit):
    column = int(np.argmax((visit.predictions.target_NC == 1).sum(axis=0)))
    middle = np.median(visit.predictions.probability_NC[:, column])
    visit.go(f"/ranking?class={visit.predictions.label_set.names[column]}&threshold={middle:.3f}")
    page = visit.page
    page.keyboard.press("c")
    page.wait_for_selector("#precision-recall svg")
    for chart in ("precision-recall", "over-threshold"):
        box = page.locator(f"#{chart} svg").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        visit.until(f"/precision \\S+, recall \\S+/.test(document.querySelector('#{chart} .readout').textContent)")
    recall = float(page.locator("#numbers b").nth(1).inner_text())
    left, right = 42, 470  # of the axis, of 480
    assert float(page.locator("#precision-recall circle").get_attribute("cx")) == pytest.approx(
        left + recall * (right - left), abs=0.5
    )


def test_the_scores_are_slider_filter_and_map(visit: Visit):
    """A click moves the threshold, a drag of the line too; a drag elsewhere leaves these scores alone; the strip scrolls."""
    name = visit.predictions.label_set.names[int(np.argmax((visit.predictions.target_NC == 1).sum(axis=0)))]
    probability_N = visit.predictions.probability_NC[:, visit.predictions.label_set.index(name)]
    visit.go(f"/ranking?class={name}")
    visit.settled()
    page, mouse = visit.page, visit.page.mouse
    box = page.locator("#living").bounding_box()

    def at(score: float) -> tuple[float, float]:
        return box["x"] + score * box["width"], box["y"] + box["height"] / 2

    mouse.click(*at(0.3))
    visit.until("Math.abs(document.querySelector('#threshold').value - 0.3) < 0.003")
    mouse.move(*at(0.3))
    mouse.down()
    mouse.move(*at(0.4), steps=4)
    mouse.up()
    visit.until("Math.abs(document.querySelector('#threshold').value - 0.4) < 0.003")
    assert "min_score" not in page.url
    low, high = np.quantile(probability_N, [0.2, 0.7])
    mouse.move(*at(low))
    mouse.down()
    mouse.move(*at(high), steps=4)
    mouse.up()
    visit.until("location.search.includes('min_score')")
    chosen = dict(re.findall(r"(min_score|max_score)=([0-9.]+)", page.url))
    expected = (probability_N >= float(chosen["min_score"])) & (probability_N <= float(chosen["max_score"]))
    visit.until(f"document.querySelector('#total').textContent === '{expected.sum()}'")
    assert float(chosen["min_score"]) == pytest.approx(low, abs=0.005)
    page.go_back()
    visit.until(f"document.querySelector('#total').textContent === '{len(probability_N)}'")
    middle = float(np.median(probability_N))
    page.wait_for_selector("#places:visible")
    strip = page.locator("#places").bounding_box()
    mouse.click(strip["x"] + middle * strip["width"], strip["y"] + strip["height"] / 2)
    visit.until("scrollY > 0")
    visit.until("Number(new URLSearchParams(location.search).get('offset')) > 0")
    first = int(re.search(r"offset=(\d+)", page.url)[1])
    assert first == pytest.approx((probability_N > middle).sum(), abs=2 * int(page.evaluate("innerWidth")) // 130)


def test_a_goal_in_words_moves_the_threshold(visit: Visit):
    name = visit.predictions.label_set.names[int(np.argmax((visit.predictions.target_NC == 1).sum(axis=0)))]
    column = visit.predictions.label_set.index(name)
    visit.go(f"/ranking?class={name}")
    visit.settled()
    page = visit.page
    page.locator("#goal").fill("recall 0.8")
    page.keyboard.press("Enter")
    page.wait_for_selector("#promise:visible")
    expected = choose_thresholds(visit.predictions, goal=Goal(kind="recall", level=0.8)).points[column]
    visit.until(f"Math.abs(document.querySelector('#threshold').value - {expected.threshold}) < 0.0011")
    assert f"recall {expected.recall:.3f} on all images of this run" in page.locator("#promise").inner_text()
    assert float(page.locator("#numbers b").nth(1).inner_text()) == pytest.approx(expected.recall, abs=0.0006)
    assert float(page.locator("#numbers b").nth(0).inner_text()) == pytest.approx(expected.precision, abs=0.0006)
    page.locator("#goal").fill("nonsense")
    page.keyboard.press("Enter")
    visit.until("/Try recall 0.8/.test(document.querySelector('#promise').textContent)")


def test_keys_are_listed(visit: Visit):
    visit.go("/ranking")
    visit.page.keyboard.press("?")
    told = visit.page.get_by_role("dialog", name="Keys").inner_text()
    assert "highest scores first" in told
    visit.page.keyboard.press("Escape")
    assert visit.page.get_by_role("dialog").count() == 0


@pytest.mark.parametrize(("width_px", "scheme"), [(390, "light"), (640, "dark"), (1280, "dark")])  # 640: one of 1280 at 200%
def test_no_page_is_wider_than_its_window(visit: Visit, width_px: int, scheme: str):
    page = visit.page
    page.set_viewport_size({"width": width_px, "height": 800})
    page.emulate_media(color_scheme=scheme)
    for path in ("/", "/ranking?text=a&outcome=false_negative", f"/image?id={visit.predictions.ids[0]}", "/review", "/predict"):
        visit.go(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_without_scripts_pages_are_pages(visit: Visit, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(visit.url + "/")
    page.locator("table.classes tbody th a").first.click()
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**offset=60**")
    page.locator("#grid a").first.click()
    page.wait_for_url("**/image?**")
    assert page.locator("#bars li").count() == len(visit.predictions.label_set)
    page.locator("#next").click()
    page.wait_for_url("**offset=61**")
    page.locator("#back").click()
    page.wait_for_url("**/ranking?**")
    page.locator("#sort").select_option("loss")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**sort=loss**")
    assert page.locator("#grid li").count() > 10
    context.close()


def test_back_and_forward_redraw_without_loading_the_page(visit: Visit):
    names = visit.predictions.label_set.names
    visit.go(f"/ranking?class={names[0]}")
    page = visit.page
    visit.settled()
    page.evaluate("window.marker = 'the same page'")
    page.locator("#threshold").fill("0.25")
    page.locator("#threshold").press("Enter")
    page.locator("#threshold").blur()
    visit.until("/threshold=0.25/.test(location.href)")
    visit.settled()
    page.evaluate("scrollTo(0, 900)")
    visit.until("history.state?.above > 400 && /offset=/.test(location.href)")
    first_address = page.url
    in_window = """[...document.querySelectorAll('#grid > li')].filter(cell => cell.getBoundingClientRect().top > 0)
        .map(cell => [Number(cell.dataset.index), cell.querySelector('.id').textContent])
        .sort(([one], [other]) => one - other).slice(0, 8)"""
    first_cells = page.evaluate(in_window)

    page.keyboard.press("]")  # another class: its own threshold, from the top
    visit.until(f"document.querySelector('#class').value === {names[1]!r}")
    visit.settled()
    assert "threshold=" not in page.url
    assert page.evaluate("scrollY") < 400
    page.keyboard.press("f")
    page.locator("input[name=outcome][value=true_negative]").check()
    visit.until("/outcome=true_negative/.test(location.href)")
    page.locator("select[name=absent]").first.select_option(names[0])
    visit.until("/absent=/.test(location.href)")
    filtered = visit.count()
    last_address = page.url

    page.go_back()
    visit.until("!/absent=/.test(location.href)")
    assert visit.count() >= filtered
    assert page.locator("select[name=absent]").count() == 1
    assert page.locator("input[name=outcome][value=true_negative]").is_checked()
    page.go_back()
    visit.settled()
    assert not page.locator("input[name=outcome][value=true_negative]").is_checked()
    page.go_back()
    visit.until(f"document.querySelector('#class').value === {names[0]!r}")
    visit.settled()
    assert page.url == first_address
    assert float(page.locator("#threshold").input_value()) == 0.25
    assert page.evaluate(in_window) == first_cells
    for _ in range(3):
        page.go_forward()
        visit.settled()
    visit.until("/absent=/.test(location.href)")
    assert page.url == last_address
    assert visit.count() == filtered
    assert page.locator("select[name=absent]").first.input_value() == names[0]
    page.locator("#clear").click()
    assert visit.count() == len(visit.predictions)
    page.go_back()
    visit.until("/absent=/.test(location.href)")
    assert visit.count() == filtered
    assert page.evaluate("window.marker") == "the same page"


def test_a_return_from_an_image_restores_the_place_in_the_list(visit: Visit):
    visit.go(f"/ranking?class={visit.predictions.label_set.names[0]}")
    page = visit.page
    visit.settled()
    page.evaluate("scrollTo(0, 700)")
    visit.until("history.state?.above > 200")
    scroll = page.evaluate("scrollY")
    page.locator("#grid a").nth(20).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".image-page")
    page.go_back()
    visit.settled()
    visit.until(f"Math.abs(scrollY - {scroll}) < 250")  # the focus may have scrolled its cell into the window


@on_photographs_too
def test_cells_of_the_script_are_those_of_the_server(visit: Visit, browser):
    address = f"{visit.url}/ranking?class={visit.predictions.label_set.names[0]}&sort=id&order=asc"
    without_scripts = browser.new_context(java_script_enabled=False)
    plain = without_scripts.new_page()
    plain.goto(address)
    drawn = "cells => cells.slice(0, 12).map(cell => cell.innerHTML.replace(/<img[^>]*>/, ''))"
    expected = plain.eval_on_selector_all("#grid .cell", drawn)
    without_scripts.close()
    visit.page.goto(address)
    visit.settled()
    cells = "[...document.querySelectorAll('#grid > li')].sort((a, b) => a.dataset.index - b.dataset.index)"
    shown = visit.page.evaluate(f"({drawn})({cells}.map(each => each.firstElementChild))")
    assert [re.sub(r' hidden=""', " hidden", each) for each in shown] == [
        re.sub(r' hidden=""', " hidden", each) for each in expected
    ]


def test_a_threshold_is_kept(visit: Visit):
    """In the run, from the button: the model decides by it."""
    assert visit.inspection.run_path is not None
    name = visit.predictions.label_set.names[0]
    before = Checkpoint.read(visit.inspection.run_path).thresholds
    saved = visit.inspection.run_path / "thresholds.json"
    visit.go(f"/ranking?class={name}")
    visit.settled()
    page = visit.page
    assert not page.locator("#keep").is_visible()
    page.locator("#threshold").fill("0.321")
    page.keyboard.press("Enter")
    page.locator("#keep").click()
    visit.until("performance.getEntriesByType('navigation')[0].type === 'reload'")
    assert Checkpoint.read(visit.inspection.run_path).thresholds == (0.321, *before[1:])
    assert saved.is_file()
    keep_threshold(visit.inspection, 0, before[0])  # the run is the next test's too
    saved.unlink()
