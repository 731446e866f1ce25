"""The JSON of what needs a model or the data set: predictions, neighbours, boxes."""

from typing import Literal

from pydantic import BaseModel, Field


class PredictedClass(BaseModel):
    """What the model says of one class in an image."""

    name: str
    probability: float = Field(ge=0, le=1)
    text: str = Field(description="The probability as it is shown.")
    threshold: float
    is_present: bool = Field(description="Whether the probability is above the run's threshold.")


class PredictionAnswer(BaseModel):
    """All classes of an image, the highest probability first."""

    classes: list[PredictedClass]


class NeighbourAnswer(BaseModel):
    """An image of the data set that looks alike to the model. Its thumbnail is at /data/{row}/thumbnail."""

    row: int = Field(description="In the data set.")
    id: str
    distance: float = Field(ge=0, le=2, description="1 - cosine of the features: near 0 for a copy.")
    labels: list[str] = Field(description="The classes that are labelled present.")


class SplitNeighbours(BaseModel):
    """The nearest images of one split, nearest first; the image itself is not among them."""

    split: str
    images: list[NeighbourAnswer]


class NeighboursAnswer(BaseModel):
    """The nearest images of each split; none until the features of the whole data set are computed."""

    status: Literal["ready", "computing"]
    progress: float = Field(ge=0, le=1, description="Share of the data set whose features are computed.")
    splits: list[SplitNeighbours]


class BoxAnswer(BaseModel):
    """One annotated object, in shares of the upright image's width and height."""

    class_name: str
    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    right: float = Field(ge=0, le=1)
    bottom: float = Field(ge=0, le=1)
    is_doubtful: bool = Field(description="Difficult, or a crowd.")


class BoxesAnswer(BaseModel):
    """The annotated boxes of an image."""

    boxes: list[BoxAnswer]
    note: str = Field(description="Why there are none, or why some are missing; empty where there is nothing to say.")
