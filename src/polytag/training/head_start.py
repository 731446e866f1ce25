"""The head's start: a probe over frozen features, fitted before the first epoch; with no epochs it is the whole training."""

import time
from dataclasses import dataclass

from torch import nn

from polytag.contracts import Dataset
from polytag.inference.feature_cache import FeatureCache
from polytag.inference.predictor import Extracted, extract_features
from polytag.inference.probe import fit_probe, install_probe
from polytag.models.device import Arithmetic
from polytag.runs.recipe import Recipe
from polytag.training.image_sources import ImageSources
from polytag.training.loop import Callback
from polytag.training.preprocessing import preprocessing_of
from polytag.training.state import State


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadStart:
    """Fits a probe and installs it. Features of an earlier run serve where there are any (`cache`), unless images are to be read
    from files whatever is kept.
    """

    model: nn.Module
    train_set: Dataset
    recipe: Recipe
    arithmetic: Arithmetic
    cache: FeatureCache | None

    @classmethod
    def prepare(cls, model: nn.Module, train_set: Dataset, *, recipe: Recipe, arithmetic: Arithmetic) -> "HeadStart":
        """Look whether the features are at hand."""
        cache = None
        if recipe.cache != "none":
            cache = FeatureCache(
                model,
                train_set.paths,
                backbone=recipe.backbone,
                backbone_args=recipe.backbone_args,
                preprocessing=preprocessing_of(recipe),
                arithmetic=arithmetic,
            )
        return cls(model=model, train_set=train_set, recipe=recipe, arithmetic=arithmetic, cache=cache)

    @property
    def reads_images(self) -> bool:
        """Whether features are still to be calculated."""
        return self.cache is None or not self.cache.is_cached

    def give(self, state: State, *, sources: ImageSources, callback: Callback) -> None:
        """Calculate the features or take those that are kept, fit the probe, and put it into the model."""
        started = time.monotonic()

        def calculate() -> Extracted:
            callback.phase("features", len(self.train_set))
            return extract_features(
                self.model,
                self.train_set,
                preprocessing=preprocessing_of(self.recipe),
                arithmetic=self.arithmetic,
                source=sources.train_views,
                on_batch=callback.progress,
            )

        feature_ND, rows, failures = calculate() if self.cache is None else self.cache.get(calculate)
        callback.phase("logistic regression", 0)
        probe = fit_probe(feature_ND, self.train_set.target_NC[rows], seed=self.recipe.seed)
        install_probe(self.model, probe)
        state.failures.update({self.train_set.ids[row]: error.what for row, error in failures})
        state.epoch_seconds = time.monotonic() - started
        callback.note(
            f"probe: L2 strength {probe.strength:g}, held-out mAP {probe.fold_map[probe.strength]:.3f} on training folds"
            + ("" if self.reads_images else "; features of an earlier run")
        )
