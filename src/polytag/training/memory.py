"""What lets a network be trained in less memory: micro-batches, which `step.py` has, and gradient checkpointing.

With gradient checkpointing the activations within the backbone's blocks are computed again in the backward pass instead of being
held (Chen and others: *Training Deep Nets with Sublinear Memory Cost*, 2016). timm says for each backbone which blocks these are.
"""

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  the base of all of them

from polytag.errors import UsageError

_LEAST_IMAGES = 3  # a part of a batch that is divided into parts of at most so many has two or more


def require_micro_batches(model: nn.Module, micro_batch_size: int) -> None:
    """Raises UsageError where layers that learn the statistics of batches would see a single image."""
    if 0 < micro_batch_size < _LEAST_IMAGES and any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise UsageError(
            "batch normalisation cannot learn from a single image",
            where="--micro-batch-size",
            got=str(micro_batch_size),
            expected=f"{_LEAST_IMAGES} or more, or 0 for the whole batch",
            next_step="or take a backbone without batch normalisation (ViT, ConvNeXt), or batch_norm: frozen in the recipe",
        )


def require_grad_checkpointing(model: nn.Module, *, backbone: str) -> None:
    """Raises UsageError for a backbone that cannot do it."""
    try:
        with grad_checkpointing(model):
            return
    except (AssertionError, AttributeError, NotImplementedError) as error:  # what the models of timm raise that have none
        raise UsageError(
            f"the backbone {backbone} has no gradient checkpointing",
            where="--grad-checkpointing",
            got=(str(error).splitlines() or [type(error).__name__])[0][:200],
            expected="a backbone with a method set_grad_checkpointing that takes True",
            next_step="leave it out; --micro-batch-size saves memory with any backbone",
        ) from error


@contextmanager
def grad_checkpointing(model: nn.Module) -> Generator[None]:
    """Switched on meanwhile, for a forward pass; off again, every other pass of the network is as without it."""
    model.set_grad_checkpointing(True)  # pyright: ignore[reportCallIssue]
    try:
        yield
    finally:
        model.set_grad_checkpointing(False)  # pyright: ignore[reportCallIssue]


@contextmanager
def statistics_held(model: nn.Module) -> Generator[None]:
    """For the backward pass: batch normalisation, which is computed again there, does not learn the batch's statistics twice."""
    learning = [
        (module, module.momentum, module.num_batches_tracked)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
    for module, _, _ in learning:
        module.momentum, module.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for module, momentum, num_batches_tracked in learning:
            module.momentum, module.num_batches_tracked = momentum, num_batches_tracked
