"""A backbone of the user's own under a linear classifier, with the methods that every timm model has.

Nothing here imports or runs what a file names: the backbone is a Python object that the caller holds.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polytag.errors import UsageError
from polytag.models.backbone import check_tensors, read_tensors
from polytag.own_parts import name_of, place_of

_EXPECTED = "features of shape N x D, or a feature map of shape N x D x h x w"


class OwnNetwork(nn.Module):
    """Features or a feature map by the user's module, averaged over the map, then one linear classifier."""

    def __init__(self, backbone: nn.Module, *, num_features: int, num_classes: int, has_map: bool):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(num_features, num_classes)
        self.num_features, self.has_map = num_features, has_map

    def forward_features(self, pixels: Tensor) -> Tensor:
        """N x D, or N x D x h x w."""
        return self.backbone(pixels)

    def forward_head(self, feature: Tensor, pre_logits: bool = False) -> Tensor:
        """N x C; before the classifier N x D."""
        pooled = feature.mean(dim=(2, 3)) if self.has_map else feature
        return pooled if pre_logits else self.head(pooled)

    def forward(self, pixels: Tensor) -> Tensor:
        """N x C."""
        return self.forward_head(self.forward_features(pixels))

    def get_classifier(self) -> nn.Linear:
        """The classifier."""
        return self.head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As of a timm model, where the user's module has it."""
        self.backbone.set_grad_checkpointing(enable)  # pyright: ignore[reportCallIssue]


def create_own_network(part: Any, *, num_classes: int, image_size_px: int) -> OwnNetwork:
    """A network around a copy of a module, or around what a factory returns, on the CPU.

    The module is tried on two images of zeros. Raises UsageError, with what it returned, for one that gives no features.
    """
    name = name_of(part)
    backbone = _made(part, name=name)
    pixels = torch.zeros(2, 3, image_size_px, image_size_px)
    try:
        with torch.enable_grad():
            feature = backbone.eval()(pixels)
    except Exception as error:  # whatever a user's code raises
        raise UsageError(
            f"the backbone {name} failed on images of {image_size_px} px",
            where=place_of(error),
            got=f"{type(error).__name__}: {error}",
            expected=_EXPECTED,
        ) from error
    if not isinstance(feature, Tensor) or feature.ndim not in (2, 4) or len(feature) != 2 or feature.dtype != torch.float32:
        shape = " x ".join(map(str, feature.shape)) if isinstance(feature, Tensor) else ""
        kind = ", as float32" if isinstance(feature, Tensor) and feature.dtype != torch.float32 else ""
        raise UsageError(
            f"the backbone {name} gives no features",
            where=f"2 images of {image_size_px} px",
            got=f"{str(feature.dtype).removeprefix('torch.')} of shape {shape}" if shape else type(feature).__qualname__,
            expected=_EXPECTED.replace("N", "2") + kind,
        )
    if not bool(feature.isfinite().all()):
        raise UsageError(
            f"the backbone {name} gives features that are not finite", where="images of zeros", expected="finite numbers"
        )
    if any(each.requires_grad for each in backbone.parameters()) and not feature.requires_grad:
        raise UsageError(
            f"no gradient reaches the parameters of the backbone {name}",
            got="features without a gradient",
            expected="a forward without no_grad and detach; or parameters with requires_grad=False, which stay as they are",
        )
    network = OwnNetwork(backbone, num_features=feature.shape[1], num_classes=num_classes, has_map=feature.ndim == 4)
    return network.train()


def _made(part: Any, *, name: str) -> nn.Module:
    try:
        made = copy.deepcopy(part) if isinstance(part, nn.Module) else part()
    except Exception as error:  # whatever a user's code raises
        raise UsageError(
            f"the backbone {name} cannot be made",
            where=place_of(error),
            got=f"{type(error).__name__}: {error}",
            expected="a module that can be copied, or a function without arguments that returns one",
        ) from error
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"the backbone {name} makes no module",
            got=type(made).__qualname__,
            expected="a torch.nn.Module from a call without arguments",
        )
    return made


def build_own_network(part: Any, *, num_classes: int, image_size_px: int, weights: str) -> nn.Module:
    """As `build_model`: with the weights that the module has, or with those of a safetensors file. Raises as `create_own_network`,
    and CheckpointError for a file that does not fit."""
    network = create_own_network(part, num_classes=num_classes, image_size_px=image_size_px)
    if weights not in ("pretrained", "random"):
        _load(network.backbone, Path(weights))
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  the stub lacks this overload


def _load(backbone: nn.Module, path: Path) -> None:
    """The tensors of the module itself, or of a checkpoint of such a network, whose classifier is left out."""
    tensors = read_tensors(path)
    if all(name.startswith(("backbone.", "head.")) for name in tensors):
        tensors = {name.removeprefix("backbone."): each for name, each in tensors.items() if name.startswith("backbone.")}
    wanted = backbone.state_dict()
    check_tensors(tensors, wanted, where=str(path))
    backbone.load_state_dict({name: each.to(wanted[name].dtype) for name, each in tensors.items()})


def create_own_for_tensors(
    part: Any, tensors: Mapping[str, Tensor], *, where: str, num_classes: int, image_size_px: int
) -> nn.Module:
    """As `create_for_tensors`: the network of a checkpoint. Raises CheckpointError unless it has exactly these tensors."""
    network = create_own_network(part, num_classes=num_classes, image_size_px=image_size_px)
    check_tensors(tensors, network.state_dict(), where=where)
    return network
