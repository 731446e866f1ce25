"""Training in several processes at once, as torchrun starts them: how they exchange results, and which of them writes.

Every process has the whole model. Of each batch of the one global order a process works on its share; gradients are added up, so a
step is that of one process with the whole batch, and the batch size of a recipe is that of all processes together.

PyTorch's DistributedDataParallel is not used. It averages over processes, but gradients must be weighted by known labels; it does
not accept a process whose share of the last batch is empty; and its hooks do not fit a step that is captured as a CUDA graph.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from polytag.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among all: `rank` of `count`. Only rank 0 writes, prints and evaluates.

    Every method is called by all processes or by none: they wait for each other.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, one by one."""
        if self.count == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return sums.tolist()

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.count == 1:
            return [value]
        given: list[Any] = [None] * self.count
        dist.all_gather_object(given, value)
        return given

    def from_first(self, value: T) -> T:
        """The value of rank 0."""
        if self.count == 1:
            return value
        given: list[Any] = [value]
        dist.broadcast_object_list(given, src=0)
        return given[0]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes the sum over all processes; one that is missing here counts as zero."""
        if self.count == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([_grad(parameter).flatten() for parameter in learning])
        dist.all_reduce(flat)
        place = 0
        for parameter in learning:
            grad = _grad(parameter)
            grad.copy_(flat[place : place + grad.numel()].view(grad.shape))
            place += grad.numel()

    def average_statistics(self, model: nn.Module) -> None:
        """Running statistics of batch normalisation, which each process takes from its own share, become their mean."""
        if self.count == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.count

    def share_weights(self, model: nn.Module) -> None:
        """Weights and statistics become those of rank 0."""
        if self.count > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)


ALONE = Processes()


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def shares(chunk: np.ndarray, count: int) -> list[np.ndarray]:
    """The parts of a batch, one per process, in the batch's order and as equal as can be.

    No part is of one image, from which batch normalisation cannot learn: of a short batch the last processes get nothing.
    """
    parts = np.array_split(chunk, max(1, min(count, len(chunk) // 2)))
    return [*parts, *[chunk[:0]] * (count - len(parts))]


@contextmanager
def joined(device: str) -> Generator[Processes]:
    """The processes that torchrun started, or this one alone: NCCL between GPUs, gloo between processors.

    Raises UsageError where there are more processes than GPUs on a machine.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    uses_cuda = device != "cpu" and torch.cuda.is_available()
    if uses_cuda:
        local_rank, num_devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local_rank >= num_devices:
            raise UsageError(
                "more processes than GPUs on this machine",
                where="torchrun --nproc-per-node",
                got=os.environ.get("LOCAL_WORLD_SIZE", str(local_rank + 1)),
                expected=f"at most {num_devices}",
                next_step="start fewer processes, or give --device cpu",
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if uses_cuda else "gloo")
    try:
        yield Processes(rank=dist.get_rank(), count=dist.get_world_size())
    finally:
        dist.destroy_process_group()
