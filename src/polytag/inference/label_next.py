"""The images of a pool to label next, for the model of a run: its scores and features of the pool, and the choice."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polytag.contracts import PRESENT, LabelSet
from polytag.data.images.augment import views
from polytag.errors import DataError, UsageError
from polytag.inference.feature_cache import features_of
from polytag.inference.images import Images
from polytag.inference.label_choice import choose_images
from polytag.inference.predictor import Predictor, from_reader, run
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder
from polytag.text import counted


@dataclass(frozen=True, kw_only=True, eq=False)
class NextImage:
    """An image to label: its path as it was given, the reason, the classes that the model predicts, and its logits, C."""

    path: str
    reason: str
    labels: tuple[str, ...]
    logit_C: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class NextImages:
    """The images to label, most useful first.

    num_pool      images of the pool that were scored
    num_labelled  images of the pool that the run's data have already, and that are left out
    failures      (path, reason) of images that could not be read
    """

    label_set: LabelSet
    checkpoint: Checkpoint
    images: tuple[NextImage, ...]
    num_pool: int
    num_labelled: int
    failures: tuple[tuple[str, str], ...]


def next_images(
    folder: RunFolder,
    pool: Images,
    *,
    budget: int,
    device: str = "auto",
    on_batch: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> NextImages:
    """Choose at most `budget` images of the pool to label next (see label_choice.py); deterministic at a thread count.

    `on_batch` receives a phrase, and the images done since its last call and their total. Raises RunError and DataError for a run
    whose training images are gone, UsageError for a run of folds, DataError where no image of the pool is left.
    """
    args = read_run_args(folder)
    if args.has_all_folds:
        raise UsageError(
            "a run of folds has a model for each fold",
            where=str(folder.path),
            next_step=f"give the run of one: {folder.fold(1).path}",
        )
    dataset = load_run_data(args)
    train_set, known = dataset.split("train"), {os.path.realpath(path) for path in dataset.paths}
    rows = [row for row, name in enumerate(pool.names) if not (isinstance(name, Path) and os.path.realpath(name) in known)]
    predictor = Predictor.load(Checkpoint.read(folder.best), device=device)
    labelled_MD, labelled_rows, _ = features_of(
        predictor, train_set, on_batch=lambda done: on_batch("labelled images", done, len(train_set))
    )
    scores = _scored(predictor, _rows_of(pool, rows), on_batch=lambda done: on_batch("pool", done, len(rows)))
    if not len(scores.row_N):
        raise DataError(
            "no image of the pool is left to label",
            got=f"{counted(len(pool), 'images')}, {len(pool) - len(rows):,} of them labelled, {len(scores.failures):,} unreadable",
            expected="images that the run's data do not have",
        )
    logit_NC = scores.logit_NC
    positives_C = (train_set.target_NC[labelled_rows] == PRESENT).sum(axis=0)
    chosen = choose_images(scores.feature_ND, logit_NC, labelled_MD=labelled_MD.copy(), positives_C=positives_C, budget=budget)
    names = [str(pool.names[rows[row]]) for row in scores.row_N.tolist()]
    label_set = predictor.checkpoint.label_set
    found = [
        NextImage(
            path=names[row],
            reason=_reason(label_set, logit_NC[row], column=column, positives_C=positives_C, distance=distance),
            labels=_labels(predictor.checkpoint, logit_NC[row]),
            logit_C=logit_NC[row],
        )
        for row, column, distance in zip(chosen.row_K.tolist(), chosen.class_K.tolist(), chosen.distance_K.tolist(), strict=True)
    ]
    return NextImages(
        label_set=label_set,
        checkpoint=predictor.checkpoint,
        images=tuple(found),
        num_pool=len(names),
        num_labelled=len(pool) - len(rows),
        failures=tuple((str(pool.names[rows[row]]), reason) for row, reason in scores.failures),
    )


def _rows_of(pool: Images, rows: list[int]) -> Images:
    """These rows of the images."""
    return Images(names=[pool.names[row] for row in rows], read=lambda row: pool.read(rows[row]))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scores:
    """Features and calibrated logits of the images that can be read, their rows, and the (row, reason) of the others."""

    feature_ND: np.ndarray
    logit_NC: np.ndarray
    row_N: np.ndarray
    failures: list[tuple[int, str]]


def _scored(predictor: Predictor, images: Images, *, on_batch: Callable[[int], None]) -> _Scores:
    """Both in one pass, and the features in one table from the first batch on: a pool can be large."""
    checkpoint, frozen = predictor.checkpoint, predictor.frozen

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        feature_ND = frozen.features(pixels)
        if frozen.head is None:
            return torch.cat([feature_ND.flatten(1).float(), frozen.logits(pixels)], dim=1)
        with torch.autocast(pixels.device.type, enabled=False):
            return torch.cat([feature_ND.float(), frozen.head(feature_ND.float())], dim=1)

    num_classes = len(checkpoint.label_set)
    feature_ND, logit_NC = np.zeros((0, 0), np.float32), np.zeros((len(images), num_classes), np.float32)
    row_N, failures, count = np.zeros(len(images), np.int64), list[tuple[int, str]](), 0
    for scored in run(
        forward,
        (),
        preprocessing=checkpoint.preprocessing,
        arithmetic=predictor.arithmetic,
        source=from_reader(lambda row: views(images.read(row), checkpoint.preprocessing)),
        rows=range(len(images)),
    ):
        failures += [(row, error.what) for row, error in scored.failures]
        on_batch(len(scored.rows) + len(scored.failures))
        if not len(scored.rows):
            continue
        is_finite_N = np.isfinite(scored.output_ND).all(axis=1)
        failures += [(row, "the model gives no finite score for it") for row in scored.rows[~is_finite_N].tolist()]
        output_NX = scored.output_ND[is_finite_N]
        if not len(feature_ND):
            feature_ND = np.empty((len(images), output_NX.shape[1] - num_classes), np.float32)
        these = slice(count, count + len(output_NX))
        made_NC = np.ascontiguousarray(output_NX[:, -num_classes:])
        feature_ND[these] = output_NX[:, :-num_classes]
        logit_NC[these] = made_NC if checkpoint.calibration is None else checkpoint.calibration.apply(made_NC)
        row_N[these] = scored.rows[is_finite_N]
        count += len(output_NX)
    return _Scores(feature_ND=feature_ND[:count], logit_NC=logit_NC[:count], row_N=row_N[:count], failures=failures)


def _reason(label_set: LabelSet, logit_C: np.ndarray, *, column: int, positives_C: np.ndarray, distance: float) -> str:
    probability = float(sigmoid(logit_C[column]))
    return f"{label_set.names[column]} at {probability:.2f}, {positives_C[column]:,} labelled; distance {distance:.2f}"


def _labels(checkpoint: Checkpoint, logit_C: np.ndarray) -> tuple[str, ...]:
    """The classes above their thresholds, highest first."""
    is_predicted_C = decide(sigmoid(logit_C), threshold_C=np.asarray(checkpoint.thresholds))
    return tuple(checkpoint.label_set.names[column] for column in np.argsort(-logit_C, kind="stable") if is_predicted_C[column])
