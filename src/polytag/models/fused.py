"""Fused inference: a frozen network with the same outputs, computed faster on the processor.

Networks without a normalised convolution (ViT, ConvNeXt), networks that `torch.fx` cannot trace, GPUs, and processors or builds
without oneDNN use the plain network; `Frozen.how` names the kind. The fused copy is compared with the plain network before use
(`_agrees`); tests cover both precisions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polytag.errors import UsageError
from polytag.models.device import Arithmetic
from polytag.models.fusing import FusedConvolution, fused_graph
from polytag.models.heads import features, linear_head, logits

_TOLERANCE = 1e-3  # of the features' length: float32 sums in another order differ by 1e-6, a wrong fusion by the order of 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Frozen:
    """A model in evaluation mode, prepared for many forward passes with constant weights.

    extractor   N x 3 x S x S to N x D, with its own weights or the model's
    head        the linear classifier, or None
    how         "fused" or "plain"
    """

    model: nn.Module
    extractor: nn.Module
    head: nn.Linear | None
    how: str

    def features(self, pixels: Tensor) -> Tensor:
        """As `backbone.features`: N x D."""
        return self.extractor(pixels)

    def features_and_logits(self, pixels: Tensor) -> Tensor:
        """What both give, side by side, in one pass: N x (D + C) float32; for a linear classifier alone."""
        assert self.head is not None
        feature_ND = self.extractor(pixels).float()
        with torch.autocast(pixels.device.type, enabled=False):
            return torch.cat([feature_ND, self.head(feature_ND)], dim=1)

    def logits(self, pixels: Tensor) -> Tensor:
        """As `backbone.logits`: N x C float32, the classifier in float32."""
        if self.head is None:
            return logits(self.model, pixels)
        feature_ND = self.extractor(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            return self.head(feature_ND.float())


def freeze(model: nn.Module, *, arithmetic: Arithmetic, image_size_px: int) -> Frozen:
    """Prepare the model, which stays in evaluation mode, for the inference loop; freeze again after a change of its weights.

    Call it and its functions without gradients, and its functions under `arithmetic.autocast()`.
    """
    model.eval()
    try:
        head = linear_head(model)
    except UsageError:
        return Frozen(model=model, extractor=_Features(model), head=None, how="plain")
    plain = _Features(model)
    fused = _fuse(plain, arithmetic=arithmetic, image_size_px=image_size_px)
    return Frozen(model=model, extractor=fused or plain, head=head, how="plain" if fused is None else "fused")


class _Features(nn.Module):
    """`backbone.features` as a module, which `torch.fx` can trace."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return features(self.model, pixels)


def _fuse(plain: _Features, *, arithmetic: Arithmetic, image_size_px: int) -> nn.Module | None:
    """The fused network in the precision of the arithmetic, or None."""
    if arithmetic.device != "cpu" or not _has_onednn(arithmetic.precision):
        return None
    fused = fused_graph(plain)
    if fused is None or not _agrees(fused, plain, image_size_px=image_size_px):
        return None
    for module in fused.modules():
        if isinstance(module, FusedConvolution):
            module.settle(torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32)
    return fused


def _agrees(fused: nn.Module, plain: nn.Module, *, image_size_px: int) -> bool:
    """Whether both compute the same features of noise in float32, up to rounding."""
    noise = torch.randn(1, 3, image_size_px, image_size_px, generator=torch.Generator().manual_seed(0))
    noise = noise.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        expected, got = plain(noise), fused(noise)
    return bool((got - expected).norm() <= _TOLERANCE * expected.norm())


def _has_onednn(precision: str) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return precision == "fp32" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
