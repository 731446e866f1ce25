"""Training throughput of ResNet-18 at 224 px: polytag's loop in turn with the plain PyTorch loop.

The plain loop is what the tutorials show: a Dataset that opens each file with Pillow, torchvision's transforms, a DataLoader
without workers, float32, batch 16, SGD. Both train ResNet-18 from random weights (the arithmetic is the same) on the same
photographs, with a random crop to 224 px and a mirror; each turn is one pass over the same number of pictures.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from machine import VOC_MINI, write
from polytag.contracts import Dataset
from polytag.data.load import ReadOptions, load_dataset
from polytag.data.scenes import write_scenes
from polytag.models.backbone import build_model
from polytag.models.device import choose_arithmetic
from polytag.training.loop import Silent, Sinks, train_loop
from polytag.training.recipes import VELOCITY, Recipe
from polytag.training.state import State


class Plain(torch.utils.data.Dataset):
    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(224, scale=(0.4, 1)),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(VELOCITY.mean, VELOCITY.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int):
        picture = Image.open(self.dataset.paths[row]).convert("RGB")
        return self.transform(picture), torch.from_numpy(np.array(self.dataset.target_NC[row])).float()


def plain_seconds(dataset: Dataset) -> float:
    torch.manual_seed(7)
    model = timm.create_model("resnet18", num_classes=len(dataset.label_set))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    criterion = torch.nn.BCEWithLogitsLoss()
    loader = DataLoader(Plain(dataset), batch_size=16, shuffle=True)
    model.train()
    started = time.perf_counter()
    for pixels, targets in loader:
        optimizer.zero_grad()
        loss = criterion(model(pixels), targets)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


class Clock(Silent):
    def epoch(self, row: Mapping[str, float]) -> None:
        self.pictures_per_second = row["pictures_per_second"]


def polytag_seconds(dataset: Dataset, recipe: Recipe) -> float:
    """One epoch of polytag's own loop; validation is not counted in its pictures a second."""
    torch.manual_seed(7)
    model = build_model("resnet18", num_classes=len(dataset.label_set))
    clock = Clock()
    train_loop(
        model,
        train_set=dataset,
        val_set=dataset.take(range(16)),
        recipe=recipe,
        arithmetic=choose_arithmetic(recipe.device, recipe.precision),
        state=State(data_fingerprint="", classes=[]),
        sinks=Sinks(save_state=lambda state: None, epoch_done=lambda state: None),
        watcher=clock,
    )
    return len(dataset) / clock.pictures_per_second


def measure(side: str, dataset: Dataset) -> float:
    """Pictures a second of one pass, after a short one to warm up; in this process."""
    recipe = Recipe(**{**vars(VELOCITY), "weights": "random", "epochs": 1})
    seconds = {"plain": plain_seconds, "polytag": lambda part: polytag_seconds(part, recipe)}[side]
    seconds(dataset.take(range(32)))
    return len(dataset) / seconds(dataset)


def in_own_process(side: str, options: argparse.Namespace) -> float:
    """Each measurement is a process of its own: what one side sets for its process must not help the other."""
    command = [sys.executable, __file__, "--side", side, "--pictures", str(options.pictures), "--scenes", options.scenes]
    environment = os.environ | ({"OMP_WAIT_POLICY": "passive"} if side == "polytag" else {})  # as the command `polytag` sets it
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=320, help="a multiple of 16")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--side", choices=("plain", "polytag"), help="measure this side alone, and print its pictures a second")
    parser.add_argument("--scenes", default="", help="a folder of generated scenes, where there are no photographs")
    options = parser.parse_args()
    if options.side:
        data = VOC_MINI if VOC_MINI.is_dir() else Path(options.scenes)
        dataset = load_dataset(data, options=ReadOptions(difficult="negative")).split("train").take(range(options.pictures))
        print(measure(options.side, dataset))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = "voc-mini photographs"
        if not VOC_MINI.is_dir():
            source = "generated scenes (no photographs beside this checkout)"
            options.scenes = str(write_scenes(Path(folder) / "scenes"))
        plain, ours = [], []
        for turn in range(options.turns):
            plain.append(in_own_process("plain", options))
            ours.append(in_own_process("polytag", options))
            print(
                f"turn {turn + 1}: plain {plain[-1]:.1f}, polytag {ours[-1]:.1f} pictures/s, ratio {ours[-1] / plain[-1]:.2f}",
                flush=True,
            )
    ratios = [b / a for a, b in zip(plain, ours, strict=True)]
    write(
        "throughput",
        {
            "what": "ResNet-18, 224 px, batch 16, training; pictures a second",
            "pictures": source,
            "n_turns": options.turns,
            "pictures_a_turn": options.pictures,
            "plain": {"min": min(plain), "median": statistics.median(plain), "max": max(plain)},
            "polytag": {"min": min(ours), "median": statistics.median(ours), "max": max(ours)},
            "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        },
    )


if __name__ == "__main__":
    main()
