"""What each form of an export answers and costs: float32 and 8-bit integers, in ONNX Runtime and OpenVINO, beside PyTorch.

A probe of EfficientNet-Lite0 (ImageNet's weights) is trained on voc-mini's training photographs at 256 px and exported with --int8.
Then, of each form on all 874 validation photographs: mAP, the decisions that differ from the checkpoint's in float32, and its size.
In turn: milliseconds of processor time for an image in batches of 1 and 16, on one core. And, in turn and in processes of their
own, images a second from files to scores: eager float32 in batches of 32 with Pillow, and `predict`'s way with the int8 export.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from machine import SHARED, VOC_MINI, write
from polytag.contracts import Dataset
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.data.load import load_dataset
from polytag.inference.scorers import Scorer, scorer_of
from polytag.logits import sigmoid
from polytag.metrics.ap import mean_average_precision
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import PIXELS_OF, Exported, read_model

WEIGHTS = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"
NUM_ROUNDS, NUM_TURNS = 40, 3
FORMS = {  # name: engine, precision
    "torch fp32": ("torch", "fp32"),
    "torch bf16": ("torch", "bf16"),
    "onnx fp32": ("onnx", "fp32"),
    "onnx int8": ("onnx", "int8"),
    "openvino fp32": ("openvino", "fp32"),
    "openvino int8": ("openvino", "int8"),
}
RATIOS = (
    ("openvino int8", "torch bf16"),
    ("openvino int8", "openvino fp32"),
    ("onnx int8", "onnx fp32"),
    ("openvino fp32", "onnx fp32"),
)
HERE = Path(__file__).parent


def trained(folder: Path) -> Path:
    """A run whose best is exported."""
    options = ["--recipe", "probe", "--backbone", "tf_efficientnet_lite0", "--weights", str(WEIGHTS), "--image-size", "256"]
    command = [sys.executable, "-m", "polytag", "train", str(VOC_MINI), *options, "--output", str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return folder


def exported_in(run: Path, out: Path) -> Exported:
    """By the command, with every form."""
    command = [sys.executable, "-m", "polytag", "export", str(run), str(out), "--to", "onnx,openvino", "--int8"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return Exported.read(out)


def scorer(run: Path, exported: Exported, form: str) -> Scorer:
    engine, precision = FORMS[form]
    if engine == "torch":
        return scorer_of(Checkpoint.read(run), device="cpu", precision=precision)
    return scorer_of(exported, engine=engine, precision=precision)


def scores(scorer: Scorer, dataset: Dataset, model: Checkpoint | Exported) -> np.ndarray:
    paths = dataset.paths
    scored = scorer.score_rows(len(paths), lambda row: views(read_image(paths[row]), model.preprocessing))
    return np.concatenate([each.output_ND for each in scored if len(each.rows)])


def answers(run: Path, exported: Exported) -> dict[str, object]:
    """mAP, decisions that differ from those in float32, and bytes of each form."""
    dataset, threshold_C = load_dataset(VOC_MINI).split("val"), np.array(exported.thresholds)
    exact_NC = scores(scorer(run, exported, "torch fp32"), dataset, exported)
    found: dict[str, object] = {}
    for form, key in FORMS.items():
        logit_NC = scores(scorer(run, exported, form), dataset, exported)
        num_changed = int(((sigmoid(logit_NC) > threshold_C) != (sigmoid(exact_NC) > threshold_C)).sum())
        files = [exported.folder / name for name in PIXELS_OF[key]] if key in PIXELS_OF else [run / "best" / "model.safetensors"]
        found[form] = {
            "mAP": round(mean_average_precision(dataset.target_NC, logit_NC), 5),
            "decisions_that_differ": num_changed,
            "share": round(num_changed / logit_NC.size, 5),
            "max_logit_difference": float(np.abs(logit_NC - exact_NC).max()),
            "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 2),
        }
    return {"images": len(dataset), "decisions": int(exact_NC.size), **found}


def costs(run: Path, exported: Exported, *, batch_size: int) -> dict[str, object]:
    """Milliseconds of processor time an image, decoded and resized, each form on one core, in turn."""
    size_px = exported.preprocessing.image_size_px
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, 1, size_px, size_px, 3), dtype=np.uint8)
    ready = {form: scorer(run, exported, form) for form in FORMS}
    took: dict[str, list[float]] = {form: [] for form in FORMS}
    for each in ready.values():
        each.prepare_thread()
        each.logits_of(pixels)
    for _ in range(NUM_ROUNDS):
        for form, each in ready.items():
            began = time.process_time()
            each.logits_of(pixels)
            took[form].append(1000 * (time.process_time() - began) / batch_size)
    ratios = {f"{a} beside {b}": [slow / fast for fast, slow in zip(took[a], took[b], strict=True)] for a, b in RATIOS}
    return {
        "n": NUM_ROUNDS,
        "milliseconds": {form: spread(values) for form, values in took.items()},
        "times_as_fast": {name: spread(values) for name, values in ratios.items()},
    }


def in_process(script: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def side(model: str, precision: str) -> dict[str, float]:
    """Images a second as `predict` scores a folder, without the start of Python; and mAP."""
    dataset, loaded = load_dataset(VOC_MINI).split("val"), read_model(model)
    ready = scorer_of(loaded, precision=precision)
    scores(ready, dataset.take(range(64)), loaded)
    began = time.perf_counter()
    logit_NC = scores(ready, dataset, loaded)
    rate = len(dataset) / (time.perf_counter() - began)
    return {"images_per_second": rate, "mAP": mean_average_precision(dataset.target_NC, logit_NC)}


def folder_of_images(run: Path, exported: Exported, place: Path) -> dict[str, object]:
    """Images a second of each side, and how many times as fast each way of `predict` is as the eager loop."""
    sides: dict[str, Callable[[], dict[str, float]]] = {
        "eager": lambda: in_process("speed_sides.py", "eager", run, VOC_MINI, place / "eager.npy"),
        "checkpoint, bf16": lambda: in_process("reduced.py", "side", run, "auto"),
        "export, fp32": lambda: in_process("reduced.py", "side", exported.folder, "fp32"),
        "export, int8": lambda: in_process("reduced.py", "side", exported.folder, "int8"),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(NUM_TURNS):
        for name, run_side in sides.items():
            found[name].append(run_side())
    rates = {name: [each["images_per_second"] for each in values] for name, values in found.items()}
    return {
        "n": NUM_TURNS,
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "times_eager": {
            name: spread([ours / eager for ours, eager in zip(values, rates["eager"], strict=True)])
            for name, values in rates.items()
            if name != "eager"
        },
        "mAP": {name: round(values[0]["mAP"], 5) for name, values in found.items()},
    }


def spread(values: list[float]) -> dict[str, float]:
    """Least, median and largest."""
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def main() -> None:
    if not VOC_MINI.is_dir():
        print(f"skipped: no photographs in {SHARED.name}")
        return
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}  # as the command `polytag` sets it
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        run = trained(place / "run")
        began = time.perf_counter()
        exported = exported_in(run, place / "export")
        seconds = time.perf_counter() - began
        write(
            "reduced",
            {
                "export_seconds": round(seconds, 1),
                "quantized": {name: file.quantized for name, file in exported.files.items() if file.quantized},
                "answers": answers(run, exported),
                "one_core": {f"batch {size}": costs(run, exported, batch_size=size) for size in (1, 16)},
                "folder": folder_of_images(run, exported, place),
            },
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["side"]:
        print(json.dumps(side(*sys.argv[2:])))
    else:
        main()
