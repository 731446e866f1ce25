"""Reads the scores of any program as checked Predictions. docs/reference/predictions.md shows the layouts."""

import errno
import glob
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polytag.contracts import Dataset, Predictions
from polytag.data.formats.rows import CSV_SUFFIXES, JSONL_SUFFIXES, PARQUET_SUFFIXES
from polytag.data.load import load_labels
from polytag.data.read_options import ReadOptions
from polytag.errors import PredictionsError, UsageError
from polytag.files import require_regular
from polytag.predictions.external_arrays import read_npz_scores, read_torch_scores
from polytag.predictions.external_tables import read_csv_scores, read_jsonl_scores, read_parquet_scores
from polytag.predictions.external_voc import VocResults, is_voc_result, read_voc_results, to_raw_scores
from polytag.predictions.joining import truth_rows
from polytag.predictions.raw_scores import SCALES, RawScores, to_predictions
from polytag.predictions.shard_files import is_shard_folder, read_shard_folder
from polytag.predictions.table import HEADER, read_parquet_predictions, with_truth

_DEFAULTS = ReadOptions()
_READERS = {
    **dict.fromkeys(CSV_SUFFIXES, read_csv_scores),
    **dict.fromkeys(PARQUET_SUFFIXES, read_parquet_scores),
    **dict.fromkeys(JSONL_SUFFIXES, read_jsonl_scores),
    ".npz": read_npz_scores,
    **dict.fromkeys((".pt", ".pth"), read_torch_scores),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPredictions:
    """Predictions with the data set that they were joined with.

    dataset, row_N   the data set and the row of each scored image in it; None if the labels are those of the file
    notes            sentences on the join that a reader should know
    """

    predictions: Predictions
    dataset: Dataset | None = None
    row_N: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def read_predictions(
    path: Path | str, *, scale: str = "", truth: Path | str | Dataset | None = None, options: ReadOptions = _DEFAULTS
) -> Predictions:
    """Read the predictions of polytag or of any other program, with their labels.

    `path` is a predictions file of polytag, which its header identifies (rows of unreadable images are left out); a folder of
    shards that `polytag predict` wrote; a CSV, Parquet, JSON Lines, NPZ or PyTorch file; or a folder of VOC result files.
    `scale` is "logit", "probability" or "rank" (only the order is meaningful), or "" if the file declares it. `truth` is a labelled
    data set (its path, or a Dataset) or a table of labels, which replaces the labels of the file. `options` control how tables are
    read.

    Raises UsageError if nothing declares the scale, PredictionsError or AnnotationError, with file and line, for invalid files.
    """
    return read_labelled(path, scale=scale, truth=truth, options=options).predictions


def read_labelled(
    path: Path | str,
    *,
    scale: str = "",
    truth: Path | str | Dataset | None = None,
    options: ReadOptions = _DEFAULTS,
    unless_scored: tuple[str, ...] = (),
) -> LabelledPredictions:
    """Like `read_predictions`, with the data set of the labels.

    `unless_scored` names columns of a table of labels that are no classes, unless the scores have a class of the name.
    """
    path = Path(path)
    if scale and scale not in SCALES:
        raise UsageError("unknown scale of scores", where="--scores", got=repr(scale), expected="one of " + ", ".join(SCALES))
    if not os.path.exists(path):
        raise _cannot_read(path, FileNotFoundError(errno.ENOENT, "no such file"))
    if os.path.isfile(path / "predictions-val.parquet"):
        raise PredictionsError(
            "the predictions file cannot be read",
            where=str(path),
            got="a run folder",
            expected="a file of scores",
            next_step=f"give the file itself, such as {path / 'predictions-val.parquet'}",
        )
    if path.is_dir() and is_shard_folder(path):
        predictions = _own(path, read_shard_folder, scale)
        return _labelled(predictions, truth, options, unless_scored)
    if path.is_dir() or is_voc_result(path):
        return _read_voc(path, scale=scale, truth=truth, options=options, unless_scored=unless_scored)
    try:
        require_regular(path)
    except OSError as error:
        raise _cannot_read(path, error) from error
    predictions = _read(path, scale=scale, has_external_truth=truth is not None, options=options)
    return _labelled(predictions, truth, options, unless_scored)


def _labelled(
    predictions: Predictions, truth: Path | str | Dataset | None, options: ReadOptions, unless_scored: tuple[str, ...]
) -> LabelledPredictions:
    if truth is None:
        return LabelledPredictions(predictions=predictions)
    return _joined(predictions, _labels(truth, options, predictions.label_set.names, unless_scored))


def _own(path: Path, reader: Callable[[Path], Predictions], scale: str) -> Predictions:
    """What polytag wrote, which says the scale itself."""
    if scale not in ("", "logit"):
        raise UsageError(
            "the file declares another scale",
            where=str(path),
            got=f"--scores {scale}",
            expected="logit",
            next_step="leave --scores out",
        )
    return reader(path)


def _read(path: Path, *, scale: str, has_external_truth: bool, options: ReadOptions) -> Predictions:
    if is_own(path):
        return _own(path, read_parquet_predictions, scale)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise PredictionsError(
            "unknown kind of scores file",
            where=str(path),
            got=f"a file ending in {path.suffix!r}",
            expected="a file ending in " + ", ".join(_READERS) + ", or a folder of VOC result files",
            next_step="docs/reference/predictions.md shows every layout",
        )
    try:
        raw: RawScores = reader(path, options=options, has_external_truth=has_external_truth)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _cannot_read(path, error) from error
    return to_predictions(raw, scale=scale)


def is_own(path: Path) -> bool:
    """Whether a file is Parquet with polytag's header."""
    if path.suffix.lower() not in PARQUET_SUFFIXES:
        return False
    try:
        return HEADER in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: Path, error: Exception) -> PredictionsError:
    got = str(error).splitlines()[0]
    if isinstance(error, OSError) and error.errno:
        got = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
    return PredictionsError("the predictions file cannot be read", where=str(path), got=got, expected="a file of scores")


def _labels(truth: Path | str | Dataset, options: ReadOptions, classes: tuple[str, ...], unless_scored: tuple[str, ...]) -> Dataset:
    if isinstance(truth, Dataset):
        return truth
    others = [glob.escape(name) for name in unless_scored if name not in classes]
    return load_labels(truth, options=replace(options, ignore_columns=(*options.ignore_columns, *others)), classes=classes)


def _joined(predictions: Predictions, dataset: Dataset) -> LabelledPredictions:
    labelled = with_truth(predictions, dataset)
    row_N = truth_rows(labelled, dataset)
    image_paths = [own or str(dataset.paths[row]) for own, row in zip(labelled.image_paths, row_N, strict=True)]
    labelled = replace(labelled, image_paths=tuple(image_paths))
    return LabelledPredictions(predictions=labelled, dataset=dataset, row_N=row_N, notes=_notes(dataset, row_N))


def _notes(dataset: Dataset, row_N: np.ndarray) -> tuple[str, ...]:
    """A note on the splits of which only some images are scored."""
    scored = np.zeros(len(dataset), bool)
    scored[row_N] = True
    split_N = np.array(dataset.split_N)
    parts: list[str] = []
    for split in dataset.splits:
        inside = scored[split_N == split]
        if inside.any() and not inside.all():
            parts.append(f"{int(inside.sum()):,} of the {len(inside):,} labelled images" + (f" of split {split}" if split else ""))
    return (f"only {' and '.join(parts)} are scored; the others do not count",) if parts else ()


# ---- VOC's result files ----


def _read_voc(
    path: Path, *, scale: str, truth: Path | str | Dataset | None, options: ReadOptions, unless_scored: tuple[str, ...]
) -> LabelledPredictions:
    try:
        results = read_voc_results(path)
    except OSError as error:
        raise _cannot_read(path, error) from error
    if truth is None:
        return LabelledPredictions(predictions=_voc_predictions(results, ids=results.ids, scale=scale)[0])
    dataset = _labels(truth, options, tuple(results.confidence), unless_scored)
    if results.split in dataset.splits:
        dataset = dataset.split(results.split)
        ids = tuple(dict.fromkeys((*dataset.ids, *results.ids)))  # the devkit evaluates every image of the split
    else:
        ids = results.ids
    predictions, notes = _voc_predictions(results, ids=ids, scale=scale)
    labelled = _joined(predictions, dataset)
    return replace(labelled, notes=(*notes, *labelled.notes))


def _voc_predictions(results: VocResults, *, ids: tuple[str, ...], scale: str) -> tuple[Predictions, tuple[str, ...]]:
    raw, left_out = to_raw_scores(results, ids=ids)
    if left_out and scale not in ("", "rank"):
        name, number = next(iter(left_out.items()))
        raise PredictionsError(
            "the result files omit images",
            where=results.source,
            got=f"no line for {number:,} of {len(ids):,} images in the file of class {name!r}",
            expected=f"a line for every image if the confidences are {'logits' if scale == 'logit' else 'probabilities'}",
            next_step="give --scores rank, which ranks omitted images last",
        )
    notes = ()
    if left_out:
        which = "the result file of 1 class omits" if len(left_out) == 1 else f"the result files of {len(left_out)} classes omit"
        notes = (
            f"{which} up to {max(left_out.values()):,} of {len(ids):,} images: those are ranked last, together, as in VOC's devkit",
        )
    return to_predictions(raw, scale=scale), notes
