"""A training step in float32, in bfloat16 with oneDNN's gradients, and in bfloat16 as it is, on this processor, in turn.

    python benchmarks/step_precision.py [--backbones tf_efficientnet_lite0 mobilenetv2_100] [--sizes 128 224] [--turns 5]

Random weights and pixels. A step is that of training (forward, loss, backward, optimizer, average), with the statistics of batch
normalisation frozen, as in `finetune`. `share_used` is processor time over what the cores had: a step that waits is below 1.
"""

import argparse
import os
import statistics
import time
from contextlib import nullcontext

import torch

from machine import write
from polytag import FINETUNE
from polytag.allocator import keep_freed_memory
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.training import step
from polytag.training.depthwise import DepthwiseGradients
from polytag.training.learner import Learner
from polytag.training.losses import binary_cross_entropy

SIDES = ("fp32", "bf16, oneDNN's gradients", "bf16")
NUM_CLASSES = 20
LEAST_SECONDS = 4.0  # of a turn


class Side:
    """A network that learns in one way."""

    def __init__(self, backbone: str, size_px: int, name: str):
        self.depthwise = nullcontext if "oneDNN" in name else DepthwiseGradients
        torch.manual_seed(0)
        model = build_model(backbone, num_classes=NUM_CLASSES).to(memory_format=torch.channels_last)
        self.learner = Learner.begin(model, FINETUNE)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        self.pixels = torch.randn(FINETUNE.batch_size, 3, size_px, size_px).to(memory_format=torch.channels_last)
        self.target_NC = (torch.rand(FINETUNE.batch_size, NUM_CLASSES) < 0.1).float()
        self.step = step.Step(
            model=model,
            pixels=lambda pixels: pixels,
            loss_of=binary_cross_entropy,
            weight_C=None,
            arithmetic=Arithmetic(device="cpu", precision=name[:4]),
        )
        self.once()

    def once(self) -> None:
        step.DepthwiseGradients = self.depthwise
        self.step.on_cpu((self.pixels,), self.target_NC, 1.0)
        self.learner.optimizer.step()
        self.learner.update_average(decay=0.99)

    def turn(self) -> tuple[float, float]:
        """Seconds an image, of the wall and of the processor."""
        wall, processor, num = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - wall < LEAST_SECONDS:
            self.once()
            num += FINETUNE.batch_size
        return (time.perf_counter() - wall) / num, (time.process_time() - processor) / num


def compared(backbone: str, size_px: int, *, turns: int) -> dict[str, object]:
    sides = {name: Side(backbone, size_px, name) for name in SIDES}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for _ in range(turns):
        for name, side in sides.items():
            taken[name].append(side.turn())
    first = SIDES[0]

    def over_float32(name: str) -> dict[str, float]:
        ratios = [one[0] / other[0] for one, other in zip(taken[name], taken[first], strict=True)]
        return {told: round(of(ratios), 3) for told, of in (("median", statistics.median), ("min", min), ("max", max))}

    return {
        "backbone": backbone,
        "image_size_px": size_px,
        "turns": turns,
        **{
            name: {
                "seconds_an_image": round(statistics.median(wall for wall, _ in each), 4),
                "share_used": round(statistics.median(processor / wall for wall, processor in each) / torch.get_num_threads(), 2),
                **({"over_fp32": over_float32(name)} if name != first else {}),
            }
            for name, each in taken.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--backbones", nargs="+", default=["tf_efficientnet_lite0", "tf_efficientnet_lite2", "mobilenetv2_100", "convnext_atto"]
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 224])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    load, results = os.getloadavg()[0], []
    for backbone in options.backbones:
        for size_px in options.sizes:
            results.append(compared(backbone, size_px, turns=options.turns))
            print(results[-1], flush=True)
    write("step_precision", {"load_before": round(load, 2), "threads": torch.get_num_threads(), "results": results})


if __name__ == "__main__":
    main()
