"""Scores shards on the machines of a Ray cluster: a task a shard, in workers that keep the model.

A task takes all CPUs of a machine but one, and computes on all cores, so that a machine runs one at a time: where every CPU is
taken, Ray cannot start what its tasks wait for (https://github.com/ray-project/ray/issues/44687). A task whose worker dies is run
again by Ray; what it had not finished is not there, so nothing is lost or doubled.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from polytag.data.columns import NO_COLUMNS, IdColumns, read_columns
from polytag.errors import PolytagError, UsageError
from polytag.inference.bulk.results import Results, results_at
from polytag.inference.bulk.score import ShardDone, score_shards
from polytag.inference.bulk.shards import Shard
from polytag.inference.scorers import Scorer, scorer_of
from polytag.machine import num_cores
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported, read_model

THIS_MACHINE = "local"
_MAX_RETRIES = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all tasks share: paths and addresses that every machine can read."""

    model: str
    output: str
    columns: str = ""
    device: str = "auto"
    precision: str = "auto"


def score_on_ray(job: Job, shards: Sequence[Shard], *, address: str) -> Iterator[ShardDone]:
    """The shards as they are done, in any order, as `score_shards`; what is there is skipped by the tasks.

    `address` is that of a cluster, "auto" for the one that this machine belongs to, or THIS_MACHINE for one that ends with the
    call. Raises UsageError where there is no cluster, and what `score_shards` raises.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    with_own: dict[str, Any] = {"num_cpus": max(2, num_cores())} if address == THIS_MACHINE else {"address": address}
    try:
        ray.init(**with_own, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            "no Ray cluster at this address",
            where="--ray",
            got=f"{address}: {(str(error).splitlines() or [''])[0]}",
            expected=f"{THIS_MACHINE}, auto, or the address of a cluster that runs",
        ) from error
    try:
        yield from _done(ray, job, shards)
    finally:
        ray.shutdown()


def _done(ray: Any, job: Job, shards: Sequence[Shard]) -> Iterator[ShardDone]:
    """At most so many tasks are waiting that no machine has to wait for the next one."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cpus_each = max(1, min((number for number in cpus if number), default=2) - 1)
    num_waiting = 2 * max(1, sum(number // cpus_each for number in cpus))
    task = ray.remote(num_cpus=cpus_each, num_gpus=int(job.device == "cuda"), max_retries=_MAX_RETRIES)(score_one)
    names: dict[Any, str] = {}
    left = iter(shards)
    while True:
        while len(names) < num_waiting and (shard := next(left, None)) is not None:
            names[task.remote(job, shard)] = shard.result
        if not names:
            return
        for reference in ray.wait(list(names))[0]:
            name = names.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PolytagError):
                    raise error.cause from error
                raise
            except ray.exceptions.RayError as error:  # the worker died, again and again
                yield ShardDone(name=name, error=(str(error).splitlines() or [type(error).__name__])[0])


def score_one(job: Job, shard: Shard) -> ShardDone:
    """One shard, in a worker."""
    model, scorer = _loaded(job.model, job.device, job.precision)
    return next(score_shards(model, [shard], _results(job.output), scorer=scorer, columns=_columns(job.columns)))


@lru_cache(1)
def _loaded(model: str, device: str, precision: str) -> tuple[Checkpoint | Exported, Scorer]:
    read = read_model(Path(model))
    return read, scorer_of(read, device=device, precision=precision)


@lru_cache(1)
def _results(output: str) -> Results:
    return results_at(output)


@lru_cache(1)
def _columns(file: str) -> IdColumns:
    return read_columns(Path(file)) if file else NO_COLUMNS
