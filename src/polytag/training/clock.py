"""The time that a run has."""

import os
import time
from dataclasses import dataclass, field

from polytag.machine import num_cores
from polytag.models.device import choose_device
from polytag.runs.recipe import Recipe

# Loading the saved model, metrics, plots and report, and grids in all cores: seconds on a quiet machine, measured with 20 classes.
_CLOSING_SECONDS, _REPORT_SECONDS_A_CLASS, _GRID_SECONDS_A_CLASS = 3.0, 0.065, 0.135
_MOST_CROWDED = 20.0


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
    """The seconds that a run may take, since `began` of `time.monotonic()`; the last ones are for what follows the training."""

    began: float
    seconds: float
    num_classes: int
    crowding: Crowding = field(default_factory=Crowding)

    @property
    def used(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.began

    @property
    def closing(self) -> float:
        """Seconds of what follows the training, besides one pass over the validation images."""
        alone = _CLOSING_SECONDS + (_REPORT_SECONDS_A_CLASS + _GRID_SECONDS_A_CLASS / num_cores()) * self.num_classes
        return alone * self.crowding.now

    @property
    def left(self) -> float:
        """Seconds until the training has to end, that pass not counted."""
        return self.seconds - self.used - self.closing


def clock_of(recipe: Recipe, *, began: float, num_classes: int) -> Clock:
    """The clock of a run with a limit of minutes."""
    on_cpu = choose_device(recipe.device) == "cpu"
    return Clock(began=began, seconds=60 * recipe.minutes, num_classes=num_classes, crowding=Crowding(fills_cores=on_cpu))


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system
