"""Parquet files of images, read in place.

Uncompressed plain columns, as `data convert` and `datasets` 4 write, are read value by value: the values of a page are found on
its first use, and later ones cost one read. Of compressed or encoded columns the whole row group is unpacked, and the last ones are
kept in memory, up to a share of it. `benchmarks/stored_images.py` measures both.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from polytag.data.images.container import MAX_IMAGES, Damaged, OpenFile
from polytag.data.images.parquet_pages import DICTIONARY, PLAIN, Chunk, Page, chunks_of, pages_of, plain_values
from polytag.data.images.row_file import PARQUET, BytesColumn, RowContainer, broken, child, image_columns, reading
from polytag.machine import free_memory_bytes

MAX_ROW_GROUP_BYTES = 1 << 30
"""Of a row group that has to be unpacked whole."""

_SHARE_OF_MEMORY, _LEAST_KEPT_BYTES, _MOST_KEPT_BYTES = 4, 1 << 28, 1 << 32
_BATCH_ROWS = 32
_UNKNOWN, _NULL = -2, -1  # sizes


def open_parquet(path: str) -> RowContainer:
    """Where the images of a Parquet file lie; raises Damaged."""
    with reading(PARQUET), pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema
        columns = image_columns(file.schema_arrow)
        leaf_of = {schema.column(number).path: number for number in range(len(schema))}
        found: dict[str, BytesColumn] = {}
        for name, below in columns.items():
            leaf = ".".join((name, *below))
            if leaf not in leaf_of or schema.column(leaf_of[leaf]).max_repetition_level:
                continue
            level = schema.column(leaf_of[leaf]).max_definition_level
            chunks = chunks_of(OpenFile(path), leaf_of[leaf])
            found[name] = ParquetColumn(path, metadata, name=name, below=below, chunks=chunks, max_level=level)
    return RowContainer(found)


class ParquetColumn(BytesColumn):
    """A column of byte arrays. Thread-safe: a page or row group is read by one thread while others wait for it."""

    def __init__(self, path: str, metadata: Any, *, name: str, below: tuple[str, ...], chunks: list[Chunk], max_level: int):
        self._path, self._metadata, self._name, self._below, self._chunks = path, metadata, name, below, chunks
        self._max_level = max_level
        self._first_row_G = np.cumsum([0] + [chunk.num_values for chunk in chunks])
        if self._first_row_G[-1] != metadata.num_rows or not 0 <= metadata.num_rows <= MAX_IMAGES:
            raise Damaged(
                "a Parquet file is cut short or broken",
                got=f"{self._first_row_G[-1]:,} values of {metadata.num_rows:,} rows in column {name!r}",
                expected=f"as many values as rows, at most {MAX_IMAGES:,}",
            )
        self._pages: dict[int, tuple[list[Page], np.ndarray]] = {}  # of a row group: its pages, and the first row of each
        has_plain = any(chunk.is_plain for chunk in chunks)
        self._start_N = np.zeros(self.num_rows if has_plain else 0, np.int64)
        self._size_N = np.full(self.num_rows if has_plain else 0, _UNKNOWN, np.int64)
        self._lock = Lock()

    @property
    def num_rows(self) -> int:
        return int(self._first_row_G[-1])

    def unpacked_with(self, row: int) -> tuple[int, int] | None:
        group = self._group(row)
        chunk = self._chunks[group]
        return None if chunk.is_plain else (group, min(chunk.unpacked_bytes, MAX_ROW_GROUP_BYTES))

    def read(self, file: OpenFile, row: int) -> bytes:
        group = self._group(row)
        if not self._chunks[group].is_plain:
            return self._unpacked(file, group, row - int(self._first_row_G[group]))
        if self._size_N[row] == _UNKNOWN:
            with self._lock:
                if self._size_N[row] == _UNKNOWN:
                    self._find_values(file, group, row)
        size = int(self._size_N[row])
        return b"" if size == _NULL else file.image_at(int(self._start_N[row]), size)

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self._first_row_G, row, side="right")) - 1

    def _find_values(self, file: OpenFile, group: int, row: int) -> None:
        """Note where the values of a row's page lie."""
        chunk = self._chunks[group]
        if group not in self._pages:
            pages = list(pages_of(file, start=chunk.start, stop=chunk.stop, num_values=chunk.num_values))
            first_row_P = int(self._first_row_G[group]) + np.cumsum([0] + [page.num_values for page in pages])
            self._pages[group] = pages, first_row_P
        pages, first_row_P = self._pages[group]
        number = int(np.searchsorted(first_row_P, row, side="right")) - 1
        page = pages[number]
        if page.kind == DICTIONARY or page.encoding != PLAIN:
            raise broken(PARQUET, f"a page of encoding {page.encoding} in a column of plain ones")
        start_N, size_N = plain_values(file, page, max_level=self._max_level)
        rows = slice(int(first_row_P[number]), int(first_row_P[number]) + page.num_values)
        self._start_N[rows] = start_N  # before the sizes, which other threads look at
        self._size_N[rows] = size_N

    def _unpacked(self, file: OpenFile, group: int, row: int) -> bytes:
        key = (self, group)
        if (block := _KEPT.get(key)) is None:
            with self._lock:
                if (block := _KEPT.get(key)) is None:
                    block = self._unpack(file, group)
                    _KEPT.put(key, block)
        number = int(np.searchsorted(block.first_row_B, row, side="right")) - 1
        value = block.arrays[number][row - int(block.first_row_B[number])]
        return value.as_buffer().to_pybytes() if value.is_valid else b""

    def _unpack(self, file: OpenFile, group: int) -> "_Block":
        chunk = self._chunks[group]
        pages = pages_of(file, start=chunk.start, stop=chunk.stop, num_values=chunk.num_values)
        if (num_bytes := sum(page.unpacked_bytes for page in pages)) > MAX_ROW_GROUP_BYTES:
            raise _too_large(num_bytes)
        leaf = ".".join((self._name, *self._below))
        arrays: list[Any] = []
        num_bytes = 0
        with reading(PARQUET), pq.ParquetFile(self._path, metadata=self._metadata) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[leaf], use_threads=False):
                array = child(batch.column(0), self._below)
                num_bytes += array.nbytes
                if num_bytes > MAX_ROW_GROUP_BYTES:  # a dictionary makes many of one value
                    break
                arrays.append(array)
        if num_bytes > MAX_ROW_GROUP_BYTES:
            raise _too_large(num_bytes)
        first_row_B = np.cumsum([0] + [len(array) for array in arrays])
        if first_row_B[-1] != chunk.num_values:
            raise Damaged(
                "a Parquet file is cut short or broken", got=f"{first_row_B[-1]:,} rows", expected=f"{chunk.num_values:,}"
            )
        return _Block(arrays=arrays, first_row_B=first_row_B, num_bytes=num_bytes)


def _too_large(num_bytes: int) -> Damaged:
    return Damaged(
        "a Parquet file with row groups that are too large to find one image in",
        got=f"{num_bytes:,} bytes unpacked in one row group",
        expected=f"at most {MAX_ROW_GROUP_BYTES:,}",
        next_step="write it again with row_group_size=100, or with compression='none', use_dictionary=False",
    )


# ---- unpacked row groups ----


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """An unpacked row group: its rows in parts, and the first row of each."""

    arrays: list[Any]
    first_row_B: np.ndarray
    num_bytes: int


class _KeptBlocks:
    """The row groups that were used last, up to a quarter of the memory that was free at first, and to 4 GiB."""

    def __init__(self):
        self._blocks: OrderedDict[tuple[ParquetColumn, int], _Block] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    def get(self, key: tuple[ParquetColumn, int]) -> _Block | None:
        with self._lock:
            if (block := self._blocks.get(key)) is not None:
                self._blocks.move_to_end(key)
            return block

    def put(self, key: tuple[ParquetColumn, int], block: _Block) -> None:
        with self._lock:
            self._blocks[key] = block
            self._num_bytes += block.num_bytes
            while len(self._blocks) > 1 and self._num_bytes > max_kept_bytes():
                self._num_bytes -= self._blocks.popitem(last=False)[1].num_bytes


_KEPT = _KeptBlocks()


@cache
def max_kept_bytes() -> int:
    """Memory that unpacked row groups may take."""
    return int(min(_MOST_KEPT_BYTES, max(_LEAST_KEPT_BYTES, free_memory_bytes() / _SHARE_OF_MEMORY)))
