"""Seconds until the queue of label issues of 200,000 images and 20 classes is there, and that it is the same as before a change.

Each measurement is a process of its own, the sides in turn. `--before` is a checkout to compare with: the lists of both sides are
compared by a digest of their rows, classes, beliefs and marks. Nothing but the side's own `src` is imported.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polytag.inspector.inspection import Inspection

HERE = Path(__file__).resolve().parents[1]
NUM_IMAGES, NUM_CLASSES = 200_000, 20


def inspection_of(review_file: Path) -> "Inspection":
    """Scores of every class, of whose labels 2% are wrong and 5% unknown."""
    import numpy as np

    from polytag.contracts import LabelSet, Predictions
    from polytag.inspector.inspection import Inspection

    rng = np.random.default_rng(0)
    truth_NC = rng.random((NUM_IMAGES, NUM_CLASSES)) < rng.uniform(0.01, 0.2, NUM_CLASSES)
    logit_NC = (rng.normal(0, 1.5, truth_NC.shape) + 4 * truth_NC - 3).astype(np.float32)
    target_NC = (truth_NC ^ (rng.random(truth_NC.shape) < 0.02)).astype(np.int8)
    target_NC[rng.random(truth_NC.shape) < 0.05] = -1
    names = tuple(f"class {column}" for column in range(NUM_CLASSES))
    predictions = Predictions(
        ids=tuple(f"{row:06}.jpg" for row in range(NUM_IMAGES)),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=names),
    )
    return Inspection(name="run", review_file=review_file, predictions=predictions, threshold_C=np.full(NUM_CLASSES, 0.5))


def measure() -> None:
    """In a child: print the seconds, the number of listed labels and a digest of the lists."""
    from polytag.inspector.review.queue import IssueFinder

    inspection = inspection_of(Path("/nonexistent"))
    started = time.perf_counter()
    found = IssueFinder(inspection).found(timeout_seconds=600)
    seconds = time.perf_counter() - started
    assert found is not None
    digest = hashlib.sha256()
    for kind in ("issues", "unknown", "all"):
        for each in found.lists[kind]:
            digest.update(
                f"{each.row} {each.class_name} {each.given} {each.belief!r} {each.probability!r} {each.is_counted}\n".encode()
            )
    print(json.dumps({"seconds": seconds, "num_listed": len(found.lists["all"]), "digest": digest.hexdigest()}))


def child(checkout: Path) -> dict[str, object]:
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    done = subprocess.run([sys.executable, __file__, "--child"], check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of the state to compare with")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        measure()
        return
    from machine import write

    sides = {"before": options.before, "now": HERE} if options.before else {"now": HERE}
    turns = [{name: child(checkout) for name, checkout in sides.items()} for _ in range(options.turns)]
    result: dict[str, object] = {
        "what": f"{NUM_IMAGES:,} images x {NUM_CLASSES} classes, from Predictions to the sorted lists",
        "n_turns": len(turns),
    }
    for name in sides:
        result[name] = {
            "seconds": [round(float(str(turn[name]["seconds"])), 2) for turn in turns],
            "num_listed": turns[0][name]["num_listed"],
        }
    digests = {turn[name]["digest"] for turn in turns for name in sides}
    result["lists_are_identical"] = len(digests) == 1
    if options.before:
        revision = subprocess.run(
            ["git", "-C", str(options.before), "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        )
        result["before_is"] = revision.stdout.strip()
    write("label_queue", result)


if __name__ == "__main__":
    main()
