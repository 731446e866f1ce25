"""Fusion of a traced network: normalisations, activations and sums become part of the convolutions before them.

In evaluation mode a batch normalisation is one affine map per channel, which folds into the convolution before it. oneDNN applies
the sum with a residual and the activation before it writes a convolution's result, which saves one pass over memory each.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock, get_ident
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, fx, nn


def fused_graph(network: nn.Module) -> nn.Module | None:
    """The fused network of a network in evaluation mode, with its own float32 weights where they changed.

    None where it cannot be traced or has no normalisation to fold.
    """
    try:
        with _ONE_TRACE:
            graph = _Tracer().trace(network)
    except Exception:  # a forward that depends on its input's values or size may raise anything: use the plain network
        return None
    rewriter = _Rewriter(module=fx.GraphModule(network, graph), graph=graph, modules=dict(network.named_modules()))
    for node in list(graph.nodes):
        if isinstance(rewriter.module_of(node), nn.Identity | nn.Dropout):  # in evaluation a dropout is one too
            rewriter.bypass(node, node.args[0])
    num_folded = 0
    for node in list(graph.nodes):
        convolution = rewriter.module_of(node)
        if type(convolution) in (nn.Conv2d, Conv2dSame) and _is_plain(convolution):
            rewriter.put(node, FusedConvolution(convolution))
            num_folded += rewriter.fold_next(node)
            rewriter.activate_next(node)
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in (operator.add, torch.add) and len(node.args) == 2 and not node.kwargs:
            rewriter.join_sum(node)
    rewriter.module.delete_all_unused_submodules()
    rewriter.module.recompile()
    return rewriter.module if num_folded else None


_ONE_TRACE = Lock()
"""A trace patches methods of nn.Module for the whole process; two simultaneous traces would restore the wrong ones."""


class _Tracer(fx.Tracer):
    """Traces convolutions and normalisations, timm's too, as single nodes; other threads compute as without a trace."""

    def __init__(self):
        super().__init__()
        self._thread = get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        if self.is_leaf_module(m, self.path_of_module(m)):  # traced without its hooks, by which a head reads within the backbone
            for hook in m._forward_pre_hooks.values():  # pyright: ignore[reportPrivateUsage]
                hook(m, args)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _is_plain(convolution: Any) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rewriter:
    """Rewrites a traced network and its modules by name, in place."""

    module: fx.GraphModule
    graph: fx.Graph
    modules: dict[str, nn.Module]

    def module_of(self, node: fx.Node | None) -> Any:
        """The module that a node calls, None for other nodes."""
        return self.modules.get(str(node.target)) if node is not None and node.op == "call_module" else None

    def put(self, node: fx.Node, module: nn.Module) -> None:
        """Make a node call another module."""
        name = f"fused_{node.name}"
        self.modules[name] = module
        self.module.add_submodule(name, module)
        node.target = name

    def bypass(self, node: fx.Node, source: Any) -> None:
        """Replace a node by another and remove it."""
        node.replace_all_uses_with(source)
        self.graph.erase_node(node)

    def fold_next(self, node: fx.Node) -> int:
        """Fold the normalisation, with timm's activation, if it is this convolution's only user; returns 1, or 0."""
        fused, user = self.module_of(node), _only_user(node)
        norm = self.module_of(user)
        if user is None or type(norm) not in (nn.BatchNorm2d, BatchNormAct2d) or norm.running_mean is None:
            return 0
        fused.fold(norm)
        activation: Any = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        if fused.activate(activation):
            self.bypass(user, node)
        else:
            self.put(user, activation)
        return 1

    def activate_next(self, node: fx.Node) -> None:
        """Fuse the activation if it is this convolution's only user."""
        fused, user = self.module_of(node), _only_user(node)
        activation = self.module_of(user)
        if user is not None and activation is not None and fused.activation == "none" and fused.activate(activation):
            self.bypass(user, node)

    def join_sum(self, node: fx.Node) -> None:
        """Make the later of two summands, if it is a plain convolution without other users, add the other."""
        position = {other: number for number, other in enumerate(self.graph.nodes)}
        summands = [argument for argument in node.args if isinstance(argument, fx.Node)]
        for summand in sorted(summands, key=lambda argument: -position[argument]):
            fused = self.module_of(summand)
            if not isinstance(fused, FusedConvolution) or fused.activation != "none" or len(summand.args) != 1:
                continue
            if len(set(summands)) == 2 and _only_user(summand) is node:
                (residual,) = (other for other in summands if other is not summand)
                with self.graph.inserting_before(node):  # both summands exist at the position of the sum
                    joined = self.graph.call_module(str(summand.target), (summand.args[0], residual))
                self.bypass(node, joined)
                self.graph.erase_node(summand)
                self.activate_next(joined)
                return


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


class FusedConvolution(nn.Module):
    """A convolution, then an activation, or a sum with a residual and then an activation, in one pass of oneDNN."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        bias = convolution.bias
        self.weight = convolution.weight.detach().clone()
        self.bias = torch.zeros(convolution.out_channels) if bias is None else bias.detach().clone()
        self.kernel, self.stride, self.dilation = convolution.kernel_size, convolution.stride, convolution.dilation
        self.padding = tuple(map(int, convolution.padding))
        self.groups, self.is_same = convolution.groups, isinstance(convolution, Conv2dSame)
        self.activation, self.scalars = "none", []

    def fold(self, norm: nn.BatchNorm2d) -> None:
        """Fold the following normalisation: (Wx + b - mean) / sqrt(var + eps) * gamma + beta."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        if norm.affine:
            scale = scale * norm.weight.detach().double()
        shift = norm.bias.detach().double() if norm.affine else 0.0
        self.weight = (self.weight.double() * scale[:, None, None, None]).float()
        self.bias = ((self.bias.double() - norm.running_mean.double()) * scale + shift).float()

    def activate(self, activation: nn.Module) -> bool:
        """Fuse the following activation, if oneDNN has it; returns whether."""
        known = _activation(activation)
        if known is not None:
            self.activation, self.scalars = known
        return known is not None

    def settle(self, dtype: torch.dtype) -> None:
        """Convert the weights to this precision."""
        self.weight = self.weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = self.bias.to(dtype)

    def forward(self, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `nn.Conv2d`; `residual` has the shape of the result."""
        pixels, weight, padding = self._padded(pixels.to(self.weight.dtype))
        how = (padding, self.stride, self.dilation, self.groups)
        if residual is None:
            return torch.ops.mkldnn._convolution_pointwise(pixels, weight, self.bias, *how, self.activation, self.scalars, "")
        if pixels.shape[-2:] == (1, 1):  # PyTorch 2.8 to 2.11 cannot add a residual to a single pixel in the same pass
            made = torch.ops.mkldnn._convolution_pointwise(pixels, weight, self.bias, *how, "none", [], "")
            return _AFTER[self.activation](made + residual.to(pixels.dtype), *self.scalars)
        activation = None if self.activation == "none" else self.activation
        return torch.ops.mkldnn._convolution_pointwise.binary(
            pixels, residual.to(pixels.dtype), weight, self.bias, *how, "add", 1.0, activation, self.scalars, ""
        )

    def _padded(self, pixels: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """TensorFlow's "same" padding depends on the size; an odd padding has one more row or column below and to the right.

        oneDNN pads both sides equally. For depthwise convolutions the kernel gets a row and a column of zeros above and to the
        left, which offset the extra padding there; for others the image is copied into a larger one.
        """
        if not self.is_same:
            return pixels, self.weight, self.padding
        height, width = (
            int(get_same_padding(size, kernel, stride, dilation))
            for size, kernel, stride, dilation in zip(pixels.shape[-2:], self.kernel, self.stride, self.dilation, strict=True)
        )
        odd = height % 2, width % 2
        if odd == (0, 0):
            return pixels, self.weight, (height // 2, width // 2)
        if self.groups > 1 and self.dilation == (1, 1):
            weight = F.pad(self.weight, (odd[1], 0, odd[0], 0)).contiguous(memory_format=torch.channels_last)
            return pixels, weight, (height // 2 + odd[0], width // 2 + odd[1])
        around = (width // 2, width - width // 2, height // 2, height - height // 2)
        return F.pad(pixels, around), self.weight, (0, 0)


_AFTER: Mapping[str, Callable[..., Tensor]] = {
    "none": lambda made: made,
    "relu": F.relu,
    "hardtanh": F.hardtanh,
    "swish": F.silu,
    "hardswish": F.hardswish,
}


def _activation(module: nn.Module) -> tuple[str, list[float]] | None:
    kind = type(module)
    if kind is nn.Identity:
        return "none", []
    if kind is nn.ReLU:
        return "relu", []
    if kind is nn.ReLU6:
        return "hardtanh", [0.0, 6.0]
    if kind is nn.SiLU:
        return "swish", []
    return ("hardswish", []) if kind is nn.Hardswish else None
