"""A run on a feature table in place of images: a probe on vectors that another program computed, and a run folder as any other.

Shapes: N images, D features, C classes.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from polytag.contracts import Dataset, LabelSet, Preprocessing
from polytag.data.feature_table import FeatureTable, open_feature_table
from polytag.data.groups import group_numbers
from polytag.data.splits import require_trainable
from polytag.errors import PredictionsError, UsageError
from polytag.inference.feature_scores import FeatureClassifier
from polytag.inference.probe import Probe
from polytag.inference.zero_shot import Combined, combine_with_zero_shot, unit_length
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.values import Metrics
from polytag.models.checkpoint import Checkpoint, save_checkpoint
from polytag.own_parts import FEATURES
from polytag.predictions.joining import rows_of_images
from polytag.runs.args import RunArgs, write_args
from polytag.runs.environment import write_environment
from polytag.runs.folder import RunFolder
from polytag.runs.groups import write_groups
from polytag.runs.history import COLUMNS, write_history
from polytag.runs.recipe import Recipe
from polytag.text import markdown, nearest
from polytag.training.callback import Callback
from polytag.training.evaluation import write_results
from polytag.training.label_policy import label_policy
from polytag.training.one_run import RunData, TrainedRun, held
from polytag.training.parts import Parts
from polytag.training.processes import Processes


def require_probe(recipe: Recipe, parts: Parts, *, processes: Processes) -> None:
    """Raises UsageError for what needs images or a network: another recipe, own parts, several processes."""
    problems = {
        "recipe": f"{recipe.name}, {recipe.epochs} epochs" if recipe.epochs else "",
        "parts": ", ".join(parts.records),
        "minutes": f"{recipe.minutes:g}" if recipe.minutes else "",
        "torchrun": f"{processes.count} processes" if processes.count > 1 else "",
    }
    for where, got in problems.items():
        if got:
            raise UsageError(
                "features of another program are trained on by the probe alone",
                where=where,
                got=got,
                expected="the recipe probe, in one process, without parts of your own",
            )


def class_vectors(path: str, label_set: LabelSet, *, num_features: int) -> np.ndarray:
    """float32 C x D of length 1, from a feature table whose ids are the class names.

    Raises DataError for a table that cannot be read, PredictionsError for a class without a row and for vectors of another length.
    """
    table = open_feature_table(path)
    if table.num_features != num_features:
        raise PredictionsError(
            "the vectors of the class names are not in the space of the features",
            where=str(table.path),
            got=f"{table.num_features:,} numbers for each class",
            expected=f"{num_features:,}",
            next_step="compute both with the same model: images with its image tower, names with its text tower",
        )
    row_of = {name: row for row, name in enumerate(table.ids)}
    missing = [name for name in label_set if name not in row_of]
    if missing:
        raise PredictionsError(
            "classes without a vector",
            where=str(table.path),
            got="no row for " + ", ".join(name + nearest(name, table.ids) for name in missing[:6]),
            expected="a row for each class, with its name as the id",
        )
    return unit_length(table.take(np.array([row_of[name] for name in label_set])))


def train_on_features(run: RunFolder, data: RunData, *, args: RunArgs, processes: Processes, callback: Callback) -> TrainedRun:
    """Fit a probe on the features of the training images, and evaluate it on those of the validation images.

    An interrupted run begins again. Images without a row in the table are noted and left out. Raises DataError for a table that
    cannot be read or trained on, PredictionsError where no image is in it.
    """
    with held(run, processes):
        if args.options.group_column:
            write_groups(run, data.dataset)
        write_args(run, args)
        callback.begin(run, args.recipe)
        table = open_feature_table(args.features)
        dataset, rows = _joined(data.dataset, table, callback=callback)
        where = f"{table.path.name}, {table.num_features:,} features"
        write_environment(
            run,
            data_fingerprint=data.dataset.fingerprint,
            validation_fingerprint=dataset.split("val").fingerprint,
            arithmetic="cpu fp32",
            num_threads=torch.get_num_threads(),
            num_processes=1,
            images={"training": where, "validation": where},
            split=data.split,
        )
        callback.phase("features", 0)
        train_M, val_M = dataset.rows_of("train"), dataset.rows_of("val")
        feature_ND = table.take(rows[np.concatenate([train_M, val_M])])
        started = time.monotonic()
        callback.phase("logistic regression", 0)
        train_set, val_set = dataset.take(train_M), dataset.take(val_M)
        num_train = len(train_M)
        head = _fitted(feature_ND[:num_train], train_set, args=args, callback=callback)
        seconds = time.monotonic() - started
        metrics = _evaluated(
            run,
            head,
            dataset=dataset,
            val_set=val_set,
            val_ND=feature_ND[num_train:],
            args=args,
            seconds=seconds,
            callback=callback,
        )
    trained = TrainedRun(folder=run, checkpoint=Checkpoint.read(run.best), metrics=metrics)
    callback.end(run, metrics)
    return trained


def _fitted(feature_ND: np.ndarray, train_set: Dataset, *, args: RunArgs, callback: Callback) -> Probe | Combined:
    """The probe, combined with the zero-shot head where there are vectors of the class names."""
    class_CD = None
    if args.class_features:
        class_CD = class_vectors(args.class_features, train_set.label_set, num_features=feature_ND.shape[1])
        feature_ND = unit_length(feature_ND)
    labels = label_policy(train_set, loss=args.recipe.loss)
    if labels.note:
        callback.note(labels.note)
    probe, how = labels.fit(feature_ND, group_N=group_numbers(train_set), seed=args.recipe.seed)
    callback.note(how)
    if class_CD is None:
        return probe
    combined = combine_with_zero_shot(probe, feature_ND, labels.target_NC, class_CD)
    of_share, of_names = combined.fold_map[combined.share], combined.fold_map[1.0]
    callback.note(
        f"zero-shot: share {combined.share:g}, held-out mAP {of_share:.3f} on training folds; of class names alone {of_names:.3f}"
    )
    return combined


def _joined(dataset: Dataset, table: FeatureTable, *, callback: Callback) -> tuple[Dataset, np.ndarray]:
    """The images that have features, and the row of each in the table."""
    rows, how = rows_of_images(dataset, table.ids, source=str(table.path))
    if how != "id":
        callback.note(f"images and features are joined by {how}")
    missing = np.flatnonzero(rows < 0)
    if not len(missing):
        return dataset, rows
    split_N = np.array(dataset.split_N, dtype=object)
    counts = [
        f"{(split_N[missing] == split).sum():,} of {(split_N == split).sum():,} {split or 'other'}" for split in dataset.splits
    ]
    names = ", ".join(dataset.ids[row] for row in missing[:3]) + (", ..." if len(missing) > 3 else "")
    callback.note(f"images without a row in {table.path.name} are left out ({'; '.join(counts)}): {names}")
    there = np.flatnonzero(rows >= 0)
    if empty := [split for split in ("train", "val") if not (split_N[there] == split).any()]:
        raise PredictionsError(
            f"no image of the split {empty[0]!r} is in the table",
            where=str(table.path),
            got="without a row: " + "; ".join(counts),
            expected="rows of training and of validation images",
            next_step="give the table of all images of the data",
        )
    kept = dataset.take(there)
    require_trainable(kept)
    return kept, rows[there]


def _evaluated(
    run: RunFolder,
    head: Probe | Combined,
    *,
    dataset: Dataset,
    val_set: Dataset,
    val_ND: np.ndarray,
    args: RunArgs,
    seconds: float,
    callback: Callback,
) -> Metrics:
    """Write the checkpoint, read it back, and write what it says of the validation images."""
    recipe, name = args.recipe, Path(args.features).name
    facts: dict[str, object] = {
        "recipe": recipe.name,
        "features": name,
        "epoch": 0,
        "val_map": None,
        "data": dataset.source,
        "data_fingerprint": dataset.fingerprint,
        "num_train": len(dataset.rows_of("train")),
        "num_val": len(val_set),
    }
    tensors = {"head.weight": head.weight_CD, "head.bias": head.bias_C}
    seen_ND = torch.from_numpy(unit_length(val_ND) if isinstance(head, Combined) else val_ND)
    val_map = mean_average_precision(val_set.target_NC, (seen_ND @ head.weight_CD.T + head.bias_C).numpy())
    facts["val_map"] = None if math.isnan(val_map) else round(val_map, 6)
    save_checkpoint(
        run.best,
        tensors=tensors,
        backbone=FEATURES,
        backbone_args={},
        preprocessing=Preprocessing(),
        label_set=dataset.label_set,
        thresholds=(0.5,) * len(dataset.label_set),
        facts=facts,
        num_features=val_ND.shape[1],
        unit_length=isinstance(head, Combined),
        card=lambda checkpoint_id: _card(checkpoint_id, dataset=dataset, num_features=val_ND.shape[1], facts=facts),
    )
    rows = [{**dict.fromkeys(COLUMNS, math.nan), "epoch": 0.0, "val_map": val_map, "seconds": seconds}]
    write_history(run, rows)
    checkpoint = Checkpoint.read(run.best)
    callback.phase("evaluating best/", len(val_set))
    predictions = FeatureClassifier.load(checkpoint).score_dataset(val_set, val_ND)
    shown: Mapping[str, str] = {
        "recipe": recipe.name,
        "features": f"{name}, {val_ND.shape[1]:,} for each image",
        "training time": f"{seconds:.0f} s",
    }
    if isinstance(head, Combined):
        shown = {**shown, "zero-shot": f"share {head.share:g}, by {Path(args.class_features).name}"}
    has_images = any(path.is_file() for path in val_set.paths[:100])
    return write_results(run, predictions, checkpoint=checkpoint, rows=rows, facts=shown, has_images=has_images, callback=callback)


def _card(checkpoint_id: str, *, dataset: Dataset, num_features: int, facts: Mapping[str, object]) -> str:
    """README.md of a checkpoint: the model card."""
    return f"""# A linear classifier on {num_features:,} features, {len(dataset.label_set)} classes

Made by polytag: one sigmoid per class, on vectors that another program computes of each image.

| | |
| --- | --- |
| checkpoint | `{checkpoint_id}` |
| features | {markdown(str(facts["features"]))} |
| data | {facts["num_train"]} training and {facts["num_val"]} validation images, fingerprint `{dataset.fingerprint}` |
| validation mAP | {facts["val_map"]} (unweighted mean over the classes that have a positive) |

Classes: {", ".join(map(markdown, dataset.label_set))}.

Predict with `polytag predict FOLDER --features TABLE`, from features of the same network.
"""
