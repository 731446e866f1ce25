"""What an export answers, and what it costs, beside the checkpoint that it was made from.

A probe of MobileNetV2 (ImageNet's weights) is trained on voc-mini's training photographs at 224 px and exported. Then, on all 874
validation photographs: how many bytes of the views of `image.onnx` differ from Pillow's, and by how much logits and probabilities
differ from the checkpoint's in float32, and how many decisions. And in turn: milliseconds of processor time to resize an image of
375 x 500 in the graph and by Pillow; whole processes from a cold start to the first answer, by the export and by the checkpoint.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from machine import SHARED, VOC_MINI, WEIGHTS, write
from polytag import Checkpoint, Preprocessing, export_model, load_dataset, predict
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.export.graph import UINT8, Graph
from polytag.export.view_graph import views as view_graph
from polytag.inference.onnx_scorer import session_of
from polytag.logits import sigmoid
from polytag.models.exported import IMAGE, Exported

NUM_RESIZES, NUM_STARTS = 200, 15


def trained(folder: Path) -> Path:
    """A run whose best is exported."""
    options = ["--recipe", "probe", "--backbone", "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--weights", str(WEIGHTS)]
    command = [sys.executable, "-m", "polytag", "train", str(VOC_MINI), *options, "--image-size", "224", "--output", str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return folder


def viewer(preprocessing: Preprocessing) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image to its views, uint8 V x S x S x 3, by the graph alone."""
    graph = Graph()
    graph.op("Transpose", view_graph(graph, "image", preprocessing), outputs=["views"], perm=[0, 2, 3, 1])
    size_px = preprocessing.image_size_px
    model = graph.model(
        name="views",
        inputs={"image": (UINT8, ["height", "width", 3])},
        outputs={"views": (UINT8, ["views", size_px, size_px, 3])},
        metadata={},
    )
    session = session_of(model.SerializeToString(), where="views")
    return lambda image: session.run(None, {"image": image})[0]


def answers(run: Path, exported: Exported) -> dict[str, object]:
    """Bytes, logits, probabilities and decisions on the validation photographs."""
    checkpoint = Checkpoint.read(run)
    paths = list(load_dataset(VOC_MINI).split("val").paths)
    view = viewer(checkpoint.preprocessing)
    session = session_of(exported.file(IMAGE), where=IMAGE)
    threshold_C = np.array(checkpoint.thresholds)
    num_bytes = num_unlike = num_decisions = num_changed = 0
    logit = probability = 0.0
    for path, result in zip(paths, predict(checkpoint, paths, device="cpu", precision="fp32"), strict=True):
        image = read_image(path)
        by_pillow, by_graph = views(image, checkpoint.preprocessing), view(np.asarray(image))
        num_bytes += by_pillow.size
        num_unlike += int((by_pillow != by_graph).sum())
        logit_C, probability_C, present_C = (
            values[0] for values in session.run(["logit", "probability", "present"], {"image": np.asarray(image)})
        )
        logit = max(logit, float(np.abs(logit_C - result.logit_C).max()))
        probability = max(probability, float(np.abs(probability_C - sigmoid(result.logit_C)).max()))
        num_decisions += len(threshold_C)
        num_changed += int((present_C != (sigmoid(result.logit_C) > threshold_C)).sum())
    return {
        "images": len(paths),
        "bytes": num_bytes,
        "bytes_that_differ": num_unlike,
        "max_logit_difference": logit,
        "max_probability_difference": probability,
        "decisions": num_decisions,
        "decisions_that_differ": num_changed,
    }


def resizing() -> dict[str, object]:
    """Milliseconds of processor time for one image of 375 x 500 to 224 px, by the graph on one thread and by Pillow."""
    preprocessing = Preprocessing()
    view = viewer(preprocessing)
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    sides: dict[str, Callable[[], object]] = {"graph": lambda: view(pixels), "pillow": lambda: views(image, preprocessing)}
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(NUM_RESIZES):
        for name, side in sides.items():
            began = time.process_time()
            side()
            took[name].append(1000 * (time.process_time() - began))
    return {name: spread(values) for name, values in took.items()}


def starting(run: Path, exported: Exported) -> dict[str, object]:
    """Whole processes that predict one photograph: seconds of processor time, seconds, and peak memory (Linux)."""
    photograph = next(iter(load_dataset(VOC_MINI).split("val").paths))
    took: dict[str, list[tuple[float, float, float]]] = {"export": [], "checkpoint": []}
    for _ in range(NUM_STARTS):
        for name, model in (("export", exported.folder), ("checkpoint", run)):
            before, began = os.times(), time.perf_counter()
            script = (
                "import re; from pathlib import Path; from polytag.cli.main import main\n"
                "try:\n    main()\nfinally:\n"
                "    print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
            )
            command = [sys.executable, "-c", script, "predict", str(model), str(photograph)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            after = os.times()
            processor = after.children_user + after.children_system - before.children_user - before.children_system
            took[name].append((processor, time.perf_counter() - began, int(done.stdout.split()[-1]) / 1000))
    return {
        name: {
            key: spread([values[column] for values in found])
            for column, key in enumerate(("processor_seconds", "seconds", "peak_mb"))
        }
        for name, found in took.items()
    }


def spread(values: list[float]) -> dict[str, float]:
    """Least, median and largest."""
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def main() -> None:
    if not VOC_MINI.is_dir():
        print(f"skipped: no photographs in {SHARED.name}")
        return
    with tempfile.TemporaryDirectory() as folder:
        run = trained(Path(folder) / "run")
        exported = export_model(run, Path(folder) / "export")
        write(
            "export",
            {
                "answers": answers(run, exported),
                "milliseconds_to_resize_375x500": {"n": NUM_RESIZES, **resizing()},
                "cold_start_to_the_first_answer": {"n": NUM_STARTS, **starting(run, exported)},
            },
        )


if __name__ == "__main__":
    main()
