"""A loss of the user's own: any callable of logits and targets that returns a scalar with a gradient.

It is called with logit_NC float32 and target_NC float32 in {1, 0, -1}: -1 is an unknown label, which the loss must mask itself. A
parameter named `positive_weight_C` receives the class weights of the recipe, or None. The scalar should be a mean over known
labels: several processes weight theirs by these.
"""

import copy
import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polytag.errors import UsageError
from polytag.own_parts import name_of, place_of

_NUM_CHECKED = 8  # images


class OwnLoss:
    """The user's callable as a `training.losses.Loss`. Of a module, buffers are state of the run, saved for a resume."""

    def __init__(self, part: Callable[..., Any]):
        self._part, self.name = part, name_of(part)
        self._takes_weights = "positive_weight_C" in _parameters(part)
        self._begun = copy.deepcopy(part.state_dict()) if isinstance(part, nn.Module) else {}

    def __call__(self, logit_NC: Tensor, target_NC: Tensor, positive_weight_C: Tensor | None = None) -> Tensor:
        """A scalar; raises UsageError where the callable fails or returns anything else."""
        weights = {"positive_weight_C": positive_weight_C} if self._takes_weights else {}
        try:
            loss = self._part(logit_NC, target_NC.to(logit_NC.dtype), **weights)
        except Exception as error:  # whatever a user's code raises
            raise UsageError(
                f"the loss {self.name} failed",
                where=place_of(error),
                got=f"{type(error).__name__}: {error}",
                expected=f"a scalar for logits and targets of shape {_shape(logit_NC)}",
            ) from error
        if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
            raise UsageError(
                f"the loss {self.name} returned no scalar",
                got=f"{str(loss.dtype).removeprefix('torch.')} of shape {_shape(loss)}"
                if isinstance(loss, Tensor)
                else type(loss).__qualname__,
                expected="a tensor of one floating-point number, of shape ()",
                next_step="take the mean over the known labels" if isinstance(loss, Tensor) and loss.ndim else "",
            )
        return loss

    def state_dict(self) -> dict[str, Tensor]:
        """The buffers of a module."""
        return self._part.state_dict() if isinstance(self._part, nn.Module) else {}

    def begin(self, *, device: str) -> None:
        """Begin a run on this device: with the buffers that the module was given with, whatever earlier runs made of them."""
        if isinstance(self._part, nn.Module):
            self._part.to(device).train().load_state_dict(self._begun)

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Go on from saved buffers."""
        if isinstance(self._part, nn.Module):
            self._part.load_state_dict(saved)

    @contextmanager
    def in_validation(self) -> Generator[None]:
        """A module is in evaluation mode meanwhile."""
        if isinstance(self._part, nn.Module):
            self._part.eval()
        yield
        if isinstance(self._part, nn.Module):
            self._part.train()

    def check(self, target_NC: np.ndarray, *, positive_weight_C: Tensor | None, device: str) -> list[str]:
        """Try it on some images' targets and random logits; returns what is worth a note.

        Raises UsageError as a call does, for class weights that it does not take, for parameters, which nothing would train, and
        for a loss or a gradient that is missing or not finite.
        """
        if positive_weight_C is not None and not self._takes_weights:
            raise UsageError(
                f"the loss {self.name} takes no class weights",
                where="--class-weights",
                got="balanced",
                expected="a loss with a parameter named positive_weight_C, or none",
            )
        if isinstance(self._part, nn.Module) and any(True for _ in self._part.parameters()):
            raise UsageError(
                f"the loss {self.name} has parameters of its own, which are not trained",
                got=", ".join(name for name, _ in self._part.named_parameters()),
                expected="a loss without parameters; buffers are kept",
            )
        if not len(target_NC):
            return []
        tried = OwnLoss(copy.deepcopy(self._part)) if isinstance(self._part, nn.Module) else self
        tried.begin(device=device)
        by_known = np.argsort((target_NC >= 0).sum(axis=1), kind="stable")
        reaches_unknown = False
        for rows in (np.arange(min(_NUM_CHECKED, len(target_NC))), by_known[:_NUM_CHECKED]):
            reaches_unknown |= tried._checked_gradient(target_NC[rows], positive_weight_C, device=device)
        if not reaches_unknown:
            return []
        return [f"the loss {self.name} has a gradient at unknown labels (-1): it learns from them too"]

    def _checked_gradient(self, target_NC: np.ndarray, positive_weight_C: Tensor | None, *, device: str) -> bool:
        """Whether there is a gradient at an unknown label."""
        target = torch.from_numpy(np.array(target_NC)).to(device)
        logit_NC = torch.randn(target.shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
        loss = self(logit_NC, target, None if positive_weight_C is None else positive_weight_C.to(device))
        num_known = int((target >= 0).sum())
        on = f"{len(target)} images with {num_known} known labels"
        if not loss.isfinite():
            raise UsageError(
                f"the loss {self.name} is not finite",
                where=on,
                got=str(float(loss.detach())),
                expected="a finite number, 0 where no label is known (-1 is unknown)",
            )
        if not loss.requires_grad:
            raise self._no_gradient("a number without one", on=on)
        loss.backward()
        grad = logit_NC.grad
        if grad is None or (num_known and not bool(grad.any())):
            raise self._no_gradient("no gradient at any logit" if grad is None else "a gradient of 0 at every logit", on=on)
        if not bool(grad.isfinite().all()):
            raise self._no_gradient("a gradient that is not finite", on=on)
        return bool(grad[target < 0].any())

    def _no_gradient(self, got: str, *, on: str) -> UsageError:
        return UsageError(
            f"the loss {self.name} has no gradient to learn from",
            where=on,
            got=got,
            expected="a finite gradient with respect to the logits",
            next_step="compute it from the logits with PyTorch alone, without detach, numpy or item",
        )


def _parameters(part: Callable[..., Any]) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(part.forward if isinstance(part, nn.Module) else part).parameters)
    except (TypeError, ValueError):  # built in
        return ()


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "()"
