"""How a run reads its images: from files, from the image cache, or resident on the device; chosen by what pays.

Nothing that is chosen here changes an answer: files and kept images give the same bits, scoring sees the same bits everywhere,
and training images on a GPU are augmented there to within a grey level or two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from polytag.contracts import Dataset, Preprocessing
from polytag.data.cache.image_cache import ImageCache, expected_bytes
from polytag.data.cache.store import make_room
from polytag.data.images.augment import AUGMENTATIONS, augmentation, single_view, views
from polytag.data.images.read import read_image
from polytag.inference.predictor import Source, from_files, from_reader
from polytag.machine import free_memory_bytes, num_cores
from polytag.models.device import Arithmetic
from polytag.runs.recipe import Recipe
from polytag.training.image_loader import FileImageLoader, ImageLoader, training_pixels
from polytag.training.preprocessing import preprocessing_of
from polytag.training.resident import choose_canvas, resident_loader, resident_views, views_bytes

# A JPEG photograph takes one core about 14 ns a pixel to decode (VOC's: 2.6 ms); what would save less than this is not kept.
_SECONDS_A_PIXEL, _LEAST_SECONDS_SAVED = 14e-9, 5.0
# Training images still have to be augmented, and the step takes 70 ms of a core: with VOC's, keeping them saves nothing that
# could be measured (benchmarks/results/image_cache.json); with 12 megapixels, half. From this size on decoding is a good part.
_LEAST_TRAINING_PIXELS = 1_000_000
_SHARE_OF_MEMORY = 0.5  # of what is free: the network needs room, and kept images that do not stay in memory are no faster


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSources:
    """Where the images of a run come from: for training, for the features of the probe, for validation.

    how   for people: `training` and `validation` in a few words each
    """

    loader: ImageLoader
    train_views: Source
    val_views: Source
    how: dict[str, str]
    caches: tuple[ImageCache, ...] = ()

    def next_pass(self) -> None:
        """Between two passes over images: what has been kept completely is read from now on."""
        for cache in self.caches:
            cache.next_pass()

    def close(self) -> None:
        """Keep what is complete, and remove what is not."""
        for cache in self.caches:
            cache.close()


def uncached_sources(train_set: Dataset, val_set: Dataset, *, recipe: Recipe, arithmetic: Arithmetic) -> ImageSources:
    """The plain way: every image is decoded each time that it is wanted."""
    paths = train_set.paths

    def read(row: int) -> np.ndarray:
        return training_pixels(recipe, read_image(paths[row]))

    return ImageSources(
        loader=FileImageLoader(read=read, recipe=recipe, device=arithmetic.device),
        train_views=from_files(paths, preprocessing_of(recipe)),
        val_views=from_files(val_set.paths, preprocessing_of(recipe)),
        how={"training": "files", "validation": "files"},
    )


def open_image_sources(
    train_set: Dataset,
    val_set: Dataset,
    *,
    recipe: Recipe,
    arithmetic: Arithmetic,
    has_probe: bool,
    num_processes: int = 1,
    phase: Callable[[str, int], None] = lambda name, num_images: None,
    on_batch: Callable[[int], None] = lambda num_images: None,
) -> ImageSources:
    """The way that the recipe asks for (`images`); with "auto", the one that pays.

    "none", "disk" and "gpu" are as they say; what has no room is read from files. "auto" takes resident images on a GPU
    that has the memory, and otherwise keeps those images whose later passes are worth more than some seconds.
    """
    if recipe.cache == "none":
        return uncached_sources(train_set, val_set, recipe=recipe, arithmetic=arithmetic)
    preprocessing = preprocessing_of(recipe)
    wants_resident = recipe.cache == "gpu" or (recipe.cache == "auto" and arithmetic.device == "cuda")
    canvas = None
    if wants_resident and recipe.epochs:
        budget = _SHARE_OF_MEMORY * free_bytes(arithmetic.device) - views_bytes(len(val_set), preprocessing)
        canvas = choose_canvas(train_set.paths, recipe, budget_bytes=budget)
    # One process sees a part of each pass, so of several none could fill a file.
    cached = partial(_cache, forced=recipe.cache == "disk", may_write=num_processes == 1)
    once = canvas is not None  # resident images are read once, whatever the epochs
    make_views = partial(views, preprocessing=preprocessing)
    val = cached(
        val_set.paths, make=make_views, what=what_views(preprocessing), size_of=lambda size: views_bytes(1, preprocessing),
        num_passes=1 if once else recipe.epochs + has_probe + 1,
    )  # fmt: skip
    train = cached(
        train_set.paths, make=partial(training_pixels, recipe), what=what_training(recipe),
        size_of=partial(_source_bytes, recipe), num_passes=1 if once else recipe.epochs,
        least_pixels=0 if recipe.augment == "none" else _LEAST_TRAINING_PIXELS,
    )  # fmt: skip
    caches = [val, train]
    train_views = from_files(train_set.paths, preprocessing)
    if has_probe:
        # read once in this run, but by every later one too, whatever its recipe
        probe = cached(
            train_set.paths, make=make_views, what=what_views(preprocessing), size_of=lambda size: views_bytes(1, preprocessing),
            num_passes=2,
        )  # fmt: skip
        caches.append(probe)
        train_views = from_reader(probe.get)
        if not recipe.epochs:  # the features are all that training images are read for
            train.how = probe.how
    if canvas is None:
        loader = FileImageLoader(read=train.get, recipe=recipe, device=arithmetic.device)
        how = {"training": train.how, "validation": val.how}
        return ImageSources(loader=loader, train_views=train_views, val_views=from_reader(val.get), how=how, caches=tuple(caches))
    phase("decoding", len(train_set))
    loader = resident_loader(train.get, recipe, canvas=canvas, num_images=len(train_set), arithmetic=arithmetic, on_batch=on_batch)
    val_views = resident_views(val.get, preprocessing, num_images=len(val_set), arithmetic=arithmetic)
    shrunk = f", {canvas.num_shrunk} shrunk to it" if canvas.num_shrunk else ""
    gigabytes = canvas.num_bytes(len(train_set)) / 1e9
    how = {
        "training": f"resident on {arithmetic.device}, {canvas.width_px} x {canvas.height_px} px, {gigabytes:.2f} GB{shrunk}",
        "validation": f"resident on {arithmetic.device}, as scored, {views_bytes(len(val_set), preprocessing) / 1e9:.2f} GB",
    }
    return ImageSources(loader=loader, train_views=train_views, val_views=val_views, how=how, caches=tuple(caches))


def what_views(preprocessing: Preprocessing) -> str:
    """Names the views of scoring in the cache: what changes their pixels, and nothing else."""
    p = preprocessing
    return f"views 1: {p.image_size_px} px, {p.fit}, {p.crop_fraction}, {p.interpolation}, {p.crops}"


def what_training(recipe: Recipe) -> str:
    """Names in the cache what training crops are cut from."""
    if augmentation(recipe.augment) == AUGMENTATIONS["none"]:
        return what_views(single_view(preprocessing_of(recipe)))
    return f"training source 1: {preprocessing_of(recipe).image_size_px} px"


def _source_bytes(recipe: Recipe, size: tuple[int, int]) -> int:
    """Of `training_pixels` of an image of this width and height."""
    size_px = preprocessing_of(recipe).image_size_px
    if augmentation(recipe.augment) == AUGMENTATIONS["none"]:
        return 3 * size_px**2
    factor = max(1, min(size) // (2 * size_px))
    return 3 * -(-size[0] // factor) * -(-size[1] // factor)


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
    """A cache that reads what is kept, and keeps what pays: enough seconds saved, enough memory to hold it, enough disk.

    `least_pixels` is how large images must be, in the mean, for decoding them to matter beside what else is done with them.
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
        cache.how = f"files (the cache would take {num_bytes / 1e9:.1f} GB, which the disk has not to spare)"
        return cache
    return ImageCache(paths, make=make, what=what, write=True)


def free_bytes(device: str) -> float:
    """Memory that the device has left."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else free_memory_bytes()
