"""What every result file says first: hardware, versions, date. And where results go."""

import datetime
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from polytag.machine import has_native_bf16, num_cores, processor

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared"
VOC_MINI = SHARED / "data" / "voc-mini" / "VOCdevkit" / "VOC2012"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.keras_in1k.imagenet-norm.fp16.safetensors"


def describe() -> dict[str, object]:
    """Processor, cores, memory, versions, date and the load that others put on the machine as we begin."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "native_bf16": has_native_bf16(),
        "cores": num_cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "timm", "numpy", "pillow")},
    }


def write(name: str, result: dict[str, object]) -> None:
    """Print a result and keep it in benchmarks/results/<name>.json."""
    text = json.dumps({"machine": describe(), **result}, indent=2)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
