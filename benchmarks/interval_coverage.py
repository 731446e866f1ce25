"""How often the 95% intervals of AP and mAP hold the truth, in a simulation whose truth is known.

Five independent classes of 5 to 30% positives; positives score 1 to 2.5 standard deviations higher. The true AP is an integral;
each data set draws its images, and gets its percentile bootstrap intervals of 500 replicates.
"""

import argparse

import numpy as np
from scipy.stats import norm

from machine import write
from polytag.metrics.bootstrap import intervals_of, replicates, weights_of

SHARE_C = np.array([0.3, 0.2, 0.1, 0.1, 0.05])
SHIFT_C = np.array([1.0, 1.5, 1.5, 2.5, 2.0])


def true_ap(share: float, shift: float) -> float:
    """The AP of infinitely many images: precision integrated over recall."""
    threshold = np.linspace(-9, shift + 9, 400_001)
    recall, false = norm.sf(threshold - shift), norm.sf(threshold)
    return float(-np.trapezoid(share * recall / (share * recall + (1 - share) * false), recall))


def coverage(num_images: int, *, num_sets: int, seed: int = 0) -> dict[str, object]:
    """Share of data sets whose interval holds the truth: of each class's AP, over all of them, and of mAP."""
    truth_C = np.array([true_ap(share, shift) for share, shift in zip(SHARE_C, SHIFT_C, strict=True)])
    rng = np.random.default_rng(seed)
    num_held_C, num_held_mean = np.zeros(len(SHARE_C)), 0
    for number in range(num_sets):
        target_NC = (rng.random((num_images, len(SHARE_C))) < SHARE_C).astype(np.int8)
        score_NC = rng.normal(size=target_NC.shape) + SHIFT_C * target_NC
        weight_NB = weights_of(num_images, num_replicates=500, seed=number)
        found = intervals_of(replicates(target_NC, weight_NB, score_NC=score_NC).ap_BC)
        num_held_C += (found.low_C <= truth_C) & (truth_C <= found.high_C)
        num_held_mean += found.mean_low <= truth_C.mean() <= found.mean_high
    return {
        "num_sets": num_sets,
        "ap_of_each_class": (num_held_C / num_sets).round(4).tolist(),
        "ap": round(float(num_held_C.mean() / num_sets), 4),
        "mAP": round(num_held_mean / num_sets, 4),
        "standard_error_of_mAP": round(float(np.sqrt(0.95 * 0.05 / num_sets)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000)
    num_sets = parser.parse_args().sets
    found = {f"{number} images": coverage(number, num_sets=num_sets) for number in (500, 1000, 3000)}
    write("interval_coverage", {"nominal": 0.95, **found})


if __name__ == "__main__":
    main()
