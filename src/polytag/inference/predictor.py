"""The inference loop, images -> logits, of validation in training and of `polytag predict`."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from polytag.calibration import calibrated
from polytag.contracts import Dataset, Predictions, Preprocessing
from polytag.data.images.augment import views
from polytag.data.images.batches import Batch, batches_of
from polytag.data.images.read import read_image
from polytag.errors import ImageError
from polytag.inference.parallel import In, Out, in_parallel
from polytag.inference.scored import Scored
from polytag.machine import num_cores
from polytag.models.checkpoint import Checkpoint
from polytag.models.device import Arithmetic, choose_arithmetic
from polytag.models.fused import Frozen, freeze

BATCH_SIZE = 16  # per core, measured in docs/experiments.md; constant, so that the same images give the same bits everywhere


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidentBatch:
    """A `Batch` whose pixels are a tensor on the device."""

    rows: np.ndarray
    pixels_NVHWC: Tensor
    failures: tuple[tuple[int, ImageError], ...]


Source = Callable[[Sequence[int], int], Iterator[Batch | ResidentBatch]]
"""(rows, batch size) -> batches of the views that are scored, in order."""

Extracted = tuple[np.ndarray, np.ndarray, tuple[tuple[int, ImageError], ...]]
"""feature_ND float32, the rows of its N images, and the (row, error) of images that could not be read."""


def from_files(paths: Sequence[Path], preprocessing: Preprocessing) -> Source:
    """Decode every image on demand: the reference, which every other source equals to the last bit."""
    return from_reader(lambda row: views(read_image(paths[row]), preprocessing))


def from_reader(read: Callable[[int], np.ndarray]) -> Source:
    """A source from a thread-safe function of a row that returns its views, uint8 V x S x S x 3, such as an ImageCache's `get`."""

    def source(rows: Sequence[int], batch_size: int) -> Iterator[Batch]:
        return batches_of(rows, batch_size=batch_size, read=read, num_threads=num_cores())

    return source


def to_input(pixels_NHWC: Tensor, preprocessing: Preprocessing, device: str) -> Tensor:
    """Convert n x S x S x 3, 0 to 255, to normalised float32 n x 3 x S x S, channels last in memory, on the device."""
    shape = pixels_NHWC.shape
    mean, std = _normalisation(preprocessing.mean, preprocessing.std, shape[1] * shape[2], device)
    pixels = pixels_NHWC.to(device, non_blocking=True).to(torch.float32, copy=True).flatten(1)
    return pixels.sub_(mean).div_(std).reshape(shape).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _normalisation(mean: tuple[float, ...], std: tuple[float, ...], num_pixels: int, device: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation in grey levels, repeated for every pixel: four times as fast as an inner loop over three channels.

    Cached on the device: a copy at every batch would synchronise, and cannot be part of a CUDA graph.
    """
    with torch.inference_mode(mode=False):
        return (torch.tensor(mean) * 255).repeat(num_pixels).to(device), (torch.tensor(std) * 255).repeat(num_pixels).to(device)


def scoring_batch_size(arithmetic: Arithmetic) -> int:
    """Batch size of scoring: one that fits a processor's caches, or keeps a GPU busy."""
    return BATCH_SIZE if arithmetic.device == "cpu" else 16 * BATCH_SIZE


def run(
    forward: Callable[[Tensor], Tensor],
    paths: Sequence[Path],
    *,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
    batch_size: int | None = None,
    source: Source | None = None,
    rows: Sequence[int] | None = None,
) -> Generator[Scored]:
    """Apply a function of normalised images to every path, in order and in bounded memory; the outputs of views are averaged.

    `forward` maps n x 3 x S x S to n x D: a model's logits, or a backbone's features. On the processor each core computes its own
    batch, so `forward` must be thread-safe. `source` reads the images, by default from the files; `rows` selects them.
    """
    source = source or from_files(paths, preprocessing)
    ready = source(range(len(paths)) if rows is None else rows, batch_size or scoring_batch_size(arithmetic))

    def score(batch: Batch | ResidentBatch) -> Scored:
        output_ND = np.zeros((0, 0), np.float32)
        if len(batch.rows):
            output_ND = apply(forward, batch.pixels_NVHWC, preprocessing=preprocessing, arithmetic=arithmetic)
        return Scored(rows=batch.rows, output_ND=output_ND, failures=batch.failures)

    if arithmetic.device != "cpu":
        yield from map(score, ready)
        return
    yield from one_core_each(score, ready, num_workers=torch.get_num_threads())


def one_core_each(work: Callable[[In], Out], batches: Iterator[In], *, num_workers: int) -> Iterator[Out]:
    """As `in_parallel`, with threads in which torch computes on one core each."""
    num_threads = torch.get_num_threads()
    try:
        yield from in_parallel(work, batches, num_workers=num_workers, prepare=lambda: torch.set_num_threads(1))
    finally:
        torch.set_num_threads(num_threads)  # each thread has its own number, but new threads start with the last one set


def apply(
    forward: Callable[[Tensor], Tensor],
    pixels_NVHWC: np.ndarray | Tensor,
    *,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
) -> np.ndarray:
    """float32 N x D of N >= 1 images, given as uint8 views of the input size; the outputs of an image's views are averaged."""
    num_images, num_views = pixels_NVHWC.shape[:2]
    pixels = pixels_NVHWC if isinstance(pixels_NVHWC, Tensor) else torch.from_numpy(pixels_NVHWC)
    with torch.inference_mode(), arithmetic.autocast():
        output = forward(to_input(pixels.flatten(0, 1), preprocessing, arithmetic.device))
    return output.float().reshape(num_images, num_views, -1).mean(dim=1).cpu().numpy()


def extract_features(
    model: nn.Module,
    dataset: Dataset,
    *,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
    batch_size: int | None = None,
    source: Source | None = None,
    rows: Sequence[int] | None = None,
    on_batch: Callable[[int], None] = lambda num_images: None,
    is_enough: Callable[[int], bool] = lambda num_images: False,
) -> Extracted:
    """Pooled features of every image that can be read: feature_ND float32, its rows, and the (row, error) of the others.

    `rows` selects images, in this order; no more of them are taken where so many `is_enough`.
    """
    frozen = freeze(model, arithmetic=arithmetic, image_size_px=preprocessing.image_size_px)
    read: list[np.ndarray] = []
    outputs: list[np.ndarray] = []
    failures: list[tuple[int, ImageError]] = []
    num_done = 0
    ready = run(
        frozen.features,
        dataset.paths,
        preprocessing=preprocessing,
        arithmetic=arithmetic,
        batch_size=batch_size,
        source=source,
        rows=rows,
    )
    with contextlib.closing(ready):
        for scored in ready:
            failures.extend(scored.failures)
            on_batch(len(scored.rows) + len(scored.failures))
            if len(scored.rows):
                read.append(scored.rows)
                outputs.append(scored.output_ND)
            num_done += len(scored.rows) + len(scored.failures)
            if is_enough(num_done):
                break
    index = np.concatenate(read) if read else np.zeros(0, np.int64)
    return (np.concatenate(outputs) if outputs else np.zeros((0, 0), np.float32)), index, tuple(failures)


def score_dataset(
    model: nn.Module,
    dataset: Dataset,
    *,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
    batch_size: int | None = None,
    checkpoint_id: str = "",
    source: Source | None = None,
    shard: tuple[int, int] = (0, 1),
    gather: Callable[[Sequence[Scored]], Sequence[Scored]] = lambda scored: scored,
    on_batch: Callable[[Scored], None] = lambda scored: None,
    on_features: Callable[[Scored], None] | None = None,
) -> Predictions:
    """Predictions of a model on the device over a data set, without unreadable images; leaves the model in evaluation mode.

    `shard` (k, n): this process scores every n-th batch from the k-th on, and `gather` returns the batches of all n processes.
    Batches are those of a single process, so their bits are too, and no image is scored twice to equalise the shares.
    `on_features` receives the features of every batch, which the pass computes anyway; never of a classifier that is not linear.
    """
    batch_size = batch_size or scoring_batch_size(arithmetic)
    rows = _rows_of_shard(len(dataset), batch_size=batch_size, shard=shard)
    own: list[Scored] = []
    frozen = freeze(model, arithmetic=arithmetic, image_size_px=preprocessing.image_size_px)
    has_both = on_features is not None and frozen.head is not None
    for scored in run(
        frozen.features_and_logits if has_both else frozen.logits,
        dataset.paths,
        preprocessing=preprocessing,
        arithmetic=arithmetic,
        batch_size=batch_size,
        source=source,
        rows=rows,
    ):
        on_batch(scored)
        if has_both:
            scored = _taken_apart(scored, frozen, on_features)
        own.append(scored)
    parts = [scored for scored in gather(own) if len(scored.rows)]
    index = np.concatenate([scored.rows for scored in parts]) if parts else np.zeros(0, np.int64)
    order = np.argsort(index, kind="stable")
    scored_set = dataset.take(index[order])
    num_classes = len(dataset.label_set)
    logit_NC = np.concatenate([scored.output_ND for scored in parts]) if parts else np.zeros((0, num_classes), np.float32)
    return Predictions(
        ids=scored_set.ids,
        logit_NC=logit_NC[order],
        target_NC=scored_set.target_NC,
        label_set=dataset.label_set,
        image_paths=tuple(str(path) for path in scored_set.paths),
        checkpoint_id=checkpoint_id,
        source=dataset.source,
        absent_means=dataset.absent_means,
    )


def _taken_apart(both: Scored, frozen: Frozen, on_features: Callable[[Scored], None] | None) -> Scored:
    """Hand over the features of a batch, and return its logits."""
    assert frozen.head is not None
    assert on_features is not None
    width = frozen.head.in_features if len(both.rows) else 0
    on_features(replace(both, output_ND=both.output_ND[:, :width].copy()))
    return replace(both, output_ND=both.output_ND[:, width:].copy())  # a view would hold the features as long as the logits


def _rows_of_shard(num_rows: int, *, batch_size: int, shard: tuple[int, int]) -> list[int]:
    """The rows of every n-th batch; only the very last batch is short, so batching these rows again gives the same batches."""
    first, every = shard
    starts = range(first * batch_size, num_rows, every * batch_size)
    return [row for start in starts for row in range(start, min(start + batch_size, num_rows))]


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A checkpoint that is ready to score: its model, loaded on the chosen device."""

    checkpoint: Checkpoint
    model: nn.Module
    arithmetic: Arithmetic

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> "Predictor":
        """Load the weights; raises CheckpointError where they are damaged, UsageError for a missing device."""
        arithmetic = choose_arithmetic(device, precision)
        return cls(checkpoint=checkpoint, model=checkpoint.load_model().to(arithmetic.device), arithmetic=arithmetic)

    @cached_property
    def frozen(self) -> Frozen:
        """The frozen model that scores."""
        return freeze(self.model, arithmetic=self.arithmetic, image_size_px=self.checkpoint.preprocessing.image_size_px)

    def score(self, dataset: Dataset) -> Predictions:
        """Predictions over a data set, calibrated if the checkpoint is; raises CheckpointError for another class list."""
        self.checkpoint.require_labels(dataset.label_set)
        predictions = score_dataset(
            self.model,
            dataset,
            preprocessing=self.checkpoint.preprocessing,
            arithmetic=self.arithmetic,
            checkpoint_id=self.checkpoint.id,
        )
        return calibrated(predictions, self.checkpoint.calibration)

    @property
    def engine(self) -> str:
        """See `Scorer`."""
        return "torch"

    @property
    def precision(self) -> str:
        """See `Scorer`."""
        return self.arithmetic.precision

    def prepare_thread(self) -> None:
        """See `Scorer`."""
        if self.arithmetic.device == "cpu":
            torch.set_num_threads(1)

    def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
        """See `Scorer`; raises CheckpointError where the model gives a score that is not finite."""
        preprocessing = self.checkpoint.preprocessing
        return self._calibrated(apply(self.frozen.logits, pixels_NVHWC, preprocessing=preprocessing, arithmetic=self.arithmetic))

    def score_image(self, image: Image.Image) -> np.ndarray:
        """float32 logits, C, of one upright RGB image, calibrated if the checkpoint is."""
        return self.logits_of(views(image, self.checkpoint.preprocessing)[None])[0]

    def score_rows(self, num_rows: int, read: Callable[[int], np.ndarray]) -> Iterator[Scored]:
        """See `Scorer`; raises CheckpointError where the model gives a score that is not finite."""
        for scored in run(
            self.frozen.logits,
            (),
            preprocessing=self.checkpoint.preprocessing,
            arithmetic=self.arithmetic,
            source=from_reader(read),
            rows=range(num_rows),
        ):
            yield replace(scored, output_ND=self._calibrated(scored.output_ND)) if len(scored.rows) else scored

    def score_files(self, paths: Sequence[Path]) -> Iterator[Scored]:
        """As `score_rows`, of images."""
        return self.score_rows(len(paths), lambda row: views(read_image(paths[row]), self.checkpoint.preprocessing))

    def _calibrated(self, logit_NC: np.ndarray) -> np.ndarray:
        return self.checkpoint.calibrated(logit_NC, next_step="copy the checkpoint again, or train again")
