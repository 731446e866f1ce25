"""Every measurement, one after the other; each writes its own file under benchmarks/results."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = (
    "startup",
    "speed",
    "image_cache",
    "stored_images",
    "export",
    "gpu",
    "metrics_speed",
    "intervals",
    "recipes",
    "voc_mini",
    "minutes",
    "peers_minutes",
    "heads",
    "attention",
    "map_heads",
    "optimism",
    "prediction_sets",
    "label_issues",
    "label_queue",
    "decision_worth",
    "labels_next",
    "partial_labels",
    "long_tail",
    "label_review",
    "review_kill",
    "near_duplicates",
    "fuzz",
    "kills",
    "inspector",
    "accessibility",
)

for name in SCRIPTS:
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)
