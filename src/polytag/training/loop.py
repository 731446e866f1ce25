"""The training loop, to be read downward: a batch, a step, an average; at the end of an epoch: validate, keep the best, save.

Nothing here prints. A `Callback` is told what happens and shows it as it likes.
"""

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
from polytag.inference.predictor import Source, score_dataset
from polytag.metrics.ap import mean_average_precision
from polytag.models.device import Arithmetic
from polytag.runs.recipe import Recipe
from polytag.training.epoch_stats import EpochStats, running_loss
from polytag.training.image_sources import ImageSources, uncached_sources
from polytag.training.learner import Learner, class_weights, current_rates, set_learning_rates
from polytag.training.losses import LOSS_OF
from polytag.training.preprocessing import preprocessing_of
from polytag.training.processes import ALONE, Processes, shares
from polytag.training.state import State
from polytag.training.step import GraphedStep, Step


class Callback(Protocol):
    """What training tells whoever looks on."""

    def note(self, text: str) -> None:
        """A sentence worth reading once."""

    def phase(self, name: str, num_images: int) -> None:
        """A pass over so many images begins; the one before is over."""

    def progress(self, num_images: int, **numbers: float) -> None:
        """So many more images of this pass are done; `numbers` are running figures such as loss and mAP."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is over: its row of results.csv."""


class SilentCallback:
    """A Callback that shows nothing."""

    def note(self, text: str) -> None: ...
    def phase(self, name: str, num_images: int) -> None: ...
    def progress(self, num_images: int, **numbers: float) -> None: ...
    def epoch(self, row: Mapping[str, float]) -> None: ...


class Interrupted(Exception):
    """Ctrl-C: the state is saved, and a resume goes on from this very step."""


@dataclass(frozen=True, kw_only=True)
class CheckpointHooks:
    """Where the loop leaves things: called with the state after a saved step, and with it when the best has changed."""

    save_state: Callable[[State], None]
    epoch_done: Callable[[State], None]


def train_loop(
    model: nn.Module,
    *,
    train_set: Dataset,
    val_set: Dataset,
    recipe: Recipe,
    arithmetic: Arithmetic,
    state: State,
    hooks: CheckpointHooks,
    callback: Callback,
    sources: ImageSources | None = None,
    processes: Processes = ALONE,
) -> State:
    """Fine-tune from `state` to the recipe's last epoch and return the final state.

    With a probe as head start, a fresh state begins with epoch 0: the validation of the model as it was given. `sources` is where
    images come from, by default the files. Raises Interrupted after Ctrl-C, with the state saved.
    """
    sources = sources or uncached_sources(train_set, val_set, recipe=recipe, arithmetic=arithmetic)
    num_steps = math.ceil(len(train_set) / recipe.batch_size)
    target_NC = torch.from_numpy(np.array(train_set.target_NC))
    learner = Learner.begin(model, recipe)
    step = make_step(learner.model, train_set, sources=sources, recipe=recipe, arithmetic=arithmetic, callback=callback)
    stats = EpochStats(state, is_lazy=arithmetic.device != "cpu")

    def end_epoch(epoch: int, num_images: int) -> None:
        sources.next_pass()
        callback.phase("validation", len(val_set))
        started = time.monotonic()
        stats.collect(processes)
        processes.average_statistics(learner.model)
        if learner.average is not learner.model:
            processes.average_statistics(learner.average)
        predictions = validate(
            learner.average,
            val_set,
            recipe=recipe,
            arithmetic=arithmetic,
            callback=callback,
            source=sources.val_views,
            processes=processes,
        )
        _end_epoch(state, learner, predictions, epoch=epoch, num_images=num_images, loss=recipe.loss, started=started)
        callback.epoch(state.rows[-1])
        hooks.epoch_done(state)

    if state.model:
        learner.restore(state)
    elif has_head_start(recipe):
        end_epoch(0, 0)

    with _stop_requested() as stop:
        last_save = time.monotonic()
        while state.epoch <= recipe.epochs:
            epoch = state.epoch
            order = np.random.default_rng((recipe.seed, epoch)).permutation(len(train_set))
            starts = range(state.step * recipe.batch_size, len(order), recipe.batch_size)
            chunks = [shares(order[start : start + recipe.batch_size], processes.count)[processes.rank] for start in starts]
            sources.next_pass()
            callback.phase(f"epoch {epoch}/{recipe.epochs}", len(order) - state.step * recipe.batch_size)

            learner.model.train()
            started = time.monotonic()
            for batch in sources.loader.batches(chunks, epoch=epoch):
                state.failures.update({train_set.ids[row]: error.what for row, error in batch.failures})
                targets = target_NC[batch.rows]
                known = int((targets >= 0).sum())
                save_now = processes.is_first and time.monotonic() - last_save > recipe.save_every_minutes * 60
                # Every process must come to the same end of a step, so what one of them wants all are told.
                num_readable, all_known, stop_now, save_now = processes.total([len(targets), known, stop.is_set(), save_now])
                # Batch normalisation cannot learn from a single image: such a rest is left for another epoch's shuffle.
                if num_readable > 1:
                    _seed_step(recipe.seed, epoch, state.step, rank=processes.rank)
                    set_learning_rates(learner.optimizer, recipe, progress=epoch - 1 + state.step / num_steps)
                    learner.optimizer.zero_grad(set_to_none=True)
                    if len(targets):
                        share = known / max(1, all_known)
                        loss, logit_NC = step(batch.inputs, targets, share)
                        stats.add(loss, logit_NC, targets, weight=share * num_readable)
                    processes.add_gradients(learner.model.parameters())
                    learner.optimizer.step()
                    num_done = (epoch - 1) * num_steps + state.step + 1
                    learner.update_average(decay=min(recipe.ema_decay, (1 + num_done) / (10 + num_done)))
                state.step += 1
                callback.progress(processes.count * (len(batch.rows) + len(batch.failures)), loss=stats.running_loss())

                if stop_now or save_now:
                    state.epoch_seconds += time.monotonic() - started
                    started = last_save = time.monotonic()
                    stats.collect(processes)
                    learner.keep(state)
                    hooks.save_state(state)
                    if stop_now:
                        raise Interrupted
            stats.fold()  # waits for the device: the epoch's seconds are those of its arithmetic
            state.epoch_seconds += time.monotonic() - started

            end_epoch(epoch, len(train_set))
            last_save = time.monotonic()
            if processes.total([stop.is_set()])[0] and state.epoch <= recipe.epochs:
                hooks.save_state(state)
                raise Interrupted
    return state


def make_step(
    model: nn.Module, train_set: Dataset, *, sources: ImageSources, recipe: Recipe, arithmetic: Arithmetic, callback: Callback
) -> Callable[[tuple[Tensor, ...], Tensor, float], tuple[Tensor, Tensor]]:
    """A function of a batch's inputs, targets and share in the loss that leaves gradients, and gives loss and logits.

    On a GPU it is replayed from a CUDA graph, if it can be captured.
    """
    weight_C = class_weights(train_set.target_NC, kind=recipe.class_weights)
    plain = Step(
        model=model,
        pixels=sources.loader.pixels,
        loss_of=LOSS_OF[recipe.loss],
        weight_C=None if weight_C is None else weight_C.to(arithmetic.device),
        arithmetic=arithmetic,
    )
    if arithmetic.device == "cpu":
        return plain.on_cpu
    return GraphedStep(step=plain, note=callback.note).on_device


def has_head_start(recipe: Recipe) -> bool:
    """Whether the head starts from a probe: features of random weights are worth one only where nothing follows."""
    return recipe.head_start == "probe" and (recipe.weights != "random" or recipe.epochs == 0)


def _end_epoch(
    state: State, learner: Learner, predictions: Predictions, *, epoch: int, num_images: int, loss: str, started: float
) -> None:
    """Write the epoch's row, keep the averaged weights if they are the best, and turn to the next epoch."""
    val_map = mean_average_precision(predictions.target_NC, predictions.logit_NC)
    train_map = float("nan")
    if state.epoch_logits:
        train_map = mean_average_precision(torch.cat(state.epoch_targets).numpy(), torch.cat(state.epoch_logits).numpy())
    head_lr, backbone_lr = current_rates(learner.optimizer) if epoch else (float("nan"), float("nan"))
    state.rows.append(
        {
            "epoch": epoch,
            "train_loss": running_loss(state),
            "val_loss": loss_of_predictions(predictions, loss),
            "train_map": train_map,
            "val_map": val_map,
            "head_lr": head_lr,
            "backbone_lr": backbone_lr,
            "images_per_second": num_images / state.epoch_seconds if state.epoch_seconds else float("nan"),
            "seconds": state.epoch_seconds + time.monotonic() - started,
        }
    )
    state.epoch, state.step, state.epoch_seconds = epoch + 1, 0, 0.0
    state.begin_epoch_results()
    learner.keep(state)
    if state.best_epoch < 0 or val_map > state.best_map:
        state.best_map, state.best_epoch = val_map, epoch
        state.best = {name: value.clone() for name, value in learner.average.state_dict().items()}


def validate(
    model: nn.Module,
    val_set: Dataset,
    *,
    recipe: Recipe,
    arithmetic: Arithmetic,
    callback: Callback,
    checkpoint_id: str = "",
    source: Source | None = None,
    processes: Processes = ALONE,
) -> Predictions:
    """Predictions on the validation images, by the one inference loop; of several processes each scores its batches."""
    model.eval()
    return score_dataset(
        model,
        val_set,
        preprocessing=preprocessing_of(recipe),
        arithmetic=arithmetic,
        checkpoint_id=checkpoint_id,
        source=source,
        shard=(processes.rank, processes.count),
        gather=lambda own: [scored for part in processes.gather(list(own)) for scored in part],
        on_batch=lambda scored: callback.progress(processes.count * (len(scored.rows) + len(scored.failures))),
    )


def loss_of_predictions(predictions: Predictions, loss: str) -> float:
    """The loss, without class weights, over all images at once."""
    logit_NC, target_NC = torch.from_numpy(np.array(predictions.logit_NC)), torch.from_numpy(np.array(predictions.target_NC))
    return float(LOSS_OF[loss](logit_NC, target_NC, None))


def _seed_step(seed: int, epoch: int, step: int, *, rank: int) -> None:
    """Dropout and stochastic depth draw from PyTorch's own generator: give it this step's seed, another in each process."""
    digest = hashlib.sha256(f"{seed} {epoch} {step}{f' {rank}' if rank else ''}".encode()).digest()
    number = int.from_bytes(digest[:8], "little") >> 1
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


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
