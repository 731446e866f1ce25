"""What a person does with the inspector, counted: actions and seconds of thirteen tasks, by a real browser on real photographs.

    python benchmarks/inspector_tasks.py [--run RUN --compare-with RUN]

An action is a click, a key, a choice in a list, a paste, or a text that is typed, with the key that leads to its field and its
Enter. Each task begins on the page that its first word names and ends when the page shows what was asked for, which is checked
against the scores. Seconds are those of a browser that does not hesitate, so they say what the program makes a person wait. The
number behind each task is the most actions that it may take. Without --run two probes of voc-mini are trained first, at 128 and
160 px.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from machine import SHARED, VOC_MINI, write
from polytag import Predictions, read_predictions
from polytag.metrics.goals import Goal
from polytag.metrics.operating_points import choose_thresholds
from polytag.models.checkpoint import Checkpoint

WAIT_SECONDS = 180


class Person:
    """Drives a page, and counts what it does."""

    def __init__(self, page: Page, url: str):
        self.page, self.url, self.num_actions = page, url, 0

    def click(self, selector: str) -> None:
        self.num_actions += 1
        self.page.locator(selector).first.click()

    def press(self, key: str) -> None:
        self.num_actions += 1
        self.page.keyboard.press(key)

    def drag(self, selector: str, path: list[tuple[float, float]]) -> None:
        """Over these places, shares of its width and height."""
        self.num_actions += 1
        box, mouse = self.page.locator(selector).bounding_box(), self.page.mouse
        assert box is not None
        places = [(box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in path]
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=8)
        mouse.up()

    def choose(self, selector: str, value: str) -> None:
        self.num_actions += 1
        self.page.locator(selector).first.select_option(value)

    def type(self, selector: str, text: str) -> None:
        self.num_actions += 1
        self.page.locator(selector).first.fill(text)
        self.page.keyboard.press("Enter")

    def write(self, key: str, text: str) -> None:
        """By keys alone: the one that leads to a field, and at once what is written there."""
        self.num_actions += 1
        self.page.keyboard.type(key + text)
        self.page.keyboard.press("Enter")

    def sees(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                if self.page.evaluate(expression):
                    return
            except Exception:  # the next page is on its way
                time.sleep(0.01)
            assert time.monotonic() < end, expression
            time.sleep(0.02)

    def sees_ranking(self) -> None:
        self.sees("document.querySelector('#grid.virtual') && !document.querySelector('#grid[aria-busy]')")


class Tasks:
    """The tasks. Each begins at the address in `STARTS`."""

    def __init__(self, person: Person, run: Path):
        self.person, self.run = person, run
        self.predictions: Predictions = read_predictions(run / "predictions-val.parquet")
        self.names = self.predictions.label_set.names

    def false_positives(self) -> None:
        self.person.click("a.why[href*='class=chair']")
        target_N, probability_N = self.column("chair")
        worst = np.flatnonzero(target_N == 0)[np.argmax(probability_N[target_N == 0])]
        self.person.sees(f"document.querySelector('main .cell').href.includes('{self.predictions.ids[worst]}')")

    def missed_beside(self) -> None:
        self.person.click("th a[href*='class=dog']")
        self.person.sees_ranking()
        self.person.press("f")
        self.person.choose("select[name=present]", "person")
        self.person.sees_ranking()
        self.person.click("input[name=outcome][value=false_negative]")
        dog_N, probability_N = self.column("dog")
        person_N, _ = self.column("person")
        expected = int(((dog_N == 1) & (person_N == 1) & (probability_N <= self.threshold("dog"))).sum())
        self.person.sees(f"document.querySelector('#total').textContent === '{expected}'")

    def label_by_keyboard(self) -> None:
        for done in range(20):
            self.person.press("y")
            self.person.sees(f"fetch('/api/review/history').then(r => r.json()).then(a => a.decisions.length >= {done + 1})")

    def two_runs(self) -> None:
        self.person.write("/", "chair")
        self.person.sees("[...document.querySelectorAll('.classes tbody tr')].filter(row => row.offsetParent).length === 1")
        assert self.person.page.locator("tr:visible:has(th a[href*='class=chair']) td.num").count() >= 4

    def recall_kept(self) -> None:
        self.person.type("#goal", "recall 0.8")
        self.person.sees("!document.querySelector('#keep').hidden")
        self.person.click("#keep")
        expected = (
            choose_thresholds(self.predictions, goal=Goal(kind="recall", level=0.8)).points[self.names.index("dog")].threshold
        )
        end = time.monotonic() + WAIT_SECONDS
        while abs(self.threshold("dog") - expected) > 1e-9:
            assert time.monotonic() < end, (self.threshold("dog"), expected)
            time.sleep(0.02)

    def why(self) -> None:
        self.person.click("a.why[href*='class=chair']")
        self.person.sees("document.querySelector('main h2') && document.body.textContent.includes('What stands out')")

    def together(self) -> None:
        self.person.click("a[href^='/together']")
        self.person.sees("document.querySelector('main svg circle')")

    def duplicates(self) -> None:
        self.person.click("a[href^='/duplicates']")
        self.person.sees("/there twice|near duplicates|copies/i.test(document.querySelector('main').textContent)")

    def share(self) -> None:
        self.person.sees_ranking()
        self.person.click("input[name=outcome][value=false_positive]")
        self.person.sees("location.search.includes('outcome=false_positive')")
        self.person.sees_ranking()
        address, total = self.person.page.url, self.person.page.locator("#total").inner_text()
        other = self.person.page.context.new_page()
        other.goto(address)
        other.wait_for_selector("#grid.virtual")
        assert other.locator("#total").inner_text() == total
        other.close()

    def export(self) -> None:
        self.person.sees_ranking()
        total = int(self.person.page.locator("#total").inner_text())
        self.person.press("a")
        with self.person.page.expect_download() as download:
            self.person.click("[data-export=scores]")
        assert len(download.value.path().read_text().splitlines()) == total + 1

    def tag(self) -> None:
        self.person.sees_ranking()
        total = int(self.person.page.locator("#total").inner_text())
        assert total >= 100
        self.person.press("a")
        self.person.write("#", "look-again")
        self.person.sees(f"fetch('/api/selection/tags').then(r => r.json()).then(a => a.tags['look-again'] === {total})")

    def similar(self) -> None:
        image = Path(self.predictions.image_paths[0])
        paste = """([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/jpeg'}));
            document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
        }"""
        self.person.num_actions += 1
        self.person.page.evaluate(paste, [image.name, list(image.read_bytes())])
        self.person.sees("document.querySelectorAll('.similar .neighbours img').length >= 2")
        assert self.predictions.ids[0] in self.person.page.locator(".similar li").all_inner_texts()[8]  # of val, the image itself

    def lasso(self) -> None:
        self.person.click(".bar a[href='/map']")
        self.person.sees("document.querySelector('#legend li') && document.querySelector('#computing').hidden")
        self.person.drag("#canvas", [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.3)])
        self.person.sees("document.querySelectorAll('#slice-numbers dd').length > 2")
        selected = int(self.person.page.locator("#num-selected").inner_text().split()[0].replace(",", ""))
        assert 0 < selected < len(self.predictions)

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        column = self.names.index(name)
        return self.predictions.target_NC[:, column], self.predictions.probability_NC[:, column]

    def threshold(self, name: str) -> float:
        return Checkpoint.read(self.run).thresholds[self.names.index(name)]


TASKS: dict[str, tuple[str, Callable[[Tasks], None], int]] = {  # where it begins, what is done, most actions
    "worst false positives of a class": ("/", Tasks.false_positives, 3),
    "person and dog present, dog missed": ("/", Tasks.missed_beside, 4),
    "label 20 by keyboard": ("/review", Tasks.label_by_keyboard, 20),
    "two runs on one class, both numbers": ("/", Tasks.two_runs, 1),
    "why a class is bad": ("/", Tasks.why, 1),
    "co-occurrence": ("/", Tasks.together, 1),
    "near duplicates across splits": ("/", Tasks.duplicates, 1),
    "share a view": ("/ranking?class=chair&outcome=false_negative", Tasks.share, 1),
    "export a selection": ("/ranking?class=chair&outcome=false_negative", Tasks.export, 2),
    "tag 100 at once": ("/ranking?class=person&outcome=true_positive", Tasks.tag, 2),
    "recall 0.8, and kept": ("/ranking?class=dog", Tasks.recall_kept, 2),
    "similar to a pasted image": ("/predict", Tasks.similar, 1),
    "lasso on a map": ("/", Tasks.lasso, 2),
}


def probe(folder: Path, *, size_px: int) -> Path:
    run = folder / f"probe-{size_px}"
    weights = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"
    words = ("--recipe", "probe", "--backbone", weights.stem, "--weights", weights, "--image-size", size_px, "--output", run)
    command = [sys.executable, "-m", "polytag", "train", str(VOC_MINI), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)
    return run


@contextmanager
def served(run: Path, other: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "polytag", "inspect", str(run), "--compare-with", str(other), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        while "http://" not in (line := process.stdout.readline()):
            assert line, "the inspector did not start"
        yield line.split()[-1].rstrip("/")
    finally:
        process.terminate()
        process.wait()


def timed(task: Callable[[Tasks], None], start: str, *, page: Page, url: str, run: Path) -> dict[str, Any]:
    page.goto(url + start)
    page.wait_for_load_state("networkidle")
    person = Person(page, url)
    tasks, began = Tasks(person, run), time.perf_counter()
    try:
        task(tasks)
    except Exception as error:  # a task that cannot be done is a result
        return {"done": False, "actions": person.num_actions, "said": str(error).splitlines()[0][:200]}
    return {"done": True, "actions": person.num_actions, "seconds": round(time.perf_counter() - began, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--compare-with", type=Path)
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        os.environ["POLYTAG_CACHE"] = str(folder / "cache")
        runs = [options.run, options.compare_with] if options.run else [probe(folder, size_px=size_px) for size_px in (160, 128)]
        run, other = (Path(shutil.copytree(each, folder / f"copy-{place}")) for place, each in enumerate(runs))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        context.add_init_script("localStorage.setItem('polytag.reviewer', 'Ada')")
        with served(run, other) as url:
            for what, (start, task, most) in TASKS.items():
                result: dict[str, Any] = {"most_actions": most}
                page = context.new_page()
                result |= timed(task, start, page=page, url=url, run=run)
                page.close()
                results[what] = result
                print(what, json.dumps(result), flush=True)
        browser.close()
    done = [each for each in results.values() if each["done"]]
    within = sum(each["actions"] <= each["most_actions"] for each in done)
    write("inspector_tasks", {"done": len(done), "within_the_actions": within, "of": len(results), "tasks": results})


if __name__ == "__main__":
    main()
