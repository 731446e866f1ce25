"""The charts of a run as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import altair as alt

from polytag import files
from polytag.contracts import Predictions
from polytag.metrics.values import Metrics
from polytag.report.charts import FILE, NAMES_PX, history_chart, precision_recall_chart, tail_charts, to_png
from polytag.report.curves import StepCurve, step_curve
from polytag.report.ranking import classes_in_detail


def write_plots(
    folder: Path, *, metrics: Metrics, predictions: Predictions, history: Sequence[Mapping[str, float]] = ()
) -> list[Path]:
    """Write loss.png, mean-average-precision.png, tail-accuracy.png and precision-recall.png; returns the files written.

    `history` rows have the keys of results.csv (epoch, train_loss, val_loss, train_map, val_map); any may be missing or NaN.
    A chart without content is not written: no history, no image above the threshold, no class with an average precision.
    With more than 100 classes, precision-recall.png shows the best and the worst 50.

    Raises RunError if the folder cannot be written.
    """
    with files.saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
    pngs = {
        "loss.png": _history_png(history, train_key="train_loss", val_key="val_loss", title="loss"),
        "mean-average-precision.png": _history_png(
            history, train_key="train_map", val_key="val_map", title="mean average precision"
        ),
        "tail-accuracy.png": _tail_png(metrics),
        "precision-recall.png": _precision_recall_png(metrics, predictions),
    }
    written: list[Path] = []
    for file_name, png in pngs.items():
        if png is not None:
            files.write_bytes(folder / file_name, png)
            written.append(folder / file_name)
    return written


def _history_png(history: Sequence[Mapping[str, float]], *, train_key: str, val_key: str, title: str) -> bytes | None:
    chart = history_chart(history, train_key=train_key, val_key=val_key, title=title, palette=FILE)
    return None if chart is None else to_png(chart, names_px=NAMES_PX)


def _tail_png(metrics: Metrics) -> bytes | None:
    charts = tail_charts(metrics, palette=FILE)
    return None if charts is None else to_png(alt.hconcat(*charts, spacing=48))


def _precision_recall_png(metrics: Metrics, predictions: Predictions) -> bytes | None:
    curves: dict[str, tuple[StepCurve, float]] = {}
    for column in classes_in_detail(metrics.ap_C, metrics.support_C):
        name = metrics.label_set.names[column]
        curve = step_curve(predictions, class_name=name)
        if curve is not None:
            curves[name] = curve, float(metrics.ap_C[column])
    chart = precision_recall_chart(curves, palette=FILE)
    return None if chart is None else to_png(chart)
