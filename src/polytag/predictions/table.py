"""Writes and reads predictions files: Parquet for programs, CSV and JSON Lines for people. Imports no torch.

A Parquet file has a versioned header in its schema's metadata, and the columns id, image, error, `logit/<class>` (float32) and
`target/<class>` (int8: 1, 0, -1). CSV and JSON Lines hold a probability per class, the labels above their thresholds, and the
error.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polytag import files
from polytag.contracts import ABSENT_MEANS, Dataset, LabelSet, Predictions
from polytag.data.columns import NO_COLUMNS, IdColumns
from polytag.errors import DataError, PredictionsError, UsageError
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.parsing import Malformed, parse_json, small_text
from polytag.plain import WrongValue, from_plain, shown
from polytag.predictions.joining import class_columns, truth_rows
from polytag.text import cell, storable

VERSION = 1
ROWS_AT_ONCE = 4096  # held in memory, and written as one row group
HEADER = b"polytag.predictions"
SUFFIXES = (".parquet", ".csv", ".jsonl")


class PredictionsWriter:
    """Writes rows one by one, in constant memory; the complete file appears when the `with` block ends without an exception.

    `path` ends in .parquet, .csv or .jsonl. `thresholds` decide which labels are present in CSV and JSON Lines. Parquet has
    `metadata` beside its header, and `columns` joined by id. Raises UsageError for another ending, and for columns in another kind
    of file or with names of the file's own; RunError if the disk is full.
    """

    def __init__(
        self,
        path: Path,
        *,
        label_set: LabelSet,
        checkpoint_id: str = "",
        thresholds: Sequence[float] = (),
        source: str = "",
        calibration: str = "",
        absent_means: str = "absent",
        metadata: Mapping[bytes, bytes] = MappingProxyType({}),
        columns: IdColumns = NO_COLUMNS,
    ):
        if path.suffix not in SUFFIXES:
            raise UsageError(
                "unknown kind of predictions file",
                where=str(path),
                got=path.suffix or "no ending",
                expected="one of " + ", ".join(SUFFIXES),
            )
        if columns.names and path.suffix != ".parquet":
            raise UsageError("columns are joined in Parquet alone", where=str(path), got=path.suffix, expected=".parquet")
        columns.require_other_names(parquet_schema(label_set).names)
        self._path, self._label_set, self._metadata, self._columns = path, label_set, metadata, columns
        self._threshold_C = np.asarray(thresholds or [0.5] * len(label_set))
        self._header = {
            "version": VERSION,
            "classes": list(label_set),
            "label_fingerprint": label_set.fingerprint,
            "checkpoint_id": checkpoint_id,
            "values": "logit",
            "calibration": calibration,
            "absent_means": absent_means,
            "source": source,
        }
        self._new: files.NewFile | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._text: IO[str] | None = None
        self._rows: list[tuple[str, str, str, np.ndarray, np.ndarray]] = []

    def __enter__(self) -> "PredictionsWriter":
        with files.saving(self._path):
            self._new = files.NewFile(self._path)
            if self._path.suffix == ".parquet":
                fields = [*parquet_schema(self._label_set), *(pa.field(name, pa.string()) for name in self._columns.names)]
                schema = pa.schema(fields, {HEADER: json.dumps(self._header).encode(), **self._metadata})
                self._parquet = pq.ParquetWriter(self._new.file, schema, compression="zstd")
            else:
                self._text = io.TextIOWrapper(self._new.file, newline="", encoding="utf-8")
                if self._path.suffix == ".csv":
                    csv.writer(self._text).writerow(["id", "image", "error", "labels", *map(cell, self._label_set)])
        return self

    def write(
        self, ids: Sequence[str], image_paths: Sequence[str], logit_NC: np.ndarray, target_NC: np.ndarray | None = None
    ) -> None:
        """Add scored images; without targets, every label is unknown."""
        if target_NC is None:
            target_NC = np.full(logit_NC.shape, -1, np.int8)
        for row in zip(ids, image_paths, [""] * len(ids), np.asarray(logit_NC, np.float32), target_NC, strict=True):
            self._add(*row)

    def fail(self, name: str, image_path: str, error: str) -> None:
        """Add an unreadable image: its row has the error and no scores."""
        num_classes = len(self._label_set)
        self._add(name, image_path, error, np.full(num_classes, np.nan, np.float32), np.full(num_classes, -1, np.int8))

    def _add(self, name: str, image_path: str, error: str, logit_C: np.ndarray, target_C: np.ndarray) -> None:
        self._rows.append((storable(name), storable(image_path), error, logit_C, target_C))
        if len(self._rows) == ROWS_AT_ONCE:
            with files.saving(self._path):
                self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        ids, image_paths, errors, logits, targets = zip(*self._rows, strict=True)
        self._rows.clear()
        if self._parquet is not None:
            columns: list[pa.Array] = [
                pa.array(ids),
                pa.array(image_paths),
                pa.array([error or None for error in errors], pa.string()),
            ]
            columns += [pa.array(logit_N, pa.float32(), from_pandas=True) for logit_N in np.stack(logits, axis=1)]
            columns += [pa.array(target_N, pa.int8()) for target_N in np.stack(targets, axis=1).astype(np.int8)]
            cells = [self._columns.cells(name) for name in ids]
            columns += [pa.array(column, pa.string()) for column in zip(*cells, strict=True)]
            self._parquet.write_table(pa.Table.from_arrays(columns, schema=self._parquet.schema))
            return
        assert self._text is not None
        probability_NC = sigmoid(np.stack(logits))
        predicted_NC = decide(probability_NC, threshold_C=self._threshold_C)
        for name, image, error, probability_C, predicted_C in zip(
            ids, image_paths, errors, probability_NC, predicted_NC, strict=True
        ):
            labels = [label for label, here in zip(self._label_set, predicted_C, strict=True) if here]
            if self._path.suffix == ".csv":
                values = ["" if math.isnan(value) else repr(float(value)) for value in probability_C]
                csv.writer(self._text).writerow([*map(cell, (name, image, error, "|".join(labels))), *values])
            else:
                scores = None if error else dict(zip(self._label_set, map(float, probability_C), strict=True))
                row = {"id": name, "image": image, "error": error or None, "labels": labels, "probability": scores}
                self._text.write(json.dumps(row, ensure_ascii=False) + "\n")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._new is not None
        try:
            with files.saving(self._path):
                try:
                    if kind is None:
                        self._flush()
                finally:
                    if self._parquet is not None:
                        self._parquet.close()
                if kind is None:
                    if self._text is not None:
                        self._text.flush()
                    self._new.commit()
        finally:
            self._new.abandon()


def parquet_schema(label_set: LabelSet) -> pa.Schema:
    """The columns of a predictions file."""
    text = [pa.field(name, pa.string()) for name in ("id", "image", "error")]
    logits = [pa.field(f"logit/{name}", pa.float32()) for name in label_set]
    return pa.schema([*text, *logits, *(pa.field(f"target/{name}", pa.int8()) for name in label_set)])


def write_predictions(predictions: Predictions, path: Path | str) -> None:
    """Write a complete table; see `PredictionsWriter` for the kinds of files.

    Logits are stored as float32. Raises PredictionsError for ranks, which such a file cannot hold.
    """
    if not predictions.has_probabilities:
        raise PredictionsError(
            "ranks cannot be written to a predictions file",
            where=str(path),
            got=predictions.source or "ranks",
            expected="logits or probabilities",
            next_step="use the original file of the scores: `polytag evaluate` reads it",
        )
    with PredictionsWriter(
        Path(path),
        label_set=predictions.label_set,
        checkpoint_id=predictions.checkpoint_id,
        source=predictions.source,
        calibration=predictions.calibration,
        absent_means=predictions.absent_means,
    ) as writer:
        writer.write(predictions.ids, predictions.image_paths, predictions.logit_NC, predictions.target_NC)


def read_parquet_predictions(path: Path | str) -> Predictions:
    """Read a Parquet predictions file; rows of unreadable images are left out.

    Raises PredictionsError for a file that is missing, is not Parquet, has no polytag header, or was modified.
    """
    path = Path(path)
    if path.is_dir():  # pyarrow would read every file in it
        raise PredictionsError(
            "the predictions file cannot be read",
            where=str(path),
            got="a folder",
            expected="a Parquet file that `polytag train` or `polytag predict` wrote",
            next_step=f"give the file itself, such as {path / 'predictions-val.parquet'}",
        )
    try:
        table = pq.read_table(path, memory_map=True)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise PredictionsError(
            "the predictions file cannot be read",
            where=str(path),
            got="no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0],
            expected="a Parquet file that `polytag train` or `polytag predict` wrote",
        ) from error
    _, label_set = read_header(table.schema, str(path))
    _require_columns(table.schema, label_set, str(path))
    return predictions_of(table.filter(table["error"].is_null()), source=str(path))


def predictions_of(table: pa.Table, *, source: str) -> Predictions:
    """The Predictions of a table with polytag's header and columns, without rows of errors; raises PredictionsError."""
    header, label_set = read_header(table.schema, source)
    if not len(table):
        raise PredictionsError(
            "no scored image in the predictions file", where=source, expected="at least one row without an error"
        )
    return Predictions(
        ids=_texts(table, "id", source),
        logit_NC=np.stack([_floats(table[f"logit/{name}"]) for name in label_set], axis=1),
        target_NC=np.stack([_integers(table[f"target/{name}"], name, source) for name in label_set], axis=1),
        label_set=label_set,
        image_paths=_texts(table, "image", source),
        checkpoint_id=header.checkpoint_id,
        source=source,
        calibration=header.calibration,
        absent_means=header.absent_means,
    )


def source_in(path: Path) -> str:
    """The `source` in the header of a predictions file; the `source` of Predictions that are read is the file itself."""
    return read_header(pq.read_schema(path), str(path))[0].source


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a predictions file."""

    version: int
    classes: tuple[str, ...]
    label_fingerprint: str
    checkpoint_id: str
    values: str = "logit"
    source: str = ""
    calibration: str = ""  # absent from files of older versions
    absent_means: str = "absent"

    def __post_init__(self):
        if self.values != "logit":
            raise WrongValue("values", self.values, expected="logit")
        if self.absent_means not in ABSENT_MEANS:
            raise WrongValue("absent_means", self.absent_means, expected=" or ".join(ABSENT_MEANS))


def read_header(schema: pa.Schema, where: str) -> tuple[Header, LabelSet]:
    """The header in a schema's metadata; raises PredictionsError."""
    content = (schema.metadata or {}).get(HEADER)
    if content is None:
        raise PredictionsError(
            "not a predictions file of polytag",
            where=where,
            got="a Parquet file without polytag's header",
            expected="a file that `polytag train` or `polytag predict` wrote",
        )
    try:
        values = from_plain(dict, parse_json(small_text(content)))
        version = from_plain(int, values.get("version"), name="version")
        header = from_plain(Header, values) if version == VERSION else None
        label_set = LabelSet(names=header.classes) if header else None
    except (Malformed, WrongValue, DataError) as error:
        raise PredictionsError(
            "the header of the predictions file cannot be read",
            where=where,
            got=error.got if isinstance(error, WrongValue) else str(error).splitlines()[0],
            expected=error.expected if isinstance(error, WrongValue) else "what `polytag train` or `polytag predict` wrote",
            next_step="predict again",
        ) from error
    if header is None or label_set is None:
        raise PredictionsError(
            "the predictions were written by another version of polytag",
            where=where,
            got=f"version {version}",
            expected=f"version {VERSION}",
            next_step="use the version of polytag that wrote it, or predict again",
        )
    if header.label_fingerprint != label_set.fingerprint:
        raise PredictionsError(
            "the class names of the predictions file were changed",
            where=where,
            got=f"fingerprint {label_set.fingerprint}",
            expected=shown(header.label_fingerprint)[1:-1],
            next_step="predict again",
        )
    return header, label_set


def _require_columns(schema: pa.Schema, label_set: LabelSet, where: str) -> None:
    """Raises PredictionsError unless every column is there once, with its own kind of values."""
    wanted = parquet_schema(label_set)
    missing = [name for name in wanted.names if name not in schema.names]
    if missing:
        raise PredictionsError(
            "columns of the predictions file are missing",
            where=where,
            got=", ".join(schema.names[:6]),
            expected=", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else ""),
        )
    for field in wanted:
        found = [schema.field(index).type for index in schema.get_all_field_indices(field.name)]
        if found != [field.type]:
            raise PredictionsError(
                "a column of the predictions file has another kind of values",
                where=where,
                got=f"{field.name}: {' and '.join(map(str, found))}",
                expected=f"{field.type}, once",
                next_step="predict again",
            )


def _texts(table: pa.Table, name: str, where: str) -> tuple[str, ...]:
    """The texts of a column: every id, and "" for an image without a path."""
    try:
        texts = table[name].to_pylist()
    except UnicodeDecodeError as error:
        raise PredictionsError(
            "a text of the predictions file is not UTF-8", where=where, got=f"{error.reason} in {name}", expected="UTF-8"
        ) from error
    if name == "id" and None in texts:
        raise PredictionsError(
            "an image has no id", where=where, got=f"row {texts.index(None) + 1}", expected="an id for every row"
        )
    return tuple(text or "" for text in texts)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(), np.float32)


def _integers(column: pa.ChunkedArray, name: str, where: str) -> np.ndarray:
    if column.null_count:
        raise PredictionsError(
            "a target is empty", where=where, got=f"{column.null_count} empty in target/{name}", expected="1, 0 or -1 (unknown)"
        )
    return column.to_numpy()


def with_truth(predictions: Predictions, dataset: Dataset) -> Predictions:
    """The predictions with the targets of a data set: classes are joined by name, images by id or, for an id that the data set
    lacks, by path.

    Raises PredictionsError if the classes differ, if scored images are not in the data set (with the first few), and if an image
    is in two splits with different labels.
    """
    columns = class_columns(predictions, dataset)
    rows = truth_rows(predictions, dataset)
    return replace(predictions, target_NC=dataset.target_NC[np.ix_(rows, columns)], absent_means=dataset.absent_means)
