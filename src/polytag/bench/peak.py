"""Peak arithmetic of a machine, by matrix products and 3 x 3 convolutions, and the operations of a network."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from polytag.models.heads import logits

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_SIDE = {"cpu": 2048, "cuda": 8192}
_CONVOLUTIONS = ((64, 56), (128, 28), (256, 14))  # channels and side in pixels: ResNet's
_IMAGES = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The best measured rates, in billions of floating-point operations per second (a multiplication and a sum are two)."""

    product_gflops: float
    convolution_gflops: float


def measure_peak(device: str, precision: str, *, seconds: float = 0.5) -> Peak:
    """Peak of a device in "fp32" or "bf16", with PyTorch's number of threads; takes about `seconds` for each of four kernels."""
    dtype, side = _DTYPES[precision], _SIDE[device]
    with torch.inference_mode():
        left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
        product = 2 * side**3 / best_seconds(lambda: left @ right, device=device, seconds=seconds)
        convolution = max(
            _convolution_rate(channels, px, device=device, dtype=dtype, seconds=seconds) for channels, px in _CONVOLUTIONS
        )
    return Peak(product_gflops=product / 1e9, convolution_gflops=convolution / 1e9)


def _convolution_rate(channels: int, side_px: int, *, device: str, dtype: torch.dtype, seconds: float) -> float:
    num_images = _IMAGES[device]
    pixels = torch.ones(num_images, channels, side_px, side_px, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    weight = torch.ones(channels, channels, 3, 3, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    num_flop = 2 * num_images * channels * channels * 9 * side_px**2
    return num_flop / best_seconds(lambda: F.conv2d(pixels, weight, padding=1), device=device, seconds=seconds)


def best_seconds(work: Callable[[], object], *, device: str, seconds: float) -> float:
    """The shortest time of the runs within `seconds`, at least three, after one warm-up run."""
    work()
    wait_for(device)
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        work()
        wait_for(device)
        times.append(time.perf_counter() - started)
    return min(times)


def wait_for(device: str) -> None:
    """Wait until the device has finished all submitted work."""
    if device == "cuda":
        torch.cuda.synchronize()


def flop_of_image(model: nn.Module, image_size_px: int) -> tuple[float, float]:
    """Floating-point operations of one image: of a forward pass, and of a training step's forward and backward passes.

    Counted by PyTorch at convolutions and products, on the model's device. Gradients and statistics do not change.
    """
    device = next(model.parameters()).device
    training, buffers = model.training, {name: value.clone() for name, value in model.named_buffers()}
    pixels = torch.zeros(2, 3, image_size_px, image_size_px, device=device)
    try:
        forward = _flop(lambda: logits(model.eval(), pixels).detach())
        step = _flop(lambda: torch.autograd.grad(logits(model.train(), pixels).sum(), _trainable(model)))
    finally:
        model.train(training)
        model.load_state_dict(buffers, strict=False)
    return forward / 2, step / 2


def _flop(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _trainable(model: nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
