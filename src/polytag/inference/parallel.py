"""Parallel forward passes on a processor: several batches at the same time, one core per batch.

Cores that share a batch wait for each other at every layer, and for cores that decode images or run other programs. Cores with a
batch each never wait. The result of a batch depends on the batch alone, so one core and many give the same bits.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def in_parallel(
    work: Callable[[In], Out], batches: Iterator[In], *, num_workers: int, prepare: Callable[[], None] = lambda: None
) -> Iterator[Out]:
    """Yield `work` of every batch, in order, with `num_workers` threads, each of which calls `prepare` first.

    Memory is bounded by `num_workers + 1` batches and results, in addition to those of `batches`.
    """
    pool = ThreadPoolExecutor(max_workers=num_workers, thread_name_prefix="polytag-forward", initializer=prepare)
    pending: deque[Future[Out]] = deque()
    try:
        for batch in batches:
            pending.append(pool.submit(work, batch))
            if len(pending) > num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
