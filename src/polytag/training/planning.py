"""What fits into the minutes that a run has, of what was measured.

A backbone is chosen by cross-validation on training images alone: the validation images judge the choice and take no part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polytag.contracts import Dataset
from polytag.errors import UsageError
from polytag.models.backbone import fixed_input_size_px
from polytag.models.cached_weights import weights_at_hand
from polytag.models.heads import chosen_head
from polytag.own_parts import OWN_BACKBONE
from polytag.runs.plan import Candidate, Plan
from polytag.runs.recipe import AUTO, FINETUNE, Recipe
from polytag.training.callback import Callback, SilentCallback
from polytag.training.clock import Clock, clock_of
from polytag.training.context import TrainingContext
from polytag.training.measuring import Speed, Tried, seconds_to_learn, trial_context, try_backbone
from polytag.training.one_run import fresh_model
from polytag.training.pace import num_steps_of, steps_within
from polytag.training.parts import NO_PARTS, Parts
from polytag.training.preprocessing import preprocessing_of

SIZES_PX = (384, 320, 288, 256, 224)
SHARE_FIRST = 0.5
"""Of the time that is left, at most, for the probe and what judges it: larger images come before epochs (docs/experiments.md)."""
SHARE_ALONE = 0.9
"""The same where no epoch would follow."""
_SHARE_TRYING, _SHARE_TIMING = 0.1, 0.02  # of the time, for all candidates together and for steps
_SHARE_PROBE, _SHARE_VALIDATION = 0.45, 0.15  # of the time at most; then fewer images are used
_SHARE_WHOLE_PROBE = 0.25  # of the time at most, for a probe of all images before epochs
_SOON_SECONDS = 30.0  # for a probe of some images that epochs follow: so soon there is a model on the disk
_LEAST_IMAGES = 50
_LEAST_STEPS = 20  # of fine-tuning; with fewer the probe is the whole training
_SAVING_SECONDS = 0.5
_WARMUP_SHARE, _LARGEST_WARMUP = 0.15, 1.0
_GENTLE_RATES = {"head_lr": 2e-4, "backbone_lr": 1e-4}
_MOST_CANDIDATES = 6


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What fits at one image size.

    num_probe, num_val   images that are used
    num_steps            of fine-tuning; epochs is the same as a fraction
    seconds              of each stage
    """

    num_probe: int
    num_val: int
    num_steps: int
    epochs: float
    seconds: dict[str, float]


def plan_run(recipe: Recipe, dataset: Dataset, *, parts: Parts = NO_PARTS, began: float, callback: Callback) -> Plan:
    """Plan a run of `recipe.minutes` that began at `began` of `time.monotonic()`.

    The backbone is chosen where the recipe says "auto", the image size where it says None. Raises UsageError for a recipe that
    decides about its length itself, and as `fresh_model`.
    """
    _require_plannable(recipe)
    recipe = _gentle(recipe)
    clock = clock_of(recipe, began=began, num_classes=len(dataset.label_set))
    names, silent = _names(recipe), SilentCallback()
    tried: dict[str, Tried] = {}
    contexts: dict[str, TrainingContext] = {}
    for name in names:
        callback.phase(f"trying {name}", 0)
        own = replace(recipe, backbone=name, head=chosen_head(recipe.head, backbone=name))
        model, budget = fresh_model(own, dataset, parts=parts, note=silent.note), _SHARE_TRYING * clock.seconds / len(names)
        contexts[name] = trial_context(own, dataset, parts=parts)
        tried[name] = try_backbone(model, contexts[name], budget_seconds=budget)
    num_tried = min(len(each.row_N) for each in tried.values())  # all are judged by the same images
    held_out = {name: tried[name].held_out_map(contexts[name], num_images=num_tried) for name in names}
    best = max(names, key=lambda name: held_out[name])
    recipe = replace(recipe, backbone=best, head=chosen_head(recipe.head, backbone=best))
    callback.phase("timing a step", 0)
    model, budget = fresh_model(recipe, dataset, parts=parts, note=silent.note), _SHARE_TIMING * clock.seconds
    learn = seconds_to_learn(model, trial_context(recipe, dataset, parts=parts), budget_seconds=budget)
    speed = Speed(
        size_px=preprocessing_of(recipe).image_size_px,
        decode=tried[best].decode_seconds,
        score=tried[best].score_seconds,
        learn=learn,
    )
    candidates = [
        Candidate(backbone=name, held_out_map=held_out[name], score_seconds=each.score_seconds) for name, each in tried.items()
    ]
    return plan_of(recipe, speed, dataset=dataset, clock=clock, candidates=candidates, num_tried=num_tried)


def plan_of(
    recipe: Recipe, speed: Speed, *, dataset: Dataset, clock: Clock, candidates: Sequence[Candidate] = (), num_tried: int = 0
) -> Plan:
    """The plan of what fits, at the largest of the image sizes at which a probe of all images does, or at the smallest one."""
    num_train, num_val = (len(dataset.rows_of(name)) for name in ("train", "val"))
    used = clock.used
    is_free = recipe.image_size_px is None and recipe.backbone != OWN_BACKBONE and not fixed_input_size_px(recipe.backbone)
    sizes = SIZES_PX if is_free else (speed.size_px,)
    left, passes = clock.seconds - used - clock.closing, num_train + 2 * num_val
    for share in (SHARE_FIRST, SHARE_ALONE):
        size_px = next((each for each in sizes if speed.at(each).score * passes <= share * left), sizes[-1])
        stages = stages_at(
            speed.at(size_px), recipe, seconds=clock.seconds - used, num_train=num_train, num_val=num_val, closing=clock.closing
        )
        if stages.num_steps:
            break
    speed, epochs = speed.at(size_px), stages.epochs
    planned = replace(
        recipe,
        image_size_px=size_px,
        epochs=-(-stages.num_steps // num_steps_of(recipe, num_train)) if epochs else 0,
        ends=((0, stages.num_steps),) if epochs else (),
        warmup_epochs=min(_LARGEST_WARMUP, _WARMUP_SHARE * epochs),
        max_probe=stages.num_probe if stages.num_probe < num_train and recipe.weights != "random" else 0,
        max_val=stages.num_val if stages.num_val < num_val else 0,
    )
    return Plan(
        recipe=planned,
        num_probe=stages.num_probe,
        num_val=stages.num_val,
        epochs=epochs,
        learn_seconds=speed.learn,
        seconds={"measuring": used, **stages.seconds},
        candidates=candidates,
        num_tried=num_tried,
    )


def stages_at(speed: Speed, recipe: Recipe, *, seconds: float, num_train: int, num_val: int, closing: float) -> Stages:
    """What fits into these seconds: a probe of as many images as it has time for, then as many steps as are left.

    With random weights there is no probe, and there are steps, however few fit. Else so few steps as teach nothing are none.
    """
    has_probe = recipe.weights != "random"
    num_val = min(num_val, max(_LEAST_IMAGES, int(_SHARE_VALIDATION * seconds / speed.score)))
    validation, per_epoch = num_val * speed.score, num_steps_of(recipe, num_train)
    longest, whole = _SHARE_PROBE * seconds, num_train * speed.score
    for probe_seconds in (whole if whole <= _SHARE_WHOLE_PROBE * seconds else min(_SOON_SECONDS, longest), longest):
        num_probe = min(num_train, max(_LEAST_IMAGES, int(probe_seconds / speed.score))) if has_probe else 0
        probe = num_probe * speed.score + validation if has_probe else 0.0
        left = seconds - probe - validation - closing - 2 * _SAVING_SECONDS  # the probe is validated, and the best at the end
        num_steps = steps_within(
            left,
            per_step=recipe.batch_size * speed.learn,
            per_validation=validation + _SAVING_SECONDS,
            num_steps=per_epoch,
            done=0,
            least_seconds=0.0,
        )
        if num_steps >= _LEAST_STEPS:
            break
    if num_steps < _LEAST_STEPS:
        num_steps = 0 if has_probe else max(1, num_steps)
    return Stages(
        num_probe=num_probe,
        num_val=num_val,
        num_steps=num_steps,
        epochs=num_steps / per_epoch,
        seconds={"probe": probe, "fine-tuning": max(0.0, left), "closing": validation + closing},
    )


def _gentle(recipe: Recipe) -> Recipe:
    """The recipe with what does not unlearn pretrained weights within few epochs: the statistics of batch normalisation stay, and
    learning rates that the user did not choose are low (docs/experiments.md)."""
    if recipe.weights == "random":
        return recipe
    rates = {name: rate for name, rate in _GENTLE_RATES.items() if getattr(recipe, name) == getattr(FINETUNE, name)}
    return replace(recipe, batch_norm="frozen", **rates)


def _names(recipe: Recipe) -> Sequence[str]:
    """The backbones to choose from: the recipe's, or those whose pretrained weights are at hand, or else the default one."""
    if recipe.backbone != AUTO:
        return (recipe.backbone,)
    if recipe.weights != "pretrained":
        raise UsageError(
            "weights of which backbone?",
            where="--weights",
            got=recipe.weights,
            expected="--backbone NAME beside it",
        )
    return weights_at_hand()[:_MOST_CANDIDATES] or (FINETUNE.backbone,)


def _require_plannable(recipe: Recipe) -> None:
    for name, is_right in (("head_start", recipe.head_start == "probe"), ("schedule", recipe.schedule == "cosine")):
        if not is_right:
            raise UsageError(
                "this recipe cannot be planned for a time",
                where="--minutes",
                got=f"{name} {getattr(recipe, name)}, of the recipe {recipe.name}",
                expected="a probe as head start and the cosine schedule, as the recipe finetune has them",
            )
