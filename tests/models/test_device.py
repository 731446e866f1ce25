"""Where the arithmetic runs, and the memory it keeps."""

import subprocess
import sys

import pytest

from polytag.errors import UsageError
from polytag.models.device import choose_arithmetic

_FAULTS = """
import resource, sys
import torch
from polytag.models.device import choose_arithmetic
if sys.argv[1] == "keep":
    choose_arithmetic("cpu", "fp32")
def work():
    for _ in range(20):
        torch.zeros(20_000_000) + 1
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_freed_memory_is_kept_for_the_next_batch():
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < faults("plain") / 10


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError) as error:
        choose_arithmetic("cuda")
    assert str(error.value) == (
        "no CUDA device\n  where: --device\n  got: cuda\n  expected: a GPU that PyTorch sees\n  next: use --device cpu"
    )
    with pytest.raises(UsageError) as error:
        choose_arithmetic("cpu", "fp16")
    assert str(error.value) == "unknown precision\n  where: --precision\n  got: 'fp16'\n  expected: auto, fp32 or bf16"
    assert choose_arithmetic("cpu", "fp32").precision == "fp32"
