"""Logits to probabilities, and probabilities to logits in exactly their order.

A probability is a float64. Towards 0 it keeps its relative resolution, down to 5e-324, about the sigmoid of −745. Towards 1 it has
steps of 2⁻⁵², and beyond a logit of 36.8 it is exactly 1. So whatever ranks compares logits.
"""

import numpy as np

LIMIT = 54 * float(np.log(2))
"""The logit of 1 − 2⁻⁵⁴, 37.4: half of float64's last step before 1. No logit of a probability is farther from 0."""


SMALLEST, LARGEST = 5e-324, 1 - 2**-53
"""The probabilities next to 0 and to 1."""

_FAR = -700.0  # exp(700) is finite, and below its negative 1 / (1 + exp(-x)) and exp(x) are the same float64


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """float64 probabilities in [0, 1]: 1 / (1 + exp(-logit)), for any float, within 2 units in the last place.

    A sum and a quotient of rising numbers, both correctly rounded, rise: a higher logit never has a lower probability. Where
    exp(-logit) would overflow, the result is exp(logit): 0 only below a logit of -745, where no smaller float64 exists.
    """
    logit = np.asarray(logit, np.float64)
    value = np.empty_like(logit)  # in place: half the time of a large table is the memory of intermediate ones
    with np.errstate(under="ignore"):
        np.negative(np.maximum(logit, _FAR, out=value), out=value)
        np.divide(1, np.add(np.exp(value, out=value), 1, out=value), out=value)
        if np.fmin.reduce(logit, axis=None, initial=0) < _FAR:  # a NaN is no logit, and stays one
            np.copyto(value, np.exp(np.minimum(logit, _FAR)), where=logit < _FAR)
    return value[()]


ROUNDING = 1e-6
"""By so much a probability may be below 0 or above 1 after a few operations in float32."""
EXACT = 2**53
"""Every integer up to this size is a float64. Of larger ones some are not: neighbours would tie."""


def is_exact(value: int) -> bool:
    """Whether an integer is a float64."""
    return abs(value) <= EXACT or (value.bit_length() <= 1023 and int(float(value)) == value)


def inexact(value_NC: np.ndarray) -> np.ndarray:
    """Boolean, of the same shape: the integers of an array that are no float64."""
    if value_NC.dtype.kind not in "iu":
        return np.zeros(value_NC.shape, bool)
    large_NC = (value_NC > EXACT) | (value_NC < -EXACT)
    large_NC[large_NC] = [not is_exact(value) for value in value_NC[large_NC].tolist()]
    return large_NC


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
