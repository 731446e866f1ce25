"""What every page is rendered with: the templates' filters for numbers, counts and thumbnails."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from polytag.report.ranking import probability_text
from polytag.report.thumbnails import Place, Sheets
from polytag.text import counted, number_text, percent


def environment_of(sheets: Sheets, **filters: Callable[..., object]) -> Environment:
    """The environment of a page that shows thumbnails of these sheets; `filters` are the page's own."""
    environment = Environment(
        loader=PackageLoader("polytag.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shared: dict[str, Any] = {
        "number": number_text,
        "score": probability_text,
        "percent": percent,
        "counted": counted,
        "crop": {path: _crop(place) for path, place in sheets.places.items()}.get,
    }
    environment.filters.update(shared | filters)
    environment.tests["undefined_number"] = _is_nan
    return environment


def _is_nan(value: float) -> bool:
    return math.isnan(value)


def _crop(place: Place) -> Mapping[str, object]:
    """Which sheet, the view box that shows one image of it, and that image's share of a square."""
    longest_px = max(place.width_px, place.height_px)
    return {
        "sheet": place.sheet,
        "box": f"{place.left_px} {place.top_px} {place.width_px} {place.height_px}",
        "width": percent(place.width_px / longest_px),
        "height": percent(place.height_px / longest_px),
    }
