"""How long `polytag --help` takes, and `polytag evaluate` on 5,823 x 20 scores, whole processes, in turn with an empty Python."""

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from machine import write
from polytag import predictions_from_arrays, write_predictions
from quiet import disturbances, undisturbed

NUM_RUNS = 15
NUM_IMAGES, NUM_CLASSES = 5823, 20
POLYTAG = str(Path(sys.executable).with_name("polytag"))


def write_scores(path: Path) -> None:
    """Scores that tell positives from negatives somewhat, with VOC's share of them."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((NUM_IMAGES, NUM_CLASSES)) < 0.075).astype(np.int8)
    logit_NC = (rng.standard_normal(target_NC.shape) + 2.5 * target_NC - 3).astype(np.float32)
    write_predictions(predictions_from_arrays(target_NC, logit_NC, scores="logit"), path)


def seconds_of(command: list[str]) -> float:
    """Of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder) / "scores.parquet"
        write_scores(scores)
        commands = {
            "polytag_help": [POLYTAG, "--help"],
            "polytag_evaluate": [POLYTAG, "evaluate", str(scores)],
            "python_nothing": [sys.executable, "-c", "pass"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(NUM_RUNS + 1):
            for name, command in commands.items():
                seconds[name].append(undisturbed(partial(seconds_of, command)))
    write(
        "startup",
        {
            "what": f"whole processes; evaluate: {NUM_IMAGES:,} x {NUM_CLASSES} scores from Parquet, with every interval",
            "n": NUM_RUNS,
            "processor_share_of_others": {"median": statistics.median(disturbances), "max": max(disturbances)},
            "seconds": {
                name: {"min": min(values[1:]), "median": statistics.median(values[1:]), "max": max(values[1:])}
                for name, values in seconds.items()
            },
        },
    )


if __name__ == "__main__":
    main()
