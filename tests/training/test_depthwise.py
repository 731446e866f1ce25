"""Depthwise convolutions of bfloat16 on a processor: our gradients are those of float64, to what bfloat16 can hold."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.training.depthwise import DepthwiseGradients
from polytag.training.losses import binary_cross_entropy
from polytag.training.step import Step

OURS = "_DepthwiseBackward"


def learned(convolve: Callable[[Tensor], Tensor], pixels: Tensor, parameters: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The output under autocast, and the gradients of a fixed weighted sum of it."""
    with DepthwiseGradients():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = convolve(pixels)
        weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        grads = torch.autograd.grad((out.float() * weights).sum(), [pixels, *parameters])
    return out, list(grads)


def wanted(convolve: Callable[[Tensor], Tensor], pixels: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    out = convolve(pixels)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape).bfloat16()  # the gradient as it reaches the convolution
    return list(torch.autograd.grad((out * weights.double()).sum(), [pixels, *parameters]))


def rounded(*shape: int) -> Tensor:
    """Random numbers that bfloat16 holds, so that nothing but the convolution rounds."""
    return torch.randn(*shape).bfloat16().float()


@pytest.mark.parametrize(
    ("size", "stride", "padding", "height", "width"),
    [
        (3, 1, 1, 8, 11), (3, 2, 1, 8, 11), (3, 2, 0, 9, 8), (5, 1, 2, 9, 7), (5, 2, 2, 10, 9), (5, 2, 0, 12, 11), (5, 3, 2, 13, 8),
        (5, 1, 4, 6, 6), (7, 1, 3, 9, 8), (7, 2, 3, 11, 14), (7, 1, 0, 7, 7), (5, 2, 1, 5, 5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_bias", [False, True])
def test_gradients_are_those_of_float64(size: int, stride: int, padding: int, height: int, width: int, has_bias: bool):
    torch.manual_seed(size)
    pixels = rounded(3, 8, height, width).requires_grad_()
    parameters = [rounded(8, 1, size, size).requires_grad_(), *([rounded(8).requires_grad_()] if has_bias else [])]

    def convolve(pixels: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        return F.conv2d(pixels, weight, bias[0] if bias else None, stride, padding, groups=8)

    out, found = learned(lambda pixels: convolve(pixels, *parameters), pixels, parameters)
    assert out.grad_fn is not None
    assert out.grad_fn.name() == OURS
    exact = [each.detach().double().requires_grad_() for each in (pixels, *parameters)]
    for got, right in zip(found, wanted(lambda pixels: convolve(pixels, *exact[1:]), exact[0], exact[1:]), strict=True):
        assert got.dtype == torch.float32
        assert (got - right).abs().max() <= 0.01 * right.abs().max()


def test_padding_as_tensorflow_pads_is_learned_alike():
    torch.manual_seed(0)
    layer = Conv2dSame(8, 8, 5, stride=2, groups=8, bias=False)
    weight = layer.get_parameter("weight")
    weight.data.copy_(rounded(8, 1, 5, 5))
    pixels = rounded(2, 8, 10, 13).requires_grad_()
    out, found = learned(layer, pixels, [weight])
    assert out.grad_fn is not None
    assert out.grad_fn.name() == OURS
    exact, double = pixels.detach().double().requires_grad_(), deepcopy(layer).double()
    for got, right in zip(found, wanted(double, exact, [double.get_parameter("weight")]), strict=True):
        assert (got - right).abs().max() <= 0.01 * right.abs().max()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.Conv2d(8, 8, 1, groups=8), nn.Conv2d(8, 8, 4, groups=8), nn.Conv2d(8, 8, (3, 5), groups=8),
        nn.Conv2d(8, 8, 3, stride=(1, 2), groups=8), nn.Conv2d(8, 8, 3, padding=(0, 1), groups=8),
        nn.Conv2d(8, 8, 3, padding="same", groups=8), nn.Conv2d(8, 8, 3, dilation=2, groups=8),
        nn.Conv2d(8, 8, 3, padding=3, groups=8),
    ],
)  # fmt: skip
def test_other_convolutions_are_pytorchs(layer: nn.Conv2d):
    pixels = rounded(2, 8, 12, 12).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = layer(pixels)
        with DepthwiseGradients():
            out = layer(pixels)
    assert torch.equal(out, plain)
    assert out.grad_fn is not None
    assert out.grad_fn.name() != OURS


def test_float32_and_what_needs_no_gradient_are_left_alone():
    layer, pixels = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), rounded(2, 8, 9, 9).requires_grad_()
    with DepthwiseGradients():
        out = layer(pixels)
        assert out.grad_fn is not None
        assert out.grad_fn.name() != OURS
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            assert layer(pixels).grad_fn is None
        layer.weight.requires_grad_(False)  # frozen: the gradient goes through it to what is below
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(pixels).float().sum().backward()
    assert layer.weight.grad is None
    assert pixels.grad is not None


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_step_in_bfloat16_learns_by_them(is_checkpointed: bool, monkeypatch: pytest.MonkeyPatch):
    """Plain and checkpointed, which computes the forward pass again within the backward pass."""
    torch.manual_seed(0)
    model = build_model("test_efficientnet", num_classes=3).eval()
    pixels, target_NC = torch.randn(4, 3, 64, 64), torch.randint(0, 2, (4, 3)).float()
    used = list[str]()

    def gradients(precision: str) -> dict[str, Tensor]:
        step = Step(
            model=model,
            pixels=lambda pixels: pixels,
            loss_of=binary_cross_entropy,
            weight_C=None,
            arithmetic=Arithmetic(device="cpu", precision=precision),
            is_checkpointed=is_checkpointed,
        )
        step.on_cpu((pixels,), target_NC, 1.0)
        return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}

    monkeypatch.setattr("polytag.training.depthwise._natively_by_weight", _counted(used))
    exact, found = gradients("fp32"), gradients("bf16")
    assert len(used) >= sum(isinstance(each, nn.Conv2d) and each.groups > 1 for each in model.modules()) > 0
    assert found.keys() == exact.keys()
    for name, grad in found.items():
        assert F.cosine_similarity(grad.flatten(), exact[name].flatten(), dim=0) > 0.98, name


def _counted(used: list[str]) -> Callable[..., Tensor]:
    from polytag.training import depthwise

    native = depthwise._natively_by_weight  # pyright: ignore[reportPrivateUsage]

    def by_weight(*args: Tensor, **kwargs: int) -> Tensor:
        used.append("once")
        return native(*args, **kwargs)

    return by_weight
