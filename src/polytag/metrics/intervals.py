"""95% intervals of average precision, of its means and of its differences between runs.

Shapes: N images, C classes, B bootstrap replicates. docs/reference/metrics.md, section Intervals, has their measured coverage.

AP of few positives is too high, since each positive counts itself among the images scored at least as high. The truth is expected
between the AP that leaves each positive out of its own precision and the AP itself. An interval reaches from the former minus a
distance to the latter plus a distance, each by Wilson's formula for P trials or by the bootstrap, whichever is wider.

Where images come in groups, a positive leaves its whole group out, and the trials are the groups with a positive.
"""

import math
from dataclasses import dataclass

import numpy as np

from polytag.metrics.ap import Ranking, of_every_class
from polytag.metrics.groups import Groups, effective_number, others_at_least
from polytag.metrics.proportions import Z, wilson

FEW_POSITIVES = 10
"""A class with fewer positives than this is marked, and is listed after the others."""

_UNPRECEDED = 0.5  # lowest precision that is assumed for a positive with no image above it


def by_ap(value_C: np.ndarray, support_C: np.ndarray) -> np.ndarray:
    """Columns from the highest value to the lowest; then those with few positives, whose values are noise; then undefined ones."""
    few_C = (support_C < FEW_POSITIVES) & ~np.isnan(value_C)
    return np.lexsort((-np.nan_to_num(value_C), few_C, np.isnan(value_C)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """AP of every class, and between which values its bias places the truth; NaN without a positive.

    ap_C            average precision
    left_out_C      the same, each positive left out of its own precision: (TP - 1) / (predicted - 1), or 1 if it is predicted alone
    lowest_C        the same, with 1/2 there
    unpreceded_C    row of the positive that alone has the highest score, else -1; where there are groups, number of the group
    support_C       positives
    trials_C        positives, or groups with a positive: how many independent trials they are worth; fewer of weighted images
    """

    ap_C: np.ndarray
    left_out_C: np.ndarray
    lowest_C: np.ndarray
    unpreceded_C: np.ndarray
    support_C: np.ndarray
    trials_C: np.ndarray

    @property
    def bias_C(self) -> np.ndarray:
        """By how much AP is too high, as far as the images tell."""
        return self.ap_C - self.left_out_C


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """95% intervals: of each class, NaN where undefined, and of the unweighted mean over the classes that are defined."""

    low_C: np.ndarray
    high_C: np.ndarray
    mean_low: float
    mean_high: float


def left_out_ap_of(ranking: Ranking) -> float:
    """AP, each positive left out of its own precision. Given its score, this precision is unbiased: the others are a sample."""
    if not ranking.is_defined:
        return float("nan")
    gain_P = np.diff(ranking.tp_P, prepend=0) / ranking.num_positives
    others_P = ranking.predicted_P - 1
    precision_P = np.divide(ranking.tp_P - 1, others_P, out=np.ones(len(others_P)), where=others_P > 0)
    return float((gain_P * precision_P).sum())


def estimates_of(
    target_NC: np.ndarray,
    score_NC: np.ndarray,
    *,
    ap_C: np.ndarray,
    left_out_C: np.ndarray | None = None,
    groups: Groups | None = None,
    weight_N: np.ndarray | None = None,
) -> Estimates:
    """Estimates of every class whose AP is known; `left_out_C`, each image alone, is computed unless it is known too.

    `weight_N` are weights above 0 of images with a known label.
    """
    if weight_N is not None or (groups is not None and groups.num_groups < len(target_NC)):
        return _estimates_by_group(target_NC, score_NC, groups, ap_C=ap_C, weight_N=weight_N)
    if left_out_C is None:
        left_out_C = np.array(of_every_class(target_NC, score_NC, left_out_ap_of))
    support_C = (target_NC == 1).sum(axis=0)
    unpreceded_C = np.array([_unpreceded(target_N, score_N) for target_N, score_N in zip(target_NC.T, score_NC.T, strict=True)])
    missing_C = np.where(unpreceded_C >= 0, 1 - _UNPRECEDED, 0) / np.maximum(support_C, 1)
    return Estimates(
        ap_C=ap_C,
        left_out_C=left_out_C,
        lowest_C=left_out_C - missing_C,
        unpreceded_C=unpreceded_C,
        support_C=support_C,
        trials_C=support_C,
    )


def _estimates_by_group(
    target_NC: np.ndarray, score_NC: np.ndarray, groups: Groups | None, *, ap_C: np.ndarray, weight_N: np.ndarray | None
) -> Estimates:
    """The same, each positive's whole group left out of its precision: only the images of other groups are a sample."""
    group_N = np.arange(len(target_NC)) if groups is None else groups.group_N
    left_out_C, lowest_C, unpreceded_C = np.full(len(ap_C), np.nan), np.full(len(ap_C), np.nan), np.full(len(ap_C), -1)
    for column in np.flatnonzero(~np.isnan(ap_C)):
        target_N = target_NC[:, column]
        weight_P = None if weight_N is None else weight_N[target_N == 1]
        others_P, true_P = others_at_least(target_N, score_NC[:, column], group_N, weight_N=weight_N)
        precision_P = np.divide(true_P, others_P, out=np.ones(len(others_P)), where=others_P > 0)
        if weight_N is not None:
            precision_P = _without_ratio_bias(precision_P, others_P, target_N, score_NC[:, column], group_N, weight_N)
        left_out_C[column] = np.average(precision_P, weights=weight_P)
        lowest_C[column] = np.average(np.where(others_P > 0, precision_P, _UNPRECEDED), weights=weight_P)
        if (others_P == 0).any():
            unpreceded_C[column] = group_N[target_N == 1][others_P == 0][0]
    return Estimates(
        ap_C=ap_C,
        left_out_C=np.minimum(left_out_C, ap_C),
        lowest_C=np.minimum(lowest_C, ap_C),
        unpreceded_C=unpreceded_C,
        support_C=(target_NC == 1).sum(axis=0),
        trials_C=_trials(target_NC, groups, weight_N),
    )


def _trials(target_NC: np.ndarray, groups: Groups | None, weight_N: np.ndarray | None) -> np.ndarray:
    """Positives, or groups with one; of weighted ones the share that is effective (Kish 1965), of positives or of all known images,
    whichever is less: where a few images above the positives have most of the weight, more positives tell no more."""
    effective_C = effective_number(target_NC == 1, weight_N, groups)
    if weight_N is None:
        return effective_C
    num_C, num_known_C = (effective_number(is_NC, None, groups) for is_NC in (target_NC == 1, target_NC >= 0))
    return np.minimum(effective_C, num_C * effective_number(target_NC >= 0, weight_N, groups) / np.maximum(num_known_C, 1))


def _without_ratio_bias(
    precision_P: np.ndarray,
    others_P: np.ndarray,
    target_N: np.ndarray,
    score_N: np.ndarray,
    group_N: np.ndarray,
    weight_N: np.ndarray,
) -> np.ndarray:
    """Weighted precisions less their bias as ratios of two sums, sum of w^2 (precision - y) / (sum of w)^2 over the others, whose
    labels are y (Cochran 1977, Sampling Techniques, equation 6.34). It is 0 for equal weights."""
    square_P, true_square_P = others_at_least(target_N, score_N, group_N, weight_N=weight_N**2)
    bias_P = np.divide(precision_P * square_P - true_square_P, others_P**2, out=np.zeros(len(others_P)), where=others_P > 0)
    return np.clip(precision_P - bias_P, 0, 1)


def intervals_of(ap_BC: np.ndarray, estimates: Estimates) -> Intervals:
    """Intervals of the AP of each class and of their mean, from the replicates of AP (NaN where one has no positive)."""
    spread = _spread_of(ap_BC)
    below_C, above_C = _distances(spread, estimates)
    low_C, high_C = _bracket(estimates.lowest_C, estimates.ap_C, below_C, above_C)
    mean_low, mean_high = mean_interval(ap_BC, estimates, weight_C=np.ones(len(low_C)))
    return Intervals(low_C=np.maximum(low_C, 0), high_C=np.minimum(high_C, 1), mean_low=mean_low, mean_high=mean_high)


def mean_interval(ap_BC: np.ndarray, estimates: Estimates, *, weight_C: np.ndarray) -> tuple[float, float]:
    """Interval of the weighted mean of the APs that are defined.

    The distances of the classes are added as those of correlated errors, with the correlations of the replicates (Zou, Donner 2008,
    Statistics in Medicine 27, 1693). A class whose AP is the same in every replicate is independent of the others.
    """
    spread = _spread_of(ap_BC)
    below_C, above_C = _distances(spread, estimates)
    counted = ~np.isnan(below_C)
    if not counted.any() or not weight_C[counted].sum():
        return float("nan"), float("nan")
    total = weight_C[counted].sum()
    share_C = weight_C[counted] / total  # not for the values: they shall be those of the mean, to the last bit
    lowest, value = ((weight_C * value_C)[counted].sum() / total for value_C in (estimates.lowest_C, estimates.ap_C))
    below, above = (spread.total(counted, share_C * distance_C[counted]) for distance_C in (below_C, above_C))
    low_1, high_1 = _bracket(*(np.array([number]) for number in (lowest, value, below, above)))
    return max(0.0, float(low_1[0])), min(1.0, float(high_1[0]))


def difference_intervals(difference_BC: np.ndarray, first: Estimates, second: Estimates, *, same_C: np.ndarray) -> Intervals:
    """Intervals of the differences in AP, second minus first, from the differences of paired replicates.

    A positive with no image above it may have any precision from 1/2 to 1 in either run, unless it is the same image in both. One
    half of a positive is added to the variance, as in Agresti, Min (2005) for paired proportions, so that no interval is a point;
    except for `same_C`, classes on which the runs do not differ at all. In the mean, that precision is unknown in each class for
    itself, and so is added as an error; the bias is that of the mean.
    """
    difference_C, left_out_C = second.ap_C - first.ap_C, second.left_out_C - first.left_out_C
    apart_C = ~same_C & (first.unpreceded_C != second.unpreceded_C)
    first_less_C, second_less_C = (apart_C * (each.left_out_C - each.lowest_C) for each in (first, second))
    lowest_C = np.minimum(difference_C, left_out_C - second_less_C)
    highest_C = np.maximum(difference_C, left_out_C + first_less_C)
    spread = _spread_of(difference_BC)
    trials_C = np.minimum(first.trials_C, second.trials_C)
    half_C = np.where(same_C, 0, Z * np.sqrt(0.5) / (trials_C + 2))
    distance_C = np.hypot(spread.distance_C, half_C)
    low_C, high_C = _bracket(lowest_C, highest_C, distance_C, distance_C)
    counted = ~np.isnan(low_C)
    if not counted.any():
        return Intervals(low_C=low_C, high_C=high_C, mean_low=float("nan"), mean_high=float("nan"))
    share_C = np.full(counted.sum(), 1 / counted.sum())
    own = np.linalg.norm(share_C * np.array([half_C, first_less_C, second_less_C])[:, counted])
    distance = np.hypot(spread.total(counted, share_C * spread.distance_C[counted]), own)
    estimates = [each_C[counted].mean() for each_C in (difference_C, left_out_C, left_out_C + first_less_C - second_less_C)]
    low_1, high_1 = _bracket(*(np.array([number]) for number in (min(estimates), max(estimates), distance, distance)))
    return Intervals(
        low_C=np.maximum(low_C, -1),
        high_C=np.minimum(high_C, 1),
        mean_low=max(-1.0, float(low_1[0])),
        mean_high=min(1.0, float(high_1[0])),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Spread:
    """Deviations of the replicates from their mean in standard deviations, 0 where undefined; 1.96 standard deviations."""

    unit_BC: np.ndarray
    distance_C: np.ndarray

    def total(self, counted_C: np.ndarray, distance_C: np.ndarray) -> float:
        """The distance of a sum from the distances of the counted classes."""
        unit_BC = self.unit_BC[:, counted_C]
        constant_C = self.distance_C[counted_C] == 0
        together = np.mean((unit_BC @ distance_C) ** 2)
        return float(np.sqrt(together + (distance_C[constant_C] ** 2).sum()))


def _spread_of(value_BC: np.ndarray) -> _Spread:
    """The spread of the replicates, 0 for a class that none has; NaN without a replicate."""
    defined_BC = ~np.isnan(value_BC)
    number_C = defined_BC.sum(axis=0)
    value_BC = np.where(defined_BC, value_BC, 0)
    mean_C = value_BC.sum(axis=0) / np.maximum(number_C, 1)
    deviation_BC = np.where(defined_BC, value_BC - mean_C, 0)
    sd_C = np.sqrt((deviation_BC**2).sum(axis=0) / np.maximum(number_C, 1))
    sd_C[sd_C < 1e-12] = 0  # rounding
    scale_C = np.where(sd_C > 0, np.sqrt(len(value_BC) / np.maximum(number_C, 1)) / np.where(sd_C > 0, sd_C, 1), 0)
    return _Spread(unit_BC=deviation_BC * scale_C, distance_C=Z * sd_C if len(value_BC) else np.full(len(sd_C), np.nan))


def _distances(spread: _Spread, estimates: Estimates) -> tuple[np.ndarray, np.ndarray]:
    """How far each class's interval reaches below the lowest estimate and above AP: Wilson's distance or the bootstrap's.

    P trials are the most that P positives, or P groups with a positive, are worth: the variance AP (1 - AP) / P is that of Boyd,
    Eng, Page 2013, whose logit interval is undefined at 0 and 1.
    """
    trials_C = estimates.trials_C
    below_C = estimates.lowest_C - wilson(estimates.lowest_C * trials_C, trials_C)[0]
    above_C = wilson(estimates.ap_C * trials_C, trials_C)[1] - estimates.ap_C
    return np.maximum(below_C, spread.distance_C), np.maximum(above_C, spread.distance_C)


def _bracket(
    lowest_C: np.ndarray, highest_C: np.ndarray, below_C: np.ndarray, above_C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An interval that holds any truth between two estimates with probability 0.95, not both at once (Imbens, Manski 2004).

    Distances are given for 1.96 standard errors, which is right if both estimates are equal. Far apart, 1.645 are enough.
    """
    apart_C = (highest_C - lowest_C) * Z / np.maximum(np.maximum(below_C, above_C), 1e-12)
    point_C = np.full_like(apart_C, 1.8)
    for _ in range(6):  # Newton's method for ndtr(point + apart) - ndtr(-point) = 0.95
        slope_C = (np.exp(-((point_C + apart_C) ** 2) / 2) + np.exp(-(point_C**2) / 2)) / np.sqrt(2 * np.pi)
        point_C = point_C - (_normal(point_C + apart_C) - _normal(-point_C) - 0.95) / slope_C
    return lowest_C - point_C / Z * below_C, highest_C + point_C / Z * above_C


def _normal(value_C: np.ndarray) -> np.ndarray:
    """The normal distribution function: to import scipy.special for it takes a tenth of a second."""
    return np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in value_C.tolist()])


def _unpreceded(target_N: np.ndarray, score_N: np.ndarray) -> int:
    known = np.flatnonzero(target_N >= 0)
    if not len(known):
        return -1
    best = known[score_N[known] == score_N[known].max()]
    return int(best[0]) if len(best) == 1 and target_N[best[0]] == 1 else -1
