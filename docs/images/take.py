"""Take the pictures of the documentation from a finished demo: `python docs/images/take.py demo/run` (needs Chromium)."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from polytag import read_predictions
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
        page.write_text((run / "report.html").read_text().replace(f"{run.parent.parent}/", ""))
        screenshot = f"--screenshot={HERE / 'demo-report.png'}"
        subprocess.run([*CHROMIUM, screenshot, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    tail = Image.open(run / "plots" / "tail-accuracy.png").convert("RGB")
    tail.quantize(64, dither=Image.Dither.NONE).save(HERE / "demo-tail-accuracy.png", optimize=True)
    predictions = read_predictions(run / "predictions-val.parquet")
    draw_grid(predictions, class_name="two").save(HERE / "demo-grid.jpg", quality=82)


if __name__ == "__main__":
    main()
