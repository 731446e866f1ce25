"""Parallel forward passes on a processor: several batches at the same time, one core per batch.

Cores that share a batch wait for each other at every layer, and for cores that decode images or run other programs. Cores with a
batch each never wait. The result of a batch depends on the batch alone, so one core and many give the same bits.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


def in_parallel(work: Callable[[In], Out], batches: Iterator[In], *, num_workers: int) -> Iterator[Out]:
    """Yield `work` of every batch, in order, with `num_workers` threads that compute on one core each.

    Memory is bounded by `num_workers + 1` batches and results, in addition to those of `batches`.
    """
    num_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(max_workers=num_workers, thread_name_prefix="polytag-forward", initializer=_take_one_core)
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
        torch.set_num_threads(num_threads)  # each thread has its own number, but new threads start with the last one set


def _take_one_core() -> None:
    torch.set_num_threads(1)
