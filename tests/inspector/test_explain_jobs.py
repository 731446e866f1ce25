"""Questions of the pages: each is computed once, a failed one again, and one too many waits for a later visit."""

import threading
import time

import pytest

from polytag.errors import UsageError
from polytag.inspector.explain.jobs import Jobs


def test_a_question_is_computed_once_and_shown_when_it_is_answered():
    jobs, may_go_on, calls = Jobs(), threading.Event(), []

    def compute() -> str:
        calls.append(1)
        assert may_go_on.wait(20)
        return "answer"

    assert jobs.answer("key", compute, patience_seconds=0.01) is None
    assert jobs.answer("key", compute, patience_seconds=0.01) is None
    may_go_on.set()
    assert jobs.answer("key", compute, patience_seconds=20) == "answer"
    assert calls == [1]
    jobs.close()


def test_a_failure_is_raised_and_the_next_visit_tries_again():
    jobs, results = Jobs(), iter([UsageError("no"), "yes"])

    def compute() -> str:
        result = next(results)
        if isinstance(result, UsageError):
            raise result
        return result

    with pytest.raises(UsageError, match="no"):
        jobs.answer("key", compute, patience_seconds=20)
    assert jobs.answer("key", compute, patience_seconds=20) == "yes"
    jobs.close()


def test_one_question_too_many_is_answered_by_a_later_visit():
    jobs, may_go_on = Jobs(), threading.Event()
    for number in range(30):
        assert jobs.answer(number, lambda: may_go_on.wait(20), patience_seconds=0) is None
    may_go_on.set()
    end = time.monotonic() + 20
    while jobs.answer(29, lambda: "last", patience_seconds=0.05) != "last":
        assert time.monotonic() < end
    jobs.close()
