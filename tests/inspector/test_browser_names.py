"""Names in a real browser, beside a second run: they wrap between words at every width, and never inside one."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import until
from PIL import Image
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection, compared
from polytag.inspector.words import OUTCOME_TEXT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAMES = (
    "cat", "diningtable", "pottedplant", "motorcycle", "refrigerator", "skateboarding", "traffic_light", "hot-air balloon",
    "sports/baseball_glove", "stop sign, partly hidden behind a very large tree",
    "Donaudampfschifffahrtsgesellschaftskapitän", "שלום",
)  # fmt: skip
OTHER = "voc_mini-finetune-efficientnet_lite2-seed_7"
WIDTHS_PX = (390, 768, 1024, 1280, 1920)

BROKEN = """(names) => {
    const broken = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const range = document.createRange();
    const words = new Set(names.flatMap((name) => name.split(/[\\s_\\-/,]+/)));
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (!node.parentElement.checkVisibility() || node.parentElement.closest("select, script, .sr, title")) continue;
        for (const found of node.data.matchAll(/[^\\s_\\-/,]+/g)) {
            if (!words.has(found[0])) continue;
            range.setStart(node, found.index);
            range.setEnd(node, found.index + found[0].length);
            const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
            const isVertical = getComputedStyle(node.parentElement).writingMode.startsWith("vertical");
            const lines = new Set(boxes.map((box) => Math.round((isVertical ? box.left : box.top) / 4)));
            const place = node.parentElement.closest("[id], [class]");
            if (lines.size > 1) broken.push(found[0] + " in " + place?.outerHTML.slice(0, 120));
        }
    }
    return broken;
}"""


def beside_another(folder: Path, names: tuple[str, ...] = NAMES) -> Inspection:
    """Sixty images, with labels and decisions of every kind, and a second run of a long name."""
    rng = np.random.default_rng(0)
    num_images, num_classes = 60, len(names)
    target_NC = (rng.random((num_images, num_classes)) < 0.4).astype(np.int8)
    target_NC[5:9, 1] = -1
    paths = [folder / f"{row}.png" for row in range(num_images)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8))
        small.resize((120, 90), Image.Resampling.BICUBIC).save(path)
    shutil.copyfile(paths[0], paths[1])  # a near duplicate with other labels

    def scored(name: str, noise: float) -> Predictions:
        return Predictions(
            ids=tuple(f"2008_{row:06}" for row in range(num_images)),
            logit_NC=3.0 * target_NC + rng.normal(0, noise, target_NC.shape) - 1.5,
            target_NC=target_NC,
            label_set=LabelSet(names=names),
            image_paths=tuple(map(str, paths)),
            source=name,
        )

    first = scored("first", 1.5)
    return Inspection(
        name="voc_mini-probe-efficientnet_lite2",
        review_file=folder / "review.sqlite",
        predictions=first,
        threshold_C=np.full(num_classes, 0.5),
        compared=[compared(OTHER, scored("second", 2.0), first=first)],
        split="val",
    )


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    return beside_another(tmp_path_factory.mktemp("names"))


@pytest.fixture(scope="module")
def server(live, inspection: Inspection) -> Iterator[Any]:
    with live(create_app(inspection)) as running:
        yield running


READY = {
    "/": "document.querySelectorAll('table.classes tbody tr').length === 12 && !document.querySelector('.pending')",
    "/image": "document.querySelector('#labels b')",
    "/review": "document.querySelector('#question .name')",
    "/ranking": "document.querySelector('#grid.virtual') && !document.querySelector('[aria-busy]')",
}


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_no_name_is_split_inside_a_word(server, visit, inspection: Inspection, width_px: int):
    names = [*NAMES, OTHER, inspection.name, *OUTCOME_TEXT.values()]
    page = visit(server.url + "/", viewport={"width": width_px, "height": 900}, color_scheme="dark" if width_px % 3 else "light")
    paths = ["/", "/ranking?class=traffic_light"]
    paths += [f"/image?class={name}&id={inspection.predictions.ids[6]}" for name in ("diningtable", NAMES[-2])]
    paths += [f"/review?kind=all&class={name}" for name in ("refrigerator", NAMES[-2])]
    for path in paths:
        page.goto(server.url + path)
        until(page, READY[path.partition("?")[0]])
        assert page.evaluate(BROKEN, names) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate(
            "(document.querySelector('.bars')?.scrollWidth ?? 0) <= (document.querySelector('.bars')?.clientWidth ?? 0)"
        )


def test_no_name_of_several_runs_is_split(live, visit, inspection: Inspection):
    """Their names stand in heads of columns, in the choice above a ranking, and beside the lines of the curves."""
    others = [OTHER, "voc_mini-probe-tf_efficientnet_lite0-seed_11", "runs of last week/voc_mini-baseline", NAMES[-2]]
    several = replace(inspection, compared=[replace(inspection.compared[0], name=name) for name in others])
    words = [*NAMES, *others, inspection.name, *OUTCOME_TEXT.values()]
    pages = {
        "/": READY["/"],
        "/class?class=refrigerator": PAGES["/class"],
        "/ranking?class=refrigerator&curves=1": f"{READY['/ranking']} && document.querySelectorAll('.lines li').length === 5",
    }
    with live(create_app(several)) as server:
        page = visit(server.url + "/", viewport={"width": 1280, "height": 900})
        for path, ready in pages.items():
            page.goto(f"{server.url}{path}{'&' if '?' in path else '?'}against={others[2].replace(' ', '%20')}")
            until(page, ready)
            for width_px in WIDTHS_PX:
                page.set_viewport_size({"width": width_px, "height": 900})
                page.evaluate(AFTER_RESIZING)
                assert page.evaluate(BROKEN, words) == [], f"{path} at {width_px} px"
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} at {width_px} px"
        page.close()  # before its server is


def test_the_measure_finds_a_split_word(server, visit):
    """The twin: with the rule that the pages had, words are split and found."""
    page = visit(server.url + "/", viewport={"width": 390, "height": 900})
    until(page, READY["/"])  # it would be loaded again
    page.evaluate("""() => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(".classes tbody th, .classes tbody th .name { overflow-wrap: anywhere; width: 60px; max-width: 60px; }");
        document.adoptedStyleSheets = [sheet];
    }""")
    assert any("pottedplant" in each for each in page.evaluate(BROKEN, list(NAMES)))


def test_a_word_that_is_too_long_is_cut_and_its_title_has_it_whole(server, visit, inspection: Inspection):
    page = visit(f"{server.url}/image?id={inspection.predictions.ids[0]}", viewport={"width": 390, "height": 900})
    name = page.locator("#bars .name", has_text=NAMES[-2])
    assert name.get_attribute("title") == NAMES[-2]
    assert name.evaluate("each => each.scrollWidth > each.clientWidth && getComputedStyle(each).textOverflow === 'ellipsis'")
    assert page.locator("#bars .name", has_text="cat").first.get_attribute("title") is None


def test_script_and_server_write_a_name_alike(server, visit, inspection: Inspection):
    page = visit(f"{server.url}/image?class=traffic_light&id={inspection.predictions.ids[0]}")
    until(page, "document.querySelector('#labels .name')")
    by_server = {each.inner_text(): each.evaluate("each => each.outerHTML") for each in page.locator("#bars .name").all()}
    for name in NAMES:
        page.locator("#bars li").nth(list(by_server).index(name)).locator("a").click()
        until(page, "(name) => document.querySelector('#labels .name').textContent === name", name)
        assert page.locator("#labels .name").evaluate("each => each.outerHTML") == by_server[name]


def many(number: int) -> tuple[str, ...]:
    """So many long names, each with words that could be split."""
    if number == 2:
        return NAMES[-3:-1]
    return tuple((*NAMES, *(f"{NAMES[row % len(NAMES)]}_nr{row}" for row in range(len(NAMES), number)))[:number])


PAGES = {
    "/class": "document.querySelector('#findings') && !document.querySelector('[data-pending]')",
    "/together": "document.querySelector('main svg circle') && !document.querySelector('[data-pending]')",
    "/map": "document.querySelector('#strip li img') && document.querySelector('#computing').hidden",
    "/runs": "document.querySelectorAll('table.runs tbody tr').length === 2",
    "/decisions": "document.querySelectorAll('table.classes tbody tr').length >= 2",
    "/duplicates": "document.querySelector('.groups > li') && !document.querySelector('[data-pending]')",
    "/predict": "document.querySelector('.card .foundlist .name')",
}
ALL_OF_THE_MAP = "0_0-66000_0-66000_66000-0_66000"
AFTER_RESIZING = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"


@pytest.fixture
def of_many(request: pytest.FixtureRequest, tmp_path: Path, modelled: Inspection, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    """So many classes, two runs in one folder, a model, and decisions about the first classes."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    assert modelled.checkpoint is not None
    (tmp_path / "images").mkdir()
    made = beside_another(tmp_path / "images", many(request.param))
    for name in (made.name, OTHER):
        shutil.copytree(modelled.checkpoint.parent, tmp_path / "runs" / name)
    own_path = tmp_path / "runs" / made.name
    made = replace(made, run_path=own_path, checkpoint=own_path / "best")
    with TestClient(create_app(made), base_url="http://127.0.0.1") as client:
        for image, name in zip(made.predictions.ids, made.predictions.label_set.names[:20], strict=False):
            decision = {"image": image, "class_name": name, "label": 1, "reviewer": "Ada", "based_on": 0}
            assert client.post("/api/review/decisions", json=decision).status_code == 200
    return made


@pytest.mark.parametrize("of_many", [2, 20, 1000], indirect=True)
def test_no_name_is_split_on_the_other_pages_with_few_and_many_classes(live, visit, of_many: Inspection):
    """Each page is visited once, and measured at every width."""
    names = of_many.predictions.label_set.names
    classes = [{"name": name, "probability": 0.7, "text": "0.700", "threshold": 0.5, "is_present": True} for name in names[:60]]
    words = [*names, OTHER, of_many.name, *OUTCOME_TEXT.values()]
    with live(create_app(of_many)) as server:
        page = visit(server.url + "/runs", viewport={"width": 1280, "height": 900})
        page.route(
            "**/api/predict", lambda route: route.fulfill(content_type="application/json", body=json.dumps({"classes": classes}))
        )
        for path, ready in PAGES.items():
            query = {"/class": f"?class={names[1]}", "/map": f"?class={names[1]}&by=scores&lasso={ALL_OF_THE_MAP}"}
            page.goto(server.url + path + query.get(path, ""))
            if path == "/predict":
                page.wait_for_selector("#choose:enabled")
                page.set_input_files("#files", of_many.predictions.image_paths[2])
            until(page, ready)
            for width_px in WIDTHS_PX:
                page.set_viewport_size({"width": width_px, "height": 900})
                page.evaluate(AFTER_RESIZING)
                assert page.evaluate(BROKEN, words) == [], f"{path} at {width_px} px"
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} at {width_px} px"
        page.close()  # before its server is
