"""Pillow's antialiased resizing as ordinary operations, to the same bytes.

Pillow (`src/libImaging/Resample.c`) multiplies the pixels of one side with coefficients rounded to 22 bits, adds them as integers,
and rounds the sum. Here the coefficients are made in float64 as Pillow makes them, rounded to 22 bits, and divided into a high part
and a low one of 7 bits, so that a product of matrices in float32 is exact: levels below 256 times the high parts, which sum to less
than 1.3 x 2**15, and times up to 1,000 low parts of at most 64, stay below 2**24. That holds for sides of up to `MAX_SCALE` times
the new one. The parts are joined as 32-bit integers, as Pillow adds them. As in data/images/resize.py, the horizontal pass comes
first.

Shapes: H, W height and width of the image, S new length of a side, L length of a side, K pixels that one new pixel reads at most.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polytag.export.graph import DOUBLE, FLOAT, INT32, INT64, UINT8, Graph

MAX_SCALE = 248
_BITS = 22  # of a coefficient in Pillow
_LOW = 2**7
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # pixels on either side that a filter reads


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What one pass multiplies with: the high and the low part of the coefficients, float32 L x S each."""

    high: str
    low: str


def weights(graph: Graph, *, length: str, new_length: str, interpolation: str) -> Weights:
    """The coefficients of one side: `length` and `new_length` are int64 numbers in the graph."""
    one, zero = graph.constant(1.0, np.float64), graph.constant(0.0, np.float64)
    support = graph.constant(_SUPPORT[interpolation], np.float64)
    length_px = graph.cast(length, DOUBLE)
    scale = graph.op("Div", length_px, graph.cast(new_length, DOUBLE))
    filter_scale = graph.op("Max", scale, one)
    reach = graph.op("Mul", support, filter_scale)
    place_S = graph.cast(graph.op("Range", graph.constant(0, np.int64), new_length, graph.constant(1, np.int64)), DOUBLE)
    half = graph.constant(0.5, np.float64)
    centre_S = graph.op("Mul", graph.op("Add", place_S, half), scale)
    first_S = graph.op("Max", graph.op("Floor", graph.op("Add", graph.op("Sub", centre_S, reach), half)), zero)
    end_S = graph.op("Min", graph.op("Floor", graph.op("Add", graph.op("Add", centre_S, reach), half)), length_px)
    num_read = graph.op("Add", graph.op("Mul", graph.op("Ceil", reach), graph.constant(2.0, np.float64)), one)
    step_K = graph.cast(
        graph.op("Range", graph.constant(0, np.int64), graph.cast(num_read, INT64), graph.constant(1, np.int64)), DOUBLE
    )

    def column(value_S: str) -> str:
        return graph.op("Unsqueeze", value_S, graph.constant([1], np.int64))

    read_SK = graph.op("Add", column(first_S), step_K)
    # In Pillow's order of operations: (x + first - centre + 0.5) * (1 / filter scale)
    distance_SK = graph.op(
        "Mul",
        graph.op("Add", graph.op("Sub", read_SK, column(centre_S)), half),
        graph.op("Div", one, filter_scale),
    )
    is_read_SK = graph.op("Less", read_SK, column(end_S))
    value_SK = graph.op("Where", is_read_SK, _filter(graph, distance_SK, interpolation), zero)
    total_S1 = graph.op("ReduceSum", value_SK, graph.constant([1], np.int64), keepdims=1)
    scaled_SK = graph.op("Mul", graph.op("Div", value_SK, total_S1), graph.constant(2.0**_BITS, np.float64))
    away_SK = graph.op("Mul", graph.op("Sign", scaled_SK), half)  # rounded half away from 0, then cut
    coefficient_SK = graph.cast(graph.op("Add", scaled_SK, away_SK), INT32)
    rounded_SK = graph.cast(coefficient_SK, DOUBLE)
    high_SK = graph.op("Round", graph.op("Div", rounded_SK, graph.constant(float(_LOW), np.float64)))
    low_SK = graph.op("Sub", rounded_SK, graph.op("Mul", high_SK, graph.constant(float(_LOW), np.float64)))
    place_SK = graph.cast(graph.op("Min", read_SK, graph.op("Sub", length_px, one)), INT64)
    empty_SL = graph.op(
        "Expand",
        graph.constant(0.0, np.float32),
        graph.op("Concat", *(graph.op("Reshape", each, graph.constant([1], np.int64)) for each in (new_length, length)), axis=0),
    )

    def dense(value_SK: str) -> str:
        return graph.op("ScatterElements", empty_SL, place_SK, graph.cast(value_SK, FLOAT), axis=1, reduction="add")

    return Weights(high=dense(high_SK), low=dense(low_SK))


def _filter(graph: Graph, distance: str, interpolation: str) -> str:
    """The filter of Pillow at these distances, float64; bicubic with a = -0.5, in Pillow's order of operations."""
    one, two, zero = (graph.constant(value, np.float64) for value in (1.0, 2.0, 0.0))
    x = graph.op("Abs", distance)
    if interpolation == "bilinear":
        return graph.op("Max", graph.op("Sub", one, x), zero)
    a = -0.5
    near = graph.op("Mul", graph.constant(a + 2, np.float64), x)
    near = graph.op("Mul", graph.op("Mul", graph.op("Sub", near, graph.constant(a + 3, np.float64)), x), x)
    near = graph.op("Add", near, one)
    far = graph.op("Mul", graph.op("Sub", x, graph.constant(5.0, np.float64)), x)
    far = graph.op("Mul", graph.op("Add", far, graph.constant(8.0, np.float64)), x)
    far = graph.op("Mul", graph.op("Sub", far, graph.constant(4.0, np.float64)), graph.constant(a, np.float64))
    inside = graph.op("Where", graph.op("Less", x, one), near, far)
    return graph.op("Where", graph.op("Less", x, two), inside, zero)


def resize(graph: Graph, image_HW3: str, *, height: str, width: str, new_height: str, new_width: str, interpolation: str) -> str:
    """uint8 3 x new height x new width of a uint8 image H x W x 3; sides are int64 numbers in the graph."""
    channels = graph.cast(graph.op("Transpose", image_HW3, perm=[2, 0, 1]), FLOAT)
    across = weights(graph, length=width, new_length=new_width, interpolation=interpolation)
    narrow = _multiplied(graph, lambda part: graph.op("MatMul", channels, graph.op("Transpose", part, perm=[1, 0])), across)
    down = weights(graph, length=height, new_length=new_height, interpolation=interpolation)
    small = _multiplied(graph, lambda part: graph.op("MatMul", part, narrow), down)
    return graph.cast(small, UINT8)


def _multiplied(graph: Graph, multiply: Callable[[str], str], by: Weights) -> str:
    """The sums of pixels times coefficients, rounded to whole levels from 0 to 255, float32."""
    high = graph.op("Mul", graph.cast(multiply(by.high), INT32), graph.constant(_LOW, np.int32))
    total = graph.op("Add", graph.op("Add", high, graph.cast(multiply(by.low), INT32)), graph.constant(2 ** (_BITS - 1), np.int32))
    level = graph.op("Div", graph.op("Max", total, graph.constant(0, np.int32)), graph.constant(2**_BITS, np.int32))
    return graph.cast(graph.op("Min", level, graph.constant(255, np.int32)), FLOAT)
