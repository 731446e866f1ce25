"""A computation by UMAP that fails in a way that nobody thought of is over, and the next visit begins another."""

import time

import pytest

from polytag.inspector.map.umap_job import UmapJob


def test_a_failure_of_any_kind_is_raised_once_and_then_tried_again():
    job = UmapJob[str]()
    outcomes = [ZeroDivisionError("a bug"), None]

    def make(_: object) -> str:
        if (error := outcomes.pop(0)) is not None:
            raise error
        return "places"

    def visited() -> str:
        give_up = time.monotonic() + 60
        while (made := job.found(make, is_asked_for=False)[0]) is None:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        return made

    with pytest.raises(ZeroDivisionError):
        visited()
    assert visited() == "places"
    assert not job.stop()
