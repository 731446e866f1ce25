"""Take the images of the documentation from a finished demo: `python docs/images/take.py demo/run` (needs Chromium)."""

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from polytag import read_predictions
from polytag.models.checkpoint import Checkpoint
from polytag.report.grids import draw_grid

HERE = Path(__file__).parent
CHROMIUM = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--hide-scrollbars", "--window-size=1280,1560",
)  # fmt: skip


def main() -> None:
    run = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        # the report names its data by their full path, which is nobody's business here
        page.write_text((run / "report.html").read_text().replace(f"{run.parent.parent}/".replace("/", "/<wbr>"), ""))
        screenshot = f"--screenshot={HERE / 'demo-report.png'}"
        subprocess.run([*CHROMIUM, screenshot, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    tail = Image.open(run / "plots" / "tail-accuracy.png").convert("RGB")
    tail.quantize(64, dither=Image.Dither.NONE).save(HERE / "demo-tail-accuracy.png", optimize=True)
    predictions = read_predictions(run / "predictions-val.parquet")
    threshold = Checkpoint.read(run).thresholds[predictions.label_set.index("two")]
    draw_grid(predictions, class_name="two", threshold=threshold).save(HERE / "demo-grid.jpg", quality=82)
    with inspected(run) as page:
        page.goto("/ranking?class=two")
        page.wait_for_selector("#numbers span")
        page.wait_for_timeout(1500)  # the thumbnails
        take(page, "demo-ranking.jpg")
        page.goto("/image?class=two&id=val_00041&heat=1&boxes=1")
        page.wait_for_selector(".heat")
        page.wait_for_timeout(3000)  # the model is loaded, the heat map drawn
        take(page, "demo-image.jpg")
        page.goto("/review")
        page.wait_for_selector("button:has-text('Present'):not([disabled])")
        page.wait_for_timeout(1500)
        take(page, "demo-review.jpg")


@contextlib.contextmanager
def inspected(run: Path) -> Iterator[Page]:
    """A browser at `polytag inspect` over the run."""
    command = [sys.executable, "-m", "polytag", "inspect", str(run), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as running:
        assert server.stdout is not None
        server.stdout.readline()
        address = server.stdout.readline().split()[-1]
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser.new_page(viewport={"width": 1280, "height": 800}, base_url=address)
        finally:
            browser.close()
            server.terminate()


def take(page: Page, name: str) -> None:
    """A screenshot, as small as a page may show it."""
    content = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    content.save(HERE / name, quality=86)


if __name__ == "__main__":
    main()
