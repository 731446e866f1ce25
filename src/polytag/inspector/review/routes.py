"""Defines the JSON API of label review under /api/review: the queue, decisions and undo."""

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
    IssueFinder,
    Kind,
    ProgressAnswer,
    QueueAnswer,
    current_answer,
    decision_answer,
    queue,
    review_progress,
)
from polytag.inspector.review.store import Decision, ReviewStore
from polytag.inspector.review.text import MAX_LENGTH_OF_ID, MAX_LENGTH_OF_NOTE, note_text, reviewer_name

Answer = TypeVar("Answer")


def _as_value_error(check: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        try:
            return check(text)
        except UsageError as error:
            raise ValueError(error.what) from None

    return checked


def _no_truth_value(label: object) -> object:
    """Reject true and false, which Python and pydantic take for 1 and 0."""
    if isinstance(label, bool):
        raise ValueError("a label is 1, 0 or -1")
    return label


GivenLabel = Annotated[Label, BeforeValidator(_no_truth_value)]
Number = Annotated[int, Field(ge=0, lt=2**63)]
Id = Annotated[str, Field(max_length=MAX_LENGTH_OF_ID)]
Reviewer = Annotated[str, Field(max_length=200), AfterValidator(_as_value_error(reviewer_name))]
Note = Annotated[str, Field(max_length=MAX_LENGTH_OF_NOTE), AfterValidator(_as_value_error(note_text))]
ClassName = Annotated[str, QueryParameter(alias="class", max_length=MAX_LENGTH_OF_ID, description="Empty for all.")]


class DecisionRequest(BaseModel):
    """A decision about a label."""

    model_config = ConfigDict(strict=True)

    image: Id
    class_name: Id
    label: GivenLabel = Field(description="1 present, 0 absent, -1 unknown")
    reviewer: Reviewer
    note: Note = ""
    based_on: Number = Field(description="Number of the last row of this label that the client has seen; 0 for none.")


class UndoRequest(BaseModel):
    """The decision to undo."""

    model_config = ConfigDict(strict=True)

    reviewer: Reviewer
    number: Number = Field(0, description="Number of the decision; 0 for the reviewer's last.")


class Conflict(BaseModel):
    """Another decision came first, so nothing was written."""

    detail: str
    current: DecisionAnswer | None = Field(description="The last row about this label.")


class LabelAnswer(BaseModel):
    """One class of an image: the given label, the prediction and the decision."""

    class_name: str
    given: Label
    probability: float | None
    decision: DecisionAnswer | None
    number: int = Field(description="Number of the last row about this label, 0 for none; `based_on` of the next decision.")


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


def review_routes(inspection: Inspection, store: ReviewStore, issue_finder: IssueFinder | None = None) -> APIRouter:
    """Return the routes over one inspection and its review. A caller that reads the queue itself passes its IssueFinder.

    404: an unknown image or class, or nothing to undo. 409: another decision came first. 503: the review file cannot be read or
    written. FastAPI rejects what the schema does not allow (422); the application answers without repeating the input.
    """
    routes = APIRouter(prefix="/api/review")
    _add_queue_routes(routes, inspection, store, issue_finder or IssueFinder(inspection))
    _add_read_routes(routes, inspection, store)
    _add_write_routes(routes, inspection, store)
    return routes


def _add_queue_routes(routes: APIRouter, inspection: Inspection, store: ReviewStore, issue_finder: IssueFinder) -> None:
    names = inspection.predictions.label_set.names

    @routes.get("/queue", responses=READS)
    def review_queue(
        kind: Kind = "issues",
        class_name: ClassName = "",
        include_decided: bool = False,
        limit: Annotated[int, QueryParameter(ge=1, le=500)] = 50,
        offset: Annotated[int, QueryParameter(ge=0, lt=2**31)] = 0,
    ) -> QueueAnswer:
        """Labels to review, most suspicious first. While `status` is "computing" the list is empty; ask again."""
        if class_name:
            _column(names, class_name)
        return _or_503(
            lambda: queue(
                inspection, issue_finder, store, kind=kind, class_name=class_name, include_decided=include_decided, limit=limit,
                offset=offset,
            )
        )  # fmt: skip

    @routes.get("/progress", responses={503: READS[503]})
    def progress() -> ProgressAnswer:
        """The number of decided labels, and of decided label issues."""
        return _or_503(lambda: review_progress(inspection, issue_finder, store))


def _add_read_routes(routes: APIRouter, inspection: Inspection, store: ReviewStore) -> None:
    names = inspection.predictions.label_set.names

    @routes.get("/history", responses=READS)
    def history(
        image: Annotated[str, QueryParameter(max_length=MAX_LENGTH_OF_ID, description="Empty for all.")] = "",
        class_name: ClassName = "",
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    ) -> HistoryAnswer:
        """Rows of the review, newest first: decisions and undos."""
        if image:
            _row(inspection, image)
        if class_name:
            _column(names, class_name)
        rows = _or_503(lambda: store.history(inspection.split, image_id=image, class_name=class_name, limit=limit))
        return HistoryAnswer(decisions=[decision_answer(row) for row in rows])

    @routes.get("/labels", responses=READS)
    def labels(image: Annotated[str, QueryParameter(max_length=MAX_LENGTH_OF_ID)]) -> LabelsAnswer:
        """The given label and the decision of every class of one image."""
        row = _row(inspection, image)
        decisions = _or_503(lambda: store.of_image(inspection.split, image))
        return LabelsAnswer(row=row, image=image, classes=_classes(inspection, row, decisions))


def _add_write_routes(routes: APIRouter, inspection: Inspection, store: ReviewStore) -> None:
    names = inspection.predictions.label_set.names

    @routes.post("/decisions", response_model=DecisionAnswer, responses=WRITES)
    def decide(request: DecisionRequest) -> DecisionAnswer | JSONResponse:
        """Save a decision. Once this answers, no crash loses it."""
        row, column = _row(inspection, request.image), _column(names, request.class_name)
        return _written(
            lambda: store.decide(
                split=inspection.split,
                image_id=request.image,
                class_name=request.class_name,
                label=request.label,
                given=int(inspection.predictions.target_NC[row, column]),
                reviewer=request.reviewer,
                note=request.note,
                based_on=request.based_on,
            ),
            usage_status=400,
        )

    @routes.post("/undo", response_model=DecisionAnswer, responses=WRITES)
    def undo(request: UndoRequest) -> DecisionAnswer | JSONResponse:
        """Undo the reviewer's last decision. The decision before it holds again. 404 where there is none."""
        return _written(
            lambda: store.undo(reviewer=request.reviewer, split=inspection.split, number=request.number), usage_status=404
        )


def _written(write: Callable[[], Decision], *, usage_status: int) -> DecisionAnswer | JSONResponse:
    try:
        return decision_answer(_or_503(write))
    except ReviewConflict as conflict:
        current = decision_answer(conflict.current) if isinstance(conflict.current, Decision) else None
        return JSONResponse(Conflict(detail=conflict.what, current=current).model_dump(), status_code=409)
    except UsageError as error:
        raise HTTPException(usage_status, error.what) from error


def _or_503(call: Callable[[], Answer]) -> Answer:
    """Call the store; a RunError becomes status 503 with a message that names the file and no folder."""
    try:
        return call()
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
            "decision": current_answer(decision),
            "number": decision.number if decision else 0,
        }
        found.append(LabelAnswer.model_validate(values))
    return found
