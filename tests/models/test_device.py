"""Where the arithmetic runs."""

import pytest

from polytag.errors import UsageError
from polytag.models.device import choose_arithmetic


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
