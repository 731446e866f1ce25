"""What judging gives: every number known of a model's quality, as one frozen value. NumPy and the standard library only.

Shapes: N pictures, C classes, K thresholds. What is undefined is NaN, never 0, and every mean says how many it counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from polytag.contracts import LabelSet


@dataclass(frozen=True, kw_only=True)
class Mean:
    """One number over several classes (or pictures), with how many it counted.

    value      NaN where nothing could be counted
    low, high  95% bootstrap interval over pictures; NaN where none was computed
    count      how many classes (or pictures, for per-picture averages; or decisions, for micro averages) it is over
    unit       what `count` counts: "classes", "pictures" or "decisions"
    """

    value: float
    count: int
    unit: str = "classes"
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class TailAccuracy:
    """Tail accuracy at K thresholds: of the pictures scored strictly above t, the share that truly has the class.

    threshold_K       probability; K evenly spaced from the decision threshold to the largest score of any class
    mean_K            mean over the classes that still have a picture above t; NaN where none has
    num_classes_K     how many classes that mean counted
    per_class_CK      NaN where a class has no picture above t; interval_CK2 its 95% Wilson interval
    count_CK          how many pictures each class still has above t
    """

    threshold_K: np.ndarray
    mean_K: np.ndarray
    num_classes_K: np.ndarray
    per_class_CK: np.ndarray
    interval_CK2: np.ndarray
    count_CK: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Everything that is known of a model's quality on one set of pictures; NaN where undefined, never 0.

    num_pictures        N
    threshold_C         probability at which a class counts as predicted, for every decision-based number here
    ap_C                average precision, scikit-learn's definition; ap_low_C, ap_high_C its 95% bootstrap interval
    ap_voc07_C          VOC 2007's eleven points; ap_voc10_C VOC 2010's area under the monotone curve
    roc_auc_C           area under the ROC curve
    brier_C, calibration_error_C   of the probabilities; lower is better
    precision_C, recall_C, f1_C, accuracy_C   at the threshold; precision_interval_C2, recall_interval_C2, accuracy_interval_C2
                        95% Wilson intervals, low and high
    support_C           positives; num_negative_C negatives; num_unknown_C pictures that count for neither
    means               by name: mAP, mAP_voc07, mAP_voc10, micro_AP, weighted_AP, samples_AP, coverage, ranking_loss, ROC_AUC, CP,
                        CR, CF1, OP, OR, OF1, top3_CP, top3_CR, top3_CF1, top3_OP, top3_OR, top3_OF1, macro_F1, Brier,
                        calibration_error, accuracy
    tail                the tail accuracy curves
    """

    label_set: LabelSet
    num_pictures: int
    threshold_C: np.ndarray
    ap_C: np.ndarray
    ap_low_C: np.ndarray
    ap_high_C: np.ndarray
    ap_voc07_C: np.ndarray
    ap_voc10_C: np.ndarray
    roc_auc_C: np.ndarray
    brier_C: np.ndarray
    calibration_error_C: np.ndarray
    precision_C: np.ndarray
    precision_interval_C2: np.ndarray
    recall_C: np.ndarray
    recall_interval_C2: np.ndarray
    f1_C: np.ndarray
    accuracy_C: np.ndarray
    accuracy_interval_C2: np.ndarray
    support_C: np.ndarray
    num_negative_C: np.ndarray
    num_unknown_C: np.ndarray
    means: Mapping[str, Mean] = field(default_factory=dict)
    tail: TailAccuracy

    @property
    def mean_ap(self) -> Mean:
        """mAP: the unweighted mean of the classes' APs, over the classes that have a positive."""
        return self.means["mAP"]
