"""The inspector on 50,000 images of 80 classes (`--images`, `--classes`) in a browser: first paint, threshold, scrolling, memory.

The table is made up: seeded scores with signal, labels that nobody knows, COCO's class names. Its 50,000 images are hard links to
2,000 generated JPEGs of 500 x 375 pixels; the thumbnails' cache goes by the path, so every one is decoded on its own, though the
disk's cache holds them all. `polytag inspect` runs as a process of its own, without a model, with an empty cache of thumbnails, and
Debian's chromium on the same cores, drawing without a graphics card. `inspector_watch.js` says what a page shows in each frame.

Cold: no thumbnail was made before. Warm: the server has them all, the browser none. A cell is blank while it is in the window
without its image.

One long module: its parts share one table, one server and one browser.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from machine import write
from polytag.contracts import LabelSet, Predictions
from polytag.predictions.table import write_predictions

_NAMES = (
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter bench "
    "bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis snowboard "
    "sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon "
    "bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table "
    "toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster sink refrigerator book clock vase scissors "
    "teddy_bear hair_drier toothbrush"
)
CLASSES = tuple(name.replace("_", " ") for name in _NAMES.split())
NUM_FILES = 2_000
WINDOW = {"width": 1280, "height": 860}
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-first-run",
)
WATCH = Path(__file__).with_name("inspector_watch.js").read_text()
SPEEDS = {"reading": 1_500, "fling": 6_000, "hard fling": 15_000}  # pixels a second, at the beginning
DECAY_SECONDS = 0.325  # of a trackpad's fling
FLINGS = 5
AIMS = {"first_image_ms": 1000, "threshold_ms": 50, "blank_ms": 200}
MOST_MEMORY_MB = {50_000: 500, 1_000_000: 1500}


# ---- what is looked at ----


def make_images(folder: Path, number: int) -> list[str]:
    """Paths of JPEGs with the detail of photographs: noise whose power falls with the frequency, in colours that go together."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(375), np.fft.rfftfreq(500), indexing="ij"))
    power = (1 / np.maximum(frequency, 1 / 500) ** 1.4).astype(np.float32)
    files = folder / "files"
    files.mkdir()
    for k in range(min(NUM_FILES, number)):
        spectrum_3HW = np.fft.rfft2(rng.normal(size=(3, 375, 500)).astype(np.float32)) * power
        noise_3HW = np.fft.irfft2(spectrum_3HW, (375, 500))
        noise_3HW /= noise_3HW.std(axis=(1, 2), keepdims=True)
        mixed_3HW = np.einsum("ij,jhw->ihw", [[1, 0.3, 0], [1, 0, 0.1], [1, -0.2, -0.3]], noise_3HW)
        pixels = (rng.uniform(70, 180) + 45 * mixed_3HW).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(files / f"{k:06d}.jpg", quality=90)
    paths: list[str] = []
    (folder / "images").mkdir()
    for row in range(number):
        path = folder / "images" / f"{row:012d}.jpg"
        os.link(files / f"{row % NUM_FILES:06d}.jpg", path)
        paths.append(str(path))
    return paths


def make_table(folder: Path, number: int, names: Sequence[str]) -> Path:
    rng = np.random.default_rng(1)
    share_C = np.exp(rng.uniform(np.log(0.003), np.log(0.3), len(names)))
    target_NC = (rng.random((number, len(names))) < share_C).astype(np.int8)
    bias_C, gain_C = np.log(share_C / (1 - share_C)) - 1, rng.uniform(2, 6, len(names))
    logit_NC = (bias_C + gain_C * target_NC + 1.5 * rng.normal(size=target_NC.shape)).astype(np.float32)
    target_NC[rng.random(target_NC.shape) < 0.05] = -1
    paths = make_images(folder, number)
    table = Predictions(
        ids=tuple(Path(path).stem for path in paths),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(names)),
        image_paths=tuple(paths),
        source="made up",
    )
    write_predictions(table, folder / "predictions.parquet")
    return folder / "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running `polytag inspect`."""

    url: str
    pid: int
    cache: Path
    seconds_to_answer: float

    def forget_thumbnails(self) -> None:
        shutil.rmtree(self.cache / "thumbnails", ignore_errors=True)


@contextmanager
def serving(table: Path, cache: Path) -> Iterator[Server]:
    shutil.rmtree(cache, ignore_errors=True)
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("polytag")), "inspect", str(table), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "POLYTAG_CACHE": str(cache)})
    assert process.stdout is not None
    try:
        url = next(line.split()[1] for line in process.stdout if line.startswith("open ")).rstrip("/")
        asked(url, "/api/classes")
        yield Server(url=url, pid=process.pid, cache=cache, seconds_to_answer=time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait()


def asked(url: str, path: str) -> tuple[float, Any]:
    """Milliseconds, and the answer, of one request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    started = time.perf_counter()
    connection.request("GET", path)
    content = connection.getresponse().read()
    took = 1000 * (time.perf_counter() - started)
    connection.close()
    return took, json.loads(content)


def labelled(url: str) -> float:
    """Wait until the numbers that take time are there: seconds."""
    started = time.perf_counter()
    while not asked(url, "/api/run")[1]["is_evaluated"]:
        time.sleep(0.5)
    return time.perf_counter() - started


# ---- the browser ----


@contextmanager
def visiting(browser: Browser, **options: Any) -> Iterator[Page]:
    context = browser.new_context(viewport=WINDOW, **options)
    context.add_init_script(WATCH)
    yield context.new_page()
    context.close()


def until(page: Page, expression: str, *, patience_seconds: float = 60) -> None:
    """Wait; Playwright's own way evaluates strings in the page, which the pages' policy forbids."""
    end = time.monotonic() + patience_seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {patience_seconds} s: {expression}")
        time.sleep(0.02)


SETTLED = "document.querySelector('#grid.virtual > li') && !watched.began().isBusy && watched.began().rows.at(-1)?.[1]"


def ranking(class_name: str, **parameters: str) -> str:
    return "/ranking?" + urlencode({"class": class_name, **parameters})


def of(values: Sequence[float], digits: int = 0) -> dict[str, float]:
    """Median and range."""
    if not values:
        return {"n": 0}
    told = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {"n": len(values), **{name: round(value, digits) for name, value in told.items()}}


def share(values: Sequence[float], part: float) -> float:
    return round(float(np.quantile(values, part)), 1) if values else 0.0


# ---- the measurements ----


def first_paint(browser: Browser, server: Server, path: str) -> dict[str, float]:
    """One visit without a thumbnail made and with nothing in the browser's cache; ms from the beginning of the navigation."""
    server.forget_thumbnails()
    with visiting(browser) as page:
        page.goto(server.url + path)
        if path.startswith("/ranking"):
            until(page, SETTLED)
            time.sleep(0.3)
        until(page, "watched.began().paint !== null")
        seen = page.evaluate("watched.began()")
    found = {"first_contentful_paint": seen["paint"]}
    if seen["rows"]:
        imaged = [now for now, is_imaged in seen["rows"] if is_imaged]
        lost = [now for now, is_imaged in seen["rows"] if not is_imaged and now > imaged[0]]
        found |= {
            "first_row_imaged": imaged[0],
            "grid_taken_over": seen["takenOver"],
            "first_row_imaged_for_good": imaged[-1],
            "row_lost_again": sum(later - gone for gone, later in zip(lost, imaged[1:], strict=True)),
        }
    return found


def paints(browser: Browser, server: Server, paths: Sequence[str]) -> dict[str, object]:
    found = [first_paint(browser, server, path) for path in paths]
    return {name: of([each[name] for each in found]) for name in found[0]}


def drag(browser: Browser, server: Server, class_name: str, *, steps: int, **filters: str) -> dict[str, Any]:
    """The line of the threshold is dragged with the mouse, up and down again."""
    with visiting(browser) as page:
        page.goto(server.url + ranking(class_name, **filters))
        until(page, "!document.querySelector('#slider').disabled && document.querySelector('#grid.virtual > li')")
        time.sleep(0.5)
        box = page.locator("#living").bounding_box()
        assert box is not None
        middle, height = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.click(middle, height)  # the line comes there
        time.sleep(0.5)
        page.mouse.move(middle, height)
        page.mouse.down()
        page.evaluate("watched.dragged()")
        for step in range(steps):
            page.mouse.move(middle + 0.4 * box["width"] * np.sin(2 * np.pi * (step + 1) / steps), height)
            if filters:
                until(page, "!document.querySelector('#grid[aria-busy]')")
                time.sleep(0.15)
                until(page, "!document.querySelector('#grid[aria-busy]')")
            else:
                time.sleep(0.03)
        page.mouse.up()
        time.sleep(0.5)
        return page.evaluate("watched.dragged()")


def threshold(browser: Browser, server: Server, class_names: Sequence[str]) -> dict[str, object]:
    plain = [drag(browser, server, name, steps=60) for name in class_names]
    filtered = [drag(browser, server, name, steps=16, outcome="false_positive") for name in class_names]
    moves = [move for each in plain for move in each["moves"]]
    lists = [ms for each in filtered for ms in each["lists"]]
    return {
        "input_to_frame_with_numbers_and_frames_ms": {
            **of([m["ms"] for m in moves], 1),
            "p95": share([m["ms"] for m in moves], 0.95),
        },
        "different_numbers_shown": len({move["numbers"] for move in moves}),
        "different_numbers_of_cells_below": len({move["below"] for move in moves}),
        "with_a_filter_by_outcome_input_to_frame_ms": of([m["ms"] for each in filtered for m in each["moves"]], 1),
        "with_a_filter_by_outcome_input_to_new_list_ms": {**of(lists, 1), "p95": share(lists, 0.95)},
    }


def fling(page: Page, speed: float) -> None:
    """Wheel events as a trackpad sends them, however long the browser takes to hear one."""
    started, travelled = time.perf_counter(), 0.0
    while (passed := time.perf_counter() - started) < 5 * DECAY_SECONDS:
        wanted = speed * DECAY_SECONDS * (1 - np.exp(-passed / DECAY_SECONDS))
        page.mouse.wheel(0, round(wanted - travelled))
        travelled += round(wanted - travelled)
        time.sleep(0.012)


def scrolled(browser: Browser, server: Server, class_name: str, speed: float, *, is_cold: bool) -> dict[str, Any]:
    if is_cold:
        server.forget_thumbnails()
    with visiting(browser) as page:
        page.goto(server.url + ranking(class_name))
        until(page, SETTLED)
        time.sleep(1)
        page.mouse.move(640, 600)
        page.evaluate("watched.anew()")
        if speed:
            for _ in range(FLINGS):
                fling(page, speed)
        else:  # the bar is dragged to places far apart
            for place in (0.5, 0.9, 0.2):
                page.evaluate("place => scrollTo(0, place * document.documentElement.scrollHeight)", place)
                time.sleep(1.5)
        until(page, "[...document.querySelectorAll('#grid img')].every(image => image.complete && image.naturalWidth)")
        return page.evaluate("watched.scrolled()")


def scrolling(browser: Browser, server: Server, class_names: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for pace, speed in {**SPEEDS, "jump": 0}.items():
        seen: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
        for name in class_names:  # each class has an order, and so images, of its own
            seen["cold"].append(scrolled(browser, server, name, speed, is_cold=True))
            seen["warm"].append(scrolled(browser, server, name, speed, is_cold=False))
        found[pace] = {"pixels_a_second": speed} | {
            state: {
                "runs": len(runs),
                "cells": sum(len(run["blanks"]) for run in runs),
                "longest_blank_ms": of([max(run["blanks"]) for run in runs]),
                "blank_ms_p95": share([blank for run in runs for blank in run["blanks"]], 0.95),
                "longest_without_name_and_score_ms": of([max(run["empties"]) for run in runs]),
                "cells_that_left_blank": sum(run["left"] for run in runs),
                "ms_with_a_place_without_cells": of([run["bare"] for run in runs]),
                "frame_ms": {
                    "median": share([step for run in runs for step in run["frames"]], 0.5),
                    "p95": share([step for run in runs for step in run["frames"]], 0.95),
                    "max": share([step for run in runs for step in run["frames"]], 1),
                },
            }
            for state, runs in seen.items()
        }
        print(pace, json.dumps(found[pace]), flush=True)
    return found


def memory(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kilobytes["peak_rss"] = int(status["VmHWM"].split()[0])
    return {f"{name.lower()}_mb": round(kilobytes[name] * 1024 / 1e6) for name in ("Rss", "Pss", "peak_rss")}


def api(server: Server, class_names: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for sort in ("score", "loss", "suspicion"):
        parameters = [urlencode({"class": name, "sort": sort, "order": "asc"}) for name in class_names]
        first = [asked(server.url, f"/api/ranking?{each}&limit=200")[0] for each in parameters]
        later = [asked(server.url, f"/api/ranking?{each}&limit=200&offset=20000")[0] for each in parameters]
        found[sort] = {"first_page_of_a_cold_order_ms": of(first, 1), "later_page_ms": of(later, 1)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=len(CLASSES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("paint", "threshold", "scroll", "api"), help="one part, printed and not kept")
    parser.add_argument("--data", type=Path, help="a folder to keep the made-up table in, and to find it again")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no chromium here; on Debian: apt-get install chromium")
    load = [round(each, 2) for each in os.getloadavg()]
    names = CLASSES[: options.classes]
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as running:
        folder = options.data or Path(temporary)
        folder.mkdir(exist_ok=True)
        table = folder / "predictions.parquet"
        if not table.is_file():
            make_table(folder, options.images, names)
        browser = running.chromium.launch(executable_path=chromium, args=QUIET)

        def wanted(part: str) -> bool:
            return options.only in (None, part)

        result: dict[str, Any] = {
            "what": "polytag inspect on a made-up table, Debian's chromium on the same cores without a graphics card",
            "load_when_begun": load,
            "others_were_busy": load[0] > 1,
            "chromium": browser.version,
            "playwright": version("playwright"),
            "uvicorn": version("uvicorn"),
            "images": options.images,
            "classes": len(names),
            "window": WINDOW,
            "aims": {**AIMS, "memory_mb": MOST_MEMORY_MB.get(options.images)},
        }
        cache = Path(temporary) / "cache"
        if wanted("paint"):
            starts, at_once = [], []
            for _ in range(options.repeats):
                with serving(table, cache) as server:
                    starts.append(server.seconds_to_answer)
                    at_once.append(first_paint(browser, server, "/")["first_contentful_paint"])
            result["start_to_first_answer_seconds"] = of(starts, 2)
            result["first_paint_of_overview_right_after_the_start_ms"] = of(at_once)
        with serving(table, cache) as server:
            result["judging_seconds"] = round(labelled(server.url), 1)
            result["memory_when_begun"] = memory(server.pid)
            if wanted("paint"):
                result["first_paint_ms"] = {
                    "/": paints(browser, server, ["/"] * options.repeats),
                    "/ranking, order not yet known": paints(browser, server, [ranking(name) for name in names[: options.repeats]]),
                    "/ranking, by loss": paints(browser, server, [ranking(name, sort="loss") for name in names[: options.repeats]]),
                }
                print(json.dumps(result, indent=2), flush=True)
            if wanted("threshold"):
                result["threshold"] = threshold(browser, server, names[: options.repeats])
                print(json.dumps(result["threshold"], indent=2), flush=True)
            if wanted("scroll"):
                result["scroll"] = scrolling(browser, server, names[10 : 10 + options.repeats])
            if wanted("api"):
                result["api"] = api(server, names[-3 * options.repeats :])
            result["memory_when_done"] = memory(server.pid)
        browser.close()
    if options.only:
        print(json.dumps(result, indent=2))
    else:
        write("inspector" if options.images == 50_000 else f"inspector_{options.images}", result)


if __name__ == "__main__":
    main()
