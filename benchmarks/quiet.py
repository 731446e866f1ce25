"""Measurements that nobody disturbed: wait until the machine is idle, and take again what others interfered with.

What is taken again is chosen by how much of the processor other programs used meanwhile, never by the result.
"""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
ALLOWED_SHARE = 0.05  # of all cores' time that others may use during a measurement
PATIENCE_SECONDS = 600.0


def undisturbed(work: Callable[[], Result], *, tries: int = 4) -> Result:
    """The result of the first try that others left alone; where there is none, of the one that they disturbed least, told."""
    best: tuple[float, Result] | None = None
    for _ in range(tries):
        wait_until_idle()
        started, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()
        result = work()
        seconds = time.perf_counter() - started
        others = max(0.0, _busy_seconds() - busy - (_own_seconds() - own)) / (seconds * len(os.sched_getaffinity(0)))
        if best is None or others < best[0]:
            best = others, result
        if others <= ALLOWED_SHARE:
            break
        print(f"others used {others:.0%} of the processor: measured again", flush=True)
    assert best is not None
    disturbances.append(best[0])
    return best[1]


disturbances: list[float] = []
"""The share of the processor that others used, of every measurement that was kept."""


def wait_until_idle() -> None:
    """Until two seconds in a row leave the processor nearly alone; gives up after ten minutes."""
    end = time.monotonic() + PATIENCE_SECONDS
    quiet = 0
    while quiet < 2 and time.monotonic() < end:
        before = _busy_seconds()
        time.sleep(1)
        quiet = quiet + 1 if _busy_seconds() - before < 2 * ALLOWED_SHARE * len(os.sched_getaffinity(0)) else 0


def _busy_seconds() -> float:
    """Of all processors since the start of the machine: user, nice, system, interrupts, stolen."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
