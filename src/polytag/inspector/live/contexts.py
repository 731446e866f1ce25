"""Defines the context of the page; docs/reference/inspector.md lists its keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from polytag.inspector.browse.answers import RunAnswer
from polytag.inspector.browse.epoch_curves import EpochChart
from polytag.inspector.explain.contexts import Example
from polytag.inspector.live.progress import Progress


@dataclass(frozen=True, kw_only=True)
class LivePage:
    """A run that trains, or that was interrupted before it had scores."""

    run: RunAnswer
    progress: Progress
    path: str
    charts: Sequence[tuple[str, EpochChart]]
    worst: Sequence[Example]
    has_scores: bool
