"""What fits into the minutes that a run has, of what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polytag.contracts import Dataset
from polytag.errors import UsageError
from polytag.models.backbone import fixed_input_size_px, pretrained_size_px
from polytag.models.cached_weights import weights_at_hand
from polytag.own_parts import OWN_BACKBONE
from polytag.runs.plan import Candidate, Plan
from polytag.runs.recipe import AUTO, FINETUNE, Recipe
from polytag.training.callback import Callback, SilentCallback
from polytag.training.choosing import choose
from polytag.training.clock import LEAST_IMAGES, SAVING_SECONDS, Clock, Crowding, clock_of
from polytag.training.measuring import Scored, Speed, seconds_to_learn, trial_context
from polytag.training.one_run import fresh_model
from polytag.training.pace import LEAST_STEPS, most_steps, num_steps_of, steps_within
from polytag.training.parts import NO_PARTS, Parts
from polytag.training.preprocessing import preprocessing_of

SIZES_PX = (640, 512, 448, 384, 320, 288, 256, 224)
LARGEST_SHARE = 1.72
"""Of the size that the weights were trained with, at most: 384 px for 224. Larger ones were not better (docs/experiments.md)."""
SHARE_FIRST = 0.5
"""Of the time that is left, at most, for the probe and what judges it: larger images come before epochs (docs/experiments.md)."""
SHARE_ALONE = 0.9
"""The same where no epoch would follow."""
_SHARE_TRYING, _SHARE_TIMING = 0.1, 0.02  # of the time, for all candidates together and for steps
_LONGEST_TRYING, _LONGEST_TIMING = 25.0, 5.0  # seconds: a first model is on the disk within a minute
_LEAST_LEARNING = 2.0  # times as long as scoring an image, learning from it takes at least
_SHARE_PROBE, _SHARE_VALIDATION = 0.45, 0.15  # of the time at most; then fewer images are used
_SHARE_WHOLE_PROBE = 0.25  # of the time at most, for a probe of all images before epochs
_SOON_SECONDS = 30.0  # for a probe of some images that epochs follow: so soon there is a model on the disk
_WARMUP_SHARE, _LARGEST_WARMUP = 0.15, 1.0
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
    clock = clock_of(recipe, began=began, num_classes=len(dataset.label_set))
    trying = min(_SHARE_TRYING * clock.seconds, _LONGEST_TRYING)
    num_images = len(dataset.rows_of("train")) + len(dataset.rows_of("val"))
    chosen = choose(
        recipe,
        dataset,
        names=_names(recipe),
        parts=parts,
        seconds=trying,
        callback=callback,
        reach=lambda own, scored: min(num_images, images_within(clock.seconds - trying - clock.closing, own, scored)),
    )
    recipe, scored = chosen.recipe, chosen.scored
    speed = Speed(
        size_px=preprocessing_of(recipe).image_size_px,
        decode=scored.decode_seconds,
        score=scored.score_seconds,
        learn=_LEAST_LEARNING * scored.score_seconds,
    )
    plan = plan_of(recipe, speed, dataset=dataset, clock=clock, candidates=chosen.candidates)
    if not plan.epochs:
        return plan  # no epoch fits even so: the time for timing steps is the probe's
    callback.phase("timing a step", 0)
    model = fresh_model(recipe, dataset, parts=parts, note=SilentCallback().note)
    budget, context = min(_SHARE_TIMING * clock.seconds, _LONGEST_TIMING), trial_context(recipe, dataset, parts=parts)
    crowding = Crowding(fills_cores=context.arithmetic.device == "cpu")
    learn = seconds_to_learn(model, context, budget_seconds=budget)
    crowded = crowding.now  # of these seconds alone
    plan = plan_of(recipe, replace(speed, learn=learn), dataset=dataset, clock=clock, candidates=chosen.candidates)
    if plan.epochs or crowded == 1:
        return plan
    # Others are busy in these seconds, which says little about the minutes: as it would be alone. The clock moves the end.
    alone = replace(speed, learn=learn / crowded)
    return plan_of(recipe, alone, dataset=dataset, clock=clock, candidates=chosen.candidates)


def images_within(seconds: float, recipe: Recipe, scored: Scored) -> float:
    """Images that the recipe's backbone scores in these seconds, at the smallest size that a plan takes."""
    size_px = preprocessing_of(recipe).image_size_px
    speed = Speed(size_px=size_px, decode=scored.decode_seconds, score=scored.score_seconds, learn=scored.score_seconds)
    smallest_px = sizes_px(recipe.backbone)[-1] if recipe.image_size_px is None else size_px
    return max(0.0, seconds) / speed.at(smallest_px).score


def plan_of(recipe: Recipe, speed: Speed, *, dataset: Dataset, clock: Clock, candidates: Sequence[Candidate] = ()) -> Plan:
    """The plan of what fits, at the largest of the image sizes at which a probe of all images does, or at the smallest one."""
    num_train, num_val = (len(dataset.rows_of(name)) for name in ("train", "val"))
    used = clock.used
    sizes = sizes_px(recipe.backbone) if recipe.image_size_px is None else (speed.size_px,)
    num_again = min(num_val, clock.num_again)
    left, passes = clock.seconds - used - clock.closing, num_train + num_val + num_again
    for share in (SHARE_FIRST, SHARE_ALONE):
        size_px = next((each for each in sizes if speed.at(each).score * passes <= share * left), sizes[-1])
        stages = stages_at(
            speed.at(size_px),
            recipe,
            seconds=clock.seconds - used,
            num_train=num_train,
            num_val=num_val,
            closing=clock.closing + num_again * speed.at(size_px).score,
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
        max_probe=stages.num_probe,
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
        needs_less=stages.num_steps >= most_steps(recipe, num_steps_of(recipe, num_train)),
    )


def sizes_px(backbone: str) -> tuple[int, ...]:
    """The image sizes to choose from, largest first; of a backbone of one size, and of the user's own, the usual one alone."""
    usual = preprocessing_of(replace(FINETUNE, backbone=backbone)).image_size_px
    if backbone == OWN_BACKBONE or fixed_input_size_px(backbone):
        return (usual,)
    largest = LARGEST_SHARE * (pretrained_size_px(backbone) or usual)
    return tuple(size for size in SIZES_PX if size <= largest) or (SIZES_PX[-1],)


def stages_at(speed: Speed, recipe: Recipe, *, seconds: float, num_train: int, num_val: int, closing: float) -> Stages:
    """What fits into these seconds: a probe of as many images as it has time for, then as many steps as are left.

    With random weights there is no probe, and there are steps, however few fit. Else so few steps as teach nothing are none.
    """
    has_probe = recipe.weights != "random"
    all_val, num_val = num_val, min(num_val, max(LEAST_IMAGES, int(_SHARE_VALIDATION * seconds / speed.score)))
    validation, per_epoch = num_val * speed.score, num_steps_of(recipe, num_train)
    longest, whole = _SHARE_PROBE * seconds, num_train * speed.score
    for probe_seconds in (whole if whole <= _SHARE_WHOLE_PROBE * seconds else min(_SOON_SECONDS, longest), longest):
        num_probe = min(num_train, max(LEAST_IMAGES, int(probe_seconds / speed.score))) if has_probe else 0
        probe = num_probe * speed.score + validation if has_probe else 0.0
        left = seconds - probe - closing - 2 * SAVING_SECONDS
        num_steps = steps_within(
            left,
            per_step=recipe.batch_size * speed.learn,
            per_validation=validation + SAVING_SECONDS,
            num_steps=per_epoch,
            done=0,
            least_seconds=0.0,
        )
        if num_steps >= LEAST_STEPS:
            break
    most = most_steps(recipe, per_epoch)
    if num_steps > most:
        num_steps = most
        left = most * recipe.batch_size * speed.learn + most / per_epoch * (validation + SAVING_SECONDS)
    if num_steps < LEAST_STEPS:
        num_steps = 0 if has_probe else max(1, num_steps)
    if not num_steps:  # what no epoch takes is the validation's
        num_val = min(all_val, max(num_val, int((seconds - closing - 2 * SAVING_SECONDS) / speed.score) - num_probe))
        validation = num_val * speed.score
        probe = num_probe * speed.score + validation
        left = 0.0
    return Stages(
        num_probe=num_probe,
        num_val=num_val,
        num_steps=num_steps,
        epochs=num_steps / per_epoch,
        seconds={"probe": probe, "fine-tuning": max(0.0, left), "closing": closing},
    )


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
