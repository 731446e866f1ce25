"""Defines the JSON of predictions, neighbours and boxes."""

from typing import Literal

from pydantic import BaseModel, Field


class PredictedClass(BaseModel):
    """The prediction of one class in an image."""

    name: str
    probability: float = Field(ge=0, le=1)
    text: str = Field(description="The probability as the page shows it.")
    threshold: float
    is_present: bool = Field(description="Whether the probability is above the run's threshold.")


class PredictionAnswer(BaseModel):
    """All classes of an image, highest probability first."""

    classes: list[PredictedClass]


class NeighbourAnswer(BaseModel):
    """An image of the data set with similar features. It is at /data/{row}/image, its thumbnail at /data/{row}/thumbnail."""

    row: int = Field(description="Row in the data set.")
    id: str
    image: str | None = Field(description="Its id among the images of the run, which have a page; null for another image.")
    distance: float = Field(ge=0, le=2, description="1 - cosine similarity of the features; near 0 for a copy.")
    labels: list[str] = Field(description="Classes that the image is labelled with.")


class SplitNeighbours(BaseModel):
    """The nearest images of one split, nearest first, without the image itself."""

    split: str
    images: list[NeighbourAnswer]


class NeighboursAnswer(BaseModel):
    """The nearest images of each split. Empty until the features of the whole data set are computed."""

    status: Literal["ready", "computing", "waiting"] = Field(description='"waiting": the features wait to be asked for.')
    progress: float = Field(ge=0, le=1, description="Share of the data set whose features are computed.")
    splits: list[SplitNeighbours]


class BoxAnswer(BaseModel):
    """One annotated object, as fractions of the width and height of the upright image."""

    class_name: str
    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    right: float = Field(ge=0, le=1)
    bottom: float = Field(ge=0, le=1)
    is_doubtful: bool = Field(description="Whether the object is marked as difficult or as a crowd.")


class BoxesAnswer(BaseModel):
    """The annotated boxes of an image."""

    boxes: list[BoxAnswer]
    note: str = Field(description="The reason why boxes are missing; empty otherwise.")
