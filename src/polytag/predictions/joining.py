"""Joins two tables of the same images and classes by name, and describes how they differ if they do not match."""

import os
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from polytag.contracts import Dataset, Predictions
from polytag.errors import PredictionsError
from polytag.text import folded, nearest


def class_columns(predictions: Predictions, dataset: Dataset) -> np.ndarray:
    """C columns of the data set, in the order of the predictions' classes.

    Raises PredictionsError, with the classes that only one side has and the nearest spellings, if the classes differ.
    """
    scored, true = predictions.label_set.names, dataset.label_set.names
    column_of = {name: column for column, name in enumerate(true)}
    if set(scored) != set(true):
        raise PredictionsError(
            "the labels and the predictions have different classes",
            where=dataset.source,
            got=two_sides(true, scored, scored_side="predictions"),
            expected="the same classes, in any order",
            next_step="use the same spelling; --rename and --merge give labels other names, --classes and --drop leave some out",
        )
    return np.array([column_of[name] for name in scored])


def truth_rows(predictions: Predictions, dataset: Dataset) -> np.ndarray:
    """N rows of the data set: by id or, for an id that the data set lacks, by the path of the image, or else by the id without
    surrounding spaces, which hand-written tables have.

    An image in several splits gets its first row. Raises PredictionsError if a scored image is not in the data set, and if its
    labels differ between splits.
    """
    by_path = {str(path): row for row, path in reversed(list(enumerate(dataset.paths)))}
    by_id = {name: row for row, name in reversed(list(enumerate(dataset.ids)))}
    row_of = by_path | by_id
    keys = [
        name if name in row_of else os.path.abspath(image) if image else name
        for name, image in zip(predictions.ids, predictions.image_paths, strict=True)
    ]
    if any(key not in row_of for key in keys):
        trimmed = {name.strip(): row for name, row in by_id.items()}
        if len(trimmed) == len(by_id):  # else spaces tell two images apart
            keys = [key if key in row_of else name.strip() for name, key in zip(predictions.ids, keys, strict=True)]
            row_of = trimmed | row_of
    lost = [name for name, key in zip(predictions.ids, keys, strict=True) if key not in row_of]
    if lost:
        raise PredictionsError(
            f"{len(lost):,} of {len(predictions):,} scored images are not in the labelled data",
            where=dataset.source,
            got=", ".join(lost[:3]) + (", ..." if len(lost) > 3 else ""),
            expected=f"ids such as {', '.join(dataset.ids[:3])} ({len(by_id):,} in all)",
            next_step=_how_they_differ(lost, dataset.ids) or "give the data set that these images are from",
        )
    rows = np.array([row_of[key] for key in keys], dtype=np.intp)
    if len(by_id) < len(dataset):
        _refuse_contradictions(dataset, rows, first_row=by_id)
    return rows


def two_sides(true: Sequence[str], scored: Sequence[str], *, scored_side: str) -> str:
    """The names that only one side has, with the nearest spellings of the other."""
    sides = (("labels", true, scored, frozenset(scored)), (scored_side, scored, true, frozenset(true)))
    alone = [(side, [name for name in names if name not in known], others) for side, names, others, known in sides]
    return "; ".join(f"only in the {side}: {_listed(names, others)}" for side, names, others in alone if names)


def _refuse_contradictions(dataset: Dataset, rows: np.ndarray, *, first_row: dict[str, int]) -> None:
    scored = set(rows.tolist())
    for row, name in enumerate(dataset.ids):
        first = first_row[name]
        if first == row or first not in scored:
            continue
        differ = np.flatnonzero(dataset.target_NC[first] != dataset.target_NC[row])
        if len(differ):
            names = [dataset.label_set.names[column] for column in differ]
            raise PredictionsError(
                "an image has different labels in two splits",
                where=dataset.source,
                got=f"{name!r} has other labels in split {dataset.split_N[row]!r} than in {dataset.split_N[first]!r}: "
                + _listed(names, []),
                expected="the same labels in both splits",
                next_step="remove the image from one of the splits; `polytag data check` lists every such image",
            )


def _how_they_differ(lost: Sequence[str], known: Sequence[str]) -> str:
    """A sentence on the spelling if it is the only difference between the ids; else ""."""
    for what, spelled in (
        ("the ending of the file name", lambda name: os.path.splitext(name)[0]),
        ("the folder", lambda name: PurePath(name).name),
        ("folder and ending", lambda name: PurePath(name).stem),
        ("capital letters or spaces", folded),
    ):
        if {spelled(name) for name in lost} <= {spelled(name) for name in known}:
            return f"the ids differ only in {what}: use the same spelling"
    return ""


def _listed(names: Sequence[str], others: Sequence[str]) -> str:
    shown = [name + nearest(name, others) for name in names[:6]]
    return (", ".join(shown) or "none") + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def rows_of_images(dataset: Dataset, ids: Sequence[str], *, source: str) -> tuple[np.ndarray, str]:
    """Of each of N images the row of a table with these unique ids, -1 where it has none; and by what they are joined.

    By id, path, file name, or file name without its ending: whichever finds the most, and is unique on both sides. Raises
    PredictionsError, with examples of both, where no image is found.
    """
    num_images = len(set(dataset.ids))
    best, how = np.full(len(dataset), -1), ""
    for way, of_image, of_table in (
        ("id", dataset.ids, ids),
        ("path", [str(path) for path in dataset.paths], [os.path.abspath(name) for name in ids]),
        ("file name", [path.name for path in dataset.paths], [PurePath(name).name for name in ids]),
        ("file name without its ending", [path.stem for path in dataset.paths], [PurePath(name).stem for name in ids]),
    ):
        row_of = {name: row for row, name in enumerate(of_table)}
        if len(row_of) < len(of_table) or len(set(of_image)) < num_images:
            continue
        rows = np.array([row_of.get(name, -1) for name in of_image], dtype=np.int64)
        if (rows >= 0).sum() > (best >= 0).sum():
            best, how = rows, way
    if not how:
        raise PredictionsError(
            "no image of the data is in the table",
            where=source,
            got=f"ids such as {', '.join(ids[:3])} ({len(ids):,} in all)",
            expected=f"ids such as {', '.join(dataset.ids[:3])} ({num_images:,} in all)",
            next_step=_how_they_differ(list(dataset.ids), list(ids)) or "give the table of these images",
        )
    return best, how
