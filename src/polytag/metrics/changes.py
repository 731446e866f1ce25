"""Images whose decisions changed: right in one run and wrong in another, at the thresholds of each."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, gammaln

from polytag.contracts import Predictions
from polytag.metrics.decisions import decide
from polytag.metrics.groups import Groups
from polytag.metrics.significance import holm


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image whose decision for a class is right in one run and wrong in the other.

    gained                           right in the second run; otherwise right in the first
    present                          whether the image has the class
    probability_first, probability_second   of the class
    """

    id: str
    image_path: str
    gained: bool
    present: bool
    probability_first: float
    probability_second: float


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The changes of a class: how many images each run alone has right, and the images whose probability changed most.

    num_gained   wrong in the first run, right in the second; num_lost the reverse
    p            two-sided, of McNemar's exact test, over images or groups; NaN where the class has no known label
    p_holm       the same, corrected for testing all classes
    images       largest change of probability first; equal ones by id
    """

    num_gained: int
    num_lost: int
    p: float
    p_holm: float
    images: tuple[ChangedImage, ...]

    @property
    def gained(self) -> tuple[ChangedImage, ...]:
        """The listed images that are right in the second run only."""
        return tuple(image for image in self.images if image.gained)

    @property
    def lost(self) -> tuple[ChangedImage, ...]:
        """The listed images that are right in the first run only."""
        return tuple(image for image in self.images if not image.gained)


def changes_of(
    first: Predictions,
    second: Predictions,
    threshold_first_C: np.ndarray,
    threshold_second_C: np.ndarray,
    *,
    num_listed: int = 50,
    groups: Groups | None = None,
) -> tuple[Changes, ...]:
    """The changes of every class between two paired tables; lists up to `num_listed` gained and as many lost images of each class.

    A decision is right if "probability strictly above the threshold" agrees with the target; unknown targets count nowhere. The
    test is over groups of dependent images where they are given. Empty if a table has ranks instead of probabilities.
    """
    if not (first.has_probabilities and second.has_probabilities):
        return ()
    target_NC = first.target_NC
    probability_first_NC, probability_second_NC = first.probability_NC, second.probability_NC
    right_first_NC = decide(probability_first_NC, threshold_C=threshold_first_C) == (target_NC == 1)
    right_second_NC = decide(probability_second_NC, threshold_C=threshold_second_C) == (target_NC == 1)
    change_NC = np.abs(probability_second_NC - probability_first_NC)
    gained_NC = (target_NC >= 0) & right_second_NC & ~right_first_NC
    lost_NC = (target_NC >= 0) & right_first_NC & ~right_second_NC
    num_gained_C, num_lost_C = gained_NC.sum(axis=0), lost_NC.sum(axis=0)
    if groups is None:
        p_C = np.array([mcnemar(int(gained), int(lost)) for gained, lost in zip(num_gained_C, num_lost_C, strict=True)])
    else:
        net_NC = gained_NC.astype(np.int64) - lost_NC
        p_C = np.array([mcnemar_of_groups(np.bincount(groups.group_N, weights=net_N)) for net_N in net_NC.T])
    p_C[~(target_NC >= 0).any(axis=0)] = np.nan
    p_holm_C = holm(p_C)
    found: list[Changes] = []
    for column in range(target_NC.shape[1]):
        listed = [
            row
            for changed_N in (gained_NC[:, column], lost_NC[:, column])
            for row in sorted(np.flatnonzero(changed_N).tolist(), key=lambda row: (-change_NC[row, column], first.ids[row]))[
                :num_listed
            ]
        ]
        listed.sort(key=lambda row: (-change_NC[row, column], first.ids[row]))
        found.append(
            Changes(
                num_gained=int(num_gained_C[column]),
                num_lost=int(num_lost_C[column]),
                p=float(p_C[column]),
                p_holm=float(p_holm_C[column]),
                images=tuple(
                    ChangedImage(
                        id=first.ids[row],
                        image_path=first.image_paths[row] or second.image_paths[row],
                        gained=bool(gained_NC[row, column]),
                        present=bool(target_NC[row, column] == 1),
                        probability_first=float(probability_first_NC[row, column]),
                        probability_second=float(probability_second_NC[row, column]),
                    )
                    for row in listed
                ),
            )
        )
    return tuple(found)


def mcnemar(num_gained: int, num_lost: int) -> float:
    """Two-sided p-value of McNemar's exact test (1947); null hypothesis: gains and losses are equally likely.

    Twice the smaller tail of a binomial of `num_gained + num_lost` draws at one half, at most 1; 1 if nothing changed.
    """
    num_changed = num_gained + num_lost
    return float(min(1.0, 2 * bdtr(min(num_gained, num_lost), num_changed, 0.5)))


def mcnemar_of_groups(net_G: np.ndarray) -> float:
    """Two-sided p-value of the gains minus losses of G groups; null hypothesis: each group's are as likely with the other sign.

    The share of the 2^G choices of signs whose sum is at least as far from 0, counted exactly: the absolute values that get a plus
    have a sum X, and the sum of all is 2 X - S. Groups of one image each give `mcnemar`.
    """
    size_V, num_V = np.unique(np.abs(net_G[net_G != 0]).astype(np.int64), return_counts=True)
    if len(size_V) <= 1:
        return mcnemar(int((net_G > 0).sum()), int((net_G < 0).sum()))
    probability_X = np.ones(1)
    for size, num in zip(size_V.tolist(), num_V.tolist(), strict=True):
        plus_K = np.arange(num + 1)
        of_these_X = np.zeros(size * num + 1)
        of_these_X[::size] = np.exp(gammaln(num + 1) - gammaln(plus_K + 1) - gammaln(num - plus_K + 1) - num * math.log(2))
        probability_X = np.convolve(probability_X, of_these_X)
    sum_X = 2 * np.arange(len(probability_X)) - (len(probability_X) - 1)
    return float(min(1.0, probability_X[np.abs(sum_X) >= abs(round(float(net_G.sum())))].sum()))
