"""Pillow's antialiased resizing as ordinary operations, to the same bytes.

Pillow (`src/libImaging/Resample.c`) multiplies the pixels of one side with coefficients rounded to 22 bits, adds them as integers,
and rounds the sum. Here the coefficients are made in float64 as Pillow makes them, rounded to 22 bits, and divided into a high part
and a low one of 7 bits, so that a product of matrices in float32 is exact: levels below 256 times the high parts, which sum to less
than 1.3 x 2**15, and times up to 1,000 low parts of at most 64, stay below 2**24. That holds for sides of up to `MAX_SCALE` times
the new one. The parts are joined as 32-bit integers, as Pillow adds them. As in data/images/resize.py, the horizontal pass comes
first.

A new pixel reads a few old ones, and its neighbours nearly the same. So new pixels are computed in blocks, each a small product of
matrices over the pixels that the block reads: for a photograph of 12 megapixels a tenth of the work of one large product.

Shapes: H, W height and width of the image, L length of a side, S its new length, B blocks of M new pixels, K pixels that one new
pixel reads at most, R those that one block reads at most, X values beside the side that is resized.
"""

from dataclasses import dataclass

import numpy as np

from polytag.export.graph import DOUBLE, FLOAT, INT32, INT64, UINT8, Graph

MAX_SCALE = 248
_BLOCK = 16  # M
_BITS = 22  # of a coefficient in Pillow
_LOW = 2**7
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # pixels on either side that a filter reads


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What one pass multiplies, and with what.

    read_BR     int64, the pixels of each block; past the end of a side the last one again, times 0
    high, low   the two parts of the coefficients, float32 B x M x R; the last block has new pixels beyond S
    """

    read_BR: str
    high: str
    low: str


def weights(graph: Graph, *, length: str, new_length: str, interpolation: str) -> Weights:
    """The coefficients of one side: `length` and `new_length` are int64 numbers in the graph."""
    zero, one, half = (graph.constant(value, np.float64) for value in (0.0, 1.0, 0.5))
    length_px = graph.cast(length, DOUBLE)
    scale = graph.op("Div", length_px, graph.cast(new_length, DOUBLE))
    filter_scale = graph.op("Max", scale, one)
    reach = graph.op("Mul", graph.constant(_SUPPORT[interpolation], np.float64), filter_scale)
    centre_BM1 = graph.op("Mul", graph.op("Add", _places(graph, new_length), half), scale)
    first_BM1 = graph.op("Max", graph.op("Floor", graph.op("Add", graph.op("Sub", centre_BM1, reach), half)), zero)
    end_BM1 = graph.op("Min", graph.op("Floor", graph.op("Add", graph.op("Add", centre_BM1, reach), half)), length_px)
    num_read = graph.op("Add", graph.op("Mul", graph.op("Ceil", reach), graph.constant(2.0, np.float64)), one)
    read_BMK = graph.op("Add", first_BM1, graph.cast(_range(graph, graph.cast(num_read, INT64)), DOUBLE))
    # In Pillow's order of operations: (x + first - centre + 0.5) * (1 / filter scale)
    distance_BMK = graph.op("Mul", graph.op("Add", graph.op("Sub", read_BMK, centre_BM1), half), graph.op("Div", one, filter_scale))
    value_BMK = graph.op("Where", graph.op("Less", read_BMK, end_BM1), _filter(graph, distance_BMK, interpolation), zero)
    high_BMK, low_BMK = _parts(graph, value_BMK)

    first_B11, last_B11 = (
        graph.op("Gather", each, graph.constant([at], np.int64), axis=1) for each, at in ((first_BM1, 0), (end_BM1, -1))
    )
    num_in_block = graph.cast(graph.op("ReduceMax", graph.op("Sub", last_B11, first_B11), keepdims=0), INT64)
    at_BMK = graph.op("Min", graph.op("Sub", read_BMK, first_B11), graph.op("Sub", graph.cast(num_in_block, DOUBLE), one))
    place_BMK = graph.cast(at_BMK, INT64)
    shape = graph.op("Concat", graph.op("Shape", centre_BM1, end=2), _listed(graph, num_in_block), axis=0)
    empty_BMR = graph.op("Expand", graph.constant(0.0, np.float32), shape)
    high, low = (
        graph.op("ScatterElements", empty_BMR, place_BMK, graph.cast(each, FLOAT), axis=2, reduction="add")
        for each in (high_BMK, low_BMK)
    )
    first_B1 = graph.cast(graph.op("Squeeze", first_B11, graph.constant([2], np.int64)), INT64)
    in_image = graph.op("Sub", length, graph.constant(1, np.int64))
    return Weights(read_BR=graph.op("Min", graph.op("Add", first_B1, _range(graph, num_in_block)), in_image), high=high, low=low)


def _places(graph: Graph, new_length: str) -> str:
    """float64 B x M x 1: 0, 1, .. S - 1, and S - 1 again to the end of the last block."""
    num_blocks = graph.op(
        "Div", graph.op("Add", new_length, graph.constant(_BLOCK - 1, np.int64)), graph.constant(_BLOCK, np.int64)
    )
    place = _range(graph, graph.op("Mul", num_blocks, graph.constant(_BLOCK, np.int64)))
    place = graph.op("Min", place, graph.op("Sub", new_length, graph.constant(1, np.int64)))
    return graph.cast(graph.op("Reshape", place, graph.constant([-1, _BLOCK, 1], np.int64)), DOUBLE)


def _range(graph: Graph, end: str) -> str:
    return graph.op("Range", graph.constant(0, np.int64), end, graph.constant(1, np.int64))


def _listed(graph: Graph, number: str) -> str:
    return graph.op("Reshape", number, graph.constant([1], np.int64))


def _parts(graph: Graph, value_BMK: str) -> tuple[str, str]:
    """The values of the filter as coefficients in two parts of 7 bits and more, float64."""
    low = graph.constant(float(_LOW), np.float64)
    total_BM1 = graph.op("ReduceSum", value_BMK, graph.constant([2], np.int64), keepdims=1)
    scaled_BMK = graph.op("Mul", graph.op("Div", value_BMK, total_BM1), graph.constant(2.0**_BITS, np.float64))
    away_BMK = graph.op("Mul", graph.op("Sign", scaled_BMK), graph.constant(0.5, np.float64))  # rounded half away from 0, then cut
    rounded_BMK = graph.cast(graph.cast(graph.op("Add", scaled_BMK, away_BMK), INT32), DOUBLE)
    high_BMK = graph.op("Round", graph.op("Div", rounded_BMK, low))
    return high_BMK, graph.op("Sub", rounded_BMK, graph.op("Mul", high_BMK, low))


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
    whole = graph.constant([-1], np.int64)

    def rows_of(value: str, length: str) -> str:
        """As a matrix of so many rows."""
        return graph.op("Reshape", value, graph.op("Concat", _listed(graph, length), whole, axis=0))

    # Matrices are transposed, not cubes: ONNX Runtime does that ten times as fast.
    columns = graph.op("Transpose", rows_of(image_HW3, height), perm=[1, 0])
    narrow = _pass(graph, rows_of(columns, width), length=width, new_length=new_width, interpolation=interpolation)
    by_row = graph.op("Reshape", narrow, graph.op("Concat", whole, _listed(graph, height), axis=0))
    rows = graph.op("Transpose", by_row, perm=[1, 0])
    small = _pass(graph, rows, length=height, new_length=new_height, interpolation=interpolation)
    shape = graph.op("Concat", _listed(graph, new_height), _listed(graph, new_width), graph.constant([3], np.int64), axis=0)
    return graph.op("Transpose", graph.op("Reshape", small, shape), perm=[2, 0, 1])


def _pass(graph: Graph, image_LX: str, *, length: str, new_length: str, interpolation: str) -> str:
    """uint8 S x X: the rows of a matrix, uint8 L x X, as so many new ones."""
    weight = weights(graph, length=length, new_length=new_length, interpolation=interpolation)
    read_BRX = graph.cast(graph.op("Gather", image_LX, weight.read_BR), FLOAT)
    sums_BNX = graph.cast(graph.op("MatMul", graph.op("Concat", weight.high, weight.low, axis=1), read_BRX), INT32)
    first, middle, end, side = (graph.constant([each], np.int64) for each in (0, _BLOCK, 2 * _BLOCK, 1))
    high, low = graph.op("Slice", sums_BNX, first, middle, side), graph.op("Slice", sums_BNX, middle, end, side)
    total = graph.op("Add", graph.op("Mul", high, graph.constant(_LOW, np.int32)), low)
    total = graph.op("Max", graph.op("Add", total, graph.constant(2 ** (_BITS - 1), np.int32)), graph.constant(0, np.int32))
    level = graph.op("Min", graph.op("Div", total, graph.constant(2**_BITS, np.int32)), graph.constant(255, np.int32))
    rows = graph.op(
        "Reshape",
        graph.cast(level, UINT8),
        graph.op("Concat", graph.constant([-1], np.int64), graph.op("Shape", image_LX, start=1), axis=0),
    )
    return graph.op("Slice", rows, graph.constant([0], np.int64), _listed(graph, new_length))
