"""A try of the user's own parts before a run folder is made: each error names the part and what it returned."""

from polytag.contracts import Dataset
from polytag.data.images.augment import training_source
from polytag.data.images.read import read_image
from polytag.errors import ImageError, UsageError
from polytag.models.device import choose_arithmetic
from polytag.runs.recipe import Recipe
from polytag.training.learner import class_weights
from polytag.training.own_augment import OwnAugmentation
from polytag.training.own_loss import OwnLoss
from polytag.training.parts import Parts
from polytag.training.preprocessing import preprocessing_of

_NUM_TRIED = 20  # images, until one can be read


def check_parts(parts: Parts, recipe: Recipe, dataset: Dataset) -> list[str]:
    """Call each part as training will. Returns what is worth a note; raises UsageError for a part that does not do its work."""
    train_set = dataset.split("train")
    if recipe.epochs == 0 and parts.records.keys() & {"augment", "loss"}:
        raise UsageError(
            "a probe trains without augmentation and loss",
            where="epochs",
            got="0, and " + ", ".join(kind for kind in parts.records if kind != "backbone"),
            expected="epochs of fine-tuning",
            next_step="take the recipe finetune, or leave these parts out",
        )
    if parts.augment is not None:
        _check_augmentation(parts, recipe, train_set)
    if parts.loss is None:
        return []
    weight_C = class_weights(train_set.target_NC, kind=recipe.class_weights)
    device = choose_arithmetic(recipe.device, recipe.precision).device
    return OwnLoss(parts.loss).check(train_set.target_NC, positive_weight_C=weight_C, device=device)


def _check_augmentation(parts: Parts, recipe: Recipe, train_set: Dataset) -> None:
    if recipe.cache == "gpu":
        raise UsageError(
            "an augmentation of your own runs on the processor",
            where="--cache",
            got="gpu",
            expected="auto, none or disk",
        )
    preprocessing = preprocessing_of(recipe)
    own = OwnAugmentation(part=parts.augment, preprocessing=preprocessing)
    for name, path in zip(train_set.ids[:_NUM_TRIED], train_set.paths[:_NUM_TRIED], strict=True):
        try:
            image = training_source(read_image(path), preprocessing)
        except ImageError:
            continue  # training says which cannot be read
        own.check(image, where=name, seed=recipe.seed)
        return
