"""Defines the JSON API of label review under /api/review: the queue, decisions and undo."""

from collections import Counter
from collections.abc import Container, Mapping
from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as QueryParameter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from polytag.inspector.browse.answers import Label, to_json
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.agreement import second_opinions
from polytag.inspector.review.batches import Batch, LabelDecision
from polytag.inspector.review.queue import (
    DecisionAnswer,
    IssueFinder,
    Kind,
    Order,
    ProgressAnswer,
    QueueAnswer,
    current_answer,
    decision_answer,
    queue,
    review_progress,
)
from polytag.inspector.review.replies import (
    READS,
    WRITES,
    BatchAnswer,
    Blind,
    ClassName,
    GivenLabel,
    Id,
    Note,
    Number,
    Reviewer,
    batch_answer,
    column_of,
    or_503,
    row_of,
    written,
)
from polytag.inspector.review.rows import Decision, LabelKey
from polytag.inspector.review.store import Answer, ReviewStore
from polytag.inspector.review.text import MAX_LENGTH_OF_ID
from polytag.inspector.review.worth import CorrectedLabels
from polytag.metrics.decisions import decide

MAX_LABELS = 100_000  # of an image in one request


class DecisionRequest(BaseModel):
    """A decision about a label."""

    model_config = ConfigDict(strict=True)

    image: Id
    class_name: Id
    label: GivenLabel = Field(description="1 present, 0 absent, -1 unknown")
    reviewer: Reviewer
    note: Note = ""
    based_on: Number = Field(description="Number of the last row of this label that the client has seen; 0 for none.")


class LabelRequest(BaseModel):
    """A label of one class of an image."""

    model_config = ConfigDict(strict=True)

    class_name: Id
    label: GivenLabel = Field(description="1 present, 0 absent, -1 unknown")
    based_on: Number = Field(description="Number of the last row of this label that the client has seen; 0 for none.")


class ImageRequest(BaseModel):
    """Labels of one image."""

    model_config = ConfigDict(strict=True)

    image: Id
    labels: list[LabelRequest] = Field(min_length=1, max_length=MAX_LABELS)
    reviewer: Reviewer


class LabelOfImage(LabelRequest):
    """A label of one class of an image."""

    image: Id


class BatchRequest(BaseModel):
    """Decisions about labels of several images."""

    model_config = ConfigDict(strict=True)

    decisions: list[LabelOfImage] = Field(min_length=1, max_length=MAX_LABELS)
    reviewer: Reviewer
    leave_out_conflicts: bool = Field(False, description="Whether labels with another decision are left out, and the others saved.")


class UndoRequest(BaseModel):
    """What to undo: a decision, or a batch as one; by default the last thing that the reviewer did."""

    model_config = ConfigDict(strict=True)

    reviewer: Reviewer
    number: Number = Field(0, description="Number of the decision; 0 for the reviewer's last decision or batch.")
    batch: Number = Field(0, description="Number of the batch, in place of a decision.")
    leave_out_conflicts: bool = Field(False, description="Of a batch, whether labels with another decision are left out.")


class LabelAnswer(BaseModel):
    """One class of an image: the given label, the prediction and the decision."""

    class_name: str
    given: Label
    probability: float | None
    is_predicted: bool = Field(description="Whether the probability is above the threshold of the class.")
    decision: DecisionAnswer | None
    number: int = Field(description="Number of the last row about this label, 0 for none; `based_on` of the next decision.")


class LabelsAnswer(BaseModel):
    """All classes of an image."""

    row: int
    image: str
    classes: list[LabelAnswer]


class UnlabelledImage(BaseModel):
    """An image without any known label in the data."""

    row: int
    image: str
    is_labelled: bool = Field(description="Whether all its labels are decided.")


class UnlabelledAnswer(BaseModel):
    """Images to label, in the order of the list."""

    total: int
    num_labelled: int = Field(description="Of all of them.")
    offset: int
    images: list[UnlabelledImage]


class HistoryAnswer(BaseModel):
    """Rows of the review, newest first."""

    decisions: list[DecisionAnswer]


def review_routes(
    inspection: Inspection, store: ReviewStore, *, issue_finder: IssueFinder, corrected: CorrectedLabels
) -> APIRouter:
    """Return the routes over one inspection and its review.

    404: an unknown image or class, or nothing to undo. 409: another decision came first. 503: the review file cannot be read or
    written. FastAPI rejects what the schema does not allow (422); the application answers without repeating the input.
    """
    routes = APIRouter(prefix="/api/review")
    _add_queue_routes(routes, inspection, store, issue_finder=issue_finder, corrected=corrected)
    _add_read_routes(routes, inspection, store)
    _add_write_routes(routes, inspection, store)
    return routes


def _add_queue_routes(
    routes: APIRouter, inspection: Inspection, store: ReviewStore, *, issue_finder: IssueFinder, corrected: CorrectedLabels
) -> None:
    names = inspection.predictions.label_set.names

    @routes.get("/queue", responses=READS)
    def review_queue(
        kind: Kind = "issues",
        order: Order = "suspicion",
        class_name: ClassName = "",
        include_decided: bool = False,
        reviewer: Blind = "",
        limit: Annotated[int, QueryParameter(ge=1, le=500)] = 50,
        offset: Annotated[int, QueryParameter(ge=0, lt=2**31)] = 0,
    ) -> QueueAnswer:
        """Labels to review, the most suspicious first, or those that would change mAP most; second opinions in a random order and
        without the decisions of others. While `status` is "computing" the list is empty; ask again."""
        if class_name:
            column_of(names, class_name)
        return or_503(
            lambda: queue(
                inspection, issue_finder, store, corrected, kind=kind, order=order, class_name=class_name,
                include_decided=include_decided, reviewer=reviewer, limit=limit, offset=offset,
            )
        )  # fmt: skip

    @routes.get("/progress", responses={503: READS[503]})
    def progress() -> ProgressAnswer:
        """The number of decided labels, and of decided label issues."""
        return or_503(lambda: review_progress(inspection, issue_finder, store))


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
            row_of(inspection, image)
        if class_name:
            column_of(names, class_name)
        rows = or_503(lambda: store.history(inspection.split, image_id=image, class_name=class_name, limit=limit))
        return HistoryAnswer(decisions=[decision_answer(row) for row in rows])

    @routes.get("/images", responses={503: READS[503]})
    def unlabelled(
        limit: Annotated[int, QueryParameter(ge=1, le=5000)] = 1000, offset: Annotated[int, QueryParameter(ge=0, lt=2**31)] = 0
    ) -> UnlabelledAnswer:
        """Images without any known label in the data, which are to be labelled in this order."""
        return _unlabelled(inspection, or_503(lambda: store.labels(inspection.split)), limit=limit, offset=offset)

    @routes.get("/labels", responses=READS)
    def labels(image: Annotated[str, QueryParameter(max_length=MAX_LENGTH_OF_ID)], reviewer: Blind = "") -> LabelsAnswer:
        """The given label and the decision of every class of one image; for a second opinion without decisions about labels that
        the reviewer has not decided."""
        row = row_of(inspection, image)
        decisions = or_503(lambda: store.of_image(inspection.split, image))
        votes = or_503(lambda: store.votes(inspection.split, image_id=image)) if reviewer.strip() else {}
        hidden = {class_name for _, class_name in second_opinions(votes, reviewer.strip())}
        return LabelsAnswer(row=row, image=image, classes=_classes(inspection, row, decisions, hidden=hidden))


def _add_write_routes(routes: APIRouter, inspection: Inspection, store: ReviewStore) -> None:
    names = inspection.predictions.label_set.names

    @routes.post("/decisions", response_model=DecisionAnswer, responses=WRITES)
    def decide(request: DecisionRequest) -> DecisionAnswer | JSONResponse:
        """Save a decision. Once this answers, no crash loses it."""
        row, column = row_of(inspection, request.image), column_of(names, request.class_name)
        return written(
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
            to_answer=decision_answer,
            usage_status=400,
        )

    @routes.post("/image", response_model=HistoryAnswer, responses=WRITES)
    def label_image(request: ImageRequest) -> HistoryAnswer | JSONResponse:
        """Save labels of one image, all of them or none. Once this answers, no crash loses them."""
        row = row_of(inspection, request.image)
        answers = [
            Answer(
                class_name=each.class_name,
                label=each.label,
                given=int(inspection.predictions.target_NC[row, column_of(names, each.class_name)]),
                based_on=each.based_on,
            )
            for each in request.labels
        ]
        return written(
            lambda: store.decide_image(split=inspection.split, image_id=request.image, answers=answers, reviewer=request.reviewer),
            to_answer=lambda rows: HistoryAnswer(decisions=[decision_answer(each) for each in rows]),
            usage_status=400,
        )

    @routes.post("/batch", response_model=BatchAnswer, responses=WRITES)
    def decide_batch(request: BatchRequest) -> BatchAnswer | JSONResponse:
        """Save decisions about many labels, all of them or none, as one batch. Once this answers, no crash loses them."""
        decisions = [
            LabelDecision(
                image_id=each.image,
                class_name=each.class_name,
                label=each.label,
                given=int(inspection.predictions.target_NC[row_of(inspection, each.image), column_of(names, each.class_name)]),
                based_on=each.based_on,
            )
            for each in request.decisions
        ]
        return written(
            lambda: store.batches.decide(
                decisions, split=inspection.split, reviewer=request.reviewer, leave_out_conflicts=request.leave_out_conflicts
            ),
            to_answer=batch_answer,
        )

    @routes.post("/undo", response_model=DecisionAnswer | BatchAnswer, responses=WRITES)
    def undo(request: UndoRequest) -> DecisionAnswer | BatchAnswer | JSONResponse:
        """Undo a decision, or a batch as one. What held before it holds again. 404 where there is none."""
        return written(
            lambda: _undone(store, request, split=inspection.split),
            to_answer=lambda undone: batch_answer(undone) if isinstance(undone, Batch) else decision_answer(undone),
            usage_status=404,
        )


def _undone(store: ReviewStore, request: UndoRequest, *, split: str) -> Decision | Batch:
    if request.batch:
        leave_out = request.leave_out_conflicts
        return store.batches.undo(reviewer=request.reviewer, split=split, number=request.batch, leave_out_conflicts=leave_out)
    if request.number:
        return store.undo(reviewer=request.reviewer, split=split, number=request.number)
    return store.batches.undo_last(reviewer=request.reviewer, split=split)


def _unlabelled(inspection: Inspection, decided: Mapping[LabelKey, int], *, limit: int, offset: int) -> UnlabelledAnswer:
    ids, num_classes = inspection.predictions.ids, len(inspection.predictions.label_set)
    num_decided = Counter(image for image, _ in decided)
    rows = inspection.unlabelled_rows
    return UnlabelledAnswer(
        total=len(rows),
        num_labelled=sum(num_decided[ids[row]] == num_classes for row in rows),
        offset=offset,
        images=[
            UnlabelledImage(row=row, image=ids[row], is_labelled=num_decided[ids[row]] == num_classes)
            for row in rows[offset : offset + limit]
        ],
    )


def _classes(inspection: Inspection, row: int, decisions: Mapping[str, Decision], *, hidden: Container[str]) -> list[LabelAnswer]:
    predictions = inspection.predictions
    probability_C = predictions.take([row]).probability_NC[0]
    is_predicted_C = decide(probability_C, threshold_C=inspection.threshold_C)
    found: list[LabelAnswer] = []
    for column, name in enumerate(predictions.label_set):
        decision = decisions.get(name)
        values = {
            "class_name": name,
            "given": int(predictions.target_NC[row, column]),
            "probability": to_json(float(probability_C[column])),
            "is_predicted": bool(is_predicted_C[column]),
            "decision": None if name in hidden else current_answer(decision),
            "number": decision.number if decision else 0,
        }
        found.append(LabelAnswer.model_validate(values))
    return found
