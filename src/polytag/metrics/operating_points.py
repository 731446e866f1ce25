"""Chooses per-class thresholds for a goal, with a guarantee if one is requested and the data can support it.

A class counts as predicted if its probability is strictly above the threshold, so only the gaps between neighbouring distinct
probabilities matter. A threshold of 0 predicts every image; so images scored exactly 0 count as scored with the smallest float64
above it. Without a confidence, the gap that is best on these images is chosen, which guarantees nothing. With a confidence, the
choice is proved (shapes: N known images of a class, K candidates):

precision  Learn then Test (Angelopoulos, Bates, Candès, Jordan, Lei 2021, arXiv:2110.01052, section 3): the candidates are the k-th
           highest scores for K ranks that depend on N and the goal alone. Given the score at rank k + 1, the images above it are a
           sample of all images above it, so their positives are binomial with the true precision, and the Clopper-Pearson lower
           bound at level risk / K exceeds it with probability at most risk / K (Bonferroni). The candidates are ranks, so the scale
           of the scores and any increasing calibration of them, even on the same images, do not affect the proof.
recall     falls with the threshold, so one order statistic of the positives suffices, without a correction: Wilks 1941, *Ann. Math.
           Statist.* 12, 91 (the same as a risk-controlling set: Bates et al. 2021, arXiv:2101.02703).
top        the same, with the scores of all images.

Dependent images prove less. With groups, the same proofs take one image, drawn at random, of each group that has one (for recall: a
positive), which are independent; what they prove is about an image that is drawn like this from a new group.

The false negative rate of an image is another kind of goal: one threshold for all classes, in `polytag.metrics.risk_control`.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import betainc, betaincinv

from polytag.contracts import UNKNOWN, Predictions
from polytag.errors import PredictionsError
from polytag.logits import SMALLEST
from polytag.metrics.decisions import ALWAYS, NEVER, decide
from polytag.metrics.goals import Goal, require_possible
from polytag.metrics.groups import Groups
from polytag.metrics.risk_control import RiskControl, control_false_negatives
from polytag.text import counted

NUM_CANDIDATES = 20
DEFAULT = 0.5
"""The threshold without a goal."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The threshold of one class, and its metrics on the images that it was chosen on.

    threshold       probability in [0, 1]; NEVER or ALWAYS if the goal is not attainable
    attainable      whether the data can support the goal; if not, `reason` says why
    num_known       images with a known label, of which num_positives have the class
    num_predicted   known images above the threshold, of which num_right have the class
    share           share of all images, known or not, that are above the threshold
    precision, recall   NaN if nothing is predicted, or no positive is known
    precision_low .. recall_high   95% Clopper-Pearson intervals of those proportions, not corrected for the choice
    bound           the guarantee: precision or recall at least this, or share at most this; NaN without a guarantee
    num_needed      the fewest positives (for "top": images) with which the goal could be attained; 0 without a guarantee
    """

    name: str
    threshold: float
    attainable: bool = True
    reason: str = ""
    num_known: int
    num_positives: int
    num_predicted: int
    num_right: int
    share: float
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    recall_low: float
    recall_high: float
    bound: float = math.nan
    num_needed: int = 0


@dataclass(frozen=True, kw_only=True)
class OperatingPoints:
    """The thresholds of all classes and their goal.

    confidence    probability with which the guarantee of each class holds or, if `joint`, all of them together; None without one
    is_shared     whether all classes have one threshold, chosen on the decisions of all together
    ids_fingerprint    16 hexadecimal digits over the ids of the images that the thresholds were chosen on
    risk_control  of the goal "fnr"; None for the others
    groups        of dependent images, of which the guarantee draws one each; None without
    """

    goal: Goal
    confidence: float | None
    joint: bool
    num_images: int
    points: tuple[OperatingPoint, ...]
    ids_fingerprint: str
    is_shared: bool = False
    risk_control: RiskControl | None = None
    groups: Groups | None = None

    @property
    def guarantee(self) -> str:
        """What is guaranteed about new images, and what is assumed; "" where nothing is."""
        if self.risk_control is not None:
            return self.risk_control.guarantee
        if self.confidence is None:
            return ""
        scope = "all classes together" if self.joint else "each class by itself"
        new = "on new images from the same source"
        if self.groups is not None:
            new = f"for an image drawn from a new group of {self.groups.column}, by one image of each of {self.groups.num_groups:,}"
        unless = "if the model was neither trained nor selected on these."
        return f"Guaranteed with {self.confidence:.4g} confidence, {scope}, {new}, {unless}"

    @property
    def thresholds(self) -> tuple[float, ...]:
        """C probabilities."""
        return tuple(point.threshold for point in self.points)


def choose_thresholds(
    predictions: Predictions,
    *,
    goal: Goal,
    confidence: float | None = None,
    joint: bool = False,
    shared: bool = False,
    groups: Groups | None = None,
) -> OperatingPoints:
    """Choose the threshold of every class on labelled predictions.

    With `shared`, one threshold for all classes, at which the decisions of all together reach the goal: "f1" then has the best OF1.

    With a `confidence`, the true precision (recall, share) of a class on new images from the same source reaches the goal with that
    probability over the draw of these images. With `joint` this holds for all classes at once: each gets the C-th part of the risk.
    The proof needs images that the model was not trained on, drawn as the new ones will be, and an N that does not depend on them.

    The goal "fnr" has one threshold for all classes and a guarantee of its own, on average and without a confidence: `RiskControl`.
    With `groups` of dependent images, a guarantee is of an image of a new group.

    If the goal cannot be attained, the class is never predicted (precision, top) or always predicted (recall); for F-beta without a
    known positive the threshold is 0.5. Raises UsageError for a confidence outside (0, 1) or where there is no guarantee, and for
    groups without one; PredictionsError if the scores are ranks, or for fewer images than "fnr" needs.
    """
    if not predictions.has_probabilities:
        raise PredictionsError("ranks have no thresholds", where=predictions.source, expected="logits or probabilities")
    require_possible(goal, confidence=confidence, joint=joint, shared=shared, has_groups=groups is not None)
    num_classes = len(predictions.label_set)
    target_NC, probability_NC = predictions.target_NC, predictions.probability_NC
    if goal.kind == "fnr":
        threshold, control = control_false_negatives(
            target_NC, probability_NC, level=goal.level, groups=groups, where=predictions.source
        )
        found = points_at(predictions, threshold_C=np.full(num_classes, threshold))
        return replace(found, goal=goal, is_shared=True, risk_control=control)
    if shared:
        pooled = _choose("every class", target_NC.reshape(-1), probability_NC.reshape(-1), goal=goal, risk=None)
        found = points_at(predictions, threshold_C=np.full(num_classes, pooled.threshold))
        points = tuple(replace(point, attainable=pooled.attainable, reason=pooled.reason) for point in found.points)
        return replace(found, goal=goal, points=points, is_shared=True)
    risk = None if confidence is None else (1 - confidence) / (num_classes if joint else 1)
    points = tuple(
        _choose(name, target_NC[:, column], probability_NC[:, column], goal=goal, risk=risk, groups=groups)
        for column, name in enumerate(predictions.label_set)
    )
    return replace(_points(predictions, points, goal=goal, confidence=confidence, joint=joint), groups=groups)


def points_at(predictions: Predictions, *, threshold_C: np.ndarray) -> OperatingPoints:
    """The operating points of these thresholds, without a goal."""
    probability_NC = predictions.probability_NC
    points = tuple(
        _point(name, predictions.target_NC[:, column], probability_NC[:, column], _Choice(threshold=float(threshold_C[column])))
        for column, name in enumerate(predictions.label_set)
    )
    return _points(predictions, points, goal=Goal(kind="default"), confidence=None, joint=False)


def _points(
    predictions: Predictions, points: tuple[OperatingPoint, ...], *, goal: Goal, confidence: float | None, joint: bool
) -> OperatingPoints:
    return OperatingPoints(
        goal=goal,
        confidence=confidence,
        joint=joint,
        num_images=len(predictions),
        ids_fingerprint=predictions.ids_fingerprint,
        points=points,
    )


def clopper_pearson(num_right: int, num_tried: int, *, risk: float) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper, Pearson 1934, *Biometrika* 26, 404): each end misses with at most `risk`.

    NaN if nothing was tried. A two-sided 95% interval has risk 0.025.
    """
    if not num_tried:
        return math.nan, math.nan
    low = float(betaincinv(num_right, num_tried - num_right + 1, risk)) if num_right else 0.0
    high = float(betaincinv(num_right + 1, num_tried - num_right, 1 - risk)) if num_right < num_tried else 1.0
    return low, high


def precision_ranks(num_known: int, *, level: float, risk: float) -> np.ndarray:
    """The candidate ranks for a guaranteed precision: at most 20, evenly spaced in their logarithm, up to all images.

    They do not depend on scores or labels. The first is the fewest predictions that prove the level if all of them are right; empty
    if there are fewer images.
    """
    first = _fewest(level, risk / NUM_CANDIDATES)
    if first > num_known:
        return np.zeros(0, np.int64)
    return np.unique(np.round(np.geomspace(first, num_known, NUM_CANDIDATES)).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class _Choice:
    threshold: float
    attainable: bool = True
    reason: str = ""
    bound: float = math.nan
    num_needed: int = 0


def _choose(
    name: str, target_N: np.ndarray, probability_N: np.ndarray, *, goal: Goal, risk: float | None, groups: Groups | None = None
) -> OperatingPoint:
    score_N = np.maximum(probability_N, SMALLEST)
    drawn_N = np.arange(len(target_N))
    if groups is not None:
        drawn_N = groups.one_of_each({"recall": target_N == 1, "precision": target_N >= 0}.get(goal.kind, target_N >= UNKNOWN))
    proving_N = drawn_N if goal.kind == "precision" else np.arange(len(target_N))  # of recall, all known scores divide the axis
    positive_P = np.sort(score_N[drawn_N][target_N[drawn_N] == 1])[::-1]
    known_N = np.sort(score_N[proving_N][target_N[proving_N] >= 0])[::-1]
    if goal.kind == "top":
        every_N = np.sort(score_N[drawn_N])[::-1]
        choice = _top(every_N, level=goal.level) if risk is None else _guaranteed_top(every_N, level=goal.level, risk=risk)
    elif goal.kind == "default":
        choice = _Choice(threshold=DEFAULT)
    elif not len(positive_P):
        threshold = {"f": DEFAULT, "precision": NEVER, "recall": ALWAYS}[goal.kind]
        needed = 0 if risk is None else _fewest(goal.level, risk / (NUM_CANDIDATES if goal.kind == "precision" else 1))
        reason = "no positive" if len(known_N) else "no known label"
        reason += f"; at least {needed} are needed" if needed else ""
        choice = _Choice(threshold=threshold, attainable=False, reason=reason, num_needed=needed)
    elif risk is None:
        choice = _best(positive_P, known_N, goal=goal)
    elif goal.kind == "precision":
        choice = _guaranteed_precision(positive_P, known_N, level=goal.level, risk=risk)
    else:
        choice = _guaranteed_recall(positive_P, known_N, level=goal.level, risk=risk)
    if groups is not None and choice.reason:
        choice = replace(choice, reason=f"of one image of each group: {choice.reason}")
    return _point(name, target_N, probability_N, choice)


def _point(name: str, target_N: np.ndarray, probability_N: np.ndarray, choice: _Choice) -> OperatingPoint:
    above_N = decide(probability_N, threshold_C=choice.threshold)
    num_positives, num_known = int((target_N == 1).sum()), int((target_N >= 0).sum())
    num_right, num_predicted = int((above_N & (target_N == 1)).sum()), int((above_N & (target_N >= 0)).sum())
    precision_low, precision_high = clopper_pearson(num_right, num_predicted, risk=0.025)
    recall_low, recall_high = clopper_pearson(num_right, num_positives, risk=0.025)
    return OperatingPoint(
        name=name,
        threshold=choice.threshold,
        attainable=choice.attainable,
        reason=choice.reason,
        num_known=num_known,
        num_positives=num_positives,
        num_predicted=num_predicted,
        num_right=num_right,
        share=float(above_N.mean()) if len(above_N) else math.nan,
        precision=num_right / num_predicted if num_predicted else math.nan,
        precision_low=precision_low,
        precision_high=precision_high,
        recall=num_right / num_positives if num_positives else math.nan,
        recall_low=recall_low,
        recall_high=recall_high,
        bound=choice.bound,
        num_needed=choice.num_needed,
    )


# ---- without a guarantee: every gap between neighbouring distinct scores is a candidate; scores are sorted highest first


def _best(positive_P: np.ndarray, known_N: np.ndarray, *, goal: Goal) -> _Choice:
    score_K, threshold_K = _gaps(known_N)
    predicted_K, right_K = _num_at_least(known_N, score_K), _num_at_least(positive_P, score_K)
    precision_K, recall_K = right_K / predicted_K, right_K / len(positive_P)
    if goal.kind == "f":  # of ties, the fewest predictions
        weight = goal.level**2
        return _Choice(threshold=float(threshold_K[np.argmax((1 + weight) * right_K / (predicted_K + weight * len(positive_P)))]))
    meets_K = (precision_K if goal.kind == "precision" else recall_K) >= goal.level
    if goal.kind == "precision" and not meets_K.any():
        reason = f"no threshold reaches it: {precision_K.max():.3f} at best"
        return _Choice(threshold=NEVER, attainable=False, reason=reason)
    if goal.kind == "recall":  # the first with enough recall; the last gap, below every known image, has all
        return _Choice(threshold=float(threshold_K[np.argmax(meets_K)]))
    most = right_K[meets_K].max()  # the highest recall; of ties, the fewest predictions
    return _Choice(threshold=float(threshold_K[np.argmax(meets_K & (right_K == most))]))


def _top(every_N: np.ndarray, *, level: float) -> _Choice:
    """At most this share of the images; a tie that would exceed it is excluded as a whole."""
    most = math.floor(level * len(every_N) + 1e-9)
    if not most:
        reason = f"{len(every_N)} images; at least {math.ceil(1 / level - 1e-9)} are needed"
        return _Choice(threshold=NEVER, attainable=False, reason=reason)
    score_K, threshold_K = _gaps(every_N)
    fits_K = _num_at_least(every_N, score_K) <= most
    if not fits_K.any():
        return _Choice(threshold=NEVER, attainable=False, reason="more images than that are tied at the top")
    return _Choice(threshold=float(threshold_K[fits_K][-1]))


def _gaps(score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct scores, highest first, and below each the threshold midway to the next score; below the last, midway to 0.

    Below SMALLEST, the score of images at exactly 0, that is ALWAYS.
    """
    distinct_K = np.unique(score_N)[::-1]
    lower_K = np.append(distinct_K[1:], 0.0)
    middle_K = (distinct_K + lower_K) / 2
    return distinct_K, np.where(middle_K < distinct_K, middle_K, lower_K)  # between neighbouring floats there is no middle


def _num_at_least(score_N: np.ndarray, score_K: np.ndarray) -> np.ndarray:
    return np.searchsorted(-score_N, -score_K, side="right")


# ---- with a guarantee


def _guaranteed_precision(positive_P: np.ndarray, known_N: np.ndarray, *, level: float, risk: float) -> _Choice:
    """The lowest candidate whose lower bound, at the K-th part of the risk, reaches the level.

    The threshold is the next score itself and not the middle of a gap, since for that score the binomial law is exact.
    """
    rank_K = precision_ranks(len(known_N), level=level, risk=risk)
    needed = _fewest(level, risk / max(len(rank_K), 1)) if len(rank_K) else _fewest(level, risk / NUM_CANDIDATES)
    if len(positive_P) < needed or not len(rank_K):
        reason = f"{counted(len(positive_P), 'positives')}; at least {needed} are needed, all above every negative"
        return _Choice(threshold=NEVER, attainable=False, reason=reason, num_needed=needed)
    threshold_K = np.append(known_N, ALWAYS)[rank_K]  # below the last rank, every image
    predicted_K = np.searchsorted(-known_N, -threshold_K, side="left")
    right_K = np.searchsorted(-positive_P, -threshold_K, side="left")
    low_K = np.zeros(len(rank_K))
    some_K = right_K > 0
    low_K[some_K] = betaincinv(right_K[some_K], predicted_K[some_K] - right_K[some_K] + 1, risk / len(rank_K))
    passing = np.flatnonzero(low_K >= level)
    if not len(passing):
        best = int(np.argmax(low_K))
        reason = f"proves {low_K[best]:.3f} at best: {right_K[best]} of {predicted_K[best]} right"
        return _Choice(threshold=NEVER, attainable=False, reason=reason, num_needed=needed)
    chosen = passing[-1]
    return _Choice(threshold=float(threshold_K[chosen]), bound=float(low_K[chosen]), num_needed=needed)


def _guaranteed_recall(positive_P: np.ndarray, known_N: np.ndarray, *, level: float, risk: float) -> _Choice:
    """Below the j-th lowest positive, for the largest j whose true recall, at least Beta(P - j + 1, j), reaches the level."""
    num_positives, needed = len(positive_P), _fewest(level, risk)
    j_P = np.arange(1, num_positives + 1)
    proved_P = betainc(num_positives - j_P + 1, j_P, level) <= risk
    if not proved_P.any():
        reason = f"{counted(num_positives, 'positives')}; at least {needed} are needed"
        return _Choice(threshold=ALWAYS, attainable=False, reason=reason, num_needed=needed)
    j = int(j_P[proved_P][-1])
    score_K, threshold_K = _gaps(known_N)
    threshold = float(threshold_K[np.flatnonzero(score_K == positive_P[num_positives - j])[0]])
    return _Choice(threshold=threshold, bound=float(betaincinv(num_positives - j + 1, j, risk)), num_needed=needed)


def _guaranteed_top(every_N: np.ndarray, *, level: float, risk: float) -> _Choice:
    """The score at the largest rank k whose true share above it, at most Beta(k + 1, N - k), is within the level."""
    num_images, needed = len(every_N), _fewest(1 - level, risk)
    k = _proved_top(num_images, level, risk)
    if k < 0:
        reason = f"{counted(num_images, 'images')}; at least {needed} are needed"
        return _Choice(threshold=NEVER, attainable=False, reason=reason, num_needed=needed)
    bound = float(betaincinv(k + 1, num_images - k, 1 - risk))
    return _Choice(threshold=float(every_N[k]), bound=bound, num_needed=needed)


@lru_cache(maxsize=16)  # the same for every class
def _proved_top(num_images: int, level: float, risk: float) -> int:
    k_N = np.arange(num_images)
    return int((betainc(k_N + 1, num_images - k_N, level) >= 1 - risk).sum()) - 1  # falls with k


def _fewest(level: float, risk: float) -> int:
    """The number of trials, all successes, that prove at this risk a success probability of at least the level: level^n <= risk."""
    return max(1, math.ceil(math.log(risk) / math.log(level) - 1e-12))
