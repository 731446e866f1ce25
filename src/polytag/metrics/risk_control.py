"""Prediction sets with a stated risk: one threshold for all classes that controls the expected false negative rate of an image.

The set of an image has the labels whose probability is strictly above the threshold. Its loss is the false negative rate: the share
of the image's present labels that the set lacks. The loss cannot rise as the threshold falls, so conformal risk control applies
(Angelopoulos, Bates, Fisch, Lei, Schuster: *Conformal Risk Control*, ICLR 2024, arXiv:2208.02814, Theorem 1): on n images with a
present label, the threshold is the highest whose mean loss R has (n R + 1) / (n + 1) <= level. If these images and a new one are
exchangeable, the expected loss of the new one is at most the level, whatever the model and whatever n.

Shapes: N images, C classes, P present labels.
"""

import math
from dataclasses import dataclass

import numpy as np

from polytag.contracts import PRESENT, UNKNOWN
from polytag.errors import PredictionsError
from polytag.logits import SMALLEST
from polytag.metrics.decisions import decide
from polytag.metrics.groups import Groups
from polytag.text import counted

_ROUNDING = 1e-9  # of a sum of shares, which a rate of exactly the level must not fail by


@dataclass(frozen=True, kw_only=True)
class RiskControl:
    """The expected false negative rate that a threshold guarantees, and what it rests on.

    level                the expected false negative rate of a new image is at most this; in (0, 1)
    num_images           n: images with a present label on which the threshold was chosen; the others have no rate
    num_needed           the fewest images, or groups, that can guarantee the level
    false_negative_rate  mean on those images, or of the means of those groups; the choice flatters it
    set_size             mean number of known labels in a set, on those images
    group, num_groups    with groups of dependent images, the column and how many have such an image; "" and 0 without
    """

    level: float
    num_images: int
    num_needed: int
    false_negative_rate: float
    set_size: float
    group: str = ""
    num_groups: int = 0

    @property
    def guarantee(self) -> str:
        """What is guaranteed, and what is assumed."""
        whose, these = "of a new image", f"these {self.num_images:,}"
        if self.num_groups:
            whose, these = "of a new group, the mean of its images,", f"these {self.num_groups:,} groups"
        return (
            f"Guaranteed: the expected false negative rate {whose} is at most {self.level:g}, if it and {these} are exchangeable "
            "and the model was neither trained, selected nor calibrated on them. Only images with a present label count."
        )


def control_false_negatives(
    target_NC: np.ndarray, probability_NC: np.ndarray, *, level: float, groups: Groups | None = None, where: str = ""
) -> tuple[float, RiskControl]:
    """The highest threshold, one for all classes, whose prediction sets have an expected false negative rate of at most the level.

    It is the middle of the gap below the lowest label that a set may not lack. With `groups`, the loss of a group is the mean of
    its images, and n is the number of groups. Raises PredictionsError, with the number needed, for n < 1 / level - 1.
    """
    is_present_NC = target_NC == PRESENT
    num_present_N = is_present_NC.sum(axis=1)
    counts_N = num_present_N > 0
    unit_N = np.arange(len(target_NC)) if groups is None else groups.group_N
    num_images_U = np.bincount(unit_N, weights=counts_N)
    num_units, num_needed = int((num_images_U > 0).sum()), max(1, math.ceil(1 / level - 1 - _ROUNDING))
    if num_units < num_needed:
        raise PredictionsError(
            "too few images for this false negative rate",
            where=where,
            got=counted(num_units, "images" if groups is None else "groups") + " with a present label",
            expected=f"at least {num_needed} for a rate of {level:g}",
            next_step="score more labelled images, or allow a higher rate: below this number only the set of all labels is safe",
        )
    image_P, _ = np.nonzero(is_present_NC)
    loss_P = 1 / (num_present_N[image_P] * num_images_U[unit_N[image_P]])  # of a label that is not in the set
    score_P = np.maximum(probability_NC[is_present_NC], SMALLEST)
    order = np.argsort(score_P)
    score_K, first_K = np.unique(score_P[order], return_index=True)
    loss_K = np.append(0, np.cumsum(loss_P[order]))[first_K]  # of a threshold just below each distinct score
    lowest = float(score_K[loss_K + 1 <= level * (num_units + 1) + _ROUNDING][-1])
    threshold = _gap_below(lowest, np.maximum(probability_NC[target_NC != UNKNOWN], SMALLEST))
    size_N = (decide(probability_NC, threshold_C=threshold) & (target_NC != UNKNOWN)).sum(axis=1)
    return threshold, RiskControl(
        level=level,
        num_images=int(counts_N.sum()),
        num_needed=num_needed,
        false_negative_rate=float(loss_K[score_K == lowest][0]) / num_units,
        set_size=float(size_N[counts_N].mean()),
        group="" if groups is None else groups.column,
        num_groups=0 if groups is None else num_units,
    )


def _gap_below(score: float, known_K: np.ndarray) -> float:
    """The middle between a score and the next lower one, or 0."""
    lower = float(known_K[known_K < score].max(initial=0.0))
    middle = (score + lower) / 2
    return middle if middle < score else lower
