"""What several tests of training share."""

from collections.abc import Callable

import pytest


class Stop(Exception):
    """Ends a run from within a callback."""


class StopsAt:
    """A callback that ends the run after so many steps."""

    def __init__(self, num_steps: int):
        self.left = num_steps

    def progress(self, num_images: int, **numbers: float) -> None:
        self.left -= "loss" in numbers
        if self.left == 0:
            raise Stop


@pytest.fixture(scope="session")
def stopped_at() -> Callable[..., None]:
    """Calls a training, with further callbacks of its own, and ends it after so many steps: `stopped_at(steps, train, ...)`."""

    def stopped(num_steps: int, training: Callable[..., object], *arguments: object, **options: object) -> None:
        with pytest.raises(Stop):
            training(*arguments, **options, callbacks=[StopsAt(num_steps)])

    return stopped
