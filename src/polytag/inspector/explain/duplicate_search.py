"""Searches the images of a run and its data set for duplicates, in the background, and caches what it finds."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import Event, Lock, Thread
from typing import final

import numpy as np

from polytag.contracts import ABSENT, PRESENT
from polytag.data.cache.image_cache import images_key
from polytag.data.cache.store import CHECKED, make_room, store_folder
from polytag.data.duplicates.groups import DatasetImage, duplicate_groups
from polytag.data.image_contents import ImageContent, read_contents
from polytag.errors import RunError
from polytag.files import write_text
from polytag.inspector.browse.dataset_rows import dataset_rows
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.job_queue import JobQueue
from polytag.machine import num_cores
from polytag.parsing import Malformed, parse_json, read_small_text
from polytag.path_list import PathList
from polytag.plain import WrongValue, from_plain

AT_ONCE = 20_000
"""A search of up to so many images begins with the first visit; a longer one waits to be asked for."""

_WHAT = "duplicates of the inspector, 1"  # changes with what a cached file holds


@dataclass(frozen=True, kw_only=True)
class DuplicateRows:
    """Images that show one image: their rows in `SearchedImages`.

    is_exact      whether all have the same bytes
    bits          largest number of bits, of the 64-bit hash, in which two linked versions differ
    orientation   ", mirrored", ", turned", both, or ""
    """

    rows: tuple[int, ...]
    is_exact: bool
    bits: int
    orientation: str


@dataclass(frozen=True, kw_only=True)
class FoundDuplicates:
    """The result of a search, of which a cached file holds the fields. Each image is in one group at most."""

    groups: tuple[DuplicateRows, ...]
    num_images: int
    num_unread: int
    num_flat: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchedImages:
    """M images: those of the data set, or those of the run where there is none.

    names        of the classes of target_MC
    data_row_M   rows in the data set, or -1
    run_row_M    rows in the run, or -1
    """

    names: tuple[str, ...]
    ids: Sequence[str]
    split_M: Sequence[str]
    paths: Sequence[str]
    target_MC: np.ndarray
    data_row_M: np.ndarray
    run_row_M: np.ndarray

    @classmethod
    def of(cls, inspection: Inspection) -> "SearchedImages":
        data, predictions = inspection.data, inspection.predictions
        row_N = dataset_rows(inspection)
        if data is None or not (row_N >= 0).any():
            num = len(predictions)
            return cls(
                names=predictions.label_set.names,
                ids=predictions.ids,
                split_M=(inspection.split,) * num,
                paths=predictions.image_paths,
                target_MC=predictions.target_NC,
                data_row_M=np.full(num, -1),
                run_row_M=np.arange(num),
            )
        run_row_M = np.full(len(data), -1)
        run_row_M[row_N[row_N >= 0]] = np.flatnonzero(row_N >= 0)
        return cls(
            names=data.label_set.names,
            ids=data.ids,
            split_M=data.split_N,
            paths=PathList(data.paths).texts,
            target_MC=data.target_NC,
            data_row_M=np.arange(len(data)),
            run_row_M=run_row_M,
        )

    def __len__(self) -> int:
        return len(self.ids)


class _Stopped(Exception):
    """Ends a search that is no longer wanted."""


@final
class DuplicateSearch:
    """Finds groups of exact and near duplicates in a thread that yields to the job queue. Safe to call from many threads.

    num_done   images read so far
    failure    why the last search ended without a result, or ""
    """

    def __init__(self, inspection: Inspection, jobs: JobQueue):
        self._inspection, self._queue = inspection, jobs
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None
        self._found: FoundDuplicates | None = None
        self._is_stopped = False
        self.num_done = 0
        self.failure = ""

    @cached_property
    def images(self) -> SearchedImages:
        """The images that are compared."""
        return SearchedImages.of(self._inspection)

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def found(self) -> FoundDuplicates | None:
        """Return the groups as far as they are known: of a search that is done, or of an earlier one of the same files."""
        with self._lock:
            if self._found is None and self._thread is None:
                self._found = self._cached
            return self._found

    def leaked_rows(self) -> list[int]:
        """Return the rows of the run with a duplicate in training, as far as that is known without reading many files."""
        data = self._inspection.data
        num = len(self._inspection.predictions) if data is None else len(data)
        if self._found is None and num > AT_ONCE:
            return []
        return leaked_rows(self.images, self.found(), split=self._inspection.split)

    def start(self, *, is_asked_for: bool = False) -> None:
        """Begin to search, unless it is done or running. A visit alone begins no long search, and none that was stopped."""
        with self._lock:
            if self._found is not None or self._thread is not None:
                return
            if not is_asked_for and (self._is_stopped or len(self.images) > AT_ONCE):
                return
            self._is_stopped, self.num_done, self.failure = False, 0, ""
            self._stop.clear()
            self._thread = Thread(target=self._run, name="polytag-duplicates", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End a running search, and wait until it has ended."""
        with self._lock:
            self._is_stopped, thread = True, self._thread
            self._stop.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        found, failure = None, ""
        self._queue.begin_background()
        try:
            found = self._searched()
        except _Stopped:
            pass
        except Exception as error:
            failure = str(error) or type(error).__name__
        finally:
            self._queue.end_background()
        with self._lock:
            self._found, self.failure, self._thread = found, failure, None
            self._is_stopped = self._is_stopped or bool(failure)

    def _searched(self) -> FoundDuplicates:
        def on_image() -> None:
            self.num_done += 1
            if self._stop.is_set():
                raise _Stopped
            self._queue.yield_turn(self._stop)

        contents = read_contents(self.images.paths, near=True, num_threads=max(1, num_cores() - 1), on_image=on_image)
        found = found_duplicates(self.images, [contents[path] for path in self.images.paths])
        with suppress(OSError, RunError):  # a cache that cannot be written costs time only
            text = json.dumps(asdict(found))
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if make_room(len(text)):
                write_text(self._file, text)
        return found

    @cached_property
    def _file(self) -> Path:
        return store_folder() / f"{images_key([Path(path) for path in self.images.paths], _WHAT)}{CHECKED}"

    @cached_property
    def _cached(self) -> FoundDuplicates | None:
        """The result of an earlier search of the same files; None where there is none, or a damaged one."""
        try:
            found = from_plain(FoundDuplicates, parse_json(read_small_text(self._file)))
        except (OSError, Malformed, WrongValue):
            return None
        is_valid = all(0 <= row < len(self.images) for group in found.groups for row in group.rows)
        return found if is_valid and found.num_images == len(self.images) else None


def found_duplicates(images: SearchedImages, content_M: Sequence[ImageContent]) -> FoundDuplicates:
    """Group images of the same bytes and of near ones, by what was read of each file."""
    key_M = [content.sha256 or f"{row} {path}" for row, (content, path) in enumerate(zip(content_M, images.paths, strict=True))]
    numbered = [DatasetImage(id=str(row), split="", path="") for row in range(len(images))]
    copies = {key: content.copy for key, content in zip(key_M, content_M, strict=True) if content.copy}
    near, num_flat = duplicate_groups(numbered, content_N=key_M, copies=copies)
    groups = [
        DuplicateRows(
            rows=tuple(int(image.id) for image in group.images), is_exact=False, bits=group.bits, orientation=group.orientation
        )
        for group in near
    ]
    in_near = {row for group in groups for row in group.rows}
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(key_M):
        if row not in in_near:
            rows_of.setdefault(key, []).append(row)
    groups += [DuplicateRows(rows=tuple(rows), is_exact=True, bits=0, orientation="") for rows in rows_of.values() if len(rows) > 1]
    return FoundDuplicates(
        groups=tuple(sorted(groups, key=lambda group: group.rows)),
        num_images=len(images),
        num_unread=sum(bool(content.reason) for content in content_M),
        num_flat=num_flat,
    )


def contradicted_columns(target_GC: np.ndarray) -> list[int]:
    """Return the classes that some images of a group are labelled with, and others without."""
    return np.flatnonzero((target_GC == PRESENT).any(axis=0) & (target_GC == ABSENT).any(axis=0)).tolist()


def leaked_rows(images: SearchedImages, found: FoundDuplicates | None, *, split: str) -> list[int]:
    """Return the rows of the run whose image has a duplicate in the training split; none where the run is of that split."""
    if found is None or split == "train":
        return []
    return sorted(
        int(images.run_row_M[row])
        for group in found.groups
        if any(images.split_M[row] == "train" for row in group.rows)
        for row in group.rows
        if images.split_M[row] != "train" and images.run_row_M[row] >= 0
    )
