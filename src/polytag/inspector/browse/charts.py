"""Builds the interactive charts as Vega-Lite specifications. The browser draws them with the bundle of vl-convert."""

from functools import cache
from typing import Any

import altair as alt
import vl_convert

from polytag.contracts import ABSENT, PRESENT, Predictions
from polytag.inspector.browse.curves import curve_points, histogram
from polytag.inspector.words import TRUTH_TEXT
from polytag.report.charts import PAGE

_HEIGHT_PX = 200


@cache
def bundle() -> bytes:
    """Return Vega, Vega-Lite and Vega-Embed as one script of 0.9 MB. The first call takes about a second."""
    return vl_convert.javascript_bundle().encode()  # pyright: ignore[reportCallIssue]  the stub lacks the default


def precision_recall_chart(predictions: Predictions, column: int) -> dict[str, object] | None:
    """Return precision over recall, with a dot that the page moves to its threshold; None without an average precision."""
    points = curve_points(predictions, column)
    if not points:
        return None
    scale = alt.Scale(domain=[0, 1], nice=False)
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f")
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("recall:Q", scale=scale, axis=axis), y=alt.Y("precision:Q", scale=scale, axis=axis)
    )
    nearest = alt.selection_point(name="hover", nearest=True, on="pointerover", clear="pointerout", fields=["recall"], empty=False)
    tooltip = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("precision", "recall", "score")]
    line = base.mark_line(interpolate="step-before", color=PAGE.accent, strokeWidth=2)
    target = base.mark_point(size=300, opacity=0).encode(tooltip=tooltip).add_params(nearest)
    hovered = base.mark_circle(size=60, color=PAGE.accent).transform_filter(nearest)
    at = (
        alt.Chart(alt.NamedData("at"))
        .mark_point(size=110, color=PAGE.ink, strokeWidth=2.5)
        .encode(x=alt.X("recall:Q", scale=scale), y=alt.Y("precision:Q", scale=scale))
    )
    return _specification(alt.layer(line, hovered, at, target), title="precision over recall")


def histogram_chart(predictions: Predictions, column: int) -> dict[str, object]:
    """Return the distribution of scores of images with and without the label, each as shares of its own images."""
    values = histogram(predictions, column)
    colour = alt.Color(
        "label:N",
        scale=alt.Scale(domain=[TRUTH_TEXT[PRESENT], TRUTH_TEXT[ABSENT]], range=[PAGE.accent, PAGE.soft]),
        legend=alt.Legend(title=None, orient="top", direction="horizontal", offset=0),
    )
    tooltip = [
        alt.Tooltip("label:N", title="images"),
        alt.Tooltip("images:Q", title="number", format=","),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("from:Q", format=".3~f"),
        alt.Tooltip("to:Q", format=".3~f"),
    ]
    name = "probability" if predictions.has_probabilities else "score"
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_rect(opacity=0.55)
        .encode(
            x=alt.X("from:Q", title=name, axis=alt.Axis(grid=False, tickCount=5)),
            x2="to:Q",
            y=alt.Y("share:Q", title=None, scale=alt.Scale(type="sqrt"), axis=alt.Axis(tickCount=4, format="%")),
            y2=alt.Y2(datum=0),
            color=colour,
            tooltip=tooltip,
        )
    )
    rule = alt.Chart(alt.NamedData("at")).mark_rule(color=PAGE.ink, strokeWidth=1.5).encode(x="threshold:Q")
    return _specification(alt.layer(bars, rule), title="distribution of scores")


def _specification(chart: Any, *, title: str) -> dict[str, object]:
    """Style a chart as the report does, and add the data set "at" for the mark at the threshold. It is empty at first."""
    styled = chart.properties(width="container", height=_HEIGHT_PX, title=title).configure(
        font=PAGE.font, background="transparent", padding=4
    )
    styled = styled.configure_view(stroke=None).configure_axis(
        labelColor=PAGE.muted,
        titleColor=PAGE.muted,
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
        gridColor=PAGE.line,
        ticks=False,
        domain=False,
        labelPadding=6,
    )
    styled = styled.configure_title(color=PAGE.ink, fontSize=14, fontWeight=600, anchor="start", frame="group", offset=10)
    styled = styled.configure_legend(labelColor=PAGE.muted, labelFontSize=12)
    specification = styled.to_dict(validate=False)
    specification["datasets"] = {**specification.get("datasets", {}), "at": []}
    return specification
