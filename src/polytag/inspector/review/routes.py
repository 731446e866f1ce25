"""The JSON API of label review: the queue, what is decided, deciding and taking back. Everything is under /api/review."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException
from fastapi import Query as QueryParameter
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from polytag.errors import ReviewConflict, RunError, UsageError
from polytag.inspector.browse.answers import Label, Problem, to_json
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.queue import (
    DecisionAnswer,
    Kind,
    ProgressAnswer,
    QueueAnswer,
    Suspicion,
    decision_answer,
    queue,
    review_progress,
    standing_answer,
)
from polytag.inspector.review.store import Decision, ReviewStore
from polytag.inspector.review.text import LONGEST_ID, LONGEST_NOTE, note_text, reviewer_name

Answer = TypeVar("Answer")


def _as_value_error(check: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        try:
            return check(text)
        except UsageError as error:
            raise ValueError(error.what) from None

    return checked


def _no_truth_value(label: object) -> object:
    """To Python, and so to pydantic, true is 1."""
    if isinstance(label, bool):
        raise ValueError("a label is 1, 0 or -1")
    return label


GivenLabel = Annotated[Label, BeforeValidator(_no_truth_value)]
Number = Annotated[int, Field(ge=0, lt=2**63)]
Id = Annotated[str, Field(max_length=LONGEST_ID)]
Reviewer = Annotated[str, Field(max_length=200), AfterValidator(_as_value_error(reviewer_name))]
Note = Annotated[str, Field(max_length=LONGEST_NOTE), AfterValidator(_as_value_error(note_text))]
ClassName = Annotated[str, QueryParameter(alias="class", max_length=LONGEST_ID, description="Empty: all.")]


class DecisionRequest(BaseModel):
    """What a label is."""

    model_config = ConfigDict(strict=True)

    image: Id
    class_name: Id
    label: GivenLabel = Field(description="1 present, 0 absent, -1 unknown")
    reviewer: Reviewer
    note: Note = ""
    based_on: Number = Field(description="The number of the last row that was seen of this label; 0: none.")


class UndoRequest(BaseModel):
    """Whose last decision is taken back, or which one of theirs."""

    model_config = ConfigDict(strict=True)

    reviewer: Reviewer
    number: Number = Field(0, description="Of the decision; 0: their last.")


class Conflict(BaseModel):
    """Why nothing was written: another decision came first."""

    detail: str
    current: DecisionAnswer | None = Field(description="The last row about this label.")


class LabelAnswer(BaseModel):
    """One class of an image: what is given, what the model says, what is decided."""

    class_name: str
    given: Label
    probability: float | None
    decision: DecisionAnswer | None
    number: int = Field(description="The last row about this label, 0 for none: `based_on` of the next decision.")


class LabelsAnswer(BaseModel):
    """All classes of an image."""

    row: int
    image: str
    classes: list[LabelAnswer]


class HistoryAnswer(BaseModel):
    """Rows of the review, newest first."""

    decisions: list[DecisionAnswer]


READS: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 503: {"model": Problem}}
WRITES: dict[int | str, dict[str, Any]] = {400: {"model": Problem}, **READS, 409: {"model": Conflict}}


def review_routes(inspection: Inspection, store: ReviewStore, suspicion: Suspicion | None = None) -> APIRouter:
    """Routes over one Inspection and its review; a page that shows the queue itself gives the Suspicion that it asks.

    404: an unknown image or class, or nothing to undo. 409: another decision came first. 503: the review file cannot be
    read or written. Rejections of the schema (422) are FastAPI's; the application answers them without repeating the input.
    """
    routes = APIRouter(prefix="/api/review")
    issues = suspicion or Suspicion(inspection)
    names = inspection.predictions.label_set.names

    @routes.get("/queue", responses=READS)
    def review_queue(
        kind: Kind = "issues",
        class_name: ClassName = "",
        include_decided: bool = False,
        limit: Annotated[int, QueryParameter(ge=1, le=500)] = 50,
        offset: Annotated[int, QueryParameter(ge=0, lt=2**31)] = 0,
    ) -> QueueAnswer:
        """Labels to look at, most suspicious first; while `status` is "computing" there are none yet: ask again."""
        if class_name:
            _column(names, class_name)
        return _told(
            lambda: queue(
                inspection, issues, store, kind=kind, class_name=class_name, include_decided=include_decided, limit=limit,
                offset=offset,
            )
        )  # fmt: skip

    @routes.get("/progress", responses={503: READS[503]})
    def progress() -> ProgressAnswer:
        """How many labels are decided, and how many of the label issues."""
        return _told(lambda: review_progress(inspection, issues, store))

    @routes.get("/history", responses=READS)
    def history(
        image: Annotated[str, QueryParameter(max_length=LONGEST_ID, description="Empty: all.")] = "",
        class_name: ClassName = "",
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    ) -> HistoryAnswer:
        """Rows of the review, newest first: every decision, and every one that was taken back."""
        if image:
            _row(inspection, image)
        if class_name:
            _column(names, class_name)
        rows = _told(lambda: store.history(inspection.split, image_id=image, class_name=class_name, limit=limit))
        return HistoryAnswer(decisions=[decision_answer(row) for row in rows])

    @routes.get("/labels", responses=READS)
    def labels(image: Annotated[str, QueryParameter(max_length=LONGEST_ID)]) -> LabelsAnswer:
        """What is given and decided of every class of one image."""
        row = _row(inspection, image)
        decisions = _told(lambda: store.of_image(inspection.split, image))
        return LabelsAnswer(row=row, image=image, classes=_classes(inspection, row, decisions))

    @routes.post("/decisions", response_model=DecisionAnswer, responses=WRITES)
    def decide(asked: DecisionRequest) -> DecisionAnswer | JSONResponse:
        """Say what a label is; once this answers, no crash loses it."""
        row, column = _row(inspection, asked.image), _column(names, asked.class_name)
        return _written(
            lambda: store.decide(
                split=inspection.split,
                image_id=asked.image,
                class_name=asked.class_name,
                label=asked.label,
                given=int(inspection.predictions.target_NC[row, column]),
                reviewer=asked.reviewer,
                note=asked.note,
                based_on=asked.based_on,
            ),
            misused=400,
        )

    @routes.post("/undo", response_model=DecisionAnswer, responses=WRITES)
    def undo(asked: UndoRequest) -> DecisionAnswer | JSONResponse:
        """Take back the reviewer's last decision; what was decided before holds again. 404: there is none."""
        return _written(lambda: store.undo(reviewer=asked.reviewer, split=inspection.split, number=asked.number), misused=404)

    return routes


def _written(write: Callable[[], Decision], *, misused: int) -> DecisionAnswer | JSONResponse:
    try:
        return decision_answer(_told(write))
    except ReviewConflict as conflict:
        current = decision_answer(conflict.current) if isinstance(conflict.current, Decision) else None
        return JSONResponse(Conflict(detail=conflict.what, current=current).model_dump(), status_code=409)
    except UsageError as error:
        raise HTTPException(misused, error.what) from error


def _told(ask: Callable[[], Answer]) -> Answer:
    """A full disk and the like are the machine's trouble; the message names the file and no folder."""
    try:
        return ask()
    except RunError as error:
        raise HTTPException(503, error.what) from error


def _row(inspection: Inspection, image: str) -> int:
    row = inspection.row_of.get(image)
    if row is None:
        raise HTTPException(404, "no such image")
    return row


def _column(names: tuple[str, ...], class_name: str) -> int:
    if class_name not in names:
        raise HTTPException(404, "no such class")
    return names.index(class_name)


def _classes(inspection: Inspection, row: int, decisions: Mapping[str, Decision]) -> list[LabelAnswer]:
    predictions = inspection.predictions
    probability_C = predictions.take([row]).probability_NC[0]
    found: list[LabelAnswer] = []
    for column, name in enumerate(predictions.label_set):
        decision = decisions.get(name)
        values = {
            "class_name": name,
            "given": int(predictions.target_NC[row, column]),
            "probability": to_json(float(probability_C[column])),
            "decision": standing_answer(decision),
            "number": decision.number if decision else 0,
        }
        found.append(LabelAnswer.model_validate(values))
    return found
