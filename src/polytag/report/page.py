"""The report: one self-contained HTML file, without network access, scripts or other files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from markupsafe import Markup

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Predictions
from polytag.metrics.intervals import FEW_POSITIVES
from polytag.metrics.slices import Slices, caveats
from polytag.metrics.values import Metrics, positives_text
from polytag.metrics.worst_errors import worst_errors
from polytag.report.averages import average_groups
from polytag.report.charts import PAGE, history_chart, tail_charts, to_svg
from polytag.report.curves import StepCurve, step_curve
from polytag.report.ranking import (
    MAX_CLASSES_IN_DETAIL,
    TOP,
    TOP_POSITIVES,
    RankedRow,
    classes_in_detail,
    num_targets,
    ranked_rows,
    side_of,
)
from polytag.report.rendering import write_page
from polytag.report.thumbnails import pack_for_page

NUM_WORST = 8
INSPECTOR = "http://127.0.0.1:8421"
"""The default address of `polytag inspect`."""

_GRIDS = ((False, False, TOP), (True, True, TOP_POSITIVES), (True, False, TOP))  # lowest, positives, the number of images
_TRUTH = {PRESENT: ("y", "labelled present"), ABSENT: ("n", "labelled absent"), UNKNOWN: ("u", "label unknown")}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One end of the ranking of a class, of all images or of its positives, with its numbers of labels of each kind."""

    lowest: bool
    positives: bool
    rows: tuple[RankedRow, ...]

    @property
    def num_present(self) -> int:
        return num_targets(self.rows)[0]

    @property
    def num_absent(self) -> int:
        return num_targets(self.rows)[1]

    @property
    def num_unknown(self) -> int:
        return num_targets(self.rows)[2]


@dataclass(frozen=True, kw_only=True)
class ErrorView:
    """One of the worst errors: an image, and the class that it is decided wrongly about."""

    class_name: str
    row: RankedRow


@dataclass(frozen=True, kw_only=True)
class ClassView:
    """A class on the page; only a class shown in detail has a `curve` and `grids`. `reason` says why an AP is undefined."""

    number: int
    name: str
    ap: float
    low: float
    high: float
    chance: float
    support: int
    num_unknown: int
    precision: float
    recall: float
    threshold: float
    reason: str
    curve: StepCurve | None = None
    grids: tuple[Grid, ...] = ()


def write_report(
    path: Path | str,
    *,
    metrics: Metrics,
    predictions: Predictions,
    history: Sequence[Mapping[str, float]] = (),
    title: str,
    facts: Mapping[str, str] = {},
    slices: Sequence[Slices] = (),
) -> Path:
    """Write the report of one model on one set of images; returns `path`.

    `metrics` are those of `predictions`. `history` rows have the keys of results.csv (epoch, train_loss, val_loss, train_map,
    val_map); any may be missing or NaN. `facts` are shown unchanged: backbone, recipe, date. Each of `slices` is a table.

    The page begins with the eight worst errors, as far as their images can be read: see `worst_errors`.
    The 50 highest and the 50 lowest scored images of each class, and its 20 lowest scored positives, are embedded as thumbnails of
    96 pixels, each image once, or of 64 pixels where there are more than 2,500 of them. An orange frame is a decision that
    contradicts the label, as in the inspector. With more than 100 classes, images and curves are those of the 50 best and the 50
    worst by average precision; the tables have all. An unreadable image is a grey tile with its id. The same input gives the same
    bytes.

    Raises RunError if the file cannot be written.
    """
    assert metrics.label_set == predictions.label_set
    assert metrics.num_images == len(predictions)
    worst = _worst_errors(metrics, predictions)
    detailed = set(classes_in_detail(metrics.ap_C, metrics.support_C))
    classes = [_class_view(metrics, predictions, column, detailed=column in detailed) for column in metrics.best_first.tolist()]
    shown = [each.row for each in worst] + [row for view in classes for grid in view.grids for row in grid.rows]
    num_shown = len({row.row for row in shown})
    sheets = pack_for_page([row.image_path for row in shown], num_images=num_shown)
    return write_page(
        path,
        "report.html.j2",
        sheets=sheets,
        filters={
            "curve_path": _curve_path,
            "positives": positives_text,
            "class_query": lambda name: urlencode({"class": name}),
            "side": side_of,
        },
        title=title,
        metrics=metrics,
        predictions=predictions,
        facts=facts,
        worst=[each for each in worst if each.row.image_path in sheets.places],
        classes=classes,
        with_ap=[view for view in classes if not np.isnan(view.ap)],
        ranked=[view for view in classes if view.support >= FEW_POSITIVES],
        without_ap=[view for view in classes if np.isnan(view.ap)],
        detailed=[view for view in classes if view.grids],
        max_detail=MAX_CLASSES_IN_DETAIL,
        one_threshold=len(set(metrics.threshold_C.tolist())) == 1,
        history_charts=_history_charts(history),
        tail_charts=_tail_charts(metrics),
        averages=average_groups(metrics),
        slices=[(part, caveats(part)) for part in slices],
        num_shown=num_shown,
        num_missing=len({row.row for row in shown if row.image_path not in sheets.places}),
        truth=_TRUTH,
        inspector=INSPECTOR,
    )


def _worst_errors(metrics: Metrics, predictions: Predictions) -> list[ErrorView]:
    """The eight images with the highest loss of a wrong decision."""
    found = worst_errors(predictions, metrics.threshold_C, top=NUM_WORST)
    return [
        ErrorView(
            class_name=predictions.label_set.names[each.column],
            row=RankedRow(
                rank=rank,
                row=each.row,
                id=predictions.ids[each.row],
                logit=float(predictions.logit_NC[each.row, each.column]),
                probability=float(predictions.take([each.row]).probability_NC[0, each.column]),
                target=int(predictions.target_NC[each.row, each.column]),
                image_path=predictions.image_paths[each.row],
            ),
        )
        for rank, each in enumerate(found, start=1)
    ]


def _class_view(metrics: Metrics, predictions: Predictions, column: int, *, detailed: bool) -> ClassView:
    name = metrics.label_set.names[column]
    grids: tuple[Grid, ...] = ()
    if detailed:
        grids = tuple(
            Grid(
                lowest=lowest,
                positives=positives,
                rows=ranked_rows(predictions, class_name=name, top=top, lowest=lowest, positives=positives),
            )
            for lowest, positives, top in _GRIDS
        )
        grids = tuple(grid for grid in grids if grid.rows or not grid.positives)
    return ClassView(
        number=column,
        name=name,
        ap=float(metrics.ap_C[column]),
        low=float(metrics.ap_low_C[column]),
        high=float(metrics.ap_high_C[column]),
        chance=float(metrics.ap_chance_C[column]),
        support=int(metrics.support_C[column]),
        num_unknown=int(metrics.num_unknown_C[column]),
        precision=float(metrics.precision_C[column]),
        recall=float(metrics.recall_C[column]),
        threshold=float(metrics.threshold_C[column]),
        reason="no negative label" if metrics.support_C[column] else "no positive label",
        curve=step_curve(predictions, class_name=name) if detailed else None,
        grids=grids,
    )


def _history_charts(history: Sequence[Mapping[str, float]]) -> list[Markup]:
    charts = (
        history_chart(history, train_key="train_loss", val_key="val_loss", title="loss", palette=PAGE),
        history_chart(history, train_key="train_map", val_key="val_map", title="mean average precision", palette=PAGE),
    )
    descriptions = (
        "Loss of training and validation over the epochs",
        "Mean average precision of training and validation over the epochs",
    )
    return [Markup(to_svg(chart, description=text)) for chart, text in zip(charts, descriptions, strict=True) if chart is not None]


def _tail_charts(metrics: Metrics) -> list[Markup]:
    charts = tail_charts(metrics, palette=PAGE)
    descriptions = ("Mean tail accuracy over the threshold", "Number of classes with an image above the threshold")
    return [Markup(to_svg(chart, description=text)) for chart, text in zip(charts or (), descriptions, strict=bool(charts))]


def _curve_path(curve: StepCurve) -> str:
    """SVG path data in a box of 100 by 100, recall to the right and precision upward, as steps."""
    parts = [f"M0,{100 - 100 * curve.precision_S[0]:.1f}"]
    for recall, precision in zip(curve.recall_S, curve.precision_S, strict=True):
        parts.append(f"V{100 - 100 * precision:.1f}H{100 * recall:.1f}")
    return "".join(parts)
