"""Forward passes on the cores of a processor: several batches at once, each on one core from beginning to end.

Cores that share one batch wait for each other at every layer, and for each core that is decoding an image, or that another program
took. Cores that each have a batch of their own wait for nothing. What a batch gives depends on the batch alone: the same bits with
one core and with many.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


def in_parallel(work: Callable[[In], Out], batches: Iterator[In], *, num_workers: int) -> Iterator[Out]:
    """`work` of every batch, in order, `num_workers` at a time, each with one thread for its arithmetic.

    Memory is bounded by `num_workers + 1` batches and results beside those of `batches`.
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
        torch.set_num_threads(num_threads)  # the number is a thread's own, but what later threads begin with is the last one set


def _take_one_core() -> None:
    torch.set_num_threads(1)
