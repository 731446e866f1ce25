"""Feature tables: vectors of images that another program computed, by image id. Parquet, NPY and NPZ; read in bounded memory.

Shapes: N rows, D numbers a row.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polytag.data.formats.column_names import ID_COLUMNS, first_of
from polytag.errors import DataError, PolytagError
from polytag.parsing import Malformed, read_small_text
from polytag.text import printable

FEATURE_NAMES = (
    "features", "feature", "embeddings", "embedding", "vectors", "vector", "image_features", "image_embeddings", "image_embedding",
    "image_embeds", "x",
)  # fmt: skip
ID_NAMES = (*ID_COLUMNS, "ids", "image_ids", "names", "filenames", "file_names", "paths", "images")
SUFFIXES = (".parquet", ".npy", ".npz")
_ROWS_AT_ONCE = 4096
_MAX_ID_BYTES = 500_000_000  # of the list of ids of an NPY file
_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """The ids and the size of a table; `batches` and `take` read its vectors.

    ids            of its N rows, unique
    num_features   D, at least 1
    """

    path: Path
    ids: tuple[str, ...]
    num_features: int
    read: Callable[[], Iterator[np.ndarray]]

    def batches(self) -> Iterator[np.ndarray]:
        """float32 n x D, in the order of the rows. Raises DataError, with the row, for a number that is not finite."""
        first, parts = 0, self.read()
        while True:
            with _reading(self.path):
                values = next(parts, None)
            if values is None:
                return
            with np.errstate(over="ignore"):  # of a float64 beyond float32, which is infinite then
                block = np.array(values, dtype=np.float32, order="C")  # a copy: Arrow's memory is read-only
            if block.shape[1:] != (self.num_features,):
                raise DataError("the table has changed", where=str(self.path), got=f"{block.shape[1:]} numbers a row")
            finite = np.isfinite(block)
            if not finite.all():
                row, column = (int(each) for each in np.argwhere(~finite)[0])
                raise DataError(
                    "a feature is not finite",
                    where=f"{self.path}, row {first + row + 1}",
                    got=f"{values[row, column]} at position {column} of {printable(self.ids[first + row])!r}",
                    expected="finite numbers that float32 holds",
                    next_step="compute the features of this image again, or remove its row",
                )
            yield block
            first += len(block)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """float32 n x D: these rows, in this order. The whole table is read and checked, a part at a time."""
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        found = np.empty((len(rows), self.num_features), np.float32)
        first = 0
        for block in self.batches():
            start, end = np.searchsorted(ordered, (first, first + len(block)))
            found[order[start:end]] = block[ordered[start:end] - first]
            first += len(block)
        return found


def open_feature_table(path: Path | str) -> FeatureTable:
    """Open a .parquet, .npy or .npz file. Raises DataError for any other, and for one whose ids or vectors cannot be found."""
    path = Path(path)
    opener = {".parquet": _open_parquet, ".npy": _open_npy, ".npz": _open_npz}.get(path.suffix.lower())
    if opener is None or not path.is_file():
        raise DataError(
            "no feature table" if path.is_file() else "the feature table does not exist",
            where=str(path),
            got=path.suffix or "no ending" if path.is_file() else "no such file",
            expected="a file ending in " + ", ".join(SUFFIXES),
        )
    with _reading(path):
        table = opener(path)
    if not table.ids:
        raise DataError("the feature table is empty", where=str(path), expected="a row for each image")
    _require_unique(table)
    return table


@contextmanager
def _reading(path: Path) -> Generator[None]:
    """Turn whatever a damaged file raises into a DataError."""
    try:
        yield
    except PolytagError:
        raise
    except Exception as error:  # zipfile, zlib, NumPy and Arrow raise errors of many kinds
        objects = "Object arrays" in str(error) or "Python objects" in str(error)
        raise DataError(
            "arrays of Python objects are not supported" if objects else "the feature table cannot be read",
            where=str(path),
            got="an array of dtype object, which can run any code when it is read" if objects else _reason(error),
            expected=f"a whole {path.suffix} file",
            next_step="save names as text, with np.array(names, dtype=str)" if objects else "",
        ) from error


def _require_unique(table: FeatureTable) -> None:
    if len(set(table.ids)) == len(table.ids):
        return
    twice = [f"{printable(name)!r} {count} times" for name, count in Counter(table.ids).items() if count > 1]
    raise DataError(
        f"{len(twice):,} ids of the feature table are not unique",
        where=str(table.path),
        got=", ".join(twice[:3]) + (", ..." if len(twice) > 3 else ""),
        expected="one row for each image",
    )


def _reason(error: Exception) -> str:
    if "allow_pickle" in str(error):  # NumPy takes what it does not know for a pickle
        return "bytes that no array of NumPy begins with"
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])[:300]


# ---- Parquet ----


def _open_parquet(path: Path) -> FeatureTable:
    schema = pq.ParquetFile(path).schema_arrow
    names = list(schema.names)
    id = _id_of(schema, path=path)
    ids = _texts(pq.read_table(path, columns=[id])[id].to_pylist(), path=path)
    lists = [name for name in names if _is_list(schema.field(name).type)]
    known = [name for name in lists if first_of([name], FEATURE_NAMES)]
    chosen = lists if len(lists) == 1 else known
    if len(chosen) == 1:
        name = chosen[0]

        def read_lists() -> Iterator[np.ndarray]:
            first = 0
            for batch in pq.ParquetFile(path).iter_batches(batch_size=_ROWS_AT_ONCE, columns=[name]):
                yield _of_lists(batch.column(0), ids[first : first + len(batch)], first=first, width=width, path=path)
                first += len(batch)

        width = 0
        width = next(read_lists()).shape[1] if ids else 1
        return FeatureTable(path=path, ids=ids, num_features=_positive(width, path=path), read=read_lists)
    numbered = _numbered([name for name in names if name != id and _is_number(schema.field(name).type)])
    if chosen or not numbered:
        raise DataError(
            "the vectors of the feature table are not found",
            where=str(path),
            got=("several columns of lists: " if lists else "")
            + ", ".join(f"{name} ({schema.field(name).type})" for name in names)[:500],
            expected="one column of lists of numbers, such as embedding; or a column for each position, such as f0, f1, f2, ...",
            next_step="keep the id and the vectors alone",
        )

    def read_columns() -> Iterator[np.ndarray]:
        first = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_ROWS_AT_ONCE, columns=numbered):
            columns = [batch.column(name) for name in numbered]
            missing = next(((name, each) for name, each in zip(numbered, columns, strict=True) if each.null_count), None)
            if missing is not None:
                row = int(np.flatnonzero(np.asarray(missing[1].is_null()))[0])
                raise _missing(f"null in {missing[0]}", ids[first + row], row=first + row, path=path)
            yield np.stack([each.to_numpy(zero_copy_only=False) for each in columns], axis=1)
            first += len(batch)

    return FeatureTable(path=path, ids=ids, num_features=len(numbered), read=read_columns)


def _id_of(schema: pa.Schema, *, path: Path) -> str:
    """The column of ids: by its usual names, or the only one of text."""
    scalars = [name for name in schema.names if not _is_list(schema.field(name).type)]
    texts = [
        name for name in scalars if pa.types.is_string(schema.field(name).type) or pa.types.is_large_string(schema.field(name).type)
    ]
    found = first_of(scalars, ID_NAMES) or (texts[0] if len(texts) == 1 else "")
    if not found:
        raise DataError(
            "the feature table has no column of image ids",
            where=str(path),
            got=", ".join(schema.names[:20]) + (", ..." if len(schema.names) > 20 else ""),
            expected="a column id, file_name, path or similar",
        )
    return found


def _is_list(kind: Any) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type)


def _is_number(kind: Any) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _numbered(names: Sequence[str]) -> list[str]:
    """The columns f0, f1, ..., in the order of their numbers, which leave none out: the longest such list; empty for none."""
    by_prefix: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            by_prefix.setdefault(match[1], {})[int(match[2])] = name
    lists = [[columns[number] for number in sorted(columns)] for columns in by_prefix.values() if _are_consecutive(columns)]
    return max(lists, key=len, default=[])


def _are_consecutive(numbers: Iterable[int]) -> bool:
    numbers = sorted(numbers)
    return numbers[0] in (0, 1) and numbers[-1] - numbers[0] + 1 == len(numbers)


def _of_lists(column: pa.Array, ids: Sequence[str], *, first: int, width: int, path: Path) -> np.ndarray:
    """n x D of a column of lists; `width` is D, 0 where the first row decides."""
    if column.null_count:
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise _missing("null", ids[row], row=first + row, path=path)
    length_N = np.asarray(column.value_lengths())
    width = width or int(length_N[0])
    other_N = np.flatnonzero(length_N != width)
    if len(other_N):
        row = int(other_N[0])
        raise DataError(
            "the vectors have different lengths",
            where=f"{path}, row {first + row + 1}",
            got=f"{length_N[row]} numbers of {printable(ids[row])!r}",
            expected=f"{width}, as in the first row",
        )
    values = column.flatten()
    if values.null_count:
        row = int(np.flatnonzero(np.asarray(values.is_null()))[0]) // width
        raise _missing("null among its numbers", ids[row], row=first + row, path=path)
    return values.to_numpy(zero_copy_only=False).reshape(len(column), width)


def _missing(got: str, name: str, *, row: int, path: Path) -> DataError:
    return DataError(
        "an image has no vector",
        where=f"{path}, row {row + 1}",
        got=f"{got} of {printable(name)!r}",
        expected="numbers in every row",
    )


def _positive(width: int, *, path: Path) -> int:
    if width < 1:
        raise DataError("the vectors are empty", where=str(path), got="0 numbers", expected="at least 1")
    return width


# ---- NumPy ----


def _open_npy(path: Path) -> FeatureTable:
    value = np.lib.format.open_memmap(path, mode="r")  # which never unpickles
    list_of_ids = path.with_suffix(".txt")
    _require_matrix(value, name="the array", path=path)
    if not list_of_ids.is_file():
        raise DataError(
            "an NPY file has no ids",
            where=str(path),
            got=f"no {list_of_ids.name} in its folder",
            expected=f"the id of each of the {len(value):,} rows, one a line, in {list_of_ids.name}",
            next_step="or save both in one file: np.savez(path, ids=ids, features=features)",
        )
    try:
        lines = read_small_text(list_of_ids, max_bytes=_MAX_ID_BYTES).splitlines()
    except Malformed as error:
        raise DataError(
            "the ids cannot be read", where=error.place(list_of_ids), got=error.problem, expected="an id a line"
        ) from error
    return _of_array(value, _texts(lines, path=list_of_ids), path=path)


def _open_npz(path: Path) -> FeatureTable:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        names = list(arrays.files)
        id = first_of(names, ID_NAMES)
        others = [name for name in names if name != id]
        known = [name for name in others if first_of([name], FEATURE_NAMES)]
        chosen = others if len(others) == 1 else known
        if not id or len(chosen) != 1:
            raise DataError(
                "the arrays of the feature table are not found",
                where=str(path),
                got=", ".join(names) or "no array",
                expected="the arrays ids and features",
                next_step="np.savez(path, ids=ids, features=features)",
            )
        value, ids = arrays[chosen[0]], arrays[id]
    _require_matrix(value, name=chosen[0], path=path)
    if ids.ndim != 1 or ids.dtype.kind not in "USiu":
        raise DataError(
            "the ids are no list of text",
            where=str(path),
            got=f"{id}: {ids.dtype} of shape {ids.shape}",
            expected="one id for each row",
        )
    return _of_array(value, _texts(ids.tolist(), path=path), path=path)


def _require_matrix(value: np.ndarray, *, name: str, path: Path) -> None:
    if value.ndim != 2 or value.dtype.kind not in "fiu" or not value.shape[1]:
        raise DataError(
            "the features are not a table of numbers",
            where=str(path),
            got=f"{name}: {value.dtype} of shape {value.shape}",
            expected="numbers of shape (images, features)",
        )


def _of_array(value: np.ndarray, ids: tuple[str, ...], *, path: Path) -> FeatureTable:
    if len(ids) != len(value):
        raise DataError(
            "the ids do not match the vectors", where=str(path), got=f"{len(ids):,} ids, {len(value):,} vectors", expected="as many"
        )

    def read() -> Iterator[np.ndarray]:
        for start in range(0, len(value), _ROWS_AT_ONCE):
            yield np.asarray(value[start : start + _ROWS_AT_ONCE])

    return FeatureTable(path=path, ids=ids, num_features=value.shape[1], read=read)


def _texts(cells: Sequence[object], *, path: Path) -> tuple[str, ...]:
    texts = tuple("" if cell is None else cell.decode() if isinstance(cell, bytes) else str(cell) for cell in cells)
    if "" in texts:
        raise DataError("a row has no image id", where=f"{path}, row {texts.index('') + 1}", expected="an id in every row")
    return texts
