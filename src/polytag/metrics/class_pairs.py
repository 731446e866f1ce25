"""Pairs of classes: labelled together against predicted together, and the pairs that a model invents or breaks.

Shapes: N images, C classes. A pair counts over the images whose labels of both classes are known.

A model that errs in each class separately also errs in pairs: where it finds 60% of the dogs and 70% of the sofas, it finds both in
42% of their images. A *bond* is invented, or broken, where there are more such errors than the two classes' own errors explain.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from polytag.metrics.exact_tests import SIGNIFICANT, binomial_at_least, hypergeometric_at_least
from polytag.metrics.significance import holm

_BLOCK = 16_384  # images: their counts are exact in float32


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassPairs:
    """Counts of every pair of classes, int64, C x C, over the images in which both labels are known.

    known_CC            these images
    present_CC          labelled with the class of the row
    predicted_CC        predicted as the class of the row
    found_CC            both: labelled with it and predicted as it
    both_present_CC     labelled with both classes
    both_predicted_CC   predicted as both
    kept_CC             labelled with both and predicted as both

    The diagonal holds the class alone. All but the second to fourth are symmetric.
    """

    known_CC: np.ndarray
    present_CC: np.ndarray
    predicted_CC: np.ndarray
    found_CC: np.ndarray
    both_present_CC: np.ndarray
    both_predicted_CC: np.ndarray
    kept_CC: np.ndarray

    @property
    def invented_CC(self) -> np.ndarray:
        """Images predicted as both classes that are not labelled with both."""
        return self.both_predicted_CC - self.kept_CC

    @property
    def broken_CC(self) -> np.ndarray:
        """Images labelled with both classes that are not predicted as both."""
        return self.both_present_CC - self.kept_CC

    @cached_property
    def expected_invented_CC(self) -> np.ndarray:
        """Invented pairs that the classes' own recalls and false positive rates explain, if independent given the labels."""
        recall_CC, false_CC = self._recall_CC, self._false_positive_rate_CC
        only_CC = self.present_CC - self.both_present_CC  # the class of the row without that of the column
        neither_CC = self.known_CC - self.present_CC - self.present_CC.T + self.both_present_CC
        one_CC = only_CC * recall_CC * false_CC.T
        return one_CC + one_CC.T + neither_CC * false_CC * false_CC.T

    @cached_property
    def expected_broken_CC(self) -> np.ndarray:
        """Broken pairs that the recalls of the two classes explain."""
        return self.both_present_CC * (1 - self._recall_CC * self._recall_CC.T)

    @property
    def _recall_CC(self) -> np.ndarray:
        return self.found_CC / np.maximum(self.present_CC, 1)

    @property
    def _false_positive_rate_CC(self) -> np.ndarray:
        return (self.predicted_CC - self.found_CC) / np.maximum(self.known_CC - self.present_CC, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bonds:
    """p-values of every pair of classes, C x C and symmetric, each kind corrected by Holm; NaN where nothing can be found.

    invented_CC   of at least as many invented pairs, if the classes' errors were independent
    broken_CC     of at least as many broken pairs, if they were
    labelled_CC   of at least as many images labelled with both, if the labels of the two classes were independent
    """

    invented_CC: np.ndarray
    broken_CC: np.ndarray
    labelled_CC: np.ndarray

    @property
    def is_invented_CC(self) -> np.ndarray:
        return self.invented_CC <= SIGNIFICANT

    @property
    def is_broken_CC(self) -> np.ndarray:
        return self.broken_CC <= SIGNIFICANT

    @property
    def is_labelled_CC(self) -> np.ndarray:
        return self.labelled_CC <= SIGNIFICANT


def class_pairs(target_NC: np.ndarray, predicted_NC: np.ndarray) -> ClassPairs:
    """Count every pair of classes, from targets and decisions (boolean N x C); unknown labels (-1) count nowhere."""
    num_classes = target_NC.shape[1]
    known, present, predicted, found, both_present, both_predicted, kept = (
        np.zeros((num_classes, num_classes), np.int64) for _ in range(7)
    )
    for start in range(0, len(target_NC), _BLOCK):
        target_nC = target_NC[start : start + _BLOCK]
        is_known_nC = target_nC >= 0
        is_predicted_nC = predicted_NC[start : start + _BLOCK] & is_known_nC
        present_nC, predicted_nC, found_nC = (
            csr_array(each.astype(np.float32)) for each in (target_nC == 1, is_predicted_nC, is_predicted_nC & (target_nC == 1))
        )
        is_partial_n = ~is_known_nC.all(axis=1)
        known_nC = is_known_nC[is_partial_n].astype(np.float32)
        known += len(target_nC) - len(known_nC) + (known_nC.T @ known_nC).astype(np.int64)
        for total, each in ((present, present_nC), (predicted, predicted_nC), (found, found_nC)):
            of_complete_C = each[~is_partial_n].sum(axis=0)
            total += (of_complete_C[:, None] + each[is_partial_n].T @ known_nC).astype(np.int64)
        for total, each in ((both_present, present_nC), (both_predicted, predicted_nC), (kept, found_nC)):
            total += (each.T @ each).toarray().astype(np.int64)
    return ClassPairs(
        known_CC=known,
        present_CC=present,
        predicted_CC=predicted,
        found_CC=found,
        both_present_CC=both_present,
        both_predicted_CC=both_predicted,
        kept_CC=kept,
    )


def bonds(pairs: ClassPairs) -> Bonds:
    """Test every pair: exact and one-sided, each of the three questions corrected by Holm over the pairs that can be significant.

    Invented and broken pairs are binomial, with the probability that the classes' own errors give: exact where every image is
    equally likely to be one, and cautious where images differ (Hoeffding 1956). Labels are tested by Fisher's exact test. Images
    count as independent.
    """
    upper = np.triu_indices(len(pairs.known_CC), k=1)
    known_U, both_U = pairs.known_CC[upper], pairs.both_present_CC[upper]
    rows_U, columns_U = pairs.predicted_CC[upper], pairs.predicted_CC.T[upper]
    others_U = known_U - both_U
    invented_U = _binomial(
        pairs.invented_CC[upper],
        trials_U=others_U,
        expected_U=pairs.expected_invented_CC[upper],
        most_U=np.minimum(np.minimum(rows_U, columns_U), others_U),
    )
    broken_U = _binomial(pairs.broken_CC[upper], trials_U=both_U, expected_U=pairs.expected_broken_CC[upper], most_U=both_U)
    labelled_U = _more_than_chance(both_U, pairs.present_CC[upper], pairs.present_CC.T[upper], known_U)

    def table(p_U: np.ndarray) -> np.ndarray:
        p_CC = np.full(pairs.known_CC.shape, np.nan)
        p_CC[upper] = p_CC.T[upper] = p_U
        return p_CC

    return Bonds(invented_CC=table(invented_U), broken_CC=table(broken_U), labelled_CC=table(labelled_U))


def _binomial(num_U: np.ndarray, *, trials_U: np.ndarray, expected_U: np.ndarray, most_U: np.ndarray) -> np.ndarray:
    """Corrected p-values of counts; NaN for pairs in which even the largest count that there can be is not significant."""
    share_U = expected_U / np.maximum(trials_U, 1)
    p_U = binomial_at_least(num_U, trials_U, share_U)
    p_U[binomial_at_least(most_U, trials_U, share_U) > SIGNIFICANT] = np.nan
    return holm(p_U)


def _more_than_chance(both_U: np.ndarray, first_U: np.ndarray, second_U: np.ndarray, known_U: np.ndarray) -> np.ndarray:
    """Corrected p-values of labels that occur together. Fewer than chance gives is no bond, and is not computed."""
    p_U = np.where((first_U > 0) & (second_U > 0), 1.0, np.nan)
    is_more_U = both_U * known_U > first_U * second_U
    p_U[is_more_U] = hypergeometric_at_least(both_U[is_more_U], first_U[is_more_U], second_U[is_more_U], known_U[is_more_U])
    return holm(p_U)
