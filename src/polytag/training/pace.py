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
_TOLERANCE = 0.02  # of the whole time: a plan that ends so near to it stays
_LEAST_SHARE = 0.03  # of the whole time: a last part of an epoch that is shorter, validation included, is left out
_NUM_STEPS_TIMED = 128  # as many as run ahead of a GPU before the loop waits for it (training.epoch_stats)


def num_steps_of(recipe: Recipe, num_images: int) -> int:
    """Steps of an epoch."""
    return -(-num_images // recipe.batch_size)


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

    def __init__(self, recipe: Recipe, state: State, *, num_steps: int, clock: Clock | None = None):
        self._recipe, self._state, self._num_steps, self._clock = recipe, state, num_steps, clock
        self._step_seconds: deque[float] = deque(maxlen=_NUM_STEPS_TIMED)
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
        if self._clock is None or not self._step_seconds:
            return self.end
        per_step = sum(self._step_seconds) / len(self._step_seconds)
        steps = steps_within(
            self._clock.left - self._seconds_of["validation"],  # at the close the saved model is scored once more
            per_step=per_step,
            per_validation=sum(self._seconds_of.values()),
            num_steps=self._num_steps,
            done=self._state.step,
            least_seconds=_LEAST_SHARE * self._clock.seconds,
        )
        end = self.at + steps
        return self.end if abs(end - self.end) * per_step < _TOLERANCE * self._clock.seconds else end

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
