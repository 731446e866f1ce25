"""Average precision of all classes, in turn with scikit-learn and torchmetrics: seconds and memory; and the bootstrap's seconds.

Each measurement is a process of its own that reads the same generated table, computes once to warm up on a small part, and then
the average precisions of all classes. Memory is the peak beyond what the process held with the table read. torchmetrics is
installed by this script into a folder of its own, beside the PyTorch that is here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from machine import write

UV = Path(__file__).resolve().parents[1] / ".tools" / "bin" / "uv"
TORCHMETRICS = "1.9.0"
SHAPES = ((1_000_000, 80), (50_000, 1_000))
SIDES = ("polytag", "polytag, one thread", "scikit-learn", "torchmetrics")


def table(num_images: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets with 3% positives, float32 scores that know something of them."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((num_images, num_classes), dtype=np.float32) < 0.03).astype(np.int8)
    score_NC = rng.standard_normal((num_images, num_classes), dtype=np.float32)
    score_NC += 1.5 * target_NC
    return target_NC, score_NC


def compute(side: str, target_NC: np.ndarray, score_NC: np.ndarray) -> np.ndarray:
    if side.startswith("polytag"):
        from polytag.metrics.ap import average_precision

        return average_precision(target_NC, score_NC)
    if side == "scikit-learn":
        from sklearn.metrics import average_precision_score

        return average_precision_score(target_NC, score_NC, average=None)
    import torch
    from torchmetrics.functional.classification import multilabel_average_precision

    # torchmetrics takes a sigmoid of scores outside [0, 1]; give it probabilities, as its users would
    probability_NC = torch.from_numpy(score_NC).sigmoid()
    return multilabel_average_precision(
        probability_NC, torch.from_numpy(target_NC), num_labels=target_NC.shape[1], average=None
    ).numpy()


def peak_kb() -> int:
    """The most memory that this process has held, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(side: str, folder: Path) -> None:
    """In a child: print seconds, megabytes beyond the table, and the mean of the APs."""
    if side == "polytag, one thread":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    target_NC, score_NC = np.load(folder / "target.npy"), np.load(folder / "score.npy")
    compute(side, target_NC[:1000], score_NC[:1000])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far: what loading took, and the parent before the fork
    before = peak_kb()
    started = time.perf_counter()
    ap_C = compute(side, target_NC, score_NC)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "extra_mb": (peak_kb() - before) / 1024, "mean": float(np.nanmean(ap_C))}))


def child(side: str, folder: Path, libraries: Path) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(libraries), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", __file__, "--side", side, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def bootstrap_seconds(turns: int) -> list[float]:
    from polytag.metrics.bootstrap import bootstrap_ap

    target_NC, score_NC = table(5_823, 20)
    bootstrap_ap(target_NC, score_NC, num_replicates=10)
    seconds: list[float] = []
    for _ in range(turns):
        started = time.perf_counter()
        bootstrap_ap(target_NC, score_NC)
        seconds.append(time.perf_counter() - started)
    return seconds


def evaluate_seconds(folder: Path) -> float:
    """`polytag evaluate` of 100,000 x 80 from Parquet to a finished report, a whole process."""
    from polytag.contracts import LabelSet, Predictions
    from polytag.predictions.table import write_predictions

    target_NC, score_NC = table(100_000, 80)
    label_set = LabelSet(names=tuple(f"class {number}" for number in range(80)))
    ids = tuple(f"{row:06}" for row in range(len(target_NC)))
    write_predictions(Predictions(ids=ids, logit_NC=score_NC, target_NC=target_NC, label_set=label_set), folder / "p.parquet")
    command = [
        str(Path(sys.executable).with_name("polytag")), "evaluate", str(folder / "p.parquet"), "--report", str(folder / "p.html"),
        "--json", str(folder / "p.json"),
    ]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.side:
        measure(options.side, options.folder)
        return
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        libraries = folder / "libraries"
        packages = (f"torchmetrics=={TORCHMETRICS}", "lightning-utilities", "packaging")
        subprocess.run(
            [str(UV), "pip", "install", "--quiet", "--no-deps", "--target", str(libraries), *packages],
            check=True,
            env=os.environ | {"UV_SYSTEM_CERTS": "1"},
        )
        for num_images, num_classes in SHAPES:
            target_NC, score_NC = table(num_images, num_classes)
            np.save(folder / "target.npy", target_NC)
            np.save(folder / "score.npy", score_NC)
            del target_NC, score_NC
            found = {side: [] for side in SIDES}
            for _ in range(options.turns):
                for side in SIDES:
                    found[side].append(child(side, folder, libraries))
                    print(num_images, num_classes, side, found[side][-1], flush=True)
            sides = {
                side: {
                    "seconds": [run["seconds"] for run in runs],
                    "extra_mb": max(run["extra_mb"] for run in runs),
                    "mean_ap": runs[0]["mean"],
                }
                for side, runs in found.items()
            }
            median = {side: statistics.median(values["seconds"]) for side, values in sides.items()}
            ratios = {f"{peer} / {ours}": median[peer] / median[ours] for ours in SIDES[:2] for peer in SIDES[2:]}
            results[f"{num_images} x {num_classes}"] = {"sides": sides, "ratios": ratios}
        results["bootstrap, 1000 replicates, 5823 x 20, seconds"] = bootstrap_seconds(5)
        results["polytag evaluate, 100000 x 80, Parquet to report, seconds"] = [evaluate_seconds(folder) for _ in range(2)]
    peers = {"scikit-learn": version("scikit-learn"), "torchmetrics": TORCHMETRICS}
    write("metrics_speed", {"n_turns": options.turns, "peers": peers, **results})


if __name__ == "__main__":
    main()
