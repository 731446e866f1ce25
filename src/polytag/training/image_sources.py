"""Where a run reads its images: from files, from the image cache, or from the memory of the device; chosen by what pays.

No choice changes an answer: files and cached images give the same bits, scoring sees the same bits everywhere, and training images
that a GPU augments differ from those of the processor by a grey level or two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from polytag.data.cache.image_cache import ImageCache, expected_bytes
from polytag.data.cache.store import make_room
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.inference.predictor import Source, from_files, from_reader
from polytag.machine import free_memory_bytes, num_cores
from polytag.training.context import TrainingContext
from polytag.training.image_loader import FileImageLoader, ImageLoader
from polytag.training.input_pipeline import views_cache_key
from polytag.training.resident import Canvas, choose_canvas, resident_loader, resident_views, views_bytes

# Decoding a JPEG photograph takes one core about 14 ns per pixel (VOC's: 2.6 ms); a cache has to save more than these seconds.
_SECONDS_A_PIXEL, _LEAST_SECONDS_SAVED = 14e-9, 5.0
# Cached training images still have to be augmented, and a step takes a core 70 ms: for images of VOC's size the cache saves nothing
# measurable (benchmarks/results/image_cache.json), for 12 megapixels half. From this size on decoding is a good part.
_LEAST_TRAINING_PIXELS = 1_000_000
_SHARE_OF_MEMORY = 0.5  # of the free memory: the network needs room, and a cache that does not stay in memory is no faster


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSources:
    """The sources of a run's images: for training, for the features of the probe, for validation.

    how   for people: `training` and `validation` in a few words each
    """

    loader: ImageLoader
    train_views: Source
    val_views: Source
    how: dict[str, str]
    caches: tuple[ImageCache, ...] = ()

    def next_pass(self) -> None:
        """Call between two passes over images: caches that are complete are read from now on."""
        for cache in self.caches:
            cache.next_pass()

    def close(self) -> None:
        """Save the caches that are complete, and remove the others."""
        for cache in self.caches:
            cache.close()


def uncached_sources(context: TrainingContext) -> ImageSources:
    """Decodes every image each time that it is wanted."""
    paths = context.train_set.paths

    def read(row: int) -> np.ndarray:
        return context.pipeline.stored(read_image(paths[row]))

    return ImageSources(
        loader=FileImageLoader(read=read, pipeline=context.pipeline, device=context.arithmetic.device),
        train_views=from_files(paths, context.preprocessing),
        val_views=from_files(context.val_set.paths, context.preprocessing),
        how={"training": "files", "validation": "files"},
    )


def open_image_sources(context: TrainingContext, *, has_probe: bool) -> ImageSources:
    """The sources that the recipe's `cache` asks for; with "auto", those that pay.

    "none" decodes each time, "disk" caches whatever has room there, "gpu" loads all images into the memory of the device if they
    fit. "auto" is "gpu" on a GPU that has the memory; otherwise it caches images whose later passes are worth some seconds.
    `has_probe` says whether the features of a probe are read from training images first.
    """
    if context.recipe.cache == "none":
        return uncached_sources(context)
    canvas = _canvas(context)
    caches = _open_caches(context, has_probe=has_probe, is_resident=canvas is not None)
    train_views = from_reader(caches.probe.get) if caches.probe else from_files(context.train_set.paths, context.preprocessing)
    if canvas is None:
        return ImageSources(
            loader=FileImageLoader(read=caches.train.get, pipeline=context.pipeline, device=context.arithmetic.device),
            train_views=train_views,
            val_views=from_reader(caches.val.get),
            how={"training": caches.train.how, "validation": caches.val.how},
            caches=caches.all,
        )
    return _resident_sources(context, canvas, caches, train_views=train_views)


def _canvas(context: TrainingContext) -> Canvas | None:
    """The canvas of training images in the device's memory; None where they are not wanted there, or have no room."""
    recipe, device = context.recipe, context.arithmetic.device
    if (
        not recipe.epochs
        or context.parts.augment is not None
        or not (recipe.cache == "gpu" or (recipe.cache == "auto" and device == "cuda"))
    ):
        return None
    budget = _SHARE_OF_MEMORY * free_bytes(device) - views_bytes(len(context.val_set), context.preprocessing)
    return choose_canvas(context.train_set.paths, context.pipeline, budget_bytes=budget)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Caches:
    """The image caches of a run; `probe` holds the views of training images that the probe sees, if there is one."""

    val: ImageCache
    train: ImageCache
    probe: ImageCache | None

    @property
    def all(self) -> tuple[ImageCache, ...]:
        return (self.val, self.train) if self.probe is None else (self.val, self.train, self.probe)


def _open_caches(context: TrainingContext, *, has_probe: bool, is_resident: bool) -> _Caches:
    recipe, preprocessing, pipeline = context.recipe, context.preprocessing, context.pipeline
    # Each of several processes sees a part of each pass, so none of them can fill a file.
    cache = partial(_cache, forced=recipe.cache == "disk", may_write=context.processes.count == 1)
    view_cache = partial(
        cache,
        make=partial(views, preprocessing=preprocessing),
        what=views_cache_key(preprocessing),
        size_of=lambda size: views_bytes(1, preprocessing),
    )
    val = view_cache(context.val_set.paths, num_passes=1 if is_resident else recipe.epochs + has_probe + 1)
    train = cache(
        context.train_set.paths,
        make=pipeline.stored,
        what=pipeline.cache_key,
        size_of=pipeline.stored_bytes,
        num_passes=1 if is_resident else recipe.epochs,
        least_pixels=_LEAST_TRAINING_PIXELS if pipeline.is_augmented else 0,
    )
    if not has_probe:
        return _Caches(val=val, train=train, probe=None)
    # This run reads these views once, but every later run reads them again, whatever its recipe.
    probe = view_cache(context.train_set.paths, num_passes=2)
    if not recipe.epochs:  # training images are read for the features alone
        train.how = probe.how
    return _Caches(val=val, train=train, probe=probe)


def _resident_sources(context: TrainingContext, canvas: Canvas, caches: _Caches, *, train_views: Source) -> ImageSources:
    device, num_train, num_val = context.arithmetic.device, len(context.train_set), len(context.val_set)
    context.callback.phase("decoding", num_train)
    loader = resident_loader(
        caches.train.get,
        context.pipeline,
        canvas=canvas,
        num_images=num_train,
        arithmetic=context.arithmetic,
        on_batch=context.callback.progress,
    )
    val_views = resident_views(caches.val.get, context.preprocessing, num_images=num_val, arithmetic=context.arithmetic)
    shrunk = f", {canvas.num_shrunk} shrunk to it" if canvas.num_shrunk else ""
    val_gigabytes = views_bytes(num_val, context.preprocessing) / 1e9
    how = {
        "training": f"resident on {device}, {canvas.width_px} x {canvas.height_px} px, {canvas.num_bytes(num_train) / 1e9:.2f} GB"
        + shrunk,
        "validation": f"resident on {device}, as scored, {val_gigabytes:.2f} GB",
    }
    return ImageSources(loader=loader, train_views=train_views, val_views=val_views, how=how, caches=caches.all)


def _cache(
    paths: Sequence[Path],
    *,
    make: Callable[..., np.ndarray],
    what: str,
    size_of: Callable[[tuple[int, int]], int],
    num_passes: int,
    least_pixels: int = 0,
    forced: bool,
    may_write: bool,
) -> ImageCache:
    """A cache that reads an existing file, and writes one where it pays: enough seconds saved, enough memory, enough disk.

    `least_pixels` is the mean size from which decoding matters compared with the rest of the work on an image.
    """
    cache = ImageCache(paths, make=make, what=what, write=False)
    if cache.is_cached or not may_write or (num_passes < 2 and not forced):
        return cache
    if not forced:
        pixels = expected_bytes(paths, lambda size: size[0] * size[1], num_looked_at=64)
        seconds_saved = pixels * _SECONDS_A_PIXEL * (num_passes - 1) / num_cores()
        if seconds_saved < _LEAST_SECONDS_SAVED or pixels < least_pixels * len(paths):
            return cache
    num_bytes = expected_bytes(paths, size_of)
    if not forced and num_bytes > _SHARE_OF_MEMORY * free_bytes("cpu"):
        cache.how = f"files (the cache would take {num_bytes / 1e9:.1f} GB, too much of the memory)"
        return cache
    if not make_room(num_bytes):
        cache.how = f"files (the cache would take {num_bytes / 1e9:.1f} GB, which the disk cannot spare)"
        return cache
    return ImageCache(paths, make=make, what=what, write=True)


def free_bytes(device: str) -> float:
    """Memory that the device has left."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else free_memory_bytes()
