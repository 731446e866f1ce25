"""When a run ends: laws of the schedule whose end moves, and of the clock that moves it."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.runs.recipe import FINETUNE
from polytag.training import clock as clock_module
from polytag.training import pace as pace_module
from polytag.training.clock import Clock, Crowding
from polytag.training.pace import Pace, end_step, epochs_scheduled, steps_within
from polytag.training.state import State

TEN = replace(FINETUNE, epochs=10)


@pytest.mark.parametrize("num_steps", [1, 7, 28])
def test_without_a_plan_the_schedule_is_the_epochs_done_to_the_last_bit(num_steps: int):
    for at in range(10 * num_steps + 1):
        epoch, step = at // num_steps + 1, at % num_steps
        assert epochs_scheduled(TEN, num_steps=num_steps, ends=(), at=at) == epoch - 1 + step / num_steps
        assert end_step(TEN, num_steps=num_steps, ends=(), at=at) == 10 * num_steps


@given(
    num_steps=st.integers(1, 50),
    moves=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 400)), max_size=6),
    first=st.integers(1, 500),
)
def test_a_schedule_never_goes_back_or_jumps_and_is_over_at_the_end(num_steps: int, moves: list[tuple[int, int]], first: int):
    """However often the end moves, and wherever to."""
    ends = [(0, first)]
    for at, more in sorted(moves):
        if at < end_step(TEN, num_steps=num_steps, ends=ends, at=at):  # the clock is looked at while steps are left
            ends.append((at, at + more))
    last = end_step(TEN, num_steps=num_steps, ends=ends, at=10**9)
    scheduled = [epochs_scheduled(TEN, num_steps=num_steps, ends=ends, at=at) for at in range(last + 1)]
    assert scheduled[0] == 0
    assert math.isclose(scheduled[-1], 10)
    assert all(0 <= before <= after + 1e-9 for before, after in pairwise(scheduled))
    for at, _ in ends[1:]:  # continuous where the end moves
        earlier = [end for end in ends if end[0] < at]
        assert math.isclose(
            epochs_scheduled(TEN, num_steps=num_steps, ends=earlier, at=at),
            epochs_scheduled(TEN, num_steps=num_steps, ends=ends, at=at),
            abs_tol=1e-9,
        )


@given(
    seconds=st.floats(-10, 5000),
    per_step=st.floats(0.01, 5),
    per_validation=st.floats(0, 60),
    num_steps=st.integers(1, 200),
    done=st.integers(0, 199),
)
def test_as_many_steps_as_fit_and_one_more_would_not(
    seconds: float, per_step: float, per_validation: float, num_steps: int, done: int
):
    done = done % num_steps
    steps = steps_within(
        seconds, per_step=per_step, per_validation=per_validation, num_steps=num_steps, done=done, least_seconds=0.0
    )

    def takes(steps: int) -> float:
        """Every epoch that is begun or goes on is validated at its end, the last one where it ends."""
        epochs = -(-(done + steps) // num_steps)
        return steps * per_step + epochs * per_validation

    assert steps == 0 or takes(steps) <= seconds + 1e-6
    assert takes(steps + 1) > seconds - per_step - per_validation - 1e-6


class Time:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def a_run(monkeypatch: pytest.MonkeyPatch, *, minutes: float, seconds_a_step, num_steps: int = 20) -> tuple[float, State]:
    """The seconds that a run takes whose steps and validations take these seconds, and its state."""
    time = Time()
    for module in (pace_module, clock_module):
        monkeypatch.setattr(module, "time", time)
    monkeypatch.setattr(clock_module, "_processor_seconds", lambda: 0.0)
    recipe = replace(TEN, minutes=minutes, ends=((0, 10 * num_steps),))
    state = State(data_fingerprint="", classes=[], ends=list(recipe.ends))
    clock = Clock(began=time.now - 5, seconds=60 * minutes, num_classes=20, crowding=Crowding())
    began = clock.began
    pace = Pace(recipe, state, num_steps=num_steps, clock=clock)
    with pace.timing("validation"):  # of the probe
        time.now += 4 * seconds_a_step(0)
    with pace.timing("saving"):
        time.now += 0.5
    while not pace.is_over:
        pace.begin_epoch()
        while state.step < num_steps:
            time.now += seconds_a_step(pace.at)
            state.step += 1
            pace.count_step()
            if pace.wants_look:
                pace.move_end(pace.planned())
            if pace.is_over:
                break
        pace.end_epoch()
        with pace.timing("validation"):
            time.now += 4 * seconds_a_step(pace.at)
        state.epoch, state.step = state.epoch + 1, 0
        if not pace.is_over:
            pace.move_end(pace.planned())
        with pace.timing("saving"):
            time.now += 0.5
    return time.now - began + 4 * seconds_a_step(pace.at) + clock.closing, state


@pytest.mark.parametrize("minutes", [3.0, 10.0, 60.0])
@pytest.mark.parametrize(
    "seconds_a_step",
    [
        lambda at: 0.2,  # much faster than planned
        lambda at: 2.5,
        lambda at: 0.5 if at < 60 else 1.5,  # the machine gets busy
        lambda at: 1.5 if at < 60 else 0.3,
        lambda at: 0.4 + 0.3 * (at % 7),
    ],
)
def test_a_run_ends_within_five_percent_of_its_minutes(monkeypatch: pytest.MonkeyPatch, minutes: float, seconds_a_step):
    monkeypatch.setattr(pace_module, "MOST_EPOCHS", 10_000)
    took, state = a_run(monkeypatch, minutes=minutes, seconds_a_step=seconds_a_step)
    assert abs(took - 60 * minutes) <= 0.05 * 60 * minutes
    assert all(before[0] <= after[0] for before, after in pairwise(state.ends))


def test_no_more_epochs_are_taken_than_are_of_use(monkeypatch: pytest.MonkeyPatch):
    """However much faster the machine becomes."""
    took, state = a_run(monkeypatch, minutes=60.0, seconds_a_step=lambda at: 1.5 if at < 60 else 0.5)
    assert state.epoch - 1 == pace_module.MOST_EPOCHS
    assert took < 60 * 60


@given(
    num_steps=st.integers(1, 50),
    moves=st.lists(st.tuples(st.integers(0, 99), st.integers(1, 400)), max_size=5),
    at=st.integers(0, 99),
    is_validated=st.booleans(),
)
def test_a_training_that_is_ended_early_took_the_steps_that_its_plan_repeats(
    num_steps: int, moves: list[tuple[int, int]], at: int, is_validated: bool
):
    """With the same rates, and up to the same end; steps of an epoch that is not validated are none of them."""
    ends = [(0, 100), *((planned, planned + more) for planned, more in sorted(moves) if planned <= at)]
    state = State(data_fingerprint="", classes=[], ends=ends, epoch=at // num_steps + 1, step=at % num_steps)
    pace = Pace(TEN, state, num_steps=num_steps)
    pace.end_early(is_validated=is_validated)
    end = at if is_validated else at - at % num_steps
    assert pace.is_over
    assert pace.end == end
    assert pace.has_dropped_steps == (end < at)
    for step in range(end):
        before, repeated = (epochs_scheduled(TEN, num_steps=num_steps, ends=each, at=step) for each in (ends, state.ends))
        assert before == repeated
        assert step < end_step(TEN, num_steps=num_steps, ends=state.ends, at=step) or step >= end_step(
            TEN, num_steps=num_steps, ends=ends, at=step
        )


def test_a_run_whose_speed_is_as_planned_keeps_its_plan(monkeypatch: pytest.MonkeyPatch):
    """So that what it does can be repeated without a clock."""
    num_steps, step = 20, 0.5
    seconds = 5 + 4 * step + 0.5 + 10 * (num_steps * step + 4 * step + 0.5) + 4 * step
    monkeypatch.setattr(clock_module, "_CLOSING_SECONDS", 0.0)
    monkeypatch.setattr(clock_module, "_REPORT_SECONDS_A_CLASS", 0.0)
    monkeypatch.setattr(clock_module, "_GRID_SECONDS_A_CLASS", 0.0)
    took, state = a_run(monkeypatch, minutes=seconds / 60, seconds_a_step=lambda at: step)
    assert state.ends == [(0, 200)]
    assert math.isclose(took, seconds, rel_tol=0.02)
