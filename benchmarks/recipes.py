"""How often a 95% interval of the difference between two recipes holds the truth, and how often equal recipes have p at most 0.05.

A positive scores `shift` standard deviations higher than a negative. A score is the sum of what every run finds hard in an image
(share 0.5 of its variance), of what every run of a recipe finds hard, and of what a single run does. The shift of a run deviates
from that of its recipe by `spread`, the noise of the seeds. The truth is the difference in expected mAP over all images and seeds.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from intervals import draw_scores, draw_targets, true_ap
from machine import write
from polytag.contracts import LabelSet, Predictions
from polytag.metrics.recipes import compare_recipes

NUM_CLASSES, NUM_REPLICATES = 10, 200


def expected_ap(share: float, shift: float, spread: float) -> float:
    """The mean over runs, whose shifts are normal, by Gauss and Hermite."""
    place_K, weight_K = np.polynomial.hermite_e.hermegauss(9)
    return float(
        sum(weight * true_ap(share, shift + spread * place) for place, weight in zip(place_K, weight_K, strict=True))
        / weight_K.sum()
    )


def recipes(
    num_runs: tuple[int, int],
    *,
    of_recipe: float,
    spread: float,
    shifts: tuple[float, float],
    num_positives: int,
    num_sets: int,
    num_images: int,
) -> dict[str, object]:
    """`of_recipe` is the share of the variance that the runs of a recipe have in common and the other recipe's do not."""
    rng = np.random.default_rng(list(str((num_runs, of_recipe, spread, shifts, num_positives, num_images)).encode()))
    share, nothing = num_positives / num_images, np.zeros(NUM_CLASSES)
    truth = expected_ap(share, shifts[1], spread) - expected_ap(share, shifts[0], spread)
    label_set, rows = LabelSet(names=tuple(f"class {number}" for number in range(NUM_CLASSES))), []
    for number in range(num_sets):
        target_NC = draw_targets(rng, num_images, np.full(NUM_CLASSES, num_positives), is_exact=True)
        hard_NC = draw_scores(rng, target_NC, nothing)
        tables: list[list[Predictions]] = []
        for number_of_runs, shift in zip(num_runs, shifts, strict=True):
            common_NC = np.sqrt(0.5) * hard_NC + np.sqrt(of_recipe) * draw_scores(rng, target_NC, nothing)
            scores = [
                common_NC
                + np.sqrt(0.5 - of_recipe) * draw_scores(rng, target_NC, nothing)
                + (shift + spread * rng.normal()) * target_NC
                for _ in range(number_of_runs)
            ]
            tables.append(
                [
                    Predictions(ids=tuple(map(str, range(num_images))), logit_NC=score_NC, target_NC=target_NC, label_set=label_set)
                    for score_NC in scores
                ]
            )
        found = compare_recipes(*tables, num_replicates=NUM_REPLICATES, num_permutations=999, seed=number)
        rows.append(
            (
                found.low <= truth <= found.high,
                not found.low <= 0 <= found.high,
                found.p <= 0.05,
                found.p <= 0.1,
                found.high - found.low,
                found.se_seeds,
                found.se_images,
                found.value,
            )
        )
    keys = ("coverage", "interval_excludes_0", "p_at_most_0.05", "p_at_most_0.1", "width", "se_seeds", "se_images")
    means = np.mean(rows, axis=0)
    return {
        **dict(zip(keys, means[:-1].round(4).tolist(), strict=True)),
        "sd_of_difference": round(float(np.std([row[-1] for row in rows])), 4),
        "true_difference": round(truth, 4),
        "num_sets": num_sets,
    }


def cells(scale: float) -> dict[str, partial[dict[str, object]]]:
    found: dict[str, partial[dict[str, object]]] = {}
    for num_runs in ((2, 2), (3, 3), (5, 5), (4, 6)):
        for of_recipe, spread, name in (
            (0.0, 0.0, "alike"),
            (0.0, 0.15, "seeds differ"),
            (0.3, 0.0, "recipes differ"),
            (0.3, 0.15, "both differ"),
        ):
            for shifts in ((1.5, 1.5), (1.5, 1.8)):
                if shifts[0] != shifts[1] and name != "both differ":
                    continue
                key = f"{num_runs[0]} and {num_runs[1]} runs, {name}, shifts {shifts[0]} and {shifts[1]}"
                found[key] = partial(
                    recipes, num_runs, of_recipe=of_recipe, spread=spread, shifts=shifts, num_positives=30, num_images=400,
                    num_sets=max(2, round(scale * 300)),
                )  # fmt: skip
    found["5 and 5 runs, 3 positives, both differ, shifts 1.5 and 1.5"] = partial(
        recipes,
        (5, 5),
        of_recipe=0.3,
        spread=0.15,
        shifts=(1.5, 1.5),
        num_positives=3,
        num_images=400,
        num_sets=max(2, round(scale * 300)),
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of data sets")
    options = parser.parse_args()
    started = time.perf_counter()
    found: dict[str, dict[str, object]] = {}
    for name, cell in cells(options.scale).items():
        found[name] = cell()
        print(name, found[name], file=sys.stderr, flush=True)
    seconds = round(time.perf_counter() - started)
    result = {"nominal": 0.95, "num_replicates": NUM_REPLICATES, "num_classes": NUM_CLASSES, "seconds": seconds, "cells": found}
    if options.scale == 1:
        write(Path(__file__).stem, result)
    else:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
