"""One step up to the gradients: images, forward, loss, backward. Plain, or captured once as a CUDA graph and replayed.

A small network on small batches is limited by how fast the processor can launch its hundreds of kernels; a graph launches them in
one go. What is computed is the same.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from polytag.models.device import Arithmetic
from polytag.models.heads import logits
from polytag.training.depthwise import DepthwiseGradients
from polytag.training.losses import Loss
from polytag.training.memory import grad_checkpointing, statistics_held


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Calculates gradients of a batch; the optimizer's step is the caller's.

    `pixels` makes n x 3 x S x S of the batch's inputs on the device. With a `micro_batch_size` at most so many images go through
    the network at once, in parts of about equal size, whose gradients add up to those of the batch: each part's loss counts by its
    share of the batch's known labels. `is_checkpointed` is gradient checkpointing.
    """

    model: nn.Module
    pixels: Callable[..., Tensor]
    loss_of: Loss
    weight_C: Tensor | None
    arithmetic: Arithmetic
    micro_batch_size: int = 0
    is_checkpointed: bool = False

    def __call__(self, inputs: tuple[Tensor, ...], target_NC: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and float32 logits, detached. Gradients are those of loss times scale, and replace earlier ones."""
        for parameter in self.model.parameters():
            parameter.grad = None
        num_parts = -(-len(target_NC) // self.micro_batch_size) if self.micro_batch_size else 1
        if num_parts <= 1:
            return self._add_gradients(inputs, target_NC, scale)
        num_known = (target_NC >= 0).sum().clamp(min=1)
        parts = zip(*(tensor.tensor_split(num_parts) for tensor in (target_NC, *inputs)), strict=True)
        losses, logits_of_parts = list[Tensor](), list[Tensor]()
        for part_NC, *part_inputs in parts:
            share = (part_NC >= 0).sum() / num_known
            loss, logit_NC = self._add_gradients(tuple(part_inputs), part_NC, scale * share)
            losses.append(loss * share)
            logits_of_parts.append(logit_NC)
        return torch.stack(losses).sum(), torch.cat(logits_of_parts)

    def _add_gradients(self, inputs: tuple[Tensor, ...], target_NC: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        is_cpu_bf16 = (self.arithmetic.device, self.arithmetic.precision) == ("cpu", "bf16")
        with DepthwiseGradients() if is_cpu_bf16 else nullcontext():
            with self.arithmetic.autocast(), grad_checkpointing(self.model) if self.is_checkpointed else nullcontext():
                logit_NC = logits(self.model, self.pixels(*inputs))
            loss = self.loss_of(logit_NC, target_NC, self.weight_C)
            with statistics_held(self.model) if self.is_checkpointed else nullcontext():
                (loss * scale).backward()
        return loss.detach(), logit_NC.detach()

    def on_cpu(self, inputs: tuple[Tensor, ...], target_NC: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """The step of a batch whose tensors are where the model is."""
        return self(inputs, target_NC, torch.tensor(share))


Replay = Callable[[], None]
Capture = Callable[[Callable[[], tuple[Tensor, Tensor]]], tuple[tuple[Tensor, Tensor], Replay]]
"""Runs a piece of work and gives its results, and a function that does the same work again into the very same tensors."""


def cuda_capture(work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[tuple[Tensor, Tensor], Replay]:
    """Record the work as a CUDA graph, after some warm-up runs in which libraries choose their kernels."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the device meanwhile
        results = work()
    return results, graph.replay


@dataclass(kw_only=True, eq=False)
class GraphedStep:
    """A Step that is captured when a batch of its full size first comes, and replayed from then on.

    Batches of another size, such as the last of an epoch, take the plain step. A step that cannot be captured stays plain, and
    `note` receives the reason, once.
    """

    step: Step
    note: Callable[[str], None]
    capture: Capture = cuda_capture
    batch_size: int = 0  # of the first batch
    failed: bool = False
    replay: Replay | None = None
    held: list[Tensor] = field(default_factory=list)  # inputs, targets and scale, which a replay reads
    results: tuple[Tensor, Tensor] | None = None  # loss and logits, which it writes, and the gradients
    grads: list[tuple[nn.Parameter, Tensor | None]] = field(default_factory=list)
    scales: dict[float, Tensor] = field(default_factory=dict)

    def on_device(self, inputs: tuple[Tensor, ...], target_NC: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """The step of a batch whose tensors are in the processor's memory."""
        device = self.step.arithmetic.device
        self.batch_size = self.batch_size or len(target_NC)
        if share not in self.scales:  # one copy for all steps: there are few different shares
            self.scales[share] = torch.tensor(share, device=device)
        scale = self.scales[share]
        if not self.failed and len(target_NC) == self.batch_size:
            try:
                return self._replayed(inputs, target_NC, scale)
            except Exception as error:  # what cannot be captured raises kinds of many libraries; each means: stay plain
                if self.replay is not None:
                    raise
                self.failed = True
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self.note(f"the step runs without a CUDA graph: {reason}")
        inputs = tuple(tensor.to(device, non_blocking=True) for tensor in inputs)
        return self.step(inputs, target_NC.to(device, non_blocking=True), scale)

    def _replayed(self, inputs: tuple[Tensor, ...], target_NC: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        if self.replay is None:
            self._capture(inputs, target_NC, scale)
        assert self.replay is not None
        assert self.results is not None
        for held, given in zip(self.held, (*inputs, target_NC, scale), strict=True):
            held.copy_(given, non_blocking=True)
        self.replay()
        for parameter, grad in self.grads:
            parameter.grad = grad
        loss, logit_NC = self.results
        return loss.clone(), logit_NC.clone()

    def _capture(self, inputs: tuple[Tensor, ...], target_NC: Tensor, scale: Tensor) -> None:
        """Record a step; statistics that the trial runs have moved are put back."""
        device = self.step.arithmetic.device
        self.held = [tensor.to(device, copy=True) for tensor in (*inputs, target_NC, scale)]
        held_inputs, held_target, held_scale = tuple(self.held[: len(inputs)]), self.held[-2], self.held[-1]
        before = {name: buffer.clone() for name, buffer in self.step.model.named_buffers()}
        try:
            self.results, replay = self.capture(lambda: self.step(held_inputs, held_target, held_scale))
            self.grads = [(parameter, parameter.grad) for parameter in self.step.model.parameters()]
            self.replay = replay
        finally:
            with torch.no_grad():
                for name, buffer in self.step.model.named_buffers():
                    buffer.copy_(before[name])
