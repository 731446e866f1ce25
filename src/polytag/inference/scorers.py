"""A model that is ready to score images: a checkpoint in PyTorch, or an export in ONNX Runtime without torch."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from polytag.errors import UsageError
from polytag.inference.scored import Scored
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported

ENGINES = ("auto", "torch", "onnx")


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
    it does not have."""
    if engine not in ENGINES:
        raise UsageError("unknown engine", where="--engine", got=repr(engine), expected=" or ".join(ENGINES))
    if isinstance(model, Exported):
        from polytag.inference.onnx_scorer import OnnxScorer

        own = {"--engine": "onnx", "--device": "cpu", "--precision": model.precision}
        for option, value in (("--engine", engine), ("--device", device), ("--precision", precision)):
            if value not in ("auto", own[option]):
                raise UsageError(
                    "an export computes on the processor, in its own precision",
                    where=option,
                    got=repr(value),
                    expected=f"auto or {own[option]}",
                    next_step="use the checkpoint that it was made from",
                )
        return OnnxScorer(model)
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
