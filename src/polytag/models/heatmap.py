"""Heat maps: gradient-weighted class activation maps (Grad-CAM) for any timm backbone.

Shapes: K classes, h x w positions of the last feature map, T tokens, D channels.

Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2. A map shows where *within this image* the evidence for its class
is, and not how much there is: the map of an absent class has a maximum too.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from polytag.errors import UsageError

_MAX_PREFIX_TOKENS = 16  # class, distillation and register tokens; more than any timm model has


def class_activation(model: nn.Module, pixels: Tensor, columns: Sequence[int]) -> np.ndarray:
    """float32 K x h x w in [0, 1]: the evidence for each of these logits by position; all zero where there is none.

    `model` is in evaluation mode and does not change; `pixels` is one normalised image, 1 x 3 x S x S, on its device. The maximum
    of a map is 1. Runs one forward pass, and one backward pass per class through the layers after the feature map, in float32 even
    under autocast. Calibration and thresholds are monotone and do not matter.

    Feature maps (CNNs, and transformers such as Swin): equations 1 and 2 at the last one. Tokens that the head pools (ViT with
    average pooling, Mixer): gradient times activation of the last tokens. Tokens that only a class token reads: the same at the
    input of the last attention, because afterwards they have no gradient. It must be taken after the normalisation: a function that
    is invariant to the scale of x has x . grad = 0 (Euler) in every token. Of a head that reads both, such as concat pooling, the
    two are added: what it reads of the patches, and what the tokens before them have read.

    Raises UsageError for a backbone whose features are neither.
    """
    assert not model.training
    assert pixels.shape[0] == 1
    with torch.autocast(pixels.device.type, enabled=False), _Recorded(model) as attended:
        with torch.no_grad():
            feature = model.forward_features(pixels.float())  # pyright: ignore[reportCallIssue]  every timm model has it
        if isinstance(feature, Tensor) and feature.ndim == 4:
            return _stacked(_of_feature_map(model, feature, columns))
        if not isinstance(feature, Tensor) or feature.ndim != 3:
            raise _cannot_map(model, feature)
        reads_prefix, reads_patches = _tokens_read(model, feature)
        can_attend = attended.output is not None and _num_patches(model, attended.output) > 0
        if reads_prefix and attended.module is not None and can_attend:
            read = _of_attended_tokens(model, pixels.float(), attended.module, columns)
            if not reads_patches:
                return _stacked(read)
            pooled = _of_pooled_tokens(model, feature, columns)
            if read[0].shape == pooled[0].shape:
                return _stacked([first + second for first, second in zip(read, pooled, strict=True)])
        if reads_patches:
            return _stacked(_of_pooled_tokens(model, feature, columns))
        raise _cannot_map(model, feature)


def _of_feature_map(model: nn.Module, feature: Tensor, columns: Sequence[int]) -> list[Tensor]:
    channels = 3 if _is_channels_last(model, feature) else 1
    places = tuple(axis for axis in (1, 2, 3) if axis != channels)
    maps: list[Tensor] = []
    for gradient in _gradients(lambda leaf: _head(model, leaf), feature, columns):
        weight = gradient.mean(dim=places, keepdim=True)  # equation 1
        maps.append((weight * feature).sum(dim=channels)[0])  # equation 2, before its ReLU
    return maps


def _of_pooled_tokens(model: nn.Module, feature: Tensor, columns: Sequence[int]) -> list[Tensor]:
    gradients = _gradients(lambda leaf: _head(model, leaf), feature, columns)
    return [_on_grid(model, gradient * feature) for gradient in gradients]


def _of_attended_tokens(model: nn.Module, pixels: Tensor, module: nn.Module, columns: Sequence[int]) -> list[Tensor]:
    """A second forward pass: the module's output is the leaf of the gradients of what the tokens before the patches give."""
    leaves: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1].clone()

    handle = module.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            feature = model.forward_features(pixels)  # pyright: ignore[reportCallIssue]
            num_prefix = feature.shape[1] - _num_patches(model, feature)
            logits = _head(model, torch.cat([feature[:, :num_prefix], feature[:, num_prefix:].detach()], dim=1))[0].unbind()
    finally:
        handle.remove()
    gradients = [torch.autograd.grad(logits[column], leaves[-1], retain_graph=True)[0] for column in columns]
    return [_on_grid(model, gradient * leaves[-1].detach()) for gradient in gradients]


def _gradients(forward: Callable[[Tensor], Tensor], feature: Tensor, columns: Sequence[int]) -> list[Tensor]:
    """The gradient of each of these logits at the feature, in its shape; earlier layers are not differentiated."""
    leaf = feature.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = forward(leaf.clone())[0].unbind()  # a clone, because some heads work in place, which a leaf forbids
    return [torch.autograd.grad(logits[column], leaf, retain_graph=True)[0] for column in columns]


def _head(model: nn.Module, feature: Tensor) -> Tensor:
    return model.forward_head(feature)  # pyright: ignore[reportCallIssue]


class _Recorded:
    """Records the last normalisation before an attention in the forward pass, and its output.

    timm names it `norm1` in every transformer with a class token, including ViT, CaiT and CoaT.
    """

    module: nn.Module | None = None
    output: Tensor | None = None

    def __init__(self, model: nn.Module):
        self._modules = [module for name, module in model.named_modules() if name.split(".")[-1] == "norm1"]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "_Recorded":
        self._handles = [module.register_forward_hook(self._note) for module in self._modules]
        return self

    def _note(self, module: nn.Module, _inputs: object, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.ndim == 3:  # pyright: ignore[reportUnnecessaryIsInstance]  modules give anything
            self.module, self.output = module, output

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _tokens_read(model: nn.Module, feature: Tensor) -> tuple[bool, bool]:
    """Whether the logits are to be traced through the tokens before the patches, and through those of patches.

    Through the first where they depend on none, or where no square of patches fits.
    """
    num_patches = _num_patches(model, feature)
    if not num_patches:
        return True, False
    leaf = feature.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = _head(model, leaf.clone()).square().sum()
    (gradient,) = torch.autograd.grad(total, leaf)
    reads_patches = bool(gradient[0, -num_patches:].any())
    return not reads_patches or bool(gradient[0, :-num_patches].any()), reads_patches


def _num_patches(model: nn.Module, tokens: Tensor) -> int:
    """The number of tokens that are patches of the square image; 0 where no square fits."""
    num_tokens = tokens.shape[1]
    num_prefix = getattr(model, "num_prefix_tokens", None)
    if isinstance(num_prefix, int) and _is_square(num_tokens - num_prefix):
        return num_tokens - num_prefix
    nearest = math.isqrt(num_tokens) ** 2
    return nearest if nearest > 1 and num_tokens - nearest <= _MAX_PREFIX_TOKENS else 0


def _is_square(number: int) -> bool:
    return number > 1 and math.isqrt(number) ** 2 == number


def _on_grid(model: nn.Module, evidence: Tensor) -> Tensor:
    """h x w from 1 x T x D: summed over channels, without the class tokens, which are first."""
    num_patches = _num_patches(model, evidence)
    side = math.isqrt(num_patches)
    return evidence[0, -num_patches:].sum(dim=-1).reshape(side, side)


def _is_channels_last(model: nn.Module, feature: Tensor) -> bool:
    named = str(getattr(model, "output_fmt", ""))  # as in Swin
    num_features = getattr(model, "num_features", None)
    return named.endswith("NHWC") or (feature.shape[1] != num_features and feature.shape[3] == num_features)


def _stacked(maps: list[Tensor]) -> np.ndarray:
    """Positive evidence (equation 2's ReLU), each map divided by its maximum."""
    heat_Khw = torch.stack(maps).detach().relu().nan_to_num().float()
    top_K = heat_Khw.amax(dim=(1, 2), keepdim=True)
    return (heat_Khw / top_K.where(top_K > 0, 1)).cpu().numpy()


def _cannot_map(model: nn.Module, feature: object) -> UsageError:
    shape = (
        f"features of shape {tuple(feature.shape)}" if isinstance(feature, Tensor) else f"a {type(feature).__name__} of features"
    )
    return UsageError(
        f"no heat map can be made for {type(model).__name__}",
        got=shape,
        expected="a feature map, or patch tokens in a square with class tokens before them",
        next_step="predictions and everything else work; use another backbone if heat maps matter",
    )
