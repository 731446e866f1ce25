"""The head's start: a probe over frozen features, fitted before the first epoch; with no epochs it is the whole training."""

import time
from dataclasses import dataclass

from torch import nn

from polytag.contracts import Dataset
from polytag.data.groups import group_numbers
from polytag.inference.feature_cache import FeatureCache
from polytag.inference.predictor import Extracted, extract_features
from polytag.inference.probe import install_probe
from polytag.training.context import TrainingContext, at_most
from polytag.training.image_sources import ImageSources
from polytag.training.label_policy import label_policy
from polytag.training.state import State


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadStart:
    """Fits a probe and installs it in the model, on cached features of an earlier run where there are any.

    images  that it learns from: the training images, or some of them
    cache   None where the recipe reads images from files whatever is cached
    """

    model: nn.Module
    context: TrainingContext
    images: Dataset
    cache: FeatureCache | None

    @classmethod
    def prepare(cls, model: nn.Module, context: TrainingContext) -> "HeadStart":
        """Look whether the features are cached."""
        recipe, cache = context.recipe, None
        images = at_most(recipe.max_probe, context.train_set, seed=recipe.seed)
        if recipe.cache != "none" and context.parts.backbone is None:  # of code of somebody's own, no key knows all
            cache = FeatureCache(
                model,
                images.paths,
                backbone=recipe.backbone,
                backbone_args=recipe.backbone_args,
                head=recipe.head,
                preprocessing=context.preprocessing,
                arithmetic=context.arithmetic,
            )
        return cls(model=model, context=context, images=images, cache=cache)

    @property
    def reads_images(self) -> bool:
        """Whether features are still to be calculated."""
        return self.cache is None or not self.cache.is_cached

    def install(self, state: State, *, sources: ImageSources) -> None:
        """Calculate the features or read them from the cache, fit the probe, and put it into the model."""
        started = time.monotonic()
        images, callback = self.images, self.context.callback
        are_all = images is self.context.train_set

        def calculate() -> Extracted:
            callback.phase("features", len(images))
            return extract_features(
                self.model,
                images,
                preprocessing=self.context.preprocessing,
                arithmetic=self.context.arithmetic,
                source=sources.train_views if are_all else None,
                on_batch=callback.progress,
            )

        feature_ND, rows, failures = calculate() if self.cache is None else self.cache.get(calculate)
        callback.phase("logistic regression", 0)
        readable = images.take(rows)
        labels = label_policy(readable, loss=self.context.recipe.loss)
        probe, how = labels.fit(feature_ND, group_N=group_numbers(readable), seed=self.context.recipe.seed)
        install_probe(self.model, probe)
        state.failures.update({images.ids[row]: error.what for row, error in failures})
        state.epoch_seconds = time.monotonic() - started
        callback.note(how + ("" if self.reads_images else "; features of an earlier run"))
