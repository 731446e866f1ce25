"""Images that look alike to a model: the features of a whole data set, kept in a file, and the nearest of them, exactly.

Shapes: N images of the table, D features, k neighbours.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polytag.contracts import Dataset
from polytag.data.cache.store import FEATURES, make_room
from polytag.data.images.augment import views
from polytag.errors import DataError
from polytag.files import write_bytes
from polytag.inference.predictor import Predictor, apply, extract_features

_VERSION = 1
_CHUNK = 1024  # fits the processor's cache, widened
_BACKGROUND_BATCH = 8  # so that whoever waits for the processor between two batches waits for half a second at most


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """Features of the images of a data set that can be read.

    ids, split_N, row_N   of each image: its id, its split, and its row in the data set
    feature_ND            float16, each row divided by its length; a row of zeros where the model gave zeros
    key                   of the checkpoint, its preprocessing and the image files: see `features_key`
    """

    ids: tuple[str, ...]
    split_N: tuple[str, ...]
    row_N: np.ndarray
    feature_ND: np.ndarray
    key: str

    def __post_init__(self):
        assert len(self.ids) == len(self.split_N) == len(self.row_N) == len(self.feature_ND)
        assert self.feature_ND.dtype == np.float16

    @cached_property
    def index_of(self) -> dict[tuple[str, str], int]:
        """The table's index of each (split, id)."""
        return {key: index for index, key in enumerate(zip(self.split_N, self.ids, strict=True))}

    @cached_property
    def scale_N(self) -> np.ndarray:
        """float32: what makes the length of each row exactly one again, that float16 changed by a little; 0 for zeros."""
        length_N = np.concatenate([chunk_ND.norm(dim=1).numpy() for chunk_ND in self.chunks()])
        return np.divide(1, length_N, out=np.zeros_like(length_N), where=length_N > 0)

    def chunks(self) -> Iterator[torch.Tensor]:
        """float32, a part at a time. By torch: NumPy widens float16 ten times slower than it then multiplies."""
        for start in range(0, max(len(self.ids), 1), _CHUNK):
            yield torch.from_numpy(self.feature_ND[start : start + _CHUNK]).float()


def features_key(predictor: Predictor, dataset: Dataset) -> str:
    """16 hexadecimal digits that change with the weights, the preprocessing, or any image file, and not with labels."""
    checkpoint = predictor.checkpoint
    digest = hashlib.sha256(f"{_VERSION}\0{checkpoint.weights_sha256}\0{checkpoint.preprocessing}\0".encode())
    for split, name, path in zip(dataset.split_N, dataset.ids, dataset.paths, strict=True):
        size, changed = -1, -1
        with suppress(OSError, ValueError):  # an image that is missing is left out of the table, and part of the key as such
            status = os.stat(path)
            size, changed = status.st_size, status.st_mtime_ns
        digest.update(f"{split}\0{name}\0{path}\0{size}\0{changed}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def build_features(
    predictor: Predictor, dataset: Dataset, *, on_batch: Callable[[int], None] = lambda num_images: None
) -> FeatureTable:
    """Features of every image that can be read; `on_batch` is told the number of images done since the last call.

    Whatever `on_batch` raises ends it. Raises DataError where no image at all can be read.
    """
    key = features_key(predictor, dataset)
    feature_ND, row_N, _ = extract_features(
        predictor.model,
        dataset,
        preprocessing=predictor.checkpoint.preprocessing,
        arithmetic=predictor.arithmetic,
        batch_size=_BACKGROUND_BATCH,
        on_batch=on_batch,
    )
    if not len(row_N):
        raise DataError("no image of the data set can be read", where=dataset.source, expected="at least one image")
    return _table(dataset, row_N=row_N, feature_ND=np.stack([normalised(feature_D) for feature_D in feature_ND]), key=key)


def image_feature(predictor: Predictor, image: Image.Image) -> np.ndarray:
    """float16, D: the features of one upright RGB image, as they would stand in a table."""
    preprocessing = predictor.checkpoint.preprocessing
    pixels = views(image, preprocessing)[None]
    feature_ND = apply(predictor.frozen.features, pixels, preprocessing=preprocessing, arithmetic=predictor.arithmetic)
    return normalised(feature_ND[0])


def normalised(feature_D: np.ndarray) -> np.ndarray:
    """float16 of length one; zeros where the length is zero or no number."""
    length = float(np.linalg.norm(feature_D.astype(np.float64)))
    if not 0 < length < np.inf:
        return np.zeros(feature_D.shape, np.float16)
    return (feature_D / length).astype(np.float16)


def nearest(
    table: FeatureTable,
    query_D: np.ndarray,
    *,
    k: int,
    among_N: np.ndarray | None = None,
    without: tuple[str, str] | None = None,
) -> list[tuple[int, float]]:
    """The k images with the highest cosine to the query, as (index in the table, 1 - cosine), nearest first; ties in table order.

    `query_D` need not have length one. `among_N` is a mask of the images that may be found; `without` is the (split, id) of one
    that may not. Exact: every image is compared. An image, or a query, of zeros is at distance 1 from all.
    """
    length = float(np.linalg.norm(query_D.astype(np.float64)))
    query = torch.from_numpy((query_D / (length or 1)).astype(np.float32))
    cosine_N = np.concatenate([(chunk_ND @ query).numpy() for chunk_ND in table.chunks()])
    distance_N = 1 - np.clip(cosine_N * table.scale_N, -1, 1)
    allowed_N = np.ones(len(table.ids), bool) if among_N is None else among_N.copy()
    if without is not None and without in table.index_of:
        allowed_N[table.index_of[without]] = False
    index_M = np.flatnonzero(allowed_N)
    k = min(k, len(index_M))
    if k <= 0:
        return []
    furthest = np.partition(distance_N[index_M], k - 1)[k - 1]
    near_M = index_M[distance_N[index_M] <= furthest]  # with all that tie for the last place, which the stable sort then decides
    in_order = near_M[np.argsort(distance_N[near_M], kind="stable")][:k]
    return [(int(index), float(distance_N[index])) for index in in_order]


def save_features(table: FeatureTable, folder: Path) -> None:
    """Write the table into the folder, whole or not at all, in the place of an older one, if the disk has room for it.

    Raises RunError where the folder cannot be written.
    """
    header = json.dumps({"version": _VERSION, "key": table.key})
    content = BytesIO()
    np.savez(content, header=np.frombuffer(header.encode(), np.uint8), row_N=table.row_N, feature_ND=table.feature_ND)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if make_room(content.getbuffer().nbytes, folder=folder):
        write_bytes(_file(folder, table.key), content.getbuffer())


def read_features(folder: Path, predictor: Predictor, dataset: Dataset) -> FeatureTable | None:
    """The table that was saved for this checkpoint and these images; None where there is none, or where it is damaged."""
    key = features_key(predictor, dataset)
    try:
        with open(_file(folder, key), "rb") as file, np.load(file, allow_pickle=False) as arrays:
            header = json.loads(bytes(arrays["header"]))
            row_N, feature_ND = arrays["row_N"], arrays["feature_ND"]  # NPZ keeps a CRC of each, checked here
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = (
        header == {"version": _VERSION, "key": key}
        and row_N.dtype == np.int64
        and feature_ND.dtype == np.float16
        and feature_ND.ndim == 2
        and row_N.shape == feature_ND.shape[:1]
        and len(row_N) > 0
        and row_N.min() >= 0
        and row_N.max() < len(dataset)
    )
    return _table(dataset, row_N=row_N, feature_ND=feature_ND, key=key) if is_whole else None


def _file(folder: Path, key: str) -> Path:
    return folder / f"neighbours-{key}{FEATURES}"


def _table(dataset: Dataset, *, row_N: np.ndarray, feature_ND: np.ndarray, key: str) -> FeatureTable:
    return FeatureTable(
        ids=tuple(dataset.ids[row] for row in row_N.tolist()),
        split_N=tuple(dataset.split_N[row] for row in row_N.tolist()),
        row_N=row_N,
        feature_ND=feature_ND,
        key=key,
    )
