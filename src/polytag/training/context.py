"""What every stage of a run needs, put together once and handed on whole."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from polytag.contracts import Dataset, Preprocessing
from polytag.errors import DataError
from polytag.models.device import Arithmetic
from polytag.runs.recipe import Recipe
from polytag.text import counted
from polytag.training.callback import Callback, SilentCallback
from polytag.training.clock import Clock
from polytag.training.input_pipeline import InputPipeline
from polytag.training.label_policy import LabelPolicy, label_policy
from polytag.training.losses import LOSS_OF, LargeLossRejection, Loss, binary_cross_entropy
from polytag.training.own_augment import OwnAugmentation
from polytag.training.own_loss import OwnLoss
from polytag.training.parts import NO_PARTS, Parts
from polytag.training.preprocessing import preprocessing_of
from polytag.training.processes import ALONE, Processes


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingContext:
    """What is trained, on what, where and by how many processes, and who is informed.

    recipe               every choice of the run
    train_set, val_set   the labelled images
    arithmetic           device and precision
    processes            all that share each batch
    callback             receives the events
    parts                the user's own, in place of those that the recipe names
    clock                of a run that has so many minutes
    """

    recipe: Recipe
    train_set: Dataset
    val_set: Dataset
    arithmetic: Arithmetic
    processes: Processes = ALONE
    callback: Callback = field(default_factory=SilentCallback)
    parts: Parts = NO_PARTS
    clock: Clock | None = None

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How images reach the backbone."""
        return preprocessing_of(self.recipe)

    @cached_property
    def pipeline(self) -> InputPipeline:
        """How training images become inputs."""
        part = self.parts.augment
        return InputPipeline(
            preprocessing=self.preprocessing,
            augment=self.recipe.augment,
            seed=self.recipe.seed,
            own=None if part is None else OwnAugmentation(part=part, preprocessing=self.preprocessing),
            ids=self.train_set.ids,
        )

    @cached_property
    def own_loss(self) -> OwnLoss | None:
        """The user's loss."""
        return None if self.parts.loss is None else OwnLoss(self.parts.loss)

    @cached_property
    def labels(self) -> LabelPolicy:
        """What is learned from the labels, by the recipe's loss and by what is known."""
        return label_policy(self.train_set, loss=self.recipe.loss)

    @property
    def target_NC(self) -> np.ndarray:
        """The labels of the steps; a loss of the user's own sees what is unknown."""
        return self.labels.target_NC if self.own_loss is None else self.train_set.target_NC

    @cached_property
    def loss(self) -> Loss:
        """The loss of the steps."""
        return self.own_loss or LOSS_OF[self.labels.loss]()

    @property
    def val_loss(self) -> Loss:
        """The loss of the validation, whose labels are not doubted."""
        return binary_cross_entropy if isinstance(self.loss, LargeLossRejection) else self.loss


def require_readable(num_read: int, images: Dataset) -> None:
    """Raises DataError where not one of these training images, which a probe learns from, could be read."""
    if not num_read:
        raise DataError(
            "no training image can be read",
            where=images.source,
            got=f"{counted(len(images), 'images')}, such as {images.paths[0]}",
            expected="at least one image",
            next_step="run `polytag data check` on the data: it says what is wrong with each image",
        )


def draw_order(num_images: int, *, seed: int) -> np.ndarray:
    """The rows of so many images in a random order, of which a few images are the first ones.

    Drawn from another stream than the folds of a probe: in their order, every fourth image of the data set would be a fold.
    """
    return np.random.default_rng([seed, 1]).permutation(num_images)


def drawn(num_images: int, part: Dataset, *, seed: int) -> Dataset:
    """So many of the images, in the order of the draw; all of them in their own order for 0."""
    return part.take(draw_order(len(part), seed=seed)[:num_images].tolist()) if num_images else part


def at_most(num_images: int, part: Dataset, *, seed: int) -> Dataset:
    """So many of the images, drawn at random, in their order; all of them for 0."""
    if not 0 < num_images < len(part):
        return part
    return part.take(np.sort(np.random.default_rng(seed).permutation(len(part))[:num_images]).tolist())
