"""The value `Metrics`: the result of an evaluation, frozen, with its text, HTML, JSON and DataFrame.

Shapes: N images, C classes, K thresholds. An undefined value is NaN, never 0, and every mean has the number of values it counts.
Needs NumPy and the standard library only; `to_frame` needs pandas.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from polytag.contracts import LabelSet
from polytag.errors import MissingExtraError
from polytag.metrics.ap import mean_over_defined
from polytag.metrics.frequency import Frequency
from polytag.metrics.groups import Groups
from polytag.metrics.intervals import FEW_POSITIVES, by_ap
from polytag.text import aligned, counted, interval_text, json_number, number_text, printable

FEW_MARK = "*"
"""Follows a number of positives under 10."""

_NUM_NAMED = 5  # classes named in a sentence


@dataclass(frozen=True, kw_only=True)
class Mean:
    """An average over classes, images or decisions, with how many it counts.

    value      NaN if nothing counts
    low, high  95% interval over images; NaN without one
    count      number of classes (for per-image averages, of images; for micro averages, of decisions) that it is over
    unit       unit of `count`: "classes", "images" or "decisions"
    promised   the value that thresholds guarantee to stay at or below on average; NaN without a guarantee
    """

    value: float
    count: int
    unit: str = "classes"
    low: float = float("nan")
    high: float = float("nan")
    promised: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class TailAccuracy:
    """Tail accuracy at K thresholds: of the images scored strictly above t, the share that truly has the class.

    threshold_K       probability; K evenly spaced from the decision threshold to the largest score of any class
    mean_K            mean over the classes that still have an image above t; NaN if none has one
    num_classes_K     number of classes in that mean
    per_class_CK      NaN if a class has no image above t; interval_CK2 its 95% Wilson interval
    count_CK          number of images of each class above t
    """

    threshold_K: np.ndarray
    mean_K: np.ndarray
    num_classes_K: np.ndarray
    per_class_CK: np.ndarray
    interval_CK2: np.ndarray
    count_CK: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Metrics:
    """Metrics of a model on one set of images; NaN where undefined, never 0.

    `print` shows the averages, then the classes, `best_first`; a notebook shows the same as HTML. `to_frame` and `to_json` convert.

    num_images          N
    threshold_C         probability at which a class counts as predicted, for every decision-based number here
    ap_C                average precision, scikit-learn's definition; ap_low_C, ap_high_C its 95% interval; ap_bias_C by how much it
                        is estimated to be too high, which matters where positives are few; ap_chance_C the expected AP of a
                        random order
    ap_voc07_C          VOC 2007's eleven points; ap_voc10_C VOC 2010's area under the monotone curve
    roc_auc_C           area under the ROC curve; roc_auc_interval_C2 its 95% interval, low and high
    brier_C, calibration_error_C   of the probabilities; lower is better
    precision_C, recall_C, f1_C, accuracy_C   at the threshold; precision_interval_C2, recall_interval_C2, accuracy_interval_C2
                        95% Wilson intervals, low and high
    support_C           positives; num_negative_C negatives; num_unknown_C images that count as neither
    means               by name: mAP, head_mAP, medium_mAP, tail_mAP, mAP_voc07, mAP_voc10, micro_AP, weighted_AP, samples_AP,
                        coverage, ranking_loss, ROC_AUC, CP, CR, CF1, OP, OR, OF1, top3_CP, top3_CR, top3_CF1, top3_OP, top3_OR,
                        top3_OF1, macro_F1, exact_match, samples_jaccard, samples_F1, set_size, samples_FNR, Brier,
                        calibration_error, accuracy
    tail                the tail accuracy curves
    frequency           by which classes are in the head, medium or in the tail
    groups              of dependent images, which the intervals draw in place of images; None if they draw images
    absent_means        what a label was that nobody gave: "absent" or "unknown"
    """

    label_set: LabelSet
    num_images: int
    threshold_C: np.ndarray
    ap_C: np.ndarray
    ap_low_C: np.ndarray
    ap_high_C: np.ndarray
    ap_bias_C: np.ndarray
    ap_chance_C: np.ndarray
    ap_voc07_C: np.ndarray
    ap_voc10_C: np.ndarray
    roc_auc_C: np.ndarray
    roc_auc_interval_C2: np.ndarray
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
    frequency: Frequency
    groups: Groups | None = None
    absent_means: str = "absent"

    @property
    def mean_ap(self) -> Mean:
        """mAP: the unweighted mean of the classes' APs, over the classes that have a positive and a negative."""
        return self.means["mAP"]

    @property
    def shown_means(self) -> Mapping[str, Mean]:
        """The means to show: without a head, medium or tail that has no class, and without all three unless two have."""
        groups = self.frequency.meanings
        several = sum(name in groups and mean.count > 0 for name, mean in self.means.items()) > 1
        return {name: mean for name, mean in self.means.items() if name not in groups or (several and mean.count > 0)}

    @property
    def chance(self) -> float:
        """The expected mAP of a random order of the images; NaN where mAP is undefined."""
        return mean_over_defined(self.ap_chance_C)

    @property
    def left_out(self) -> str:
        """A sentence that names the classes that mAP does not count, and why; "" where it counts all."""
        return left_out(self.label_set.names, self.support_C, self.num_negative_C)

    @property
    def best_first(self) -> np.ndarray:
        """Columns of the classes: highest AP first, then those with fewer than 10 positives, then undefined ones."""
        return by_ap(self.ap_C, self.support_C)

    @property
    def num_few(self) -> int:
        """Number of the classes in mAP that have fewer than 10 positives."""
        return int(self.is_few_C.sum())

    @property
    def is_few_C(self) -> np.ndarray:
        """Whether a class has an AP, but fewer than 10 positives."""
        return ~np.isnan(self.ap_C) & (self.support_C < FEW_POSITIVES)

    @property
    def note(self) -> str:
        """Sentences on labels that nobody gave, on the classes with few positives and the bias of mAP, and on groups; or ""."""
        parts = (self._note_on_absent(), self._note_on_few(), self.groups.note if self.groups else "")
        return " ".join(part for part in parts if part)

    def _note_on_absent(self) -> str:
        if self.absent_means == "absent":
            return ""
        share = int(self.num_unknown_C.sum()) / (self.num_images * len(self.label_set))
        return f"Absent means unknown: a label that nobody gave counts nowhere, and {share:.0%} of the labels are unknown."

    def _note_on_few(self) -> str:
        if not self.num_few:
            return ""
        return (
            f"mAP rests on {counted(self.num_few, 'classes')} with fewer than {FEW_POSITIVES} positives ({FEW_MARK}). "
            f"AP of few positives is too high: mAP by about {mean_over_defined(self.ap_bias_C):.3f}."
        )

    def __repr__(self) -> str:
        return f"Metrics({_headline(self)})"

    def __str__(self) -> str:
        headline = "\n".join(line for line in (_headline(self), printable(self.left_out), printable(self.note)) if line)
        return "\n\n".join([headline, _table(_average_rows(self)), _table(_class_rows(self))])

    def _repr_html_(self) -> str:
        """The HTML of a notebook: two tables, everything escaped, without scripts or network access."""
        return _html(self)

    def to_json(self) -> dict[str, object]:
        """The content of metrics.json: plain values, NaN as None."""
        return _json(self)

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row per class, in their order; columns as the keys of metrics.json, two per interval.

        Raises MissingExtraError if pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]  optional, and not in the environment
        except ImportError:
            raise MissingExtraError(
                "pandas is not installed", where="Metrics.to_frame", expected="pandas", next_step="pip install pandas"
            ) from None
        return pandas.DataFrame(_columns(self), index=pandas.Index(self.label_set.names, name="class"))


def left_out(names: Sequence[str], support_C: np.ndarray, num_negative_C: np.ndarray) -> str:
    """A sentence that names the classes without an AP: those without a positive, and those without a negative; "" without any."""
    parts: list[str] = []
    for without_C, kind in ((support_C == 0, "positive"), ((num_negative_C == 0) & (support_C > 0), "negative")):
        lacking = [name for name, is_without in zip(names, without_C, strict=True) if is_without]
        if lacking:
            some = ", ".join(lacking[:_NUM_NAMED]) + (", ..." if len(lacking) > _NUM_NAMED else "")
            parts.append(f"{counted(len(lacking), 'classes')} without a {kind} ({some})")
    return f"Not in mAP: {' and '.join(parts)}." if parts else ""


def _columns(metrics: Metrics) -> dict[str, np.ndarray]:
    return {
        "ap": metrics.ap_C,
        "low": metrics.ap_low_C,
        "high": metrics.ap_high_C,
        "bias": metrics.ap_bias_C,
        "chance": metrics.ap_chance_C,
        "ap_voc07": metrics.ap_voc07_C,
        "ap_voc10": metrics.ap_voc10_C,
        "roc_auc": metrics.roc_auc_C,
        "roc_auc_low": metrics.roc_auc_interval_C2[:, 0],
        "roc_auc_high": metrics.roc_auc_interval_C2[:, 1],
        "brier": metrics.brier_C,
        "calibration_error": metrics.calibration_error_C,
        "precision": metrics.precision_C,
        "precision_low": metrics.precision_interval_C2[:, 0],
        "precision_high": metrics.precision_interval_C2[:, 1],
        "recall": metrics.recall_C,
        "recall_low": metrics.recall_interval_C2[:, 0],
        "recall_high": metrics.recall_interval_C2[:, 1],
        "f1": metrics.f1_C,
        "accuracy": metrics.accuracy_C,
        "accuracy_low": metrics.accuracy_interval_C2[:, 0],
        "accuracy_high": metrics.accuracy_interval_C2[:, 1],
        "threshold": metrics.threshold_C,
        "support": metrics.support_C,
        "num_negative": metrics.num_negative_C,
        "num_unknown": metrics.num_unknown_C,
        "frequency": metrics.frequency.num_positives_C,
    }


def _json(metrics: Metrics) -> dict[str, object]:
    columns = _columns(metrics)
    tail = metrics.tail
    means = {name: mean_to_json(mean) for name, mean in metrics.means.items()}
    means["mAP"] |= {
        "bias": json_number(mean_over_defined(metrics.ap_bias_C)),
        "chance": json_number(metrics.chance),
        "num_few_positives": metrics.num_few,
    }
    return {
        "version": 1,
        "num_images": metrics.num_images,
        "absent_means": metrics.absent_means,
        **(metrics.groups.to_json() if metrics.groups else {}),
        "frequency_of": metrics.frequency.to_json(),
        **means,
        "per_class": {name: class_to_json(columns, column) for column, name in enumerate(metrics.label_set)},
        "tail_accuracy": {
            "threshold": _numbers(tail.threshold_K),
            "mean": _numbers(tail.mean_K),
            "num_classes": tail.num_classes_K.tolist(),
            "per_class": {name: _numbers(tail.per_class_CK[column]) for column, name in enumerate(metrics.label_set)},
            "low": {name: _numbers(tail.interval_CK2[column, :, 0]) for column, name in enumerate(metrics.label_set)},
            "high": {name: _numbers(tail.interval_CK2[column, :, 1]) for column, name in enumerate(metrics.label_set)},
            "count": {name: tail.count_CK[column].tolist() for column, name in enumerate(metrics.label_set)},
        },
    }


def class_to_json(columns: Mapping[str, np.ndarray], column: int) -> dict[str, object]:
    """The values of a class; the two ends of an interval are a list, except those of `ap`, which are `low` and `high`."""
    values: dict[str, Any] = {}
    for key, value_C in columns.items():
        value = int(value_C[column]) if value_C.dtype.kind in "iu" else json_number(value_C[column])
        name, _, end = key.rpartition("_")
        if name and end in ("low", "high"):
            values.setdefault(f"{name}_interval", []).append(value)
        else:
            values[key] = value
    return values


def mean_to_json(mean: Mean) -> dict[str, object]:
    """The object of an average in a file of metrics."""
    interval = {} if math.isnan(mean.low) else {"low": mean.low, "high": mean.high}
    promised = {} if math.isnan(mean.promised) else {"promised": mean.promised}
    return {"value": json_number(mean.value), f"num_{mean.unit}": mean.count, **interval, **promised}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [json_number(value) for value in values]


# ---- text and HTML

_MAIN = ("mAP", "mAP_voc10", "mAP_voc07", "micro_AP", "samples_AP", "ROC_AUC", "CF1", "OF1", "macro_F1")  # open in HTML
_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5em 0 1em"
_CELL = "padding:.15em .7em;text-align:{align};white-space:nowrap"
_BAR = ";min-width:8em;background:linear-gradient(90deg,rgba(70,130,180,.3) {share:.1f}%,transparent {share:.1f}%)"


def _headline(metrics: Metrics) -> str:
    mean = metrics.mean_ap
    value = "undefined" if math.isnan(mean.value) else f"{mean.value:.3f}"
    interval = "" if math.isnan(mean.low) else f" [{mean.low:.3f}, {mean.high:.3f}]"
    return f"mAP {value}{interval} over {counted(mean.count, mean.unit)}, {counted(metrics.num_images, 'images')}"


def _average_rows(metrics: Metrics) -> list[list[str]]:
    return [
        ["average", "value", "95% interval", "over"],
        *(
            [name, number_text(mean.value), interval_text(mean.low, mean.high), counted(mean.count, mean.unit)]
            for name, mean in metrics.shown_means.items()
        ),
    ]


def _class_rows(metrics: Metrics) -> list[list[str]]:
    several = len(set(metrics.threshold_C.tolist())) > 1
    headings = ["class", "AP", "95% interval", "chance", "positives", "negatives", "unknown", "precision", "recall", "F1"]
    rows = [headings + ["threshold"] * several]
    for column in metrics.best_first.tolist():
        numbers = [int(number_C[column]) for number_C in (metrics.support_C, metrics.num_negative_C, metrics.num_unknown_C)]
        rates = (metrics.precision_C[column], metrics.recall_C[column], metrics.f1_C[column])
        rows.append(
            [
                metrics.label_set.names[column],
                number_text(float(metrics.ap_C[column])),
                interval_text(float(metrics.ap_low_C[column]), float(metrics.ap_high_C[column])),
                number_text(float(metrics.ap_chance_C[column])),
                positives_text(numbers[0]),
                *(f"{number:,}" for number in numbers[1:]),
                *(number_text(float(rate)) for rate in rates),
                *([f"{metrics.threshold_C[column]:.4g}"] * several),
            ]
        )
    return rows


def positives_text(number: int) -> str:
    """The number of positives, marked where they are few."""
    return f"{number:,}" + (FEW_MARK if 0 < number < FEW_POSITIVES else "")


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(aligned([[printable(cell) for cell in row] for row in rows]))


def _html(metrics: Metrics) -> str:
    shares = [float(metrics.ap_C[column]) for column in metrics.best_first]
    heading, *averages = _average_rows(metrics)
    main = _html_table([heading, *(row for row in averages if row[0] in _MAIN)])
    rest = _html_table([heading, *(row for row in averages if row[0] not in _MAIN)])
    note = f"<p>{escape(metrics.note)}</p>" if metrics.note else ""
    return (
        f'<div style="max-height:48em;overflow:auto"><p><b>{escape(_headline(metrics))}</b></p>{note}{main}'
        f"<details><summary>more averages</summary>{rest}</details>{_html_table(_class_rows(metrics), shares=shares)}"
        f"{f'<p>{escape(metrics.left_out)}</p>' if metrics.left_out else ''}</div>"
    )


def _html_table(rows: Sequence[Sequence[str]], *, shares: Sequence[float] = ()) -> str:
    """`shares` in [0, 1] or NaN, one per row, are drawn as bars behind the second column."""

    def cells(row: Sequence[str], tag: str, share: float = math.nan) -> str:
        written: list[str] = []
        for number, text in enumerate(row):
            style = _CELL.format(align="right" if number else "left")
            if number == 1 and not math.isnan(share):
                style += _BAR.format(share=100 * share)
            written.append(f'<{tag} style="{style}">{escape(text)}</{tag}>')
        return f"<tr>{''.join(written)}</tr>"

    bars = shares or [math.nan] * (len(rows) - 1)
    body = "".join(cells(row, "td", share) for row, share in zip(rows[1:], bars, strict=True))
    return f'<table style="{_TABLE}"><thead>{cells(rows[0], "th")}</thead><tbody>{body}</tbody></table>'
