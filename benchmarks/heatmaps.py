"""Do heat maps point at the object? The pointing game on real photographs and on generated scenes, and the time of a map.

For every (image, present class) of the validation split: is the warmest place of the class's map in one of its boxes, beside two
things that know nothing (a place drawn at random, the middle of the image) and one that knows too much (the same image's map
of another present class). Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016.

    python benchmarks/heatmaps.py [RUN DATA]...     trained here where none are given
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from machine import VOC_MINI, WEIGHTS, write
from polytag import PROBE, load_dataset, train
from polytag.allocator import keep_freed_memory
from polytag.data.formats.boxes import Box, boxes_reader
from polytag.data.images.augment import seen_region, views
from polytag.data.images.read import read_image
from polytag.data.read_options import ReadOptions
from polytag.demo.recipe import DEMO
from polytag.demo.scenes import write_scenes
from polytag.inference.predictor import Predictor, to_input
from polytag.models.checkpoint import Checkpoint
from polytag.models.heatmap import class_activation


def inside(place: tuple[float, float], boxes: list[Box]) -> bool:
    return any(box.left <= place[0] < box.right and box.top <= place[1] < box.bottom for box in boxes)


def covered(boxes: list[Box], *, steps: int = 100) -> float:
    """Share of the image that the boxes cover, on a grid: what a place drawn at random would hit."""
    middle = (np.arange(steps) + 0.5) / steps
    grid = np.zeros((steps, steps), bool)
    for box in boxes:
        grid |= ((box.top <= middle) & (middle < box.bottom))[:, None] & ((box.left <= middle) & (middle < box.right))
    return float(grid.mean())


def pointing_game(run: Path, data: Path) -> dict[str, object]:
    predictor = Predictor.load(Checkpoint.read(run), device="cpu", precision="fp32")
    preprocessing = predictor.checkpoint.preprocessing
    val_set = load_dataset(data).split("val")
    read = boxes_reader(data, dataset=val_set, options=ReadOptions())
    assert read is not None
    own: list[bool] = []
    centre: list[bool] = []
    share: list[float] = []
    pairs: list[tuple[bool, bool]] = []
    seconds: list[float] = []
    for row, path in enumerate(val_set.paths):
        columns = np.flatnonzero(val_set.target_NC[row] == 1).tolist()
        if not columns:
            continue
        image = read_image(path)
        pixels = to_input(torch.from_numpy(views(image, preprocessing)[:1]), preprocessing, "cpu")
        started = time.perf_counter()
        heat_Khw = class_activation(predictor.model, pixels, columns)
        seconds.append(time.perf_counter() - started)
        left, top, right, bottom = seen_region(image.size, preprocessing)
        places: list[tuple[float, float]] = []
        for heat_hw in heat_Khw:
            y, x = np.unravel_index(heat_hw.argmax(), heat_hw.shape)
            x_share, y_share = (x + 0.5) / heat_hw.shape[1], (y + 0.5) / heat_hw.shape[0]
            places.append((left + x_share * (right - left), top + y_share * (bottom - top)))
        for at, column in enumerate(columns):
            boxes = [box for box in read(row).boxes if box.class_name == val_set.label_set.names[column]]
            own.append(inside(places[at], boxes))
            centre.append(inside((0.5, 0.5), boxes))
            share.append(covered(boxes))
            pairs += [(own[-1], inside(places[other], boxes)) for other in range(len(columns)) if other != at]
    return {
        "backbone": predictor.checkpoint.backbone,
        "n": len(own),
        "warmest_place_in_a_box": round(float(np.mean(own)), 3),
        "random_place": round(float(np.mean(share)), 3),
        "middle_of_the_image": round(float(np.mean(centre)), 3),
        "num_pairs_of_present_classes": len(pairs),
        "own_map": round(float(np.mean([pair[0] for pair in pairs])), 3),
        "map_of_the_other_class": round(float(np.mean([pair[1] for pair in pairs])), 3),
        "median_milliseconds_an_image": round(1000 * statistics.median(seconds), 1),
    }


def trained(folder: Path) -> dict[str, tuple[Path, Path]]:
    scenes = write_scenes(folder / "scenes")
    probe = replace(PROBE, backbone="mobilenetv2_100", backbone_args={"pad_type": "same"}, weights=str(WEIGHTS))
    train(VOC_MINI, recipe=probe, output=folder / "voc-mini")
    train(scenes, recipe=DEMO, output=folder / "demo")
    return {"voc-mini": (folder / "voc-mini", VOC_MINI), "scenes": (folder / "demo", scenes)}


def main() -> None:
    keep_freed_memory()  # as the commands do
    with tempfile.TemporaryDirectory() as folder:
        given = [Path(word) for word in sys.argv[1:]]
        runs = {run.name: (run, data) for run, data in zip(given[::2], given[1::2], strict=True)} or trained(Path(folder))
        write("heatmaps", {name: pointing_game(run, data) for name, (run, data) in runs.items()})


if __name__ == "__main__":
    main()
