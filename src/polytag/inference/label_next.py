"""The images of a pool to label next, for the model of a run: its scores and features of the pool, and the choice."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from polytag.contracts import PRESENT, LabelSet
from polytag.data.images.augment import views
from polytag.errors import DataError, ImageError, UsageError
from polytag.inference.feature_cache import cache_of, features_of
from polytag.inference.images import Images
from polytag.inference.label_choice import choose_images
from polytag.inference.predictor import Extracted, Predictor, from_reader, run
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.models.fused import Frozen
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder
from polytag.text import counted

_BLOCK = 4096  # rows whose logits are computed at once


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
    is_known_N = np.array([isinstance(name, Path) and os.path.realpath(name) in known for name in pool.names], bool)
    predictor = Predictor.load(Checkpoint.read(folder.best), device=device)
    labelled_MD, labelled_rows, _ = features_of(
        predictor, train_set, on_batch=lambda done: on_batch("labelled images", done, len(train_set))
    )
    scores = _without(_scored(predictor, pool, on_batch=lambda done: on_batch("pool", done, len(pool))), is_known_N)
    if not len(scores.row_N):
        raise DataError(
            "no image of the pool is left to label",
            got=f"{counted(len(pool), 'images')}, {is_known_N.sum():,} of them labelled, {len(scores.failures):,} unreadable",
            expected="images that the run's data do not have",
        )
    logit_NC = scores.logit_NC
    positives_C = (train_set.target_NC[labelled_rows] == PRESENT).sum(axis=0)
    chosen = choose_images(scores.feature_ND, logit_NC, labelled_MD=labelled_MD.copy(), positives_C=positives_C, budget=budget)
    names = [str(pool.names[row]) for row in scores.row_N.tolist()]
    label_set = predictor.checkpoint.label_set
    found = [
        NextImage(
            path=names[row],
            reason=_reason(label_set, logit_NC[row], column=column, positives_C=positives_C, novelty=novelty),
            labels=_labels(predictor.checkpoint, logit_NC[row]),
            logit_C=logit_NC[row],
        )
        for row, column, novelty in zip(chosen.row_K.tolist(), chosen.class_K.tolist(), chosen.novelty_K.tolist(), strict=True)
    ]
    return NextImages(
        label_set=label_set,
        checkpoint=predictor.checkpoint,
        images=tuple(found),
        num_pool=len(names),
        num_labelled=int(is_known_N.sum()),
        failures=tuple((str(pool.names[row]), reason) for row, reason in scores.failures),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scores:
    """Features and calibrated logits of the images that can be read, their rows, and the (row, reason) of the others."""

    feature_ND: np.ndarray
    logit_NC: np.ndarray
    row_N: np.ndarray
    failures: list[tuple[int, str]]


def _without(scores: _Scores, is_known_N: np.ndarray) -> _Scores:
    """The scores of the images that are not known. All are scored, so that a pool of which some are labelled meanwhile has the same
    place in the feature cache."""
    is_new = ~is_known_N[scores.row_N]
    failures = [(row, reason) for row, reason in scores.failures if not is_known_N[row]]
    if is_new.all():
        return replace(scores, failures=failures)
    return _Scores(
        feature_ND=scores.feature_ND[is_new], logit_NC=scores.logit_NC[is_new], row_N=scores.row_N[is_new], failures=failures
    )


def _scored(predictor: Predictor, images: Images, *, on_batch: Callable[[int], None]) -> _Scores:
    """With a linear head the features alone are computed, or read from the cache where the images are files; else both at once."""
    frozen, num_classes = predictor.frozen, len(predictor.checkpoint.label_set)
    if frozen.head is None:
        made_NX, row_N, errors = _computed(predictor, images, forward=_both(frozen), on_batch=on_batch)
        feature_ND, logit_NC = made_NX[:, :-num_classes], np.ascontiguousarray(made_NX[:, -num_classes:])
    else:
        feature_ND, row_N, errors = _features(predictor, images, on_batch=on_batch)
        logit_NC = np.zeros((len(feature_ND), num_classes), np.float32)
        with torch.inference_mode():
            for start in range(0, len(feature_ND), _BLOCK):
                block = torch.from_numpy(feature_ND[start : start + _BLOCK]).to(predictor.arithmetic.device)
                logit_NC[start : start + _BLOCK] = frozen.head(block).cpu().numpy()
    is_finite = np.isfinite(logit_NC).all(axis=1)
    failures = [(row, error.what) for row, error in errors]
    failures += [(row, "the model gives no finite score for it") for row in row_N[~is_finite].tolist()]
    if not is_finite.all():
        feature_ND, logit_NC, row_N = feature_ND[is_finite], logit_NC[is_finite], row_N[is_finite]
    calibration = predictor.checkpoint.calibration
    calibrated_NC = logit_NC if calibration is None or not len(row_N) else calibration.apply(logit_NC)
    return _Scores(feature_ND=feature_ND, logit_NC=calibrated_NC, row_N=row_N, failures=failures)


def _both(frozen: Frozen) -> Callable[[torch.Tensor], torch.Tensor]:
    """Features and logits of a model without one linear head, side by side."""
    return lambda pixels: torch.cat([frozen.features(pixels).flatten(1).float(), frozen.logits(pixels)], dim=1)


def _features(predictor: Predictor, images: Images, *, on_batch: Callable[[int], None]) -> Extracted:
    def compute() -> Extracted:
        return _computed(predictor, images, forward=predictor.frozen.features, on_batch=on_batch)

    paths = [name for name in images.names if isinstance(name, Path)]
    cache = cache_of(predictor, paths) if len(paths) == len(images) else None
    if cache is None:
        return compute()
    if cache.is_cached:
        on_batch(len(images))
    return cache.get(compute)


def _computed(
    predictor: Predictor,
    images: Images,
    *,
    forward: Callable[[torch.Tensor], torch.Tensor],
    on_batch: Callable[[int], None],
) -> Extracted:
    """In one table from the first batch on: a pool can be large."""
    preprocessing = predictor.checkpoint.preprocessing
    made_NX, row_N, failures, count = (
        np.zeros((0, 0), np.float32),
        np.zeros(len(images), np.int64),
        list[tuple[int, ImageError]](),
        0,
    )
    for scored in run(
        forward,
        (),
        preprocessing=preprocessing,
        arithmetic=predictor.arithmetic,
        source=from_reader(lambda row: views(images.read(row), preprocessing)),
        rows=range(len(images)),
    ):
        failures += scored.failures
        on_batch(len(scored.rows) + len(scored.failures))
        if not len(scored.rows):
            continue
        if not len(made_NX):
            made_NX = np.empty((len(images), scored.output_ND.shape[1]), np.float32)
        these = slice(count, count + len(scored.rows))
        made_NX[these], row_N[these] = scored.output_ND, scored.rows
        count += len(scored.rows)
    return made_NX[:count], row_N[:count], tuple(failures)


def _reason(label_set: LabelSet, logit_C: np.ndarray, *, column: int, positives_C: np.ndarray, novelty: float) -> str:
    probability = float(sigmoid(logit_C[column]))
    return f"{label_set.names[column]} at {probability:.2f}, {positives_C[column]:,} labelled; novelty {novelty:.2f}"


def _labels(checkpoint: Checkpoint, logit_C: np.ndarray) -> tuple[str, ...]:
    """The classes above their thresholds, highest first."""
    is_predicted_C = decide(sigmoid(logit_C), threshold_C=np.asarray(checkpoint.thresholds))
    return tuple(checkpoint.label_set.names[column] for column in np.argsort(-logit_C, kind="stable") if is_predicted_C[column])
