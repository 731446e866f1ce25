"""Defines the immutable value that the inspector shows: the scores of one run, and the data that belong to them.

Shapes: N images, C classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polytag.contracts import UNKNOWN, Dataset, Predictions
from polytag.data.read_options import ReadOptions
from polytag.errors import PredictionsError
from polytag.inspector.source_files import SourceFiles
from polytag.metrics.groups import Groups, Value

if TYPE_CHECKING:
    from polytag.inference.text_model import TextModel


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRun:
    """A run that the first is compared with.

    name          display name, unlike those of the others
    predictions   the images that both runs scored, with the order, classes and truth of the first run
    threshold_C   its own thresholds
    row_N         for each image of the first run its row in `predictions`, or -1 where the second run did not score it
    history       rows of its results.csv; () without them
    """

    name: str
    predictions: Predictions
    threshold_C: np.ndarray
    row_N: np.ndarray
    history: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """One run, or one predictions file, under inspection.

    name            display name
    review_file     SQLite file of the review
    predictions     N images, C classes; `target_NC` holds the given labels
    threshold_C     probability above which a class counts as predicted
    goal            the goal that the thresholds were chosen for; "" for default thresholds
    split           split of the images: "val", "train", or "" where it is unknown
    history         rows of results.csv; () without them
    facts           texts by name for the overview: recipe, backbone, data, checkpoint
    compared        the runs that it is compared with, by distinct names
    checkpoint      folder of the model, or None; predictions and heat maps need it
    data            the labelled data set with all splits, or None; neighbours and boxes need it
    data_path, data_options   path of the annotations, or None, and how they are read
    groups          of dependent images, which intervals and folds keep together; None without
    run_path        folder of the run, or None for a predictions file
    column_N        values to filter by, by column name: a text, a number or None for each image
    source_files    the files that it was read from, as they were; None where nothing follows them
    text_model      finds images by a text, or None
    """

    name: str
    review_file: Path
    predictions: Predictions
    threshold_C: np.ndarray
    goal: str = ""
    split: str = ""
    history: Sequence[Mapping[str, float]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    compared: Sequence[ComparedRun] = ()
    checkpoint: Path | None = None
    data: Dataset | None = None
    data_path: Path | None = None
    data_options: ReadOptions = field(default_factory=ReadOptions)
    groups: Groups | None = None
    run_path: Path | None = None
    column_N: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    source_files: SourceFiles | None = None
    text_model: "TextModel | None" = None

    def __post_init__(self):
        assert self.threshold_C.shape == (len(self.predictions.label_set),)
        assert all(len(each.row_N) == len(self.predictions) for each in self.compared)
        assert len({each.name for each in self.compared}) == len(self.compared)
        assert all(len(values) == len(self.predictions) for values in self.column_N.values())

    def against(self, place: int) -> ComparedRun | None:
        """Return the run at a place of `compared`; None where it is compared with none."""
        return self.compared[place] if self.compared else None

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """Return the row of each image id."""
        return {name: row for row, name in enumerate(self.predictions.ids)}

    @cached_property
    def unlabelled_rows(self) -> Sequence[int]:
        """Return the rows of the images without any known label, in order."""
        return np.flatnonzero((self.predictions.target_NC == UNKNOWN).all(axis=1)).tolist()

    @property
    def may_keep_thresholds(self) -> bool:
        """Return whether a threshold can be kept: of the validation images of a run with a model of its own."""
        is_of_run = self.run_path is not None and self.checkpoint is not None and self.split == "val"
        return is_of_run and self.predictions.has_probabilities

    @cached_property
    def version(self) -> str:
        """Return 16 hexadecimal digits that change with the scores, the images or their order. Cached addresses contain them."""
        digest = hashlib.sha256(self.predictions.logit_NC.tobytes())
        digest.update("\0".join((*self.predictions.ids, *self.predictions.image_paths)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def compared(name: str, second: Predictions, *, first: Predictions, threshold_C: np.ndarray | None = None) -> ComparedRun:
    """Align a second run with the images and classes of the first. `threshold_C` are those of its own classes, 0.5 without.

    Names and labels of the images are those of the first, and are held once.

    Raises PredictionsError where the second run lacks a class, or shares no image with the first.
    """
    missing = [each for each in first.label_set if each not in set(second.label_set)]
    if missing:
        raise PredictionsError(
            "the second run does not know all classes of the first",
            where=name,
            got="no " + ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else ""),
            expected=", ".join(first.label_set),
        )
    row_of = {each: row for row, each in enumerate(second.ids)}
    shared = np.array([row for row, each in enumerate(first.ids) if each in row_of], np.int64)
    if not len(shared):
        raise PredictionsError(
            "the second run scored none of these images",
            where=name,
            got="images such as " + ", ".join(second.ids[:3]),
            expected="images such as " + ", ".join(first.ids[:3]),
        )
    columns = [second.label_set.index(each) for each in first.label_set]
    taken = second.take([row_of[first.ids[row]] for row in shared])
    given_NC = taken.given_probability_NC
    taken = replace(
        taken,
        ids=tuple(first.ids[row] for row in shared),
        image_paths=(),
        logit_NC=taken.logit_NC[:, columns],
        target_NC=first.target_NC[shared],
        label_set=first.label_set,
        given_probability_NC=None if given_NC is None else given_NC[:, columns],
    )
    row_N = np.full(len(first), -1)
    row_N[shared] = np.arange(len(shared))
    own_C = np.full(len(second.label_set), 0.5) if threshold_C is None else threshold_C
    return ComparedRun(name=name, predictions=taken, threshold_C=own_C[columns], row_N=row_N)
