"""Accumulates an epoch's loss and logits without synchronising the GPU at every step."""

import torch
from torch import Tensor

from polytag.training.processes import Processes
from polytag.training.state import State

_FOLD_EVERY = 128  # steps whose results stay on the device


def running_loss(state: State) -> float:
    """Mean of this epoch's batch losses so far, each weighted by its images."""
    return state.epoch_loss_sum / state.epoch_num_images if state.epoch_num_images else float("nan")


class EpochStats:
    """Collects losses, logits and targets of an epoch's steps into the state.

    If `is_lazy`, results stay on the device for some steps, because reading one waits until the device has computed it.
    """

    def __init__(self, state: State, *, is_lazy: bool):
        self._state, self._every = state, _FOLD_EVERY if is_lazy else 1
        self._pending: list[tuple[Tensor, Tensor, Tensor, float]] = []

    def add(self, loss: Tensor, logit_NC: Tensor, target_NC: Tensor, *, weight: float) -> None:
        """Add the results of a step; `weight` is its number of images in all processes times this process's share in the loss."""
        self._pending.append((loss, logit_NC, target_NC, weight))
        if len(self._pending) >= self._every:
            self.fold()

    def fold(self) -> None:
        """Move pending results into the state."""
        if not self._pending:
            return
        state = self._state
        losses, logits, targets, weights = zip(*self._pending, strict=True)
        for loss, weight in zip(torch.stack(losses).tolist(), weights, strict=True):
            state.epoch_loss_sum += loss * weight
        state.epoch_logits.append(torch.cat(logits).float().cpu())
        state.epoch_targets.append(torch.cat(targets))
        state.epoch_num_images += len(state.epoch_targets[-1])
        self._pending.clear()

    def running_loss(self) -> float:
        """The loss of the steps that have been folded."""
        return running_loss(self._state)

    def collect(self, processes: Processes) -> None:
        """Gather the results of all processes at rank 0, and clear the others."""
        self.fold()
        if processes.count == 1:
            return
        state = self._state
        parts = processes.gather((state.epoch_loss_sum, state.epoch_num_images, state.epoch_logits, state.epoch_targets))
        state.begin_epoch_results()
        for loss_sum, num_images, logits, targets in parts if processes.is_first else []:
            state.epoch_loss_sum += loss_sum
            state.epoch_num_images += num_images
            state.epoch_logits += logits
            state.epoch_targets += targets
