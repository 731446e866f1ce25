"""How many labels `polytag labels next` saves: a linear probe on voc-mini, images chosen in rounds, beside a random choice.

Frozen features of tf_efficientnet_lite0 at 256 px. Of a pool of 874 labelled photographs 50 are drawn at random; each round fits
the probe on what is labelled, lets a way of choosing take 50 more, and reveals their labels. mAP is that of the probe on the other
874 photographs, over 20 classes. The target is the mean mAP of the random choice with 600 images; a number of labels at which a
seed reaches it is interpolated between rounds. The parts also change places. The rule was chosen on the first two seeds of both
directions, the others have been seen by no choice. Twin on generated features: tests/inference/test_label_choice.py.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from machine import SHARED, VOC_MINI, write
from polytag.contracts import PRESENT
from polytag.data.load import load_dataset
from polytag.inference.feature_cache import features_of
from polytag.inference.label_choice import choose_images
from polytag.inference.predictor import Predictor
from polytag.inference.probe import fit_probe
from polytag.logits import sigmoid
from polytag.metrics.ap import mean_average_precision
from polytag.models.checkpoint import Checkpoint

WEIGHTS = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"
START, ROUND, UNTIL, SEEDS = 50, 50, 600, range(5)
Part = tuple[np.ndarray, np.ndarray]
"""Features and targets."""


def at_random(part: Part, logit_NC: np.ndarray, labelled: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(pool, ROUND, replace=False)


def by_entropy(part: Part, logit_NC: np.ndarray, labelled: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    p_NC = np.clip(sigmoid(logit_NC[pool]), 1e-12, 1 - 1e-12)
    entropy_N = -(p_NC * np.log(p_NC) + (1 - p_NC) * np.log1p(-p_NC)).sum(axis=1)
    return pool[np.argsort(-entropy_N, kind="stable")[:ROUND]]


def by_k_center(part: Part, logit_NC: np.ndarray, labelled: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each time the image that is farthest from all that are labelled or chosen (Sener and Savarese, ICLR 2018)."""
    return by_distance(np.ones(len(part[0])), part, labelled, pool)


def before(part: Part, logit_NC: np.ndarray, labelled: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`labels next` until 2026-12-01: entropy of rare classes times the third power of the distance."""
    p_NC = np.clip(sigmoid(logit_NC.astype(np.float64)), 1e-12, 1 - 1e-12)
    entropy_NC = -(p_NC * np.log(p_NC) + (1 - p_NC) * np.log1p(-p_NC))
    positives_C = (part[1][labelled] == PRESENT).sum(axis=0)
    return by_distance(entropy_NC @ (1 / np.sqrt(1 + positives_C)), part, labelled, pool, power=3)


def by_distance(value_N: np.ndarray, part: Part, labelled: np.ndarray, pool: np.ndarray, *, power: int = 1) -> np.ndarray:
    """Each time the image with the largest value times a power of 1 - cosine, of standardised features, to what is there."""
    unit_ND = (part[0] - part[0].mean(axis=0)) / np.maximum(part[0].std(axis=0), 1e-6)
    unit_ND /= np.linalg.norm(unit_ND, axis=1, keepdims=True)
    distance_N, chosen = 1 - (unit_ND @ unit_ND[labelled].T).max(axis=1), []
    for _ in range(ROUND):
        gain_N = value_N * distance_N.clip(0) ** power
        gain_N[[*labelled, *chosen]] = -1.0
        chosen.append(int(gain_N.argmax()))
        distance_N = np.minimum(distance_N, 1 - unit_ND @ unit_ND[chosen[-1]])
    return np.array(chosen)


def by_labels_next(
    part: Part, logit_NC: np.ndarray, labelled: np.ndarray, pool: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    positives_C = (part[1][labelled] == PRESENT).sum(axis=0)
    chosen = choose_images(part[0][pool], logit_NC[pool], labelled_MD=part[0][labelled], positives_C=positives_C, budget=ROUND)
    return pool[chosen.row_K]


CHOICES: dict[str, Callable[..., np.ndarray]] = {
    "random": at_random,
    "labels next": by_labels_next,
    "before": before,
    "k-center": by_k_center,
    "entropy": by_entropy,
}


def curve(choose: Callable[..., np.ndarray], part: Part, judge: Part, *, seed: int) -> list[float]:
    """mAP with 50, 100, ... 600 labels."""
    rng = np.random.default_rng(seed)
    labelled = rng.permutation(len(part[0]))[:START]
    found: list[float] = []
    while True:
        probe = fit_probe(part[0][labelled], part[1][labelled], seed=seed)
        weight_CD, bias_C = probe.weight_CD.numpy(), probe.bias_C.numpy()
        found.append(mean_average_precision(judge[1], judge[0] @ weight_CD.T + bias_C))
        if len(labelled) >= UNTIL:
            return found
        pool = np.setdiff1d(np.arange(len(part[0])), labelled)
        labelled = np.concatenate([labelled, choose(part, part[0] @ weight_CD.T + bias_C, labelled, pool, rng)])


def labels_needed(curve_R: list[float], target: float) -> float | None:
    """Where a curve first reaches the target, between two rounds; None where it does not."""
    for place, value in enumerate(curve_R):
        if value >= target:
            before = curve_R[place - 1] if place else value
            share = 1.0 if value == before else (target - before) / (value - before)
            return START + ROUND * (place - 1 + share) if place else float(START)
    return None


def in_one_direction(part: Part, judge: Part, *, choices: list[str]) -> dict[str, object]:
    curves = {name: [curve(CHOICES[name], part, judge, seed=seed) for seed in SEEDS] for name in choices}
    target = float(np.mean([each[-1] for each in curves["random"]]))
    result: dict[str, object] = {"target_mAP": round(target, 4)}
    for name, found in curves.items():
        needed = [labels_needed(each, target) for each in found]
        mean_R = np.mean(found, axis=0).tolist()
        of_mean = labels_needed(mean_R, target)
        result[name] = {
            "labels_where_the_mean_reaches_it": _whole(of_mean),
            "labels_of_each_seed": [_whole(each) for each in needed],
            "mAP": {str(START + ROUND * place): round(value, 4) for place, value in enumerate(mean_R)},
            "mAP_sd": {str(START + ROUND * place): round(float(sd), 4) for place, sd in enumerate(np.std(found, axis=0, ddof=1))},
        }
        if name != "random":
            paired = np.array(found) - np.array(curves["random"])
            random_R = np.mean(curves["random"], axis=0).tolist()
            result[f"random images that equal {name}"] = {
                str(number): _whole(labels_needed(random_R, mean_R[number // ROUND - 1])) for number in (100, 200, 300)
            }
            result[f"{name} minus random, mAP with 300 labels, each seed"] = np.round(paired[:, 300 // ROUND - 1], 4).tolist()
    return result


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished probe run on voc-mini, in place of training one")
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    torch.set_num_threads(1)  # small problems: a second thread only waits
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or Path(folder) / "run"
        if options.run is None:
            command = [
                sys.executable, "-m", "polytag", "train", str(VOC_MINI), "--recipe", "probe", "--image-size", "256",
                "--backbone", "tf_efficientnet_lite0", "--weights", str(WEIGHTS), "--output", str(run),
            ]  # fmt: skip
            subprocess.run(command, check=True, env={**os.environ, "POLYTAG_CACHE": folder})
        predictor, dataset = Predictor.load(Checkpoint.read(run / "best")), load_dataset(VOC_MINI)
        parts: dict[str, Part] = {}
        for name in ("train", "val"):
            split = dataset.split(name)
            feature_ND, row_N, _ = features_of(predictor, split)
            parts[name] = feature_ND, split.target_NC[row_N]
    result: dict[str, object] = {
        "what": (__doc__ or "").splitlines()[0],
        "seeds": len(SEEDS),
        "pool train, judged on val": in_one_direction(parts["train"], parts["val"], choices=list(CHOICES)),
        "pool val, judged on train": in_one_direction(parts["val"], parts["train"], choices=["random", "labels next", "before"]),
        "load_after": round(os.getloadavg()[0], 2),
    }
    json.dumps(result, allow_nan=False)
    write("labels_next", result)


if __name__ == "__main__":
    main()
