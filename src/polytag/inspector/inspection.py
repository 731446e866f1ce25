"""What is looked at: the scores of one run, and whatever is known beside them. Made once, never changed.

Shapes: N images, C classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from polytag.contracts import Dataset, Predictions
from polytag.data.load import ReadOptions
from polytag.errors import PredictionsError
from polytag.metrics.slices import Value


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRun:
    """A second run, to compare with.

    name          for people
    predictions   the images that both scored, in the order of the first run; its classes in its order, and its truth
    row_N         for each image of the first run its row here, or -1 where the second did not score it
    """

    name: str
    predictions: Predictions
    row_N: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """One run, or one file of scores, opened to be looked at.

    name            for people
    review_file     the SQLite file of the review
    predictions     N images, C classes; whatever `predictions.target_NC` holds is the truth as given
    threshold_C     probability above which a class counts as predicted
    goal            what the thresholds were chosen for, "" where nobody chose
    split           which part of the data set the images are: "val", "train", or "" where that is not known
    history         rows of results.csv; () where there are none
    facts           shown as they are: recipe, backbone, date
    compared        a second run, or None
    checkpoint      the folder of the model, or None: then nothing can be predicted anew
    data            the labelled data set with all its splits, or None: where neighbours and boxes come from
    data_path, data_options   the annotations themselves, or None, and how they are read
    column_N        values to filter by, by column name: a text, a number or None for each image
    """

    name: str
    review_file: Path
    predictions: Predictions
    threshold_C: np.ndarray
    goal: str = ""
    split: str = ""
    history: Sequence[Mapping[str, float]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    compared: ComparedRun | None = None
    checkpoint: Path | None = None
    data: Dataset | None = None
    data_path: Path | None = None
    data_options: ReadOptions = field(default_factory=ReadOptions)
    column_N: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    def __post_init__(self):
        assert self.threshold_C.shape == (len(self.predictions.label_set),)
        assert self.compared is None or len(self.compared.row_N) == len(self.predictions)
        assert all(len(values) == len(self.predictions) for values in self.column_N.values())

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """The row of each image id."""
        return {name: row for row, name in enumerate(self.predictions.ids)}

    @cached_property
    def version(self) -> str:
        """16 hexadecimal digits that change with the scores, the images or their order: in addresses that a browser may keep."""
        digest = hashlib.sha256(self.predictions.logit_NC.tobytes())
        digest.update("\0".join((*self.predictions.ids, *self.predictions.image_paths)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def compared(name: str, second: Predictions, *, first: Predictions) -> ComparedRun:
    """A second run brought onto the classes of the first; raises PredictionsError where it lacks one, or shares no image."""
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
        logit_NC=taken.logit_NC[:, columns],
        target_NC=first.target_NC[shared],
        label_set=first.label_set,
        given_probability_NC=None if given_NC is None else given_NC[:, columns],
    )
    row_N = np.full(len(first), -1)
    row_N[shared] = np.arange(len(shared))
    return ComparedRun(name=name, predictions=taken, row_N=row_N)
