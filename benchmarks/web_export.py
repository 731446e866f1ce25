"""What the page of `polytag export --web` answers in Chromium, beside Python, and how long it takes.

A probe of MobileNetV2 (ImageNet's weights) is trained on voc-mini at 224 px and exported with its page. 200 validation photographs
go to the page twice: as they are, which the browser decodes, and as PNG files of what Python decoded. Each answer is compared with
that of the checkpoint in float32 on the image that Python decoded, and the values of the browser's JPEG decoder with Python's. And
milliseconds from the file to the answer, on one thread: of the photographs, and of one that was enlarged to 12 megapixels.
"""

import base64
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from export import trained
from machine import SHARED, VOC_MINI, write
from polytag import Checkpoint, export_model, load_dataset, predict
from polytag.data.images.read import read_image

NUM_PHOTOGRAPHS, NUM_LARGE = 200, 7
LARGE = (4000, 3000)
DECODE = """async () => {
  const file = document.getElementById("own").files[0];
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  let text = "";
  for (let start = 0; start < data.length; start += 8192) text += String.fromCharCode(...data.subarray(start, start + 8192));
  return [bitmap.height, bitmap.width, btoa(text)];
}"""
ANSWERS = """() => [...document.querySelectorAll("#cards > li")].map((card) => card.answer)"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def chromium(folder: Path) -> Iterator[tuple[object, str]]:
    """A browser, and the address of the page."""
    from playwright.sync_api import sync_playwright

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        yield browser, f"http://127.0.0.1:{server.server_address[1]}/"
        browser.close()
    server.shutdown()


def answered(browser, url: str, paths: list[Path]) -> list[dict]:
    """What the page says of these files, in their order."""
    page = browser.new_page()
    page.goto(url)
    page.locator("#state", has_text="is loaded").wait_for(timeout=120_000)
    for start in range(0, len(paths), 50):
        page.set_input_files("#files", [str(path) for path in paths[start : start + 50]])
        page.locator("#cards > li[data-state]").nth(min(start + 50, len(paths)) - 1).wait_for(timeout=600_000)
    found = page.evaluate(ANSWERS)
    page.close()
    return found


def compared(found: list[dict], own_logit_NC: np.ndarray, present_NC: np.ndarray) -> dict[str, object]:
    logit_NC = np.array([each["logit"] for each in found])
    there_NC = np.array([each["present"] for each in found])
    difference_N = np.abs(logit_NC - own_logit_NC).max(axis=1)
    return {
        "images": len(found),
        "decisions": present_NC.size,
        "decisions_that_differ": int((there_NC != present_NC).sum()),
        "max_logit_difference": float(difference_N.max()),
        "median_logit_difference_of_an_image": float(np.median(difference_N)),
    }


def decoders(browser, url: str, paths: list[Path]) -> dict[str, object]:
    """The values of the browser's decoder beside Python's."""
    page = browser.new_page()
    page.goto(url)
    page.evaluate("""() => document.body.append(Object.assign(document.createElement("input"), { type: "file", id: "own" }))""")
    num_values, num_differ, largest, num_images = 0, 0, 0, 0
    for path in paths:
        page.set_input_files("#own", str(path))
        height, width, text = page.evaluate(DECODE)
        rgb = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3].astype(int)
        difference = np.abs(rgb - np.asarray(read_image(path)).astype(int))
        num_values += difference.size
        num_differ += int((difference > 0).sum())
        largest = max(largest, int(difference.max()))
        num_images += bool(difference.any())
    page.close()
    return {
        "images": len(paths),
        "images_that_differ": num_images,
        "values": num_values,
        "values_that_differ": num_differ,
        "max": largest,
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values)), "median": round(statistics.median(values)), "max": round(max(values))}


def main() -> None:
    if not VOC_MINI.is_dir():
        print(f"skipped: no photographs in {SHARED.name}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = trained(folder / "run")
        export_model(run, folder / "export", web=True)
        paths = list(load_dataset(VOC_MINI).split("val").paths)
        paths = paths[:: len(paths) // NUM_PHOTOGRAPHS][:NUM_PHOTOGRAPHS]
        decoded = [folder / f"{number:03}.png" for number in range(len(paths))]
        for path, png in zip(paths, decoded, strict=True):
            read_image(path).save(png)
        own = list(predict(Checkpoint.read(run), paths, device="cpu", precision="fp32"))
        own_logit_NC = np.stack([each.logit_C for each in own])
        classes = Checkpoint.read(run).label_set
        present_NC = np.array([[label in each.labels for label in classes] for each in own])
        large = folder / "large.jpg"
        read_image(paths[0]).resize(LARGE, Image.Resampling.BICUBIC).save(large, quality=92)
        with chromium(folder / "export" / "web") as (browser, url):
            began = time.monotonic()
            by_browser = answered(browser, url, paths)
            seconds = time.monotonic() - began
            by_python = answered(browser, url, decoded)
            larges = answered(browser, url, [large] * NUM_LARGE)
            result = {
                "versions": {"onnxruntime_web": "1.30.0", "chromium": browser.version, "playwright": version("playwright")},
                "photographs_decoded_by_the_browser": compared(by_browser, own_logit_NC, present_NC),
                "png_of_what_python_decoded": compared(by_python, own_logit_NC, present_NC),
                "jpeg_decoders": decoders(browser, url, paths),
                "milliseconds": {
                    "photograph": {"n": len(paths), **spread([each["milliseconds"] for each in by_browser])},
                    "12_megapixels": {"n": NUM_LARGE, **spread([each["milliseconds"] for each in larges])},
                    "12_megapixels_of_these_decoding": spread([each["decoding"] for each in larges]),
                },
                "seconds_for_all_with_loading": round(seconds, 1),
            }
        write("web_export", result)


if __name__ == "__main__":
    main()
