"""The time that a run has."""

import os
import time
from dataclasses import dataclass, field

from polytag.inference.predictor import scoring_batch_size
from polytag.machine import num_cores
from polytag.models.device import Arithmetic, choose_arithmetic
from polytag.runs.recipe import Recipe

# Loading the saved model, metrics, plots and report, grids in all cores, and the end of the process: seconds on a quiet machine,
# measured with 20 classes.
_CLOSING_SECONDS, _REPORT_SECONDS_A_CLASS, _GRID_SECONDS_A_CLASS = 5.0, 0.065, 0.135
LEAST_IMAGES = 50
"""Of a part of the images that a limit of time leaves, for a probe or for the validation."""
SAVING_SECONDS = 0.5
"""To save an epoch."""
_MOST_CROWDED = 20.0
_BATCHES_SCORED_AGAIN = 4


class Crowding:
    """How many times as long as alone the work of this process takes, because other processes want the cores too.

    Where the work is not limited by the processor, as on a GPU, this cannot be told, and it is 1.
    """

    def __init__(self, *, fills_cores: bool = True):
        self._fills_cores = fills_cores
        self._wall, self._busy = time.monotonic(), _processor_seconds()

    @property
    def now(self) -> float:
        """1 on a quiet machine, 2 where half of the cores' time went to others; since this object was made."""
        wall, busy = time.monotonic() - self._wall, _processor_seconds() - self._busy
        if not self._fills_cores or busy < 1.0:
            return 1.0
        return min(_MOST_CROWDED, max(1.0, wall * num_cores() / busy))


@dataclass(frozen=True, kw_only=True, eq=False)
class Clock:
    """The seconds that a run may take, since `began` of `time.monotonic()`; the last ones are for what follows the training.

    num_again       validation images that the saved model scores once more at the close, at most
    learn_seconds   to decode an image and learn from it once, as planned; 0: not known
    """

    began: float
    seconds: float
    num_classes: int
    num_again: int = 64
    learn_seconds: float = 0.0
    crowding: Crowding = field(default_factory=Crowding)

    @property
    def used(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.began

    @property
    def closing(self) -> float:
        """Seconds of what follows the training, besides scoring some validation images once more."""
        alone = _CLOSING_SECONDS + (_REPORT_SECONDS_A_CLASS + _GRID_SECONDS_A_CLASS / num_cores()) * self.num_classes
        return alone * self.crowding.now

    @property
    def left(self) -> float:
        """Seconds until the training has to end, that scoring not counted."""
        return self.seconds - self.used - self.closing


def clock_of(recipe: Recipe, *, began: float, num_classes: int, learn_seconds: float = 0.0) -> Clock:
    """The clock of a run with a limit of minutes."""
    arithmetic = choose_arithmetic(recipe.device, recipe.precision)
    return Clock(
        began=began,
        seconds=60 * recipe.minutes,
        num_classes=num_classes,
        num_again=num_scored_again(arithmetic),
        learn_seconds=learn_seconds,
        crowding=Crowding(fills_cores=arithmetic.device == "cpu"),
    )


def num_scored_again(arithmetic: Arithmetic) -> int:
    """How many validation images the saved model scores at least, if there are as many, before the scores of the training count
    as its own."""
    return _BATCHES_SCORED_AGAIN * scoring_batch_size(arithmetic)


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system
