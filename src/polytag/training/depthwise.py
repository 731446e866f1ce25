"""Gradients of depthwise convolutions in bfloat16 on a processor, by kernels of oneDNN that are fast.

oneDNN has slow forms of two gradients in bfloat16: that of a strided depthwise convolution by its input, and that of a kernel of
5 x 5 or more by its weights. They took three quarters of a training step of an EfficientNet. Both can be said in fast kernels:
the first is a convolution of stride 1 over the gradient with zeros between its values, the second gradients of 3 x 3 kernels.
The numbers are the same but for rounding (docs/decisions/0030).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_PIECE = 3  # the size of kernel whose gradient by its weights is fast


class DepthwiseGradients(TorchFunctionMode):
    """Within it, autocast's depthwise convolutions with a square kernel of odd size learn by the fast gradients.

    Every other operation, and whatever needs no gradient, is left alone. Backward passes that compute the forward pass again
    (gradient checkpointing) must run within it too.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            return _convolution(*args, **kwargs)
        return func(*args, **kwargs)


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d`, with its names of arguments."""
    steps, edges = _one_of(stride), _one_of(padding)
    size = weight.shape[-1]
    is_depthwise = 1 < groups == weight.shape[0] and input.dim() == 4 and input.shape[1] == groups
    is_square = weight.shape[-2] == size >= _PIECE and size % 2 == 1
    if not (is_depthwise and is_square and _one_of(dilation) == 1 and steps is not None and edges is not None and edges < size):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    dtype = torch.get_autocast_dtype("cpu")
    return _Depthwise.apply(input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), steps, edges)


def _one_of(value: int | tuple[int, ...] | str) -> int | None:
    """The number that holds for both directions; None where there is none."""
    if isinstance(value, str):
        return None
    values = {value} if isinstance(value, int) else set(value)
    return values.pop() if len(values) == 1 else None


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of one dtype; `step` is its stride and `edge` its padding, in both directions."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, bias: Tensor | None, step: int, edge: int) -> Tensor:
        ctx.save_for_backward(pixels, weight)
        ctx.step, ctx.edge = step, edge
        return F.conv2d(pixels, weight, bias, step, edge, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        pixels, weight = ctx.saved_tensors
        grad = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        of_pixels, of_weight, of_bias, *_ = ctx.needs_input_grad
        return (
            _by_pixels(grad, pixels.shape, weight, step=ctx.step, edge=ctx.edge) if of_pixels else None,
            _by_weight(grad, pixels, weight, step=ctx.step, edge=ctx.edge) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


def _by_pixels(grad: Tensor, shape: torch.Size, weight: Tensor, *, step: int, edge: int) -> Tensor:
    """A convolution of stride 1 with the kernel turned round, over the gradient with zeros at the places that a stride skips."""
    size = weight.shape[-1]
    if step > 1:
        at_every_place = shape[:2] + tuple(length + 2 * edge - size + 1 for length in shape[2:])
        spread = torch.empty(at_every_place, dtype=grad.dtype, memory_format=torch.channels_last).zero_()
        spread[:, :, ::step, ::step] = grad
        grad = spread
    return F.conv2d(grad, weight.flip(2, 3), None, 1, size - 1 - edge, 1, len(weight))


def _by_weight(grad: Tensor, pixels: Tensor, weight: Tensor, *, step: int, edge: int) -> Tensor:
    """Gradients of kernels of 3 x 3 that cover the kernel, each over the pixels moved by its place."""
    size = weight.shape[-1]
    if size == _PIECE:
        return _natively_by_weight(grad, pixels, weight, step=step, edge=edge)
    padded = F.pad(pixels, (edge,) * 4)
    height, width = ((length - 1) * step + _PIECE for length in grad.shape[2:])  # of the pixels that a piece meets
    found = torch.empty_like(weight)
    places = range(0, size - _PIECE + 1, _PIECE - 1)
    for top in places:
        for left in places:
            met = padded[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
            piece = (..., slice(top, top + _PIECE), slice(left, left + _PIECE))
            found[piece] = _natively_by_weight(grad, met, weight[piece], step=step, edge=0)
    return found


def _natively_by_weight(grad: Tensor, pixels: Tensor, weight: Tensor, *, step: int, edge: int) -> Tensor:
    wanted = [False, True, False]
    return torch.ops.aten.convolution_backward(
        grad, pixels, weight, None, [step] * 2, [edge] * 2, [1, 1], False, [0, 0], len(weight), wanted
    )[1]
