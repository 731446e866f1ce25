"""The JSON that the API gives, and the parameters it takes: the pages themselves use both. NaN is null."""

import math
from typing import Annotated, Literal

from fastapi import Query as QueryParameter
from pydantic import BaseModel, ConfigDict, Field, model_validator

Outcome = Literal["true_positive", "true_negative", "false_positive", "false_negative", "unknown", "undecided"]
Sort = Literal["score", "loss", "suspicion", "disagreement", "id"]
Label = Literal[1, 0, -1]
Name = Annotated[str, Field(max_length=1000)]
Row = Annotated[int, Field(ge=0, lt=2**31)]
MAX_CLASSES_ASKED = 12  # of a thousand characters each; longer addresses pass no server


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class MeanAnswer(BaseModel):
    """One average: its value, its 95% interval where it is computed, and how many classes it counted."""

    value: float | None
    low: float | None = None
    high: float | None = None
    num_classes: int


class RunAnswer(BaseModel):
    """What is being looked at, and what can be asked of it."""

    name: str
    split: str
    num_images: int
    classes: list[str]
    has_probabilities: bool
    has_model: bool
    mAP: MeanAnswer
    compared: str | None
    mAP_compared: MeanAnswer | None = Field(description="The second run's, on the images that both scored.")
    gain: float | None = Field(description="How much more that is than the first run's on the same images.")
    num_shared: int = Field(description="Images that both runs scored.")
    is_evaluated: bool = Field(description="Whether intervals and decision numbers are there; they are computed beside the pages.")
    version: str = Field(description="Changes with the scores; the parameter v of images and thumbnails, which may then be kept.")
    columns: dict[str, list[str]] = Field(description="Columns to filter by, each with its values; of numbers the first 200.")


class ClassAnswer(BaseModel):
    """One class: its average precision, its labels, and its decisions at its threshold."""

    name: str
    ap: float | None
    ap_low: float | None
    ap_high: float | None
    num_present: int
    num_absent: int
    num_unknown: int
    threshold: float
    precision: float | None
    recall: float | None
    ap_compared: float | None = Field(description="The second run's, on the images that both scored.")
    gain: float | None = Field(description="How much more that is than the first run's on the same images.")


class ClassesAnswer(BaseModel):
    """All classes, in the order of the label set."""

    is_evaluated: bool
    classes: list[ClassAnswer]


class OperatingAnswer(BaseModel):
    """Counts of a class at ascending thresholds: 0, 0.001 to 1, and the class's own. All counts are of scores strictly above."""

    own_threshold: float
    goal: str
    threshold: list[float]
    present: list[int]
    absent: list[int]
    unknown: list[int]
    tail_right: list[int] = Field(
        description="Known images above the threshold that the class's own threshold decides rightly; "
        "divided by present + absent it is the tail accuracy."
    )
    num_present: int
    num_absent: int
    num_unknown: int


class ChartsAnswer(BaseModel):
    """Vega-Lite specifications."""

    precision_recall: dict[str, object] | None
    histogram: dict[str, object]


class RankingParameters(BaseModel):
    """Which images of a class, in which order. The same in the address of a page and of the API."""

    model_config = ConfigDict(populate_by_name=True)

    class_name: Name = Field(alias="class")
    sort: Sort = "score"
    order: Literal["desc", "asc"] = "desc"
    threshold: float | None = Field(None, ge=0, le=1, description="Above it the class counts as present; by default its own.")
    outcome: list[Outcome] = Field([], max_length=6, description="What the decision is against the label; none: all.")
    min_labels: int = Field(0, ge=0, le=100_000)
    max_labels: int | None = Field(None, ge=0, le=100_000)
    present: list[Name] = Field([], max_length=MAX_CLASSES_ASKED, description="Classes that the image must be labelled with.")
    absent: list[Name] = Field([], max_length=MAX_CLASSES_ASKED, description="Classes that the image must be labelled without.")
    column: Name = ""
    value: Name = ""
    text: Annotated[str, Field(max_length=200)] = Field("", description="What the id contains.")
    disagree: bool = Field(False, description="Only images that the second run decides otherwise.")

    @model_validator(mode="before")
    @classmethod
    def without_empty_fields(cls, values: object) -> object:
        """A form sends every field it has: an empty one means nothing was asked."""
        if not isinstance(values, dict):
            return values
        asked: dict[str, object] = {}
        for name, value in values.items():
            kept = [each for each in value if each != ""] if isinstance(value, list) else value
            if kept != "":
                asked[name] = kept
        return asked


class PageOfRanking(RankingParameters):
    """The same, and which part of it."""

    offset: Row = 0
    limit: int = Field(200, ge=1, le=1000)


class PageParameters(PageOfRanking):
    """What stands in a page's address: the same, but the class may be left out."""

    class_name: Name = Field("", alias="class")


class RankedImage(BaseModel):
    """One image in a ranking of a class."""

    row: int
    id: str
    probability: float | None
    text: str = Field(description="The score as it is shown.")
    truth: Label
    outcome: Outcome
    num_labels: int
    compared: float | None = Field(description="The second run's probability.")
    value: float | None = Field(description="What the order goes by, for loss, suspicion and disagreement.")
    reviewed: Label | None = Field(description="What a reviewer decided.")
    decision: int = Field(description="The number of the last row of the review about this label, 0 for none.")


class RankingAnswer(BaseModel):
    """A part of a ranking."""

    total: int
    offset: int
    images: list[RankedImage]


class ImageClass(BaseModel):
    """What is known of one class in one image."""

    name: str
    probability: float | None
    text: str
    threshold: float
    truth: Label
    outcome: Outcome
    compared: float | None


class ImageAnswer(BaseModel):
    """One image and all classes, the highest score first."""

    row: int
    id: str
    columns: dict[str, str]
    classes: list[ImageClass]


def plain(value: float) -> float | None:
    """A number that JSON can hold."""
    return None if math.isnan(value) else float(value)


RankingQuery = Annotated[RankingParameters, QueryParameter()]
PageQuery = Annotated[PageOfRanking, QueryParameter()]
