"""Defines the JSON that the API returns and the parameters that it takes. The pages use both. NaN becomes null."""

import math
from typing import Annotated, Literal

import numpy as np
from fastapi import Query as QueryParameter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from polytag.inspector.browse.regions import MAX_REGIONS, PATTERN, checked_region
from polytag.inspector.review.text import MAX_LENGTH_OF_TAG
from polytag.text import one_line

Outcome = Literal["true_positive", "true_negative", "false_positive", "false_negative", "unknown", "undecided"]
Sort = Literal["score", "loss", "suspicion", "disagreement", "id"]
Bond = Literal["labelled", "predicted", "kept", "invented", "broken"]
Change = Literal["", "gained", "lost"]
Label = Literal[1, 0, -1]
Size = Literal["s", "m", "l"]
Name = Annotated[str, Field(max_length=1000)]
Row = Annotated[int, Field(ge=0, lt=2**31)]
SearchText = Annotated[str, Field(max_length=200), AfterValidator(one_line)]
RegionText = Annotated[str, Field(json_schema_extra={"pattern": PATTERN}), AfterValidator(checked_region)]  # bounds its length
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
    has_text_search: bool = Field(description="Whether images can be found by a text: `--text-model`.")
    may_keep_thresholds: bool = Field(description="Whether `POST /api/thresholds/keep` works.")
    has_runs: bool = Field(description="Whether it is a run, beside which there may be others, and not a predictions file.")
    num_unlabelled: int = Field(description="Number of images without any known label, which the page /label is about.")
    mAP: MeanAnswer
    compared_runs: list[str] = Field(description="The runs that it is compared with: values of the parameter `against`.")
    compared: str | None = Field(description="The name of the compared run that these numbers are about.")
    mAP_compared: MeanAnswer | None = Field(description="mAP of the compared run, on the images that both runs scored.")
    gain: float | None = Field(description="mAP of this run minus mAP of the compared run, on the images that both scored.")
    num_gained: int | None = Field(description="Sum over the classes; null without a compared run, or where scores are ranks.")
    num_lost: int | None
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
    ap_compared: float | None = Field(description="Average precision of the compared run, on the images that both runs scored.")
    gain: float | None = Field(description="This run's average precision on the same images, minus that.")
    num_gained: int | None = Field(None, description="Images that this run alone decides rightly, each at its own threshold.")
    num_lost: int | None = Field(None, description="Images that the compared run alone decides rightly.")
    ap_of_runs: list[float | None] = Field([], description="`ap_compared` of all compared runs; null while one is computed.")


class ClassesAnswer(BaseModel):
    """All classes in the order of the label set."""

    is_evaluated: bool
    classes: list[ClassAnswer]


class ProportionAnswer(BaseModel):
    """A proportion at every threshold with its 95% Wilson interval, to four decimals. Null where its denominator is zero."""

    value: list[float | None]
    low: list[float | None]
    high: list[float | None]


_SCOPE = "Which images the numbers are of, as the page says it; empty for all images, shown without a filter."


class SliceAnswer(BaseModel):
    """Average precision of a class on the images that pass the filters; filters on decisions do not count."""

    num_images: int
    num_present: int
    num_absent: int
    ap: float | None
    low: float | None
    high: float | None
    scope: str = Field(description=_SCOPE)


class ThumbnailsAnswer(BaseModel):
    """Thumbnails of several images, in the order of their rows."""

    images: list[str | None] = Field(description="JPEG, at most 250 by 250 pixels, in base64; null where the image cannot be read")


class ThresholdsAnswer(BaseModel):
    """Counts and proportions of one class at 0, 0.001 to 1, and its own threshold. A count includes scores strictly above."""

    own_threshold: float
    goal: str
    scope: str = Field(description=_SCOPE)
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


class RunOfClass(BaseModel):
    """One of two runs on a class, at its own threshold: average precision, precision and recall with 95% Wilson intervals, counts.

    What needs a decision is null where the scores are ranks.
    """

    name: str
    ap: float | None
    threshold: float | None
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    num_true_positives: int | None
    num_false_positives: int | None
    num_false_negatives: int | None


class CurvePoint(BaseModel):
    """A point of the precision-recall curve, and the score that it is cut at."""

    recall: float
    precision: float
    score: float


class HistogramAnswer(BaseModel):
    """Numbers of images in equal bins of their score from `low` to `high`, by their label."""

    low: float
    high: float
    present: list[int]
    absent: list[int]
    unknown: list[int]


class ChartsAnswer(BaseModel):
    """The curve is empty for a class without a positive or without a negative."""

    precision_recall: list[CurvePoint]
    histogram: HistogramAnswer
    scope: str = Field(description=_SCOPE)


class BothRunsAnswer(BaseModel):
    """Both runs on one class: on the images that pass the filters and that both scored."""

    runs: list[RunOfClass] = Field(description="This run, and the compared one.")
    num_images: int
    num_left_out: int = Field(description="Images that pass the filters, and that the compared run did not score.")
    num_gained: int | None = Field(description="Images that this run alone decides rightly, each at its own threshold.")
    num_lost: int | None = Field(description="Images that the compared run alone decides rightly.")
    precision_recall: list[CurvePoint] = Field(description="The curve of the compared run.")
    scope: str = Field(description=_SCOPE)


class PointAnswer(BaseModel):
    """The threshold that a goal leads to for one class, and what it reaches on these images."""

    threshold: float
    attainable: bool
    reason: str = Field(description="Why the goal is not attainable; otherwise empty.")
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    bound: float | None = Field(description="What is guaranteed: the least precision or recall, the largest share.")


class GoalAnswer(BaseModel):
    """A goal for the threshold of one class."""

    goal: str
    best: PointAnswer = Field(description="Best on these images.")
    confidence: float = Field(description="Probability of the guarantee.")
    guaranteed: PointAnswer | None = Field(
        description="With a guarantee for new images; it holds for every threshold on the safe side. null where the goal has none."
    )
    safe_side: Literal["below", "above", ""] = Field(description="On which side of the guaranteed threshold the goal is safe.")
    caveat: str = Field(description="What the guarantee does not account for; empty without one.")


class RankingParameters(BaseModel):
    """The class, order and filters of a ranking. Pages and API take the same parameters."""

    model_config = ConfigDict(populate_by_name=True)

    class_name: Name = Field(alias="class", min_length=1)
    sort: Sort = "score"
    order: Literal["desc", "asc"] = "desc"
    find: SearchText = Field(
        "", description="What the images show: in place of `sort`, they come by the cosine of this text's vector and theirs."
    )
    threshold: float | None = Field(
        None, ge=0, le=1, description="A class counts as present above it. The default is the class's own threshold."
    )
    outcome: list[Outcome] = Field([], max_length=6, description="The decision compared with the label. Empty for all.")
    min_labels: int = Field(0, ge=0, le=100_000)
    max_labels: int | None = Field(None, ge=0, le=100_000)
    present: list[Name] = Field([], max_length=MAX_CLASSES_IN_QUERY, description="Classes that the image is labelled with.")
    absent: list[Name] = Field([], max_length=MAX_CLASSES_IN_QUERY, description="Classes that the image is labelled without.")
    predicted: list[Name] = Field(
        [], max_length=MAX_CLASSES_IN_QUERY, description="Classes that the image is predicted as, each at its own threshold."
    )
    not_predicted: list[Name] = Field([], max_length=MAX_CLASSES_IN_QUERY, description="Classes that it is not predicted as.")
    other: Name = Field("", description="Another class, for `bond`.")
    bond: Bond = Field(
        "labelled", description="What the image has of the two classes, at their own thresholds; their labels are known."
    )
    column: Name = ""
    value: Name = ""
    text: Annotated[str, Field(max_length=200)] = Field("", description="A part of the id.")
    disagree: bool = Field(False, description="Only images that the two runs decide differently.")
    change: Change = Field(
        "", description="Only images that this run alone decides rightly (gained), or the compared run alone (lost)."
    )
    against: Name = Field("", description="The name of the run to compare with; empty for the first one.")
    min_score: float | None = Field(None, ge=0, le=1, description="Only images whose probability of the class is at least this.")
    max_score: float | None = Field(None, ge=0, le=1, description="Only images whose probability of the class is at most this.")
    tag: Annotated[str, Field(max_length=MAX_LENGTH_OF_TAG)] = Field("", description="A tag of the review that the image has.")
    region: list[RegionText] = Field(
        [], max_length=MAX_REGIONS, description="Regions of the map that the image lies in, as scores.100_200-900_200-500_900."
    )

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

    @property
    def filters(self) -> dict[str, object]:
        """The parameters that leave images out, without those that leave out none."""
        values = {name: getattr(self, name) for name in FILTERS}
        return {name: value for name, value in values.items() if value or (name.startswith("max_") and value is not None)}

    def without_filters(self) -> "RankingParameters":
        """Return the parameters of the whole list in the same order."""
        names = ("sort", "order", "find", "threshold", "against")
        kept = {name: getattr(self, name) for name in names} | {"class": self.class_name}
        return RankingParameters.model_validate({name: value for name, value in kept.items() if value is not None})


FILTERS = (
    *("outcome", "min_labels", "max_labels", "present", "absent", "predicted", "not_predicted", "other"),
    *("min_score", "max_score", "column", "text", "disagree", "change", "tag", "region"),
)


RankingQuery = Annotated[RankingParameters, QueryParameter()]


class PageOfRanking(RankingParameters):
    """The parameters of a ranking, and which part of it is returned."""

    offset: Row = 0
    limit: int = Field(200, ge=1, le=1000)


class PageParameters(PageOfRanking):
    """The parameters in the address of a page. The class may be left out."""

    class_name: Name = Field("", alias="class")
    size: Size = Field("m", description="The size of the images.")


class Chip(BaseModel):
    """A class that an image is labelled with, or predicted to have at the class's own threshold."""

    name: str
    outcome: Outcome


class RankedImage(BaseModel):
    """One image in the ranking of a class."""

    row: int
    id: str
    probability: float | None
    text: str = Field(description="The score as the page shows it.")
    truth: Label
    outcome: Outcome
    num_labels: int
    compared: float | None = Field(description="Probability of the compared run.")
    value: float | None = Field(description="The sort key, for loss, suspicion, disagreement and a text to find.")
    reviewed: Label | None = Field(description="The label that a reviewer decided on.")
    decision: int = Field(description="Number of the last review row about this label; 0 for none.")
    chips: list[Chip] = Field(description="Other classes that are labelled present or predicted, errors first; at most 8.")
    num_more: int = Field(description="Number of such classes that `chips` leaves out.")
    tags: list[str] = Field(description="Tags of the review.")
    note: str = Field(description="The note of the review about the image.")


class RankingAnswer(BaseModel):
    """One part of a ranking."""

    total: int
    offset: int
    images: list[RankedImage]
    last_row: int = Field(description="Number of the last row of the review that the answer takes in; 0 for none.")


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
