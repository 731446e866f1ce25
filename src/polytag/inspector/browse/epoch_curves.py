"""Lays out curves over the epochs of one or several runs as SVG of our own. Numbers in, coordinates out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH_PX, _HEIGHT_PX = 480, 236
_LEFT_PX, _TOP_PX, _BOTTOM_PX = 44, 10, 38
_WORD_PX = 88  # for the tags of a run's own lines, which are words
_TAG_GAP_PX = 14  # between the middles of two tags
NUM_DASHES = 5
"""Kinds of lines; a tag at the end of each line tells apart those of one kind."""

_MAX_DOTTED = 40  # epochs; with more, dots would cover the line


@dataclass(frozen=True, kw_only=True)
class EpochLine:
    """A curve: (epoch, value) in ascending epochs, where it is defined. `tag` stands at its end; `is_main` is drawn strongest."""

    tag: str
    points: Sequence[tuple[float, float]]
    is_main: bool = False


@dataclass(frozen=True, kw_only=True)
class DrawnLine:
    """A line: its kind, its path, its dots, and its tag with the path that leads there."""

    tag: str
    is_main: bool
    dash: int
    path: str
    dots: Sequence[tuple[float, float]]
    tag_x: float
    tag_y: float
    leader: str


@dataclass(frozen=True, kw_only=True)
class EpochChart:
    """A chart: lines, and ticks with their place. `description` says what it shows to those who do not see it."""

    description: str
    width: int
    height: int
    left: float
    right: float
    bottom: float
    lines: Sequence[DrawnLine]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


def line_of(history: Sequence[Mapping[str, float]], key: str, *, tag: str, is_main: bool = False) -> EpochLine:
    """Return the curve of a column of results.csv, without its undefined values."""
    points = [(row["epoch"], row[key]) for row in history if math.isfinite(row[key])]
    return EpochLine(tag=tag, points=points, is_main=is_main)


def epoch_chart(lines: Sequence[EpochLine], *, description: str, tag_px: int = 30) -> EpochChart | None:
    """Return the chart of these lines, with `tag_px` for the tags at their ends; None without a point.

    A line of one point, such as a probe, is a dot with a dotted line to its tag. An epoch without a value leaves a gap.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return None
    epochs = {epoch for line in drawn for epoch, _ in line.points}
    values = [value for line in drawn for _, value in line.points]
    first = min(epochs)
    last = max(*epochs, first + 1)
    y_values = _ticks(min(values), max(values))
    low, high = min(y_values[0], min(values)), max(y_values[-1], max(values))
    height = max(_HEIGHT_PX, 18 * len(drawn) + _TOP_PX + _BOTTOM_PX)
    right, bottom = float(WIDTH_PX - tag_px), float(height - _BOTTOM_PX)

    def x(epoch: float) -> float:
        return round(_LEFT_PX + (epoch - first) / (last - first) * (right - _LEFT_PX), 2)

    def y(value: float) -> float:
        return round(bottom - (value - low) / (high - low) * (bottom - _TOP_PX), 2)

    tag_ys = _apart([y(line.points[-1][1]) for line in drawn], low=_TOP_PX, high=bottom)
    return EpochChart(
        description=description,
        width=WIDTH_PX,
        height=height,
        left=_LEFT_PX,
        right=right,
        bottom=bottom,
        lines=[
            DrawnLine(
                tag=line.tag,
                is_main=line.is_main,
                dash=0 if line.is_main else place % NUM_DASHES,
                path=_path([(epoch, x(epoch), y(value)) for epoch, value in line.points]),
                dots=[(x(epoch), y(value)) for epoch, value in line.points]
                if len(epochs) <= _MAX_DOTTED or len(line.points) == 1
                else [],
                tag_x=right + 12,
                tag_y=tag_y,
                leader=f"M{x(line.points[-1][0])} {y(line.points[-1][1])}H{right}L{right + 9} {tag_y}",
            )
            for place, (line, tag_y) in enumerate(zip(drawn, tag_ys, strict=True))
        ],
        x_ticks=[(x(epoch), f"{epoch:.0f}") for epoch in _whole_ticks(first, last)],
        y_ticks=[(y(value), f"{value:.{_num_decimals(y_values)}f}") for value in y_values],
    )


def training_charts(history: Sequence[Mapping[str, float]]) -> list[tuple[str, EpochChart]]:
    """Return the charts of a run's own epochs, with their titles: loss and mean average precision, of validation and training."""
    charts = [
        (title, _training_chart(history, f"train_{key}", f"val_{key}", what=title))
        for title, key in (("loss", "loss"), ("mean average precision", "map"))
    ]
    return [(title, chart) for title, chart in charts if chart is not None]


def _training_chart(history: Sequence[Mapping[str, float]], train_key: str, val_key: str, *, what: str) -> EpochChart | None:
    lines = [line_of(history, val_key, tag="validation", is_main=True), line_of(history, train_key, tag="training")]
    last = [f"{line.tag} {line.points[-1][1]:.3f} at epoch {line.points[-1][0]:.0f}" for line in lines if line.points]
    return epoch_chart(lines, description=f"{what.capitalize()} over the epochs: {', '.join(last)}", tag_px=_WORD_PX)


def _path(points: Sequence[tuple[float, float, float]]) -> str:
    """The path through (epoch, x, y), broken where an epoch has no value."""
    joined = [False, *(after[0] - before[0] == 1 for before, after in pairwise(points))]
    return "".join(f"{'L' if is_joined else 'M'}{x} {y}" for is_joined, (_, x, y) in zip(joined, points, strict=True))


def _apart(wanted: Sequence[float], *, low: float, high: float) -> list[float]:
    """Move places apart until each is _TAG_GAP_PX from the next, in their order, within the bounds."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = [0.0] * len(wanted)
    at = low - _TAG_GAP_PX
    for index in order:
        at = placed[index] = max(wanted[index], at + _TAG_GAP_PX)
    at = high + _TAG_GAP_PX
    for index in reversed(order):
        at = placed[index] = min(placed[index], at - _TAG_GAP_PX)
    return [round(place, 2) for place in placed]


def _ticks(low: float, high: float) -> list[float]:
    """At most six round numbers from at most `low` to at least `high`."""
    least = max(high - low or abs(high) or 1.0, 1e-6 * max(1.0, abs(high))) / 4.001
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _num_decimals(ticks: Sequence[float]) -> int:
    """As many as the step between two ticks needs."""
    return max(0, -math.floor(math.log10((ticks[1] - ticks[0]) * 1.0001)))


def _whole_ticks(first: float, last: float) -> list[int]:
    step = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000) if (last - first) / size <= 10)
    return list(range(math.ceil(first / step) * step, math.floor(last) + 1, step))
