"""Reads scores from tables of other programs: CSV, Parquet and JSON Lines. docs/reference/predictions.md shows every layout."""

import csv
import io
import os
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polytag.contracts import UNKNOWN
from polytag.data.formats.class_columns import class_targets, target_column
from polytag.data.formats.column_names import first_of
from polytag.data.formats.delimited import BEGINNING, dialect_of, fitted, is_blank
from polytag.data.formats.label_lists import label_lists
from polytag.data.formats.listing import read_text
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.rows import Table, named_index, read_table, require_columns
from polytag.data.read_options import ReadOptions
from polytag.errors import PredictionsError
from polytag.files import open_regular
from polytag.logits import EXACT, inexact, is_exact
from polytag.predictions.external_columns import (
    ID_COLUMNS,
    OWN_CSV,
    OWN_JSONL,
    SCALE_OF,
    TRUTH_COLUMNS,
    Roles,
    options_for,
    roles_of,
)
from polytag.predictions.joining import nearest
from polytag.predictions.raw_scores import RawScores, targets_of_lists
from polytag.text import text_of_cell

# ---- CSV ----


def read_csv_scores(path: Path, *, options: ReadOptions, has_external_truth: bool) -> RawScores:
    """Read one row per image and one column per class; numbers become float64 as they are read, so that no text stays in memory.

    With external labels, those of the file are ignored.
    """
    try:
        with io.TextIOWrapper(open_regular(path), newline="", encoding="utf-8-sig") as file:
            dialect = dialect_of(file.read(BEGINNING))
            file.seek(0)
            before = 1 if dialect.has_sep_line and file.readline() else 0
            reader = csv.reader(file, delimiter=dialect.delimiter, skipinitialspace=dialect.skips_space, strict=True)
            return _read_csv(path, reader, before=before, options=options, has_external_truth=has_external_truth)
    except UnicodeDecodeError:
        read_text(path)  # raises with the line
        raise
    except csv.Error as error:
        raise PredictionsError("malformed CSV", where=str(path), got=str(error), expected="CSV") from error


def _read_csv(path: Path, reader: Any, *, before: int, options: ReadOptions, has_external_truth: bool) -> RawScores:
    names = named_index([name.strip() for name in next((row for row in reader if not is_blank(row)), [])])
    is_own = tuple(names[: len(OWN_CSV)]) == OWN_CSV
    if is_own:
        names = list(map(text_of_cell, names))
    require_columns(names, where=f"{path}:1", error=PredictionsError)
    roles = roles_of(names, options=options, has_external_truth=has_external_truth, where=f"{path}:1")
    at = {name: position for position, name in enumerate(names)}
    others = [name for name in (roles.id, roles.image, roles.labels, *roles.truths.values()) if name]
    others = list(dict.fromkeys(others))
    scores_of, others_of = _picker([at[name] for name in roles.scores.values()]), _picker([at[name] for name in others])
    error_at = at[roles.error] if roles.error else None
    values = array("d")
    cells: list[Sequence[str]] = []
    line_N: list[int] = []
    begins = before + reader.line_num + 1
    for row in reader:
        line, begins = begins, before + reader.line_num + 1
        if is_blank(row):
            continue
        if len(row) > len(names):
            row = fitted(row, len(names)) or row
        if len(row) != len(names):
            raise PredictionsError(
                "a row does not fit the header",
                where=f"{path}:{line}",
                got=f"{len(row)} fields",
                expected=f"{len(names)}, as in the first line",
            )
        if error_at is not None and row[error_at]:
            continue  # an unreadable image has no scores
        try:
            numbers = list(map(float, scores_of(row)))
        except ValueError:
            raise _not_a_number(row, at, roles, where=f"{path}:{line}") from None
        if max(numbers) >= EXACT or min(numbers) <= -EXACT:
            for text in scores_of(row):
                if len(text) < 400 and text.strip().lstrip("+-").isdecimal() and not is_exact(int(text)):
                    raise _too_large(text.strip()[:60], where=f"{path}:{line}")
        values.extend(numbers)
        cells.append([text_of_cell(text) for text in others_of(row)] if is_own else others_of(row))
        line_N.append(line)
    columns = dict(zip(others, list(zip(*cells, strict=True)) or [()] * len(others), strict=True))
    table = Table(path=path, columns=columns, line_N=line_N)
    value_NC = np.frombuffer(values, np.float64).reshape(len(line_N), len(roles.scores))
    return _raw_scores(table, roles, value_NC, options=options)


def _picker(positions: Sequence[int]) -> Callable[[Sequence[str]], Sequence[str]]:
    """As itemgetter, but always a sequence."""
    if positions and positions == list(range(positions[0], positions[-1] + 1)):
        part = slice(positions[0], positions[-1] + 1)
        return lambda row: row[part]
    if len(positions) < 2:
        return lambda row: [row[position] for position in positions]
    return itemgetter(*positions)


def _not_a_number(row: Sequence[str], at: Mapping[str, int], roles: Roles, *, where: str) -> PredictionsError:
    for name in roles.scores.values():
        cell = row[at[name]]
        try:
            float(cell)
        except ValueError:
            comma = re.fullmatch(r"\s*-?\d+,\d+\s*", cell)
            return PredictionsError(
                "a score is missing" if not cell.strip() else "a score is not a number",
                where=where,
                got=f"{cell!r} in column {name!r}",
                expected="a number" + (" with a decimal point" if comma else ""),
                next_step="if this column is not a class, remove it, or name each class column with --class-column",
            )
    raise AssertionError("every cell is a number")


# ---- Parquet ----


def read_parquet_scores(path: Path, *, options: ReadOptions, has_external_truth: bool) -> RawScores:
    """Read a table without polytag's header: the columns of CSV, with values instead of texts."""
    table = pq.ParquetFile(path).read()
    names = table.column_names
    require_columns(names, where=str(path), error=PredictionsError)
    names.sort(key=lambda name: not name.startswith("__index_level_"))  # pandas writes the index last
    roles = roles_of(names, options=options, has_external_truth=has_external_truth, where=str(path))
    columns = [_numbers(table[name], name=name, path=path) for name in roles.scores.values()]
    others = dict.fromkeys(name for name in (roles.id, roles.image, roles.labels, *roles.truths.values()) if name)
    cells = {name: table[name].to_pylist() for name in others}
    own = Table(path=path, columns=cells, line_N=range(1, table.num_rows + 1))
    return _raw_scores(own, roles, np.stack(columns, axis=1), options=options)


def _numbers(column: pa.ChunkedArray, *, name: str, path: Path) -> np.ndarray:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise PredictionsError(
            "a score is not a number",
            where=str(path),
            got=f"a column {name!r} of {column.type}",
            expected="a column of numbers for each class",
            next_step="if this column is not a class, remove it, or name each class column with --class-column",
        )
    value_N = np.asarray(column.to_numpy())
    inexact_N = inexact(value_N)
    if inexact_N.any():
        row = int(np.flatnonzero(inexact_N)[0])
        raise _too_large(f"{value_N[row]} for class {name!r}", where=f"{path}, row {row + 1}")
    return value_N if value_N.dtype == np.float32 else value_N.astype(np.float64)


def _too_large(got: str, *, where: str) -> PredictionsError:
    return PredictionsError(
        "an integer score is too large",
        where=where,
        got=got,
        expected="integers that a float64 holds: all up to 2^53, 9007199254740992",
        next_step="ranks can be replaced by their positions, 0, 1, 2, ..., in the same order",
    )


# ---- JSON Lines ----


def read_jsonl_scores(path: Path, *, options: ReadOptions, has_external_truth: bool) -> RawScores:
    """Read one object per line, with a score for each class by name."""
    table = read_table(path)
    names = list(table.columns)
    own = frozenset(names) == OWN_JSONL
    key = first_of(names, tuple(SCALE_OF))
    if not key:
        raise PredictionsError(
            "the lines have no scores",
            where=str(path),
            got=", ".join(names) or "no line",
            expected="one of " + ", ".join(SCALE_OF),
        )
    options = options_for(options, names, where=f"{path}:1", has_external_truth=has_external_truth)
    id = "id" if own else options.image_column or first_of(names, ID_COLUMNS)
    labels = ""
    if not own and not has_external_truth:
        labels = options.labels_column or first_of([name for name in names if name != key], TRUTH_COLUMNS)
    rows = [row for row in range(len(table)) if not (own and table.columns["error"][row])]
    columns = {name: [table.columns[name][row] for row in rows] for name in (id, key, labels, *(("image",) if own else ())) if name}
    table = Table(path=path, columns=columns, line_N=[table.line_N[row] for row in rows])
    classes, value_NC = _objects(table, key)
    roles = Roles(
        id=id,
        image="image" if own else "",
        error="",
        labels=labels,
        scores={name: name for name in classes},
        truths={},
        scale=SCALE_OF[key.lower()],
    )
    return _raw_scores(table, roles, value_NC, options=options)


def _objects(table: Table, key: str) -> tuple[list[str], np.ndarray]:
    """Classes in the order of the first line, and float64 N x C."""
    classes: list[str] = []
    values = array("d")
    for row, scores in enumerate(table.columns[key]):
        if not isinstance(scores, dict) or not scores:
            raise PredictionsError(
                "an image has no scores",
                where=table.where(row),
                got=f"{key}: {str(scores)[:80]}",
                expected="an object with a number for each class",
            )
        classes = classes or list(scores)
        if len(scores) != len(classes) or any(name not in scores for name in classes):
            missing, surplus = [name for name in classes if name not in scores], [name for name in scores if name not in classes]
            raise PredictionsError(
                "a line has other classes than the first line",
                where=table.where(row),
                got="; ".join(
                    f"{what} " + ", ".join(name + nearest(name, others) for name in found)
                    for what, found, others in (("lacks", missing, surplus), ("has in addition", surplus, missing))
                    if found
                ),
                expected="a score for " + ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else ""),
            )
        for name in classes:
            score = scores[name]
            if not isinstance(score, int | float) or isinstance(score, bool):
                raise PredictionsError(
                    "a score is not a number", where=table.where(row), got=f"{score!r} for class {name!r}", expected="a number"
                )
            if isinstance(score, int) and not is_exact(score):
                raise _too_large(f"{score} for class {name!r}"[:120], where=table.where(row))
            values.append(score)
    return classes, np.frombuffer(values, np.float64).reshape(len(table), len(classes))


# ---- all formats ----


def _raw_scores(table: Table, roles: Roles, value_NC: np.ndarray, *, options: ReadOptions) -> RawScores:
    classes = list(roles.scores)
    target_NC = None
    log = ReadingLog(accept_doubts=options.accept_doubts)
    if roles.labels and any(isinstance(cell, dict) for cell in table.columns[roles.labels]):
        target_NC = _target_objects(table, roles.labels, classes)
    elif roles.labels:
        lists = label_lists([table], roles.labels, separator=options.separator, log=log)[0]
        target_NC = targets_of_lists(lists, classes=classes, where=table.where)
    elif roles.truths:
        names = [roles.truths[name] for name in classes]
        target_NC = class_targets([table], names, minus_one=options.minus_one, log=log)[0]
    names = (
        [_id(table, roles.id, row) for row in range(len(table))] if roles.id else [f"row {row + 1}" for row in range(len(table))]
    )
    paths = tuple(str(cell or "") for cell in table.columns[roles.image]) if roles.image else ()
    return RawScores(
        source=str(table.path),
        ids=names,
        classes=classes,
        value_NC=value_NC,
        target_NC=target_NC,
        where=table.where,
        scale=roles.scale,
        image_paths=_found(paths, table.path.parent),
    )


def _found(paths: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Paths of images in the file, relative to the working folder or to the folder of the file."""
    if not paths or os.path.exists(paths[0]) or not os.path.exists(folder / paths[0]):
        return paths
    return tuple(str(folder / path) if path else "" for path in paths)


def _id(table: Table, column: str, row: int) -> str:
    cell = table.columns[column][row]
    text = "" if cell is None else str(cell)
    if not text.strip():
        raise PredictionsError(
            "a row has no image id",
            where=table.where(row),
            got=f"{cell!r} in column {column!r}",
            expected="an id in every row",
        )
    return text


def _target_objects(table: Table, column: str, classes: Sequence[str]) -> np.ndarray:
    """Targets from objects of 1, 0 and -1 by class, or null."""
    cells = [cell if isinstance(cell, dict) else {} for cell in table.columns[column]]
    for row, cell in enumerate(cells):
        for name in cell:
            if name not in classes:
                targets_of_lists([[name]], classes=classes, where=lambda _, row=row: table.where(row))
    by_class = Table(path=table.path, columns={name: [cell.get(name) for cell in cells] for name in classes}, line_N=table.line_N)
    target_NC = np.full((len(cells), len(classes)), UNKNOWN, np.int8)
    for position, name in enumerate(classes):
        target_NC[:, position] = target_column(by_class, name)
    return target_NC
