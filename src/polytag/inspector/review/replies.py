"""What the routes of the review share: fields of requests, answers about writes, and what becomes of errors."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import HTTPException
from fastapi import Query as QueryParameter
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from polytag.errors import ReviewConflict, RunError, UsageError
from polytag.inspector.browse.answers import Label, Problem
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.batches import Batch, BatchConflict
from polytag.inspector.review.queue import DecisionAnswer, decision_answer
from polytag.inspector.review.rows import Decision
from polytag.inspector.review.text import (
    MAX_LENGTH_OF_ID,
    MAX_LENGTH_OF_NOTE,
    MAX_LENGTH_OF_TAG,
    note_text,
    reviewer_name,
    tag_text,
)

Result = TypeVar("Result")
Reply = TypeVar("Reply")


def as_value_error(check: Callable[[str], str]) -> Callable[[str], str]:
    """Return the check of a text as pydantic takes it."""

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
Reviewer = Annotated[str, Field(max_length=200), AfterValidator(as_value_error(reviewer_name))]
Tag = Annotated[str, Field(max_length=MAX_LENGTH_OF_TAG + 1), AfterValidator(as_value_error(tag_text))]
Note = Annotated[str, Field(max_length=MAX_LENGTH_OF_NOTE), AfterValidator(as_value_error(note_text))]
Blind = Annotated[str, QueryParameter(max_length=200, description="Who gives a second opinion.")]
ClassName = Annotated[str, QueryParameter(alias="class", max_length=MAX_LENGTH_OF_ID, description="Empty for all.")]


class Conflict(BaseModel):
    """Another decision came first, so nothing was written."""

    detail: str
    current: DecisionAnswer | None = Field(default=None, description="The last row about this label; null for a batch.")
    num_conflicts: int = Field(default=1, description="Labels with another decision. A batch can leave them out.")


class BatchAnswer(BaseModel):
    """What one batch wrote, all in one transaction."""

    batch: int = Field(description="Its number, by which it is undone as one.")
    undoes: int | None = Field(description="Number of the batch that this one undoes.")
    num_labels: int
    num_marks: int = Field(description="Tags and notes.")
    num_left_out: int = Field(description="Labels with another decision, which were left out as asked.")
    first_row: int = Field(description="Number of its first row about labels.")
    last_row: int = Field(description="Number of its last row about labels; below the first where it has none.")


def batch_answer(batch: Batch) -> BatchAnswer:
    """Return the batch as JSON."""
    return BatchAnswer(
        batch=batch.number,
        undoes=batch.undoes,
        num_labels=batch.num_labels,
        num_marks=batch.num_marks,
        num_left_out=batch.num_left_out,
        first_row=batch.first_row,
        last_row=batch.last_row,
    )


READS: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 503: {"model": Problem}}
WRITES: dict[int | str, dict[str, Any]] = {400: {"model": Problem}, **READS, 409: {"model": Conflict}}


def written(write: Callable[[], Result], *, to_answer: Callable[[Result], Reply], usage_status: int = 400) -> Reply | JSONResponse:
    """Write to the store, and answer; a conflict becomes status 409, a UsageError `usage_status`."""
    try:
        return to_answer(or_503(write))
    except BatchConflict as conflict:
        answer = Conflict(detail=conflict.what, num_conflicts=conflict.num_conflicts)
        return JSONResponse(answer.model_dump(), status_code=409)
    except ReviewConflict as conflict:
        current = decision_answer(conflict.current) if isinstance(conflict.current, Decision) else None
        return JSONResponse(Conflict(detail=conflict.what, current=current).model_dump(), status_code=409)
    except UsageError as error:
        raise HTTPException(usage_status, error.what) from error


def or_503(call: Callable[[], Result]) -> Result:
    """Call the store; a RunError becomes status 503 with a message that names the file and no folder."""
    try:
        return call()
    except RunError as error:
        raise HTTPException(503, error.what) from error


def row_of(inspection: Inspection, image: str) -> int:
    """Return the row of an image; an unknown one becomes status 404."""
    row = inspection.row_of.get(image)
    if row is None:
        raise HTTPException(404, "no such image")
    return row


def column_of(names: tuple[str, ...], class_name: str) -> int:
    """Return the column of a class; an unknown one becomes status 404."""
    if class_name not in names:
        raise HTTPException(404, "no such class")
    return names.index(class_name)
