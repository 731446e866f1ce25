"""What a GPU makes of the original's job: 20 epochs of ResNet-18 at 224 px on VOC 2012, decoding included.

Runs from a source tree, without network, on generated JPEGs of VOC's number and size, in less than ten minutes:

    PYTHONPATH=src python benchmarks/gpu.py             # writes benchmarks/results/gpu.json
    PYTHONPATH=src python benchmarks/gpu.py --dry-run   # the same lines on few small images and the processor; writes nothing

Goals: the job in at most 30 s and 50 times as fast as the plain loop with 0 workers on the same card; 12,000 images a second in
sustained training.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from machine import write
from polytag.allocator import keep_freed_memory
from polytag.contracts import Dataset
from polytag.data.load import load_dataset
from polytag.machine import num_cores
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic, choose_arithmetic
from polytag.models.heads import logits
from polytag.runs.recipe import BASELINE
from polytag.training.callback import SilentCallback
from polytag.training.context import TrainingContext
from polytag.training.image_sources import open_image_sources, uncached_sources
from polytag.training.learner import make_optimizer
from polytag.training.loop import make_step, train_loop
from polytag.training.state import State

SRC = Path(__file__).resolve().parents[1] / "src"
NUM_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    num_train: int = 5717
    num_val: int = 5823  # VOC 2012: 11,540 together
    image_px: tuple[int, int] = (500, 375)
    input_px: int = 224
    backbone: str = "resnet18"
    epochs: int = 20
    plain_images: int = 640
    sustained_batch: int = 256
    sustained_epochs: int = 20
    repeats: int = 30
    matrix_px: int = 8192


FULL = Size()
DRY = Size(
    num_train=40, num_val=24, image_px=(80, 60), input_px=32, backbone="test_resnet", epochs=2, plain_images=16,
    sustained_batch=8, sustained_epochs=2, repeats=2, matrix_px=64,
)  # fmt: skip


def write_images(folder: Path, size: Size) -> Path:
    """A CSV data set of JPEGs with as many pixels and about as many bytes as VOC's; three in ten stand upright."""
    (folder / "images").mkdir(parents=True)
    num_images = size.num_train + size.num_val
    rng = np.random.default_rng(0)
    present_NC = rng.random((num_images, NUM_CLASSES)) < 0.03
    present_NC[np.arange(num_images), np.arange(num_images) % NUM_CLASSES] = True
    tint_C3 = rng.integers(40, 216, (NUM_CLASSES, 3))

    def make(row: int) -> None:
        rng = np.random.default_rng((1, row))
        width, height = size.image_px if row % 10 < 7 else size.image_px[::-1]
        coarse = rng.integers(0, 255, (12, 12, 3))
        for column in np.flatnonzero(present_NC[row]):
            top, left = rng.integers(0, 8, 2)
            coarse[top : top + 4, left : left + 4] = tint_C3[column]
        smooth = np.asarray(Image.fromarray(coarse.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC))
        pixels = smooth + rng.normal(0, 11, (height, width, 1))  # grain: without it a JPEG is too small, and quick to decode
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{row:05}.jpg", quality=92)

    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(make, range(num_images)))
    names = [f"class{number:02}" for number in range(NUM_CLASSES)]
    with open(folder / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file_name", "labels", "split"])
        for row in range(num_images):
            labels = "|".join(name for name, here in zip(names, present_NC[row], strict=True) if here)
            rows.writerow([f"images/{row:05}.jpg", labels, "train" if row < size.num_train else "val"])
    return folder / "labels.csv"


def the_job(data: Path, size: Size, folder: Path, *, device: str) -> dict[str, object]:
    """`polytag train` from a cold start to a judged model, in a process of its own; no cache is there before."""
    command = [
        sys.executable, "-m", "polytag", "train", str(data), "--recipe", "baseline", "--weights", "random", "--device", device,
        "--backbone", size.backbone, "--image-size", str(size.input_px), "--epochs", str(size.epochs),
        "--cache", "gpu", "--output", str(folder / "run"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(SRC), "POLYTAG_CACHE": str(folder / "cache")}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"polytag train failed:\n{done.stdout}\n{done.stderr}")
    with open(folder / "run" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [float(row["seconds"]) for row in rows]
    environment_json = json.loads((folder / "run" / "env.json").read_text())
    return {
        "seconds": seconds,
        "seconds_of_epochs": sum(epochs),
        "seconds_before_and_after": seconds - sum(epochs),  # imports, decoding, judging
        "first_epoch_seconds": epochs[0],
        "median_epoch_seconds": float(np.median(epochs)),
        "training_images_per_second": float(np.median([float(row["images_per_second"]) for row in rows])),
        "images": environment_json["images"],
        "arithmetic": environment_json["arithmetic"],
        "notes": [line for line in done.stdout.splitlines() if "CUDA graph" in line],
        "val_map": float(rows[-1]["val_map"]),
    }


class Plain(torch.utils.data.Dataset):
    """What the tutorials show."""

    def __init__(self, dataset: Dataset, *, size_px: int, training: bool):
        self.dataset = dataset
        fit = [v2.RandomResizedCrop(size_px, scale=(0.4, 1)), v2.RandomHorizontalFlip()] if training else []
        fit = fit or [v2.Resize(round(size_px / 0.875)), v2.CenterCrop(size_px)]
        self.transform = v2.Compose(
            [*fit, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(BASELINE.mean, BASELINE.std)]
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int):
        image = Image.open(self.dataset.paths[row]).convert("RGB")
        return self.transform(image), torch.from_numpy(np.array(self.dataset.target_NC[row])).float()


def plain_loop(train_set: Dataset, val_set: Dataset, size: Size, *, device: str) -> dict[str, float]:
    """The plain loop with 0 workers, float32, batch 16, over fewer images; seconds an image, and the job scaled from them."""
    torch.manual_seed(7)
    model = timm.create_model(size.backbone, num_classes=NUM_CLASSES).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    criterion = torch.nn.BCEWithLogitsLoss()

    def train(dataset: Dataset) -> None:
        model.train()
        for pixels, targets in DataLoader(Plain(dataset, size_px=size.input_px, training=True), batch_size=16, shuffle=True):
            optimizer.zero_grad()
            loss = criterion(model(pixels.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
            loss.item()

    def validate(dataset: Dataset) -> None:
        model.eval()
        with torch.no_grad():
            for pixels, _ in DataLoader(Plain(dataset, size_px=size.input_px, training=False), batch_size=16):
                model(pixels.to(device)).cpu()

    measured = {}
    for name, work, dataset in (("training", train, train_set), ("validation", validate, val_set)):
        dataset = dataset.take(range(min(len(dataset), size.plain_images)))
        work(dataset.take(range(min(len(dataset), 32))))  # warm
        measured[name] = seconds_of(lambda work=work, dataset=dataset: work(dataset), device=device) / len(dataset)
    scaled = size.epochs * (measured["training"] * size.num_train + measured["validation"] * size.num_val)
    return {
        "images": float(size.plain_images),
        "training_ms_an_image": 1000 * measured["training"],
        "validation_ms_an_image": 1000 * measured["validation"],
        "scaled_to_the_job_seconds": scaled,
    }


def seconds_of(work: Callable[[], object], *, device: str, repeats: int = 1) -> float:
    """Seconds of one call, the device's work included."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - started) / repeats


def peak_tflops(size: Size, *, device: str) -> float:
    """What the card multiplies in bfloat16, measured: a large square product, the best of five."""
    left, right = (torch.randn(size.matrix_px, size.matrix_px, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(left)
    best = min(seconds_of(lambda: torch.mm(left, right, out=out), device=device, repeats=5) for _ in range(6))
    return 2 * size.matrix_px**3 / best / 1e12


def step_gflops(size: Size) -> float:
    """Of forward and backward of one image, as PyTorch counts them: a product and a sum are two."""
    model = timm.create_model(size.backbone, num_classes=NUM_CLASSES)
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.randn(2, 3, size.input_px, size.input_px)).sum().backward()
    return counter.get_total_flops() / 2 / 1e9


class Clock(SilentCallback):
    """Keeps the rate of every epoch, and what is noted."""

    def __init__(self):
        self.rates: list[float] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def epoch(self, row) -> None:
        self.rates.append(row["images_per_second"])


def sustained(train_set: Dataset, val_set: Dataset, size: Size, *, arithmetic: Arithmetic) -> dict[str, object]:
    """Training at a batch that fills the card, on resident images: the loop's own rate, and what its parts take."""
    recipe = replace(
        BASELINE, weights="random", backbone=size.backbone, image_size_px=size.input_px, batch_size=size.sustained_batch,
        epochs=size.sustained_epochs, device=arithmetic.device, precision=arithmetic.precision, cache="gpu",
    )  # fmt: skip
    small_val = val_set.take(range(16))
    started = time.perf_counter()
    clock = Clock()
    context = TrainingContext(recipe=recipe, train_set=train_set, val_set=small_val, arithmetic=arithmetic, callback=clock)
    sources = open_image_sources(context, has_probe=False)
    decoding = time.perf_counter() - started
    model = build_model(size.backbone, num_classes=NUM_CLASSES).to(arithmetic.device)
    train_loop(model, context, state=State(data_fingerprint="", classes=[]), sources=sources)
    rates = clock.rates[1:]  # the first epoch captures the graph
    parts = parts_of_a_step(context, sources, model=model, size=size)
    per_image = {name: 1e6 * seconds / size.sustained_batch for name, seconds in parts.items()}
    loop_us = 1e6 / float(np.median(rates))
    return {
        "batch": size.sustained_batch,
        "images_per_second": {"min": min(rates), "median": float(np.median(rates)), "max": max(rates), "n_epochs": len(rates)},
        "decoding_all_images_seconds": decoding,
        "microseconds_an_image": {**per_image, "loop": loop_us},
        "limit": limit(per_image, loop_us),
        "notes": clock.notes,
    }


def parts_of_a_step(context: TrainingContext, sources, *, model: torch.nn.Module, size: Size) -> dict[str, float]:
    """Seconds of a batch: chance drawn on the processor; augmentation alone; the whole step up to gradients; the optimizer."""
    device, rows = context.arithmetic.device, np.arange(size.sustained_batch)
    target_NC = torch.from_numpy(np.array(context.train_set.target_NC[rows]))
    step = make_step(model.train(), replace(context, callback=SilentCallback()), sources=sources)
    optimizer = make_optimizer(model, context.recipe)
    (batch,) = sources.loader.batches([rows], epoch=1)
    inputs = tuple(tensor.to(device) for tensor in batch.inputs)
    step(batch.inputs, target_NC, 1.0)  # captures
    return {
        "chance": seconds_of(lambda: list(sources.loader.batches([rows], epoch=2)), device="cpu", repeats=size.repeats),
        "augmentation": seconds_of(lambda: sources.loader.pixels(*inputs), device=device, repeats=size.repeats),
        "step": seconds_of(lambda: step(batch.inputs, target_NC, 1.0), device=device, repeats=size.repeats),
        "optimizer": seconds_of(optimizer.step, device=device, repeats=size.repeats),
    }


def limit(per_image: dict[str, float], loop_us: float) -> str:
    """In a sentence, what the loop waits for."""
    device = per_image["step"] + per_image["optimizer"]
    if device > 0.85 * loop_us:
        share = per_image["augmentation"] / per_image["step"]
        return (
            f"the card's own work: {device / loop_us:.0%} of the loop's time; augmentation alone would be {share:.0%} of the step"
        )
    if per_image["chance"] > 0.85 * loop_us:
        return "the processor, which draws the choices of augmentation one image at a time"
    return f"the processor between the steps: the card's own work is {device / loop_us:.0%} of the loop's time"


def same_answers(train_set: Dataset, val_set: Dataset, size: Size, *, arithmetic: Arithmetic) -> dict[str, float]:
    """The fast ways beside the plain ones, on this device: images, logits, gradients."""
    recipe = replace(
        BASELINE, weights="random", backbone=size.backbone, image_size_px=size.input_px, device=arithmetic.device,
        precision=arithmetic.precision, cache="gpu",
    )  # fmt: skip
    few, few_val = train_set.take(range(32)), val_set.take(range(16))
    context = TrainingContext(recipe=recipe, train_set=few, val_set=few_val, arithmetic=arithmetic)
    sources = open_image_sources(context, has_probe=False)
    plain = uncached_sources(context).loader
    std = torch.tensor(context.preprocessing.std, device=arithmetic.device) * 255
    pixels = []
    for loader in (plain, sources.loader):
        (batch,) = loader.batches([np.arange(16)], epoch=1)
        pixels.append(loader.pixels(*(tensor.to(arithmetic.device) for tensor in batch.inputs)).float())
    levels_apart = (pixels[0] - pixels[1]).abs() * std[:, None, None]

    torch.manual_seed(0)
    model = build_model(size.backbone, num_classes=NUM_CLASSES).to(arithmetic.device).eval()
    outputs = []
    for precision in ("fp32", arithmetic.precision):
        with torch.inference_mode(), Arithmetic(device=arithmetic.device, precision=precision).autocast():
            outputs.append(logits(model, pixels[0]))
    grads = []
    target_NC = torch.from_numpy(np.array(few.target_NC[:16]))
    (batch,) = sources.loader.batches([np.arange(16)], epoch=1)
    step = make_step(model.train(), context, sources=sources)
    plain_step = getattr(step, "__self__", None)
    plain_step = getattr(plain_step, "step", plain_step)  # the step that a graph was captured from
    inputs = tuple(tensor.to(arithmetic.device) for tensor in batch.inputs)
    plain_step(inputs, target_NC.to(arithmetic.device), torch.tensor(1.0, device=arithmetic.device))
    grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    step(batch.inputs, target_NC, 1.0)
    grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return {
        "training_pixels_mean_levels_apart": float(levels_apart.mean()),
        "training_pixels_within_one_level": float((levels_apart < 1.01).float().mean()),
        "training_pixels_max_levels_apart": float(levels_apart.max()),
        "logits_bf16_to_fp32_max_apart": float((outputs[0] - outputs[1]).abs().max()),
        "gradients_graph_to_plain_cosine": float(torch.nn.functional.cosine_similarity(grads[0], grads[1], dim=0)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="few small images on the processor; nothing is written")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print("skipped: no GPU here; `--dry-run` runs every line that needs none")
        return
    size, device = (DRY, "cpu") if options.dry_run else (FULL, "cuda")
    if device == "cpu":
        keep_freed_memory()  # as the commands do
    arithmetic = choose_arithmetic(device, "bf16")
    result: dict[str, object] = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "size": vars(size)}

    def measured(name: str, value: object) -> None:
        result[name] = value
        print(name, json.dumps(value), flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        data = write_images(folder / "data", size)
        dataset = load_dataset(data)
        train_set, val_set = dataset.split("train"), dataset.split("val")
        kilobytes = np.mean([path.stat().st_size for path in train_set.paths[:500]]) / 1000
        measured("images", {"kilobytes": float(kilobytes), "writing_seconds": time.perf_counter() - started})
        measured("job", the_job(data, size, folder, device=device))
        measured("plain", plain_loop(train_set, val_set, size, device=device))
        measured("same_answers", same_answers(train_set, val_set, size, arithmetic=arithmetic))
        measured("sustained", sustained(train_set, val_set, size, arithmetic=arithmetic))
        measured("peak_bf16_tflops", peak_tflops(size, device=device))
        measured("gflops_an_image", step_gflops(size))
    rate = result["sustained"]["images_per_second"]["median"]
    measured("share_of_peak", rate * result["gflops_an_image"] / 1000 / result["peak_bf16_tflops"])
    measured("times_shorter_than_plain", result["plain"]["scaled_to_the_job_seconds"] / result["job"]["seconds"])
    if not options.dry_run:
        measured(
            "goals",
            {
                "job_at_most_30_s": result["job"]["seconds"] <= 30,
                "fifty_times_shorter": result["times_shorter_than_plain"] >= 50,
                "sustained_12000_images_per_second": rate >= 12_000,
            },
        )
        write("gpu", result)


if __name__ == "__main__":
    main()
