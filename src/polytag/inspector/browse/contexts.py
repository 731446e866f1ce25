"""Defines the contexts of these pages; docs/reference/inspector.md lists their keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from polytag.inspector.browse.answers import (
    BothRunsAnswer,
    ClassAnswer,
    ImageAnswer,
    PageParameters,
    RankingAnswer,
    RunAnswer,
    SliceAnswer,
)
from polytag.inspector.browse.epoch_curves import EpochChart
from polytag.inspector.browse.finding import FindingAnswer
from polytag.inspector.browse.run_curves import RunCurves
from polytag.inspector.explain.contexts import Example
from polytag.inspector.review.worth import Worth
from polytag.runs.leaderboard import Leaderboard


@dataclass(frozen=True, kw_only=True)
class OverviewPage:
    """The run at a glance."""

    run: RunAnswer
    against: Sequence[RunAnswer | None]
    worth: Worth | None
    facts: Mapping[str, str]
    worst: Sequence[Example]
    classes: Sequence[ClassAnswer]
    sort: str
    order: str
    filter: str
    history_charts: Sequence[tuple[str, EpochChart]]
    curves: RunCurves | None
    tail_charts: Sequence[Markup]
    goal: str


@dataclass(frozen=True, kw_only=True)
class RankingPage:
    """The ranked images of a class."""

    run: RunAnswer
    parameters: PageParameters
    chosen: ClassAnswer
    threshold: float
    part: SliceAnswer
    both: BothRunsAnswer | None
    ranking: RankingAnswer
    finding: FindingAnswer | None
    sorts: Sequence[str]
    num_filters: int
    tags: Sequence[str]
    query: str
    offset: int
    page_size: int


@dataclass(frozen=True, kw_only=True)
class ImagePage:
    """One image with all classes."""

    run: RunAnswer
    image: ImageAnswer
    ranked: str
    chosen: str
    query: str
    previous_id: str
    next_id: str
    place: int
    total: int


@dataclass(frozen=True, kw_only=True)
class PredictPage:
    """Predictions on images that the visitor chooses."""

    run: RunAnswer
    max_upload_bytes: int


@dataclass(frozen=True, kw_only=True)
class ReviewPage:
    """Labels to review, one after another."""

    run: RunAnswer
    class_name: str
    kind: str
    order: str


@dataclass(frozen=True, kw_only=True)
class ManyPage:
    """Labels of one class to review, many at a time."""

    run: RunAnswer
    class_name: str
    kind: str
    order: str


@dataclass(frozen=True, kw_only=True)
class RunsPage:
    """The runs beside this one, as a leaderboard."""

    run: RunAnswer
    board: Leaderboard
    curves: Sequence[RunCurves | None]
    own_path: Path
    others: Sequence[Path]


@dataclass(frozen=True, kw_only=True)
class LabelPage:
    """Images without labels, to be labelled one after another."""

    run: RunAnswer


@dataclass(frozen=True, kw_only=True)
class ProblemPage:
    """The reason why a page cannot be shown."""

    run: RunAnswer
    status: int
    detail: str
