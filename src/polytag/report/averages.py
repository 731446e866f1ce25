"""The name and meaning of each average of Metrics, in the groups of the report."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polytag.metrics.values import Mean, Metrics

GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Average precision": {
        "mAP": ("mAP", "unweighted mean of the classes’ average precisions: the number to report"),
        "mAP_voc10": ("mAP, VOC 2010–2012", "the same with monotone precision, as in the VOC devkit since 2010"),
        "mAP_voc07": ("mAP, VOC 2007", "the same at eleven recall levels, as in the VOC devkit until 2009"),
        "head_mAP": ("head mAP", ""),
        "medium_mAP": ("medium mAP", ""),
        "tail_mAP": ("tail mAP", ""),
        "micro_AP": ("micro AP", "one ranking of the labels of all classes together"),
        "weighted_AP": ("weighted AP", "mean over classes weighted by their positives: large classes dominate"),
        "samples_AP": ("samples AP (LRAP)", "mean over images of the average precision of their labels; not comparable with mAP"),
    },
    "Other rankings": {
        "ROC_AUC": ("ROC AUC", "mean of the classes’ areas under the ROC curve: high if most labels are absent"),
        "coverage": ("coverage", "mean rank of the lowest true label of an image; lower is better"),
        "ranking_loss": ("ranking loss", "share of (true, absent) pairs of an image in the wrong order; lower is better"),
    },
    "Probabilities": {
        "Brier": ("Brier score", "mean over classes of the squared error of the probability; lower is better"),
        "calibration_error": (
            "calibration error",
            "mean over classes of the expected calibration error, with 15 bins of equal size; lower is better",
        ),
    },
    "At the threshold": {
        "CP": ("CP", "mean of the classes’ precisions"),
        "CR": ("CR", "mean of the classes’ recalls"),
        "CF1": ("CF1", "harmonic mean of CP and CR"),
        "OP": ("OP", "precision of the decisions of all classes together"),
        "OR": ("OR", "recall of the decisions of all classes together"),
        "OF1": ("OF1", "harmonic mean of OP and OR"),
        "macro_F1": ("macro F1", "mean of the classes’ F1; not the same as CF1"),
        "exact_match": ("exact match", "share of images whose labels are all right"),
        "samples_jaccard": ("samples Jaccard", "mean over images of the Jaccard index of their labels: shared over all"),
        "samples_F1": ("samples F1", "mean over images of the F1 of their labels"),
        "samples_FNR": ("samples FNR", "false negative rate: share of an image’s labels that are not predicted, mean over images"),
        "set_size": ("set size", "mean number of labels predicted for an image"),
    },
    "The three highest scores of each image, if above the threshold": {
        "top3_CP": ("top-3 CP", "mean of the classes’ precisions"),
        "top3_CR": ("top-3 CR", "mean of the classes’ recalls"),
        "top3_CF1": ("top-3 CF1", "harmonic mean of the two"),
        "top3_OP": ("top-3 OP", "precision of the decisions of all classes together"),
        "top3_OR": ("top-3 OR", "recall of the decisions of all classes together"),
        "top3_OF1": ("top-3 OF1", "harmonic mean of the two"),
    },
}


@dataclass(frozen=True, kw_only=True)
class AverageRow:
    """One row of the table of averages."""

    name: str
    meaning: str
    mean: Mean


def average_groups(metrics: Metrics) -> dict[str, list[AverageRow]]:
    """Every average under its heading, those without an entry in GROUPS at the end."""
    means = metrics.shown_means
    own = {
        **metrics.frequency.meanings,
        "mAP": GROUPS["Average precision"]["mAP"][1] + _by_chance(metrics),
        "samples_FNR": GROUPS["At the threshold"]["samples_FNR"][1] + _promised(metrics.means.get("samples_FNR")),
    }
    groups = {
        heading: [
            AverageRow(name=name, meaning=own.get(key, text), mean=means[key]) for key, (name, text) in rows.items() if key in means
        ]
        for heading, rows in GROUPS.items()
    }
    described = {key for rows in GROUPS.values() for key in rows}
    rest = [
        AverageRow(name="accuracy", meaning=_accuracy_meaning(metrics), mean=mean)
        if key == "accuracy"
        else AverageRow(name=key, meaning="", mean=mean)
        for key, mean in means.items()
        if key not in described
    ]
    return {heading: rows for heading, rows in (groups | {"Others": rest}).items() if rows}


def _by_chance(metrics: Metrics) -> str:
    return f"; by chance {metrics.chance:.3f}" if metrics.mean_ap.count else ""


def _promised(rate: Mean | None) -> str:
    return "" if rate is None or math.isnan(rate.promised) else f"; guaranteed: at most {rate.promised:g} on average"


def _accuracy_meaning(metrics: Metrics) -> str:
    """The meaning of accuracy, with the accuracy of a model that always predicts "absent", in the same kind of mean."""
    num_known_C = metrics.num_negative_C + metrics.support_C
    if not num_known_C.sum():
        return "share of correct decisions"
    if metrics.means["accuracy"].unit == "classes":
        known = num_known_C > 0
        always_absent = float(np.mean(metrics.num_negative_C[known] / num_known_C[known]))
    else:
        always_absent = float(metrics.num_negative_C.sum() / num_known_C.sum())
    return (
        "share of correct decisions; uninformative where most labels are absent: "
        f"a model that always predicts “absent” reaches {always_absent:.3f}"
    )
