"""Builds the review queue: the labels that the model doubts most, with the decisions about them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady
from functools import cached_property
from threading import Lock
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from polytag.errors import PolytagError
from polytag.inspector.browse.answers import Label, to_json
from polytag.inspector.browse.ranking import probability_of
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.agreement import disputed, second_opinions
from polytag.inspector.review.rows import Decision, LabelKey
from polytag.inspector.review.store import ReviewStore
from polytag.inspector.review.worth import CorrectedLabels
from polytag.metrics.label_issues import LabelIssue, LabelIssues, find_label_issues

Kind = Literal["issues", "unknown", "all", "disputed", "second"]
Order = Literal["suspicion", "map"]
Status = Literal["computing", "ready", "unavailable"]

_MAX_ISSUES = 100_000  # of all classes together, about
_MIN_ISSUES_PER_CLASS = 100


class DecisionAnswer(BaseModel):
    """A row of the review."""

    number: int
    split: str
    image: str
    class_name: str
    label: Label | None = Field(description="The label from this row on; null where the row undoes the only decision.")
    given: Label
    reviewer: str = Field(description="The reviewer who made this row.")
    author: str = Field(description="The reviewer whose decision holds; differs from `reviewer` where a decision was undone.")
    note: str
    time: str
    undoes: int | None = Field(description="Number of the decision that this row undoes.")


class QueueEntry(BaseModel):
    """A label to review."""

    row: int
    image: str
    class_name: str
    given: Label
    probability: float = Field(
        description="Calibrated probability that the class is present; the run's for a decided label that the model doubts not."
    )
    is_counted: bool = Field(description="Whether the estimate of wrong labels counts this label.")
    map_change: float | None = Field(
        description="Change of mAP if the label is wrong as it stands; for an unknown one, if present. Null for a second opinion."
    )
    decision: DecisionAnswer | None = Field(description="The decision about the label, or null; null for a second opinion.")
    number: int = Field(description="Number of the last row about this label, 0 for none; `based_on` of the next decision.")


class QueueAnswer(BaseModel):
    """A part of the queue. It is empty while `status` is "computing"; the client polls."""

    status: Status
    reason: str = Field(default="", description="The reason why there is no queue.")
    total: int = 0
    offset: int = 0
    entries: list[QueueEntry] = []


class ProgressAnswer(BaseModel):
    """The progress of the review: all decisions, and those about label issues."""

    num_decided: int
    num_changed: int
    num_confirmed: int
    status: Status
    num_label_issues: int = Field(default=0, description="Given labels that the model doubts.")
    num_label_issues_decided: int = 0


class IssueFinder:
    """Finds the label issues of an inspection in a thread that the first call starts. Safe to call from many threads."""

    def __init__(self, inspection: Inspection):
        self._inspection = inspection
        self._lock = Lock()
        self._found: Future[_Found] | None = None

    def found(self, *, timeout_seconds: float = 0.0) -> "_Found | None":
        """Return the lists, or None while they are being computed."""
        with self._lock:
            if self._found is None:
                pool = ThreadPoolExecutor(1, thread_name_prefix="label-issues")
                self._found = pool.submit(_find, self._inspection)
                pool.shutdown(wait=False)
        try:
            return self._found.result(timeout=timeout_seconds)
        except NotReady:
            return None


class _Found:
    """Ranked lists of label issues, or the reason why there are none."""

    def __init__(self, issues: LabelIssues | None, reason: str = ""):
        self._label_issues = issues
        self.reason = reason

    @cached_property
    def lists(self) -> Mapping[Kind, Sequence[LabelIssue]]:
        """Return given labels, unknown labels that are probably present, and both, most suspicious first."""
        if self._label_issues is None:
            return {"issues": (), "unknown": (), "all": ()}
        given, unknown = self._label_issues.issues, self._label_issues.fill_ins
        both = sorted((*given, *unknown), key=lambda each: (_doubt(each), each.class_name, each.id))
        return {"issues": given, "unknown": unknown, "all": both}


def _doubt(issue: LabelIssue) -> float:
    """Return the log-odds of the given label, or of "absent" for an unknown one. The lowest is the most suspicious."""
    return issue.belief if issue.given >= 0 else -issue.belief


def _find(inspection: Inspection) -> _Found:
    top = max(_MIN_ISSUES_PER_CLASS, _MAX_ISSUES // len(inspection.predictions.label_set))
    try:
        found = _Found(find_label_issues(inspection.predictions, top=top, groups=inspection.groups))
    except PolytagError as error:  # ranks, or too few images
        return _Found(None, reason=error.what)
    _ = found.lists  # sort in this thread, not in the first request
    return found


def queue(
    inspection: Inspection,
    issue_finder: IssueFinder,
    store: ReviewStore,
    corrected: CorrectedLabels,
    *,
    kind: Kind = "issues",
    order: Order = "suspicion",
    class_name: str = "",
    include_decided: bool = False,
    reviewer: str = "",
    limit: int = 50,
    offset: int = 0,
    timeout_seconds: float = 0.0,
) -> QueueAnswer:
    """Return a part of the queue of one class, or of all for "": first the most suspicious, or those that would change mAP most.

    Labels on which reviewers disagree ("disputed") are decided, and listed all the same. Labels that others decided and `reviewer`
    did not ("second") come in a random order, and the answer tells nothing about the decisions. Raises RunError as the store does.
    """
    found = issue_finder.found(timeout_seconds=timeout_seconds)
    if found is None:
        return QueueAnswer(status="computing", offset=offset)
    if kind == "second":
        keys = second_opinions_of(inspection, store, reviewer=reviewer, class_name=class_name)
        return _blind(inspection, store, found, keys, limit=limit, offset=offset)
    decided = {} if include_decided or kind == "disputed" else store.labels(inspection.split)
    listed = [
        each
        for each in (_disputed(inspection, store, found) if kind == "disputed" else found.lists[kind])
        if (not class_name or each.class_name == class_name) and (each.id, each.class_name) not in decided
    ]
    if order == "map":
        change_M = np.abs(corrected.map_changes(listed))
        listed = [listed[place] for place in np.argsort(-change_M, kind="stable")]  # undefined ones last
    part = listed[offset : offset + limit]
    change_K = corrected.map_changes(part)
    current = store.of_keys(inspection.split, [(each.id, each.class_name) for each in part])
    return QueueAnswer(
        status="unavailable" if found.reason else "ready",
        reason=found.reason,
        total=len(listed),
        offset=offset,
        entries=[_entry(each, current, map_change=change) for each, change in zip(part, change_K.tolist(), strict=True)],
    )


def second_opinions_of(inspection: Inspection, store: ReviewStore, *, reviewer: str, class_name: str = "") -> list[LabelKey]:
    """Return the labels that wait for the second opinion of a reviewer, of one class or of all for "".

    There are none where the scores are ranks. Raises RunError as the store does.
    """
    keys = second_opinions(store.votes(inspection.split), reviewer.strip())
    return [key for key in _scored(inspection, keys) if not class_name or key[1] == class_name]


def _blind(
    inspection: Inspection, store: ReviewStore, found: _Found, keys: Sequence[LabelKey], *, limit: int, offset: int
) -> QueueAnswer:
    """Return a part of these labels without anything that depends on the decisions about them, but the number of the last row."""
    part = keys[offset : offset + limit]
    number_of = {key: row.number for key, row in store.of_keys(inspection.split, part).items()}
    entries = [_entry(each, {}, map_change=float("nan")) for each in _issues_of(inspection, found, part)]
    return QueueAnswer(
        status="unavailable" if found.reason else "ready",
        reason=found.reason,
        total=len(keys),
        offset=offset,
        entries=[each.model_copy(update={"number": number_of.get((each.image, each.class_name), 0)}) for each in entries],
    )


def _disputed(inspection: Inspection, store: ReviewStore, found: _Found) -> list[LabelIssue]:
    """Return the labels on which reviewers disagree, the most suspicious first; none where the scores are ranks."""
    listed = _issues_of(inspection, found, _scored(inspection, disputed(store.votes(inspection.split))))
    return sorted(listed, key=lambda each: (_doubt(each) if np.isfinite(each.belief) else np.inf, each.class_name, each.id))


def _scored(inspection: Inspection, keys: Sequence[LabelKey]) -> list[LabelKey]:
    """Return the labels that have a probability in this run."""
    predictions, names = inspection.predictions, frozenset(inspection.predictions.label_set.names)
    return [key for key in keys if predictions.has_probabilities and key[0] in inspection.row_of and key[1] in names]


def _issues_of(inspection: Inspection, found: _Found, keys: Sequence[LabelKey]) -> list[LabelIssue]:
    """Return these labels as the list of label issues has them, or with the probability of the run."""
    doubted = {(each.id, each.class_name): each for each in found.lists["all"]}
    predictions, row_of = inspection.predictions, inspection.row_of
    listed: list[LabelIssue] = []
    for image, class_name in keys:
        row, column = row_of[image], predictions.label_set.index(class_name)
        undoubted = LabelIssue(
            row=row,
            id=image,
            class_name=class_name,
            given=int(predictions.target_NC[row, column]),
            probability=float(probability_of(predictions.take([row]), column)[0]),
            belief=np.inf,
            is_counted=False,
            image_path="",
        )
        listed.append(doubted.get((image, class_name), undoubted))
    return listed


def review_progress(inspection: Inspection, issue_finder: IssueFinder, store: ReviewStore) -> ProgressAnswer:
    """Return the progress in the inspected split. Raises RunError as the store does."""
    found = issue_finder.found()
    decided = store.labels(inspection.split)
    counts = store.progress(inspection.split)
    issues = found.lists["issues"] if found else ()
    return ProgressAnswer(
        num_decided=counts.num_decided,
        num_changed=counts.num_changed,
        num_confirmed=counts.num_confirmed,
        status="computing" if found is None else "unavailable" if found.reason else "ready",
        num_label_issues=len(issues),
        num_label_issues_decided=sum((each.id, each.class_name) in decided for each in issues),
    )


def decision_answer(decision: Decision) -> DecisionAnswer:
    """Return the row as JSON."""
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


def current_answer(decision: Decision | None) -> DecisionAnswer | None:
    """Return the row as JSON, or None where it leaves nothing decided."""
    return None if decision is None or decision.label is None else decision_answer(decision)


def _entry(issue: LabelIssue, current: Mapping[LabelKey, Decision], *, map_change: float) -> QueueEntry:
    decision = current.get((issue.id, issue.class_name))
    return QueueEntry.model_validate(
        {
            "row": issue.row,
            "image": issue.id,
            "class_name": issue.class_name,
            "given": issue.given,
            "probability": issue.probability,
            "is_counted": issue.is_counted,
            "map_change": to_json(map_change),
            "decision": current_answer(decision),
            "number": decision.number if decision else 0,
        }
    )
