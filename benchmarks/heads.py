"""What the probe reaches on voc-mini by backbone, image size and head: whole processes from a cold start, and paired differences.

Each run is `polytag train --recipe probe`, with nothing cached. `seconds` is the wall clock; `processor_seconds`, those of the
process on all cores, say more on a busy machine. The held-out mAP is that of the probe's own folds of the training images, by which
a size or a head can be chosen without the validation images. A run that is in the result file is kept: name it to repeat it.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import RESULTS, SHARED, VOC_MINI, WEIGHTS, write
from polytag.metrics.compare import compare
from polytag.predictions.read import read_predictions

BACKBONES = {
    "lite0": ("--backbone", "tf_efficientnet_lite0", "--weights", str(SHARED / "weights" / "tf_efficientnet_lite0.safetensors")),
    "lite2": ("--backbone", "tf_efficientnet_lite2", "--weights", str(SHARED / "weights" / "tf_efficientnet_lite2.safetensors")),
    "mobilenetv2": ("--backbone", "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--weights", str(WEIGHTS)),
}
HEADS = ("linear", "concat-pool")
RUNS = tuple(  # backbone, size, head
    f"{backbone} {size_px} {head}"
    for backbone, sizes_px in {"lite0": (224, 256, 320, 384), "lite2": (224, 256, 320, 384), "mobilenetv2": (256, 320)}.items()
    for size_px in sizes_px
    for head in HEADS
)


def one(name: str, folder: Path) -> dict[str, float]:
    backbone, size_px, head = name.split()
    run = folder / name.replace(" ", "-")
    command = [
        sys.executable, "-m", "polytag", "train", str(VOC_MINI), "--recipe", "probe", *BACKBONES[backbone], "--image-size", size_px,
        "--head", head, "--output", str(run),
    ]  # fmt: skip
    load, before, started = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:  # nothing kept before
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"POLYTAG_CACHE": cache})
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    metrics = json.loads((run / "metrics.json").read_text())
    held_out = re.search(r"held-out mAP ([0-9.]+)", done.stdout)
    assert held_out is not None, done.stdout
    return {
        "load_before": round(load, 2),
        "held_out_mAP": float(held_out[1]),
        "mAP_20": metrics["mAP"]["value"],
        "low": metrics["mAP"]["low"],
        "high": metrics["mAP"]["high"],
        "seconds": round(seconds, 1),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
    }


def difference(first: Path, second: Path) -> dict[str, float]:
    """mAP of the second minus that of the first, on the same images."""
    predictions = [read_predictions(run / "predictions-val.parquet") for run in (first, second)]
    found = compare(*predictions, names=("linear", "concat-pool")).differences[0].mean
    return {"value": found.value, "low": found.low, "high": found.high, "p": found.p}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as 'lite2 320 concat-pool'; by default those without a result")
    parser.add_argument("--runs", type=Path, help="folder that keeps the runs; by default they are removed")
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    path = RESULTS / "heads.json"
    known = json.loads(path.read_text()) if path.is_file() else {"runs": {}, "concat-pool minus linear": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.runs or Path(temporary)
        for name in options.names or [name for name in RUNS if name not in known["runs"]]:
            known["runs"][name] = one(name, folder)
            stem = "-".join(name.split()[:2])
            first, second = (folder / f"{stem}-{head}" for head in HEADS)
            if first.is_dir() and second.is_dir():
                known["concat-pool minus linear"][stem.replace("-", " ")] = difference(first, second)
            runs = {each: known["runs"][each] for each in RUNS if each in known["runs"]}
            write(
                "heads",
                {
                    "what": "polytag train --recipe probe on voc-mini, 874 and 874 images, whole process, nothing cached",
                    "runs": runs,
                    "concat-pool minus linear": known["concat-pool minus linear"],
                },
            )


if __name__ == "__main__":
    main()
