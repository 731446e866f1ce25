"""What the image cache saves on a processor: passes from files in turn with passes from kept images, in one process.

Over the same images: decoding alone, as training and scoring see it; frozen features; training. ResNet-18 at 224 px and
MobileNetV2 at 256 px, from random weights: the arithmetic is the same. Photographs of voc-mini, whose files are small, and
generated images of VOC's size and of a phone's.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gpu import FULL, write_images
from machine import VOC_MINI, write
from polytag.allocator import keep_freed_memory
from polytag.contracts import Dataset
from polytag.data.cache.store import cache_files, clear
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.demo.scenes import write_scenes
from polytag.inference.predictor import extract_features
from polytag.models.backbone import build_model
from polytag.models.device import choose_arithmetic
from polytag.runs.recipe import BASELINE, FINETUNE, Recipe
from polytag.training.callback import Callback, SilentCallback
from polytag.training.context import TrainingContext
from polytag.training.image_sources import ImageSources, open_image_sources
from polytag.training.loop import train_loop
from polytag.training.preprocessing import preprocessing_of
from polytag.training.state import State

RECIPES = {
    "resnet18, 224 px": replace(BASELINE, weights="random", epochs=1),
    "mobilenetv2_100, 256 px": replace(FINETUNE, backbone="mobilenetv2_100", weights="random", epochs=1, head_start="none"),
}


def phone_images(folder: Path, *, number: int) -> Dataset:
    """JPEGs of 4,000 x 3,000 pixels, smooth with grain."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["file_name,labels,split"]
    for row in range(number):
        coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).resize((4000, 3000), Image.Resampling.BICUBIC)
        pixels = np.asarray(coarse) + rng.normal(0, 6, (3000, 4000, 1)).astype(np.float32)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{row}.jpg", quality=90)
        lines.append(f"{row}.jpg,{'ab'[row % 2]},train")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return load_dataset(folder / "labels.csv").split("train")


class Clock(SilentCallback):
    def epoch(self, row: Mapping[str, float]) -> None:
        self.images_per_second = row["images_per_second"]


def context_of(
    dataset: Dataset, recipe: Recipe, *, val_set: Dataset | None = None, callback: Callback | None = None
) -> TrainingContext:
    """The whole of the data set as training and, unless others are given, as validation images."""
    return TrainingContext(
        recipe=recipe,
        train_set=dataset,
        val_set=val_set or dataset,
        arithmetic=choose_arithmetic("cpu", recipe.precision),
        callback=callback or SilentCallback(),
    )


def opened(dataset: Dataset, recipe: Recipe, cache: str) -> ImageSources:
    return open_image_sources(context_of(dataset, replace(recipe, cache=cache)), has_probe=False)


def fill(dataset: Dataset, recipe: Recipe) -> float:
    """Seconds of a first pass of both kinds, writing included."""
    started = time.perf_counter()
    sources = opened(dataset, recipe, "disk")
    for _ in sources.loader.batches([np.arange(len(dataset))], epoch=1):
        pass
    for _ in sources.val_views(range(len(dataset)), 32):
        pass
    sources.close()
    return time.perf_counter() - started


def training_images(dataset: Dataset, recipe: Recipe, sources: ImageSources) -> float:
    """Seconds of decoding (or reading) and augmenting every image."""
    chunks = [np.arange(start, min(start + 32, len(dataset))) for start in range(0, len(dataset), 32)]
    return seconds_of(lambda: [batch.rows for batch in sources.loader.batches(chunks, epoch=1)])


def scoring_images(dataset: Dataset, recipe: Recipe, sources: ImageSources) -> float:
    """Seconds of decoding (or reading) every image as scoring sees it."""
    return seconds_of(lambda: [batch.rows for batch in sources.val_views(range(len(dataset)), 32)])


def frozen_features(dataset: Dataset, recipe: Recipe, sources: ImageSources) -> float:
    """Seconds of one pass of features."""
    arithmetic = choose_arithmetic("cpu", recipe.precision)
    model = build_model(recipe.backbone, num_classes=len(dataset.label_set))
    extract = {"preprocessing": preprocessing_of(recipe), "arithmetic": arithmetic, "source": sources.val_views}
    extract_features(model, dataset.take(range(32)), **extract)
    return seconds_of(lambda: extract_features(model, dataset, **extract))


def training(dataset: Dataset, recipe: Recipe, sources: ImageSources) -> float:
    """Seconds of one epoch; validation is not counted."""
    clock = Clock()
    train_loop(
        build_model(recipe.backbone, num_classes=len(dataset.label_set)),
        context_of(dataset, recipe, val_set=dataset.take(range(8)), callback=clock),
        state=State(data_fingerprint="", classes=[]),
        sources=sources,
    )
    return len(dataset) / clock.images_per_second


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


PASSES = {
    "decode and augment": training_images,
    "decode for scoring": scoring_images,
    "frozen features": frozen_features,
    "training": training,
}


def measured(dataset: Dataset, recipe: Recipe, *, turns: int) -> dict[str, object]:
    """Milliseconds an image of every pass, both ways in turn."""
    torch.manual_seed(7)
    clear()
    first_seconds = fill(dataset, recipe)
    num_bytes = sum(kept.num_bytes for kept in cache_files())
    times: dict[str, dict[str, list[float]]] = {each: {"none": [], "disk": []} for each in PASSES}
    for _ in range(turns):
        for each, work in PASSES.items():
            for cache in ("none", "disk"):
                sources = opened(dataset, recipe, cache)
                times[each][cache].append(1000 * work(dataset, recipe, sources) / len(dataset))
                sources.close()
    result = {
        "first_pass_of_both_kinds_ms_an_image": 1000 * first_seconds / len(dataset),
        "file_kilobytes_an_image": sum(path.stat().st_size for path in dataset.paths) / len(dataset) / 1000,
        "kept_megabytes_an_image": num_bytes / len(dataset) / 1e6,
        "ms_an_image": {
            each: {
                **{side: {"min": min(ms), "median": statistics.median(ms), "max": max(ms)} for side, ms in sides.items()},
                "saved_share": 1 - statistics.median(b / a for a, b in zip(sides["none"], sides["disk"], strict=True)),
            }
            for each, sides in times.items()
        },
    }
    print(recipe.backbone, result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--large", type=int, default=32, help="generated images of a phone's size")
    options = parser.parse_args()
    keep_freed_memory()  # as the commands do
    load_at_start = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POLYTAG_CACHE"] = str(Path(folder) / "cache")
        source = "voc-mini photographs" if VOC_MINI.is_dir() else "generated scenes (no photographs beside this checkout)"
        data = VOC_MINI if VOC_MINI.is_dir() else write_scenes(Path(folder) / "scenes")
        dataset = load_dataset(data, options=ReadOptions(difficult="negative")).split("train").take(range(options.images))
        as_voc = load_dataset(write_images(Path(folder) / "voc", replace(FULL, num_train=options.images, num_val=0)))
        sets = {
            source: (dataset, options.turns),
            "generated, 500 x 375 px, as many bytes as VOC's": (as_voc.split("train"), options.turns),
            "generated, 12 megapixels": (phone_images(Path(folder) / "large", number=options.large), 2),
        }
        results = {
            f"{source}; {name}": measured(images, recipe, turns=turns)
            for source, (images, turns) in sets.items()
            for name, recipe in RECIPES.items()
            if source.startswith("generated") or name.startswith("mobilenet")
            if not (source.endswith("megapixels") and name.startswith("mobilenet"))
        }
    write(
        "image_cache",
        {
            "what": "wall milliseconds an image, from files and from kept images, in turn",
            "load_at_start": load_at_start,
            "n_turns": options.turns,
            "images_a_pass": options.images,
            "threads": torch.get_num_threads(),
            "images_and_backbones": results,
        },
    )


if __name__ == "__main__":
    main()
