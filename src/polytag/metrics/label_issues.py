"""Label issues: the labels that a model contradicts, ranked, with an estimate of how many are wrong.

Shapes: N images, C classes. Each class is a separate binary problem. Scores must come from a model that was not trained on these
labels: on validation images, or out-of-fold.

Probabilities are the model's, calibrated by Platt's map that was fitted on other images (`metrics/calibration.py`). They alone rank
the label issues: the lower the probability of the given label, the more suspicious (self-confidence; in a binary problem the
normalised margin has the same order). Confident learning estimates how many labels are wrong: Northcutt, Jiang, Chuang 2021,
"Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 1373, equations 1 to 3, arXiv:1911.00068.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, LabelSet, Predictions
from polytag.errors import UsageError
from polytag.logits import sigmoid
from polytag.metrics.calibration import fit_calibration
from polytag.metrics.groups import Groups
from polytag.text import json_number

FEWEST_POSITIVES = 20
"""A class with fewer known positives (or negatives) gets no estimate of how many of its labels are wrong."""

FEWEST_CONFIRMED = 10
"""Nor does a class of which the model confidently confirms fewer positives, or fewer negatives: such a model knows too little."""

MEANINGS = {PRESENT: "present", ABSENT: "absent", UNKNOWN: "unknown"}


@dataclass(frozen=True, kw_only=True)
class LabelIssue:
    """A given label that is probably wrong, or an unknown one that is probably present.

    row             of the Predictions
    given           PRESENT, ABSENT or UNKNOWN
    probability     that the class is present, in [0, 1]
    belief          log-odds of the given label, or of PRESENT for an unknown one: the sort key, lowest first, or highest first for
                    unknown labels
    is_counted      whether the model is confident, by confident learning's threshold; False in a class without an estimate
    """

    row: int
    id: str
    class_name: str
    given: int
    probability: float
    belief: float
    is_counted: bool
    image_path: str


@dataclass(frozen=True, kw_only=True)
class ClassLabelIssues:
    """The label issues of one class: how many labels it has, how many of them are estimated to be wrong, and which.

    num_present, num_absent, num_unknown   labels given
    wrong_present     estimated number of images labelled with the class that lack it; NaN without an estimate
    wrong_absent      estimated number of images labelled without the class that have it; NaN without an estimate
    num_fill_in       unknown labels that are more likely present than not
    reason            why there is no estimate, or ""
    present, absent   label issues among the images labelled with and without the class, most suspicious first
    unknown           unknown labels that are probably present, most probable first
    """

    name: str
    num_present: int
    num_absent: int
    num_unknown: int
    wrong_present: float
    wrong_absent: float
    num_fill_in: int
    reason: str
    present: tuple[LabelIssue, ...]
    absent: tuple[LabelIssue, ...]
    unknown: tuple[LabelIssue, ...]

    @property
    def issues(self) -> tuple[LabelIssue, ...]:
        """The issues of given labels, the most suspicious of both kinds first."""
        return merged((*self.present, *self.absent))


@dataclass(frozen=True, kw_only=True)
class LabelIssues:
    """The label issues of every class of one set of predictions; each lists at most `top` of each kind."""

    label_set: LabelSet
    source: str
    num_images: int
    top: int
    classes: tuple[ClassLabelIssues, ...]

    @property
    def issues(self) -> tuple[LabelIssue, ...]:
        """The issues of given labels of all classes, the most suspicious first."""
        return merged([issue for part in self.classes for issue in (*part.present, *part.absent)])

    @property
    def fill_ins(self) -> tuple[LabelIssue, ...]:
        """Unknown labels of all classes that are probably present, the most probable first."""
        return tuple(sorted((issue for part in self.classes for issue in part.unknown), key=lambda each: (-each.belief, each.id)))

    def to_json(self) -> dict[str, object]:
        """Plain values for JSON, NaN as None; `docs/howto/label-issues.md` lists the keys."""
        return {
            "source": self.source,
            "num_images": self.num_images,
            "top": self.top,
            "per_class": {part.name: _class_to_json(part) for part in self.classes},
        }


def find_label_issues(
    predictions: Predictions,
    *,
    top: int = 20,
    classes: Sequence[str] = (),
    num_folds: int = 5,
    seed: int = 0,
    groups: Groups | None = None,
) -> LabelIssues:
    """Find the labels that held-out scores contradict, of these classes or of all.

    Lists at most `top` of each class and kind, and only those that the model contradicts: a given label with a probability below
    1/2, an unknown one with a probability of PRESENT above 1/2. Ties are sorted by id. A class with fewer than FEWEST_POSITIVES
    known positives or negatives, or that the scores do not rank, has no estimate. An estimate is no bound. It includes the mistakes
    of the model, which no score distinguishes from wrong labels, and so is too high where few labels are wrong; and it is too low
    where many are wrong in one direction, because the calibration and the thresholds are fitted to the same labels.

    The probabilities are cross-fitted, and the images of a group share a fold. Raises UsageError for an unknown class or a `top`
    below 1, PredictionsError for ranks and for fewer images than folds.
    """
    if top < 1:
        raise UsageError("nothing to list", where="top", got=str(top), expected="1 or more")
    columns = [predictions.label_set.index(name) for name in dict.fromkeys(classes)] or range(len(predictions.label_set))
    fit = fit_calibration(predictions, method="platt", num_folds=num_folds, seed=seed, groups=groups)
    return LabelIssues(
        label_set=predictions.label_set,
        source=predictions.source,
        num_images=len(predictions),
        top=top,
        classes=tuple(
            _class_label_issues(predictions, column, logit_N=fit.cross_fitted_logit_NC[:, column], note=fit.notes[column], top=top)
            for column in columns
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ConfidentJoint:
    """The confident joint of one class, [given][confident] with 0 absent and 1 present, and its thresholds.

    counts_22   images whose given label is the row and whose confident label is the column; others are in no cell
    threshold_2 mean probability of "absent" among images labelled absent, of "present" among those labelled present, at least 1/2
    """

    counts_22: np.ndarray
    threshold_2: tuple[float, float]

    def wrong(self, *, given: int, num_given: int) -> float:
        """Estimated number of wrong labels among the `num_given` of this kind: the joint scaled to all given labels."""
        total = int(self.counts_22[given].sum())
        return num_given * float(self.counts_22[given, 1 - given]) / total if total else math.nan


def confident_joint(target_N: np.ndarray, probability_N: np.ndarray) -> ConfidentJoint:
    """Count the images by given and confident label; unknown labels (-1) count nowhere.

    A label is confident if its probability reaches its mean among the images given that label (Northcutt et al., equation 2). For a
    rare class that mean may be 0.05, and a label would be "confident" although its opposite is nearly certain. Here no threshold is
    below 1/2, which in a binary problem also excludes two confident labels of one image. Without a given label it is 1/2.
    """
    means = [
        float(np.mean(np.where(given, probability_N, 1 - probability_N)[target_N == given])) if (target_N == given).any() else 0.5
        for given in (ABSENT, PRESENT)
    ]
    threshold_2 = (max(0.5, means[ABSENT]), max(0.5, means[PRESENT]))
    present_N = (probability_N >= threshold_2[PRESENT]) & (probability_N > 0.5)
    absent_N = (1 - probability_N >= threshold_2[ABSENT]) & (probability_N <= 0.5)
    counts_22 = np.array(
        [[int(((target_N == given) & confident_N).sum()) for confident_N in (absent_N, present_N)] for given in (ABSENT, PRESENT)]
    )
    return ConfidentJoint(counts_22=counts_22, threshold_2=threshold_2)


def merged(issues: Sequence[LabelIssue]) -> tuple[LabelIssue, ...]:
    """The issues sorted, the most suspicious first; ties by class and id."""
    return tuple(sorted(issues, key=lambda each: (each.belief, each.class_name, each.id)))


def _class_label_issues(predictions: Predictions, column: int, *, logit_N: np.ndarray, note: str, top: int) -> ClassLabelIssues:
    target_N = predictions.target_NC[:, column]
    probability_N = sigmoid(logit_N)
    joint = confident_joint(target_N, probability_N)
    num_present, num_absent = int((target_N == PRESENT).sum()), int((target_N == ABSENT).sum())
    reason = _why_not(joint, num_present=num_present, num_absent=num_absent, note=note)

    def ranked(given: int) -> tuple[LabelIssue, ...]:
        belief_N = -logit_N if given == ABSENT else logit_N
        doubt_N = -belief_N if given == UNKNOWN else belief_N
        rows = np.flatnonzero((target_N == given) & (doubt_N < 0))
        if len(rows) > top:
            rows = rows[doubt_N[rows] <= np.partition(doubt_N[rows], top - 1)[top - 1]]
        order = sorted(rows.tolist(), key=lambda row: (doubt_N[row], predictions.ids[row]))[:top]
        limit = joint.threshold_2[ABSENT if given == PRESENT else PRESENT]
        return tuple(
            LabelIssue(
                row=row,
                id=predictions.ids[row],
                class_name=predictions.label_set.names[column],
                given=given,
                probability=float(probability_N[row]),
                belief=float(belief_N[row]),
                is_counted=not reason and bool((1 - probability_N[row] if given == PRESENT else probability_N[row]) >= limit),
                image_path=predictions.image_paths[row],
            )
            for row in order
        )

    return ClassLabelIssues(
        name=predictions.label_set.names[column],
        num_present=num_present,
        num_absent=num_absent,
        num_unknown=int((target_N == UNKNOWN).sum()),
        wrong_present=math.nan if reason else joint.wrong(given=PRESENT, num_given=num_present),
        wrong_absent=math.nan if reason else joint.wrong(given=ABSENT, num_given=num_absent),
        num_fill_in=int(((target_N == UNKNOWN) & (logit_N > 0)).sum()),
        reason=reason,
        present=ranked(PRESENT),
        absent=ranked(ABSENT),
        unknown=ranked(UNKNOWN),
    )


def _why_not(joint: ConfidentJoint, *, num_present: int, num_absent: int, note: str) -> str:
    """The reason why a class has no estimate; "" if it has one."""
    for number, kind in ((num_present, "positives"), (num_absent, "negatives")):
        if number < FEWEST_POSITIVES:
            return f"{number} of {FEWEST_POSITIVES} {kind} needed"
    if note:
        return note.partition(":")[0]
    for given, kind in ((PRESENT, "positives"), (ABSENT, "negatives")):
        if (confirmed := int(joint.counts_22[given, given])) < FEWEST_CONFIRMED:
            return f"the model confirms {confirmed} of {FEWEST_CONFIRMED} {kind} needed"
    return ""


def _class_to_json(part: ClassLabelIssues) -> dict[str, object]:
    return {
        "num_present": part.num_present,
        "num_absent": part.num_absent,
        "num_unknown": part.num_unknown,
        "wrong_present": json_number(part.wrong_present),
        "wrong_absent": json_number(part.wrong_absent),
        "num_fill_in": part.num_fill_in,
        "reason": part.reason,
        "issues": [
            {
                "id": issue.id,
                "given": MEANINGS[issue.given],
                "probability": issue.probability,
                "is_counted": issue.is_counted,
                "image_path": issue.image_path,
            }
            for issue in (*part.issues, *part.unknown)
        ],
    }
