"""Runs the model of the inspector: predictions, heat maps and nearest neighbours. The first request loads it."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from polytag.contracts import PRESENT, Dataset
from polytag.data.images.augment import seen_region, views
from polytag.data.images.read import read_image
from polytag.data.images.stored import image_status
from polytag.errors import ImageError
from polytag.inspector.browse.dataset_rows import dataset_rows
from polytag.inspector.browse.thumbnails import MAX_PIXELS
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.job_queue import Busy, JobQueue
from polytag.inspector.model.overlay import overlay_png
from polytag.logits import sigmoid
from polytag.machine import num_cores
from polytag.metrics.decisions import decide

# Modules that import torch are imported inside the functions of the worker thread. So the pages do not wait seconds for a library
# that only these three features need, and scores without a model do not need it at all.
if TYPE_CHECKING:
    from polytag.inference.neighbors import NeighborIndex
    from polytag.inference.predictor import Predictor

MAX_WAITING = 8
_MAX_OVERLAYS = 64  # in the cache, of about 20 kB each


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The prediction of one class in an image. `is_present` where the probability is above the run's threshold."""

    name: str
    probability: float
    threshold: float
    is_present: bool


@dataclass(frozen=True, kw_only=True)
class NearestNeighbor:
    """An image of the data set: its row, 1 - cosine similarity of the features (0 to 2), and the classes it is labelled with."""

    split: str
    id: str
    row: int
    distance: float
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NearestNeighbors:
    """The nearest images of each split, nearest first. Empty while features are computed; `progress` is the share done.

    "waiting" where nobody has asked for features that are not cached.
    """

    status: Literal["ready", "computing", "waiting"]
    progress: float
    of_split: dict[str, tuple[NearestNeighbor, ...]]


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of the whole data set, as far as they are computed. "waiting" where nobody has asked for them."""

    status: Literal["ready", "computing", "waiting"]
    progress: float
    index: "NeighborIndex | None" = None


class _Stopped(Exception):
    """Ends the computation of the features when the worker closes, or nobody wants them any more."""


@final
class ModelWorker:
    """Runs one job of the model at a time and returns futures. A few jobs wait; more raise Busy. Safe to call from many threads.

    `inspection.checkpoint` is not None. `cache_folder` stores the features of whole data sets. Futures raise ImageError for an
    image that cannot be read, CheckpointError for a model that cannot be used, UsageError for a backbone without heat maps.
    """

    def __init__(self, inspection: Inspection, cache_folder: Path, *, max_waiting: int = MAX_WAITING):
        assert inspection.checkpoint is not None
        self._checkpoint, self._inspection, self._cache_folder = inspection.checkpoint, inspection, cache_folder
        self._queue = JobQueue(max_waiting=max_waiting)
        self._predictor: Predictor | None = None
        self._overlays: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()
        self._stop, self._is_unwanted = Event(), Event()
        self._builder: Thread | None = None
        self._num_done = 0
        self._table: NeighborIndex | None = None
        self._failure: Exception | None = None
        self._rows_N = dataset_rows(inspection)

    @property
    def queue(self) -> JobQueue:
        """The queue of its jobs, for other work that is to take turns with them."""
        return self._queue

    @property
    def is_full(self) -> bool:
        """Whether a job would raise Busy. Callers check it before they read an upload."""
        return self._queue.is_full

    def warm_up(self) -> None:
        """Load the model ahead of the first request. A failure is raised by the request that needs the model."""
        with suppress(Busy):
            self._queue.submit(self._loaded)

    def close(self) -> None:
        """Drop waiting jobs, stop the background work, and wait until it ends, which takes at most one batch of images."""
        self._stop.set()
        self._queue.close()
        with self._lock:
            builder = self._builder
        if builder is not None:
            builder.join()

    # ---- an image ----

    def predict(self, content: bytes) -> Future[tuple[Decision, ...]]:
        """Predict all classes of an image from the content of its file, highest probability first. Raises Busy."""
        return self._queue.submit(lambda: self._decisions(content))

    def heat_of_row(self, row: int, column: int) -> Future[bytes]:
        """Return the heat map of a class for the image of a row, from the first of its views, as a PNG overlay. Raises Busy."""
        path = self._inspection.predictions.image_paths[row]
        return self._queue.submit(lambda: self._cached_or(self.heat_tag(row, column), lambda: self._heat(_file(path), column)))

    def heat_of_upload(self, content: bytes, column: int) -> Future[bytes]:
        """As `heat_of_row`, for an image given by the content of its file. Raises Busy."""

        def job() -> bytes:
            return self._cached_or(f"{hashlib.sha256(content).hexdigest()} {column}", lambda: self._heat(content, column))

        return self._queue.submit(job)

    def heat_tag(self, row: int, column: int) -> str:
        """Return 16 hexadecimal digits that change with the scores, the image file or the model."""
        parts: list[object] = [self._inspection.version, row, column]
        for path in (Path(self._inspection.predictions.image_paths[row]), self._checkpoint / "config.json"):
            with suppress(OSError, ValueError):
                status = image_status(path)
                parts += [status.st_size, status.st_mtime_ns]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _decisions(self, content: bytes) -> tuple[Decision, ...]:
        predictor = self._loaded()
        logit_C = predictor.score_image(read_image(content, max_pixels=MAX_PIXELS))
        probability_C, threshold_C = sigmoid(logit_C), self._inspection.threshold_C
        is_present_C = decide(probability_C, threshold_C=threshold_C)
        return tuple(
            Decision(
                name=predictor.checkpoint.label_set.names[c],
                probability=float(probability_C[c]),
                threshold=float(threshold_C[c]),
                is_present=bool(is_present_C[c]),
            )
            for c in np.argsort(-logit_C, kind="stable").tolist()
        )

    def _heat(self, source: Path | bytes, column: int) -> bytes:
        import torch

        from polytag.inference.predictor import to_input
        from polytag.models.heatmap import class_activation

        predictor = self._loaded()
        preprocessing = predictor.checkpoint.preprocessing
        image = read_image(source, max_pixels=MAX_PIXELS)
        first_view = torch.from_numpy(views(image, preprocessing)[:1])
        pixels = to_input(first_view, preprocessing, predictor.arithmetic.device)
        (heat_hw,) = class_activation(predictor.model, pixels, [column])
        return overlay_png(heat_hw, size=image.size, region=seen_region(image.size, preprocessing))

    def _cached_or(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return a cached overlay, or make it. Runs in the worker thread only, so the cache needs no lock."""
        if key not in self._overlays:
            self._overlays[key] = make()
        self._overlays.move_to_end(key)
        while len(self._overlays) > _MAX_OVERLAYS:
            self._overlays.popitem(last=False)
        return self._overlays[key]

    def _loaded(self) -> "Predictor":
        """Return the model, which the first caller loads; raises CheckpointError."""
        import torch

        from polytag.inference.predictor import Predictor
        from polytag.models.checkpoint import Checkpoint

        torch.set_num_threads(max(1, num_cores() - 1))  # of the calling thread; one core is left to the pages
        if self._predictor is None:
            checkpoint = Checkpoint.read(self._checkpoint)
            checkpoint.require_labels(self._inspection.predictions.label_set)
            self._predictor = Predictor.load(checkpoint)
        return self._predictor

    # ---- features and neighbours ----

    def features(self, *, begin: bool) -> Features:
        """Return the features of the data set, or the progress of their computation, which `begin` starts in the background.

        They are read from the cache folder where they are cached. After a failure the next call raises it, and the one after that
        tries again. Raises Busy while the worker closes.
        """
        data = self._inspection.data
        assert data is not None
        with self._lock:
            index, failure = self._table, self._failure
            if index is None and failure is None:
                if self._stop.is_set():
                    raise Busy("the inspector is being closed")
                if self._builder is None and not begin:
                    return Features(status="waiting", progress=0.0)
                if self._builder is None:
                    self._is_unwanted.clear()
                    self._builder = Thread(target=self._build, args=(data,), name="polytag-features", daemon=True)
                    self._builder.start()
                return Features(status="computing", progress=self._num_done / len(data))
            self._failure = None
        if failure is not None:
            raise failure
        return Features(status="ready", progress=1.0, index=index)

    def stop_features(self) -> None:
        """End the computation of the features, and wait until it has ended, which takes at most one batch of images."""
        self._is_unwanted.set()
        with self._lock:
            builder = self._builder
        if builder is not None:
            builder.join()

    def nearest(self, row: int, *, limit: int) -> Future[NearestNeighbors]:
        """Return at most `limit` images of each split whose features are nearest to those of the image of a row. Raises Busy.

        The first request starts to compute the features of the whole data set in the background, or reads them from the cache
        folder. Until then the answer holds the progress. After a failure the next request raises it, and the one after that tries
        again.
        """
        return self._nearest_to(lambda table: self._feature_of_row(table, row), limit=limit)

    def nearest_of_upload(self, content: bytes, *, limit: int, is_asked_for: bool = True) -> Future[NearestNeighbors]:
        """As `nearest`, for an image given by the content of its file. Raises Busy.

        Where nobody asked for it, features are read from the cache folder, and computed nowhere: "waiting" without them.
        """
        if not is_asked_for and self.features(begin=False).status == "waiting":
            return self._queue.submit(self._begin_if_cached)
        return self._nearest_to(lambda table: (self._feature(content), None), limit=limit)

    def _nearest_to(self, query_of: "Callable[[NeighborIndex], _Query]", *, limit: int) -> Future[NearestNeighbors]:
        data, found = self._inspection.data, self.features(begin=True)
        assert data is not None
        table = found.index
        if table is None:
            return _done(NearestNeighbors(status="computing", progress=found.progress, of_split={}))
        return self._queue.submit(lambda: _nearest_neighbors(table, data, query_of(table), limit=limit))

    def _begin_if_cached(self) -> NearestNeighbors:
        from polytag.inference.neighbors import is_index_cached

        assert self._inspection.data is not None
        if not is_index_cached(self._loaded(), self._inspection.data, folder=self._cache_folder):
            return NearestNeighbors(status="waiting", progress=0.0, of_split={})
        return NearestNeighbors(status="computing", progress=self.features(begin=True).progress, of_split={})

    def _build(self, data: Dataset) -> None:
        """Read or compute the feature table in the background thread, between the jobs of the queue."""
        table, failure = None, None
        self._queue.begin_background()
        try:
            table = self._saved_or_built(data)
        except _Stopped:
            pass
        except Exception as error:  # raised by the next request
            failure = error
        finally:
            self._queue.end_background()
        with self._lock:
            self._table, self._failure, self._builder = table, failure, None
            self._num_done = 0

    def _saved_or_built(self, data: Dataset) -> "NeighborIndex":
        from polytag.inference.neighbors import build_index

        def on_batch(num_images: int) -> None:
            self._num_done += num_images
            self._queue.yield_turn(self._stop)
            if self._stop.is_set() or self._is_unwanted.is_set():
                raise _Stopped

        return build_index(self._loaded(), data, folder=self._cache_folder, on_batch=on_batch)

    def _feature_of_row(self, table: "NeighborIndex", row: int) -> "_Query":
        data, own_row = self._inspection.data, int(self._rows_N[row])
        assert data is not None
        own_key = (data.split_N[own_row], data.ids[own_row]) if own_row >= 0 else None
        if own_key in table.index_of:
            return table.feature_ND[table.index_of[own_key]], own_key
        return self._feature(_file(self._inspection.predictions.image_paths[row])), own_key  # it is not in the data set

    def _feature(self, source: Path | bytes) -> np.ndarray:
        from polytag.inference.neighbors import image_feature

        return image_feature(self._loaded(), read_image(source, max_pixels=MAX_PIXELS))


_Query = tuple[np.ndarray, tuple[str, str] | None]
"""The features of an image, and its (split, id) in the data set, which is left out of its neighbours."""


def _nearest_neighbors(table: "NeighborIndex", data: Dataset, query: _Query, *, limit: int) -> NearestNeighbors:
    from polytag.inference.neighbors import nearest

    query_D, own_key = query
    of_split: dict[str, tuple[NearestNeighbor, ...]] = {}
    for split in data.splits:
        among_N = np.array([each == split for each in table.split_N])
        found = nearest(table, query_D, k=limit, among_N=among_N, without=own_key)
        of_split[split] = tuple(_nearest_neighbor(data, int(table.row_N[index]), distance) for index, distance in found)
    return NearestNeighbors(status="ready", progress=1.0, of_split=of_split)


def _nearest_neighbor(data: Dataset, row: int, distance: float) -> NearestNeighbor:
    labels = tuple(data.label_set.names[c] for c in np.flatnonzero(data.target_NC[row] == PRESENT).tolist())
    return NearestNeighbor(split=data.split_N[row], id=data.ids[row], row=row, distance=max(0.0, distance), labels=labels)


def _file(path: str) -> Path:
    if not path:
        raise ImageError("no image file is known")
    return Path(path)


def _done(answer: NearestNeighbors) -> Future[NearestNeighbors]:
    future: Future[NearestNeighbors] = Future()
    future.set_result(answer)
    return future
