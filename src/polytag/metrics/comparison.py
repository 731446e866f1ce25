"""The value `Comparison`: the differences between runs, frozen, with its text and JSON.

Shapes: R runs, C classes. Needs NumPy and the standard library only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import LabelSet
from polytag.metrics.changes import Changes
from polytag.metrics.groups import Groups
from polytag.metrics.intervals import by_ap
from polytag.metrics.lines import NAME_WIDTHS, Line, note_lines, shortened, table_lines
from polytag.metrics.values import Mean
from polytag.text import UNDEFINED, aligned, counted, json_number, num_places, number_text

BETTER, WORSE = "▲", "▼"
"""Marks of a significant gain and of a significant loss."""

LEVEL = 0.05
"""A difference is significant, and marked, if its corrected p is at most this."""


@dataclass(frozen=True, kw_only=True)
class MeanDifference:
    """The difference in mAP of two runs, `second` minus `first`, both indices of `Comparison.names`.

    low, high  95% interval of the paired difference
    p          two-sided, of the paired permutation test
    p_holm     the same, corrected for testing all pairs of runs
    count      classes with a positive and a negative
    """

    first: int
    second: int
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    count: int

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p is at most 0.05."""
        return self.p_holm <= LEVEL


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference:
    """The difference of a later run minus the first, in mAP and for each class. NaN for a class without an AP.

    ap_C, low_C, high_C   difference in average precision, and the 95% interval of the paired difference
    p_C, p_holm_C         two-sided, of the paired permutation test; and corrected for testing all classes
    changes               per class, the images that are right in one run and wrong in the other; empty if a run has only ranks
    """

    mean: MeanDifference
    ap_C: np.ndarray
    low_C: np.ndarray
    high_C: np.ndarray
    p_C: np.ndarray
    p_holm_C: np.ndarray
    changes: tuple[Changes, ...]

    @property
    def is_significant_C(self) -> np.ndarray:
        """Whether the corrected p of each class is at most 0.05."""
        return self.p_holm_C <= LEVEL


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """R runs on the same N images and C classes; prints as a table.

    names                    R names; the others are compared with the first
    sources, checkpoint_ids  R; those of the predictions
    support_C                positives; num_negative_C negatives; num_unknown_C labels that count nowhere
    threshold_RC             probability above which a class counts as predicted, for `Difference.changes`
    ap_RC, mean_aps          average precision of each run, and its mAP with interval
    differences              R - 1: each later run minus the first
    pairs                    the difference in mAP of every pair, later minus earlier
    num_images_left_out, classes_left_out, num_labels_left_out   see `polytag.metrics.pairing.Paired`
    groups                   of dependent images, which are drawn and swapped in place of images; None if images are
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    checkpoint_ids: tuple[str, ...]
    label_set: LabelSet
    num_images: int
    support_C: np.ndarray
    num_negative_C: np.ndarray
    num_unknown_C: np.ndarray
    threshold_RC: np.ndarray
    ap_RC: np.ndarray
    mean_aps: tuple[Mean, ...]
    differences: tuple[Difference, ...]
    pairs: tuple[MeanDifference, ...]
    num_replicates: int
    num_permutations: int
    seed: int
    num_images_left_out: tuple[int, ...]
    classes_left_out: tuple[tuple[str, ...], ...]
    num_labels_left_out: int
    groups: Groups | None = None

    def lines(self, *, width: int | None = None) -> list[Line]:
        """The lines of the tables, each with its kind: a heading, a row or a note; with a `width`, none has more characters."""
        return comparison_lines(self, width=width)

    def __str__(self) -> str:
        return "\n".join(line.text for line in self.lines())

    def to_json(self) -> dict[str, object]:
        """The content of `polytag compare --json`: plain values, NaN as None."""
        return comparison_to_json(self)


def comparison_lines(comparison: Comparison, *, width: int | None = None) -> list[Line]:
    """A table for each later run, mAP first and then the classes in the order of `classes_by_difference`; then the notes."""
    lines: list[Line] = []
    for difference in comparison.differences:
        lines += [*_difference_lines(comparison, difference, width=width), Line(text="", kind="")]
    if len(comparison.pairs) > 1:
        lines += [*_pair_lines(comparison, width=width), Line(text="", kind="")]
    return lines + note_lines(comparison_notes(comparison), width=width)


def comparison_notes(comparison: Comparison) -> list[str]:
    """Notes on the pairing, on what was left out, and on the marks and p-values; a sentence or two each."""
    c = comparison
    num_scored = c.pairs[0].count
    classes = f"all {counted(num_scored, 'classes')}" if num_scored == len(c.label_set) else f"the {counted(num_scored, 'classes')}"
    tail = "." if num_scored == len(c.label_set) else f" of {len(c.label_set)} that have a positive and a negative."
    notes = [f"Paired by id on the same {counted(c.num_images, 'images')} and on {classes}{tail}"]
    if left := left_out_note(c.names, c.num_images_left_out, c.classes_left_out, c.num_labels_left_out):
        notes.append(left)
    later = c.names[1] if len(c.names) == 2 else "the later run"
    notes.append(f"difference: {later} − {c.names[0]}.")
    corrected = ", corrected by Holm," if num_scored > 1 or len(c.pairs) > 1 else ""
    notes.append(
        f"{BETTER} {WORSE}: p{corrected} is at most {LEVEL}. The 95% intervals are of the paired difference "
        f"({c.num_replicates:,} replicates)."
    )
    if c.groups:
        notes.append(f"{c.groups.note} The permutation test swaps whole groups.")
    smallest = num_scored / (1 + c.num_permutations)  # that Holm's correction leaves of the smallest possible p
    p = f"p: two-sided paired permutation test, {c.num_permutations:,} permutations"
    if num_scored > 1:
        p += f"; Holm’s correction is for {num_scored:,} classes"
        p += (
            f", and for {len(c.pairs)} pairs; p of mAP in the tables of classes has none"
            if len(c.pairs) > 1
            else "; p of mAP has none"
        )
    notes.append(p + ".")
    if smallest > 0.05:
        notes.append(f"No p of a class can fall below {smallest:.2f} with {c.num_permutations:,} permutations: use more.")
    if any(difference.changes for difference in c.differences):
        at = "a probability of " + f"{c.threshold_RC.flat[0]:g}" if len(set(c.threshold_RC.flat)) == 1 else "each run's thresholds"
        notes.append(f"gained, lost: images that are right only in the later run, or only in {c.names[0]}, at {at}.")
    else:
        notes.append("The changed images are not known: a run has ranks instead of probabilities.")
    return notes


def left_out_note(names: Sequence[str], num_images: Sequence[int], classes: Sequence[tuple[str, ...]], num_labels: int) -> str:
    """What the pairing left out of each run, which `polytag.metrics.pairing.Paired` counts; "" for nothing."""
    left = [
        f"{counted(images, 'images')} and {counted(len(lacking), 'classes')} of {run}" + (f" ({_some(lacking)})" if lacking else "")
        for run, images, lacking in zip(names, num_images, classes, strict=True)
        if images or lacking
    ]
    if num_labels:
        left.append(f"{counted(num_labels, 'labels')} on which the runs disagree")
    return f"Left out: {'; '.join(left)}." if left else ""


def classes_by_difference(difference: Difference, *, support_C: np.ndarray) -> list[int]:
    """Columns from the largest gain in AP to the largest loss; then those with fewer than 10 positives; then undefined ones."""
    return by_ap(difference.ap_C, support_C).tolist()


def _difference_lines(comparison: Comparison, difference: Difference, *, width: int | None) -> list[Line]:
    """The table of a later run. Where it is wider than `width`, the names of the runs are cut and then the counts of changed images
    get a table of their own."""
    mean, ap_RC = difference.mean, comparison.ap_RC
    rows = [
        [
            f"mAP ({counted(mean.count, 'classes')})",
            number_text(comparison.mean_aps[mean.first].value, digits=4),
            number_text(comparison.mean_aps[mean.second].value, digits=4),
            *_difference_cells(mean.value, mean.low, mean.high, p=mean.p, p_holm=mean.p_holm),
        ]
    ]
    order = classes_by_difference(difference, support_C=comparison.support_C)
    rows += [
        [
            comparison.label_set.names[column],
            number_text(ap_RC[mean.first, column], digits=4),
            number_text(ap_RC[mean.second, column], digits=4),
            *_difference_cells(
                *(values[column] for values in (difference.ap_C, difference.low_C, difference.high_C)),
                p=difference.p_holm_C[column],
                p_holm=difference.p_holm_C[column],
            ),
        ]
        for column in order
    ]
    changes = difference.changes
    sides = [[str(sum(each.num_gained for each in changes)), str(sum(each.num_lost for each in changes))]] if changes else []
    sides += [[str(changes[column].num_gained), str(changes[column].num_lost)] for column in order] if changes else []
    with_sides = [[*row, *side] for row, side in zip(rows, sides, strict=True)] if sides else rows
    side_headings = ["gained", "lost"] if sides else []
    headings: list[str] = []
    for name_width in NAME_WIDTHS:
        first, second = (shortened(comparison.names[run], name_width) for run in (mean.first, mean.second))
        names = [first, second] if first != second else ["first", "later"]
        headings = ["class", *names, "difference", "95% interval", "", "p (Holm)"]
        whole = aligned([[*headings, *side_headings], *with_sides])
        if width is None or max(map(num_places, whole)) <= width:
            return table_lines([*headings, *side_headings], with_sides, gap_after=1)
    lines = table_lines(headings, rows, gap_after=1, width=width)
    if sides:
        counts = [[row[0], *side] for row, side in zip(rows, sides, strict=True)]
        lines += [Line(text="", kind=""), *table_lines(["changed images", "gained", "lost"], counts, gap_after=1, width=width)]
    return lines


def _pair_lines(comparison: Comparison, *, width: int | None) -> list[Line]:
    headings = ["mAP of each pair", "difference", "95% interval", "", "p (Holm)"]
    names = comparison.names
    rows = [
        [
            f"{shortened(names[pair.second])} − {shortened(names[pair.first])}",
            *_difference_cells(pair.value, pair.low, pair.high, p=pair.p_holm, p_holm=pair.p_holm),
        ]
        for pair in comparison.pairs
    ]
    return table_lines(headings, rows, width=width)


def _difference_cells(value: float, low: float, high: float, *, p: float, p_holm: float) -> list[str]:
    """The cells of a difference: value, interval, mark and p; the mark is by `p_holm`."""
    interval = "" if math.isnan(low) else f"[{signed(low)}, {signed(high)}]"
    return [signed(value, digits=4), interval, mark(value, p_holm=p_holm), p_text(p)]


def mark(value: float, *, p_holm: float) -> str:
    """▲ for a significant gain, ▼ for a significant loss, else ""."""
    return "" if not p_holm <= LEVEL else BETTER if value > 0 else WORSE


def signed(value: float, *, digits: int = 3) -> str:
    """ "+0.012", "−0.012", "0.000"; an en dash if undefined."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else ("+" if value > 0 else "−") + text


def p_text(p: float) -> str:
    """Three decimals, "<0.001" below, an en dash if undefined."""
    return "<0.001" if p < 0.001 else number_text(p)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def comparison_to_json(comparison: Comparison) -> dict[str, object]:
    """Plain values, NaN as None."""
    c = comparison
    return {
        "version": 1,
        "num_images": c.num_images,
        **(c.groups.to_json() if c.groups else {}),
        "num_labels_left_out": c.num_labels_left_out,
        "num_replicates": c.num_replicates,
        "num_permutations": c.num_permutations,
        "seed": c.seed,
        "runs": [
            {
                "name": name,
                "source": c.sources[run],
                "checkpoint_id": c.checkpoint_ids[run],
                "mAP": json_number(c.mean_aps[run].value),
                "low": json_number(c.mean_aps[run].low),
                "high": json_number(c.mean_aps[run].high),
                "num_classes": c.mean_aps[run].count,
                "num_images_left_out": c.num_images_left_out[run],
                "classes_left_out": list(c.classes_left_out[run]),
            }
            for run, name in enumerate(c.names)
        ],
        "differences": [
            {
                "run": c.names[difference.mean.second],
                "minus": c.names[difference.mean.first],
                "mAP": _mean_to_json(difference.mean),
                "per_class": {name: _class_to_json(c, difference, column) for column, name in enumerate(c.label_set)},
            }
            for difference in c.differences
        ],
        "pairs": [
            {"run": c.names[each.second], "minus": c.names[each.first], **_mean_to_json(each), "p_holm": json_number(each.p_holm)}
            for each in c.pairs
        ],
    }


def _mean_to_json(mean: MeanDifference) -> dict[str, object]:
    return {
        "difference": json_number(mean.value),
        "low": json_number(mean.low),
        "high": json_number(mean.high),
        "p": json_number(mean.p),
        "significant": mean.is_significant,
        "num_classes": mean.count,
    }


def _class_to_json(comparison: Comparison, difference: Difference, column: int) -> dict[str, object]:
    values: dict[str, object] = {
        "ap": json_number(comparison.ap_RC[difference.mean.second, column]),
        "ap_minus": json_number(comparison.ap_RC[difference.mean.first, column]),
        "difference": json_number(difference.ap_C[column]),
        "low": json_number(difference.low_C[column]),
        "high": json_number(difference.high_C[column]),
        "p": json_number(difference.p_C[column]),
        "p_holm": json_number(difference.p_holm_C[column]),
        "significant": bool(difference.is_significant_C[column]),
        "support": int(comparison.support_C[column]),
        "num_negative": int(comparison.num_negative_C[column]),
        "num_unknown": int(comparison.num_unknown_C[column]),
        "threshold": json_number(comparison.threshold_RC[difference.mean.second, column]),
        "threshold_minus": json_number(comparison.threshold_RC[difference.mean.first, column]),
    }
    if difference.changes:
        changes = difference.changes[column]
        values["changed"] = {
            "num_gained": changes.num_gained,
            "num_lost": changes.num_lost,
            "p": json_number(changes.p),
            "p_holm": json_number(changes.p_holm),
            "images": [
                {
                    "id": image.id,
                    "image": image.image_path,
                    "gained": image.gained,
                    "target": int(image.present),
                    "probability": image.probability_second,
                    "probability_minus": image.probability_first,
                }
                for image in changes.images
            ],
        }
    return values
