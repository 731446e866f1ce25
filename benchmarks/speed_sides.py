"""The sides of `speed.py`, each a process that prints one JSON object: plain-loop, training, eager, fast."""

import os
import sys
import time

STARTED = time.perf_counter()
if sys.argv[1] in ("training", "fast"):  # as the command `polytag` sets it
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}

import json  # noqa: E402
import statistics  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from machine import VOC_MINI  # noqa: E402
from polytag.allocator import keep_freed_memory  # noqa: E402
from polytag.contracts import Dataset  # noqa: E402
from polytag.data.load import load_dataset  # noqa: E402
from polytag.data.read_options import ReadOptions  # noqa: E402
from polytag.metrics.ap import mean_average_precision  # noqa: E402
from training_peers import BATCH_SIZE, Images  # noqa: E402

IMPORTED = time.perf_counter()
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def plain_loop(data: str, backbone: str, num_batches: str) -> dict[str, float]:
    """Seconds an image of training and of validation, as the plain loop does them: Pillow, no workers, float32, batch 16."""
    dataset = load_dataset(Path(data), options=ReadOptions(difficult="negative"))
    arguments = {"pad_type": "same"} if backbone == "mobilenetv2_100" else {}
    model = timm.create_model(backbone, num_classes=len(dataset.label_set), **arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    criterion = torch.nn.BCEWithLogitsLoss()
    seconds = {}
    for name in ("train", "val"):
        part = dataset.split(name).take(
            np.random.default_rng(0).permutation(len(dataset.split(name)))[: 16 * (int(num_batches) + 2)]
        )
        job = {"paths": part.paths, "targets": part.target_NC.tolist(), "size_px": 224, "mean": IMAGENET[0], "std": IMAGENET[1]}
        images = Images(job, range(len(part)))
        if name == "val":
            end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*IMAGENET)]
            images.transform = v2.Compose([v2.Resize(256), v2.CenterCrop(224), *end])
        model.train(name == "train")
        times = []
        loader = iter(DataLoader(images, batch_size=BATCH_SIZE, shuffle=name == "train"))
        for _ in range(int(num_batches) + 2):
            started = time.perf_counter()
            pixels, targets = next(loader)
            if name == "train":
                optimizer.zero_grad()
                criterion(model(pixels), targets).backward()
                optimizer.step()
            else:
                with torch.no_grad():
                    criterion(model(pixels), targets)
            times.append(time.perf_counter() - started)
        seconds[f"{name}_seconds_an_image"] = statistics.mean(times[2:]) / BATCH_SIZE
    return {**seconds, "import_seconds": IMPORTED - STARTED}


def training(num_images: str) -> dict[str, float]:
    """polytag's own loop, three epochs; then the step alone, on one batch again and again; and the convolution peak."""
    from dataclasses import replace

    from polytag.bench.peak import flop_of_image, measure_peak
    from polytag.models.backbone import build_model
    from polytag.models.device import choose_arithmetic
    from polytag.runs.recipe import BASELINE
    from polytag.training.callback import SilentCallback
    from polytag.training.context import TrainingContext
    from polytag.training.image_sources import open_image_sources
    from polytag.training.learner import make_optimizer
    from polytag.training.loop import make_step, train_loop
    from polytag.training.state import State

    class Clock(SilentCallback):
        rates: list[float] = []  # noqa: RUF012

        def epoch(self, row: Mapping[str, float]) -> None:
            self.rates.append(row["images_per_second"])

    dataset = load_dataset(VOC_MINI, options=ReadOptions(difficult="negative")).split("train").take(range(int(num_images)))
    recipe = replace(BASELINE, weights="random", epochs=3, cache="disk")
    keep_freed_memory()  # as `polytag train` does
    arithmetic = choose_arithmetic("cpu")
    torch.manual_seed(7)
    model, val_set, clock = build_model("resnet18", num_classes=len(dataset.label_set)), dataset.take(range(16)), Clock()
    context = TrainingContext(recipe=recipe, train_set=dataset, val_set=val_set, arithmetic=arithmetic, callback=clock)
    sources = open_image_sources(context, has_probe=False)
    train_loop(model, context, state=State(data_fingerprint="", classes=[]), sources=sources)
    batch = next(sources.loader.batches([np.arange(recipe.batch_size)], epoch=1))
    step = make_step(model, context, sources=sources)
    optimizer, targets = make_optimizer(model, recipe), torch.from_numpy(np.array(dataset.target_NC[batch.rows]))
    model.train()
    times = []
    for _ in range(len(dataset) // recipe.batch_size):
        started = time.perf_counter()
        step(batch.inputs, targets, 1.0)
        optimizer.step()
        times.append(time.perf_counter() - started)
    sources.close()
    alone, later = recipe.batch_size / statistics.mean(times), statistics.mean(clock.rates[1:])
    gflop = flop_of_image(model, 224)[1] / 1e9
    peak = measure_peak("cpu", arithmetic.precision).convolution_gflops
    return {
        "first_epoch": clock.rates[0], "later_epochs": later, "step_alone": alone, "input_share": 1 - later / alone,
        "peak_gflops": peak, "gflop_an_image": gflop, "share_of_peak": later * gflop / peak,
    }  # fmt: skip


def eager(run: str, data: str, output: str) -> dict[str, object]:
    """The checkpoint's model as PyTorch runs it: Pillow, one batch of 32 after the other, float32."""
    from polytag.models.checkpoint import Checkpoint

    checkpoint, part = Checkpoint.read(run), load_dataset(Path(data)).split("val")
    size_px, mean, std = checkpoint.preprocessing.image_size_px, checkpoint.preprocessing.mean, checkpoint.preprocessing.std
    model = checkpoint.load_model().to(memory_format=torch.contiguous_format)

    def scores(paths: tuple[Path, ...]) -> np.ndarray:
        found = []
        for start in range(0, len(paths), 32):
            images = [
                Image.open(path).convert("RGB").resize((size_px, size_px), Image.Resampling.BICUBIC)
                for path in paths[start : start + 32]
            ]
            pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]).float() / 255
            pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
            with torch.no_grad():
                found.append(model(pixels))
        return torch.cat(found).numpy()

    return timed(scores, part, output, how="eager")


def fast(run: str, data: str, output: str) -> dict[str, object]:
    from polytag.inference.predictor import Predictor
    from polytag.models.checkpoint import Checkpoint

    part = load_dataset(Path(data)).split("val")
    keep_freed_memory()  # as `polytag predict` does
    predictor = Predictor.load(Checkpoint.read(run), device="cpu")
    how = f"{predictor.frozen.how}, {predictor.arithmetic.precision}, {torch.get_num_threads()} workers"
    return timed(lambda paths: np.concatenate([each.output_ND for each in predictor.score_files(paths)]), part, output, how=how)


def timed(scores, part: Dataset, output: str, *, how: str) -> dict[str, object]:
    scores(part.paths[:64])
    started = time.perf_counter()
    logit_NC = scores(part.paths)
    seconds = time.perf_counter() - started
    np.save(output, logit_NC)
    return {"images_per_second": len(part) / seconds, "mAP": float(mean_average_precision(part.target_NC, logit_NC)), "how": how}


SIDES = {"plain-loop": plain_loop, "training": training, "eager": eager, "fast": fast}

if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](*sys.argv[2:])))
