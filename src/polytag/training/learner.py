"""The model, its moving average and the optimizer, and the learning rate of every parameter at every step."""

import copy
import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  the base of all of them

from polytag.errors import RunError
from polytag.models.heads import head_parameters
from polytag.runs.recipe import Recipe
from polytag.training.own_loss import OwnLoss
from polytag.training.state import State


@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """What a step changes: the model, its moving average (the model itself where there is none), the optimizer and
    the buffers of the user's own loss."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    loss: OwnLoss | None = None

    @classmethod
    def begin(cls, model: nn.Module, recipe: Recipe, *, loss: OwnLoss | None = None) -> "Learner":
        """A learner around a model, its average a copy."""
        average = copy.deepcopy(model) if recipe.ema_decay else model
        return cls(model=model, average=average, optimizer=make_optimizer(model, recipe), loss=loss)

    def begin_epoch(self, recipe: Recipe) -> None:
        """Put the model into training mode; batch normalisation with frozen statistics stays as in scoring."""
        self.model.train()
        if recipe.batch_norm == "frozen" and recipe.weights != "random":
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def restore(self, state: State) -> None:
        """Continue from a state; raises RunError where its optimizer is not one of this model."""
        self.model.load_state_dict(state.model)
        self.average.load_state_dict(state.average)
        try:
            self._restore_optimizer(state)
            if self.loss is not None:
                self.loss.restore(state.loss)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                "the saved state is of another optimizer or loss",
                got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                expected="the state of the recipe in args.yaml",
                next_step="put args.yaml back as it was, or start a new run",
            ) from error

    def _restore_optimizer(self, state: State) -> None:
        # A state saved on another device names that device's way of stepping; this one's is right here. Rates and decays are the
        # recipe's, as they were when the state was saved.
        saved = copy.copy(state.optimizer)
        groups = zip(cast(list[dict[str, object]], saved["param_groups"]), self.optimizer.param_groups, strict=True)
        saved["param_groups"] = [{**group, "fused": ours["fused"], "foreach": ours["foreach"]} for group, ours in groups]
        self.optimizer.load_state_dict(saved)
        for parameter, values in self.optimizer.state.items():
            if any(isinstance(value, Tensor) and value.shape not in (parameter.shape, ()) for value in values.values()):
                raise ValueError("a moment of another shape than its parameter")

    def write_to(self, state: State) -> None:
        """Let the state refer to the present weights; saving the state writes them."""
        state.model, state.average = self.model.state_dict(), self.average.state_dict()
        state.optimizer = self.optimizer.state_dict()
        state.loss = {} if self.loss is None else self.loss.state_dict()

    @torch.no_grad()
    def update_average(self, *, decay: float) -> None:
        """Exponential moving average of weights and of batch-normalisation statistics; counters are copied."""
        if self.average is self.model:
            return
        average, fresh = self.average.state_dict(), self.model.state_dict()
        moving = [name for name, value in average.items() if value.is_floating_point()]
        # One call for all: one kernel per tensor would keep a GPU waiting. On a CPU the bits are those of single calls.
        ends, sources = [average[name] for name in moving], [fresh[name] for name in moving]
        torch._foreach_lerp_(ends, sources, 1 - decay)  # pyright: ignore[reportPrivateUsage]
        for name in average.keys() - set(moving):
            average[name].copy_(fresh[name])


def class_weights(target_NC: np.ndarray, *, kind: str) -> Tensor | None:
    """How many times a positive of each class counts: None for "none", num_absent / num_present in [1, 20] for "balanced"."""
    if kind == "none":
        return None
    present_C, absent_C = (target_NC == 1).sum(axis=0), (target_NC == 0).sum(axis=0)
    return torch.from_numpy(np.clip(absent_C / np.maximum(present_C, 1), 1, 20).astype(np.float32))


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD over four groups: head and backbone, each with decay (weights) and without (norms and biases)."""
    head_names = head_parameters(model)
    head_lr, backbone_lr = recipe.peak_rates
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(("head" if name in head_names else "backbone", parameter.ndim > 1), []).append(parameter)
    options = [
        {
            "params": parameters,
            "part": part,
            "peak_lr": head_lr if part == "head" else backbone_lr,
            "lr": head_lr if part == "head" else backbone_lr,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
    if recipe.optimizer == "sgd":  # fused: one pass over a parameter's memory instead of several, on a GPU one kernel for all
        return torch.optim.SGD(options, momentum=0.9, fused=True)
    return torch.optim.AdamW(options, betas=(0.9, 0.999), fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, recipe: Recipe, *, progress: float) -> None:
    """Linear warm-up, then a cosine to zero, as a function of the epochs done (a fraction); or constant."""
    factor = 1.0
    if recipe.schedule == "cosine":
        warm = min(1.0, progress / recipe.warmup_epochs + 0.01) if recipe.warmup_epochs else 1.0
        factor = warm * 0.5 * (1 + math.cos(math.pi * progress / recipe.epochs))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def current_rates(optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    rates = {group["part"]: group["lr"] for group in optimizer.param_groups}
    return rates.get("head", float("nan")), rates.get("backbone", float("nan"))
