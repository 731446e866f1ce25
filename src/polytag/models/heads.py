"""What is on top of a backbone: its classifier, the features that it reads, and the logits that it gives.

Shapes: N images, C classes, D features, M channels of the last feature map or of a token, E of the expanded map, h x w places
(P of them), T tokens.
"""

import threading
from collections.abc import Mapping
from typing import Any, TypeGuard, final

import numpy as np
import timm
import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn

from polytag.errors import UsageError
from polytag.models.backbone_args import HEADS
from polytag.own_parts import FEATURES, OWN_BACKBONE

_WITHIN = "backbone."  # before the names of the backbone's tensors in concat pooling
_EXPANDED = "conv_pwl"  # timm's name of the projection at the end of an inverted residual block
_SIZE_PX = 64  # of the image that a map is seen on, for backbones that take any size
_ATTENTION = 0.2  # lambda of CSRA; docs/experiments.md has others


def chosen_head(head: str, *, backbone: str) -> str:
    """One of HEADS for "auto": csra for timm's EfficientNets and their relatives, on which it was measured, else linear.

    It stays "auto" while the backbone is to be chosen too. Raises UsageError for another head than the linear one on a backbone of
    the user's own, or on features that are given.
    """
    if backbone in (OWN_BACKBONE, FEATURES) and head not in ("auto", "linear"):
        raise UsageError(
            "this head reads a backbone of timm alone",
            where="--head",
            got=head,
            expected="linear with " + ("a backbone of your own" if backbone == OWN_BACKBONE else "features that are given"),
            next_step="leave --head out",
        )
    if head != "auto" or backbone == "auto":
        return head
    return "csra" if backbone.partition(".")[0] in timm.list_models(module="efficientnet") else "linear"


def with_head(model: nn.Module, head: str, *, backbone: str, num_classes: int, image_size_px: int | None) -> nn.Module:
    """A timm model with its own linear classifier, or with another head in its place; raises UsageError where that cannot be."""
    assert head in HEADS, head
    if head == "linear":
        return model
    if head == "concat-pool" and isinstance(getattr(model, "num_prefix_tokens", None), int) and getattr(model, "global_pool", None):
        return ConcatTokens(model, num_classes=num_classes)
    config = timm.get_pretrained_cfg(backbone)
    size_px = _SIZE_PX
    if config is not None and config.fixed_input_size:
        size_px = image_size_px or config.input_size[-1]
    return ConcatPool(model, num_classes=num_classes, size_px=size_px, attends=head == "csra")


_expanded = threading.local()  # on the processor each core computes a batch of its own, in a thread of its own


def _keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
    if getattr(_expanded, "is_wanted", False):  # not where gradient checkpointing computes the block again
        _expanded.last = inputs[0]


@final
class ConcatPool(nn.Module):
    """A backbone and a linear layer that reads several poolings of its last maps, one after the other ("concat pooling").

    The features are those of the backbone itself (for most its pooled last map), the maximum of the last map over its places, and
    the maximum and the mean of the expanded map, if there is one. The expanded map is what the last inverted residual block of a
    MobileNet or an EfficientNet computes before its projection to few channels: timm's feature location "expansion". It costs no
    arithmetic, since the backbone computes it anyway. docs/experiments.md has what this gains.

    With `attends`, each class also looks at the places of the maps, by class-specific residual attention (CSRA: Zhu and Wu, ICCV
    2021). A class's weights for the means give its evidence at each place; the mean of that evidence, weighted by its own softmax
    over the places, counts beside the plain mean: `_ATTENTION` times what the two differ by is added. So a small object counts for
    more than its area. The weights stay those of one linear layer, and the probe fits them without attention.

    It has the functions of a timm model that polytag uses. Its feature map has the channels of both maps.
    """

    def __init__(self, backbone: nn.Module, *, num_classes: int, size_px: int, attends: bool = False):
        """Replaces the classifier of the backbone; raises UsageError for a backbone without a feature map.

        One forward pass of one image of `size_px` a side tells the shapes.
        """
        super().__init__()
        backbone.reset_classifier(0)  # pyright: ignore[reportCallIssue]  every timm model has it
        self.backbone = backbone
        self._is_channels_last = str(getattr(backbone, "output_fmt", "")).endswith("NHWC")
        projections = [module for name, module in backbone.named_modules() if name.rsplit(".")[-1] == _EXPANDED]
        handle = projections[-1].register_forward_pre_hook(_keep) if projections else None
        training, device = backbone.training, next(backbone.parameters()).device
        backbone.eval()
        with torch.inference_mode():
            last, expanded = self._maps(torch.zeros(1, 3, size_px, size_px, device=device))
            if last.ndim != 4:
                raise _no_maps("csra" if attends else "concat-pool", last)
            if handle is not None and (expanded is None or expanded.shape[2:] != last.shape[2:]):
                handle.remove()
                expanded = None
            self.num_own = self._own(last).shape[1]
        backbone.train(training)
        self._num_last = last.shape[1]
        num_expanded = 0 if expanded is None else expanded.shape[1]
        self.num_features = self._num_last + num_expanded
        self.attends, self._own_is_mean = attends, self.num_own == self._num_last and _averages(backbone)
        if attends and not self._own_is_mean and not num_expanded:
            raise UsageError(
                "the head csra needs a backbone that averages its last map, or one with inverted residual blocks",
                where="--head",
                got=f"a {type(backbone).__name__} of timm with another pooling",
                expected="such as an EfficientNet, a MobileNet or a ResNet",
                next_step="use --head concat-pool or linear, or another backbone",
            )
        self.classifier = nn.Linear(self.num_own + self.num_features + num_expanded, num_classes)

    def get_classifier(self) -> nn.Linear:
        """As of a timm model."""
        return self.classifier

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As of a timm model."""
        self.backbone.set_grad_checkpointing(enable)  # pyright: ignore[reportCallIssue]

    def forward_features(self, pixels: Tensor) -> Tensor:
        """The last map and the expanded one, N x (M + E) x h x w."""
        last, expanded = self._maps(pixels)
        return last if expanded is None else torch.cat([last, expanded], dim=1)

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """The logits of such maps, N x C, or the features that the classifier reads, N x D."""
        top = maps.amax(dim=(2, 3))
        own = self._own(maps[:, : self._num_last])
        mean = maps[:, self._num_last :].mean(dim=(2, 3), dtype=torch.float32)  # in bfloat16 it would be rounded
        feature_ND = torch.cat([own, top, mean], dim=1)
        if pre_logits:
            return feature_ND
        logit_NC = self.classifier(feature_ND)
        return logit_NC + self.attention(maps) if self.attends else logit_NC

    def attention(self, maps: Tensor) -> Tensor:
        """What attention adds to the logits of the linear layer, N x C; of float32 maps in float32."""
        weight_CD, first = self.classifier.weight, 0 if self._own_is_mean else self._num_last
        weights = [weight_CD[:, : self.num_own]] if self._own_is_mean else []
        weights.append(weight_CD[:, self.num_own + self.num_features :])
        evidence_NCP = torch.cat(weights, dim=1) @ maps[:, first:].flatten(2)
        attended_NC = (evidence_NCP.softmax(dim=2) * evidence_NCP).sum(dim=2)
        return _ATTENTION * (attended_NC - evidence_NCP.mean(dim=2))

    def forward(self, pixels: Tensor) -> Tensor:
        """N x C logits of N x 3 x S x S."""
        return self.forward_head(self.forward_features(pixels))

    def _maps(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        _expanded.last, _expanded.is_wanted = None, True
        last = self.backbone.forward_features(pixels)  # pyright: ignore[reportCallIssue]
        expanded, _expanded.last, _expanded.is_wanted = _expanded.last, None, False  # held no longer than it is needed
        return (last.permute(0, 3, 1, 2) if self._is_channels_last else last), expanded

    def _own(self, last: Tensor) -> Tensor:
        last = last.permute(0, 2, 3, 1) if self._is_channels_last else last
        return self.backbone.forward_head(last, pre_logits=True)  # pyright: ignore[reportCallIssue]


def _averages(backbone: nn.Module) -> bool:
    """Whether the backbone's own features are the mean of its last map, if they are as many as its channels."""
    pooling = getattr(backbone, "global_pool", None)
    return isinstance(pooling, SelectAdaptivePool2d) and pooling.pool_type == "avg"


def _no_maps(head: str, features: Tensor) -> UsageError:
    of_tokens = head == "concat-pool"
    return UsageError(
        f"the head {head} needs a feature map" + " or the tokens of a ViT" * of_tokens + ", which this backbone does not have",
        where="--head",
        got=f"features of shape {tuple(features.shape)}",
        expected="a feature map: channels, height and width" + "; or tokens, timm knowing how many precede the patches" * of_tokens,
        next_step="use --head linear, or another backbone",
    )


@final
class ConcatTokens(nn.Module):
    """Concat pooling for a backbone that gives tokens, N x T x M, those of patches last: ViT and its relatives in timm.

    The features are those of the backbone itself, then what they are not: the class token, if there is one, and the mean of the
    patch tokens. These two are what DINOv2's linear evaluation reads (Oquab and others: *DINOv2*, TMLR 2024; the authors'
    `create_linear_input` in dinov2/eval/linear.py). Where that adds nothing, as the backbone averages and has no class token,
    the maximum over the patches follows, as over the places of a map. Distillation and register tokens are in no mean. A
    normalisation that the backbone has after its pooling instead of before (timm's `fc_norm`) is applied to each.
    """

    def __init__(self, backbone: nn.Module, *, num_classes: int):
        """Replaces the classifier of the backbone."""
        super().__init__()
        backbone.reset_classifier(0)  # pyright: ignore[reportCallIssue]  every timm model has it
        self.backbone = backbone
        self.num_prefix_tokens = int(backbone.num_prefix_tokens)  # pyright: ignore[reportArgumentType]  timm's count
        pooling, class_token = backbone.global_pool, getattr(backbone, "cls_token", None)
        has_class_token = class_token is not None or bool(getattr(backbone, "has_class_token", False))
        self._adds_class_token = has_class_token and pooling != "token"
        self._adds_mean = pooling != "avg"
        self._adds_top = not self._adds_class_token and not self._adds_mean
        self.num_own = int(backbone.head_hidden_size)  # pyright: ignore[reportArgumentType]
        self.num_features = int(backbone.num_features)  # pyright: ignore[reportArgumentType]
        num_added = self._adds_class_token + self._adds_mean + self._adds_top
        self.classifier = nn.Linear(self.num_own + num_added * self.num_features, num_classes)

    def get_classifier(self) -> nn.Linear:
        """As of a timm model."""
        return self.classifier

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As of a timm model."""
        self.backbone.set_grad_checkpointing(enable)  # pyright: ignore[reportCallIssue]

    def forward_features(self, pixels: Tensor) -> Tensor:
        """The backbone's tokens, N x T x M."""
        return self.backbone.forward_features(pixels)  # pyright: ignore[reportCallIssue]

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """The logits of such tokens, N x C, or the features that the classifier reads, N x D."""
        pooled = [self.backbone.forward_head(tokens, pre_logits=True)]  # pyright: ignore[reportCallIssue]
        patches = tokens[:, self.num_prefix_tokens :]
        norm = getattr(self.backbone, "fc_norm", None) or nn.Identity()
        if self._adds_class_token:
            pooled.append(norm(tokens[:, 0]))
        if self._adds_mean:
            pooled.append(norm(patches.mean(dim=1, dtype=torch.float32)))  # in bfloat16 it would be rounded
        if self._adds_top:
            pooled.append(norm(patches.amax(dim=1)))
        feature_ND = torch.cat(pooled, dim=1)
        return feature_ND if pre_logits else self.classifier(feature_ND)

    def forward(self, pixels: Tensor) -> Tensor:
        """N x C logits of N x 3 x S x S."""
        return self.forward_head(self.forward_features(pixels))


def without_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, of concat pooling those of its backbone alone, by the names that they have in timm's model."""
    if not any(name.startswith(_WITHIN) for name in tensors):
        return dict(tensors)
    own = {name: value for name, value in tensors.items() if name not in ("classifier.weight", "classifier.bias")}
    return {name.removeprefix(_WITHIN): value for name, value in own.items()}


def backbone_features(model: nn.Module, feature_ND: np.ndarray) -> np.ndarray:
    """Of the features that a head reads, those of the backbone itself, whose cosine says how alike two images are."""
    return feature_ND[:, : model.num_own] if isinstance(model, ConcatPool | ConcatTokens) else feature_ND


def classifiers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The classifier layers with their names: one, or several for backbones with a distillation head."""
    last = model.get_classifier()  # pyright: ignore[reportCallIssue]  every timm model has it
    layers = last if isinstance(last, tuple) else (last,)
    return [(name, module) for name, module in model.named_modules() if any(module is layer for layer in layers)]


def head_parameters(model: nn.Module) -> set[str]:
    """Names of the classifier's parameters; all others are the backbone's."""
    return {f"{prefix}.{name}" for prefix, module in classifiers(model) for name, _ in module.named_parameters()}


def linear_head(model: nn.Module) -> nn.Linear:
    """The final linear layer, features -> logits; raises UsageError for a backbone without one."""
    layers = classifiers(model)
    if len(layers) == 1 and isinstance(layers[0][1], nn.Linear):
        return layers[0][1]
    raise UsageError(
        "this backbone has no single linear classifier, which the probe needs",
        got=", ".join(f"{name}: {type(module).__name__}" for name, module in layers) or "no classifier",
        expected="one linear layer",
        next_step="use --recipe finetune, or another backbone",
    )


def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """Pooled features, the input of the classifier: N x D."""
    return model.forward_head(model.forward_features(pixels), pre_logits=True)  # pyright: ignore[reportCallIssue]


def logits(model: nn.Module, pixels: Tensor) -> Tensor:
    """N x C float32 logits. Under autocast the classifier computes in float32, because in bfloat16 many scores would be equal.

    Backbones that do not end in one linear layer compute in the precision of the context.
    """
    layers = classifiers(model)
    if len(layers) != 1 or not isinstance(layers[0][1], nn.Linear):
        return model(pixels).float()
    maps = model.forward_features(pixels)  # pyright: ignore[reportCallIssue]
    feature_ND = model.forward_head(maps, pre_logits=True)  # pyright: ignore[reportCallIssue]
    with torch.autocast(pixels.device.type, enabled=False):
        logit_NC = layers[0][1](feature_ND.float())
        return logit_NC + model.attention(maps.float()) if attends(model) else logit_NC


def attends(model: nn.Module) -> TypeGuard[ConcatPool]:
    """Whether the head looks at the places of the maps beside the features that its linear layer reads."""
    return isinstance(model, ConcatPool) and model.attends
