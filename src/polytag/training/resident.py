"""The whole data set in the memory of the device: decoded once, uint8, augmented there in batches; nothing is read or copied later.

Training images share a canvas of one height and width. Images that fit are stored whole, so their crops equal those from files;
larger ones are shrunk to the canvas side by side. Validation images are stored as the views that scoring sees, and are exact.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polytag.contracts import Preprocessing
from polytag.data.images.augment import NUM_VIEWS, drawn
from polytag.data.images.batches import batches_of_chunks
from polytag.data.images.read import read_size
from polytag.data.images.resize import resize
from polytag.errors import ImageError
from polytag.inference.predictor import ResidentBatch, Source, to_input
from polytag.machine import num_cores
from polytag.models.device import Arithmetic
from polytag.training.device_augment import DeviceAugmentation, augmented_on_device, parameters, stacked
from polytag.training.image_loader import ImageLoaderBatch
from polytag.training.input_pipeline import InputPipeline

_DECODE_AT_ONCE = 64  # images that cross to the device together
_DRAWN_AHEAD = 32  # batches


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """How training images are stored: height and width in pixels, and how many images have to be shrunk to fit."""

    height_px: int
    width_px: int
    num_shrunk: int

    def num_bytes(self, num_images: int) -> int:
        """Memory of `num_images` images on the device."""
        return 3 * self.height_px * self.width_px * num_images


def choose_canvas(paths: Sequence[Path], pipeline: InputPipeline, *, budget_bytes: float) -> Canvas | None:
    """The largest canvas that the budget holds, no larger than images need; None where it would be smaller than a view.

    Images are stored whole up to twice the view's side, and 512 px at least; beyond that a crop shows no more detail.
    """
    size_px = pipeline.preprocessing.image_size_px
    if not pipeline.is_augmented:
        canvas = Canvas(height_px=size_px, width_px=size_px, num_shrunk=0)
        return canvas if canvas.num_bytes(len(paths)) <= budget_bytes else None
    with ThreadPoolExecutor(num_cores()) as pool:
        sizes = np.array([size for size in pool.map(_size, paths) if size is not None]).reshape(-1, 2)
    if not len(sizes):
        return None
    for side_px in range(max(512, 2 * size_px), size_px - 1, -32):
        width_px, height_px = (int(side) for side in np.minimum(sizes, side_px).max(axis=0))
        num_shrunk = int((sizes > side_px).any(axis=1).sum())
        canvas = Canvas(height_px=height_px, width_px=width_px, num_shrunk=num_shrunk)
        if canvas.num_bytes(len(paths)) <= budget_bytes:
            return canvas
    return None


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return read_size(path)  # larger than what `training_source` leaves of very large ones, so never too small
    except ImageError:
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidentImageLoader:
    """An ImageLoader whose images are in the memory of the device. A batch's inputs are rows and random choices: a few numbers.

    canvas_N3HW    uint8, on the device
    full_N2, stored_N2   width and height of each image as decoded, and in the canvas
    failures       row: error of the images that could not be read
    """

    canvas_N3HW: Tensor
    full_N2: np.ndarray
    stored_N2: np.ndarray
    failures: dict[int, ImageError]
    pipeline: InputPipeline
    arithmetic: Arithmetic

    def batches(self, chunks: Sequence[np.ndarray], *, epoch: int) -> Iterator[ImageLoaderBatch]:
        """See ImageLoader; a thread draws the choices ahead of time."""
        pending: deque[Future[ImageLoaderBatch]] = deque()
        pool = ThreadPoolExecutor(1, thread_name_prefix="polytag-chance")
        try:
            for chunk in chunks:
                pending.append(pool.submit(self._drawn, chunk, epoch))
                if len(pending) > _DRAWN_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _drawn(self, chunk: np.ndarray, epoch: int) -> ImageLoaderBatch:
        pipeline = self.pipeline
        rows = np.array([row for row in chunk.tolist() if row not in self.failures], dtype=np.int64)
        failures = tuple((row, self.failures[row]) for row in chunk.tolist() if row in self.failures)
        if not pipeline.is_augmented:
            return ImageLoaderBatch(rows=rows, inputs=(torch.from_numpy(rows),), failures=failures)
        chosen: list[np.ndarray] = []
        for row in rows.tolist():
            full: tuple[int, int] = tuple(self.full_N2[row].tolist())
            choices = drawn(full, pipeline.preset, pipeline.preprocessing, pipeline.rng(epoch=epoch, row=row))
            chosen.append(parameters(choices, full_size=full, stored_size=tuple(self.stored_N2[row].tolist())))
        return ImageLoaderBatch(rows=rows, inputs=(torch.from_numpy(rows), stacked(chosen)), failures=failures)

    def pixels(self, *inputs: Tensor) -> Tensor:
        """See ImageLoader; the inputs are rows and, with augmentation, the parameters of each."""
        preprocessing = self.pipeline.preprocessing
        if len(inputs) == 1:
            view_N3SS = self.canvas_N3HW.index_select(0, inputs[0])
        else:
            on_gpu = self.arithmetic.device == "cuda" and self.arithmetic.precision == "bf16"
            how = DeviceAugmentation(
                preset=self.pipeline.preset,
                size_px=preprocessing.image_size_px,
                interpolation=preprocessing.interpolation,
                # half precision holds grey levels exactly, and its products are added up in float32
                dtype=torch.float16 if on_gpu else torch.float32,
            )
            with torch.no_grad(), torch.autocast(self.arithmetic.device, enabled=False):
                view_N3SS = augmented_on_device(self.canvas_N3HW, inputs[0], inputs[1], how)
        channels_last = view_N3SS.permute(0, 2, 3, 1).contiguous()
        return to_input(channels_last, preprocessing, self.arithmetic.device)


def resident_loader(
    read: Callable[[int], np.ndarray],
    pipeline: InputPipeline,
    *,
    canvas: Canvas,
    num_images: int,
    arithmetic: Arithmetic,
    on_batch: Callable[[int], None] = lambda num_images: None,
) -> ResidentImageLoader:
    """Decode every image, on all cores, and move it to the device; `read` gives what `InputPipeline.stored` makes of a row."""
    full_N2, stored_N2 = np.ones((num_images, 2), np.int64), np.ones((num_images, 2), np.int64)

    def planes(row: int) -> np.ndarray:
        pixels = read(row)[0]
        full_N2[row] = stored_N2[row] = pixels.shape[1], pixels.shape[0]
        size = (min(pixels.shape[1], canvas.width_px), min(pixels.shape[0], canvas.height_px))
        if size != (pixels.shape[1], pixels.shape[0]):
            pixels = np.asarray(resize(Image.fromarray(pixels), size, Image.Resampling.LANCZOS))
            stored_N2[row] = size
        stored = np.zeros((1, 3, canvas.height_px, canvas.width_px), np.uint8)
        stored[0, :, : size[1], : size[0]] = pixels.transpose(2, 0, 1)
        return stored

    shape = (num_images, 3, canvas.height_px, canvas.width_px)
    pixels, failures = _decoded(planes, shape=shape, device=arithmetic.device, on_batch=on_batch)
    return ResidentImageLoader(
        canvas_N3HW=pixels, full_N2=full_N2, stored_N2=stored_N2, failures=failures, pipeline=pipeline, arithmetic=arithmetic
    )


def resident_views(
    read: Callable[[int], np.ndarray], preprocessing: Preprocessing, *, num_images: int, arithmetic: Arithmetic
) -> Source:
    """A Source for scoring from the memory of the device, which holds the views that `read` gives of a row.

    They are decoded in the background, into the processor's memory, while training has begun, and carried over when first wanted.
    """
    shape = (num_images, NUM_VIEWS[preprocessing.crops], preprocessing.image_size_px, preprocessing.image_size_px, 3)
    pool = ThreadPoolExecutor(1, thread_name_prefix="polytag-views")
    decoding = pool.submit(_decoded, read, shape=shape, device="cpu", on_batch=lambda num_images: None)
    pool.shutdown(wait=False)

    @lru_cache(maxsize=1)
    def on_device() -> tuple[Tensor, dict[int, ImageError]]:
        pixels, failures = decoding.result()
        return pixels.to(arithmetic.device), failures

    def source(rows: Sequence[int], batch_size: int) -> Iterator[ResidentBatch]:
        pixels, failures = on_device()
        for start in range(0, len(rows), batch_size):
            chunk = list(rows[start : start + batch_size])
            readable = [row for row in chunk if row not in failures]
            yield ResidentBatch(
                rows=np.array(readable, dtype=np.int64),
                pixels_NVHWC=pixels.index_select(0, torch.tensor(readable, dtype=torch.int64, device=pixels.device)),
                failures=tuple((row, failures[row]) for row in chunk if row in failures),
            )

    return source


def views_bytes(num_images: int, preprocessing: Preprocessing) -> int:
    """The memory that `resident_views` needs on the device."""
    return 3 * num_images * NUM_VIEWS[preprocessing.crops] * preprocessing.image_size_px**2


def _decoded(
    read: Callable[[int], np.ndarray], *, shape: tuple[int, ...], device: str, on_batch: Callable[[int], None]
) -> tuple[Tensor, dict[int, ImageError]]:
    """uint8 of this shape on the device, one row per image, and the errors of those that could not be read."""
    pixels = torch.zeros(shape, dtype=torch.uint8, device=device)
    failures: dict[int, ImageError] = {}
    chunks = [range(start, min(start + _DECODE_AT_ONCE, shape[0])) for start in range(0, shape[0], _DECODE_AT_ONCE)]
    for batch in batches_of_chunks(chunks, read=read, num_threads=num_cores(), num_ahead=4):
        failures.update(batch.failures)
        if len(batch.rows):
            arrived = torch.from_numpy(batch.pixels_NVHWC.reshape(len(batch.rows), *shape[1:])).to(device)
            first, last = int(batch.rows[0]), int(batch.rows[-1])
            if last - first + 1 == len(batch.rows):  # none was left out
                pixels[first : last + 1] = arrived
            else:
                for row, image in zip(batch.rows.tolist(), arrived, strict=True):
                    pixels[row] = image
        on_batch(len(batch.rows) + len(batch.failures))
    return pixels, failures
