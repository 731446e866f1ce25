"""The head's start: a probe over frozen features, fitted before the first epoch; with no epochs it is the whole training."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from polytag.contracts import Dataset
from polytag.data.groups import group_numbers
from polytag.inference.feature_cache import FeatureCache, what_computes
from polytag.inference.predictor import Extracted, extract_features, run
from polytag.inference.probe import install_probe
from polytag.models.fused import freeze
from polytag.models.heads import ConcatPool, attends
from polytag.training.clock import LEAST_IMAGES, Clock
from polytag.training.context import TrainingContext, drawn, require_readable
from polytag.training.image_sources import ImageSources
from polytag.training.label_policy import label_policy
from polytag.training.state import State

_FIRST_MINUTE = 55.0  # seconds of a run with a clock until there is a model on the disk
_FIRST_MODEL = 42.0  # seconds until a probe of the features so far is that model
_FITTING_SECONDS = 3.0
_BALANCED_SHARE, _MOST_BALANCED = 1 / 16, 128  # of the images: their mean attention is known to a few hundredths of a logit


@dataclass(frozen=True, kw_only=True)
class Looked:
    """How many images the probe was fitted on, unreadable ones counted, and the seconds that each of them took."""

    num_images: int
    seconds_an_image: float


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadStart:
    """Fits a probe and installs it in the model, on cached features of an earlier run where there are any.

    images  that it learns from: the training images, or, with `max_probe`, some of them in the order of the draw
    cache   None where the recipe reads images from files whatever is cached, and where some of the images may be left out
    """

    model: nn.Module
    context: TrainingContext
    images: Dataset
    cache: FeatureCache | None

    @classmethod
    def prepare(cls, model: nn.Module, context: TrainingContext) -> "HeadStart":
        """Look whether the features are cached."""
        recipe, cache = context.recipe, None
        images = drawn(recipe.max_probe, context.train_set, seed=recipe.seed)
        # Of code of somebody's own, no key knows all.
        if recipe.cache != "none" and context.parts.backbone is None and not recipe.max_probe:
            what = what_computes(
                model,
                backbone=recipe.backbone,
                backbone_args=recipe.backbone_args,
                head=recipe.head,
                preprocessing=context.preprocessing,
                arithmetic=context.arithmetic,
            )
            cache = FeatureCache(images.paths, what=what)
        return cls(model=model, context=context, images=images, cache=cache)

    @property
    def reads_images(self) -> bool:
        """Whether features are still to be calculated."""
        return self.cache is None or not self.cache.is_cached

    def install(self, state: State, *, sources: ImageSources, save_first: Callable[[], None]) -> "Looked":
        """Calculate the features or read them from the cache, fit the probe, and put it into the model.

        Under a clock the last images are left out where they would take too long; and where the validation would not be over within
        the first minute of the run, `save_first` is called once the model has a probe.
        """
        started = time.monotonic()
        context, callback, clock = self.context, self.context.callback, self.context.clock
        are_all = self.images is context.train_set

        def calculate(rows: Sequence[int] | None = None, *, until: Callable[[int], bool] = lambda num_images: False) -> Extracted:
            return extract_features(
                self.model,
                self.images,
                preprocessing=context.preprocessing,
                arithmetic=context.arithmetic,
                source=sources.train_views if are_all else None,
                rows=rows,
                on_batch=callback.progress,
                is_enough=until,
            )

        callback.phase("features", len(self.images))
        if self.cache is not None:
            extracted = self.cache.get(calculate)
        elif clock is None or context.processes.count > 1:
            extracted = calculate()
        else:
            extracted = self._in_time(calculate, clock=clock, sources=sources, save_first=save_first)
        num_images = len(extracted[1]) + len(extracted[2])
        looked = Looked(num_images=num_images, seconds_an_image=(time.monotonic() - started) / num_images)
        callback.phase("logistic regression", 0)
        how = self._fit(extracted, sources=sources)
        state.failures.update({self.images.ids[row]: error.what for row, error in extracted[2]})
        state.epoch_seconds = time.monotonic() - started
        if clock is not None and clock.used + len(context.val_set) * looked.seconds_an_image > _FIRST_MINUTE:
            save_first()
        callback.note(how + ("" if self.reads_images else "; features of an earlier run"))
        return looked

    def _in_time(
        self, calculate: Callable[..., Extracted], *, clock: Clock, sources: ImageSources, save_first: Callable[[], None]
    ) -> Extracted:
        """The features of as many images as leave time for as large a share of the validation images."""
        num_images, num_val = len(self.images), len(self.context.val_set)
        share = num_images / (num_images + num_val + min(num_val, clock.num_again))
        began, soon = clock.used, max(_FIRST_MODEL, clock.used + _FITTING_SECONDS)

        def is_over() -> bool:
            taken = clock.used - began
            return taken >= share * (taken + clock.left - _FITTING_SECONDS * clock.crowding.now)

        first = calculate(until=lambda num: num >= LEAST_IMAGES and (clock.used >= soon or is_over()))
        num_done = len(first[1]) + len(first[2])
        if num_done == num_images or is_over():
            return first
        if len(first[1]) >= LEAST_IMAGES:
            self._fit(first, sources=sources)
            save_first()
        more = calculate(range(num_done, num_images), until=lambda num: is_over())
        parts = [each for each in (first, more) if len(each[1])] or [first]
        return np.concatenate([each[0] for each in parts]), np.concatenate([each[1] for each in parts]), first[2] + more[2]

    def _fit(self, extracted: Extracted, *, sources: ImageSources) -> str:
        """Fit the probe to these features and put it into the model; returns a sentence about it."""
        feature_ND, rows, _ = extracted
        require_readable(len(rows), self.images)
        readable, recipe = self.images.take(rows), self.context.recipe
        probe, how = label_policy(readable, loss=recipe.loss).fit(feature_ND, group_N=group_numbers(readable), seed=recipe.seed)
        install_probe(self.model, probe)
        if attends(self.model):
            self._balance(self.model, rows, sources=sources)
        return how

    def _balance(self, model: ConcatPool, rows: np.ndarray, *, sources: ImageSources) -> None:
        """Take from the biases what attention adds to each class on average, seen on so few images that it costs little time."""
        context, number = self.context, min(math.ceil(_BALANCED_SHARE * len(rows)), _MOST_BALANCED)
        some = np.random.default_rng(context.recipe.seed).permutation(np.sort(rows))[:number].tolist()
        frozen = freeze(model, arithmetic=context.arithmetic, image_size_px=context.preprocessing.image_size_px)
        ready = run(
            frozen.attention, self.images.paths, preprocessing=context.preprocessing, arithmetic=context.arithmetic,
            source=sources.train_views if self.images is context.train_set else None, rows=some,
        )  # fmt: skip
        added = np.concatenate([scored.output_ND for scored in ready if len(scored.rows)])
        with torch.no_grad():
            model.classifier.bias.sub_(torch.from_numpy(added.mean(axis=0)).to(model.classifier.bias))
