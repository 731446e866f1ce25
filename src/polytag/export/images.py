"""Which images an export is compared on, and which ones the ranges of int8 are measured on: never the same."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import Dataset, LabelSet, Preprocessing
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.data.images.stored import is_image_there
from polytag.errors import DataError, ImageError
from polytag.machine import num_cores
from polytag.predictions.table import read_parquet_predictions
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder

NUM_COMPARED, NUM_LABELLED, NUM_RANGES = 200, 2_000, 300


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedImages:
    """paths; target_NC int8: 1, 0, -1 unknown; and what they are."""

    paths: Sequence[Path]
    target_NC: np.ndarray
    of: str


@dataclass(frozen=True, kw_only=True, eq=False)
class RangeImages:
    """The images that the ranges of activations are measured on: the views of each, uint8 V x S x S x 3, and what they are."""

    views: Sequence[np.ndarray]
    of: str


def images_of_dataset(dataset: Dataset) -> ComparedImages:
    """Those of its split `val`, or all where it names none."""
    has_split = "val" in dataset.split_N
    chosen = dataset.split("val") if has_split else dataset
    return ComparedImages(
        paths=chosen.paths, target_NC=chosen.target_NC, of=f"{dataset.source}, val" if has_split else dataset.source
    )


def images_of_run(run: Path, *, classes: LabelSet) -> ComparedImages:
    """The validation images of a run that are still there; none where there is no run. Raises PredictionsError."""
    of, path = "the run's validation", RunFolder(path=run).predictions
    if not path.is_file():
        return ComparedImages(paths=(), target_NC=np.zeros((0, len(classes)), np.int8), of=of)
    predictions = read_parquet_predictions(path)
    rows = [row for row, place in enumerate(predictions.image_paths) if place and is_image_there(Path(place))]
    return ComparedImages(paths=[Path(predictions.image_paths[row]) for row in rows], target_NC=predictions.target_NC[rows], of=of)


def some(images: ComparedImages, num: int) -> ComparedImages:
    """At most this many, evenly from all."""
    rows = _evenly(len(images.paths), num)
    return ComparedImages(paths=[images.paths[row] for row in rows], target_NC=images.target_NC[rows], of=images.of)


def range_images(run: Path, dataset: Dataset | None, *, unlike: Sequence[Path], preprocessing: Preprocessing) -> RangeImages:
    """Some 300 images of a data set, by default of the run's training images, evenly taken, without those of `unlike`.

    Those that cannot be read are left out. Raises DataError where there are none.
    """
    paths, of = (dataset.paths, dataset.source) if dataset is not None else (_training_images(run), "the run's training images")
    others = {os.path.realpath(path) for path in unlike}
    apart = [path for path in paths if os.path.realpath(path) not in others]
    chosen = [apart[row] for row in _evenly(len(apart), NUM_RANGES)]

    def read(path: Path) -> np.ndarray | None:
        try:
            return views(read_image(path), preprocessing)
        except ImageError:
            return None

    with ThreadPoolExecutor(num_cores()) as pool:
        found = [view for view in pool.map(read, chosen) if view is not None]
    if not found:
        raise DataError(
            "no images to measure the ranges of int8 on",
            where=of,
            got=f"{len(paths):,} images, {len(apart):,} of which nothing is compared on, and none of {len(chosen):,} can be read",
            expected="images that the export is not compared on",
            next_step="give others with --calibrate-on DATA",
        )
    return RangeImages(views=found, of=f"{len(found)} of {of}")


def _training_images(run: Path) -> Sequence[Path]:
    """Raises DataError where there is no run, or its data are gone."""
    folder = RunFolder(path=run)
    if not folder.is_run:
        raise DataError(
            "int8 needs images to measure ranges on",
            where=str(run),
            got="a checkpoint without a run, whose training images would be taken",
            expected="a run folder, or images",
            next_step="give some like those that it will score with --calibrate-on DATA",
        )
    return load_run_data(read_run_args(folder)).split("train").paths


def _evenly(num_all: int, num: int) -> list[int]:
    """Rows, at most `num`, from the first to the last."""
    return sorted({round(row) for row in np.linspace(0, num_all - 1, min(num, num_all)).tolist()}) if num_all else []
