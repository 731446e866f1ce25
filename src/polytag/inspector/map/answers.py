"""Defines the JSON of the map: lists of integers, a few bytes a point, so that the map of 50,000 images is one short answer."""

from typing import Literal

from pydantic import BaseModel, Field

from polytag.inspector.browse.answers import Label, Outcome, RankedImage


class OtherPlacesAnswer(BaseModel):
    """Images of another split of the data set. Their thumbnails are at /data/{row}/thumbnail."""

    split: str
    rows: list[int] = Field(description="Rows in the data set.")
    x: list[int]
    y: list[int]


class PlacesAnswer(BaseModel):
    """The places of all images on the map, by their rows in the scores. Empty until they are computed."""

    status: Literal["ready", "computing", "waiting"] = Field(description='"waiting": the step waits to be asked for.')
    step: Literal["features", "umap"] = Field(description="What the places wait for.")
    progress: float = Field(ge=0, le=1, description="Share of the data set whose features are computed, or of the epochs of UMAP.")
    x: list[int] = Field(description="0 to 65,535 from left to right; -1 for an image without features, which has no place.")
    y: list[int] = Field(description="0 to 65,535 from the foot to the top; -1 likewise.")
    shares: list[float] | None = Field(description="Shares of the variance along both axes, for principal components.")
    others: list[OtherPlacesAnswer]


class PointsAnswer(BaseModel):
    """What the points of the map show for a class, by the rows of the images."""

    outcomes: list[Outcome] = Field(description="The meaning of each number in `outcome`.")
    outcome: list[int]
    truth: list[Label]
    score: list[int] = Field(description="Probability times 1,000; of ranks the share of images with a lower one.")
    num_labels: list[int]
    threshold: float = Field(description="Above which the class counts as present.")
    passing: list[int] | None = Field(description="Rows of the images that pass the filters; null without a filter.")
    last_row: int = Field(description="Number of the last row of the review that the answer takes in; 0 for none.")


class ImagesAnswer(BaseModel):
    """Some images as a ranking shows them, in the order in which they were asked for."""

    images: list[RankedImage]
