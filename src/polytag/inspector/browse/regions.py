"""Reads the regions of the map that an address names, and finds which images lie in them.

A region is what the lassos of one selection hold: `features.100_200-900_200-500_900` names a map, and polygons with a point before
each, their corners in places of the map (`map/places.py`). So an address is as long for 50,000 images as for 5.

Shapes: N images, K corners.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

Source = Literal["features", "umap", "scores"]
MAX_REGIONS = 4
_MAX_POLYGONS, _MAX_CORNERS = 8, 60  # of the map's page: static/map/state.js
_CORNER = "[0-9]{1,5}_[0-9]{1,5}"
_POLYGON = rf"\.{_CORNER}(?:-{_CORNER}){{2,{_MAX_CORNERS - 1}}}"
PATTERN = f"^(features|umap|scores)((?:{_POLYGON}){{1,{_MAX_POLYGONS}}})$"
_REGION = re.compile(PATTERN)


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """Polygons on a map, each K x 2 places. An image lies in the region where it lies in one of them."""

    source: Source
    polygons: tuple[np.ndarray, ...]

    def holds(self, place_N2: np.ndarray) -> np.ndarray:
        """Return which images lie in the region: bool, N. One without a place, which is below 0, lies nowhere."""
        inside_N = np.zeros(len(place_N2), bool)
        for corner_K2 in self.polygons:
            inside_N |= _is_inside(corner_K2.astype(np.float64), place_N2.astype(np.float64))
        return inside_N & (place_N2 >= 0).all(axis=1)


def parsed_region(text: str) -> Region:
    """Return the region that a text names; raises ValueError with a sentence for another text."""
    found = _REGION.fullmatch(text)
    if found is None:
        raise ValueError(
            f"it names a map (features, umap or scores), and 1 to {_MAX_POLYGONS} polygons of 3 to {_MAX_CORNERS} corners, "
            "as in scores.100_200-900_200-500_900"
        )
    polygons = [
        np.array([[int(number) for number in corner.split("_")] for corner in polygon.split("-")])
        for polygon in found[2][1:].split(".")
    ]
    return Region(source=found[1], polygons=tuple(polygons))  # pyright: ignore[reportArgumentType]  one of the three


def checked_region(text: str) -> str:
    """Return a text that names a region; raises ValueError as `parsed_region` does."""
    parsed_region(text)
    return text


def _is_inside(corner_K2: np.ndarray, place_N2: np.ndarray) -> np.ndarray:
    """Whether a ray to the right from each place crosses the sides an odd number of times, as static/map/points.js has it."""
    x_N, y_N = place_N2.T
    inside_N = np.zeros(len(place_N2), bool)
    for (x, y), (other_x, other_y) in zip(corner_K2, np.roll(corner_K2, 1, axis=0), strict=True):
        if y == other_y:
            continue
        is_beside_N = (y > y_N) != (other_y > y_N)
        inside_N ^= is_beside_N & (x_N < ((other_x - x) * (y_N - y)) / (other_y - y) + x)
    return inside_N
