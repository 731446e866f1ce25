"""What every page is rendered with: the templates' filters for numbers, counts and thumbnails."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from polytag.report.ranking import probability_text
from polytag.report.thumbnails import Place, Sheets


def environment_of(sheets: Sheets, **filters: Callable[..., object]) -> Environment:
    """The environment of a page that shows thumbnails of these sheets; `filters` are the page's own."""
    environment = Environment(
        loader=PackageLoader("polytag.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shared: dict[str, Any] = {
        "number": _number,
        "score": probability_text,
        "percent": _percent,
        "counted": _counted,
        "crop": {path: _crop(place) for path, place in sheets.places.items()}.get,
    }
    environment.filters.update(shared | filters)
    environment.tests["undefined_number"] = _is_nan
    return environment


def _is_nan(value: float) -> bool:
    return math.isnan(value)


def _number(value: float) -> str:
    """Three decimals, or an en dash where undefined."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def _counted(number: int, unit: str) -> str:
    """ "1 class", "20 classes"."""
    singular = {"classes": "class", "images": "image", "decisions": "decision", "scores": "score"}
    return f"{number:,} {singular.get(unit, unit) if number == 1 else unit}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _crop(place: Place) -> Mapping[str, object]:
    """Which sheet, the view box that shows one image of it, and that image's share of a square."""
    longest_px = max(place.width_px, place.height_px)
    return {
        "sheet": place.sheet,
        "box": f"{place.left_px} {place.top_px} {place.width_px} {place.height_px}",
        "width": _percent(place.width_px / longest_px),
        "height": _percent(place.height_px / longest_px),
    }
