"""Nearest neighbours: the images whose features have the highest cosine to a query, by exact search.

Shapes: N images of the index, D features, k neighbours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polytag.contracts import Dataset
from polytag.data.images.augment import views
from polytag.errors import DataError
from polytag.inference.feature_cache import cache_of, features_of
from polytag.inference.predictor import Predictor, apply
from polytag.models.heads import backbone_features

_CHUNK = 1024  # fits the processor's cache, widened
_BACKGROUND_BATCH = 8  # a request that needs the processor between two batches waits for half a second at most


@dataclass(frozen=True, kw_only=True, eq=False)
class NeighborIndex:
    """Features of the readable images of a data set, for exact search.

    ids, split_N, row_N   the id, the split and the data set's row of each image
    feature_ND            float16, each row divided by its length; a row of zeros where the model gave zeros
    """

    ids: tuple[str, ...]
    split_N: tuple[str, ...]
    row_N: np.ndarray
    feature_ND: np.ndarray

    def __post_init__(self):
        assert len(self.ids) == len(self.split_N) == len(self.row_N) == len(self.feature_ND)
        assert self.feature_ND.dtype == np.float16

    @cached_property
    def index_of(self) -> dict[tuple[str, str], int]:
        """The position in this index of each (split, id)."""
        return {key: index for index, key in enumerate(zip(self.split_N, self.ids, strict=True))}

    @cached_property
    def scale_N(self) -> np.ndarray:
        """float32: the factor that makes each row's length exactly one after rounding to float16; 0 for rows of zeros."""
        length_N = np.concatenate([chunk_ND.norm(dim=1).numpy() for chunk_ND in self.chunks()])
        return np.divide(1, length_N, out=np.zeros_like(length_N), where=length_N > 0)

    def chunks(self) -> Iterator[torch.Tensor]:
        """float32 blocks of rows. PyTorch widens them: NumPy widens float16 ten times more slowly than it multiplies."""
        for start in range(0, max(len(self.ids), 1), _CHUNK):
            yield torch.from_numpy(self.feature_ND[start : start + _CHUNK]).float()


def build_index(
    predictor: Predictor, dataset: Dataset, *, folder: Path | None = None, on_batch: Callable[[int], None] = lambda num_images: None
) -> NeighborIndex:
    """Index every readable image, with features from the cache or computed and saved there; see `features_of`.

    Raises DataError where no image can be read.
    """
    feature_ND, row_N = _features_by_split(predictor, dataset, folder=folder, on_batch=on_batch)
    if not len(row_N):
        raise DataError("no image of the data set can be read", where=dataset.source, expected="at least one image")
    return NeighborIndex(
        ids=tuple(dataset.ids[row] for row in row_N.tolist()),
        split_N=tuple(dataset.split_N[row] for row in row_N.tolist()),
        row_N=row_N,
        feature_ND=feature_ND,
    )


def is_index_cached(predictor: Predictor, dataset: Dataset, *, folder: Path | None = None) -> bool:
    """Whether `build_index` finds the features of every split in the cache, so that it takes moments."""

    def is_cached(split: str) -> bool:
        paths = dataset.take(np.asarray(dataset.rows_of(split))).paths
        return any(_are_cached(predictor, paths, batch_size=size, folder=folder) for size in (None, _BACKGROUND_BATCH))

    return all(map(is_cached, dataset.splits))


def _features_by_split(
    predictor: Predictor, dataset: Dataset, *, folder: Path | None, on_batch: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised features and their rows, split after split: a training leaves those of some in the cache, by its own batch size.

    Those of one split at a time are in memory as they are computed: in float32, with all that the head reads.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for split in dataset.splits:
        rows = np.asarray(dataset.rows_of(split))
        paths = dataset.take(rows).paths
        batch_size = None if _are_cached(predictor, paths, batch_size=None, folder=folder) else _BACKGROUND_BATCH
        feature_nD, row_n, _ = features_of(
            predictor, dataset.take(rows), batch_size=batch_size, min_seconds=0, folder=folder, on_batch=on_batch
        )
        if len(row_n):
            own_nD = backbone_features(predictor.model, feature_nD)
            parts.append((np.stack([normalised(feature_D) for feature_D in own_nD]), rows[row_n]))
    if not parts:
        return np.zeros((0, 0), np.float16), np.zeros(0, np.int64)
    return np.concatenate([each for each, _ in parts]), np.concatenate([rows for _, rows in parts])


def _are_cached(predictor: Predictor, paths: Sequence[Path], *, batch_size: int | None, folder: Path | None) -> bool:
    """Whether features are cached by this batch size, None for that of scoring; the cache, which holds them, goes at once."""
    cache = cache_of(predictor, paths, batch_size=batch_size, folder=folder)
    return cache is not None and cache.is_cached


def image_feature(predictor: Predictor, image: Image.Image) -> np.ndarray:
    """float16, D: the normalised features of one upright RGB image."""
    preprocessing = predictor.checkpoint.preprocessing
    pixels = views(image, preprocessing)[None]
    feature_ND = apply(predictor.frozen.features, pixels, preprocessing=preprocessing, arithmetic=predictor.arithmetic)
    return normalised(backbone_features(predictor.model, feature_ND)[0])


def normalised(feature_D: np.ndarray) -> np.ndarray:
    """float16 of length one; zeros where the length is zero or not finite."""
    length = float(np.linalg.norm(feature_D.astype(np.float64)))
    if not 0 < length < np.inf:
        return np.zeros(feature_D.shape, np.float16)
    return (feature_D / length).astype(np.float16)


def nearest(
    index: NeighborIndex,
    query_D: np.ndarray,
    *,
    k: int,
    among_N: np.ndarray | None = None,
    without: tuple[str, str] | None = None,
) -> list[tuple[int, float]]:
    """The k images with the highest cosine to the query, as (position in the index, 1 - cosine), nearest first.

    Ties are in the order of the index. `query_D` may have any length. `among_N` masks the images to search; `without` is the
    (split, id) of an image to leave out. Every image is compared. A query or an image of zeros has distance 1 from all.
    """
    query_D = query_D.astype(np.float64)  # float16 would be rounded again by the division
    query = torch.from_numpy((query_D / (np.linalg.norm(query_D) or 1)).astype(np.float32))
    cosine_N = np.concatenate([(chunk_ND @ query).numpy() for chunk_ND in index.chunks()])
    distance_N = 1 - np.clip(cosine_N * index.scale_N, -1, 1)
    allowed_N = np.ones(len(index.ids), bool) if among_N is None else among_N.copy()
    if without is not None and without in index.index_of:
        allowed_N[index.index_of[without]] = False
    allowed_M = np.flatnonzero(allowed_N)
    k = min(k, len(allowed_M))
    if k <= 0:
        return []
    furthest = np.partition(distance_N[allowed_M], k - 1)[k - 1]
    near_M = allowed_M[distance_N[allowed_M] <= furthest]  # all ties for the last place; the stable sort picks among them
    in_order = near_M[np.argsort(distance_N[near_M], kind="stable")][:k]
    return [(int(position), float(distance_N[position])) for position in in_order]
