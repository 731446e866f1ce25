"""The training loop, to be read downward: a batch, a step, an average; at the end of an epoch: validate, save the best.

Nothing here prints or writes: a `Callback` receives the events, and `CheckpointHooks` the states.
"""

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from polytag.contracts import Predictions
from polytag.data.images.order import blocks_of, epoch_order
from polytag.errors import PredictionsError, RunError
from polytag.inference.predictor import Source, score_dataset
from polytag.metrics.ap import mean_average_precision
from polytag.path_list import PathList
from polytag.training.context import TrainingContext
from polytag.training.epoch_choice import replicates_of_epoch
from polytag.training.epoch_stats import EpochStats, running_loss
from polytag.training.image_sources import ImageSources, uncached_sources
from polytag.training.learner import Learner, class_weights, current_rates, set_learning_rates
from polytag.training.losses import LargeLossRejection
from polytag.training.pace import Pace, num_steps_of
from polytag.training.processes import shares
from polytag.training.state import State
from polytag.training.step import GraphedStep, Step
from polytag.training.validation_features import ValidationFeatures

_FIRST_MODEL = 50.0  # seconds of a run with a clock and without a probe until a model is on the disk


class Interrupted(Exception):
    """Ctrl-C in a run without a limit of minutes, or a second one: the state is saved, and a resume goes on from this very step."""


@dataclass(frozen=True, kw_only=True)
class CheckpointHooks:
    """Where the loop hands over its state: within an epoch, for a resume, and at the end of every epoch, with the predictions of
    the validation images if it is the best so far; and, under a clock, the weights of a model that is not validated yet, within
    the first minute."""

    save_state: Callable[[State], None]
    epoch_done: Callable[[State, Predictions | None], None]
    save_first: Callable[[Mapping[str, Tensor], State], None]


NO_HOOKS = CheckpointHooks(
    save_state=lambda state: None, epoch_done=lambda state, predictions: None, save_first=lambda tensors, state: None
)
"""Saves nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """The final state, and the predictions of its best weights on the validation images, unless an earlier process made them.

    features   those of the validation images, kept from the pass that made the predictions
    """

    state: State
    best_predictions: Predictions | None
    features: ValidationFeatures


def train_loop(
    model: nn.Module,
    context: TrainingContext,
    *,
    state: State,
    hooks: CheckpointHooks = NO_HOOKS,
    sources: ImageSources | None = None,
) -> Trained:
    """Fine-tune from `state` to the recipe's last epoch.

    With a probe as head start, a fresh state begins with epoch 0: the validation of the model as given. `sources` are where images
    come from, by default the files. Ctrl-C ends the training of a run with a clock early. In any other it raises Interrupted, with
    the state saved.
    """
    recipe, processes, callback = context.recipe, context.processes, context.callback
    sources = sources or uncached_sources(context)
    target_NC = torch.from_numpy(np.array(context.target_NC))
    num_images = len(target_NC)
    num_steps = num_steps_of(recipe, num_images)
    blocks = blocks_of(PathList(context.train_set.paths).texts)
    if context.own_loss is not None:
        context.own_loss.begin(device=context.arithmetic.device)
    learner = Learner.begin(model, recipe, loss=context.own_loss)
    pace = Pace(recipe, state, num_steps=num_steps, num_val=len(context.val_set), clock=context.clock)
    step = make_step(learner.model, context, sources=sources)
    stats = EpochStats(state, is_lazy=context.arithmetic.device != "cpu")
    features = ValidationFeatures(context)
    best: Predictions | None = None
    first_due: float | None = _FIRST_MODEL

    if state.model:
        learner.restore(state)
    elif recipe.has_head_start:
        with pace.timing("validation"):
            best = _end_epoch(0, state, learner, context, sources=sources, stats=stats, features=features)
        with pace.timing("saving"):
            hooks.epoch_done(state, best)

    with _stop_requested() as stop:
        last_save = time.monotonic()
        if not pace.is_over:
            _look_at_clock(pace, state, context)
        while state.step or not pace.is_over:  # the last epoch may have been interrupted before its validation
            epoch = state.epoch
            if isinstance(context.loss, LargeLossRejection):
                context.loss.begin_epoch(min(1.0, (epoch - 1) / max(1, recipe.epochs - 1)))
            order = epoch_order(num_images, seed=recipe.seed, epoch=epoch, blocks=blocks)
            starts = () if pace.is_over else range(state.step * recipe.batch_size, num_images, recipe.batch_size)
            chunks = [shares(order[start : start + recipe.batch_size], processes.count)[processes.rank] for start in starts]
            sources.next_pass()
            callback.phase(f"epoch {epoch}/{pace.num_epochs}", num_images - state.step * recipe.batch_size)

            learner.begin_epoch(recipe)
            started = time.monotonic()
            pace.begin_epoch()
            for batch in sources.loader.batches(chunks, epoch=epoch):
                state.failures.update({context.train_set.ids[row]: error.what for row, error in batch.failures})
                targets = target_NC[batch.rows]
                known = int((targets >= 0).sum())
                save_now = processes.is_first and time.monotonic() - last_save > recipe.save_every_minutes * 60
                # Every process ends the step in the same way: a wish of one is the wish of all.
                wishes = [stop.is_set(), save_now, pace.wants_look]
                num_readable, all_known, stop_now, save_now, look_now = processes.total([len(targets), known, *wishes])
                # Batch normalisation cannot learn from a single image: such a rest waits for another epoch's shuffle.
                if num_readable > 1:
                    _seed_step(recipe.seed, epoch, state.step, rank=processes.rank)
                    set_learning_rates(learner.optimizer, recipe, progress=pace.scheduled)
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
                pace.count_step()
                callback.progress(processes.count * (len(batch.rows) + len(batch.failures)), loss=stats.running_loss())

                if stop_now or save_now:
                    state.epoch_seconds += time.monotonic() - started
                    started = last_save = time.monotonic()
                    stats.collect(processes)
                    learner.write_to(state)
                    hooks.save_state(state)
                    if stop_now and (context.clock is None or not pace.is_over):
                        _end_early(pace, state, context)
                if first_due is not None and state.best_epoch < 0 and context.clock is not None and context.clock.used > first_due:
                    hooks.save_first(learner.average.state_dict(), state)
                    first_due = None
                if look_now and not stop_now:
                    _look_at_clock(pace, state, context)
                if pace.is_over:
                    break
            stats.fold()  # waits for the device: the epoch's seconds are those of its arithmetic
            pace.end_epoch()
            state.epoch_seconds += time.monotonic() - started
            if pace.has_dropped_steps:
                break

            with pace.timing("validation"):
                of_best = _end_epoch(epoch, state, learner, context, sources=sources, stats=stats, features=features)
                best = of_best or best
            if not pace.is_over:
                _look_at_clock(pace, state, context)
            stop_now = bool(processes.total([stop.is_set()])[0]) and not pace.is_over
            if stop_now and context.clock is not None:
                _end_early(pace, state, context)
            with pace.timing("saving"):
                hooks.epoch_done(state, of_best)
            last_save = time.monotonic()
            if stop_now and context.clock is None:
                hooks.save_state(state)
                raise Interrupted
    return Trained(state=state, best_predictions=best, features=features)


def _look_at_clock(pace: Pace, state: State, context: TrainingContext) -> None:
    """Plan the end of the training anew by the clock of the first process, if the run has one.

    The steps of an epoch that there is no time to validate are dropped.
    """
    if context.clock is None:
        return
    end, is_late = context.processes.from_first((pace.planned(), pace.is_late))
    if is_late and state.step and state.best_epoch >= 0:
        pace.end_early(is_validated=False)
    else:
        pace.move_end(end)


def _end_early(pace: Pace, state: State, context: TrainingContext) -> None:
    """After Ctrl-C, end the training of a run with a clock, so that the run is finished with the best model so far.

    The steps of the present epoch are validated where they took longer than that takes; a GPU always does it. Raises Interrupted in
    a run without a clock.
    """
    clock, processes = context.clock, context.processes
    if clock is None:
        raise Interrupted
    is_validated = state.best_epoch < 0 or context.arithmetic.device != "cpu" or pace.pays_validation
    is_validated, state.stopped_after = processes.from_first((is_validated, min(1.0, clock.used / clock.seconds)))
    pace.end_early(is_validated=is_validated)
    context.callback.note(
        f"Ctrl-C: the training ends after {state.stopped_after:.0%} of its time; the run is finished with the best model so far "
        "(Ctrl-C once more interrupts it)"
    )


def make_step(
    model: nn.Module, context: TrainingContext, *, sources: ImageSources
) -> Callable[[tuple[Tensor, ...], Tensor, float], tuple[Tensor, Tensor]]:
    """A function of a batch's inputs, targets and share in the loss that leaves gradients, and returns loss and logits.

    A GPU replays it from a CUDA graph, if it can be captured.
    """
    weight_C = class_weights(context.target_NC, kind=context.recipe.class_weights)
    device = context.arithmetic.device
    plain = Step(
        model=model,
        pixels=sources.loader.pixels,
        loss_of=context.loss,
        weight_C=None if weight_C is None else weight_C.to(device),
        arithmetic=context.arithmetic,
        micro_batch_size=context.recipe.micro_batch_size,
        is_checkpointed=context.recipe.grad_checkpointing,
    )
    if device == "cpu":
        return plain.on_cpu
    reason = ""
    if context.own_loss is not None:  # a replay does not run Python, which a loss of somebody's may count on at every step
        reason = "the loss is your own"
    elif plain.is_checkpointed:  # it reads the generator of random numbers, which a capture forbids
        reason = "gradient checkpointing"
    if reason:
        context.callback.note(f"the step runs without a CUDA graph: {reason}")
    return GraphedStep(step=plain, note=context.callback.note, failed=bool(reason)).on_device


def _end_epoch(
    epoch: int,
    state: State,
    learner: Learner,
    context: TrainingContext,
    *,
    sources: ImageSources,
    stats: EpochStats,
    features: ValidationFeatures,
) -> Predictions | None:
    """Validate, write the epoch's row, keep the averaged weights if they are the best, and turn to the next epoch.

    Returns the validation predictions of new best weights.
    """
    sources.next_pass()
    context.callback.phase("validation", len(context.val_set))
    started = time.monotonic()
    stats.collect(context.processes)
    context.processes.average_statistics(learner.model)
    if learner.average is not learner.model:
        context.processes.average_statistics(learner.average)
    try:
        predictions = validate(learner.average, context, source=sources.val_views, features=features)
    except PredictionsError as error:
        raise _diverged(learner, error, where=f"epoch {epoch}") from error
    val_map = mean_average_precision(predictions.target_NC, predictions.logit_NC)
    train_map = float("nan")
    if state.epoch_logits:
        train_map = mean_average_precision(torch.cat(state.epoch_targets).numpy(), torch.cat(state.epoch_logits).numpy())
    head_lr, backbone_lr = current_rates(learner.optimizer) if epoch else (float("nan"), float("nan"))
    num_images = min(len(context.train_set), state.step * context.recipe.batch_size)  # the clock may end an epoch early
    state.rows.append(
        {
            "epoch": epoch,
            "train_loss": running_loss(state),
            "val_loss": loss_of_predictions(predictions, context),
            "train_map": train_map,
            "val_map": val_map,
            "head_lr": head_lr,
            "backbone_lr": backbone_lr,
            "images_per_second": num_images / state.epoch_seconds if state.epoch_seconds else float("nan"),
            "seconds": state.epoch_seconds + time.monotonic() - started,
        }
    )
    state.map_replicates.append(replicates_of_epoch(predictions, context.val_set))
    state.epoch, state.step, state.epoch_seconds = epoch + 1, 0, 0.0
    state.begin_epoch_results()
    learner.write_to(state)
    is_best = state.best_epoch < 0 or val_map > state.best_map
    if is_best:
        state.best_map, state.best_epoch = val_map, epoch
        state.best = {name: value.clone() for name, value in learner.average.state_dict().items()}
        features.keep()
    context.callback.epoch(state.rows[-1])
    return predictions if is_best else None


def _diverged(learner: Learner, error: PredictionsError, *, where: str) -> PredictionsError | RunError:
    """What scores that are not finite come from: weights that are not finite either, else the error as it is."""
    if all(bool(tensor.isfinite().all()) for tensor in learner.average.state_dict().values()):
        return error
    return RunError(
        "the training has diverged",
        where=where,
        got="weights that are not finite",
        expected="finite weights",
        next_step="start a new run with lower learning rates, --head-lr and --backbone-lr; or look at a loss of your own",
    )


def validate(
    model: nn.Module,
    context: TrainingContext,
    *,
    checkpoint_id: str = "",
    source: Source | None = None,
    features: ValidationFeatures,
) -> Predictions:
    """Predictions on the validation images, by the one inference loop; each of several processes scores its batches."""
    processes = context.processes
    model.eval()
    return score_dataset(
        model,
        context.val_set,
        preprocessing=context.preprocessing,
        arithmetic=context.arithmetic,
        checkpoint_id=checkpoint_id,
        source=source,
        shard=(processes.rank, processes.count),
        gather=lambda own: [scored for part in processes.gather(list(own)) for scored in part],
        on_batch=lambda scored: context.callback.progress(processes.count * (len(scored.rows) + len(scored.failures))),
        on_features=features.begin(),
    )


def loss_of_predictions(predictions: Predictions, context: TrainingContext) -> float:
    """The loss, without class weights, over all images at once."""
    logit_NC, target_NC = torch.from_numpy(np.array(predictions.logit_NC)), torch.from_numpy(np.array(predictions.target_NC))
    own = context.own_loss
    if own is None:
        return float(context.val_loss(logit_NC, target_NC, None))
    device = context.arithmetic.device
    with own.in_validation(), torch.no_grad():
        return float(own(logit_NC.to(device), target_NC.to(device)))


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
