"""The training loop, to be read downward: a batch, a step, an average; at the end of an epoch: validate, keep the best, save.

Nothing here prints. A `Watcher` is told what happens and shows it as it likes.
"""

import copy
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from polytag.contracts import Dataset, Predictions
from polytag.data.augment import augmentation, augmented
from polytag.data.batches import batches
from polytag.metrics.ap import mean_average_precision
from polytag.models.backbone import head_parameters, logits
from polytag.models.device import Arithmetic, num_cores
from polytag.prediction.inference import score_dataset, to_input
from polytag.training.losses import LOSSES
from polytag.training.recipes import Recipe
from polytag.training.state import State


class Watcher(Protocol):
    """What training tells whoever looks on."""

    def note(self, text: str) -> None:
        """A sentence worth reading once."""

    def phase(self, name: str, num_pictures: int) -> None:
        """A pass over so many pictures begins; the one before is over."""

    def progress(self, num_pictures: int, **numbers: float) -> None:
        """So many more pictures of this pass are done; `numbers` are running figures such as loss and mAP."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is over: its row of results.csv."""


class Silent:
    """A Watcher that shows nothing."""

    def note(self, text: str) -> None: ...
    def phase(self, name: str, num_pictures: int) -> None: ...
    def progress(self, num_pictures: int, **numbers: float) -> None: ...
    def epoch(self, row: Mapping[str, float]) -> None: ...


class Interrupted(Exception):
    """Ctrl-C: the state is saved, and a resume goes on from this very step."""


@dataclass(frozen=True, kw_only=True)
class Sinks:
    """Where the loop leaves things: called with the state after a saved step, and with it when the best has changed."""

    save_state: Callable[[State], None]
    epoch_done: Callable[[State], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """What a step changes: the model, its moving average (the model itself where there is none) and the optimizer."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(cls, model: nn.Module, recipe: Recipe) -> "Learner":
        """A learner around a model, its average a copy."""
        average = copy.deepcopy(model) if recipe.ema_decay else model
        return cls(model=model, average=average, optimizer=make_optimizer(model, recipe))

    def restore(self, state: State) -> None:
        """Take up what a state holds."""
        self.model.load_state_dict(state.model)
        self.average.load_state_dict(state.average)
        self.optimizer.load_state_dict(state.optimizer)

    def keep(self, state: State) -> None:
        """Let the state refer to the present weights; saving it writes them."""
        state.model, state.average = self.model.state_dict(), self.average.state_dict()
        state.optimizer = self.optimizer.state_dict()


def train_loop(
    model: nn.Module,
    *,
    train_set: Dataset,
    val_set: Dataset,
    recipe: Recipe,
    arithmetic: Arithmetic,
    state: State,
    sinks: Sinks,
    watcher: Watcher,
) -> State:
    """Fine-tune from `state` to the recipe's last epoch and return the final state.

    With a probe as head start, a fresh state begins with epoch 0: the validation of the model as it was given. Raises Interrupted
    after Ctrl-C, with the state saved.
    """
    preprocessing, preset = recipe.preprocessing, augmentation(recipe.augment)
    loss_of, weight_C = LOSSES[recipe.loss], class_weights(train_set.target_NC, kind=recipe.class_weights)
    weight_C = None if weight_C is None else weight_C.to(arithmetic.device)
    target_NC = torch.from_numpy(np.array(train_set.target_NC))
    num_steps = math.ceil(len(train_set) / recipe.batch_size)

    learner = Learner.begin(model, recipe)
    average, optimizer = learner.average, learner.optimizer

    def end_epoch(epoch: int, num_pictures: int) -> None:
        watcher.phase("validation", len(val_set))
        started = time.monotonic()
        predictions = validate(average, val_set, recipe=recipe, arithmetic=arithmetic, watcher=watcher)
        _end_epoch(state, learner, predictions, epoch=epoch, num_pictures=num_pictures, loss=recipe.loss, started=started)
        watcher.epoch(state.rows[-1])
        sinks.epoch_done(state)

    if state.model:
        learner.restore(state)
    elif has_head_start(recipe):
        end_epoch(0, 0)

    with _stop_requested() as stop:
        last_save = time.monotonic()
        while state.epoch <= recipe.epochs:
            epoch = state.epoch
            order = np.random.default_rng((recipe.seed, epoch)).permutation(len(train_set))
            watcher.phase(f"epoch {epoch}/{recipe.epochs}", len(train_set) - state.step * recipe.batch_size)

            def prepare(picture, row, *, epoch=epoch):
                return augmented(picture, preset, preprocessing, np.random.default_rng((recipe.seed, epoch, row)))

            started = time.monotonic()
            for batch in batches(
                train_set.paths,
                order[state.step * recipe.batch_size :],
                batch_size=recipe.batch_size,
                prepare=prepare,
                num_threads=num_cores(),
            ):
                state.failures.update({train_set.ids[row]: error.what for row, error in batch.failures})
                # Batch normalisation cannot learn from a single picture: such a rest is left for another epoch's shuffle.
                if len(batch.rows) > 1:
                    _seed_step(recipe.seed, epoch, state.step)
                    set_learning_rates(optimizer, recipe, progress=epoch - 1 + state.step / num_steps)
                    pixels = to_input(torch.from_numpy(batch.pixels_NVHWC[:, 0]), preprocessing, arithmetic.device)
                    targets = target_NC[batch.rows].to(arithmetic.device)

                    model.train()
                    with arithmetic.autocast():
                        logit_NC = logits(model, pixels)
                    loss = loss_of(logit_NC, targets, weight_C)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    if recipe.ema_decay:
                        num_done = (epoch - 1) * num_steps + state.step + 1
                        _update_average(average, model, decay=min(recipe.ema_decay, (1 + num_done) / (10 + num_done)))

                    state.epoch_loss_sum += float(loss.detach()) * len(targets)
                    state.epoch_num_pictures += len(targets)
                    state.epoch_logits.append(logit_NC.detach().float().cpu())
                    state.epoch_targets.append(targets.cpu())
                state.step += 1
                watcher.progress(len(batch.rows) + len(batch.failures), loss=_running_loss(state))

                if stop.is_set() or time.monotonic() - last_save > recipe.save_every_minutes * 60:
                    state.epoch_seconds += time.monotonic() - started
                    started = last_save = time.monotonic()
                    learner.keep(state)
                    sinks.save_state(state)
                    if stop.is_set():
                        raise Interrupted
            state.epoch_seconds += time.monotonic() - started

            end_epoch(epoch, len(train_set))
            last_save = time.monotonic()
            if stop.is_set() and state.epoch <= recipe.epochs:
                raise Interrupted
    return state


def has_head_start(recipe: Recipe) -> bool:
    """Whether the head starts from a probe: features of random weights are worth one only where nothing follows."""
    return recipe.head_start == "probe" and (recipe.weights != "random" or recipe.epochs == 0)


def _end_epoch(
    state: State, learner: Learner, predictions: Predictions, *, epoch: int, num_pictures: int, loss: str, started: float
) -> None:
    """Write the epoch's row, keep the averaged weights if they are the best, and turn to the next epoch."""
    val_map = mean_average_precision(predictions.target_NC, predictions.logit_NC)
    train_map = float("nan")
    if state.epoch_logits:
        train_map = mean_average_precision(torch.cat(state.epoch_targets).numpy(), torch.cat(state.epoch_logits).numpy())
    head_lr, backbone_lr = _current_rates(learner.optimizer) if epoch else (float("nan"), float("nan"))
    state.rows.append(
        {
            "epoch": epoch,
            "train_loss": _running_loss(state),
            "val_loss": loss_of_predictions(predictions, loss),
            "train_map": train_map,
            "val_map": val_map,
            "head_lr": head_lr,
            "backbone_lr": backbone_lr,
            "pictures_per_second": num_pictures / state.epoch_seconds if state.epoch_seconds else float("nan"),
            "seconds": state.epoch_seconds + time.monotonic() - started,
        }
    )
    state.epoch, state.step, state.epoch_seconds = epoch + 1, 0, 0.0
    state.epoch_logits, state.epoch_targets, state.epoch_loss_sum, state.epoch_num_pictures = [], [], 0.0, 0
    learner.keep(state)
    if state.best_epoch < 0 or val_map > state.best_map:
        state.best_map, state.best_epoch = val_map, epoch
        state.best = {name: value.clone() for name, value in learner.average.state_dict().items()}


def validate(
    model: nn.Module, val_set: Dataset, *, recipe: Recipe, arithmetic: Arithmetic, watcher: Watcher, checkpoint_id: str = ""
) -> Predictions:
    """Predictions on the validation pictures, by the one inference loop."""
    model.eval()
    return score_dataset(
        model,
        val_set,
        preprocessing=recipe.preprocessing,
        arithmetic=arithmetic,
        checkpoint_id=checkpoint_id,
        on_batch=lambda scored: watcher.progress(len(scored.rows) + len(scored.failures)),
    )


def loss_of_predictions(predictions: Predictions, loss: str) -> float:
    """The loss, without class weights, over all pictures at once."""
    logit_NC, target_NC = torch.from_numpy(np.array(predictions.logit_NC)), torch.from_numpy(np.array(predictions.target_NC))
    return float(LOSSES[loss](logit_NC, target_NC, None))


def class_weights(target_NC: np.ndarray, *, kind: str) -> Tensor | None:
    """How many times a positive of each class counts: None for "none", num_absent / num_present in [1, 20] for "balanced"."""
    if kind == "none":
        return None
    present_C, absent_C = (target_NC == 1).sum(axis=0), (target_NC == 0).sum(axis=0)
    return torch.from_numpy(np.clip(absent_C / np.maximum(present_C, 1), 1, 20).astype(np.float32))


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD over four groups: head and backbone, each with decay (weights) and without (norms and biases)."""
    head_names = head_parameters(model)
    backbone_lr = recipe.head_lr if recipe.weights == "random" else recipe.backbone_lr
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(("head" if name in head_names else "backbone", parameter.ndim > 1), []).append(parameter)
    options = [
        {
            "params": parameters,
            "part": part,
            "peak_lr": recipe.head_lr if part == "head" else backbone_lr,
            "lr": recipe.head_lr if part == "head" else backbone_lr,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(options, momentum=0.9)
    return torch.optim.AdamW(options, betas=(0.9, 0.999))


def set_learning_rates(optimizer: torch.optim.Optimizer, recipe: Recipe, *, progress: float) -> None:
    """Linear warm-up, then a cosine to zero, as a function of the epochs done (a fraction); or constant."""
    factor = 1.0
    if recipe.schedule == "cosine":
        warm = min(1.0, progress / recipe.warmup_epochs + 0.01) if recipe.warmup_epochs else 1.0
        factor = warm * 0.5 * (1 + math.cos(math.pi * progress / recipe.epochs))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def _current_rates(optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    rates = {group["part"]: group["lr"] for group in optimizer.param_groups}
    return rates.get("head", float("nan")), rates.get("backbone", float("nan"))


def _seed_step(seed: int, epoch: int, step: int) -> None:
    """Dropout and stochastic depth draw from PyTorch's own generator: give it this step's seed."""
    digest = hashlib.sha256(f"{seed} {epoch} {step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Exponential moving average of weights and of batch-normalisation statistics; counters are copied."""
    kept, fresh = average.state_dict(), model.state_dict()
    for name, value in kept.items():
        if value.is_floating_point():
            value.lerp_(fresh[name], 1 - decay)
        else:
            value.copy_(fresh[name])


def _running_loss(state: State) -> float:
    """Mean of this epoch's batch losses so far, each weighted by its pictures."""
    return state.epoch_loss_sum / state.epoch_num_pictures if state.epoch_num_pictures else float("nan")


@contextmanager
def _stop_requested() -> Generator[threading.Event]:
    """An event that the first Ctrl-C sets, to be looked at between steps; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
