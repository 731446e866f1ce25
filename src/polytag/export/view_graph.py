"""The views of an image as operations, as data/images/augment.py makes them: resized, cropped, mirrored.

Shapes: H, W height and width of the image, V views, S side of a view.
"""

import numpy as np

from polytag.contracts import Preprocessing
from polytag.export.graph import DOUBLE, INT64, Graph
from polytag.export.resize_graph import resize


def views(graph: Graph, image_HW3: str, preprocessing: Preprocessing) -> str:
    """uint8 V x 3 x S x S of a uint8 image H x W x 3."""
    size_px = graph.constant(preprocessing.image_size_px, np.int64)
    sides = graph.op("Shape", image_HW3)
    height, width = graph.item(sides, 0), graph.item(sides, 1)
    new_height, new_width = _size_before_crop(graph, height, width, preprocessing)
    larger = resize(
        graph,
        image_HW3,
        height=height,
        width=width,
        new_height=new_height,
        new_width=new_width,
        interpolation=preprocessing.interpolation,
    )
    spare_x, spare_y = graph.op("Sub", new_width, size_px), graph.op("Sub", new_height, size_px)
    zero = graph.constant(0, np.int64)
    places = [(_half(graph, spare_x), _half(graph, spare_y))]
    if preprocessing.crops in ("five", "ten"):
        places += [(zero, zero), (spare_x, zero), (zero, spare_y), (spare_x, spare_y)]
    stacked = graph.op("Concat", *(_crop(graph, larger, left, top, size_px) for left, top in places), axis=0)
    if preprocessing.crops not in ("flip", "ten"):
        return stacked
    ends = [graph.constant([value], np.int64) for value in (-1, np.iinfo(np.int64).min, 3, -1)]
    return graph.op("Concat", stacked, graph.op("Slice", stacked, *ends), axis=0)


def _size_before_crop(graph: Graph, height: str, width: str, preprocessing: Preprocessing) -> tuple[str, str]:
    """Height and width of the image that views are cropped from."""
    side_px = round(preprocessing.image_size_px / preprocessing.crop_fraction)
    if preprocessing.fit == "squash":
        only_whole = preprocessing.crops in ("center", "flip")
        side = graph.constant(preprocessing.image_size_px if only_whole else side_px, np.int64)
        return side, side
    side = graph.constant(side_px, np.int64)
    shorter = graph.cast(graph.op("Min", height, width), DOUBLE)
    factor = graph.op("Div", graph.constant(float(side_px), np.float64), shorter)

    def scaled(length: str) -> str:
        return graph.op("Max", side, graph.cast(graph.op("Round", graph.op("Mul", graph.cast(length, DOUBLE), factor)), INT64))

    return scaled(height), scaled(width)


def _half(graph: Graph, spare: str) -> str:
    return graph.cast(graph.op("Round", graph.op("Div", graph.cast(spare, DOUBLE), graph.constant(2.0, np.float64))), INT64)


def _crop(graph: Graph, image_3HW: str, left: str, top: str, size_px: str) -> str:
    """1 x 3 x S x S."""

    def pair(first: str, second: str) -> str:
        one = graph.constant([1], np.int64)
        return graph.op("Concat", graph.op("Reshape", first, one), graph.op("Reshape", second, one), axis=0)

    ends = pair(graph.op("Add", top, size_px), graph.op("Add", left, size_px))
    cropped = graph.op("Slice", image_3HW, pair(top, left), ends, graph.constant([1, 2], np.int64))
    return graph.op("Unsqueeze", cropped, graph.constant([0], np.int64))
