"""What a backbone costs and is worth on this machine with these images: some images decoded, scored and learned from."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from polytag.contracts import Dataset
from polytag.inference.predictor import extract_features, from_files
from polytag.models.device import choose_arithmetic
from polytag.runs.recipe import Recipe
from polytag.training.context import TrainingContext, draw_order, require_readable
from polytag.training.image_sources import uncached_sources
from polytag.training.learner import Learner
from polytag.training.loop import make_step
from polytag.training.parts import NO_PARTS, Parts

_FEW_IMAGES, _FIRST_IMAGES, _MOST_IMAGES = 16, 96, 1000
_MOST_STEPS = 12


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds that an image takes at one size: decoding, scoring and learning, each of the last two with the decoding."""

    size_px: int
    decode: float
    score: float
    learn: float

    def at(self, size_px: int) -> "Speed":
        """At another size, for a network whose work grows with the pixels; decoding an image takes as long at any size."""
        factor = (size_px / self.size_px) ** 2
        score, learn = (self.decode + (each - self.decode) * factor for each in (self.score, self.learn))
        return Speed(size_px=size_px, decode=self.decode, score=score, learn=learn)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A backbone's features of some training images, in the order that they were drawn in, and the seconds that an image took.

    num_drawn  images that were drawn, of which `row_N` could be read
    """

    feature_ND: np.ndarray
    row_N: np.ndarray
    num_drawn: int
    decode_seconds: float
    score_seconds: float


def score_some(model: torch.nn.Module, context: TrainingContext, *, budget_seconds: float, before: Scored | None = None) -> Scored:
    """Score training images, drawn with the recipe's seed, as many as the seconds allow; after those that were scored before."""
    train_set = context.train_set
    order = draw_order(len(train_set), seed=context.recipe.seed)[:_MOST_IMAGES]
    began = time.monotonic()
    before = before or _first_scored(model, context, order[:_FIRST_IMAGES])
    affordable = int((budget_seconds - (time.monotonic() - began)) / max(before.score_seconds, 1e-6))
    rows = order[before.num_drawn : before.num_drawn + max(0, affordable)]
    if not len(rows):
        return before
    feature_ND, row_N = _features(model, context, rows)
    return replace(
        before,
        feature_ND=np.concatenate([before.feature_ND, feature_ND]) if len(row_N) else before.feature_ND,
        row_N=np.concatenate([before.row_N, row_N]),
        num_drawn=before.num_drawn + len(rows),
    )


def _first_scored(model: torch.nn.Module, context: TrainingContext, first: np.ndarray) -> Scored:
    """The first images, which tell how long one takes."""
    paths = context.train_set.paths
    decode = _seconds_of(lambda: list(from_files(paths, context.preprocessing)(first.tolist(), 16))) / len(first)
    parts: list[tuple[np.ndarray, np.ndarray]] = []

    def score(rows: np.ndarray) -> float:
        return _seconds_of(lambda: parts.append(_features(model, context, rows)))

    score(first[:_FEW_IMAGES])  # the first pass of a network is slower
    # What a pass takes however few its images are, such as fusing the network, is in both of these.
    few, some = score(first[_FEW_IMAGES : 2 * _FEW_IMAGES]), score(first[2 * _FEW_IMAGES :])
    each = max(some - few, 0.2 * some) / max(1, len(first) - 3 * _FEW_IMAGES)
    require_readable(sum(len(part[1]) for part in parts), context.train_set.take(first.tolist()))
    return Scored(
        feature_ND=np.concatenate([part[0] for part in parts if len(part[1])]),
        row_N=np.concatenate([part[1] for part in parts]),
        num_drawn=len(first),
        decode_seconds=decode,
        score_seconds=max(each, decode),
    )


def seconds_to_learn(model: torch.nn.Module, context: TrainingContext, *, budget_seconds: float) -> float:
    """Seconds that an image takes in training, from file to step: in the second half of four or more steps.

    The first steps are slower than all that follow. The model's weights change.
    """
    recipe, sources = context.recipe, uncached_sources(context)
    learner = Learner.begin(model, recipe)
    learner.begin_epoch(recipe)
    step = make_step(learner.model, context, sources=sources)
    target_NC = torch.from_numpy(np.array(context.target_NC))
    order = np.resize(np.random.default_rng(recipe.seed).permutation(len(target_NC)), (_MOST_STEPS, recipe.batch_size))
    ended = [time.monotonic()]
    for batch in sources.loader.batches(list(order), epoch=1):
        if len(batch.rows) > 1:
            step(batch.inputs, target_NC[batch.rows], 1.0)[0].item()  # waits for the device
            learner.optimizer.step()
            learner.update_average(decay=recipe.ema_decay)
        ended.append(time.monotonic())
        if len(ended) > 4 and ended[-1] - ended[0] > budget_seconds:
            break
    half = (len(ended) - 1) // 2
    return (ended[-1] - ended[-1 - half]) / (half * recipe.batch_size)


def trial_context(recipe: Recipe, dataset: Dataset, *, parts: Parts = NO_PARTS) -> TrainingContext:
    """A context for trying, in which nothing is shown. A loss of the user's own, which a step may change, is left alone."""
    return TrainingContext(
        recipe=recipe,
        train_set=dataset.split("train"),
        val_set=dataset.split("val"),
        arithmetic=choose_arithmetic(recipe.device, recipe.precision),
        parts=replace(parts, loss=None),
    )


def _features(model: torch.nn.Module, context: TrainingContext, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of these rows, and the rows of those that can be read."""
    if not len(rows):
        return np.zeros((0, 0), np.float32), rows
    feature_ND, index, _ = extract_features(
        model, context.train_set.take(rows.tolist()), preprocessing=context.preprocessing, arithmetic=context.arithmetic
    )
    return feature_ND, rows[index]


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started
