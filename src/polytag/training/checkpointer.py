"""Writes what a run leaves on the disk as it trains: the state for a resume, results.csv, best/ with its scores, and last/."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from polytag.contracts import Dataset, Predictions
from polytag.models.checkpoint import Checkpoint, save_checkpoint
from polytag.predictions.table import write_predictions
from polytag.runs.folder import RunFolder
from polytag.runs.history import write_history
from polytag.runs.recipe import Recipe
from polytag.text import markdown
from polytag.training.context import TrainingContext
from polytag.training.loop import CheckpointHooks
from polytag.training.pace import Pace, num_steps_of
from polytag.training.state import State, save_state

_SHARE_OF_TIME = 0.05


class Checkpointer:
    """Writes a run's state and checkpoints after every epoch; on a GPU after some epochs, and after the last.

    On a GPU an epoch may take less than a second, and writing hundreds of megabytes after each would be most of the work. There an
    epoch is saved when writing takes no more than a twentieth of the time since the last save: a kill costs that much at most.
    """

    def __init__(self, run: RunFolder, context: TrainingContext, *, dataset: Dataset):
        self._run, self._context, self._dataset = run, context, dataset
        self._may_skip = context.arithmetic.device != "cpu"
        self._ended, self._took_seconds, self._saved_best = time.monotonic(), 0.0, -1
        self._of_best: Predictions | None = None

    @property
    def hooks(self) -> CheckpointHooks:
        """For the loop."""
        return CheckpointHooks(save_state=self._save_state, epoch_done=self._epoch_done, save_first=self.save_first)

    def catch_up(self, state: State) -> None:
        """Write what follows from a state that was read back: a kill may have come between the state and the folders."""
        write_history(self._run, state.rows)
        if state.rows and state.step == 0:  # the state of the end of an epoch; later in an epoch, `last` was written long ago
            self._save_model(self._run.last, state.average, epoch=state.epoch - 1, state=state)
        if state.best:
            self._save_best(state)

    def _save_state(self, state: State) -> None:
        if self._context.clock is not None:
            state.used_seconds = self._context.clock.used
        save_state(self._run.state, state)

    def _epoch_done(self, state: State, of_best: Predictions | None) -> None:
        started = time.monotonic()
        self._of_best = of_best or self._of_best
        recipe = self._context.recipe
        is_last = Pace(recipe, state, num_steps=num_steps_of(recipe, len(self._context.train_set))).is_over
        if self._may_skip and not is_last and (started - self._ended) * _SHARE_OF_TIME < self._took_seconds:
            write_history(self._run, state.rows)
            return
        self._save_state(state)
        write_history(self._run, state.rows)
        self._save_model(self._run.last, state.average, epoch=state.epoch - 1, state=state)
        if state.best_epoch != self._saved_best:
            self._save_best(state)
        self._ended = time.monotonic()
        self._took_seconds = self._ended - started

    def save_first(self, tensors: Mapping[str, torch.Tensor], state: State) -> None:
        """Write best/ before there is a validated model."""
        self._save_model(self._run.best, tensors, epoch=state.epoch - 1, state=state)

    def _save_best(self, state: State) -> None:
        checkpoint = self._save_model(self._run.best, state.best, epoch=state.best_epoch, state=state)
        if self._of_best is not None:  # for those who look at the run while it trains
            write_predictions(replace(self._of_best, checkpoint_id=checkpoint.id), self._run.running_predictions)
        self._saved_best, self._of_best = state.best_epoch, None

    def _save_model(self, folder: Path, tensors: Mapping[str, torch.Tensor], *, epoch: int, state: State) -> Checkpoint:
        recipe, preprocessing, dataset = self._context.recipe, self._context.preprocessing, self._dataset
        val_map = next((row["val_map"] for row in state.rows if row["epoch"] == epoch), float("nan"))
        facts = {
            "recipe": recipe.name,
            "weights": recipe.weights,
            "epoch": epoch,
            "val_map": None if math.isnan(val_map) else round(val_map, 6),
            "data": dataset.source,
            "data_fingerprint": dataset.fingerprint,
            "num_train": len(self._context.train_set),
            "num_val": len(self._context.val_set),
        }
        return save_checkpoint(
            folder,
            tensors=tensors,
            backbone=recipe.backbone,
            backbone_args=recipe.backbone_args,
            head=recipe.head,
            preprocessing=preprocessing,
            label_set=dataset.label_set,
            thresholds=(0.5,) * len(dataset.label_set),
            facts=facts,
            card=lambda checkpoint_id: _card(
                checkpoint_id,
                facts=facts,
                recipe=recipe,
                backbone=self._context.parts.backbone_name(recipe),
                dataset=dataset,
                image_size_px=preprocessing.image_size_px,
            ),
            own_backbone=self._context.parts.records.get("backbone"),
        )


def _card(
    checkpoint_id: str, *, facts: Mapping[str, object], recipe: Recipe, backbone: str, dataset: Dataset, image_size_px: int
) -> str:
    """README.md of a checkpoint: the model card."""
    own = ", backbone=..." if backbone != recipe.backbone else ""
    return f"""# {markdown(backbone)}, {len(dataset.label_set)} classes

A multi-label image classifier made by polytag: one sigmoid per class.

| | |
| --- | --- |
| checkpoint | `{checkpoint_id}` |
| recipe | {recipe.name}, epoch {facts["epoch"]} |
| head | {recipe.head} |
| starting weights | {markdown(str(recipe.weights))} |
| input | {image_size_px} px, {recipe.fit} |
| data | {facts["num_train"]} training and {facts["num_val"]} validation images, fingerprint `{dataset.fingerprint}` |
| validation mAP | {facts["val_map"]} (unweighted mean over the classes that have a positive) |

Classes: {", ".join(map(markdown, dataset.label_set))}.

Predict with `polytag predict FOLDER IMAGES...`, or in Python:

```python
from polytag import Checkpoint, Predictor

predictor = Predictor.load(Checkpoint.read("this/folder"{own}))
```

The model knows what its training images showed. Judge it on images of your own before you rely on it.
"""
