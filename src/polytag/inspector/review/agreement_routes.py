"""Serves how far the reviewers agree, the labels on which they do not, and how many labels wait for a second opinion."""

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field

from polytag.inspector.browse.answers import Label, to_json
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.agreement import Votes, agreements, disputed
from polytag.inspector.review.queue import second_opinions_of
from polytag.inspector.review.replies import READS, Blind, or_503
from polytag.inspector.review.store import ReviewStore

MAX_DISPUTED = 500  # labels in one answer


class AgreementOfTwo(BaseModel):
    """Two reviewers on one class."""

    class_name: str
    first: str
    second: str
    num_labels: int = Field(description="Labels that both decided.")
    num_equal: int = Field(description="Of these, labels on which both decided the same.")
    kappa: float | None = Field(description="Cohen's kappa; null where both always gave one and the same answer.")


class DisputedLabel(BaseModel):
    """A label on which no answer has more votes than every other."""

    image: str
    class_name: str
    votes: dict[str, Label] = Field(description="The last decision of each reviewer.")


class AgreementAnswer(BaseModel):
    """How far the reviewers agree, the least agreement first, and the labels on which they do not."""

    classes: list[AgreementOfTwo]
    num_disputed: int
    disputed: list[DisputedLabel] = Field(description="At most 500.")
    num_second: int = Field(description="Labels that others decided and the reviewer did not.")


def agreement_routes(inspection: Inspection, store: ReviewStore) -> APIRouter:
    """Return the route. 503: the review file cannot be read."""
    routes = APIRouter(prefix="/api/review")

    @routes.get("/agreement", responses={503: READS[503]})
    def agreement(reviewer: Blind = "") -> AgreementAnswer:
        """Cohen's kappa of every two reviewers on every class, and the labels on which reviewers disagree."""
        votes = or_503(lambda: store.votes(inspection.split))
        return _agreement(votes, num_second=len(or_503(lambda: second_opinions_of(inspection, store, reviewer=reviewer))))

    return routes


def _agreement(votes: Votes, *, num_second: int) -> AgreementAnswer:
    keys = disputed(votes)
    return AgreementAnswer(
        classes=[AgreementOfTwo.model_validate({**asdict(each), "kappa": to_json(each.kappa)}) for each in agreements(votes)],
        num_disputed=len(keys),
        disputed=[
            DisputedLabel.model_validate({"image": image, "class_name": class_name, "votes": votes[image, class_name]})
            for image, class_name in keys[:MAX_DISPUTED]
        ],
        num_second=num_second,
    )
