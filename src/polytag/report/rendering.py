"""Renders a page from its template, with the filters for numbers, counts and thumbnails, and writes it as one file."""

import base64
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from polytag import files
from polytag.report.names import name_html, path_html
from polytag.report.ranking import probability_text
from polytag.report.thumbnails import Place, Sheets
from polytag.text import counted, number_text, percent, with_minus


def write_page(
    path: Path | str, template: str, *, sheets: Sheets, filters: Mapping[str, Callable[..., object]] = {}, **values: object
) -> Path:
    """Render the template with these values, the thumbnails of the sheets and additional filters; returns `path`.

    Raises RunError if the file cannot be written.
    """
    path = Path(path)
    html = (
        _environment(sheets, filters)
        .get_template(template)
        .render(
            **values,
            sheets=[Markup(base64.b64encode(jpeg).decode()) for jpeg in sheets.jpegs],
            sheet_side_px=sheets.side_px,
        )
    )
    with files.saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, html.encode("utf-8", "replace"))  # an id may be a file name that is not Unicode
    return path


def _environment(sheets: Sheets, filters: Mapping[str, Callable[..., object]]) -> Environment:
    environment = Environment(
        loader=PackageLoader("polytag.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shared: dict[str, Any] = {
        "number": number_text,
        "score": lambda probability: with_minus(probability_text(probability)),
        "minus": with_minus,
        "percent": percent,
        "counted": counted,
        "name": name_html,
        "path": path_html,
        "crop": {path: _crop(place) for path, place in sheets.places.items()}.get,
    }
    environment.filters.update(shared | dict(filters))
    environment.tests["undefined_number"] = _is_nan
    return environment


def _is_nan(value: float) -> bool:
    return math.isnan(value)


def _crop(place: Place) -> Mapping[str, object]:
    """The sheet of a thumbnail, the view box that shows it, and its size relative to a square."""
    longest_px = max(place.width_px, place.height_px)
    return {
        "sheet": place.sheet,
        "box": f"{place.left_px} {place.top_px} {place.width_px} {place.height_px}",
        "width": percent(place.width_px / longest_px),
        "height": percent(place.height_px / longest_px),
    }
