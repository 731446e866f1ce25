"""How evenly iterative stratification divides labels: polytag's against the package iterative-stratification, on 20 data sets.

The package is no dependency: name the folder it was installed into, such as with `pip install --no-deps --target DIR
iterative-stratification`. Each set has 300 to 5,000 images and 10 to 80 classes, from rare to frequent, that occur together. Both
sides divide it into 5 folds, and into training and validation images at 80 to 20. The deviation of a class in a part is its share
of the class's positives against the wanted share, relative to that; the mean is over parts and classes.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from machine import write
from polytag.data.stratify import stratified_parts

NUM_SETS = 20
DIVISIONS = {"5 folds": (0.2,) * 5, "80 to 20": (0.8, 0.2)}


def labels(seed: int) -> np.ndarray:
    """Targets, N x C: classes from rare to frequent, and topics that make them occur together."""
    rng = np.random.default_rng(seed)
    num_images, num_classes = int(rng.integers(300, 5000)), int(rng.integers(10, 80))
    topic_N = rng.integers(0, 8, num_images)
    logit_C = np.log(np.geomspace(0.005, 0.4, num_classes))
    logit_TC = logit_C + rng.normal(0, 1.2, (8, num_classes))
    return (rng.random((num_images, num_classes)) < 1 / (1 + np.exp(-logit_TC[topic_N]))).astype(np.int8)


def deviations(target_NC: np.ndarray, part_N: np.ndarray, share_P: tuple[float, ...]) -> dict[str, float]:
    """Mean relative deviation of the classes' shares, the same for classes with fewer than 5 positives a part, and of the sizes."""
    wanted_P1 = np.asarray(share_P)[:, None]
    count_PC = np.stack([target_NC[part_N == part].sum(axis=0) for part in range(len(share_P))])
    total_C = count_PC.sum(axis=0)
    known = total_C > 0
    off_PC = np.abs(count_PC[:, known] / total_C[known] - wanted_P1) / wanted_P1
    rare = total_C[known] * min(share_P) < 5
    size_P = np.bincount(part_N, minlength=len(share_P)) / len(part_N)
    return {
        "classes": float(off_PC.mean()),
        "rare classes": float(off_PC[:, rare].mean()) if rare.any() else float("nan"),
        "sizes": float((np.abs(size_P - share_P) / share_P).mean()),
    }


def ours(target_NC: np.ndarray, share_P: tuple[float, ...], seed: int) -> np.ndarray:
    return stratified_parts(target_NC, number_N=np.arange(len(target_NC)), share_P=share_P, seed=seed)


def theirs(target_NC: np.ndarray, share_P: tuple[float, ...], seed: int) -> np.ndarray:
    from iterstrat.ml_stratifiers import IterativeStratification

    return IterativeStratification(target_NC.astype(bool), np.asarray(share_P), np.random.RandomState(seed))


def by_chance(target_NC: np.ndarray, share_P: tuple[float, ...], seed: int) -> np.ndarray:
    bounds = np.round(np.cumsum(share_P)[:-1] * len(target_NC)).astype(int)
    part_N = np.searchsorted(bounds, np.arange(len(target_NC)), side="right")
    return np.random.default_rng(seed).permutation(part_N)


SIDES: dict[str, Callable[[np.ndarray, tuple[float, ...], int], np.ndarray]] = {
    "polytag": ours, "iterative-stratification": theirs, "by chance": by_chance,
}  # fmt: skip


def measure(share_P: tuple[float, ...]) -> dict[str, object]:
    found = {side: {"seconds": [], "classes": [], "rare classes": [], "sizes": []} for side in SIDES}
    for seed in range(NUM_SETS):
        target_NC = labels(seed)
        for side, divide in SIDES.items():
            started = time.perf_counter()
            part_N = divide(target_NC, share_P, seed)
            found[side]["seconds"].append(time.perf_counter() - started)
            for name, value in deviations(target_NC, part_N, share_P).items():
                found[side][name].append(value)
    result: dict[str, object] = {
        side: {
            name: {"mean": round(float(np.nanmean(values)), 5), "largest": round(float(np.nanmax(values)), 5)}
            for name, values in numbers.items()
        }
        for side, numbers in found.items()
    }
    pairs = list(zip(found["polytag"]["classes"], found["iterative-stratification"]["classes"], strict=True))
    result["sets where polytag's classes deviate less"] = sum(own < other for own, other in pairs)
    result["median ratio of the classes' deviations"] = round(statistics.median(own / other for own, other in pairs), 4)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="the folder with the package iterative-stratification")
    sys.path.append(str(parser.parse_args().packages))
    warnings.simplefilter("ignore")
    write("splits", {"num_sets": NUM_SETS, **{name: measure(share_P) for name, share_P in DIVISIONS.items()}})
