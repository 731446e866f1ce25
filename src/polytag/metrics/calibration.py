"""Fits calibrations on labelled predictions, and measures them on images that they were not fitted on.

Shapes: N images, C classes. Unknown labels count nowhere. Methods, each a strictly increasing map of a class's logits:

temperature  logit / T: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2, here one T per class
platt        a · logit + b: Platt 1999, with his smoothed targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2), fitted by Newton's method as
             Lin, Lin, Weng 2007, *Machine Learning* 68, 267
isotonic     the monotone step function of least squares (Zadrozny, Elkan 2002; pool adjacent violators), each step reduced to its
             centre and joined to the next by a straight line (Oron, Flournoy 2017, arXiv:1701.05964), so that no scores become
             tied; a step of k positives in n counts as (k + 1/2) / (n + 1), so that logits stay finite
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.optimize import isotonic_regression

from polytag.calibration import Calibration, ClassMap
from polytag.contracts import Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.logits import SMALLEST, sigmoid
from polytag.machine import num_cores
from polytag.metrics.decisions import decide
from polytag.metrics.groups import Groups
from polytag.metrics.reliability import calibration_error

METHODS = ("platt", "temperature", "isotonic")
FEWEST = {"temperature": 5, "platt": 10, "isotonic": 30}
"""Known positives and known negatives that a class needs to get its own map."""
_SLOPES = (0.02, 50.0)  # beyond these the scores do not rank the class, or separate it so well that no slope is the right one
_BEYOND = 0.25  # of the class's Platt slope: the slope of an isotonic map beyond its knots


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """Calibration metrics of each class; NaN for a class without a known label.

    log_loss_C   mean of -log of the probability of the true label (natural logarithm), 0 is best
    brier_C      mean squared difference of probability and truth (Brier 1950), 0 is best
    error_C      expected calibration error: over 15 bins of equally many images, the weighted mean distance of the mean
                 probability from the share of positives
    """

    log_loss_C: np.ndarray
    brier_C: np.ndarray
    error_C: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationFit:
    """A calibration fitted on all images, and its quality on images that it was not fitted on.

    calibration       fitted on all images: the one to use
    notes             C texts: why a class has another map than the method's, or ""
    target_NC, logit_NC, cross_fitted_logit_NC   labels, the original logits, and cross-fitted ones: each fold calibrated by a map
                      fitted on the others
    num_positives_C, num_known_C   labels that the map of each class was fitted on
    num_folds         images are divided at random, all labels of an image in one fold, as `folds_of` does
    groups            of dependent images, of which none was divided between folds; None without
    """

    calibration: Calibration
    notes: tuple[str, ...]
    target_NC: np.ndarray
    logit_NC: np.ndarray
    cross_fitted_logit_NC: np.ndarray
    num_positives_C: np.ndarray
    num_known_C: np.ndarray
    num_folds: int
    groups: Groups | None = None

    @cached_property
    def before(self) -> Quality:
        """The quality of the original logits."""
        return quality(self.target_NC, self.logit_NC)

    @cached_property
    def after(self) -> Quality:
        """The quality of the cross-fitted logits."""
        return quality(self.target_NC, self.cross_fitted_logit_NC)


def fit_calibration(
    predictions: Predictions,
    *,
    method: str = "platt",
    num_folds: int = 5,
    seed: int = 0,
    fold_N: np.ndarray | None = None,
    groups: Groups | None = None,
) -> CalibrationFit:
    """Fit the maps of all classes; the reported quality is cross-fitted over `num_folds` stratified folds of images.

    A class with fewer than FEWEST[method] positives or negatives, or whose scores do not rank it, gets the pooled temperature of
    all classes and a note. That is judged on all images: in every fold a class has the kind of map that it has on all, so that
    what is measured is what is saved. Deterministic for a seed. `fold_N`, of `folds_of` with as many folds, is for a part of the
    classes that is to have the folds of the whole. The images of a group share a fold, so that none is corrected by a map that was
    fitted on images of its patient or scene; a class whose known labels are all in one fold is corrected by the pooled temperature
    there. With fewer groups than folds, each group is a fold. Raises UsageError for an unknown method or fewer than 2 folds,
    PredictionsError if the scores are ranks or there are fewer images than folds.
    """
    if method not in METHODS:
        raise UsageError("unknown calibration method", got=repr(method), expected="one of " + ", ".join(METHODS))
    if num_folds < 2:
        raise UsageError("too few folds", got=str(num_folds), expected="2 or more")
    if not predictions.has_probabilities:
        raise PredictionsError("ranks cannot be calibrated", where=predictions.source, expected="logits or probabilities")
    if groups is not None:
        num_folds = min(num_folds, groups.num_groups)
    if len(predictions) < num_folds:
        raise PredictionsError(
            "too few images to calibrate on",
            where=predictions.source,
            got=str(len(predictions)),
            expected=f"at least {num_folds}, one per fold",
        )
    target_NC, logit_NC = predictions.target_NC, predictions.logit_NC.astype(np.float64)
    fold_N = folds_of(target_NC, num_folds=num_folds, seed=seed, groups=groups) if fold_N is None else fold_N
    maps, notes = _fit(target_NC, logit_NC, method=method)
    crossed_NC = np.empty(logit_NC.shape)
    for fold in range(num_folds):
        inside = fold_N == fold
        others = _fit_again(target_NC[~inside], logit_NC[~inside], method=method, whole=maps)
        crossed_NC[inside] = Calibration(method=method, maps=others).apply(logit_NC[inside])
    return CalibrationFit(
        calibration=Calibration(method=method, maps=maps),
        notes=notes,
        target_NC=target_NC,
        logit_NC=logit_NC,
        cross_fitted_logit_NC=crossed_NC,
        num_positives_C=(target_NC == 1).sum(axis=0),
        num_known_C=(target_NC >= 0).sum(axis=0),
        num_folds=num_folds,
        groups=groups,
    )


def folds_of(target_NC: np.ndarray, *, num_folds: int, seed: int, groups: Groups | None = None) -> np.ndarray:
    """N fold numbers: random, but the rarer label of each class is spread evenly, the rarest class first.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011), with the images of a class dealt out together. Of a class that is
    not the first to deal out an image, a fold may have a few more. The images of a group share a fold: groups are dealt out one by
    one, those with most of these labels first.
    """
    rng = np.random.default_rng(seed)
    present_NC, absent_NC = target_NC == 1, target_NC == 0
    rarer_NC = np.where(present_NC.sum(axis=0) <= absent_NC.sum(axis=0), present_NC, absent_NC)
    if groups is not None:
        return _folds_of_groups(rarer_NC, groups.group_N, num_folds=num_folds, rng=rng)
    fold_N = np.full(len(target_NC), -1)
    order = rng.permutation(len(target_NC))
    everyone = np.ones((len(target_NC), 1), bool)
    for is_dealt_N in (*rarer_NC.T[np.argsort(rarer_NC.sum(axis=0), kind="stable")], everyone[:, 0]):
        rows = order[is_dealt_N[order] & (fold_N[order] < 0)]
        held_F = np.bincount(fold_N[is_dealt_N & (fold_N >= 0)], minlength=num_folds)
        size_F = np.bincount(fold_N[fold_N >= 0], minlength=num_folds)
        fold_N[rows] = _dealt(len(rows), held_F=held_F, size_F=size_F)
    return fold_N


def _dealt(num_images: int, *, held_F: np.ndarray, size_F: np.ndarray) -> np.ndarray:
    """The folds of so many images, each dealt to the fold that holds fewest of them, then to the smallest."""
    order_F = np.lexsort((np.arange(len(size_F)), size_F))
    highest = int(held_F.min()) + num_images  # that any fold can reach
    low, high = int(held_F.min()), highest
    while low < high:  # the level up to which the folds are filled
        level = (low + high) // 2
        low, high = (low, level) if np.maximum(level - held_F, 0).sum() >= num_images else (level + 1, high)
    levels_L = np.arange(int(held_F.min()), low)
    takes_LF = held_F[order_F] <= levels_L[:, None]
    return np.broadcast_to(order_F, takes_LF.shape)[takes_LF][:num_images]


def _folds_of_groups(rarer_NC: np.ndarray, group_N: np.ndarray, *, num_folds: int, rng: np.random.Generator) -> np.ndarray:
    """N fold numbers; each group goes to the fold that holds fewest of the dealt labels, then to the smallest."""
    num_groups = int(group_N.max()) + 1
    size_G = np.bincount(group_N)
    fold_G = np.full(num_groups, -1)
    order = rng.permutation(num_groups)
    everyone = np.ones(len(group_N), bool)
    for is_dealt_N in (*rarer_NC.T[np.argsort(rarer_NC.sum(axis=0), kind="stable")], everyone):
        count_G = np.bincount(group_N[is_dealt_N], minlength=num_groups)
        dealt = fold_G >= 0
        held_F = np.bincount(fold_G[dealt], weights=count_G[dealt], minlength=num_folds)
        size_F = np.bincount(fold_G[dealt], weights=size_G[dealt], minlength=num_folds)
        waiting = order[(count_G[order] > 0) & ~dealt[order]]
        for group in waiting[np.argsort(-count_G[waiting], kind="stable")]:
            fold = int(np.lexsort((size_F, held_F))[0])
            fold_G[group] = fold
            held_F[fold] += count_G[group]
    return fold_G[group_N]


def num_merged(before_NC: np.ndarray, after_NC: np.ndarray) -> np.ndarray:
    """How many distinct scores of each class are equal to another one's after a calibration, because their values are rounded."""
    pairs = zip(before_NC.T, after_NC.T, strict=True)
    return np.array([len(np.unique(before_N)) - len(np.unique(after_N)) for before_N, after_N in pairs])


def quality(target_NC: np.ndarray, logit_NC: np.ndarray) -> Quality:
    """Log-loss, Brier score and calibration error of every class, from logits, so that no probability is rounded to 0 or 1."""
    values_C3 = np.full((target_NC.shape[1], 3), np.nan)
    for column in range(target_NC.shape[1]):
        known = target_NC[:, column] >= 0
        if known.any():
            target_N, logit_N = target_NC[known, column], logit_NC[known, column].astype(np.float64)
            probability_N = sigmoid(logit_N)
            values_C3[column] = (
                np.mean(np.logaddexp(0, np.where(target_N == 1, -logit_N, logit_N))),
                np.mean((probability_N - target_N) ** 2),
                calibration_error(target_N, probability_N, logit_N=logit_N),
            )
    return Quality(log_loss_C=values_C3[:, 0], brier_C=values_C3[:, 1], error_C=values_C3[:, 2])


def keep_decisions(
    before: Predictions, after: Predictions, *, thresholds: Sequence[float], moved: Sequence[float]
) -> tuple[float, ...]:
    """Thresholds for `after`, the same images under another calibration, that give the same decisions as `thresholds` on `before`.

    `moved` are the thresholds converted by the maps. They are exact except for the rounding of float32 scores, which matters if a
    threshold equals the score of an image. No threshold lies between scores that have the same float64 probability afterwards.
    """
    found: list[float] = []
    probability_before_NC, probability_after_NC = before.probability_NC, after.probability_NC
    for column, (threshold, new) in enumerate(zip(thresholds, moved, strict=True)):
        above_N = decide(probability_before_NC[:, column], threshold_C=threshold)
        probability_N = probability_after_NC[:, column]
        highest_below = probability_N[~above_N].max(initial=SMALLEST)  # 0 as a threshold would predict every image
        lowest_above = probability_N[above_N].min(initial=1.0)
        wrong = not highest_below <= new < lowest_above and above_N.any() and not above_N.all()
        found.append(float(highest_below) if wrong and highest_below < lowest_above else float(new))
    return tuple(found)


def _pooled(target_NC: np.ndarray, logit_NC: np.ndarray) -> ClassMap:
    known_NC = target_NC >= 0
    slope, _ = _fit_line(target_NC[known_NC] == 1, logit_NC[known_NC], with_bias=False) if known_NC.any() else (1.0, 0.0)
    return ClassMap(kind="pooled", slope=float(np.clip(slope, *_SLOPES)))


def _fit_again(target_NC: np.ndarray, logit_NC: np.ndarray, *, method: str, whole: Sequence[ClassMap]) -> tuple[ClassMap, ...]:
    """The maps of a part of the images, each of the kind that its class has in `whole`, from whose line the search starts."""
    pooled = cache(lambda: _pooled(target_NC, logit_NC))  # seldom needed, and as much work as all classes together

    def of_class(column: int, of_all: ClassMap) -> ClassMap:
        known = target_NC[:, column] >= 0
        positive_N, logit_N = target_NC[known, column] == 1, logit_NC[known, column]
        if not len(logit_N) or of_all.kind != method:  # without a label where all known ones are in the left-out groups
            return pooled()
        if method == "isotonic":
            return _fit_isotonic(positive_N, logit_N) or _nearest_line(positive_N, logit_N, kind=method, with_bias=True)
        start = (of_all.slope, of_all.bias)
        return _nearest_line(positive_N, logit_N, kind=method, with_bias=method == "platt", start=start)

    with ThreadPoolExecutor(num_cores()) as pool:
        return tuple(pool.map(of_class, range(len(whole)), whole))


def _fit(target_NC: np.ndarray, logit_NC: np.ndarray, *, method: str) -> tuple[tuple[ClassMap, ...], tuple[str, ...]]:
    """The maps and notes of all classes."""
    known_NC, pooled = target_NC >= 0, cache(lambda: _pooled(target_NC, logit_NC))
    maps: list[ClassMap] = []
    notes: list[str] = []
    for column in range(target_NC.shape[1]):
        known = known_NC[:, column]
        positive_N, logit_N = target_NC[known, column] == 1, logit_NC[known, column]
        num_positives, num_negatives = int(positive_N.sum()), int((~positive_N).sum())
        fewest, made = FEWEST[method], None
        if num_positives < fewest:
            note = f"{num_positives} of {fewest} positives needed: all classes’ temperature"
        elif num_negatives < fewest:
            note = f"{num_negatives} of {fewest} negatives needed: all classes’ temperature"
        else:
            made = _fit_isotonic(positive_N, logit_N) if method == "isotonic" else _line(positive_N, logit_N, kind=method)
            note = "" if made else "the scores do not rank it: all classes’ temperature"
        maps.append(made or pooled())
        notes.append(note)
    return tuple(maps), tuple(notes)


def _line(positive_N: np.ndarray, logit_N: np.ndarray, *, kind: str) -> ClassMap | None:
    slope, bias = _fit_line(positive_N, logit_N, with_bias=kind == "platt")
    return ClassMap(kind=kind, slope=slope, bias=bias) if _SLOPES[0] <= slope <= _SLOPES[1] else None


def _nearest_line(
    positive_N: np.ndarray, logit_N: np.ndarray, *, kind: str, with_bias: bool, start: tuple[float, float] = (1.0, 0.0)
) -> ClassMap:
    """The line; a slope beyond its limits becomes the limit, with the same mean calibrated logit."""
    slope, bias = _fit_line(positive_N, logit_N, with_bias=with_bias, start=start)
    limited = float(np.clip(slope, *_SLOPES))
    return ClassMap(kind=kind, slope=limited, bias=bias + (slope - limited) * float(logit_N.mean()) if with_bias else 0.0)


def _fit_line(
    positive_N: np.ndarray, logit_N: np.ndarray, *, with_bias: bool, start: tuple[float, float] = (1.0, 0.0)
) -> tuple[float, float]:
    """Slope and bias that minimise the log-loss against Platt's smoothed targets: convex, by Newton's method with step halving."""
    num_positives = int(positive_N.sum())
    high, low = (num_positives + 1) / (num_positives + 2), 1 / (len(positive_N) - num_positives + 2)
    goal_N = np.where(positive_N, high, low)
    scale = float(np.abs(logit_N).max()) or 1.0  # external scores may be of any size
    column_NF = np.stack([logit_N / scale, np.ones(len(logit_N))][: 2 if with_bias else 1], axis=1)
    weight_F = np.array([start[0] * scale, start[1]])[: column_NF.shape[1]]

    def loss_at(weight_F: np.ndarray) -> tuple[float, np.ndarray]:
        value_N = column_NF @ weight_F
        return float(np.mean(np.logaddexp(0, value_N) - goal_N * value_N)), value_N

    loss, value_N = loss_at(weight_F)
    for _ in range(100):
        probability_N = sigmoid(value_N)
        gradient_F = column_NF.T @ (probability_N - goal_N) / len(goal_N)
        curvature_FF = (column_NF * (probability_N * (1 - probability_N))[:, None]).T @ column_NF / len(goal_N)
        step_F = np.linalg.solve(curvature_FF + 1e-12 * np.eye(len(weight_F)), gradient_F)
        length = 1.0
        tried, value_N = loss_at(weight_F - length * step_F)
        while tried > loss and length > 1e-9:
            length /= 2
            tried, value_N = loss_at(weight_F - length * step_F)
        weight_F, gained, loss = weight_F - length * step_F, loss - tried, tried
        if gained < 1e-11:
            break
    return float(weight_F[0] / scale), float(weight_F[1]) if with_bias else 0.0


def _fit_isotonic(positive_N: np.ndarray, logit_N: np.ndarray) -> ClassMap | None:
    """Knots at the centres of the monotone steps; None if the scores do not rank the class."""
    line = _line(positive_N, logit_N, kind="platt")
    distinct_D, which_N = np.unique(logit_N, return_inverse=True)
    count_D = np.bincount(which_N).astype(np.float64)
    right_D = np.bincount(which_N, weights=positive_N)
    start_S = _starts(isotonic_regression(right_D / count_D, weights=count_D).x)
    count_S, right_S = np.add.reduceat(count_D, start_S), np.add.reduceat(right_D, start_S)
    centre_S = np.add.reduceat(count_D * distinct_D, start_S) / count_S
    smoothed_S = isotonic_regression((right_S + 0.5) / (count_S + 1), weights=count_S).x  # small steps may be disordered
    start_K = _starts(smoothed_S)
    centre_K = np.add.reduceat(count_S * centre_S, start_K) / np.add.reduceat(count_S, start_K)
    share_K = smoothed_S[start_K]
    if line is None or len(start_K) < 2:
        return None
    calibrated_K = np.log(share_K) - np.log1p(-share_K)
    return ClassMap(
        kind="isotonic", slope=_BEYOND * line.slope, logit=tuple(centre_K.tolist()), calibrated=tuple(calibrated_K.tolist())
    )


def _starts(value_N: np.ndarray) -> np.ndarray:
    """The first position of each run of equal values."""
    return np.flatnonzero(np.diff(value_N, prepend=-np.inf))
