"""The cache of features: what a frozen network computes for a list of images, computed once for every later run that needs it.

The next probe with other labels or another seed, the fine-tuning after it, out-of-fold scores, near duplicates by a model and the
nearest neighbours all read it. The file's name is a digest of all that can change a feature: the images, the network and its
weights, the preprocessing, the arithmetic, the batch size and the versions of the libraries. So a cached feature has the same bits
as a computed one, and a stale file is never found.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
from polytag.files import NewFile
from polytag.inference.predictor import Extracted, Predictor, extract_features, scoring_batch_size
from polytag.models.device import Arithmetic
from polytag.models.heads import head_parameters

_VERSION = 4
_MIN_SECONDS = 2.0  # features that are computed in less time are not worth a file


class FeatureCache:
    """Features of a list of images by one network, read from the cache (`is_cached`) or computed and then saved.

    `what` identifies the network and all that can change a feature, as `what_computes` says it. A damaged, missing or unwritable
    file costs time and is never an error. Features computed in less than `min_seconds`, by default two, are not saved.
    """

    def __init__(self, paths: Sequence[Path], *, what: str, min_seconds: float | None = None, folder: Path | None = None):
        self._paths = paths
        self._folder = folder or store_folder()
        self._min_seconds = _MIN_SECONDS if min_seconds is None else min_seconds
        self._key = images_key(paths, "features\0" + what)
        self._cached = self._read()
        self.is_cached = self._cached is not None

    def get(self, compute: Callable[[], Extracted]) -> Extracted:
        """The features, by `compute` where they are not cached. Call it once: the cache then releases their memory."""
        if self._cached is not None:
            extracted, self._cached = self._cached, None
            return extracted
        started = time.monotonic()
        extracted = compute()
        self.put(extracted, time.monotonic() - started)
        return extracted

    def put(self, extracted: Extracted, seconds: float) -> None:
        """Save features that took so many seconds, unless they are cached or took too little."""
        if not self.is_cached and seconds >= self._min_seconds and len(extracted[1]):
            with contextlib.suppress(OSError):
                self._write(*extracted[:2])

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._key}{FEATURES}"

    def _write(self, feature_ND: np.ndarray, row_N: np.ndarray) -> None:
        """Not flushed to the disk: checksums reveal the loss after a power failure."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not make_room(feature_ND.nbytes, folder=self._folder):
            return
        new = NewFile(self._path, durable=False)
        try:
            np.savez(new.file, key=np.array(self._key), feature_ND=feature_ND, row_N=row_N)
            new.commit()
        finally:
            new.abandon()

    def _read(self) -> Extracted | None:
        try:
            with open(self._path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                key, feature_ND, row_N = (arrays[name] for name in ("key", "feature_ND", "row_N"))  # NPZ checks a CRC of each
            os.utime(self._path)  # marks it as used: the file that is unused for longest is removed first
        except Exception:  # a damaged archive raises errors of zipfile, zlib and NumPy
            return None
        if str(key) != self._key or not _fits(feature_ND, row_N, num_rows=len(self._paths)):
            return None
        failures = _failures(self._paths, row_N)
        return None if failures is None else (feature_ND, row_N, failures)


def what_computes(
    model: nn.Module,
    *,
    backbone: str,
    backbone_args: Mapping[str, object],
    head: str,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
    batch_size: int | None = None,
) -> str:
    """Identify a network of timm with all that can change its features. `batch_size` is by default that of scoring.

    The classifier is no part of it: a probe's checkpoint shares the features of the weights that it started from.
    """
    parts = (
        *versions(arithmetic), preprocessing, batch_size or scoring_batch_size(arithmetic),
        backbone, json.dumps(dict(backbone_args), sort_keys=True), digest_of_weights(model, without=head_parameters(model)),
        *(() if head == "linear" else (head,)),
    )  # fmt: skip
    return "\0".join(map(str, parts))


def versions(arithmetic: Arithmetic) -> tuple[object, ...]:
    """What else can change a feature of any network: libraries, processor, precision."""
    processor = torch.backends.cpu.get_cpu_capability() if arithmetic.device == "cpu" else torch.cuda.get_device_name()
    return _VERSION, torch.__version__, timm.__version__, processor, arithmetic


def features_of(
    predictor: Predictor,
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    min_seconds: float | None = None,
    folder: Path | None = None,
    on_batch: Callable[[int], None] = lambda num_images: None,
) -> Extracted:
    """The features of a data set's images that a checkpoint's head reads, from the cache or computed; options as of FeatureCache.

    `on_batch` receives the number of images done since its last call. An exception that it raises ends the computation.
    """

    def compute() -> Extracted:
        return extract_features(
            predictor.model,
            dataset,
            preprocessing=predictor.checkpoint.preprocessing,
            arithmetic=predictor.arithmetic,
            batch_size=batch_size,
            on_batch=on_batch,
        )

    cache = cache_of(predictor, dataset.paths, batch_size=batch_size, min_seconds=min_seconds, folder=folder)
    if cache is None:
        return compute()
    if cache.is_cached:
        on_batch(len(dataset))
    return cache.get(compute)


def cache_of(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    batch_size: int | None = None,
    min_seconds: float | None = None,
    folder: Path | None = None,
) -> FeatureCache | None:
    """The cache of these images' features by a checkpoint; None with code of somebody's own, of which no key knows all."""
    checkpoint = predictor.checkpoint
    if checkpoint.own_backbone is not None:
        return None
    what = what_computes(
        predictor.model,
        backbone=checkpoint.backbone,
        backbone_args=checkpoint.backbone_args,
        head=checkpoint.head,
        preprocessing=checkpoint.preprocessing,
        arithmetic=predictor.arithmetic,
        batch_size=batch_size,
    )
    return FeatureCache(paths, what=what, min_seconds=min_seconds, folder=folder)


def _fits(feature_ND: np.ndarray, row_N: np.ndarray, *, num_rows: int) -> bool:
    """Whether the arrays are features of some of these rows."""
    return bool(
        row_N.dtype == np.int64
        and feature_ND.dtype == np.float32
        and feature_ND.ndim == 2
        and row_N.shape == feature_ND.shape[:1]
        and len(row_N) > 0
        and row_N.min() >= 0
        and row_N.max() < num_rows
    )


def _failures(paths: Sequence[Path], row_N: np.ndarray) -> tuple[tuple[int, ImageError], ...] | None:
    """The errors of the rows without features; None where one of them can be read by now."""
    failures: list[tuple[int, ImageError]] = []
    for row in sorted(set(range(len(paths))) - set(row_N.tolist())):
        try:
            read_image(paths[row])
        except ImageError as error:
            failures.append((row, error))
        else:
            return None
    return tuple(failures)


def digest_of_weights(model: nn.Module, *, without: Collection[str] = ()) -> str:
    """SHA-256 of all tensors but those of these names."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if name not in without:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
