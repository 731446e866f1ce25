"""A model that is ready to score images: a checkpoint in PyTorch, or an export in ONNX Runtime or OpenVINO without torch."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from polytag.errors import UsageError
from polytag.inference.scored import Scored
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import PRECISIONS, Exported

ENGINES = ("auto", "torch", "onnx", "openvino")
FASTEST_FIRST = {"fp32": ("onnx", "openvino"), "int8": ("openvino", "onnx")}  # measured in docs/experiments.md
_LIBRARY_OF = {"openvino": "openvino", "onnx": "onnxruntime"}


class Scorer(Protocol):
    """What every engine can do.

    Calls of `logits_of` may run side by side, on one core each, in threads that have called `prepare_thread`.
    """

    @property
    def engine(self) -> str:
        """One of ENGINES, but not auto."""
        ...

    @property
    def precision(self) -> str:
        """Of the arithmetic, such as fp32."""
        ...

    def prepare_thread(self) -> None:
        """Let the engine compute on one core in the thread that calls this."""
        ...

    def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
        """Calibrated float32 logits, N x C, of N >= 1 images given as views: uint8 N x V x S x S x 3 (`data.images.augment.views`).

        Raises CheckpointError or ExportError where the model fails.
        """
        ...

    def score_rows(self, num_rows: int, read: Callable[[int], np.ndarray]) -> Iterator[Scored]:
        """Calibrated logits of rows 0 to num_rows - 1, batch by batch and in order, in constant memory.

        `read` returns the views of a row, uint8 V x S x S x 3, in threads; a row for which it raises ImageError is among the
        failures. Raises as `logits_of` does.
        """
        ...


def scorer_of(model: Checkpoint | Exported, *, engine: str = "auto", device: str = "auto", precision: str = "auto") -> Scorer:
    """Load a model. Raises CheckpointError or ExportError where it is damaged, UsageError for an engine, device or precision that
    it does not have, MissingExtraError for an engine that is not installed.

    Of an export, `precision` "auto" is fp32, which decides as the checkpoint does, and `engine` "auto" the fastest that is
    installed of those that the folder was written for.
    """
    if engine not in ENGINES:
        raise UsageError("unknown engine", where="--engine", got=repr(engine), expected=" or ".join(ENGINES))
    if isinstance(model, Exported):
        return _scorer_of_export(model, engine=engine, device=device, precision=precision)
    if engine not in ("auto", "torch"):
        raise UsageError(
            "a checkpoint is scored by PyTorch",
            where="--engine",
            got=repr(engine),
            expected="auto or torch",
            next_step="`polytag export MODEL OUT` writes what other engines run",
        )
    from polytag.inference.predictor import Predictor  # imports torch

    return Predictor.load(model, device=device, precision=precision)


def _scorer_of_export(exported: Exported, *, engine: str, device: str, precision: str) -> Scorer:
    if device not in ("auto", "cpu"):
        raise UsageError(
            "an export computes on the processor",
            where="--device",
            got=repr(device),
            expected="auto or cpu",
            next_step="use the checkpoint that it was made from",
        )
    there = [(own, kind) for kind in PRECISIONS for own in FASTEST_FIRST[kind] if exported.has(own, kind)]
    if not there:
        raise UsageError(
            "the export holds no graph that polytag runs",
            where=str(exported.folder),
            got=", ".join(exported.files),
            expected="graphs for onnx or openvino",
            next_step="`polytag export MODEL OUT --to onnx,executorch` writes both",
        )
    wanted = "fp32" if precision == "auto" else precision
    of_precision = [own for own, kind in there if kind == wanted]
    if not of_precision:
        raise UsageError(
            "the export does not hold this precision",
            where="--precision",
            got=repr(precision),
            expected=" or ".join(("auto", *dict.fromkeys(kind for _, kind in there))),
            next_step="export again, with --int8 for int8, or use the checkpoint that it was made from",
        )
    if engine not in ("auto", *of_precision):
        raise UsageError(
            f"the export does not hold this engine in {wanted}",
            where="--engine",
            got=repr(engine),
            expected=" or ".join(("auto", *of_precision)),
            next_step="export again with --to, or use the checkpoint that it was made from",
        )
    if engine == "auto":
        engine = next((own for own in of_precision if find_spec(_LIBRARY_OF[own])), of_precision[0])
    if engine == "openvino":
        from polytag.inference.openvino_scorer import OpenVinoScorer

        return OpenVinoScorer.load(exported, precision=wanted)
    from polytag.inference.onnx_scorer import OnnxScorer

    return OnnxScorer.load(exported, precision=wanted)
