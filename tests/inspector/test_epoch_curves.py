"""Curves over the epochs: values where they belong, gaps, single points, tags that never overlap, and the runs of a leaderboard."""

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.data.read_options import ReadOptions
from polytag.inspector.browse.epoch_curves import EpochChart, EpochLine, epoch_chart, line_of
from polytag.inspector.browse.run_curves import MAX_RUNS, curves_of_group, curves_of_runs
from polytag.runs.args import RunArgs, write_args
from polytag.runs.folder import RunFolder
from polytag.runs.history import COLUMNS, write_history
from polytag.runs.leaderboard import leaderboard
from polytag.runs.recipe import FINETUNE


def rows(*val_map: float, first: int = 1):
    return [{**dict.fromkeys(COLUMNS, 0.5), "epoch": float(epoch), "val_map": value} for epoch, value in enumerate(val_map, first)]


def value_at(chart: EpochChart, y: float) -> float:
    """Read a value off the chart, by its labelled ticks."""
    (y0, text0), *_, (y1, text1) = chart.y_ticks
    return float(text0) + (y - y0) / (y1 - y0) * (float(text1) - float(text0))


def test_a_value_is_where_the_axis_says():
    history = rows(0.31, 0.42, 0.405, first=0)
    chart = epoch_chart([line_of(history, "val_map", tag="1")], description="d")
    (line,) = chart.lines
    assert [value_at(chart, y) for _, y in line.dots] == pytest.approx([0.31, 0.42, 0.405], abs=0.002)
    ticks = {text: x for x, text in chart.x_ticks}
    assert [x for x, _ in line.dots] == [ticks["0"], ticks["1"], ticks["2"]]
    assert line.path.count("M") == 1


def test_an_epoch_without_a_value_leaves_a_gap_and_a_single_point_is_a_dot():
    chart = epoch_chart(
        [line_of(rows(0.3, 0.4, math.nan, 0.5, 0.6), "val_map", tag="1"), line_of(rows(0.45, first=0), "val_map", tag="2")],
        description="d",
    )
    gapped, single = chart.lines
    assert re.sub("[^ML]", "", gapped.path) == "MLML"
    assert len(single.dots) == 1
    assert epoch_chart([line_of(rows(math.nan), "val_map", tag="1")], description="d") is None


@given(
    st.lists(
        st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40),
        min_size=1,
        max_size=20,
    )
)
def test_tags_are_apart_in_the_order_of_the_ends_and_everything_is_inside(curves: list[list[float]]):
    lines = [EpochLine(tag=str(n), points=list(enumerate(values))) for n, values in enumerate(curves)]
    chart = epoch_chart(lines, description="d")
    ends = sorted((line.dots[-1][1], line.tag_y) for line in chart.lines)
    gaps = np.diff(sorted(line.tag_y for line in chart.lines))
    assert (gaps >= 13.9).all()
    for (end, tag), (next_end, next_tag) in pairwise(ends):
        assert end == next_end or tag < next_tag
    for line in chart.lines:
        assert 0 <= line.tag_y <= chart.bottom + 0.01
        for x, y in line.dots:
            assert chart.left <= x <= chart.right
            assert 9.9 <= y <= chart.bottom + 0.01
    assert 2 <= len(chart.y_ticks) <= 7


def test_runs_are_numbered_from_the_best_and_the_pages_own_is_always_there():
    named = [(f"run {n:02}", n == 24, rows(0.1, 0.9 - n / 100)) for n in range(25)]
    curves = curves_of_runs([*named, ("nothing", False, rows(math.nan))])
    assert [row.number for row in curves.rows] == list(range(1, MAX_RUNS + 1))
    assert [row.name for row in curves.rows] == [*(f"run {n:02}" for n in range(19)), "run 24"]
    assert curves.rows[-1].is_own
    assert (curves.rows[0].best, curves.rows[0].epoch, curves.num_left_out) == (0.9, 2, 5)
    assert {line.tag: line.dash for line in curves.chart.lines} == {str(row.number): row.dash for row in curves.rows}
    assert "run 24 0.660 at epoch 2" in curves.chart.description


def test_probes_alone_have_no_chart_and_one_beside_a_curve_is_in_it():
    probes = [(name, False, rows(0.7, first=0)) for name in "ab"]
    assert curves_of_runs(probes) is None
    curves = curves_of_runs([*probes, ("c", True, rows(0.5, 0.6, first=0))])
    assert [(row.name, row.num_epochs) for row in curves.rows] == [("a", 1), ("b", 1), ("c", 2)]


def test_a_leaderboards_runs_with_folds_and_a_file_that_is_being_copied(tmp_path: Path):
    def run(path: Path, *val_map: float, **args: int) -> RunFolder:
        made = RunFolder(path=path)
        path.mkdir(parents=True)
        recipe = replace(FINETUNE, epochs=3)
        write_args(made, RunArgs(data=None, dataset="d", options=ReadOptions(), recipe=recipe, data_fingerprint="f" * 16, **args))
        if val_map:
            write_history(made, rows(*val_map))
        made.environment.write_text(json.dumps({"validation_fingerprint": "f" * 16}))
        return made

    run(tmp_path / "plain", 0.4, 0.5)
    run(tmp_path / "cut", 0.4, 0.5)
    run(tmp_path / "folds", folds=2)
    run(tmp_path / "folds" / "fold-1", 0.2, 0.6, 0.9, folds=2, fold=1)
    run(tmp_path / "folds" / "fold-2", 0.4, 0.7, folds=2, fold=2)
    board = leaderboard(tmp_path)
    (tmp_path / "cut" / "results.csv").write_text((tmp_path / "cut" / "results.csv").read_text()[:-20])
    found = curves_of_group([run for group in board.groups for run in group], own_path=tmp_path / "plain")
    assert [(row.name, row.best, row.epoch, row.num_epochs) for row in found.rows] == [
        ("folds", pytest.approx(0.65), 2, 2),
        ("plain", 0.5, 2, 2),
    ]
