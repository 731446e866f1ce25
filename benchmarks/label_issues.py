"""How many planted wrong labels stand at the top of the list of label issues: voc-mini val, a linear probe's held-out scores.

Known labels are flipped at random, class by class, and the list is made again from the same scores. Twice: 5% of the labels that
say present and 5% of those that say absent ("both"); and, as labels that say absent are seldom wrong that often, 5% of those that
say present and as many of the others ("equal"). At the number planted, precision and recall of a list are one number. The labels
of voc-mini that were wrong before count against it. Training images are scored out-of-fold after their labels were flipped.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from machine import VOC_MINI, WEIGHTS, write
from polytag import Dataset, LabelSet, Predictions, read_predictions
from polytag.allocator import keep_freed_memory
from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.inference.out_of_fold import training_images
from polytag.inference.predictor import Predictor, extract_features
from polytag.inference.probe import fit_probe
from polytag.logits import sigmoid
from polytag.metrics.calibration import fit_calibration
from polytag.metrics.label_issues import LabelIssues, find_label_issues
from polytag.models.checkpoint import Checkpoint
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import Recipe

SHARE, SEEDS = 0.05, range(5)
DIRECTIONS = {"labelled present, in truth absent": PRESENT, "labelled absent, in truth present": ABSENT}


Labelled = TypeVar("Labelled", Predictions, Dataset)


def plant(labelled: Labelled, *, kind: str, seed: int) -> tuple[Labelled, np.ndarray]:
    """The same with flipped labels, and which ones they are."""
    rng = np.random.default_rng(seed)
    target_NC, planted_NC = labelled.target_NC.copy(), np.zeros(labelled.target_NC.shape, bool)
    for column in range(target_NC.shape[1]):
        present, absent = (np.flatnonzero(labelled.target_NC[:, column] == value) for value in (PRESENT, ABSENT))
        num_present = round(SHARE * len(present))
        num_absent = num_present if kind == "equal" else round(SHARE * len(absent))
        planted_NC[rng.choice(present, num_present, replace=False), column] = True
        planted_NC[rng.choice(absent, num_absent, replace=False), column] = True
    target_NC[planted_NC] = 1 - target_NC[planted_NC]
    return replace(labelled, target_NC=target_NC), planted_NC


def found_at_the_number_planted(found: LabelIssues, planted_NC: np.ndarray, target_NC: np.ndarray) -> dict[str, dict[str, float]]:
    """For each direction: the share of planted ones among the first as many, of one list over all classes and of a list a class."""
    column_of = {name: column for column, name in enumerate(found.label_set)}
    result: dict[str, dict[str, float]] = {}
    for direction, given in DIRECTIONS.items():
        number = int((planted_NC & (target_NC == given)).sum())
        listed = [each for each in found.issues if each.given == given][:number]
        in_class = 0
        for part in found.classes:
            column = column_of[part.name]
            of_class = int((planted_NC[:, column] & (target_NC[:, column] == given)).sum())
            in_class += sum(planted_NC[each.row, column] for each in (part.present if given else part.absent)[:of_class])
        counted = [each for each in found.issues if each.given == given and each.is_counted]
        hits = sum(planted_NC[each.row, column_of[each.class_name]] for each in counted)
        estimated = [part.wrong_present if given else part.wrong_absent for part in found.classes if not part.reason]
        columns = [column_of[part.name] for part in found.classes if not part.reason]
        result[direction] = {
            "planted": number,
            "at_random": number / int((target_NC == given).sum()),
            "one_list": sum(planted_NC[each.row, column_of[each.class_name]] for each in listed) / number,
            "list_a_class": in_class / number,
            "counted_precision": hits / max(len(counted), 1),
            "counted_recall": hits / number,
            "planted_where_estimated": int((planted_NC & (target_NC == given))[:, columns].sum()),
            "estimated": float(sum(estimated)),
            "num_classes_estimated": len(columns),
        }
    return result


def cleanlab_label_issues(predictions: Predictions) -> dict[str, np.ndarray]:
    """cleanlab's `find_label_issues` (confident_learning) on the same calibrated probabilities: by class, rows of N.

    It has no floor of 1/2 and no fewest number of positives. Unknown labels are left out.
    """
    from cleanlab.filter import find_label_issues as find_with_cleanlab

    fit = fit_calibration(predictions, method="platt")
    found: dict[str, np.ndarray] = {}
    for column, name in enumerate(predictions.label_set):
        rows = np.flatnonzero(predictions.target_NC[:, column] != UNKNOWN)
        target_n = predictions.target_NC[rows, column].astype(np.int64)
        probability_n = sigmoid(fit.cross_fitted_logit_NC[rows, column])
        if len(np.unique(target_n)) < 2:
            found[name] = np.zeros(0, np.int64)
            continue
        table_n2 = np.stack([1 - probability_n, probability_n], axis=1)
        issue_n = find_with_cleanlab(target_n, table_n2, filter_by="confident_learning", n_jobs=1)
        found[name] = rows[np.asarray(issue_n, bool)]
    return found


def cleanlab_at(flipped: Predictions, planted_NC: np.ndarray) -> dict[str, dict[str, float]]:
    rows = cleanlab_label_issues(flipped)
    issue_NC = np.zeros(planted_NC.shape, bool)
    for column, name in enumerate(flipped.label_set):
        issue_NC[rows[name], column] = True
    result: dict[str, dict[str, float]] = {}
    for direction, given in DIRECTIONS.items():
        of_this = flipped.target_NC == given
        hits, number = int((issue_NC & planted_NC & of_this).sum()), int((issue_NC & of_this).sum())
        result[direction] = {
            "found": number,
            "precision": hits / max(number, 1),
            "recall": hits / int((planted_NC & of_this).sum()),
        }
    return result


def over_seeds(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        direction: {
            key: {
                "mean": round(float(np.mean([run[direction][key] for run in runs])), 4),
                "low": round(float(min(run[direction][key] for run in runs)), 4),
                "high": round(float(max(run[direction][key] for run in runs)), 4),
            }
            for key in runs[0][direction]
        }
        for direction in DIRECTIONS
    }


def features_of_training_images(run: Path) -> tuple[np.ndarray, Dataset, Recipe]:
    dataset, recipe = training_images(RunFolder(path=run))
    predictor = Predictor.load(Checkpoint.read(run / "best"))
    feature_ND, rows, _ = extract_features(
        predictor.model, dataset, preprocessing=predictor.checkpoint.preprocessing, arithmetic=predictor.arithmetic
    )
    return feature_ND, dataset.take(rows), recipe


def out_of_fold_with_wrong_labels(run: Path) -> list[dict[str, dict[str, float]]]:
    """Training images: flipped first, then scored by fits that learned from other images, whose labels were flipped too."""
    feature_ND, dataset, recipe = features_of_training_images(run)
    runs = []
    for seed in SEEDS:
        flipped, planted_NC = plant(dataset, kind="equal", seed=seed)
        predictions = Predictions(
            ids=flipped.ids,
            logit_NC=fit_probe(feature_ND, flipped.target_NC, seed=recipe.seed).held_out_logit_NC,
            target_NC=flipped.target_NC,
            label_set=flipped.label_set,
        )
        found = find_label_issues(predictions, top=len(flipped))
        runs.append(found_at_the_number_planted(found, planted_NC, flipped.target_NC))
    return runs


HEAVY = {  # share of labels that say present that are flipped, and of those that say absent, by class
    "40% of the labels that say present are missing": lambda rng: (0.4, 0.0),
    "0 to 70% of them, by class": lambda rng: (rng.uniform(0, 0.7), 0.0),
    "5% or 60% of them, by class": lambda rng: (rng.choice([0.05, 0.6]), 0.0),
    "30% of all labels are flipped": lambda rng: (0.3, 0.3),
}


def orders_under_heavy_noise(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Training images: the share of planted labels among the first as many of one list, calibrated or the model's own."""
    feature_ND, dataset, recipe = features_of_training_images(run)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for noise, shares_of in HEAVY.items():
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            planted_NC = np.zeros(dataset.target_NC.shape, bool)
            for column in range(planted_NC.shape[1]):
                for value, share in zip((PRESENT, ABSENT), shares_of(rng), strict=True):
                    rows = np.flatnonzero(dataset.target_NC[:, column] == value)
                    planted_NC[rng.choice(rows, round(share * len(rows)), replace=False), column] = True
            target_NC = np.where(planted_NC, 1 - dataset.target_NC, dataset.target_NC).astype(np.int8)
            predictions = Predictions(
                ids=dataset.ids,
                logit_NC=fit_probe(feature_ND, target_NC, seed=recipe.seed).held_out_logit_NC,
                target_NC=target_NC,
                label_set=dataset.label_set,
            )
            calibrated_NC = fit_calibration(predictions, method="platt").cross_fitted_logit_NC
            for order, logit_NC in (("calibrated", calibrated_NC), ("the model's own", predictions.logit_NC)):
                for direction, given in DIRECTIONS.items():
                    planted = planted_NC[target_NC == given]
                    first = np.argsort(-logit_NC[target_NC == given] if given == ABSENT else logit_NC[target_NC == given])
                    if planted.any():
                        found.setdefault(f"{direction}, {order}", []).append(float(planted[first[: planted.sum()]].mean()))
        result[noise] = {
            name: {"mean": round(float(np.mean(values)), 4), "low": round(min(values), 4), "high": round(max(values), 4)}
            for name, values in found.items()
        }
    return result


def seconds_of_many() -> float:
    """Of the label issues of 100,000 images and 80 classes."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((100_000, 80)) < rng.uniform(0.002, 0.1, 80)).astype(np.int8)
    predictions = Predictions(
        ids=tuple(map(str, range(100_000))),
        logit_NC=(rng.normal(0, 1.5, target_NC.shape) + 4 * target_NC - 4).astype(np.float32),
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(f"class {column}" for column in range(80))),
    )
    started = time.perf_counter()
    find_label_issues(predictions)
    return time.perf_counter() - started


def train_probe(folder: Path) -> Path:
    command = [
        str(Path(sys.executable).with_name("polytag")), "train", str(VOC_MINI), "--recipe", "probe", "--backbone",
        "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--weights", str(WEIGHTS), "--output", str(folder),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished probe run on voc-mini, in place of training one")
    options = parser.parse_args()
    keep_freed_memory()  # as the commands do
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or train_probe(Path(folder) / "run")
        predictions = read_predictions(run / "predictions-val.parquet")
        training = out_of_fold_with_wrong_labels(run)
        heavy = orders_under_heavy_noise(run)
    before = find_label_issues(predictions)
    estimated = [part for part in before.classes if not part.reason]
    result: dict[str, object] = {
        "what": "voc-mini val (874 images, 20 classes), linear probe on mobilenetv2_100 (ImageNet)",
        "share_flipped": SHARE,
        "seeds": len(SEEDS),
        "estimated_before_planting": {
            "num_classes": len(estimated),
            "wrong_present": round(sum(part.wrong_present for part in estimated), 1),
            "wrong_absent": round(sum(part.wrong_absent for part in estimated), 1),
        },
    }
    for kind in ("equal", "both"):
        runs, peers = [], []
        for seed in SEEDS:
            flipped, planted_NC = plant(predictions, kind=kind, seed=seed)
            found = find_label_issues(flipped, top=len(flipped))
            runs.append(found_at_the_number_planted(found, planted_NC, flipped.target_NC))
            if importlib.util.find_spec("cleanlab"):
                peers.append(cleanlab_at(flipped, planted_NC))
        result[kind] = over_seeds(runs)
        if peers:
            result[f"{kind}, cleanlab"] = over_seeds(peers)
    result["equal, training images out-of-fold"] = over_seeds(training)
    result["heavy noise, training images out-of-fold, one list over all classes"] = heavy
    result["seconds_of_100000_x_80"] = round(seconds_of_many(), 1)
    write("label_issues", result)


if __name__ == "__main__":
    main()
