"""Confidence intervals of proportions."""

import numpy as np

Z = 1.959963984540054
"""The normal distribution's 97.5% point."""


def wilson(num_right: np.ndarray, num_tried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95% score interval of right / tried (Wilson 1927, JASA 22, 209), element by element; NaN if nothing was tried.

    It is within [0, 1], and wider than a point even if all or none were right. Returns (low, high), float64.
    """
    right, tried = np.asarray(num_right, np.float64), np.asarray(num_tried, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = right / tried
        centre = (share + Z**2 / (2 * tried)) / (1 + Z**2 / tried)
        half = Z / (1 + Z**2 / tried) * np.sqrt(share * (1 - share) / tried + Z**2 / (4 * tried**2))
    low, high = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
    # the ends are exact if none or all were right; rounding must not exclude the observed share
    return np.where(right == 0, 0.0, low) + 0 * share, np.where(right == tried, 1.0, high) + 0 * share
