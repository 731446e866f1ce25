"""Logits to probabilities, and probabilities to logits in exactly their order."""

import numpy as np

LIMIT = 54 * float(np.log(2))
"""The logit of 1 − 2⁻⁵⁴, 37.4: half of float64's last step before 1. No logit of a probability is farther from 0."""


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """float64 probabilities in [0, 1], computed in float64 for any float: 1 / (1 + exp(-logit)) without an overflow.

    The hyperbolic tangent saturates where the exponential overflows. Below a logit of about -37 the result is 0.
    """
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logit, np.float64)))


def logits_of(probability_NC: np.ndarray) -> np.ndarray:
    """Finite float64 logits of probabilities in [0, 1], in exactly their order: equal stay equal, different stay different.

    Logits are within ± LIMIT, including those of 0 and 1. If that limit, or the rounding of the logarithm, would merge two
    different probabilities, the higher one gets the next float64: the AP of the logits is the AP of the probabilities.
    """
    distinct = np.unique(probability_NC)
    logit_NC, ladder = _clipped_logit(probability_NC), _clipped_logit(distinct)
    if (np.diff(ladder) > 0).all() and np.array_equal(np.unique(logit_NC), ladder):
        return logit_NC
    steps = np.arange(len(ladder))
    ladder = _float_of(np.maximum.accumulate(_number_of(ladder) - steps) + steps)
    return ladder[np.searchsorted(distinct, probability_NC)]


def _clipped_logit(probability: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.clip(np.log(probability) - np.log1p(-probability), -LIMIT, LIMIT)


def _number_of(value: np.ndarray) -> np.ndarray:
    """Integers in the order of the floats: neighbours in float64 are neighbours here."""
    bits = value.view(np.int64)
    return np.where(bits < 0, -(bits & np.int64(2**63 - 1)), bits)


def _float_of(number: np.ndarray) -> np.ndarray:
    return np.where(number < 0, -np.abs(number).view(np.float64), np.abs(number).view(np.float64))
