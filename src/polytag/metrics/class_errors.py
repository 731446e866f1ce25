"""What the errors of a class have in common: other classes, and the size of the object. Arrays in, counts and p-values out.

Shapes: N images, C classes, S sizes. Each question compares the errors with all images that could have been such an error: false
positives with the images labelled without the class, misses with those labelled with it. Images count as independent.
"""

from dataclasses import dataclass

import numpy as np

from polytag.metrics.exact_tests import SIGNIFICANT, hypergeometric_at_least
from polytag.metrics.proportions import wilson
from polytag.metrics.significance import holm

SMALL_BELOW, LARGE_FROM = 0.04, 0.25
"""Shares of the image's area: a fifth and a half of its side."""

SIZES = ("small", "medium", "large")


@dataclass(frozen=True, kw_only=True, eq=False)
class Companions:
    """Other classes among the errors of a class.

    num_C       errors with the other class
    errors_C    errors of which it is known whether they have the other class
    expected_C  how many of them would have it if it were as frequent among the errors as among all possible ones
    p_C         of at least as many by chance (Fisher's exact test, one-sided), corrected by Holm over the classes; NaN for the
                class itself, and for classes that all or none of the possible errors have
    """

    num_C: np.ndarray
    errors_C: np.ndarray
    expected_C: np.ndarray
    p_C: np.ndarray

    @property
    def is_more_C(self) -> np.ndarray:
        """Whether there are more than chance explains."""
        return self.p_C <= SIGNIFICANT

    @property
    def most_first(self) -> list[int]:
        """Columns with an error, the largest excess over chance first."""
        found = np.flatnonzero((self.num_C > 0) & ~np.isnan(self.p_C))
        return found[np.argsort(-(self.num_C - self.expected_C)[found], kind="stable")].tolist()


def companions(
    is_error_N: np.ndarray, *, is_possible_N: np.ndarray, has_NC: np.ndarray, is_known_NC: np.ndarray, own: int
) -> Companions:
    """Count the errors that have each class, and test whether they are more than chance explains.

    is_error_N      the errors of the class `own`; all of them are possible
    is_possible_N   the images that could have been such an error
    has_NC          whether an image has a class: labelled, or predicted
    is_known_NC     whether that is known
    """
    assert not (is_error_N & ~is_possible_N).any()
    known_mC, has_mC = is_known_NC[is_possible_N], has_NC[is_possible_N] & is_known_NC[is_possible_N]
    is_error_m = is_error_N[is_possible_N]
    total_C, marked_C = known_mC.sum(axis=0), has_mC.sum(axis=0)
    errors_C, num_C = known_mC[is_error_m].sum(axis=0), has_mC[is_error_m].sum(axis=0)
    p_C = hypergeometric_at_least(num_C, errors_C, marked_C, total_C)
    p_C[(marked_C == 0) | (marked_C == total_C) | (errors_C == 0)] = np.nan
    p_C[own] = np.nan
    expected_C = errors_C * marked_C / np.maximum(total_C, 1)
    return Companions(num_C=num_C, errors_C=errors_C, expected_C=expected_C, p_C=holm(p_C))


@dataclass(frozen=True, kw_only=True, eq=False)
class RecallBySize:
    """Recall of a class by the area of its largest object in the image, over the positives whose object has a size.

    num_S, found_S        positives, and those of them that are found, of each size of SIZES
    recall_S, low_S, high_S   with 95% Wilson intervals; NaN without a positive
    p_S                   of at least as many misses of this size if size did not matter (Fisher's exact test, one-sided, corrected
                          by Holm over the sizes); NaN where all positives with a size, or none, are of this size
    """

    num_S: np.ndarray
    found_S: np.ndarray
    recall_S: np.ndarray
    low_S: np.ndarray
    high_S: np.ndarray
    p_S: np.ndarray


def recall_by_size(area_P: np.ndarray, is_found_P: np.ndarray) -> RecallBySize:
    """Recall of small, medium and large objects; `area_P` are shares of the image in (0, 1], NaN without a box."""
    number_P = np.searchsorted([SMALL_BELOW, LARGE_FROM], area_P, side="right")
    number_P[np.isnan(area_P)] = len(SIZES)
    num_S = np.bincount(number_P, minlength=len(SIZES) + 1)[: len(SIZES)]
    found_S = np.bincount(number_P[is_found_P], minlength=len(SIZES) + 1)[: len(SIZES)]
    low_S, high_S = wilson(found_S, num_S)
    return RecallBySize(
        num_S=num_S,
        found_S=found_S,
        recall_S=np.divide(found_S, num_S, out=np.full(len(SIZES), np.nan), where=num_S > 0),
        low_S=low_S,
        high_S=high_S,
        p_S=holm(more_misses(num_S, found_S)),
    )


def more_misses(num_S: np.ndarray, found_S: np.ndarray) -> np.ndarray:
    """p-values of the misses of each part of the positives if misses were spread evenly, not corrected; NaN for none and for all.

    Fisher's exact test, one-sided: of all positives of the S parts together, as many as the part has are drawn.
    """
    total, num_misses_S = num_S.sum(), num_S - found_S
    p_S = hypergeometric_at_least(num_misses_S, num_S, num_misses_S.sum(), total)
    p_S[(num_S == 0) | (num_S == total)] = np.nan
    return p_S
