"""Whether prediction sets chosen with `--goal fnr=RATE` have that false negative rate on other images, and how large they are.

Each division chooses one threshold on n images and measures it on others. Generated: every division is drawn anew, 20 classes with
0.5% to 30% positives, correlated labels and scores, 10% of the labels unknown; scores that rank every class alike, scores on
another scale in every class, and scores that say nothing. Real: a linear probe's scores of voc-mini val, divided at random. "per
class" is the other simple choice, each class's own conformal threshold for its positives. Scenes have 5 images each that depend on
each other. A calibration is fitted on as many other images, or on the images that choose, which the proof excludes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import norm

from machine import VOC_MINI, WEIGHTS, write
from polytag import LabelSet, Predictions, read_predictions
from polytag.calibration import calibrated
from polytag.logits import sigmoid
from polytag.metrics.calibration import fit_calibration
from polytag.metrics.decisions import decide, false_negative_rates
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.groups import Groups, groups_of
from polytag.metrics.risk_control import control_false_negatives

LEVELS = (0.05, 0.1, 0.2)
NUM_CLASSES, PER_SCENE, NUM_TEST = 20, 5, 500
SHARE_C = np.geomspace(0.005, 0.3, NUM_CLASSES)
Scored = tuple[np.ndarray, np.ndarray, Groups | None]
"""Targets, probabilities, and the groups of the images."""


def draw(rng: np.random.Generator, num_images: int, *, kind: str, scenes: bool = False, unknown: float = 0.1) -> Scored:
    """Images from a population that is the same in every call."""
    of_scene = 0.8 if scenes else 0.0
    group_N = np.arange(num_images) // (PER_SCENE if scenes else 1)

    def noise(shared: float) -> np.ndarray:
        """N x C of variance 1: a factor of the image is in all classes, and one of the scene in its images."""
        scene_NC, image_NC = (
            np.sqrt(shared) * rng.normal(size=(num_images, 1)) + np.sqrt(1 - shared) * rng.normal(size=(num_images, NUM_CLASSES))
            for _ in range(2)
        )
        return np.sqrt(of_scene) * scene_NC[group_N] + np.sqrt(1 - of_scene) * image_NC

    true_NC = noise(0.3) >= norm.isf(SHARE_C)
    shift_C = {"one scale": np.full(NUM_CLASSES, 2.5), "a scale a class": np.tile([1.0, 2.0, 3.0, 4.0], 5), "nothing": 0.0}[kind]
    score_NC = noise(0.5) + shift_C * true_NC
    if kind == "a scale a class":
        score_NC = score_NC * np.tile([0.5, 1, 2, 1, 3], 4) + np.tile([-2.0, 0.0, 1.0, 2.0], 5)
    target_NC = np.where(rng.random(true_NC.shape) < unknown, -1, true_NC)
    return target_NC, sigmoid(score_NC - 3), groups_of(group_N.tolist()) if scenes else None


def measured(target_NC: np.ndarray, probability_NC: np.ndarray, threshold: float | np.ndarray, groups: Groups | None = None):
    """The false negative rate, of groups the mean of their means, and the size of the sets."""
    set_NC = decide(probability_NC, threshold_C=threshold)
    rate_N = false_negative_rates(target_NC, set_NC)
    if groups is not None:
        number_G = np.bincount(groups.group_N, weights=~np.isnan(rate_N))
        rate_N = np.bincount(groups.group_N, weights=np.nan_to_num(rate_N))[number_G > 0] / number_G[number_G > 0]
    return np.nanmean(rate_N), set_NC[~np.isnan(false_negative_rates(target_NC, set_NC))].sum(axis=1).mean()


def per_class(target_NC: np.ndarray, probability_NC: np.ndarray, *, level: float) -> np.ndarray:
    """The split-conformal threshold of each class on its own positives: each is lost with at most this probability."""
    threshold_C = np.zeros(target_NC.shape[1])
    for column, (target_N, probability_N) in enumerate(zip(target_NC.T, probability_NC.T, strict=True)):
        positive_P = np.sort(probability_N[target_N == 1])
        if number := int(np.floor(level * (len(positive_P) + 1) + 1e-9)):
            threshold_C[column] = np.nextafter(positive_P[number - 1], 0)
    return threshold_C


def summary(rows: list[tuple[float, float]], *, level: float) -> dict[str, object]:
    rate, size = np.mean(rows, axis=0)
    error = float(np.std(rows, axis=0, ddof=1)[0] / np.sqrt(len(rows)))
    return {
        "false_negative_rate": round(float(rate), 4),
        "standard_error": round(error, 5),
        "spread": round(float(np.std(rows, axis=0, ddof=1)[0]), 4),
        "set_size": round(float(size), 2),
        "within": bool(rate <= level + 3 * error),
    }


def generated(kind: str, num_images: int, *, num_sets: int) -> dict[str, object]:
    rng = np.random.default_rng([num_images, len(kind)])
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(num_sets):
        target_NC, probability_NC, _ = draw(rng, num_images, kind=kind)
        other_NC, score_NC, _ = draw(rng, NUM_TEST, kind=kind)
        for level in LEVELS:
            threshold, _ = control_false_negatives(target_NC, probability_NC, level=level)
            rows.setdefault(f"{level}", []).append(measured(other_NC, score_NC, threshold))
            own_C = per_class(target_NC, probability_NC, level=level)
            rows.setdefault(f"{level}, per class", []).append(measured(other_NC, score_NC, own_C))
    return {name: summary(found, level=float(name.partition(",")[0])) for name, found in rows.items()} | {"num_divisions": num_sets}


def of_scenes(num_images: int, *, num_sets: int) -> dict[str, object]:
    rng = np.random.default_rng(num_images)
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(num_sets):
        target_NC, probability_NC, groups = draw(rng, num_images, kind="one scale", scenes=True)
        other_NC, score_NC, others = draw(rng, NUM_TEST, kind="one scale", scenes=True)
        for level in (0.1, 0.2):
            for name, chosen_by in (("groups", groups), ("images", None)):
                threshold, _ = control_false_negatives(target_NC, probability_NC, level=level, groups=chosen_by)
                rows.setdefault(f"{level}, {name}", []).append(measured(other_NC, score_NC, threshold, others))
    return {name: summary(found, level=float(name.partition(",")[0])) for name, found in rows.items()} | {"num_divisions": num_sets}


def calibrated_first(num_images: int, *, num_sets: int) -> dict[str, object]:
    rng = np.random.default_rng(num_images + 1)
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(num_sets):
        first, second, other = (draw(rng, number, kind="a scale a class") for number in (num_images, num_images, NUM_TEST))
        tables = [table(target_NC, probability_NC) for target_NC, probability_NC, _ in (first, second, other)]
        for name, fitted_on in (("uncalibrated", None), ("calibrated on others", tables[0]), ("on the same", tables[1])):
            calibration = None if fitted_on is None else fit_calibration(fitted_on, num_folds=2).calibration
            chosen, rest = (calibrated(each, calibration) for each in tables[1:])
            for level in LEVELS:
                threshold, _ = control_false_negatives(chosen.target_NC, chosen.probability_NC, level=level)
                found = measured(rest.target_NC, rest.probability_NC, threshold)
                rows.setdefault(f"{level}, {name}", []).append(found)
    return {name: summary(found, level=float(name.partition(",")[0])) for name, found in rows.items()} | {"num_divisions": num_sets}


def divided(predictions: Predictions, num_images: int, *, num_sets: int, calibrate: bool = False) -> dict[str, object]:
    rng = np.random.default_rng(num_images)
    rows: dict[str, list[tuple[float, float]]] = {}
    target_NC = predictions.target_NC
    for _ in range(num_sets):
        order = rng.permutation(len(predictions))
        chosen, rest = order[:num_images], order[num_images:]
        score_NC = predictions.probability_NC
        if calibrate:
            calibration = fit_calibration(predictions.take(chosen), num_folds=2).calibration
            score_NC = sigmoid(calibration.apply(predictions.logit_NC))
        for level in LEVELS:
            threshold, _ = control_false_negatives(target_NC[chosen], score_NC[chosen], level=level)
            rows.setdefault(f"{level}", []).append(measured(target_NC[rest], score_NC[rest], threshold))
            if not calibrate:
                own_C = per_class(target_NC[chosen], score_NC[chosen], level=level)
                rows.setdefault(f"{level}, per class", []).append(measured(target_NC[rest], score_NC[rest], own_C))
    return {name: summary(found, level=float(name.partition(",")[0])) for name, found in rows.items()} | {"num_divisions": num_sets}


def interval(num_images: int, threshold: float, *, scenes: bool, num_sets: int) -> dict[str, object]:
    """How often the 95% interval of `samples_FNR` holds the rate of infinitely many images."""
    rng = np.random.default_rng([num_images, round(1e6 * threshold)])
    target_NC, probability_NC, _ = draw(rng, 200_000, kind="one scale", scenes=scenes)
    truth = measured(target_NC, probability_NC, threshold)[0]
    held, widths = 0, []
    for _ in range(num_sets):
        target_NC, probability_NC, groups = draw(rng, num_images, kind="one scale", scenes=scenes)
        found = evaluate_predictions(table(target_NC, probability_NC), threshold=threshold, num_replicates=0, groups=groups)
        rate = found.means["samples_FNR"]
        held += rate.low <= truth <= rate.high
        widths.append(rate.high - rate.low)
    return {
        "truth": round(float(truth), 4),
        "coverage": round(float(held) / num_sets, 4),
        "width": round(float(np.mean(widths)), 4),
        "num_sets": num_sets,
    }


def table(target_NC: np.ndarray, probability_NC: np.ndarray) -> Predictions:
    return Predictions(
        ids=tuple(map(str, range(len(target_NC)))),
        logit_NC=np.log(probability_NC) - np.log1p(-probability_NC),
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(f"class {column}" for column in range(target_NC.shape[1]))),
    )


def probe_scores() -> Predictions | None:
    """voc-mini val, scored by a linear probe; None without the photographs."""
    if not VOC_MINI.is_dir():
        return None
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable, "-m", "polytag", "train", str(VOC_MINI), "--recipe", "probe", "--backbone", "mobilenetv2_100",
            "--backbone-arg", "pad_type=same", "--weights", str(WEIGHTS), "--output", str(run),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=sys.stderr)
        return read_predictions(run / "predictions-val.parquet")


def cells(predictions: Predictions | None, *, scale: float) -> dict[str, Callable[[], dict[str, object]]]:
    def sets(number: int) -> int:
        return max(2, round(scale * number))

    found: dict[str, Callable[[], dict[str, object]]] = {}
    for kind in ("one scale", "a scale a class", "nothing"):
        for number in (100, 500, 2000):
            found[f"generated, {kind}, {number} images"] = lambda kind=kind, number=number: generated(
                kind, number, num_sets=sets(1000)
            )
    for number in (100, 500):
        found[f"scenes, {number} images"] = lambda number=number: of_scenes(number, num_sets=sets(2000))
    for number in (100, 500):
        found[f"calibrated first, {number} images"] = lambda number=number: calibrated_first(number, num_sets=sets(300))
    if predictions is not None:
        for number in (100, 437):
            found[f"voc-mini, {number} of {len(predictions)} images"] = lambda number=number: divided(
                predictions, number, num_sets=sets(1000)
            )
        found["voc-mini, 437 images, calibrated on the same images"] = lambda: divided(
            predictions, 437, num_sets=sets(300), calibrate=True
        )
    for number in (30, 100, 500):
        for threshold in (0.1, 0.3, 0.5):
            for scenes in (False, True):
                name = f"interval, {number} images{' in scenes' if scenes else ''}, threshold {threshold}"
                found[name] = lambda number=number, threshold=threshold, scenes=scenes: interval(
                    number, threshold, scenes=scenes, num_sets=sets(400)
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of divisions")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    options = parser.parse_args()
    started, results = time.perf_counter(), {}
    predictions = probe_scores() if not options.only or "voc" in options.only else None
    for name, cell in cells(predictions, scale=options.scale).items():
        if options.only in name:
            results[name] = cell()
            print(name, results[name], file=sys.stderr, flush=True)
    result = {"levels": LEVELS, "seconds": round(time.perf_counter() - started), "cells": results}
    if options.only or options.scale != 1:
        print(json.dumps(result, indent=1))
    else:
        write(Path(__file__).stem, result)


if __name__ == "__main__":
    main()
