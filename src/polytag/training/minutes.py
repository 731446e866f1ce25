"""A run with a limit of minutes: what its clock changes after the probe, and what its report says about its plan."""

from dataclasses import replace

from polytag.contracts import Dataset
from polytag.inference.predictor import from_files
from polytag.runs.args import RunArgs, write_args
from polytag.runs.folder import RunFolder
from polytag.runs.plan import read_plan, write_plan
from polytag.training.clock import LEAST_IMAGES, SAVING_SECONDS
from polytag.training.context import TrainingContext, at_most
from polytag.training.head_start import Looked
from polytag.training.image_sources import ImageSources


def in_time(
    context: TrainingContext, dataset: Dataset, looked: Looked, *, sources: ImageSources
) -> tuple[TrainingContext, ImageSources]:
    """The context with `max_probe` as it came about, and with fewer validation images where all of them would take too long.

    Nothing changes without a clock. On a GPU, and in several processes, the validation images stay.
    """
    clock, recipe = context.clock, context.recipe
    if clock is None:
        return context, sources
    recipe = replace(recipe, max_probe=looked.num_images)
    num_val, seconds = len(context.val_set), clock.left - SAVING_SECONDS
    affordable = max(LEAST_IMAGES, int(seconds / looked.seconds_an_image) - clock.num_again)
    if affordable >= num_val or context.arithmetic.device != "cpu" or context.processes.count > 1:
        return replace(context, recipe=recipe), sources
    val_set = at_most(affordable, dataset.split("val"), seed=recipe.seed)
    sources = replace(sources, val_views=from_files(val_set.paths, context.preprocessing))
    return replace(context, recipe=replace(recipe, max_val=affordable), val_set=val_set), sources


def record(run: RunFolder, args: RunArgs, context: TrainingContext) -> None:
    """Write into args.yaml and plan.json how many images came to be used, so that a resume and a repetition use the same."""
    recipe, plan = context.recipe, read_plan(run.plan)
    if recipe == plan.recipe:
        return
    write_args(run, replace(args, recipe=recipe))
    num_probe = recipe.max_probe or plan.num_probe
    write_plan(replace(plan, recipe=recipe, num_probe=num_probe, num_val=len(context.val_set)), run.plan)


def facts_of_plan(run: RunFolder, context: TrainingContext) -> dict[str, str]:
    """Lines for the head of the report; none without a limit of minutes."""
    if not context.recipe.minutes:
        return {}
    plan = read_plan(run.plan)
    tried = "; ".join(
        f"{each.backbone}, {each.head}: {each.held_out_map:.3f} of {each.num_images} images" for each in plan.candidates
    )
    return {
        "plan": f"{plan.text()}, for {context.recipe.minutes:g} minutes",
        **({"tried": f"{tried} (mAP of a probe, cross-validated on training images)"} if len(plan.candidates) > 1 else {}),
        **({"ended early": f"by Ctrl-C, after {plan.stopped_after:.0%} of the time"} if plan.stopped_after else {}),
        **({"validation images": f"{plan.num_val}, drawn at random"} if context.recipe.max_val else {}),
    }
