"""`measure_speed`: rates of decoding, forward passes and training steps, compared with the machine's peak arithmetic.

Images are generated in VOC's size; weights are random, because speed does not depend on them.
"""

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from polytag.bench.images import write_images
from polytag.bench.peak import Peak, best_seconds, flop_of_image, measure_peak, wait_for
from polytag.data.images.augment import augmentation, augmented
from polytag.data.images.read import read_image
from polytag.inference.predictor import apply, run, scoring_batch_size, to_input
from polytag.machine import num_cores, processor
from polytag.models.backbone import build_model, require_input_size
from polytag.models.device import Arithmetic, choose_arithmetic
from polytag.models.fused import freeze
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training.learner import make_optimizer
from polytag.training.losses import binary_cross_entropy
from polytag.training.preprocessing import preprocessing_of
from polytag.training.step import Step

NUM_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The rate of one kind of work.

    images_per_second   of the whole machine
    milliseconds        per batch
    gflops              billions of floating-point operations per second, 0 where none are counted
    peak_share          gflops over the machine's convolution peak in the same precision
    """

    images_per_second: float
    milliseconds: float
    gflops: float = 0.0
    peak_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The result of `measure_speed`.

    load_before   load average of the machine before the measurement
    scoring       "fused" or "plain": the kind of forward pass
    peaks         precision -> peak rates of the arithmetic
    rates         decode_core (one core), decode (all), forward, predict (from file to score), step
    input_share   share of decoding in the time of a training step without cache and overlap
    """

    processor: str
    num_cores: int
    num_threads: int
    load_before: float
    device: str
    precision: str
    backbone: str
    image_size_px: int
    batch_size: int
    scoring: str
    gflop_forward: float
    gflop_step: float
    peaks: dict[str, Peak]
    rates: dict[str, Rate]
    input_share: float

    def to_json(self) -> dict[str, object]:
        """The JSON object of `polytag bench --json`."""
        return asdict(self)


def measure_speed(
    *,
    backbone: str = FINETUNE.backbone,
    image_size_px: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    seconds: float = 2.0,
    note: Callable[[str], None] = lambda what: None,
) -> Speed:
    """Measure this machine, with `seconds` for each of a dozen numbers; `note` receives the name of each measurement.

    Raises UsageError for an unusable backbone, size, device or precision.
    """
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    arithmetic = choose_arithmetic(device, precision)
    recipe = replace(FINETUNE, backbone=backbone, image_size_px=image_size_px, weights="random")
    size_px = preprocessing_of(recipe).image_size_px
    model = build_model(backbone, num_classes=NUM_CLASSES, image_size_px=size_px)
    require_input_size(model, backbone=backbone, image_size_px=size_px)
    model = model.to(arithmetic.device)
    forward_flop, step_flop = flop_of_image(model, size_px)

    note("peak of the arithmetic")
    peaks = {name: measure_peak(arithmetic.device, name, seconds=seconds / 4) for name in sorted({"fp32", arithmetic.precision})}
    peak = peaks[arithmetic.precision].convolution_gflops

    def rate(taken: float, num_images: int, flop: float = 0.0) -> Rate:
        gflops = flop * num_images / taken / 1e9
        return Rate(images_per_second=num_images / taken, milliseconds=1000 * taken, gflops=gflops, peak_share=gflops / peak)

    frozen = freeze(model, arithmetic=arithmetic, image_size_px=size_px)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        note("decoding")
        one_core, all_cores = (_decoding_seconds(paths, recipe, num_threads=number, seconds=seconds) for number in (1, num_cores()))
        note("prediction, from files")
        repeated = paths * max(1, round(2 * seconds * torch.get_num_threads() * scoring_batch_size(arithmetic) / len(paths)))
        predicting = _seconds_of_all(
            lambda: list(run(frozen.logits, repeated, preprocessing=preprocessing_of(recipe), arithmetic=arithmetic)), arithmetic
        )
    note("forward pass")
    batch_size = scoring_batch_size(arithmetic)
    forward = _forward_seconds(frozen.logits, recipe, arithmetic, batch_size=batch_size, seconds=seconds)
    note("training step")
    step = _step_seconds(model, recipe, arithmetic, seconds=seconds)
    input_seconds = recipe.batch_size * all_cores / len(paths)
    return Speed(
        processor=processor(),
        num_cores=num_cores(),
        num_threads=torch.get_num_threads(),
        load_before=round(load_before, 2),
        device=arithmetic.device if arithmetic.device == "cpu" else torch.cuda.get_device_name(),
        precision=arithmetic.precision,
        backbone=backbone,
        image_size_px=size_px,
        batch_size=recipe.batch_size,
        scoring=frozen.how,
        gflop_forward=forward_flop / 1e9,
        gflop_step=step_flop / 1e9,
        peaks=peaks,
        rates={
            "decode_core": rate(one_core, len(paths)),
            "decode": rate(all_cores, len(paths)),
            "forward": rate(forward, _num_workers(arithmetic) * batch_size, forward_flop),
            "predict": rate(predicting, len(repeated), forward_flop),
            "step": rate(step, recipe.batch_size, step_flop),
        },
        input_share=input_seconds / (input_seconds + step),
    )


def _decoding_seconds(paths: list[Path], recipe: Recipe, *, num_threads: int, seconds: float) -> float:
    """Seconds to decode, crop and augment all images as for training."""
    preset = augmentation(recipe.augment)

    def read(row: int) -> None:
        augmented(read_image(paths[row]), preset, preprocessing_of(recipe), np.random.default_rng(row))

    with ThreadPoolExecutor(num_threads) as pool:
        return best_seconds(lambda: list(pool.map(read, range(len(paths)))), device="cpu", seconds=seconds)


def _num_workers(arithmetic: Arithmetic) -> int:
    return torch.get_num_threads() if arithmetic.device == "cpu" else 1


def _forward_seconds(
    forward: Callable[[torch.Tensor], torch.Tensor], recipe: Recipe, arithmetic: Arithmetic, *, batch_size: int, seconds: float
) -> float:
    """Seconds per batch of decoded images in each worker."""
    size_px = preprocessing_of(recipe).image_size_px
    pixels = np.full((batch_size, 1, size_px, size_px, 3), 127, np.uint8)

    def work(_: int) -> None:
        if arithmetic.device == "cpu":
            torch.set_num_threads(1)
        apply(forward, pixels, preprocessing=preprocessing_of(recipe), arithmetic=arithmetic)

    num_threads, num_workers = torch.get_num_threads(), _num_workers(arithmetic)
    try:
        with ThreadPoolExecutor(num_workers) as pool:
            return best_seconds(lambda: list(pool.map(work, range(num_workers))), device=arithmetic.device, seconds=seconds)
    finally:
        torch.set_num_threads(num_threads)


def _step_seconds(model: torch.nn.Module, recipe: Recipe, arithmetic: Arithmetic, *, seconds: float) -> float:
    """Seconds per training step on a decoded batch: forward, loss, backward, optimizer."""
    size_px, device = preprocessing_of(recipe).image_size_px, arithmetic.device
    pixels = torch.full((recipe.batch_size, size_px, size_px, 3), 127, dtype=torch.uint8, device=device)
    targets = torch.zeros(recipe.batch_size, NUM_CLASSES, dtype=torch.int8, device=device)
    step = Step(
        model=model.train(),
        pixels=lambda batch: to_input(batch, preprocessing_of(recipe), device),
        loss_of=binary_cross_entropy,
        weight_C=None,
        arithmetic=arithmetic,
    )
    optimizer, scale = make_optimizer(model, recipe), torch.ones((), device=device)

    def work() -> None:
        step((pixels,), targets, scale)
        optimizer.step()

    return best_seconds(work, device=device, seconds=seconds)


def _seconds_of_all(work: Callable[[], object], arithmetic: Arithmetic) -> float:
    work()
    started = time.perf_counter()
    work()
    wait_for(arithmetic.device)
    return time.perf_counter() - started
