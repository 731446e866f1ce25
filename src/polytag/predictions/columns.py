"""Values to slice or group by, one per scored image: a property of the data set, or any column of a table that is keyed by id."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from polytag.contracts import PRESENT
from polytag.data.columns import values_by_id
from polytag.data.formats.rows import CSV_SUFFIXES, JSONL_SUFFIXES, PARQUET_SUFFIXES, cells_of, read_table
from polytag.data.images.read import read_size
from polytag.errors import ImageError, PredictionsError, UsageError
from polytag.predictions.read import LabelledPredictions
from polytag.predictions.shard_files import stored_column
from polytag.text import nearest

_TABLES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES, *JSONL_SUFFIXES)


def column_values(
    labelled: LabelledPredictions, name: str, *, table: Path | None = None, option: str = "--slice", numbers: bool = True
) -> list[str | float | None]:
    """N values, None for an image without one.

    With `table`, a column of that CSV, Parquet or JSON Lines file, joined by id; with `numbers`, as numbers if all of its cells are
    numbers, else as they are written. Without, one of BUILT_IN, or a column that `predict --columns` joined. `option` is named in
    errors.
    Raises UsageError for an unknown column, AnnotationError if no image is in the table.
    """
    if table is not None:
        texts = values_by_id(table, name, ids=labelled.predictions.ids)
        return _typed(texts) if numbers else list(texts)
    if name not in BUILT_IN:
        cells = stored_column(Path(labelled.predictions.source), name)
        if cells is not None:
            texts = [cells.get(image) for image in labelled.predictions.ids]
            return _typed(texts) if numbers else list(texts)
        raise UsageError(
            "unknown column",
            where=option,
            got=repr(name) + nearest(name, list(BUILT_IN)),
            expected="one of " + ", ".join(BUILT_IN) + ", or with --columns FILE a column of that file",
        )
    return BUILT_IN[name](labelled, f"{option} {name}")


def is_table(path: Path | None) -> bool:
    """Whether columns can be read from a file of this kind."""
    return path is not None and path.is_file() and path.suffix.lower() in _TABLES


def has_column(path: Path, name: str) -> bool:
    """Whether a table has a column of this name."""
    return name in read_table(path).columns


def holds_numbers(path: Path, name: str) -> bool:
    """Whether every cell of a table's column that is not empty is a number."""
    return not any(isinstance(value, str) for value in _typed(cells_of(read_table(path), name)))


def _num_labels(labelled: LabelledPredictions, _: str) -> list[str | float | None]:
    return [float(number) for number in (labelled.predictions.target_NC == PRESENT).sum(axis=1)]


def _split(labelled: LabelledPredictions, where: str) -> list[str | float | None]:
    if labelled.dataset is None or labelled.row_N is None:
        raise UsageError(
            "the splits of these images are not known",
            where=where,
            got="predictions without a data set",
            expected="--truth DATA, a data set with splits",
        )
    splits: dict[str, list[str]] = {}
    for name, split in zip(labelled.dataset.ids, labelled.dataset.split_N, strict=True):
        splits.setdefault(name, []).append(split)
    return [" and ".join(splits[labelled.dataset.ids[row]]) for row in labelled.row_N.tolist()]


def _source(labelled: LabelledPredictions, _: str) -> list[str | float | None]:
    return [str(path.parent) if path else None for path in _paths(labelled)]


def _size(labelled: LabelledPredictions, where: str) -> list[str | float | None]:
    values: list[str | float | None] = []
    first_error: ImageError | None = None
    for path in _paths(labelled):
        try:
            width_px, height_px = read_size(path) if path else (0, 0)
        except ImageError as error:
            first_error = first_error or error
            width_px = height_px = 0
        values.append(float(width_px * height_px) or None)
    if all(value is None for value in values):
        raise PredictionsError(
            "the sizes of these images are not known",
            where=where,
            got=first_error.what + ": " + first_error.where if first_error else "predictions without paths of images",
            expected="images that can be opened",
            next_step="give --truth DATA with its images, or a table of sizes with --columns",
        )
    return values


def _paths(labelled: LabelledPredictions) -> Sequence[Path | None]:
    """The paths of the data set, or else of the predictions."""
    if labelled.dataset is not None and labelled.row_N is not None:
        return [labelled.dataset.paths[row] for row in labelled.row_N]
    return [Path(path) if path else None for path in labelled.predictions.image_paths]


BUILT_IN: Mapping[str, Callable[[LabelledPredictions, str], list[str | float | None]]] = {
    "num_labels": _num_labels,
    "size": _size,
    "source": _source,
    "split": _split,
}
"""num_labels: number of present labels; size: width times height in pixels; source: the folder of the image; split.
The text is the option with its column, for errors."""


def _typed(texts: Sequence[str | None]) -> list[str | float | None]:
    """Numbers if every cell that is not empty is a number; else texts."""
    try:
        numbers = [None if text is None else float(text) for text in texts]
    except ValueError:
        return list(texts)
    return list(numbers) if all(number is None or np.isfinite(number) for number in numbers) else list(texts)
