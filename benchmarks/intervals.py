"""How often 95% intervals of AP, mAP, ROC AUC and differences hold the truth, and how often equal runs are marked, by simulation.

The truth is known: positives of a class score `shift` standard deviations higher than negatives, so that the AP of infinitely many
images is an integral. Images share a factor of their labels (correlation 0.3) and one of their scores (0.5) over all classes.
A weak, medium, strong and perfect class has a shift of 0.7, 1.5, 3 and 6. Every data set is drawn anew.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.stats import norm

from machine import write
from polytag import predictions_from_arrays
from polytag.metrics.ap import average_precision, of_every_class, roc_auc_of
from polytag.metrics.auc_intervals import auc_intervals, influences, logit_interval
from polytag.metrics.bootstrap import bootstrap_ap, replicate_ap, weights_of
from polytag.metrics.groups import groups_of
from polytag.metrics.intervals import difference_intervals, estimates_of
from polytag.metrics.significance import holm, same_rankings, swap_test
from polytag.metrics.weighted import weighted_metrics

NUM_REPLICATES = 200
SHIFTS = {"weak": 0.7, "medium": 1.5, "strong": 3.0, "perfect": 6.0}
NUM_POSITIVES = (1, 3, 5, 10, 30, 100)
NUM_SETS = {200: 200, 500: 100, 2000: 40}


@cache
def true_ap(share: float, shift: float) -> float:
    """The AP of infinitely many images: precision integrated over recall."""
    threshold = np.linspace(-9, shift + 9, 40_001)
    recall, false = norm.sf(threshold - shift), norm.sf(threshold)
    return float(-np.trapezoid(share * recall / (share * recall + (1 - share) * false), recall))


def draw_targets(rng: np.random.Generator, num_images: int, num_positives_C: np.ndarray, *, is_exact: bool) -> np.ndarray:
    """Targets with this number of positives, or with a share of images that gives it on average."""
    latent_NC = np.sqrt(0.3) * rng.normal(size=(num_images, 1)) + np.sqrt(0.7) * rng.normal(size=(num_images, len(num_positives_C)))
    if is_exact:
        least_C = np.array([np.sort(column)[-number] for column, number in zip(latent_NC.T, num_positives_C, strict=True)])
    else:
        least_C = norm.isf(num_positives_C / num_images)
    return (latent_NC >= least_C).astype(np.int8)


def draw_scores(rng: np.random.Generator, target_NC: np.ndarray, shift_C: np.ndarray, *, shared: float = 0.5) -> np.ndarray:
    noise_NC = np.sqrt(shared) * rng.normal(size=(len(target_NC), 1)) + np.sqrt(1 - shared) * rng.normal(size=target_NC.shape)
    return noise_NC + shift_C * target_NC


def single(
    num_images: int, num_positives: Sequence[int], shift: Sequence[float], *, num_classes: int, num_sets: int, is_exact: bool = True
) -> dict[str, object]:
    """Coverage of one run: of the interval of every class, and of that of mAP."""
    rng = np.random.default_rng(list(str((num_images, num_positives, shift, num_classes)).encode()))
    num_positives_C, shift_C = np.resize(np.array(num_positives), num_classes), np.resize(np.array(shift), num_classes)
    truth_C = np.array([true_ap(number / num_images, each) for number, each in zip(num_positives_C, shift_C, strict=True)])
    class_held, class_number, held, inside, rows = 0, 0, 0, 0, []
    for number in range(num_sets):
        target_NC = draw_targets(rng, num_images, num_positives_C, is_exact=is_exact)
        score_NC = draw_scores(rng, target_NC, shift_C)
        ap_C = average_precision(target_NC, score_NC)
        found = bootstrap_ap(target_NC, score_NC, num_replicates=NUM_REPLICATES, seed=number)
        defined = ~np.isnan(ap_C)
        truth, value = truth_C[defined].mean(), ap_C[defined].mean()
        class_held += int(((found.low_C <= truth_C) & (truth_C <= found.high_C))[defined].sum())
        class_number += int(defined.sum())
        held += found.mean_low <= truth <= found.mean_high
        inside += found.mean_low <= value <= found.mean_high and bool(
            ((found.low_C <= ap_C) & (ap_C <= found.high_C))[defined].all()
        )
        left_out_C = estimates_of(target_NC, score_NC, ap_C=ap_C).left_out_C
        rows.append((truth, value, np.nanmean(left_out_C), found.mean_high - found.mean_low))
    truth, value, left_out, width = np.mean(rows, axis=0)
    return {
        "coverage_of_ap": round(class_held / class_number, 4),
        "coverage_of_mAP": round(held / num_sets, 4),
        "value_inside": round(inside / num_sets, 4),
        "width_of_mAP": round(float(width), 4),
        "true_mAP": round(float(truth), 4),
        "bias": round(float(value - truth), 4),
        "estimated_bias": round(float(value - left_out), 4),
        "num_sets": num_sets,
    }


def paired(
    num_images: int, num_positives: int, shifts: tuple[float, float], *, num_classes: int, num_sets: int
) -> dict[str, object]:
    """Coverage of the difference of two runs that find the same images hard."""
    rng = np.random.default_rng(list(str((num_images, num_positives, shifts, num_classes)).encode()))
    number_C = np.full(num_classes, num_positives)
    truth = true_ap(num_positives / num_images, shifts[1]) - true_ap(num_positives / num_images, shifts[0])
    class_held, held, widths = [], 0, []
    for number in range(num_sets):
        target_NC = draw_targets(rng, num_images, number_C, is_exact=True)
        hard_NC = draw_scores(rng, target_NC, 0 * number_C)
        runs = [np.sqrt(0.5) * hard_NC + np.sqrt(0.5) * rng.normal(size=hard_NC.shape) + shift * target_NC for shift in shifts]
        weight_NB = weights_of(num_images, num_replicates=NUM_REPLICATES, seed=number)
        first_BC, second_BC = (replicate_ap(target_NC, weight_NB, score_NC=score_NC) for score_NC in runs)
        first, second = (estimates_of(target_NC, score_NC, ap_C=average_precision(target_NC, score_NC)) for score_NC in runs)
        found = difference_intervals(second_BC - first_BC, first, second, same_C=same_rankings(target_NC, *runs))
        class_held.append(np.mean((found.low_C <= truth) & (truth <= found.high_C)))
        held += found.mean_low <= truth <= found.mean_high
        widths.append(found.mean_high - found.mean_low)
    return {
        "coverage_of_ap": round(float(np.mean(class_held)), 4),
        "coverage_of_mAP": round(held / num_sets, 4),
        "width_of_mAP": round(float(np.mean(widths)), 4),
        "true_difference": round(truth, 4),
        "num_sets": num_sets,
    }


def marks(shift: float, *, num_images: int = 300, num_pairs: int = 400) -> dict[str, object]:
    """How often a class of two equal runs is marked, alone and with Holm's correction for four classes."""
    rng, number_C = np.random.default_rng(int(10 * shift)), np.array([1, 3, 10, 30])
    alone, corrected = np.zeros(4), np.zeros(4)
    for number in range(num_pairs):
        target_NC = draw_targets(rng, num_images, number_C, is_exact=True)
        hard_NC = draw_scores(rng, target_NC, 0 * number_C)
        first_NC, second_NC = (
            np.sqrt(0.5) * hard_NC + np.sqrt(0.5) * rng.normal(size=hard_NC.shape) + shift * target_NC for _ in range(2)
        )
        p_C = swap_test(target_NC, first_NC, second_NC, num_permutations=499, seed=number).p_C
        alone += p_C <= 0.05
        corrected += holm(p_C) <= 0.05
    names = [str(number) for number in number_C]
    return {
        "one class": dict(zip(names, (alone / num_pairs).round(4).tolist(), strict=True)),
        "four classes, corrected": dict(zip(names, (corrected / num_pairs).round(4).tolist(), strict=True)),
        "num_pairs": num_pairs,
    }


def scenes(
    num_images: int, per_scene: int, num_positives: int, shift: float, *, num_classes: int, num_sets: int
) -> dict[str, object]:
    """Several images a scene, with labels and scores correlated by 0.8 within it: coverage with groups and without, on the same
    data; and how often two equal runs differ in mAP with p at most 0.05."""
    rng = np.random.default_rng(list(str((num_images, per_scene, num_positives, shift)).encode()))
    group_N = np.repeat(np.arange(num_images // per_scene), per_scene)
    truth, by_scene = true_ap(num_positives / num_images, shift), groups_of(group_N.tolist(), column="scene")

    def noise(*, shared: float) -> np.ndarray:
        return _by_scene(rng, group_N, num_classes, shared=shared)

    found = {"images": [], "groups": []}
    for number in range(num_sets):
        target_NC = (noise(shared=0.3) >= norm.isf(num_positives / num_images)).astype(np.int8)
        hard_NC = noise(shared=0.5) + shift * np.sqrt(2) * target_NC
        runs = [(hard_NC + noise(shared=0.5)) / np.sqrt(2) for _ in range(2)]
        defined = ~np.isnan(average_precision(target_NC, runs[0]))
        for name, groups in (("images", None), ("groups", by_scene)):
            held = bootstrap_ap(target_NC, runs[0], num_replicates=NUM_REPLICATES, seed=number, groups=groups)
            p = swap_test(target_NC, *runs, num_permutations=199, seed=number, groups=groups).p_mean
            of_class = ((held.low_C <= truth) & (truth <= held.high_C))[defined].mean()
            found[name].append((of_class, held.mean_low <= truth <= held.mean_high, held.mean_high - held.mean_low, p <= 0.05))
    keys = ("coverage_of_ap", "coverage_of_mAP", "width_of_mAP", "equal_runs_marked")
    return {
        **{name: dict(zip(keys, np.mean(rows, axis=0).round(4).tolist(), strict=True)) for name, rows in found.items()},
        "num_sets": num_sets,
    }


def areas(
    num_images: int,
    num_positives: int,
    shift: float,
    *,
    num_sets: int,
    num_classes: int = 20,
    uneven: bool = False,
    per_scene: int = 1,
) -> dict[str, object]:
    """Coverage of the intervals of ROC AUC, of every class and of the mean, and of DeLong's on the logit scale alone.

    `uneven`: half of the positives score no higher than negatives. With several images a scene, labels and scores are correlated by
    0.8 within it, and there are as many positives on average.
    """
    rng = np.random.default_rng(list(str((num_images, num_positives, shift, uneven, per_scene)).encode()))
    group_N = np.repeat(np.arange(num_images // per_scene), per_scene)
    groups = groups_of(group_N.tolist(), column="scene") if per_scene > 1 else None
    truth = float(norm.cdf(shift / np.sqrt(2)) / (2 if uneven else 1) + (0.25 if uneven else 0))
    rows: list[tuple[float, ...]] = []
    for _ in range(num_sets):
        if groups is None:
            target_NC = draw_targets(rng, num_images, np.full(num_classes, num_positives), is_exact=True)
            score_NC = draw_scores(rng, target_NC, np.zeros(num_classes))
        else:
            latent_NC, score_NC = (_by_scene(rng, group_N, num_classes, shared=shared) for shared in (0.3, 0.5))
            target_NC = (latent_NC >= norm.isf(num_positives / num_images)).astype(np.int8)
        score_NC = score_NC + shift * target_NC * (rng.random(target_NC.shape) < (0.5 if uneven else 1))
        auc_C = np.array(of_every_class(target_NC, score_NC, roc_auc_of))
        found = auc_intervals(target_NC, score_NC, auc_C=auc_C, groups=groups)
        defined = ~np.isnan(auc_C)
        alone = [
            logit_interval(float(auc), float(np.linalg.norm(np.bincount(group_N, weights=influences(target_N, score_N)))))
            for auc, target_N, score_N in zip(auc_C[defined], target_NC.T[defined], score_NC.T[defined], strict=True)
        ]
        inside_C = (found.low_C <= auc_C) & (auc_C <= found.high_C) & (found.low_C < found.high_C)
        rows.append(
            (
                ((found.low_C <= truth) & (truth <= found.high_C))[defined].mean(),
                found.mean_low <= truth <= found.mean_high,
                np.mean([low <= truth <= high for low, high in alone]),
                bool(inside_C[defined].all()) and found.mean_low <= auc_C[defined].mean() <= found.mean_high,
                (found.high_C - found.low_C)[defined].mean(),
                found.mean_high - found.mean_low,
            )
        )
    keys = ("coverage_of_auc", "coverage_of_mean", "coverage_of_DeLong_alone", "value_inside", "width_of_auc", "width_of_mean")
    return {**dict(zip(keys, np.mean(rows, axis=0).round(4).tolist(), strict=True)), "truth": round(truth, 4), "num_sets": num_sets}


def weighted(design: str, num_positives: int, shift: float, *, num_sets: int, num_classes: int = 20) -> dict[str, object]:
    """Coverage of the intervals of weighted images, each weighted by 1 / the probability that it was sampled from 2,000 images.

    random      500 images, weights that depend on nothing: lognormal with sigma 1
    enriched    images of the first half of the classes are all there, and a tenth of the others
    by score    the tenth of the images with the highest mean score is all there, and a tenth of the others
    """
    rng = np.random.default_rng(list(f"{design} {num_positives} {shift}".encode()))
    num_images = 500 if design == "random" else 2000
    truth, true_auc = true_ap(num_positives / num_images, shift), float(norm.cdf(shift / np.sqrt(2)))
    rows: list[tuple[float, ...]] = []
    for number in range(num_sets):
        target_NC = draw_targets(rng, num_images, np.full(num_classes, num_positives), is_exact=True)
        score_NC = draw_scores(rng, target_NC, np.full(num_classes, shift))
        if design == "random":
            weight_N = rng.lognormal(sigma=1, size=num_images)
        else:
            mean_N = score_NC.mean(axis=1)
            whole_N = target_NC[:, : num_classes // 2].any(axis=1) if design == "enriched" else mean_N > np.quantile(mean_N, 0.9)
            kept = np.flatnonzero(whole_N | (rng.random(num_images) < 0.1))
            target_NC, score_NC, weight_N = target_NC[kept], score_NC[kept], np.where(whole_N[kept], 1.0, 10.0)
        table = predictions_from_arrays(target_NC, score_NC, scores="logit")
        found = weighted_metrics(table, weight_N.tolist(), num_replicates=NUM_REPLICATES, seed=number)
        ap, auc, defined = found.means["mAP"], found.means["ROC_AUC"], ~np.isnan(found.ap_C)
        low_C, high_C = found.ap_interval_C2[defined].T
        auc_low_C, auc_high_C = found.roc_auc_interval_C2[defined].T
        rows.append(
            (
                ((low_C <= truth) & (truth <= high_C)).mean(),
                ap.low <= truth <= ap.high,
                ((auc_low_C <= true_auc) & (true_auc <= auc_high_C)).mean(),
                auc.low <= true_auc <= auc.high,
                bool(((low_C <= found.ap_C[defined]) & (found.ap_C[defined] <= high_C)).all()) and ap.low <= ap.value <= ap.high,
                ap.high - ap.low,
                len(target_NC),
                (target_NC == 1).sum(axis=0).mean(),
                found.effective_positives_C.mean(),
            )
        )
    keys = ("coverage_of_ap", "coverage_of_mAP", "coverage_of_auc", "coverage_of_mean_auc", "value_inside", "width_of_mAP")
    keys += ("images", "positives", "effective_positives")
    return {**dict(zip(keys, np.mean(rows, axis=0).round(4).tolist(), strict=True)), "truth": round(truth, 4), "num_sets": num_sets}


def _by_scene(rng: np.random.Generator, group_N: np.ndarray, num_classes: int, *, shared: float) -> np.ndarray:
    """Noise that is correlated by 0.8 within a scene, and by `shared` over the classes."""
    scene_GC, image_NC = (
        draw_scores(rng, np.zeros((number, num_classes)), np.zeros(num_classes), shared=shared)
        for number in (int(group_N.max()) + 1, len(group_N))
    )
    return np.sqrt(0.8) * scene_GC[group_N] + np.sqrt(0.2) * image_NC


def cells(scale: float) -> dict[str, partial[dict[str, object]]]:
    def sets(number: int) -> int:
        return max(2, round(scale * number))

    found: dict[str, partial[dict[str, object]]] = {}
    for num_images, num_sets in NUM_SETS.items():
        for number in NUM_POSITIVES:
            for name, shift in SHIFTS.items():
                key = f"{num_images} images, {number} positives, {name}"
                found[key] = partial(single, num_images, (number,), (shift,), num_classes=20, num_sets=sets(num_sets))
    tail = (1, 3, 3, 5, 10, 30, 100)
    for num_images, num_classes, num_sets in ((500, 20, 100), (2000, 20, 40), (500, 200, 30), (2000, 1000, 4)):
        key = f"{num_images} images, {num_classes} classes, mixed tail, mixed separation"
        mixed = tuple(SHIFTS.values())
        found[key] = partial(single, num_images, tail, mixed, num_classes=num_classes, num_sets=sets(num_sets))
    for number in (3, 10):
        for name in ("medium", "strong"):
            arguments = (500, (number,), (SHIFTS[name],))
            found[f"500 images, 200 classes, {number} positives, {name}"] = partial(
                single, *arguments, num_classes=200, num_sets=sets(30)
            )
            found[f"500 images, {number} positives on average, {name}"] = partial(
                single, *arguments, num_classes=20, num_sets=sets(100), is_exact=False
            )
    for number in (1, 3, 10, 30, 100):
        for shifts in ((1.5, 1.5), (3.0, 3.0), (1.5, 2.0), (2.5, 3.5)):
            key = f"difference, 500 images, {number} positives, shifts {shifts[0]} and {shifts[1]}"
            found[key] = partial(paired, 500, number, shifts, num_classes=20, num_sets=sets(60))
    for per_scene in (5, 10):
        for number in (30, 100):
            for name in ("medium", "strong"):
                key = f"scenes of {per_scene}, 500 images, {number} positives on average, {name}"
                found[key] = partial(scenes, 500, per_scene, number, SHIFTS[name], num_classes=20, num_sets=sets(200))
    for num_images in (500, 2000):
        for number in (3, 10, 30):
            for name, shift in SHIFTS.items():
                key = f"ROC AUC, {num_images} images, {number} positives, {name}"
                found[key] = partial(areas, num_images, number, shift, num_sets=sets(200))
            key = f"ROC AUC, {num_images} images, {number} positives, uneven"
            found[key] = partial(areas, num_images, number, SHIFTS["strong"], num_sets=sets(200), uneven=True)
    for name in ("medium", "strong"):
        key = f"ROC AUC, scenes of 5, 500 images, 30 positives on average, {name}"
        found[key] = partial(areas, 500, 30, SHIFTS[name], num_sets=sets(200), per_scene=5)
    for design in ("random", "enriched", "by score"):
        for number in (3, 10, 30, 100):
            for name, shift in SHIFTS.items():
                key = f"weights {design}, {number} positives, {name}"
                found[key] = partial(weighted, design, number, shift, num_sets=sets(100))
    for name, shift in SHIFTS.items():
        found[f"marks, {name}"] = partial(marks, shift, num_pairs=sets(300))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of data sets")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    chosen = {name: cell for name, cell in cells(options.scale).items() if options.only in name}
    started = time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        found: dict[str, dict[str, object]] = {}
        for name, cell in zip(chosen, pool.map(_run, chosen.values()), strict=True):
            print(name, cell, file=sys.stderr, flush=True)
            found[name] = cell
    seconds = round(time.perf_counter() - started)
    result = {"nominal": 0.95, "num_replicates": NUM_REPLICATES, "seconds": seconds, "cells": found}
    if options.only or options.scale != 1:
        print(json.dumps(result, indent=1))
    else:
        write(Path(__file__).stem, result)


def _run(cell: partial[dict[str, object]]) -> dict[str, object]:
    return cell()


if __name__ == "__main__":
    main()
