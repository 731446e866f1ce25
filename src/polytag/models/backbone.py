"""A timm backbone with one logit per class, and its weights: pretrained, random, or from a file loaded strictly."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn

from polytag.errors import CheckpointError, UsageError

_HUB_PATIENCE_SECONDS = 3.0
_NEXT_WITHOUT_HUB = "give --weights FILE (a safetensors file of this backbone), or --weights random"


def build_model(
    backbone: str,
    *,
    num_classes: int,
    backbone_args: Mapping[str, Any] | None = None,
    image_size_px: int | None = None,
    weights: str = "random",
) -> nn.Module:
    """A timm model with one logit per class, on the CPU, in training mode, channels last.

    `image_size_px` is passed to backbones with one fixed input size, such as ViT; None selects their own.
    `weights` is "pretrained" (timm's, from the hub or its cache), "random", or the path of a safetensors file whose tensors match
    the backbone's by name and shape. A classifier in the file is ignored, because its classes differ.
    Raises UsageError for an unknown backbone or argument, CheckpointError for weights that are missing or do not fit.
    """
    model = create_backbone(backbone, num_classes=num_classes, backbone_args=backbone_args, image_size_px=image_size_px)
    if weights == "pretrained":
        arguments = _with_input_size(backbone, backbone_args, image_size_px)
        model = _load_pretrained(backbone, num_classes=num_classes, backbone_args=arguments)
    elif weights != "random":
        load_backbone_weights(model, Path(weights))
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  the stub lacks this overload


def create_backbone(
    backbone: str, *, num_classes: int, backbone_args: Mapping[str, Any] | None = None, image_size_px: int | None = None
) -> nn.Module:
    """The timm model with random weights; raises UsageError, with similar names, for one that timm does not have."""
    if not timm.is_model(backbone):
        near = timm.list_models(f"*{backbone.split('.')[0]}*")[:5]
        raise UsageError(
            "unknown backbone",
            got=repr(backbone),
            expected="a model name of timm" + (", such as " + ", ".join(near) if near else ""),
            next_step='`python -c "import timm; print(timm.list_models())"` lists them',
        )
    try:
        return timm.create_model(backbone, num_classes=num_classes, **_with_input_size(backbone, backbone_args, image_size_px))
    except TypeError as error:
        raise UsageError(
            f"the backbone {backbone} does not take these arguments",
            where="--backbone-arg",
            got=", ".join(f"{key}={value}" for key, value in (backbone_args or {}).items()),
            expected=str(error),
        ) from error


def fixed_input_size_px(backbone: str) -> int | None:
    """The fixed input side of a backbone, or None where it accepts any size."""
    config = timm.get_pretrained_cfg(backbone)
    return config.input_size[-1] if config is not None and config.fixed_input_size else None


def require_input_size(model: nn.Module, *, backbone: str, image_size_px: int) -> None:
    """Raises UsageError for an image size that the model does not accept; runs one forward pass of one image."""
    training = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, image_size_px, image_size_px))
    except (AssertionError, RuntimeError, ValueError) as error:  # timm's models raise different errors
        config = timm.get_pretrained_cfg(backbone)
        raise UsageError(
            f"the backbone {backbone} does not accept images of {image_size_px} px",
            where="--image-size",
            got=str(error).splitlines()[0],
            expected="a size that divides into its patches and stages",
            next_step=f"try --image-size {config.input_size[-1] if config else 224}",
        ) from error
    model.train(training)


def _with_input_size(backbone: str, backbone_args: Mapping[str, Any] | None, image_size_px: int | None) -> dict[str, Any]:
    arguments = dict(backbone_args or {})
    if image_size_px not in (None, fixed_input_size_px(backbone)) and fixed_input_size_px(backbone):
        arguments.setdefault("img_size", image_size_px)
    return arguments


def _load_pretrained(backbone: str, *, num_classes: int, backbone_args: Mapping[str, Any] | None) -> nn.Module:
    _require_hub(backbone)
    try:
        return timm.create_model(backbone, pretrained=True, num_classes=num_classes, **dict(backbone_args or {}))
    except Exception as error:  # the hub client, its transport and timm raise errors of many kinds
        raise CheckpointError(
            f"no pretrained weights for {backbone}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            expected="weights from the model hub, or in its cache",
            next_step=_NEXT_WITHOUT_HUB,
        ) from error


def _require_hub(backbone: str) -> None:
    """Fail in seconds instead of minutes of retries where weights are not in the cache and the hub cannot be reached."""
    from huggingface_hub import constants, try_to_load_from_cache

    config = timm.get_pretrained_cfg(backbone)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        raise CheckpointError(
            f"timm has no pretrained weights for {backbone}", expected="a backbone with weights", next_step=_NEXT_WITHOUT_HUB
        )
    if not config.hf_hub_id:
        return
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(config.hf_hub_id, name), str) for name in names):
        return
    address = urlsplit(constants.ENDPOINT)
    offline = constants.HF_HUB_OFFLINE or (os.environ.get("HTTPS_PROXY") is None and not _answers(address.hostname, address.port))
    if offline:
        raise CheckpointError(
            f"no pretrained weights for {backbone}: the model hub cannot be reached",
            where=address.netloc,
            expected="a network, or the weights in the hub's cache",
            next_step=_NEXT_WITHOUT_HUB,
        )


def _answers(host: str | None, port: int | None) -> bool:
    try:
        socket.create_connection((host or "", port or 443), timeout=_HUB_PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


def load_backbone_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file strictly into all tensors but the classifier's; half precision is widened to float32.

    Raises CheckpointError with the tensors that are missing, unexpected or of another shape.
    """
    tensors = read_tensors(path)
    head = {f"{prefix}.{name}" for prefix, module in _classifiers(model) for name in module.state_dict()}
    wanted = {name: value for name, value in model.state_dict().items() if name not in head}
    # BatchNorm's step counter is missing from files for inference.
    tensors |= {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked") and name not in tensors}
    found = {name: value for name, value in tensors.items() if name not in head}
    check_tensors(found, wanted, where=str(path))
    model.load_state_dict({name: value.to(wanted[name].dtype) for name, value in found.items()}, strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises CheckpointError for a missing or invalid file."""
    if not path.is_file():
        raise CheckpointError(
            "the weights file does not exist", where=str(path), expected="a safetensors file", next_step=_NEXT_WITHOUT_HUB
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _no_tensors(error, where=str(path)) from error


def parse_tensors(content: bytes, *, where: str) -> dict[str, Tensor]:
    """The tensors of the content of a safetensors file; raises CheckpointError for invalid content."""
    try:
        return load(content)
    except SafetensorError as error:
        raise _no_tensors(error, where=where) from error


def _no_tensors(error: Exception, *, where: str) -> CheckpointError:
    return CheckpointError("the weights file cannot be read", where=where, got=str(error), expected="a whole safetensors file")


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, where: str) -> None:
    """Raises CheckpointError, with the tensors, unless both have the same names with the same shapes."""
    missing = [name for name in wanted if name not in found]
    surplus = [name for name in found if name not in wanted]
    reshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if missing or surplus or reshaped:
        parts = {"missing": missing, "unexpected": surplus, "of another shape": reshaped}
        raise CheckpointError(
            "the weights are not this backbone's",
            where=where,
            got="; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in parts.items() if names),
            expected=f"the {len(wanted)} tensors of the model",
            next_step="give the --backbone and --backbone-arg that the file was made with",
        )


def _first(names: list[str], *, limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")


def _classifiers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The classifier layers with their names: one, or several for backbones with a distillation head."""
    last = model.get_classifier()  # pyright: ignore[reportCallIssue]  every timm model has it
    layers = last if isinstance(last, tuple) else (last,)
    return [(name, module) for name, module in model.named_modules() if any(module is layer for layer in layers)]


def head_parameters(model: nn.Module) -> set[str]:
    """Names of the classifier's parameters; all others are the backbone's."""
    return {f"{prefix}.{name}" for prefix, module in _classifiers(model) for name, _ in module.named_parameters()}


def linear_head(model: nn.Module) -> nn.Linear:
    """The final linear layer, features -> logits; raises UsageError for a backbone without one."""
    layers = _classifiers(model)
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
    layers = _classifiers(model)
    if len(layers) != 1 or not isinstance(layers[0][1], nn.Linear):
        return model(pixels).float()
    feature_ND = features(model, pixels)
    with torch.autocast(pixels.device.type, enabled=False):
        return layers[0][1](feature_ND.float())


def pretrained_normalisation(backbone: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of timm's pretrained weights of this backbone; ImageNet's where timm has none."""
    config = timm.get_pretrained_cfg(backbone)
    mean, std = (config.mean, config.std) if config is not None else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
