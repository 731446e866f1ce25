"""Serves what the decisions are worth: as JSON to the review, and as a page that works without scripts."""

from contextlib import suppress
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from polytag.errors import PolytagError
from polytag.inspector.browse.answers import MeanAnswer, to_json
from polytag.inspector.browse.pages import rendered, with_run
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.review.decisions_page import decisions_page
from polytag.inspector.review.replies import READS, or_503
from polytag.inspector.review.training import DecisionTraining


class ClassWorthAnswer(BaseModel):
    """A class with decisions, and its average precision without and with them."""

    name: str
    num_decided: int
    num_confirmed: int
    before: float | None
    after: float | None


class WorthAnswer(BaseModel):
    """mAP under the labels as they are in the data, and under the corrected ones. Where mostly labels that contradict the model are
    reviewed, the difference favours the model."""

    num_decided: int = Field(description="Decisions about labels with a score; the numbers are as of these.")
    num_confirmed: int = Field(description="Of these, decisions that leave the label as it is.")
    before: MeanAnswer
    after: MeanAnswer
    classes: list[ClassWorthAnswer] = Field(description="Classes with decisions, the largest change first.")


def worth_routes(service: InspectorService, training: DecisionTraining) -> APIRouter:
    """Return the routes. 503: the review file cannot be read. The caller closes the training."""
    routes = APIRouter()

    @routes.get("/api/review/worth", responses={503: READS[503]})
    def worth() -> WorthAnswer:
        """mAP with and without the decisions. Only the classes with new decisions are ranked again."""
        found = or_503(service.corrected.worth)
        return WorthAnswer(
            num_decided=found.num_decided,
            num_confirmed=found.num_confirmed,
            before=MeanAnswer(value=to_json(found.before), num_classes=found.num_classes_before),
            after=MeanAnswer(value=to_json(found.after), num_classes=found.num_classes_after),
            classes=[
                ClassWorthAnswer(
                    name=each.name,
                    num_decided=each.num_decided,
                    num_confirmed=each.num_confirmed,
                    before=to_json(each.before),
                    after=to_json(each.after),
                )
                for each in found.classes
            ],
        )

    @routes.get("/decisions", include_in_schema=False)
    def decisions(against: str = "") -> Response:
        return rendered(decisions_page(service, training, against=service.place(against)))

    @routes.post("/decisions", include_in_schema=False)
    def train_or_stop(action: Literal["train", "stop"], against: str = "") -> Response:
        run = service.run(service.place(against))
        if action == "train":
            with suppress(PolytagError):  # the page says why there is nothing to train on
                training.start()
        else:
            training.stop()
        return RedirectResponse(with_run("/decisions#train", run), status_code=303)

    return routes
