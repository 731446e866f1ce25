"""The backbone and the head of a planned run, by successive halving over those at hand, on training images alone.

All backbones are tried on a few images, the better half of them on more, until one is left. What counts is the mAP of a probe,
cross-validated on images that all that are left have scored: the validation images judge the choice and take no part in it.
Successive halving: Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from polytag.contracts import Dataset
from polytag.data.groups import group_numbers
from polytag.errors import UsageError
from polytag.inference.probe import fit_probe
from polytag.metrics.ap import mean_average_precision, mean_over_defined
from polytag.models.heads import backbone_features, chosen_head
from polytag.own_parts import OWN_BACKBONE
from polytag.runs.plan import Candidate
from polytag.runs.recipe import AUTO, Recipe
from polytag.training.callback import Callback, SilentCallback
from polytag.training.context import TrainingContext
from polytag.training.label_policy import label_policy
from polytag.training.measuring import Scored, score_some, trial_context
from polytag.training.one_run import fresh_model
from polytag.training.parts import Parts

_SURE = 2.0  # standard errors, between folds, by which another head has to be better than the usual one
_OVERRUN = 2.0  # times the seconds for trying, after which no further backbone is begun
_LEAST_REACH = 0.5  # of the images that another backbone can score in the run: half of the labels cost more than a better one gives


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """The recipe with its backbone and its head, what scoring its images took, and what was tried, the chosen one first."""

    recipe: Recipe
    scored: Scored
    candidates: Sequence[Candidate]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """A backbone with the training images that it has scored so far."""

    model: nn.Module
    context: TrainingContext
    scored: Scored | None = None

    @classmethod
    def of(cls, recipe: Recipe, dataset: Dataset, *, parts: Parts) -> "_Trial":
        """Where the head is open, with the one that reads more, if the backbone has it: the linear one reads a part of it."""
        silent, usual = SilentCallback(), chosen_head(recipe.head, backbone=recipe.backbone)
        richer = "concat-pool" if usual == "linear" else usual
        for head in (richer, "linear") if _chooses_head(recipe) else (usual,):
            own = replace(recipe, head=head)
            try:
                model = fresh_model(own, dataset, parts=parts, note=silent.note)
            except UsageError:
                if head == "linear" or not _chooses_head(recipe):
                    raise
                continue
            return cls(model=model, context=trial_context(own, dataset, parts=parts))
        raise AssertionError("a linear head is tried last")

    def more(self, seconds: float) -> "_Trial":
        """After so many more seconds of scoring."""
        return replace(self, scored=score_some(self.model, self.context, budget_seconds=seconds, before=self.scored))

    def candidates(self, recipe: Recipe, *, num_images: int) -> list[Candidate]:
        """Each head on the first so many images, the better one first; only one that is surely better beats the usual one."""
        assert self.scored is not None
        usual = chosen_head(recipe.head, backbone=recipe.backbone)
        feature_ND = self.scored.feature_ND[:num_images]
        features = {self.context.recipe.head: feature_ND}
        if _chooses_head(recipe):
            features["linear"] = backbone_features(self.model, feature_ND)
        map_F_of = {head: self._map_of_folds(each, num_images=num_images) for head, each in features.items()}
        ordered = sorted(map_F_of, key=lambda head: head != usual)
        if len(ordered) > 1 and _is_surely_better(map_F_of[ordered[1]], than=map_F_of[ordered[0]]):
            ordered.reverse()
        return [
            Candidate(
                backbone=recipe.backbone,
                head=head,
                held_out_map=_defined_mean(map_F_of[head]),
                num_images=num_images,
                score_seconds=self.scored.score_seconds,
            )
            for head in ordered
        ]

    def _map_of_folds(self, feature_ND: np.ndarray, *, num_images: int) -> np.ndarray:
        """Held-out mAP of each fold."""
        assert self.scored is not None
        context = self.context
        images = context.train_set.take(self.scored.row_N[:num_images].tolist())
        target_NC = label_policy(images, loss=context.recipe.loss).target_NC
        probe = fit_probe(feature_ND, target_NC, group_N=group_numbers(images), seed=context.recipe.seed)
        folds = [probe.fold_N == fold for fold in range(int(probe.fold_N.max()) + 1)]
        return np.array([mean_average_precision(target_NC[rows], probe.held_out_logit_NC[rows]) for rows in folds])


def choose(
    recipe: Recipe,
    dataset: Dataset,
    *,
    names: Sequence[str],
    parts: Parts,
    seconds: float,
    callback: Callback,
    reach: Callable[[Recipe, Scored], float] = lambda recipe, scored: 1.0,
) -> Chosen:
    """Try these backbones for so many seconds in all, and the heads for each where the recipe leaves the head open.

    `reach` says how many images a backbone can score in the time of the run. One that reaches less than half as many as another is
    not chosen, however good it is on the few that are tried.
    A backbone that is slow takes longer than its share, because it scores some images in any case. Those that are not begun after
    twice the seconds are left out, and `callback` is told. Raises as `fresh_model`.
    """
    recipes = {name: replace(recipe, backbone=name) for name in names}
    trials: dict[str, _Trial] = {}
    found: dict[str, list[Candidate]] = {}
    left, num_rounds, began = list(names), max(1, math.ceil(math.log2(len(names)))), time.monotonic()
    for _ in range(num_rounds):
        for name in tuple(left):
            if trials and name not in trials and time.monotonic() - began > _OVERRUN * seconds:
                callback.note(f"{name} is not tried: the time for trying is over")
                left.remove(name)
                continue
            callback.phase(f"trying {name}", 0)
            trial = trials.get(name) or _Trial.of(recipes[name], dataset, parts=parts)
            trials[name] = trial.more(seconds / num_rounds / len(left))
        num_images = min(len(_scored(trials[name]).row_N) for name in left)  # all are judged by the same images
        found |= {name: trials[name].candidates(recipes[name], num_images=num_images) for name in left}
        reached = {name: reach(recipes[name], _scored(trials[name])) for name in left}
        least = _LEAST_REACH * max(reached.values())
        left = sorted(left, key=lambda name: (reached[name] < least, -found[name][0].held_out_map))[: -(-len(left) // 2)]
        if len(left) == 1:
            break
    best = left[0]
    return Chosen(
        recipe=replace(recipes[best], head=found[best][0].head),
        scored=_scored(trials[best]),
        candidates=_in_order(found, best=best),
    )


def _chooses_head(recipe: Recipe) -> bool:
    """Whether the head is open; features of random weights tell nothing about it."""
    return recipe.head == AUTO and recipe.backbone != OWN_BACKBONE and recipe.weights != "random"


def _scored(trial: _Trial) -> Scored:
    assert trial.scored is not None
    return trial.scored


def _in_order(found: Mapping[str, Sequence[Candidate]], *, best: str) -> list[Candidate]:
    """The chosen one first, then those that were judged by more images, then by mAP."""
    others = [each for name, candidates in found.items() for each in candidates if name != best]
    others.sort(key=lambda each: (-each.num_images, -each.held_out_map))
    return [*found[best], *others]


def _is_surely_better(map_F: np.ndarray, *, than: np.ndarray) -> bool:
    """By more than two standard errors of the paired difference between the folds that have both."""
    gain_F = map_F - than
    gain_F = gain_F[~np.isnan(gain_F)]
    return len(gain_F) > 1 and bool(gain_F.mean() > _SURE * gain_F.std(ddof=1) / math.sqrt(len(gain_F)))


def _defined_mean(map_F: np.ndarray) -> float:
    """The mean over the folds; 0 where no class can be judged."""
    mean = mean_over_defined(map_F)
    return 0.0 if math.isnan(mean) else mean
