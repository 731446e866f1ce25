"""config.json of a repository on the hub: timm's values, and polytag's own under "polytag"; and what timm makes of it, compared.

Shapes: n views of an image, 3 channels, S pixels a side, C classes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import timm
import torch
from torch import Tensor, nn

from polytag.data.images.augment import views
from polytag.errors import HubError
from polytag.export.gate import images_of
from polytag.export.selftest import generated_images
from polytag.inference.predictor import to_input
from polytag.models.backbone import checked_arguments, create_as_timm_does, fixed_input_size_px
from polytag.models.checkpoint import Checkpoint, config_values
from polytag.models.checkpoint_config import HUB_KEY
from polytag.models.heads import logits

MAX_LOGIT_DIFFERENCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was compared with the checkpoint before a push: the number of images, and the largest difference of a logit."""

    images: int
    max_logit_difference: float


def hub_config_text(checkpoint: Checkpoint, *, num_features: int) -> str:
    """config.json: what timm reads of an architecture, its weights and its input, beside the checkpoint's own values.

    `num_features` is the length of the features, which timm shows. No value is a path: of the data's source the name is left. With
    a head that timm does not have nothing is there for timm, which would load another model.
    """
    architecture, _, tag = checkpoint.backbone.partition(".")
    size_px = checkpoint.preprocessing.image_size_px
    arguments = checked_arguments(checkpoint.backbone, checkpoint.backbone_args, size_px)
    own = replace(checkpoint, facts=without_paths(checkpoint.facts))
    for_timm = {
        "architecture": architecture,
        "num_classes": len(checkpoint.label_set),
        "num_features": num_features,
        "label_names": list(checkpoint.label_set),
        **({"model_args": arguments} if arguments else {}),
        "pretrained_cfg": {**({"tag": tag} if tag else {}), **_input(checkpoint), **_layers(checkpoint)},
    }
    values = {**(for_timm if checkpoint.head == "linear" else {}), HUB_KEY: config_values(own)}
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _input(checkpoint: Checkpoint) -> dict[str, object]:
    preprocessing = checkpoint.preprocessing
    is_squash, is_whole = preprocessing.fit == "squash", preprocessing.crops in ("center", "flip")
    return {
        "input_size": [3, preprocessing.image_size_px, preprocessing.image_size_px],
        "fixed_input_size": fixed_input_size_px(checkpoint.backbone) is not None,
        "interpolation": preprocessing.interpolation,
        "crop_pct": 1.0 if is_squash and is_whole else preprocessing.crop_fraction,
        "crop_mode": "squash" if is_squash else "center",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


def _layers(checkpoint: Checkpoint) -> dict[str, object]:
    """The names of the first and the last layer, for those who train the model further."""
    config = timm.get_pretrained_cfg(checkpoint.backbone)
    return {
        "num_classes": len(checkpoint.label_set),
        "custom_load": False,
        "pool_size": None,
        "first_conv": config.first_conv if config else None,
        "classifier": config.classifier if config else None,
    }


def without_paths(facts: Mapping[str, object]) -> dict[str, object]:
    """Facts for display as others may see them: of a path its last part, and no lists."""
    return {name: without_path(value) if isinstance(value, str) else value for name, value in facts.items() if _is_plain(value)}


def without_path(text: str) -> str:
    """The last part of a text that holds a path."""
    return PurePosixPath(text.replace("\\", "/")).name if "/" in text or "\\" in text else text


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def compare_with_timm(
    folder: Path, checkpoint: Checkpoint, own: nn.Module, *, paths: Sequence[Path], on_image: Callable[[int], None]
) -> Compared:
    """Load the folder as timm does, and compare its logits with the checkpoint's own network on generated images and on `paths`.

    Both get the same pixels in float32, in the same layout of memory: what is compared is the weights, the architecture and its
    arguments. Raises HubError, with the numbers, where a logit differs by more than `MAX_LOGIT_DIFFERENCE`, and where timm fails.
    """
    try:
        theirs = create_as_timm_does(folder).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    except Exception as error:  # timm raises errors of many kinds
        raise HubError(
            "timm cannot load this model, so nothing is pushed",
            where=str(checkpoint.folder),
            got=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
            expected=f"a model of timm: {checkpoint.backbone}",
            next_step="report it with the backbone's name",
        ) from error
    generated = generated_images()
    num_images, largest = 0, 0.0
    for image in images_of(generated, paths):
        pixels = torch.from_numpy(views(image, checkpoint.preprocessing))
        input_n3SS = to_input(pixels, checkpoint.preprocessing, "cpu")
        difference = _largest_difference(own, theirs, input_n3SS)
        largest = max(largest, difference)
        num_images += 1
        on_image(len(generated) + len(paths))
    if not largest <= MAX_LOGIT_DIFFERENCE:
        raise HubError(
            "timm's model does not answer as the checkpoint does, so nothing is pushed",
            where=str(checkpoint.folder),
            got=f"on {num_images:,} images a logit differs by {largest:.2g}",
            expected=f"at most {MAX_LOGIT_DIFFERENCE:g}",
            next_step="report it with the backbone's name",
        )
    return Compared(images=num_images, max_logit_difference=largest)


def _largest_difference(own: nn.Module, theirs: nn.Module, input_n3SS: Tensor) -> float:
    """Infinite where one of the logits is not finite or their shapes differ."""
    with torch.inference_mode():
        own_nC, their_nC = logits(own, input_n3SS), theirs(input_n3SS)
    if own_nC.shape != their_nC.shape:
        return float("inf")
    difference = float((own_nC - their_nC).abs().max())
    return difference if difference == difference else float("inf")
