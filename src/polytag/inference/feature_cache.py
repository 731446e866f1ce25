"""Features of a list of images by a frozen network, calculated once: the next probe, with other labels or another seed, and the
fine-tuning after it, begin with them.

Whatever could change a feature is part of a file's name: the images, the network and its weights, the preprocessing, the
arithmetic and the versions of what computes it. So what is read has the same bits as what would be calculated.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from polytag.contracts import Dataset, Preprocessing
from polytag.data.cache.image_cache import images_key
from polytag.data.cache.store import FEATURES, make_room, store_folder
from polytag.data.images.read import read_image
from polytag.errors import ImageError
from polytag.inference.predictor import Extracted, Predictor, extract_features
from polytag.models.backbone import head_parameters
from polytag.models.device import Arithmetic

_VERSION = 1
_LEAST_SECONDS = 2.0  # what takes less to calculate is not kept


class FeatureCache:
    """The features of these images by this network: those of an earlier run (`is_cached`), or calculated now and, if it took long,
    kept.

    The classifier is no part of it: a probe's checkpoint has the features of the weights it began with. Nothing that goes wrong
    with a kept file is an error: a damaged, missing or unwritable one costs time and no more.
    """

    def __init__(
        self,
        model: nn.Module,
        paths: Sequence[Path],
        *,
        backbone: str,
        backbone_args: Mapping[str, object],
        preprocessing: Preprocessing,
        arithmetic: Arithmetic,
        folder: Path | None = None,
    ):
        self._paths = paths
        self._folder = folder or store_folder()
        processor = torch.backends.cpu.get_cpu_capability() if arithmetic.device == "cpu" else torch.cuda.get_device_name()
        parts = (
            _VERSION, torch.__version__, timm.__version__, processor, arithmetic, preprocessing,
            backbone, json.dumps(dict(backbone_args), sort_keys=True), _digest_of_weights(model),
        )  # fmt: skip
        self._key = images_key(paths, "features\0" + "\0".join(map(str, parts)))
        self._found = self._read()
        self.is_cached = self._found is not None

    def get(self, calculate: Callable[[], Extracted]) -> Extracted:
        """As `extract_features`, which `calculate` calls if need be; to be asked once, for their memory is then the caller's."""
        if self._found is not None:
            found, self._found = self._found, None
            return found
        started = time.monotonic()
        found = calculate()
        if time.monotonic() - started >= _LEAST_SECONDS and len(found[1]):
            with contextlib.suppress(OSError):
                self._keep(*found[:2])
        return found

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._key}{FEATURES}"

    def _keep(self, feature_ND: np.ndarray, row_N: np.ndarray) -> None:
        """Written beside its place and renamed when whole. Not forced to the disk: checksums find what a power cut leaves."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not make_room(feature_ND.nbytes, folder=self._folder):
            return
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        try:
            with open(part, "wb") as file:
                np.savez(file, key=np.array(self._key), feature_ND=feature_ND, row_N=row_N)
            os.replace(part, self._path)
        finally:
            part.unlink(missing_ok=True)

    def _read(self) -> Extracted | None:
        try:
            with open(self._path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                key, feature_ND, row_N = (arrays[name] for name in ("key", "feature_ND", "row_N"))  # NPZ keeps a CRC of each
            os.utime(self._path)  # used now: the longest unused file goes first
        except Exception:  # a damaged archive raises kinds of its own, of zipfile's, of zlib's and of NumPy's
            return None
        failures = _failures(self._paths, row_N)
        return None if failures is None or str(key) != self._key else (feature_ND, row_N, failures)


def features_of(predictor: Predictor, dataset: Dataset, *, on_batch: Callable[[int], None] = lambda num_images: None) -> Extracted:
    """The features of a data set's images by a checkpoint's backbone; kept for the next time, or of an earlier one."""
    checkpoint = predictor.checkpoint
    cache = FeatureCache(
        predictor.model,
        dataset.paths,
        backbone=checkpoint.backbone,
        backbone_args=checkpoint.backbone_args,
        preprocessing=checkpoint.preprocessing,
        arithmetic=predictor.arithmetic,
    )

    def calculate() -> Extracted:
        return extract_features(
            predictor.model,
            dataset,
            preprocessing=checkpoint.preprocessing,
            arithmetic=predictor.arithmetic,
            on_batch=on_batch,
        )

    if cache.is_cached:
        on_batch(len(dataset))
    return cache.get(calculate)


def _failures(paths: Sequence[Path], row_N: np.ndarray) -> tuple[tuple[int, ImageError], ...] | None:
    """Why the other rows have no features; None where one of them can be read after all."""
    failures: list[tuple[int, ImageError]] = []
    for row in sorted(set(range(len(paths))) - set(row_N.tolist())):
        try:
            read_image(paths[row])
        except ImageError as error:
            failures.append((row, error))
        else:
            return None
    return tuple(failures)


def _digest_of_weights(model: nn.Module) -> str:
    """SHA-256 of everything but the classifier."""
    head, digest = head_parameters(model), hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if name not in head:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
