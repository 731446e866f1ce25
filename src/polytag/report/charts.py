"""The charts of a run as Altair charts, and their conversion to SVG for pages and PNG for files."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import vl_convert
from markupsafe import escape

from polytag.metrics.values import Metrics
from polytag.report.curves import StepCurve

Row = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours and font of a chart: ink for text, muted for axes, line for rules, an accent, and soft for its reference."""

    ink: str
    muted: str
    line: str
    accent: str
    soft: str
    font: str


FILE = Palette(ink="#1c1f23", muted="#5f6872", line="#e3e6ea", accent="#2563a8", soft="#75808b", font="Liberation Sans")
PAGE = Palette(
    ink="var(--ink)",
    muted="var(--muted)",
    line="var(--line)",
    accent="var(--accent)",
    soft="var(--soft)",
    font="system-ui, sans-serif",
)
"""The colours of a page are CSS variables, so that charts follow dark mode and print."""

WIDTH_PX, HEIGHT_PX, NAMES_PX = 350, 200, 80
_Y_LABELS_PX = 40  # whatever the labels: charts beside each other align


def history_chart(history: Sequence[Row], *, train_key: str, val_key: str, title: str, palette: Palette) -> alt.LayerChart | None:
    """Two lines over the epochs, training and validation, each labelled at its end; None with fewer than two epochs.

    `history` rows are those of results.csv; a missing or undefined value leaves a gap.
    """
    series = {"training": (train_key, palette.soft), "validation": (val_key, palette.accent)}
    points: list[dict[str, Any]] = [
        {"epoch": row["epoch"], "value": row[key], "series": name}
        for name, (key, _) in series.items()
        for row in history
        if math.isfinite(row.get(key, math.nan)) and math.isfinite(row.get("epoch", math.nan))
    ]
    if len({point["epoch"] for point in points}) < 2:
        return None
    values = [float(point["value"]) for point in points]
    epochs = [float(point["epoch"]) for point in points]
    low, high = _padded(min(values), max(values))
    labels = _labels_apart({point["series"]: point for point in points}, low=low, high=high)
    colour = alt.Color(
        "series:N", scale=alt.Scale(domain=list(series), range=[colour for _, colour in series.values()]), legend=None
    )
    first, last = min(epochs), max(epochs)
    x = alt.X(
        "epoch:Q",
        title="epoch",
        scale=alt.Scale(domain=[first, max(last, first + 1)], nice=False),
        axis=alt.Axis(grid=False, format="d", values=_whole_ticks(first, last)),
    )
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=[low, high]), axis=alt.Axis(tickCount=5))
    lines = alt.Chart(alt.Data(values=points)).mark_line(strokeWidth=2, strokeCap="round", strokeJoin="round")
    dots = alt.Chart(alt.Data(values=points)).mark_circle(size=22, opacity=1)
    names = alt.Chart(alt.Data(values=labels)).mark_text(align="left", dx=8, fontSize=13)
    layers = [lines.encode(x=x, y=y, color=colour)]
    if last - first < 40:
        layers.append(dots.encode(x=x, y=y, color=colour))
    layers.append(names.encode(x="epoch:Q", y="value:Q", text="series:N", color=colour))
    layered: Any = alt.layer(*layers)
    return layered.properties(width=WIDTH_PX, height=HEIGHT_PX, title=title)


def tail_charts(metrics: Metrics, *, palette: Palette) -> tuple[alt.Chart, alt.Chart] | None:
    """Mean tail accuracy over the threshold, and the number of classes in that mean; None if no class has a tail."""
    tail = metrics.tail
    points = [
        {"threshold": float(threshold), "mean": float(mean), "classes": int(count)}
        for threshold, mean, count in zip(tail.threshold_K, tail.mean_K, tail.num_classes_K, strict=True)
        if np.isfinite(mean)
    ]
    if not points:
        return None
    first, last = points[0]["threshold"], points[-1]["threshold"]
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "threshold:Q",
            title="threshold (probability)",
            scale=alt.Scale(domain=[first, last if last > first else first + 0.01], nice=False),
            axis=alt.Axis(grid=False, tickCount=6),
        )
    )
    lowest = math.floor(min(point["mean"] for point in points) * 10 - 1e-9) / 10
    mean = base.mark_line(color=palette.accent, strokeWidth=2, strokeCap="round", point=len(points) == 1).encode(
        y=alt.Y("mean:Q", scale=alt.Scale(domain=[max(0.0, lowest), 1]), title=None, axis=alt.Axis(tickCount=5, format=".2f"))
    )
    num_classes = len(metrics.label_set)
    count = base.mark_line(color=palette.soft, strokeWidth=2, interpolate="step-after", point=len(points) == 1).encode(
        y=alt.Y(
            "classes:Q",
            title=None,
            scale=alt.Scale(domain=[0, num_classes], nice=False),
            axis=alt.Axis(values=_whole_ticks(0, num_classes, num_ticks=5), format="d"),
        )
    )
    return (
        mean.properties(width=WIDTH_PX, height=HEIGHT_PX, title="mean tail accuracy"),
        count.properties(width=WIDTH_PX, height=HEIGHT_PX, title=f"classes counted, of {num_classes}"),
    )


def precision_recall_chart(curves: Mapping[str, tuple[StepCurve, float]], *, palette: Palette) -> alt.FacetChart | None:
    """Small multiples: for each class name, its curve and AP; a dashed line at the precision of chance; None without a class."""
    if not curves:
        return None
    titles: list[str] = []
    points: list[dict[str, Any]] = []
    for number, (name, (curve, ap)) in enumerate(curves.items()):
        titles.append(f"{name if len(name) <= 20 else name[:19] + '…'}  {ap:.3f}")
        recall = np.concatenate(([0.0], curve.recall_S)).round(5).tolist()
        precision = np.concatenate((curve.precision_S[:1], curve.precision_S)).round(5).tolist()
        points += [
            {"panel": number, "recall": x, "precision": y, "chance": round(curve.prevalence, 5)}
            for x, y in zip(recall, precision, strict=True)
        ]
    axis = alt.Axis(values=[0, 0.5, 1], format=".1~f", grid=True)
    base = alt.Chart(alt.Data(values=points))
    line = base.mark_line(interpolate="step-before", color=palette.accent, strokeWidth=1.75).encode(
        x=alt.X("recall:Q", scale=alt.Scale(domain=[0, 1]), axis=axis),
        y=alt.Y("precision:Q", scale=alt.Scale(domain=[0, 1]), axis=axis),
    )
    chance = base.mark_rule(color=palette.soft, strokeDash=[2, 3]).encode(y=alt.Y("min(chance):Q", title="precision"))
    # The panels are numbered and named by an expression, since two long names may be cut to the same text. Vega-Lite replaces
    # "datum.value" even inside the strings of an expression, so no string holds a bare dot.
    titles_expression = json.dumps(titles).replace(".", "\\u002e")
    header = alt.Header(title=None, labelExpr=f"{titles_expression}[datum.value]", labelFontSize=13, labelFontWeight=600)
    num_columns = 5 if len(titles) <= 25 else 10
    return (
        alt.layer(chance, line)
        .properties(width=130, height=130)
        .facet(alt.Facet("panel:O", header=header), columns=min(num_columns, len(titles)), spacing=22)
        .properties(title="average precision: the area under each curve; dotted: a ranking by chance")
    )


def to_png(chart: Any, *, names_px: int = 0) -> bytes:
    """The chart on white, two pixels per unit; `names_px` is the space at its right for labels at the ends of lines."""
    return vl_convert.vegalite_to_png(_styled(chart, FILE, names_px=names_px).to_json(), scale=2)


def to_svg(chart: Any, *, description: str, names_px: int = NAMES_PX) -> str:
    """An inline `<svg>` that scales with its column, and is one image with this description for screen readers.

    It has no id and no address, so that a page can contain many.
    """
    svg = vl_convert.vegalite_to_svg(_styled(chart, PAGE, names_px=names_px).to_json())
    found = re.match(r'<svg [^>]*width="([\d.]+)" height="([\d.]+)"[^>]*>', svg)
    assert found
    assert " id=" not in svg
    svg = re.sub(r' (role|aria-[a-z]+|class|pointer-events)="[^"]*"', "", svg[found.end() :])
    width, height = found.groups()
    size = f'viewBox="0 0 {width} {height}" style="max-width:{width}px"'
    return f'<svg class="chart" {size} role="img" aria-label="{escape(description)}">{svg}'


def _styled(chart: Any, palette: Palette, *, names_px: int) -> Any:
    """The chart without a frame and ticks, with light rules."""
    margin_px = 2 if palette is PAGE else 16
    return (
        chart.configure(
            font=palette.font,
            background="transparent" if palette is PAGE else "white",
            padding={"left": margin_px, "top": margin_px, "bottom": margin_px, "right": margin_px + names_px},
        )
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=palette.muted,
            titleColor=palette.muted,
            labelFontSize=13,
            titleFontSize=13,
            titleFontWeight="normal",
            titlePadding=8,
            labelPadding=6,
            labelFlush=False,
            gridColor=palette.line,
            ticks=False,
            domain=False,
        )
        .configure_axisY(minExtent=_Y_LABELS_PX, maxExtent=_Y_LABELS_PX)
        .configure_title(color=palette.ink, fontSize=14, fontWeight=600, anchor="start", frame="group", offset=12)
        .configure_header(labelColor=palette.ink, titleColor=palette.muted)
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    """A domain with a margin above and below, and some height if all values are equal."""
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _labels_apart(last_points: Mapping[str, Mapping[str, Any]], *, low: float, high: float) -> list[dict[str, Any]]:
    """The last point of each series, moved up or down so that the two labels do not overlap."""
    labels = sorted((dict(point) for point in last_points.values()), key=lambda point: point["value"])
    gap = 22 / HEIGHT_PX * (high - low)  # letters are 13 pixels high; rounding the axis to whole ticks shrinks the gap slightly
    if len(labels) == 2 and labels[1]["value"] - labels[0]["value"] < gap:
        middle = (labels[0]["value"] + labels[1]["value"]) / 2
        middle = min(max(middle, low + gap / 2), high - gap / 2)
        labels[0]["value"], labels[1]["value"] = middle - gap / 2, middle + gap / 2
    return labels


def _whole_ticks(first: float, last: float, *, num_ticks: int = 10) -> list[int]:
    step = max(1, math.ceil((last - first) / num_ticks))
    return list(range(math.ceil(first), math.floor(last) + 1, step))
