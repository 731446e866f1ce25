"""The inspector in the states that a person brings it into, checked by axe-core and by four rules of ours, in a real browser.

    python benchmarks/accessibility.py [--run demo/run] [--compare-with RUN ...]

Each state is checked light and dark, at 1280 and 390 px. Ours: nothing is printed in the console as an error, no request leaves the
server, the page cannot be scrolled sideways, and no name is broken within a word. axe-core comes from npm; where it cannot be had,
nothing is measured. The states without labels are those of the same run's scores with every label unknown, those without images
of the same scores with paths where nothing is. The search by text is checked where open_clip is installed, with a model of random
weights.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from machine import write
from polytag import Predictions, read_predictions
from polytag.contracts import PRESENT
from polytag.inspector.review.store import ReviewStore, review_file_of
from polytag.predictions.table import write_predictions
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
WAIT_SECONDS = 60
SIDEWAYS = "document.documentElement.scrollWidth > innerWidth"
BROKEN = """() => [...document.querySelectorAll('bdi.name, [data-name] bdi')].flatMap((name) => {
    const text = [...name.childNodes].find((node) => node.nodeType === Node.TEXT_NODE);
    if (!text || !name.checkVisibility()) return [];
    const word = document.createRange();
    return [...text.data.matchAll(/\\p{L}{2,18}/gu)].filter(({ index, 0: each }) => {
        word.setStart(text, index);
        word.setEnd(text, index + each.length);
        return new Set([...word.getClientRects()].filter(({ width }) => width > 0).map(({ top }) => Math.round(top))).size > 1;
    }).map(({ 0: each }) => each);
})"""


@dataclass(frozen=True, kw_only=True)
class State:
    """An address, what is done there, and what then has to be seen before it is checked.

    of        what is served: the "run", its scores with "no labels" or "no images", the run while it is "running", or with a model
              for "text"
    excused   the status of an answer that the browser prints as an error, and that belongs to the state
    """

    path: str
    act: Callable[[Page], object] | None = None
    sees: str = "document.querySelector('main')"
    of: str = "run"
    excused: str = "none"


def key(*names: str) -> Callable[[Page], object]:
    return lambda page: [page.keyboard.press(name) for name in names]


def states(predictions: Predictions, *, has_second: bool) -> dict[str, State]:
    name, first = predictions.label_set.names[0], predictions.ids[0]
    grid = "document.querySelector('#grid.virtual') && !document.querySelector('#grid[aria-busy]')"
    ranking, image = f"/ranking?class={name}", f"/image?class={name}&id={first}"
    question = "document.querySelector('#workspace:not([hidden])')"
    picture = next(path for path in predictions.image_paths if Path(path).is_file())

    def drop(page: Page) -> None:
        page.set_input_files("#files", picture)

    def tag(page: Page) -> None:
        page.keyboard.press("a")
        wait_for(page, "!document.querySelector('#selection').hidden")
        page.keyboard.press("#")

    def goal(page: Page) -> None:
        page.fill("#goal", "recall 0.8")
        page.keyboard.press("Enter")

    second = {
        "ranking, gained": State(path=ranking + "&change=gained", sees=grid),
        "ranking, curves of all runs": State(path=ranking, act=key("c"), sees="document.querySelector('#curves .lines')"),
    }
    return (second if has_second else {}) | {
        "overview": State(path="/", sees="!document.querySelector('.pending')"),
        "overview, classes filtered": State(path="/", act=lambda page: page.fill("#filter", name[:2])),
        "the list of keys": State(path="/", act=key("?"), sees="document.querySelector('dialog[open] dl')"),
        "choosing a class": State(path=ranking, act=key("g"), sees="document.querySelector('dialog[open] li')"),
        "ranking": State(path=ranking, sees=grid),
        "ranking, filters": State(path=ranking + "&outcome=unknown&min_labels=3", act=key("f"), sees=grid),
        "ranking, no image": State(path=ranking + "&text=nothing-has-this-name", sees=grid),
        "ranking, curves": State(path=ranking, act=key("c"), sees="document.querySelector('#curves svg path')"),
        "ranking, a goal": State(path=ranking, act=goal, sees="!document.querySelector('#keep').hidden"),
        "ranking, all selected": State(path=ranking, act=key("a"), sees="!document.querySelector('#selection').hidden"),
        "ranking, the dialog of tags": State(path=ranking, act=tag, sees="document.querySelector('dialog[open] input')"),
        "ranking, large images": State(path=ranking + "&size=l", sees=grid),
        "ranking, images that are not loaded": State(
            path=ranking, act=lose_the_window, sees="document.querySelector('#unloaded')", excused="ERR_FAILED"
        ),
        "ranking, a list that is not loaded": State(
            path=ranking, act=lose_the_list, sees="document.querySelector('#empty:not([hidden])')", excused="ERR_FAILED"
        ),
        "image": State(path=image),
        "image, heat map": State(path=image, act=key("h")),
        "class": State(path=f"/class?class={name}", sees="document.querySelector('#findings')"),
        "classes together": State(path=f"/together?class={name}", sees="document.querySelector('main svg circle')"),
        "map": State(path=f"/map?class={name}&by=scores", sees="document.querySelector('#legend li')"),
        "map, a slice": State(
            path=f"/map?class={name}&by=scores&lasso=0_0-66000_0-66000_66000-0_66000", sees="document.querySelector('#strip li')"
        ),
        "near duplicates": State(path="/duplicates", sees="!document.querySelector('[data-pending]')"),
        "review": State(path="/review", sees=question),
        "review, after an answer": State(path="/review", act=key("y"), sees="document.querySelector('#rows li, #rows tr, #past')"),
        "review, a conflict": State(
            path="/review", act=conflict, sees="!document.querySelector('#conflicts').hidden", excused="409"
        ),
        "what decisions are worth": State(path="/decisions"),
        "a training on decisions that ended": State(
            path="/decisions",
            act=train,
            sees="document.querySelector('.figures.trained')",
        ),
        "review, disputed labels": State(
            path="/review?kind=disputed", sees="document.querySelector('#state, #workspace:not([hidden])')"
        ),
        "review, second opinions": State(
            path="/review?kind=second", sees="document.querySelector('#state:not([hidden]), #workspace:not([hidden])')"
        ),
        "review of many": State(path=f"/review?view=grid&class={name}", sees=question),
        "predict": State(path="/predict"),
        "predict, one image": State(
            path="/predict", act=drop, sees="document.querySelector('#cards .score, #cards td, #cards li')"
        ),
        "runs": State(path="/runs"),
        "a run that trains": State(path="/", of="running"),
        "a problem": State(path="/nowhere", excused="404"),
        "no images: ranking": State(path=ranking, sees=grid, of="no images", excused="404"),
        "no images: image": State(path=image, of="no images", excused="404"),
        "no images: review": State(path="/review", sees=question, of="no images", excused="404"),
        "found by a text": State(path=ranking + "&find=two+birds", sees=grid, of="text"),
        "no labels: overview": State(path="/", of="no labels"),
        "no labels: ranking": State(path=ranking, sees=grid, of="no labels"),
        "no labels: label": State(path="/label", sees="document.querySelectorAll('#choices li').length", of="no labels"),
    }


def lose_the_window(page: Page) -> None:
    """Scroll to images that cannot be loaded."""
    page.route("**/api/ranking?*", lambda route: route.abort())
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")


def lose_the_list(page: Page) -> None:
    """Order the images anew, where they cannot be loaded."""
    page.route("**/api/ranking?*", lambda route: route.abort())
    page.keyboard.press("b")


def conflict(page: Page) -> None:
    """Another reviewer decides about the label that is shown, and then this one does."""
    wait_for(page, "document.querySelector('#question .name')")
    decided = page.evaluate("""async () => {
        const { entries } = await (await fetch("/api/review/queue")).json();
        const shown = (entry) => entry.image === document.querySelector("#id").textContent
            && entry.class_name === document.querySelector("#question .name").textContent;
        const { image, class_name } = entries.find(shown);
        const body = JSON.stringify({ image, class_name, label: 0, reviewer: "Bo", based_on: 0 });
        return (await fetch("/api/review/decisions", { method: "POST", body, headers: { "content-type": "application/json" } })).ok;
    }""")
    assert decided
    page.keyboard.press("y")


def train(page: Page) -> None:
    """Train on the decisions about training images, the first time."""
    if not page.locator(".figures.trained").count():
        page.locator("form[action*=train] button").click()


def decide_about_training(run: Path) -> None:
    """Ten decisions, each of which changes the label of a training image."""
    data = load_run_data(read_run_args(RunFolder(path=run))).split("train")
    store = ReviewStore.open(review_file_of(run))
    name = data.label_set.names[0]
    for row in range(10):
        given = int(data.target_NC[row, 0])
        label = int(given != PRESENT)
        store.decide(split="train", image_id=data.ids[row], class_name=name, label=label, given=given, reviewer="Bo")


def axe_source(folder: Path) -> tuple[str, str]:
    """The checker's source and version from npm."""
    subprocess.run(["npm", "pack", "axe-core", "--silent"], cwd=folder, check=True, capture_output=True, timeout=120)
    path = next(folder.glob("axe-core-*.tgz"))
    with tarfile.open(path) as package:
        content = package.extractfile("package/axe.min.js")
        assert content is not None
        return content.read().decode(), path.stem.removeprefix("axe-core-")


@contextmanager
def served(*words: object) -> Iterator[str]:
    command = [sys.executable, "-m", "polytag", "inspect", *map(str, words), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        while "http://" not in (line := process.stdout.readline()):
            assert line, "the inspector did not start"
        yield "http://" + urlsplit(line.split()[-1]).netloc
    finally:
        process.terminate()
        process.wait()


def wait_for(page: Page, expression: str) -> bool:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        try:
            if page.evaluate(expression):
                return True
        except Exception:  # the next page is on its way
            pass
        time.sleep(0.02)
    return False


def checked(browser: Browser, url: str, state: State, *, scheme: Any, width: int, source: str) -> list[str]:
    """What is wrong with one state."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 860}, bypass_csp=True)
    context.add_init_script("localStorage.setItem('polytag.reviewer', 'Ada')")
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda message: wrong.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith((url, "data:", "blob:")) else wrong.append(f"elsewhere: {request.url}"),
    )
    try:
        page.goto(url + state.path)
        if state.act:
            wait_for(page, "document.readyState === 'complete' && !document.querySelector('[aria-busy]')")
            state.act(page)
        if not wait_for(page, state.sees):
            return [*wrong, f"not seen: {state.sees}"]
        time.sleep(0.4)  # transitions end
        wrong = [each for each in wrong if not each.startswith("console") or state.excused not in each]
        wrong += ["sideways: the page is wider than the window"] if page.evaluate(SIDEWAYS) else []
        wrong += [f"broken: {word}" for word in page.evaluate(BROKEN)]
        page.evaluate(source)
        for violation in page.evaluate("async () => (await axe.run()).violations"):
            where = ", ".join(str(node["target"][0]) for node in violation["nodes"][:3])
            wrong.append(f"axe {violation['impact']} {violation['id']}: {len(violation['nodes'])} at {where}")
        return wrong
    finally:
        context.close()


def text_model(folder: Path) -> Path:
    """A model of open_clip with random weights: that of the tests."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from tiny_text_model import write_text_model

    return write_text_model(folder / "text-model")


def without_labels(predictions: Predictions, folder: Path) -> Path:
    path = folder / "no-labels.parquet"
    write_predictions(replace(predictions, target_NC=np.full_like(predictions.target_NC, -1)), path)
    return path


def without_images(predictions: Predictions, folder: Path) -> Path:
    path = folder / "no-images.parquet"
    write_predictions(replace(predictions, image_paths=tuple(f"/nowhere/{name}" for name in predictions.ids)), path)
    return path


def without_scores(run: Path, folder: Path) -> Path:
    """The run as it was before its training ended."""
    before = Path(shutil.copytree(run, folder / "before"))
    for path in (*before.glob("predictions-*.parquet"), before / "metrics.json"):
        path.unlink()
    return before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "demo" / "run")
    parser.add_argument("--compare-with", type=Path, nargs="*", default=[])
    parser.add_argument("--only", default="", help="states with this in their name, printed and not kept")
    options = parser.parse_args()
    if not options.run.is_dir():
        sys.exit(f"no run at {options.run}; make one with `make demo`, or name one with --run")
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        run = Path(shutil.copytree(options.run, folder / "run"))
        predictions = read_predictions(next(run.glob("predictions-*.parquet")))
        source, axe_version = axe_source(folder)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        second = [word for path in options.compare_with for word in ("--compare-with", path)]
        running = without_scores(run, folder)
        decide_about_training(run)
        sources: dict[str, list[object]] = {
            "run": [run, *second],
            "no labels": [without_labels(predictions, folder)],
            "no images": [without_images(predictions, folder)],
            "running": [running],
        }
        if find_spec("open_clip"):
            sources["text"] = [run, "--text-model", text_model(folder)]
        all_states = states(predictions, has_second=bool(second))
        left_out = [told for told, state in all_states.items() if state.of not in sources]
        chosen = {told: state for told, state in all_states.items() if told not in left_out and options.only in told}
        with ExitStack() as servers:
            urls = {of: servers.enter_context(served(*sources[of])) for of in {state.of: None for state in chosen.values()}}
            for told, state in chosen.items():
                for scheme in SCHEMES:
                    for width in WIDTHS:
                        wrong = checked(browser, urls[state.of], state, scheme=scheme, width=width, source=source)
                        found[f"{told}, {scheme}, {width} px"] = wrong
                        print(told, scheme, width, *(wrong or ["nothing"]), sep="\n    ", flush=True)
        chromium = browser.version
        browser.close()
    kinds = Counter(" ".join(each.split(":")[0].split()[:3]) for wrong in found.values() for each in wrong)
    if not options.only:
        result = {
            "axe_core": axe_version,
            "chromium": chromium,
            "checked": len(found),
            "left_out": left_out,
            "clean": sum(not wrong for wrong in found.values()),
            "kinds": dict(kinds),
            "found": {state: wrong for state, wrong in found.items() if wrong},
        }
        write("accessibility", result)


if __name__ == "__main__":
    main()
