"""Defines the JSON that the API returns and the parameters that it takes. The pages use both. NaN becomes null."""

import math
from typing import Annotated, Literal

import numpy as np
from fastapi import Query as QueryParameter
from pydantic import BaseModel, ConfigDict, Field, model_validator

Outcome = Literal["true_positive", "true_negative", "false_positive", "false_negative", "unknown", "undecided"]
Sort = Literal["score", "loss", "suspicion", "disagreement", "id"]
Label = Literal[1, 0, -1]
Name = Annotated[str, Field(max_length=1000)]
Row = Annotated[int, Field(ge=0, lt=2**31)]
MAX_CLASSES_IN_QUERY = 12  # of a thousand characters each; servers refuse longer addresses


class Problem(BaseModel):
    """The reason for a refused request."""

    detail: str


class MeanAnswer(BaseModel):
    """A mean over classes, its 95% interval once that is computed, and the number of classes that it counts."""

    value: float | None
    low: float | None = None
    high: float | None = None
    num_classes: int


class RunAnswer(BaseModel):
    """The run under inspection, and which features it supports."""

    name: str
    split: str
    num_images: int
    classes: list[str]
    has_probabilities: bool
    has_model: bool
    mAP: MeanAnswer
    compared: str | None = Field(description="The name of the second run.")
    mAP_compared: MeanAnswer | None = Field(description="mAP of the second run, on the images that both runs scored.")
    gain: float | None = Field(description="mAP of the second run minus mAP of the first run on the same images.")
    num_shared: int = Field(description="Number of images that both runs scored.")
    note: str = Field(description="On the classes with few positives and the bias of mAP; empty if there is no such class.")
    is_evaluated: bool = Field(description="Whether the intervals, precision and recall are computed yet.")
    version: str = Field(
        description="Changes with the scores. With this value as parameter v, images and thumbnails may be cached for ever."
    )
    columns: dict[str, list[str]] = Field(description="Columns to filter by, with at most 200 values each.")


class ClassAnswer(BaseModel):
    """One class with its average precision, label counts, and precision and recall at its threshold."""

    name: str
    ap: float | None
    ap_low: float | None
    ap_high: float | None
    ap_chance: float | None = Field(description="The expected average precision of a random order.")
    num_present: int
    num_absent: int
    num_unknown: int
    is_few: bool = Field(description="Whether the class has positives, but fewer than 10.")
    threshold: float
    precision: float | None
    recall: float | None
    ap_compared: float | None = Field(description="Average precision of the second run, on the images that both runs scored.")
    gain: float | None = Field(description="That minus the first run's average precision on the same images.")


class ClassesAnswer(BaseModel):
    """All classes in the order of the label set."""

    is_evaluated: bool
    classes: list[ClassAnswer]


class ProportionAnswer(BaseModel):
    """A proportion at every threshold with its 95% Wilson interval, to four decimals. Null where its denominator is zero."""

    value: list[float | None]
    low: list[float | None]
    high: list[float | None]


class ThresholdsAnswer(BaseModel):
    """Counts and proportions of one class at 0, 0.001 to 1, and its own threshold. A count includes scores strictly above."""

    own_threshold: float
    goal: str
    threshold: list[float]
    present: list[int]
    absent: list[int]
    unknown: list[int]
    precision: ProportionAnswer
    recall: ProportionAnswer
    tail_accuracy: ProportionAnswer = Field(
        description="Of the known images above the threshold, the share that the class's own threshold decides correctly."
    )
    num_present: int


class ChartsAnswer(BaseModel):
    """Vega-Lite specifications."""

    precision_recall: dict[str, object] | None
    histogram: dict[str, object]


class RankingParameters(BaseModel):
    """The class, order and filters of a ranking. Pages and API take the same parameters."""

    model_config = ConfigDict(populate_by_name=True)

    class_name: Name = Field(alias="class")
    sort: Sort = "score"
    order: Literal["desc", "asc"] = "desc"
    threshold: float | None = Field(
        None, ge=0, le=1, description="A class counts as present above it. The default is the class's own threshold."
    )
    outcome: list[Outcome] = Field([], max_length=6, description="The decision compared with the label. Empty for all.")
    min_labels: int = Field(0, ge=0, le=100_000)
    max_labels: int | None = Field(None, ge=0, le=100_000)
    present: list[Name] = Field([], max_length=MAX_CLASSES_IN_QUERY, description="Classes that the image is labelled with.")
    absent: list[Name] = Field([], max_length=MAX_CLASSES_IN_QUERY, description="Classes that the image is labelled without.")
    column: Name = ""
    value: Name = ""
    text: Annotated[str, Field(max_length=200)] = Field("", description="A part of the id.")
    disagree: bool = Field(False, description="Only images that the two runs decide differently.")

    @model_validator(mode="before")
    @classmethod
    def without_empty_fields(cls, values: object) -> object:
        """Drop empty fields: a form sends every field that it has."""
        if not isinstance(values, dict):
            return values
        filled: dict[str, object] = {}
        for name, value in values.items():
            stripped = [each for each in value if each != ""] if isinstance(value, list) else value
            if stripped != "":
                filled[name] = stripped
        return filled


class PageOfRanking(RankingParameters):
    """The parameters of a ranking, and which part of it is returned."""

    offset: Row = 0
    limit: int = Field(200, ge=1, le=1000)


class PageParameters(PageOfRanking):
    """The parameters in the address of a page. The class may be left out."""

    class_name: Name = Field("", alias="class")


class RankedImage(BaseModel):
    """One image in the ranking of a class."""

    row: int
    id: str
    probability: float | None
    text: str = Field(description="The score as the page shows it.")
    truth: Label
    outcome: Outcome
    num_labels: int
    compared: float | None = Field(description="Probability of the second run.")
    value: float | None = Field(description="The sort key, for loss, suspicion and disagreement.")
    reviewed: Label | None = Field(description="The label that a reviewer decided on.")
    decision: int = Field(description="Number of the last review row about this label; 0 for none.")


class RankingAnswer(BaseModel):
    """One part of a ranking."""

    total: int
    offset: int
    images: list[RankedImage]


class ImageClass(BaseModel):
    """One class of one image."""

    name: str
    probability: float | None
    text: str
    threshold: float
    truth: Label
    outcome: Outcome
    compared: float | None


class ImageAnswer(BaseModel):
    """One image with all classes, highest score first."""

    row: int
    id: str
    columns: dict[str, str]
    classes: list[ImageClass]


def to_json(value: float) -> float | None:
    """Return a number that JSON can hold: None for NaN."""
    return None if math.isnan(value) else float(value)


def to_json_list(value_T: np.ndarray) -> list[float | None]:
    """Return the numbers to four decimals, None for NaN."""
    return [None if math.isnan(value) else value for value in value_T.round(4).tolist()]


PageQuery = Annotated[PageOfRanking, QueryParameter()]
