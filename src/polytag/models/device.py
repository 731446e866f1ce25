"""Where and in which precision the arithmetic runs; decided once, from what the processor can do."""

import contextlib
import ctypes
import sys
from collections.abc import Generator
from dataclasses import dataclass

import torch

from polytag import machine
from polytag.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """A device and a precision that it has.

    device     "cpu" or "cuda"
    precision  "fp32" or "bf16" (autocast: weights stay float32, convolutions and products run in bfloat16)
    """

    device: str
    precision: str

    @contextlib.contextmanager
    def autocast(self) -> Generator[None]:
        """Runs the block in this precision."""
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            yield


def choose_arithmetic(device: str = "auto", precision: str = "auto") -> Arithmetic:
    """The fastest that this machine has, or what was asked for; raises UsageError for what it does not have.

    bfloat16 is chosen where the processor multiplies it natively (AVX512-BF16, AMX, or a GPU of compute capability 8 and up): it is
    then about twice as fast, and mean average precision differs in the third decimal. Elsewhere it is emulated, and slower.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError("unknown device", where="--device", got=repr(device), expected="auto, cpu or cuda")
    if precision not in ("auto", "fp32", "bf16"):
        raise UsageError("unknown precision", where="--precision", got=repr(precision), expected="auto, fp32 or bf16")
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise UsageError(
            "no CUDA device", where="--device", got="cuda", expected="a GPU that PyTorch sees", next_step="use --device cpu"
        )
    chosen = "cuda" if has_cuda and device != "cpu" else "cpu"
    if chosen == "cpu":
        _keep_freed_memory()
    if precision == "auto":
        precision = "bf16" if _has_native_bf16(chosen) else "fp32"
    return Arithmetic(device=chosen, precision=precision)


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next batch, and not give every large tensor back to the system.

    Activations are tens of megabytes; by default each is mapped, zeroed page by page and unmapped again, which takes a third of
    the time of a forward pass (docs/experiments.md). A thread's own heap would give it back still, so all threads share one.
    Touches this process alone; other C libraries lack these settings.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # malloc.h
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**26)
    mallopt(mmap_max, 0)
    mallopt(arena_max, 1)


def _has_native_bf16(device: str) -> bool:
    return torch.cuda.get_device_capability()[0] >= 8 if device == "cuda" else machine.has_native_bf16()
