"""Images in the rows of Arrow and Parquet files: the columns that hold their bytes, and the place "COLUMN/ROW" of each image."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from polytag.data.images.container import MAX_IMAGES, Container, Damaged, NoSuchPlace, OpenFile

BYTES_FIELD = "bytes"
"""The field of a struct that holds an image's bytes, as in Hugging Face's `Image`: struct<bytes: binary, path: string>."""

ARROW_MAGIC = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_NULL = -1  # the size of a row without bytes


class BytesColumn(ABC):
    """The bytes of the images of one column."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Rows of the whole file."""

    @abstractmethod
    def read(self, file: OpenFile, row: int) -> bytes:
        """The bytes of a row that exists, none where it holds none; raises Damaged."""

    def unpacked_with(self, row: int) -> tuple[int, int] | None:
        """As of a Container."""
        return None


class RowContainer(Container):
    """The columns of a file by name."""

    def __init__(self, columns: Mapping[str, BytesColumn]):
        self._columns = columns

    def read(self, file: OpenFile, place: str) -> bytes:
        column, row = self._at(place)
        return column.read(file, row)

    def has(self, place: str) -> bool:
        try:
            self._at(place)
        except NoSuchPlace:
            return False
        return True

    def unpacked_with(self, place: str) -> tuple[int, int] | None:
        column, row = self._at(place)
        return column.unpacked_with(row)

    def places(self) -> list[str]:
        """Those of the first column of images, in the order of the rows."""
        name, column = next(iter(self._columns.items()), ("", None))
        return [] if column is None else [f"{name}/{row}" for row in range(column.num_rows)]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that hold images."""
        return tuple(self._columns)

    def num_rows(self, name: str) -> int:
        """Rows of a column of images."""
        return self._columns[name].num_rows

    def _at(self, place: str) -> tuple[BytesColumn, int]:
        name, _, number = place.rpartition("/")
        column = self._columns.get(name)
        if column is None or not (number.isascii() and number.isdigit()):
            names = ", ".join(map(repr, self._columns)) or "none"
            raise NoSuchPlace(f"no column of images of this name; columns of images: {names}")
        if not len(number) < 19 or int(number) >= column.num_rows:
            raise NoSuchPlace(f"no row {number}; the file has {column.num_rows:,} rows, from 0 on")
        return column, int(number)


class RangesColumn(BytesColumn):
    """Rows whose bytes lie in the file as they are."""

    def __init__(self, start_N: np.ndarray, size_N: np.ndarray):
        self._start_N, self._size_N = start_N, size_N

    @property
    def num_rows(self) -> int:
        return len(self._start_N)

    def read(self, file: OpenFile, row: int) -> bytes:
        size = int(self._size_N[row])
        return b"" if size == _NULL else file.image_at(int(self._start_N[row]), size)


# ---- which columns hold images ----


def bytes_path(field: pa.Field) -> tuple[str, ...] | None:
    """The way to the bytes below a column: () for a binary column, the names of the fields for a struct; None without bytes."""
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        return ()
    if pa.types.is_struct(field.type):
        for child in (BYTES_FIELD, "image"):  # datumaro's media: struct<..., image: struct<..., bytes, ...>>
            index = field.type.get_field_index(child)
            if index >= 0 and (below := bytes_path(field.type.field(index))) is not None:
                return (child, *below)
    return None


def image_columns(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Name and way to the bytes of each column that may hold images; structs first, since other things are binary too.

    Left out are names that would not be the same as a part of a path.
    """
    found = {field.name: below for field in schema if (below := bytes_path(field)) is not None and _is_plain(field.name)}
    return dict(sorted(found.items(), key=lambda item: not item[1]))


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        bool(name) and path.as_posix() == name and not path.is_absolute() and not {"..", "."} & set(path.parts) and "\0" not in name
    )


# ---- Arrow ----


def read_arrow(path: str) -> list[pa.RecordBatch]:
    """The record batches of an Arrow stream or file, mapped and not read; raises Damaged.

    The file must not be cut while they are in use, so they are used at once.
    """
    return _batches(_mapped(path))


def open_arrow(path: str) -> RowContainer:
    """Where the images of an Arrow stream or file lie; raises Damaged."""
    content = _mapped(path)
    batches = _batches(content)
    with reading(ARROW):
        columns = image_columns(batches[0].schema) if batches else {}
        return RowContainer({name: _ranges(batches, name, below, content) for name, below in columns.items()})


def _mapped(path: str) -> pa.Buffer:
    with reading(ARROW):
        return pa.memory_map(path).read_buffer()


def _batches(content: pa.Buffer) -> list[pa.RecordBatch]:
    source = pa.BufferReader(content)
    with reading(ARROW):
        if content.slice(0, min(len(ARROW_MAGIC), content.size)).to_pybytes() == ARROW_MAGIC:
            reader = pa.ipc.open_file(source)
            return [_checked(reader.get_batch(number)) for number in range(reader.num_record_batches)]
        batches = [_checked(batch) for batch in pa.ipc.open_stream(source)]
        stop = source.tell()
        end = content.slice(max(0, stop - len(_END_OF_STREAM)), min(stop, len(_END_OF_STREAM))).to_pybytes()
    if not end.endswith(_END_OF_STREAM) and not (end.endswith(b"\0\0\0\0") and stop == content.size):
        raise Damaged(
            "an Arrow file is cut short",
            got=f"the end of the file at byte {content.size:,}, without the end mark of a stream",
            expected="the whole file",
        )
    return batches


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same batch; raises ArrowInvalid for lengths that do not fit, on which other functions of pyarrow abort the process."""
    batch.validate(full=True)
    return batch


def _ranges(batches: Sequence[pa.RecordBatch], name: str, below: Iterable[str], content: pa.Buffer) -> RangesColumn:
    parts = [_range_of(child(batch.column(batch.schema.get_field_index(name)), below), content) for batch in batches]
    return RangesColumn(np.concatenate([start for start, _ in parts]), np.concatenate([size for _, size in parts]))


def child(array: Any, below: Iterable[str]) -> Any:
    """The array of a field of a field of a struct array; a row without the struct has none of its fields."""
    for field in below:
        array = array.flatten()[array.type.get_field_index(field)]
    return array


def child_without(table: pa.Table, columns: Iterable[str]) -> pa.Table:
    """The table with the names of the images instead of the images: of structs their field `path`, of other columns nothing."""
    for name in columns:
        number = table.schema.get_field_index(name)
        kind = table.schema.field(number).type
        if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            paths = [child(chunk, ("path",)) for chunk in table.column(number).chunks]
            structs = [pa.StructArray.from_arrays([path], ["path"]) for path in paths]
            table = table.set_column(number, name, pa.chunked_array(structs, pa.struct([("path", kind.field("path").type)])))
        else:
            table = table.remove_column(number)
    return table


def _range_of(array: Any, content: pa.Buffer) -> tuple[np.ndarray, np.ndarray]:
    """Where each value of a binary array starts in the file, and its size, -1 for none."""
    if len(array) > MAX_IMAGES:
        raise broken(ARROW, f"{len(array):,} rows, more than {MAX_IMAGES:,}")
    _, offsets, values = array.buffers()
    number = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    if not len(array) or offsets is None:
        return np.zeros(len(array), np.int64), np.full(len(array), _NULL if array.null_count else 0, np.int64)
    at = array.offset
    if offsets.size < (at + len(array) + 1) * number().itemsize:
        raise broken(ARROW, "offsets of fewer rows")
    offset_N = np.frombuffer(offsets, number)[at : at + len(array) + 1].astype(np.int64)
    size_N = np.diff(offset_N)
    num_bytes = 0 if values is None else values.size
    first = 0 if values is None else values.address - content.address
    if offset_N[0] < 0 or (size_N < 0).any() or offset_N[-1] > num_bytes:
        raise broken(ARROW, "rows outside their column")
    if num_bytes and not 0 <= first <= content.size - num_bytes:
        raise Damaged(
            "an Arrow file with compressed columns, in which no image can be found without unpacking all",
            got="compressed record batches",
            expected="uncompressed ones, as `save_to_disk` writes",
            next_step="write it again without compression; images are compressed already",
        )
    size_N[np.asarray(array.is_null())] = _NULL
    return first + offset_N[:-1], size_N


# ---- errors of pyarrow ----

ARROW, PARQUET = "an Arrow file", "a Parquet file"


@contextmanager
def reading(kind: str) -> Generator[None]:
    """Turns what pyarrow raises for a broken file into Damaged."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, IndexError, MemoryError) as error:
        raise broken(kind, str(error).split("\n")[0] or type(error).__name__) from error


def broken(kind: str, got: str) -> Damaged:
    """The error of a file of this kind."""
    return Damaged(f"{kind} is cut short or broken", got=got, expected=kind)
