"""Trains on the decisions: two probes on the features of a run, on its training labels as they are and as corrected, compared.

Nothing is written into the run; features that took long are cached as those of any training are.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Literal, final

from polytag.contracts import ABSENT, PRESENT, Dataset
from polytag.data.corrections import Change, Correction, apply_corrections
from polytag.data.images.stored import is_image_there
from polytag.errors import PolytagError
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.job_queue import JobQueue
from polytag.inspector.review.store import ReviewStore
from polytag.machine import num_cores
from polytag.metrics.comparison import Comparison
from polytag.runs.args import read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.groups import groups_for_intervals

if TYPE_CHECKING:
    from polytag.inference.predictor import Extracted, Predictor

_SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True, eq=False)
class CorrectedData:
    """The data of a run with the decisions of its review, as `labels export` writes them.

    corrections   of training and validation images, in a fixed order
    changes       labels that differ from the data
    """

    dataset: Dataset
    corrections: tuple[Correction, ...]
    changes: tuple[Change, ...]

    def num_changed(self, split: str) -> int:
        return sum(each.split == split for each in self.changes)

    def num_decided(self, split: str) -> int:
        return sum(each.split == split for each in self.corrections)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A finished training: `comparison` of the probe on corrected labels with that on the labels as they are, both judged by the
    corrected validation labels; the numbers of images are those that can be read."""

    comparison: Comparison
    data: CorrectedData
    num_train: int
    num_val: int
    num_unread: int
    seconds: float


class _Stopped(Exception):
    """Ends a training that is no longer wanted."""


@final
class DecisionTraining:
    """Trains in a thread that yields to a job queue. Safe to call from many threads.

    step, num_done, num_images   what is being done, and of how many images the features are there
    trained                      the last result, or None
    failure                      why the last training ended without one, or ""
    """

    def __init__(self, inspection: Inspection, store: ReviewStore, queue: JobQueue):
        self._inspection, self._store, self._queue = inspection, store, queue
        self._lock, self._stop = Lock(), Event()
        self._thread: Thread | None = None
        self.step, self.num_done, self.num_images = "", 0, 0
        self.trained: Trained | None = None
        self.failure = ""

    @property
    def status(self) -> Literal["waiting", "running", "stopping"]:
        if self._thread is None:
            return "waiting"
        return "stopping" if self._stop.is_set() else "running"

    def corrected(self) -> CorrectedData | None:
        """Return the data with the decisions as of now; None where a run's data are not at hand. Raises RunError and DataError."""
        data = self._inspection.data
        if data is None or self._inspection.run_path is None or not set(_SPLITS) <= set(data.splits):
            return None
        corrections = tuple(
            Correction(split=split, image_id=image, class_name=name, label=label)
            for split in _SPLITS
            for (image, name), label in sorted(self._store.labels(split).items())
        )
        dataset, changes = apply_corrections(data, corrections)
        return CorrectedData(dataset=dataset, corrections=corrections, changes=changes)

    def why_not(self, corrected: CorrectedData | None) -> str:
        """Return a sentence that says why nothing can be trained, or ""."""
        inspection = self._inspection
        if inspection.run_path is None:
            return "These scores are not of a run, so there are no training images and no features."
        if inspection.checkpoint is None:
            return "The run has no model that takes images, so there are no features to fit a probe on."
        if corrected is None or inspection.data is None:
            return "The run’s training and validation images are not at hand: its data set was moved, or it is a run of folds."
        if not corrected.num_decided("train"):
            return "No label of a training image is decided yet."
        if not corrected.num_changed("train"):
            return "All decisions about training images confirm the label as it was, so there is nothing to train on."
        train_set = inspection.data.split("train")
        if not is_image_there(train_set.paths[0]):
            return "The files of the training images are not where they were."
        target_NC = train_set.target_NC
        if ((target_NC == PRESENT).any(axis=0) & ~(target_NC == ABSENT).any(axis=0)).any():
            return "Some class has no absent label among the training images, which only a whole training treats as it should."
        return ""

    def start(self) -> None:
        """Begin to train, unless it is running or cannot be done."""
        corrected = self.corrected()
        if corrected is None or self.why_not(corrected):
            return
        with self._lock:
            if self._thread is not None:
                return
            self._stop.clear()
            self.step, self.num_done, self.failure = "Loading the model.", 0, ""
            self.num_images = sum(corrected.dataset.split_N.count(split) for split in _SPLITS)
            self._thread = Thread(target=self._run, args=(corrected,), name="polytag-decisions", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask a running training to end, which it does at its next step."""
        self._stop.set()

    def close(self) -> None:
        """End a running training, and wait until it has ended."""
        self.stop()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self, corrected: CorrectedData) -> None:
        trained, failure = None, ""
        self._queue.begin_background()
        try:
            trained = self._trained(corrected)
        except _Stopped:
            pass
        except PolytagError as error:
            failure = error.what
        except Exception as error:
            failure = str(error) or type(error).__name__
        finally:
            self._queue.end_background()
        with self._lock:
            self.trained, self.failure, self._thread = trained or self.trained, failure, None

    def _on_step(self, step: str) -> None:
        self.step = step
        self._queue.yield_turn(self._stop)
        if self._stop.is_set():
            raise _Stopped

    def _trained(self, corrected: CorrectedData) -> Trained:
        import torch

        from polytag.inference.predictor import Predictor
        from polytag.inference.relabelled import compare_relabelled
        from polytag.models.checkpoint import Checkpoint

        began = time.monotonic()
        inspection = self._inspection
        assert inspection.checkpoint is not None
        assert inspection.data is not None
        assert inspection.run_path is not None
        torch.set_num_threads(max(1, num_cores() - 1))  # of this thread; one core is left to the pages
        predictor = Predictor.load(Checkpoint.read(inspection.checkpoint))
        predictor.checkpoint.require_labels(inspection.data.label_set)
        train_set, val_set = inspection.data.split("train"), corrected.dataset.split("val")
        train_ND, train_rows, unread = self._features(predictor, train_set)
        val_MD, val_rows, unread_val = self._features(predictor, val_set)
        val_set = val_set.take(val_rows)
        run = RunFolder(path=inspection.run_path)
        comparison = compare_relabelled(
            train_set.take(train_rows),
            corrected.dataset.split("train").target_NC[train_rows],
            train_ND,
            val_set=val_set,
            val_MD=val_MD,
            seed=read_run_args(run).recipe.seed,
            groups=groups_for_intervals(run, val_set.ids, note=lambda _: None),
            on_step=self._on_step,
        )
        return Trained(
            comparison=comparison,
            data=corrected,
            num_train=len(train_rows),
            num_val=len(val_rows),
            num_unread=len(unread) + len(unread_val),
            seconds=time.monotonic() - began,
        )

    def _features(self, predictor: "Predictor", dataset: Dataset) -> "Extracted":
        from polytag.inference.feature_cache import features_of

        def on_batch(num_images: int) -> None:
            self.num_done += num_images
            self._on_step("Calculating features.")

        self._on_step("Calculating features.")
        return features_of(predictor, dataset, on_batch=on_batch)


def commands(run: Path) -> Sequence[Sequence[str]]:
    """Return the command lines that do it for good: they export the labels, train a run on them, and compare it with this one."""
    recipe, options = (args := read_run_args(RunFolder(path=run))).recipe, args.options
    data, made = f"{run}-corrected.csv", f"{run}-corrected"
    train = ["polytag", "train", data, "--recipe", recipe.name, "--backbone", recipe.backbone, "--weights", recipe.weights]
    train += [word for key, value in recipe.backbone_args.items() for word in ("--backbone-arg", f"{key}={value}")]
    train += ["--image-size", str(recipe.image_size_px)] if recipe.image_size_px else []
    train += ["--group", options.group_column] if options.group_column else []
    return (
        ["polytag", "labels", "export", str(run), data],
        [*train, "--output", made],
        ["polytag", "compare", str(run), made, "--truth", data],
    )
