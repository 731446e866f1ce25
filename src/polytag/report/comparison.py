"""The page of a comparison as one HTML file: differences between runs with their intervals, and the changed images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polytag.metrics.changes import Changes
from polytag.metrics.comparison import (
    Comparison,
    Difference,
    MeanDifference,
    classes_by_difference,
    comparison_notes,
    mark,
    p_text,
    signed,
)
from polytag.metrics.intervals import FEW_POSITIVES
from polytag.metrics.lines import shortened
from polytag.metrics.values import positives_text
from polytag.report.ranking import MAX_CLASSES_IN_DETAIL
from polytag.report.rendering import write_page
from polytag.report.thumbnails import pack_for_page

TOP = 20
"""The number of gained, and of lost, images that are shown for each class."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a chart: the name, both values, their difference with its interval, p and p corrected by Holm."""

    name: str
    first: float
    second: float
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    number: int = -1
    support: int = 0
    changes: Changes | None = None

    @property
    def mark(self) -> str:
        return mark(self.value, p_holm=self.p_holm)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The scale of a chart: from `low` to `high`, which include 0, with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> str:
        """The position of a value along the axis, as a percentage."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A later run compared with the first; `detailed` are the classes whose images are shown, most changes first."""

    number: int
    first: str
    second: str
    mean: Row
    rows: tuple[Row, ...]
    axis: Axis
    num_scored: int
    num_better: int
    num_worse: int
    num_few: int
    has_changes: bool
    detailed: tuple[Row, ...]


def write_comparison(path: Path | str, comparison: Comparison, *, title: str = "") -> Path:
    """Write the page of a comparison; returns `path`.

    For each class, the 20 gained and the 20 lost images with the largest change of probability are embedded as thumbnails of 96
    pixels, or of 64 where there are more than 2,500. With more than 100 classes, images are shown for the 100 with most changes;
    the tables have all. An unreadable image is a grey tile with its id. The same input gives the same bytes.

    Raises RunError if the file cannot be written.
    """
    sections = [_section(comparison, difference, number) for number, difference in enumerate(comparison.differences)]
    shown = [
        image
        for section in sections
        for row in section.detailed
        if row.changes
        for image in (*row.changes.gained[:TOP], *row.changes.lost[:TOP])
    ]
    pairs = [_pair_row(comparison, pair) for pair in comparison.pairs]
    return write_page(
        path,
        "comparison.html.j2",
        sheets=pack_for_page([image.image_path for image in shown], num_images=len({image.id for image in shown})),
        filters={"signed": signed, "tick": _tick, "p": p_text, "positives": positives_text, "short": shortened},
        title=title or _title(comparison.names),
        comparison=comparison,
        sections=sections,
        pairs=pairs,
        pairs_axis=_axis(pairs),
        notes=comparison_notes(comparison),
        top=TOP,
        max_detail=MAX_CLASSES_IN_DETAIL,
    )


def _title(names: Sequence[str]) -> str:
    return f"{names[1]} against {names[0]}" if len(names) == 2 else f"{', '.join(names[:-1])} and {names[-1]}"


def _section(comparison: Comparison, difference: Difference, number: int) -> Section:
    mean = difference.mean
    rows = tuple(
        Row(
            name=comparison.label_set.names[column],
            first=float(comparison.ap_RC[mean.first, column]),
            second=float(comparison.ap_RC[mean.second, column]),
            value=float(difference.ap_C[column]),
            low=float(difference.low_C[column]),
            high=float(difference.high_C[column]),
            p=float(difference.p_holm_C[column]),
            p_holm=float(difference.p_holm_C[column]),
            number=column,
            support=int(comparison.support_C[column]),
            changes=difference.changes[column] if difference.changes else None,
        )
        for column in classes_by_difference(difference, support_C=comparison.support_C)
    )
    changed = [row for row in rows if row.changes and row.changes.images]
    changed.sort(key=lambda row: -(row.changes.num_gained + row.changes.num_lost) if row.changes else 0)
    mean_row = _pair_row(comparison, mean)
    significant_C = difference.is_significant_C
    return Section(
        number=number,
        first=comparison.names[mean.first],
        second=comparison.names[mean.second],
        mean=replace(mean_row, name="mAP", p=mean.p),
        rows=rows,
        axis=_axis((mean_row, *rows)),
        num_scored=mean.count,
        num_better=int((significant_C & (difference.ap_C > 0)).sum()),
        num_worse=int((significant_C & (difference.ap_C < 0)).sum()),
        num_few=int(((comparison.support_C > 0) & (comparison.support_C < FEW_POSITIVES)).sum()),
        has_changes=bool(difference.changes),
        detailed=tuple(changed[:MAX_CLASSES_IN_DETAIL]),
    )


def _pair_row(comparison: Comparison, pair: MeanDifference) -> Row:
    return Row(
        name=f"{comparison.names[pair.second]} − {comparison.names[pair.first]}",
        first=comparison.mean_aps[pair.first].value,
        second=comparison.mean_aps[pair.second].value,
        value=pair.value,
        low=pair.low,
        high=pair.high,
        p=pair.p_holm,
        p_holm=pair.p_holm,
    )


def _axis(rows: Sequence[Row]) -> Axis:
    """An axis that includes 0 and every interval, with ticks at multiples of a round number."""
    values = np.array([value for row in rows for value in (row.value, row.low, row.high) if not math.isnan(value)] + [0.0])
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 1e-3)
    step = next(size for size in (s * 10.0**e for e in range(-5, 1) for s in (1, 2, 5)) if span / size <= 5)
    low, high = low - 0.04 * span, high + 0.04 * span
    ticks = tuple(round(step * number, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1))
    return Axis(low=low, high=high, ticks=ticks)


def _tick(value: float) -> str:
    """As short as the value allows: "+0.1", "−0.05", "0"."""
    return f"{value:+g}".replace("-", "−") if value else "0"
