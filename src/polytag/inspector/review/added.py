"""The labelled images of lists that `polytag labels next` made, as additions to the data set of a run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polytag.contracts import UNKNOWN, Dataset
from polytag.data.images.stored import is_image_there
from polytag.errors import DataError, RunError
from polytag.inspector.review.rows import Decision
from polytag.inspector.review.store import open_review, review_file_of
from polytag.predictions.read import read_predictions
from polytag.text import word

_SPLIT = "train"
_NUM_NAMED = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Added:
    """A data set with images added, whose labels are all unknown, and the decisions about these, under their ids there.

    num_images   added
    num_known    labelled images of the lists that the data set has already; they keep the labels that they have there
    """

    dataset: Dataset
    decisions: Sequence[Decision]
    num_images: int
    num_known: int


def add_labelled(dataset: Dataset, lists: Sequence[Path]) -> Added:
    """Add every image of the lists of which a label is decided, to the split "train".

    An image has its file's name without ending as id, or its whole path where that is taken. Raises RunError for a list that nobody
    has labelled, DataError for images that are not there.
    """
    known, ids = {os.path.realpath(path) for path in dataset.paths}, set(dataset.ids)
    new_ids: list[str] = []
    paths: list[Path] = []
    decisions: list[Decision] = []
    num_known = 0
    for file in lists:
        for path, decided in _labelled(file).items():
            if os.path.realpath(path) in known:
                num_known += 1
                continue
            known.add(os.path.realpath(path))
            name = Path(path).stem if Path(path).stem not in ids else path
            ids.add(name)
            new_ids.append(name)
            paths.append(Path(path))
            decisions += [replace(each, split=_SPLIT, image_id=name) for each in decided]
    unknown_NC = np.full((len(paths), len(dataset.label_set)), UNKNOWN, np.int8)
    added = replace(
        dataset,
        ids=(*dataset.ids, *new_ids),
        paths=[*dataset.paths, *paths],
        target_NC=np.concatenate([dataset.target_NC, unknown_NC]),
        split_N=(*dataset.split_N, *[_SPLIT] * len(paths)),
        group_N=(*dataset.group_N, *[""] * len(paths)),
    )
    return Added(dataset=added, decisions=decisions, num_images=len(paths), num_known=num_known)


def _labelled(file: Path) -> dict[str, list[Decision]]:
    """The decisions of a list by the path of their image, in the order of the list."""
    predictions = read_predictions(file)
    with open_review(review_file_of(file)) as store:
        decided = [row for split in store.splits() for row in store.current(split).values() if row.label is not None]
    by_id: dict[str, list[Decision]] = {}
    for each in decided:
        by_id.setdefault(each.image_id, []).append(each)
    found = {
        path: by_id[name] for name, path in zip(predictions.ids, predictions.image_paths, strict=True) if path and name in by_id
    }
    if not found:
        raise RunError(
            "no image of the list is labelled",
            where=str(file),
            got=f"{len(decided):,} decisions in {review_file_of(file).name}",
            expected="a list whose images were labelled in the browser",
            next_step=f"label them: polytag inspect {word(file)}",
        )
    missing = [path for path in found if not is_image_there(path)]
    if missing:
        raise DataError(
            f"{len(missing):,} labelled images are not there",
            where=str(file),
            got=", ".join(missing[:_NUM_NAMED]) + (", ..." if len(missing) > _NUM_NAMED else ""),
            expected="images on this machine, at the places of the list",
        )
    return found
