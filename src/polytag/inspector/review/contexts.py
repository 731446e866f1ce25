"""Defines the context of the page of decisions; docs/reference/inspector.md lists its keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from polytag.inspector.browse.answers import RunAnswer
from polytag.inspector.review.training import Trained
from polytag.inspector.review.worth import Worth


@dataclass(frozen=True, kw_only=True)
class TrainedClass:
    """A class with corrected training labels: AP of both probes, and the difference with its 95% interval; NaN where undefined."""

    name: str
    num_changed: int
    before: float
    after: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class TrainingShown:
    """What the page shows of the training on the decisions.

    why_not                     why there can be none, or ""
    num_decided, num_changed    labels of training images
    num_val_changed             labels of validation images
    status                      "running", "stopping" or "waiting"
    step, num_done, num_images  of the running one
    failure                     why the last one ended, or ""
    trained, classes            the last result
    is_stale                    whether other decisions came since
    commands                    command lines that do the same for good
    """

    why_not: str
    num_decided: int
    num_changed: int
    num_val_changed: int
    status: str
    step: str
    num_done: int
    num_images: int
    failure: str
    trained: Trained | None
    classes: Sequence[TrainedClass]
    is_stale: bool
    commands: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class DecisionsPage:
    """What the decisions of the review are worth."""

    run: RunAnswer
    worth: Worth | None
    training: TrainingShown
    path: str
