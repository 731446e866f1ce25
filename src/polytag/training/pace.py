"""When fine-tuning ends: after the epochs of its recipe, or, where a run has so many minutes, at the step that the clock allows.

Progress is counted in steps. Without a clock the end never moves. With one, it is planned anew from the speed so far, at the end of
an epoch and at least fifty times in the whole time. Each new plan is a pair (at, end): from step `at` on, training ends at step
`end`. The pairs are kept in the state and in plan.json, and learning rates follow from them alone, so a resume and a repetition of
the plan take the same steps with the same rates.
"""

import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from polytag.runs.recipe import Recipe
from polytag.training.clock import Clock
from polytag.training.state import State

LOOKS = 50  # in the whole time, at least
LEAST_STEPS = 20  # of fine-tuning after a probe; fewer teach nothing
_TOLERANCE = 0.02  # of the whole time: a plan that ends so near to it stays
_LEAST_SHARE = 0.03  # of the whole time: a last part of an epoch that is shorter, validation included, is left out
_NUM_STEPS_TIMED = 128  # as many as run ahead of a GPU before the loop waits for it (training.epoch_stats)
MOST_EPOCHS, MOST_EPOCHS_RANDOM = 40, 300
"""That a run with a limit of minutes takes, of pretrained and of random weights: more only fit the training images better."""


def num_steps_of(recipe: Recipe, num_images: int) -> int:
    """Steps of an epoch."""
    return -(-num_images // recipe.batch_size)


def most_steps(recipe: Recipe, num_steps: int) -> int:
    """Steps of a training of this recipe at most, however many there is time for; an epoch has `num_steps`."""
    return num_steps * (MOST_EPOCHS_RANDOM if recipe.weights == "random" else MOST_EPOCHS)


def end_step(recipe: Recipe, *, num_steps: int, ends: Sequence[tuple[int, int]], at: int) -> int:
    """The step at which training ends, as planned at step `at`; an epoch has `num_steps`."""
    return next((end for planned_at, end in reversed(ends) if planned_at <= at), recipe.epochs * num_steps)


def epochs_scheduled(recipe: Recipe, *, num_steps: int, ends: Sequence[tuple[int, int]], at: int) -> float:
    """How many of the recipe's epochs of the schedule are over at step `at`: all of them at the end, wherever it is.

    Where the end moves, what is left of the schedule is spread over the steps that are left.
    """
    began, scheduled, end = 0, 0.0, recipe.epochs * num_steps
    for planned_at, new_end in ends:
        if planned_at > at:
            break
        scheduled += (recipe.epochs - scheduled) * (planned_at - began) / max(1, end - began)
        began, end = planned_at, new_end
    if began == 0 and end == recipe.epochs * num_steps:
        return at // num_steps + at % num_steps / num_steps
    return scheduled + (recipe.epochs - scheduled) * (at - began) / max(1, end - began)


class Pace:
    """How far a run is, and when it ends. The state holds what it decides: `state.ends`."""

    def __init__(self, recipe: Recipe, state: State, *, num_steps: int, num_val: int = 0, clock: Clock | None = None):
        """`num_steps` are those of an epoch, `num_val` the validation images."""
        self._recipe, self._state, self._num_steps, self._clock = recipe, state, num_steps, clock
        self._step_seconds: deque[float] = deque(maxlen=_NUM_STEPS_TIMED)
        self._share_again = min(1.0, clock.num_again / max(1, num_val)) if clock is not None else 0.0
        self._step_guess = recipe.batch_size * clock.learn_seconds if clock is not None else 0.0
        self._seconds_of = {"validation": _validation_seconds(state, num_images=num_steps * recipe.batch_size), "saving": 0.0}
        self._looked = self._stepped = time.monotonic()

    @property
    def at(self) -> int:
        """Steps done."""
        return (self._state.epoch - 1) * self._num_steps + self._state.step

    @property
    def end(self) -> int:
        """The step at which training ends, as planned now."""
        return end_step(self._recipe, num_steps=self._num_steps, ends=self._state.ends, at=self.at)

    @property
    def is_over(self) -> bool:
        """Whether no step is left."""
        return self.at >= self.end

    @property
    def num_epochs(self) -> int:
        """Epochs until the end, a part of one counted as one."""
        return -(-self.end // self._num_steps)

    @property
    def scheduled(self) -> float:
        """Epochs of the recipe's schedule that are over."""
        return epochs_scheduled(self._recipe, num_steps=self._num_steps, ends=self._state.ends, at=self.at)

    @property
    def wants_look(self) -> bool:
        """Whether the clock should be looked at before the next step."""
        return self._clock is not None and time.monotonic() - self._looked > self._clock.seconds / LOOKS

    def begin_epoch(self) -> None:
        """The steps of an epoch begin."""
        self._stepped = time.monotonic()

    def count_step(self) -> None:
        """A step has been taken."""
        now = time.monotonic()
        self._step_seconds.append(now - self._stepped)
        self._stepped = now

    def end_epoch(self) -> None:
        """The steps of an epoch are over, and the device has done them."""
        if self._step_seconds:
            self._step_seconds[-1] += time.monotonic() - self._stepped

    @contextmanager
    def timing(self, what: str) -> Generator[None]:
        """An epoch is validated or saved meanwhile."""
        started = time.monotonic()
        yield
        self._seconds_of[what] = time.monotonic() - started

    def planned(self) -> int:
        """The step at which training should end, by the clock; without one, the end as it is."""
        self._looked = time.monotonic()
        timed = self._step_seconds
        per_step = sum(timed) / len(timed) if timed else self._step_guess
        if self._clock is None or not per_step:
            return self.end
        steps = steps_within(
            self._clock.left - self._share_again * self._seconds_of["validation"],
            per_step=per_step,
            per_validation=sum(self._seconds_of.values()),
            num_steps=self._num_steps,
            done=self._state.step,
            least_seconds=_LEAST_SHARE * self._clock.seconds,
        )
        if self.at == 0 and steps < LEAST_STEPS:
            return 0 if self._state.best_epoch >= 0 else max(1, steps)
        end = min(self.at + steps, max(self.at, most_steps(self._recipe, self._num_steps)))
        return self.end if abs(end - self.end) * per_step < _TOLERANCE * self._clock.seconds else end

    def end_early(self, *, is_validated: bool) -> None:
        """End the training here; or, where this epoch will not be validated, where the last one ended: its steps are dropped."""
        at = self.at if is_validated else self.at - self._state.step
        self._state.ends = [*(pair for pair in self._state.ends if pair[0] <= at), (at, at)]

    @property
    def pays_validation(self) -> bool:
        """Whether the steps of this epoch so far took at least as long as a validation."""
        return self._state.epoch_seconds >= self._seconds_of["validation"]

    @property
    def is_late(self) -> bool:
        """Whether the clock leaves no time for the validation of this epoch."""
        if self._clock is None:
            return False
        needed = (1 + self._share_again) * self._seconds_of["validation"]
        return self._clock.left + _TOLERANCE * self._clock.seconds < needed

    @property
    def has_dropped_steps(self) -> bool:
        """Whether the training ended before the present epoch."""
        return self.at > self.end

    def move_end(self, end: int) -> bool:
        """Plan this end from now on; returns whether it is another one."""
        if end == self.end:
            return False
        self._state.ends = [*self._state.ends, (self.at, end)]
        return True


def _validation_seconds(state: State, *, num_images: int) -> float:
    """About what the last validation took, in a run that is resumed; else 0."""
    if not state.rows or not state.rows[-1]["images_per_second"] > 0:
        return 0.0
    row = state.rows[-1]
    return max(0.0, row["seconds"] - num_images / row["images_per_second"])


def steps_within(seconds: float, *, per_step: float, per_validation: float, num_steps: int, done: int, least_seconds: float) -> int:
    """The largest number of steps after which, each epoch validated, no more than these seconds are over.

    `done` steps of the present epoch are over; a last part of an epoch of less than `least_seconds` is left out.
    """
    first = num_steps - done if done else 0
    if done and first * per_step + per_validation > seconds:
        return max(0, int((seconds - per_validation) / per_step))
    left = seconds - (first * per_step + per_validation if done else 0.0)
    whole = max(0, int(left / (num_steps * per_step + per_validation)))
    left -= whole * (num_steps * per_step + per_validation)
    part = int((left - per_validation) / per_step) if left >= least_seconds else 0
    return first + whole * num_steps + max(0, part)
