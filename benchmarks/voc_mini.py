"""What the recipes reach on voc-mini with ImageNet's MobileNetV2: mAP over 20 classes, over the 17 with 20 positives, and time.

Each run is a whole `polytag train` process from a cold start: reading, training, judging, plots, grids and report.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from machine import RESULTS, VOC_MINI, WEIGHTS, write

LINEAR = ("--head", "linear")  # what heads do is in heads.py
RUNS = {  # name: (recipe, seeds, further options)
    "probe": ("probe", (0,), LINEAR),
    "finetune": ("finetune", (0, 1, 2), LINEAR),
    "finetune-strong": ("finetune", (0,), (*LINEAR, "--augment", "strong")),
    "baseline": ("baseline", (7,), ()),
}


def one(recipe: str, seed: int, options: tuple[str, ...]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            str(Path(sys.executable).with_name("polytag")), "train", str(VOC_MINI), "--recipe", recipe,
            "--backbone", "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--weights", str(WEIGHTS),
            "--seed", str(seed), "--output", str(run), *options,
        ]  # fmt: skip
        load = round(os.getloadavg()[0], 2)
        started = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"POLYTAG_CACHE": str(Path(folder) / "cache")})  # nothing kept before
        seconds = time.perf_counter() - started
        metrics = json.loads((run / "metrics.json").read_text())
        rows = [line.split(",") for line in (run / "results.csv").read_text().splitlines()]
        threads = json.loads((run / "env.json").read_text())["num_threads"]
    common = [entry["ap"] for entry in metrics["per_class"].values() if entry["support"] >= 20]
    column = rows[0].index("val_map")
    return {
        "seed": seed,
        "threads": threads,
        "load_before": load,
        "mAP_20": metrics["mAP"]["value"],
        "mAP_17": float(np.mean(common)),
        "low": metrics["mAP"]["low"],
        "high": metrics["mAP"]["high"],
        "last_epoch_val_map": float(rows[-1][column]),
        "seconds": seconds,
    }


def keep(name: str, run: dict[str, float]) -> None:
    """Add a run to the result file, in the place of an earlier one of the same seed; means and spreads are over all of them."""
    path = RESULTS / "voc_mini.json"
    results = json.loads(path.read_text())["recipes"] if path.is_file() else {}
    earlier = [other for other in results.get(name, {}).get("runs", []) if other["seed"] != run["seed"]]
    runs = sorted([*earlier, run], key=lambda run: run["seed"])
    numbers = ("mAP_20", "mAP_17", "seconds")
    results[name] = {
        "mean": {key: statistics.mean(run[key] for run in runs) for key in numbers},
        "spread": {key: max(run[key] for run in runs) - min(run[key] for run in runs) for key in numbers},
        "runs": runs,
    }
    write("voc_mini", {"what": "voc-mini val, mobilenetv2_100 (ImageNet), whole process", "recipes": results})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(RUNS), help=f"of {', '.join(RUNS)}")
    parser.add_argument("--seed", type=int, help="of the seeds of these names, only this one")
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    for name in options.names:
        recipe, seeds, further = RUNS[name]
        for seed in seeds:
            if options.seed in (None, seed):
                keep(name, one(recipe, seed, further))


if __name__ == "__main__":
    main()
