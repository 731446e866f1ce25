"""Defines the context of the map's page."""

from collections.abc import Sequence
from dataclasses import dataclass

from polytag.inspector.browse.answers import ClassAnswer, RunAnswer


@dataclass(frozen=True, kw_only=True)
class MapPage:
    """The images of the run as points on a plane."""

    run: RunAnswer
    chosen: ClassAnswer
    sources: Sequence[str]
    colours: Sequence[str]
    query: str
