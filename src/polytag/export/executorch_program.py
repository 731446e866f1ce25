"""`pixels.pte`: the graph from resized images to decisions as a program of ExecuTorch, for phones and small devices.

It computes what `pixels.onnx` does: the network in float32 by XNNPACK, calibration, probabilities and decisions in float64. polytag
itself does not score with it; the gate runs it with ExecuTorch's own runtime.
"""

import contextlib
import os
import sys
from collections.abc import Generator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from polytag.calibration import Calibration
from polytag.contracts import Preprocessing
from polytag.data.images.augment import NUM_VIEWS
from polytag.errors import ExportError
from polytag.export.decision_graph import Lines, lines_of, lowest_thresholds
from polytag.export.engine_graphs import EngineGraph
from polytag.export.gate import Answer
from polytag.export.quiet import quiet
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import PIXELS_OF

MAX_IMAGES = 15  # of one call: memory for so many is planned


def executorch_program(checkpoint: Checkpoint) -> EngineGraph:
    """`pixels` for ExecuTorch; raises ExportError for a network that it cannot hold."""
    module = _Pixels(
        checkpoint.load_model(),
        checkpoint.preprocessing,
        calibration=checkpoint.calibration,
        thresholds=checkpoint.thresholds,
    ).eval()
    size_px, num_views = checkpoint.preprocessing.image_size_px, NUM_VIEWS[checkpoint.preprocessing.crops]
    shape = (num_views,) if num_views > 1 else ()
    example = torch.zeros(2, *shape, size_px, size_px, 3, dtype=torch.uint8)
    with quiet(), _silent():
        exir = import_module("executorch.exir")  # no extra of a checkout, so no checker knows its types
        xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        try:
            images = torch.export.Dim("images", min=1, max=MAX_IMAGES + 1)  # of 16, ExecuTorch 1.5 plans 15 or 16
            program = torch.export.export(module, (example,), dynamic_shapes=({0: images},))
            content = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch().buffer
        except Exception as error:  # whatever the exporters raise for an operation that they do not know
            raise ExportError(
                "the network cannot be exported to ExecuTorch",
                where=str(checkpoint.folder),
                got=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
                expected="operations that ExecuTorch knows",
                next_step="export without executorch, or train another backbone",
            ) from error
    return EngineGraph(
        engine="executorch", precision="fp32", contents=dict(zip(PIXELS_OF["executorch", "fp32"], [bytes(content)], strict=True))
    )


def answer_by_executorch(content: bytes, *, name: str) -> Answer:
    """How a program answers in ExecuTorch's runtime; raises ExportError where it cannot be run."""
    with _silent(), _explained(name):
        program = import_module("executorch.runtime").Runtime.get().load_program(content)
        method = program.load_method("forward")
    return partial(_answer, (content, program), method, name)


def _answer(_alive: object, method: Any, name: str, _: Image.Image, view: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one image; the method reads the bytes and the program, which it does not keep alive."""
    pixels = torch.from_numpy(np.ascontiguousarray(view if len(view) == 1 else view[None]))
    with _silent(), _explained(name):
        logit_NC, probability_NC, present_NC = (output.numpy().copy() for output in method.execute([pixels]))
    return logit_NC[0], probability_NC[0], present_NC[0].astype(bool)


class _Pixels(nn.Module):
    """uint8 N x S x S x 3, or N x V x S x S x 3, to logit (float32), probability (float32) and present (bool), N x C each."""

    _mean: Tensor
    _std: Tensor
    _threshold_C: Tensor
    _first_C: Tensor  # and the others of `Lines`, where there is a calibration
    _last_C: Tensor
    _base_C: Tensor
    _slope_C: Tensor
    _start_CK: Tensor
    _width_CK: Tensor
    _rise_CK: Tensor

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, *, calibration: Calibration | None, thresholds: tuple[float, ...]
    ):
        super().__init__()
        self._network = network.to(memory_format=torch.contiguous_format)
        self._num_views, self._num_classes = NUM_VIEWS[preprocessing.crops], len(thresholds)
        for name, values in (("_mean", preprocessing.mean), ("_std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values).mul(255).reshape(1, 3, 1, 1))
        self.register_buffer("_threshold_C", torch.from_numpy(lowest_thresholds(thresholds)))
        self._lines: Lines | None = None if calibration is None else lines_of(calibration)
        for name, value in ({} if self._lines is None else vars(self._lines)).items():
            if value.size:  # no map may have knots
                self.register_buffer(f"_{name}", torch.from_numpy(value))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise views, score them, average them by image, calibrate and decide."""
        views = pixels.flatten(0, 1) if self._num_views > 1 else pixels
        logit_NC = self._network((views.permute(0, 3, 1, 2).to(torch.float32) - self._mean) / self._std)
        if self._num_views > 1:
            logit_NC = logit_NC.reshape(-1, self._num_views, self._num_classes).mean(dim=1)
        if self._lines is not None:
            logit_NC = self._calibrated(logit_NC.to(torch.float64)).to(torch.float32)
        probability_NC = torch.sigmoid(logit_NC.to(torch.float64))
        return logit_NC, probability_NC.to(torch.float32), probability_NC > self._threshold_C

    def _calibrated(self, logit_NC: Tensor) -> Tensor:
        below_NC = (logit_NC - self._first_C).clamp(max=0.0)
        above_NC = (logit_NC - self._last_C).clamp(min=0.0)
        line_NC = (below_NC + above_NC) * self._slope_C + self._base_C
        if self._lines is None or not self._lines.rise_CK.size:
            return line_NC
        inside_NCK = torch.minimum((logit_NC[:, :, None] - self._start_CK).clamp(min=0.0), self._width_CK)
        return line_NC + (inside_NCK * self._rise_CK).sum(dim=2)


@contextlib.contextmanager
def _silent() -> Generator[None]:
    """ExecuTorch's runtime writes of its search for the processor's name to the process's stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _explained(where: str) -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ExportError(
            "ExecuTorch cannot run the program",
            where=where,
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="a program that `polytag export` made",
            next_step="export without executorch",
        ) from error
