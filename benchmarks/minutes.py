"""`polytag train --minutes M` on voc-mini: does it keep to its time, and what does it reach, beside probe and finetune.

    python benchmarks/minutes.py [--minutes 1 3 10] [--seeds 0 1 2] [--scores FOLDER] [--twin SCENES]

Each run is a whole process from a cold start, with the weights of EfficientNet Lite 0 and 2 where `polytag weights fetch` puts them
and nothing else in the cache. Runs are kept one by one in results/minutes.json. `--twin` runs on the scenes of the demo instead,
with random weights.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import RESULTS, SHARED, VOC_MINI, write

BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")


def one(minutes: float, seed: int, data: Path, *, options: tuple[str, ...], scores: Path | None) -> dict[str, object]:
    """Time and mAP of one run, whose predictions on the validation images go to the folder `scores`, for `polytag compare`."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if data == VOC_MINI:
            (place / "cache" / "weights").mkdir(parents=True)
            for backbone in BACKBONES:
                shutil.copy(SHARED / "weights" / f"{backbone}.safetensors", place / "cache" / "weights")
        command = [
            str(Path(sys.executable).with_name("polytag")), "train", str(data), "--minutes", str(minutes), "--seed", str(seed),
            "--output", str(place / "run"), *options,
        ]  # fmt: skip
        load = round(os.getloadavg()[0], 2)
        started = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"POLYTAG_CACHE": str(place / "cache")})
        seconds = time.perf_counter() - started
        mean_ap = json.loads((place / "run" / "metrics.json").read_text())["mAP"]
        plan = json.loads((place / "run" / "plan.json").read_text())
        if scores is not None:
            scores.mkdir(parents=True, exist_ok=True)
            shutil.copy(place / "run" / "predictions-val.parquet", scores / f"minutes-{minutes:g}-seed-{seed}.parquet")
        rows = [line.split(",") for line in (place / "run" / "results.csv").read_text().splitlines()]
    column = rows[0].index("val_map")
    return {
        "minutes": minutes,
        "seed": seed,
        "load_before": load,
        "share_of_time": round(seconds / (60 * minutes), 4),
        "mAP": mean_ap["value"],
        "low": mean_ap["low"],
        "high": mean_ap["high"],
        "backbone": plan["recipe"]["backbone"],
        "image_size_px": plan["recipe"]["image_size_px"],
        "epochs_planned": round(plan["epochs"], 2),
        "times_the_end_moved": len(plan["recipe"]["ends"]) - 1 if plan["recipe"]["ends"] else 0,
        "val_map_of_epochs": [float(row[column]) for row in rows[1:]],
        "candidates": {each["backbone"]: round(each["held_out_map"], 4) for each in plan["candidates"]},
    }


def keep(run: dict[str, object], *, name: str) -> None:
    """Add a run to the result file, in the place of an earlier one of the same minutes and seed."""
    path = RESULTS / f"{name}.json"
    earlier = json.loads(path.read_text())["runs"] if path.is_file() else []
    runs = [other for other in earlier if (other["minutes"], other["seed"]) != (run["minutes"], run["seed"])]
    write(name, {"runs": sorted([*runs, run], key=lambda each: (each["minutes"], each["seed"]))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", nargs="+", type=float, default=[1.0, 3.0, 10.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--twin", metavar="SCENES", type=Path, help="a folder of `polytag demo`, instead of photographs")
    parser.add_argument("--scores", metavar="FOLDER", type=Path, help="keep every run's predictions there")
    options = parser.parse_args()
    data = options.twin or VOC_MINI
    if not data.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    further = ("--backbone", "resnet10t", "--weights", "random", "--image-size", "64") if options.twin else ()
    for minutes in options.minutes:
        for seed in options.seeds:
            keep(
                one(minutes, seed, data, options=further, scores=options.scores), name="minutes_twin" if options.twin else "minutes"
            )


if __name__ == "__main__":
    main()
