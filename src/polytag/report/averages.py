"""What each average of Metrics is called and means, in the words of the field, grouped as the page shows them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polytag.metrics.values import Mean, Metrics

GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Average precision": {
        "mAP": ("mAP", "unweighted mean of the classes’ average precisions: the number to quote"),
        "mAP_voc10": ("mAP, VOC 2010–2012", "the same with precision made monotone first, as the VOC devkit does since 2010"),
        "mAP_voc07": ("mAP, VOC 2007", "the same with eleven recall levels, as the VOC devkit did until 2009"),
        "micro_AP": ("micro AP", "one ranking of all decisions of all classes together"),
        "weighted_AP": ("weighted AP", "mean over classes weighted by their positives: large classes decide"),
        "samples_AP": ("samples AP (LRAP)", "mean over images of how well each one’s labels are ranked; not comparable with mAP"),
    },
    "Other rankings": {
        "ROC_AUC": ("ROC AUC", "mean of the classes’ areas under the ROC curve: high wherever absence is common"),
        "coverage": ("coverage", "how many classes down an image’s ranking all its true ones are found; lower is better"),
        "ranking_loss": ("ranking loss", "share of an image’s (true, absent) pairs in the wrong order; lower is better"),
    },
    "Probabilities": {
        "Brier": ("Brier score", "mean over classes of the squared error of the probability; lower is better"),
        "calibration_error": (
            "calibration error",
            "mean over classes of the distance of probabilities from true shares, in 15 bins of equal size; lower is better",
        ),
    },
    "At the threshold": {
        "CP": ("CP", "mean of the classes’ precisions"),
        "CR": ("CR", "mean of the classes’ recalls"),
        "CF1": ("CF1", "harmonic mean of CP and CR"),
        "OP": ("OP", "precision of all decisions counted together"),
        "OR": ("OR", "recall of all decisions counted together"),
        "OF1": ("OF1", "harmonic mean of OP and OR"),
        "macro_F1": ("macro F1", "mean of the classes’ F1; not the same as CF1"),
    },
    "The three highest scores of each image, where above the threshold": {
        "top3_CP": ("top-3 CP", "mean of the classes’ precisions"),
        "top3_CR": ("top-3 CR", "mean of the classes’ recalls"),
        "top3_CF1": ("top-3 CF1", "harmonic mean of the two"),
        "top3_OP": ("top-3 OP", "precision of all decisions counted together"),
        "top3_OR": ("top-3 OR", "recall of all decisions counted together"),
        "top3_OF1": ("top-3 OF1", "harmonic mean of the two"),
    },
}


@dataclass(frozen=True, kw_only=True)
class AverageRow:
    """One line of the table of averages."""

    name: str
    meaning: str
    mean: Mean


def average_groups(metrics: Metrics) -> dict[str, list[AverageRow]]:
    """Every mean of the scores under its heading, the unknown ones under their own names at the end."""
    groups = {
        heading: [
            AverageRow(name=name, meaning=text, mean=metrics.means[key])
            for key, (name, text) in rows.items()
            if key in metrics.means
        ]
        for heading, rows in GROUPS.items()
    }
    told = {key for rows in GROUPS.values() for key in rows}
    rest = [
        AverageRow(name="accuracy", meaning=_accuracy_says_little(metrics), mean=mean)
        if key == "accuracy"
        else AverageRow(name=key, meaning="", mean=mean)
        for key, mean in metrics.means.items()
        if key not in told
    ]
    return {heading: rows for heading, rows in (groups | {"Beside them": rest}).items() if rows}


def _accuracy_says_little(metrics: Metrics) -> str:
    """What a model that always answers "absent" would reach, in the same kind of mean."""
    num_known_C = metrics.num_negative_C + metrics.support_C
    if not num_known_C.sum():
        return "share of right decisions"
    if metrics.means["accuracy"].unit == "classes":
        known = num_known_C > 0
        always_absent = float(np.mean(metrics.num_negative_C[known] / num_known_C[known]))
    else:
        always_absent = float(metrics.num_negative_C.sum() / num_known_C.sum())
    return (
        "share of right decisions; it says little where most labels are absent: "
        f"a model that always answers “absent” would reach {always_absent:.3f}"
    )
