"""Chart files: which are written, their kind, and SVG that can stand in a page."""

import re
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import altair as alt
import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.errors import RunError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.report.charts import FILE, PAGE, history_chart, precision_recall_chart, tail_charts, to_png, to_svg
from polytag.report.curves import step_curve
from polytag.report.plots import write_plots


def test_four_files(tmp_path: Path, predictions, metrics, history):
    written = write_plots(tmp_path / "plots", metrics=metrics, predictions=predictions, history=history)
    assert [path.name for path in written] == [
        "loss.png",
        "mean-average-precision.png",
        "tail-accuracy.png",
        "precision-recall.png",
    ]
    for path in written:
        with Image.open(path) as plot:
            assert plot.format == "PNG"
            assert plot.width > 400
            pixels = np.asarray(plot.convert("RGB"))
        assert tuple(pixels[0, 0]) == (255, 255, 255)
        assert (pixels == (0x25, 0x63, 0xA8)).all(-1).sum() > 200, "the curve in its colour"


def test_only_charts_with_something_to_show(tmp_path: Path):
    predictions = Predictions(
        ids=("a", "b"), logit_NC=np.full((2, 1), -5.0), target_NC=np.zeros((2, 1)), label_set=LabelSet(names=("dog",))
    )
    metrics = evaluate_predictions(predictions, num_replicates=0)
    assert write_plots(tmp_path, metrics=metrics, predictions=predictions) == []
    history = [{"epoch": 1.0, "val_map": 0.5}, {"epoch": 2.0, "val_map": 0.6, "val_loss": 0.1}]
    assert [path.name for path in write_plots(tmp_path, metrics=metrics, predictions=predictions, history=history)] == [
        "mean-average-precision.png"
    ]


def test_a_folder_that_cannot_be_made_is_a_run_error(tmp_path: Path, predictions, metrics):
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as error:
        write_plots(tmp_path / "file", metrics=metrics, predictions=predictions)
    assert str(error.value) == (
        f"could not save file\n  where: {tmp_path / 'file'}\n  got: File exists\n  expected: a folder that can be written"
    )


def test_svg_holds_no_id_no_address_and_follows_the_page(history, metrics):
    chart = history_chart(history, train_key="train_loss", val_key="val_loss", title="loss", palette=PAGE)
    assert chart is not None
    charts = tail_charts(metrics, palette=PAGE)
    assert charts is not None
    for svg in (to_svg(chart, description='"<&>"'), *(to_svg(tail, description="tail") for tail in charts)):
        assert " id=" not in svg
        assert "//" not in svg
        assert set(re.findall(r'(?:fill|stroke)="(?!none|var\(--)([^"]+)"', svg)) <= {"transparent"}
    assert 'aria-label="&#34;&lt;&amp;&gt;&#34;"' in to_svg(chart, description='"<&>"')


def test_the_curve_passes_through_the_numbers(history):
    """The drawn points, read back from the SVG, are the losses: y is linear in the value, x in the epoch."""
    chart = history_chart(history, train_key="train_loss", val_key="val_loss", title="loss", palette=PAGE)
    svg = to_svg(chart, description="loss")
    lines = re.findall(r'<path d="(M[^"]+)" stroke="var\(--(?:soft|accent)\)"', svg)
    assert len(lines) == 2
    drawn = [np.array([point.split(",") for point in re.split("[ML]", line)[1:]], float) for line in lines]
    for line in drawn:
        assert line.shape == (8, 2)
        assert np.ptp(np.diff(line[:, 0])) < 0.01
    x_y = np.concatenate([line[:, 1] for line in drawn])
    losses = [row["train_loss"] for row in history] + [row["val_loss"] for row in history]
    assert np.corrcoef(x_y, losses)[0, 1] == pytest.approx(-1, abs=1e-6)


def test_names_at_the_ends_never_overlap():
    rows = [{"epoch": e, "train_loss": 1 / e, "val_loss": 1 / e + 1e-6} for e in (1, 2, 3)]
    chart = history_chart(rows, train_key="train_loss", val_key="val_loss", title="loss", palette=PAGE)
    svg = to_svg(chart, description="loss")
    heights = [float(y) for y in re.findall(r'translate\([\d.]+,([\d.]+)\)"[^>]*>(?:training|validation)<', svg)]
    assert len(heights) == 2
    assert abs(heights[0] - heights[1]) >= 16


def test_class_names_are_text_in_small_multiples(predictions):
    curve = step_curve(predictions, class_name="dog")
    assert curve is not None
    names = ('"]+alert(1)+["', "<b>", "datum.value", "x" * 60, "x" * 61, "猫")
    chart = precision_recall_chart(dict.fromkeys(names, (curve, 0.5)), palette=FILE)
    svg = to_svg(chart, description="curves")
    assert svg.count("x" * 19 + "…") == 2, "two long names keep their own panels"
    for name in ('"]+alert(1)+["', "&lt;b&gt;", "datum.value", "猫"):
        assert f">{name} " in svg


def test_many_classes_still_make_one_plot(tmp_path: Path):
    rng = np.random.default_rng(0)
    num_classes = 130
    predictions = Predictions(
        ids=tuple(map(str, range(50))),
        logit_NC=rng.normal(0, 1, (50, num_classes)),
        target_NC=rng.integers(0, 2, (50, num_classes)),
        label_set=LabelSet(names=tuple(f"class {number}" for number in range(num_classes))),
    )
    metrics = replace(evaluate_predictions(predictions, num_replicates=0))
    written = write_plots(tmp_path, metrics=metrics, predictions=predictions)
    with Image.open(written[-1]) as plot:
        assert written[-1].name == "precision-recall.png"
        assert plot.height < 4500  # 100 panels, ten a row


def test_png_is_two_pixels_a_unit():
    chart = alt.Chart(alt.Data(values=[{"x": 1}])).mark_point().encode(x="x:Q").properties(width=100, height=50)
    small, wide = (Image.open(BytesIO(to_png(chart, names_px=names_px))) for names_px in (0, 40))
    assert wide.width - small.width == 80


def test_no_torch_is_imported():
    code = "import sys, polytag.report.page, polytag.report.plots, polytag.report.grids; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
