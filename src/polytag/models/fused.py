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
from polytag.models.heads import ConcatPool, attends, features, linear_head, logits

_TOLERANCE = 1e-3  # of the features' length: float32 sums in another order differ by 1e-6, a wrong fusion by the order of 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Frozen:
    """A model in evaluation mode, prepared for many forward passes with constant weights.

    extractor   N x 3 x S x S to N x D, with its own weights or the model's; with attention followed by the values of the maps
    head        the linear classifier, or None
    attending   the model where its head looks at the places of its maps as well, or None
    how         "fused" or "plain"
    """

    model: nn.Module
    extractor: nn.Module
    head: nn.Linear | None
    how: str
    attending: ConcatPool | None = None

    def features(self, pixels: Tensor) -> Tensor:
        """As `backbone.features`: N x D."""
        return self._features_and_rest(pixels)[0]

    def features_and_logits(self, pixels: Tensor) -> Tensor:
        """What both give, side by side, in one pass: N x (D + C) float32; for a linear classifier alone."""
        feature_ND, rest = self._features_and_rest(pixels)
        return torch.cat([feature_ND.float(), self._classified(feature_ND, rest)], dim=1)

    def attention(self, pixels: Tensor) -> Tensor:
        """What attention adds to the logits of the linear classifier: N x C float32; for such a head alone."""
        assert self.attending is not None
        _, rest = self._features_and_rest(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            return self.attending.attention(self._maps(rest))

    def logits(self, pixels: Tensor) -> Tensor:
        """As `backbone.logits`: N x C float32, the classifier in float32."""
        if self.head is None:
            return logits(self.model, pixels)
        return self._classified(*self._features_and_rest(pixels))

    def _features_and_rest(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """N x D, and with attention the maps, flat."""
        output = self.extractor(pixels)
        width = output.shape[1] if self.attending is None else self.attending.classifier.in_features
        return output[:, :width], output[:, width:]

    def _classified(self, feature_ND: Tensor, rest: Tensor) -> Tensor:
        assert self.head is not None
        with torch.autocast(feature_ND.device.type, enabled=False):
            logit_NC = self.head(feature_ND.float())
            return logit_NC if self.attending is None else logit_NC + self.attending.attention(self._maps(rest))

    def _maps(self, rest: Tensor) -> Tensor:
        assert self.attending is not None
        return rest.float().unflatten(1, (self.attending.num_features, -1, 1))


def freeze(model: nn.Module, *, arithmetic: Arithmetic, image_size_px: int) -> Frozen:
    """Prepare the model, which stays in evaluation mode, for the inference loop; freeze again after a change of its weights.

    Call it and its functions without gradients, and its functions under `arithmetic.autocast()`.
    """
    model.eval()
    try:
        head = linear_head(model)
    except UsageError:
        return Frozen(model=model, extractor=_Features(model), head=None, how="plain")
    attending = model if attends(model) else None
    plain = _Features(model) if attending is None else _FeaturesAndMaps(model)
    fused = _fuse(plain, arithmetic=arithmetic, image_size_px=image_size_px)
    return Frozen(
        model=model, extractor=fused or plain, head=head, how="plain" if fused is None else "fused", attending=attending
    )  # fmt: skip


class _Features(nn.Module):
    """`backbone.features` as a module, which `torch.fx` can trace."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return features(self.model, pixels)


class _FeaturesAndMaps(nn.Module):
    """The same, followed by the maps, flat: attention reads both."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.model.forward_features(pixels)  # pyright: ignore[reportCallIssue]
        feature_ND = self.model.forward_head(maps, pre_logits=True)  # pyright: ignore[reportCallIssue]
        return torch.cat([feature_ND, maps.flatten(1)], dim=1)


def _fuse(plain: nn.Module, *, arithmetic: Arithmetic, image_size_px: int) -> nn.Module | None:
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
