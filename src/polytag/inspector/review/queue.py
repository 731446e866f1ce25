"""Which label to look at next: those that the model disbelieves most, with what was decided about them so far."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady
from functools import cached_property
from threading import Lock
from typing import Literal

from pydantic import BaseModel, Field

from polytag.errors import PolytagError
from polytag.inspector.browse.answers import Label
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import Decision, LabelKey, Progress, ReviewStore
from polytag.metrics.label_issues import LabelIssue, LabelIssues, find_label_issues

Kind = Literal["issues", "unknown", "all"]
Status = Literal["computing", "ready", "unavailable"]

_MOST = 100_000  # label issues that are kept, about
_FEWEST_A_CLASS = 100


class DecisionAnswer(BaseModel):
    """A row of the review."""

    number: int
    split: str
    image: str
    class_name: str
    label: Label | None = Field(description="From here on; null: nothing is decided any more.")
    given: Label
    reviewer: str = Field(description="Who made this row.")
    author: str = Field(description="Whose judgement the label is; another than the reviewer where a decision was taken back.")
    note: str
    time: str
    undoes: int | None = Field(description="The number of the decision that this row takes back.")


class QueueEntry(BaseModel):
    """A label to look at."""

    row: int
    image: str
    class_name: str
    given: Label
    probability: float = Field(description="That the class is there, mended so that it means what it says; in 0..1.")
    is_counted: bool = Field(description="Whether the estimate of wrong labels counts it.")
    decision: DecisionAnswer | None = Field(description="What is decided; null where nothing is.")
    number: int = Field(description="The last row about this label, 0 for none: `based_on` of the next decision.")


class QueueAnswer(BaseModel):
    """A part of the queue; while it is still computed it is empty, and to be asked for again."""

    status: Status
    reason: str = Field(default="", description="Why there is no queue.")
    total: int = 0
    offset: int = 0
    entries: list[QueueEntry] = []


class ProgressAnswer(BaseModel):
    """How far the review has come: all decisions, and of the queue of label issues."""

    num_decided: int
    num_changed: int
    num_confirmed: int
    status: Status
    num_label_issues: int = Field(default=0, description="RawScores labels that the model disbelieves.")
    num_label_issues_decided: int = 0


class Suspicion:
    """The label issues of an Inspection, found in a thread that starts with the first question; may be asked from many threads."""

    def __init__(self, inspection: Inspection):
        self._inspection = inspection
        self._lock = Lock()
        self._found: Future[_Found] | None = None

    def found(self, *, patience_seconds: float = 0.0) -> "_Found | None":
        """The lists, or None while they are being made."""
        with self._lock:
            if self._found is None:
                pool = ThreadPoolExecutor(1, thread_name_prefix="suspicion")
                self._found = pool.submit(_find, self._inspection)
                pool.shutdown(wait=False)
        try:
            return self._found.result(timeout=patience_seconds)
        except NotReady:
            return None


class _Found:
    """Ranked lists; `reason` says why there are none."""

    def __init__(self, issues: LabelIssues | None, reason: str = ""):
        self._label_issues = issues
        self.reason = reason

    @cached_property
    def lists(self) -> Mapping[Kind, Sequence[LabelIssue]]:
        """Most suspicious first: given labels, unknown ones that are probably present, and both."""
        if self._label_issues is None:
            return {"issues": (), "unknown": (), "all": ()}
        given, unknown = self._label_issues.issues, self._label_issues.fill_ins
        both = sorted((*given, *unknown), key=lambda each: (_doubt(each), each.class_name, each.id))
        return {"issues": given, "unknown": unknown, "all": both}


def _doubt(issue: LabelIssue) -> float:
    """Log-odds of the label as it is given, or of "absent" where it is unknown: lowest is most suspicious."""
    return issue.belief if issue.given >= 0 else -issue.belief


def _find(inspection: Inspection) -> _Found:
    top = max(_FEWEST_A_CLASS, _MOST // len(inspection.predictions.label_set))
    try:
        found = _Found(find_label_issues(inspection.predictions, top=top))
    except PolytagError as error:  # ranks, or too few images
        return _Found(None, reason=error.what)
    _ = found.lists  # sorted here, and not in the first answer
    return found


def queue(
    inspection: Inspection,
    suspicion: Suspicion,
    store: ReviewStore,
    *,
    kind: Kind = "issues",
    class_name: str = "",
    include_decided: bool = False,
    limit: int = 50,
    offset: int = 0,
    patience_seconds: float = 0.0,
) -> QueueAnswer:
    """A part of the queue, of one class or ("") of all; waits so long for it to be made. Raises RunError as the store does."""
    found = suspicion.found(patience_seconds=patience_seconds)
    if found is None:
        return QueueAnswer(status="computing", offset=offset)
    current = store.current(inspection.split)
    listed = [
        each
        for each in found.lists[kind]
        if (not class_name or each.class_name == class_name) and (include_decided or not _is_decided(each, current))
    ]
    return QueueAnswer(
        status="unavailable" if found.reason else "ready",
        reason=found.reason,
        total=len(listed),
        offset=offset,
        entries=[_entry(each, current) for each in listed[offset : offset + limit]],
    )


def review_progress(inspection: Inspection, suspicion: Suspicion, store: ReviewStore) -> ProgressAnswer:
    """How far the review of the inspected split has come. Raises RunError as the store does."""
    found = suspicion.found()
    current = store.current(inspection.split)
    counts = Progress.of(current.values())
    issues = found.lists["issues"] if found else ()
    return ProgressAnswer(
        num_decided=counts.num_decided,
        num_changed=counts.num_changed,
        num_confirmed=counts.num_confirmed,
        status="computing" if found is None else "unavailable" if found.reason else "ready",
        num_label_issues=len(issues),
        num_label_issues_decided=sum(_is_decided(each, current) for each in issues),
    )


def decision_answer(decision: Decision) -> DecisionAnswer:
    """The row as JSON."""
    return DecisionAnswer.model_validate(
        {
            "number": decision.number,
            "split": decision.split,
            "image": decision.image_id,
            "class_name": decision.class_name,
            "label": decision.label,
            "given": decision.given,
            "reviewer": decision.reviewer,
            "author": decision.author,
            "note": decision.note,
            "time": decision.time,
            "undoes": decision.undoes,
        }
    )


def standing_answer(decision: Decision | None) -> DecisionAnswer | None:
    """The row, unless nothing is decided any more."""
    return None if decision is None or decision.label is None else decision_answer(decision)


def _is_decided(issue: LabelIssue, current: Mapping[LabelKey, Decision]) -> bool:
    decision = current.get((issue.id, issue.class_name))
    return decision is not None and decision.label is not None


def _entry(issue: LabelIssue, current: Mapping[LabelKey, Decision]) -> QueueEntry:
    decision = current.get((issue.id, issue.class_name))
    return QueueEntry.model_validate(
        {
            "row": issue.row,
            "image": issue.id,
            "class_name": issue.class_name,
            "given": issue.given,
            "probability": issue.probability,
            "is_counted": issue.is_counted,
            "decision": standing_answer(decision),
            "number": decision.number if decision else 0,
        }
    )
