"""What is tried again, and how often."""

import pytest

from polytag.download.retries import Interrupted, Patience, with_retries
from polytag.errors import FetchError

HASTY = Patience(timeout_seconds=0.5, max_tries=4, pause_seconds=0.01, max_pause_seconds=0.05)


def test_a_try_that_gets_further_is_none_too_many():
    done = 0

    def work() -> str:
        nonlocal done
        done += 1 << 20
        if done < 12 << 20:
            raise Interrupted("cut")
        return "whole"

    assert with_retries(work, where="x", patience=HASTY, progress=lambda: done) == "whole"
    done = 0
    with pytest.raises(FetchError):
        with_retries(work, where="x", patience=HASTY)
