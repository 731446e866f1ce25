"""The end that annotation formats share: a record for each image becomes the checked Dataset.

A format that lists images with their labels, in any file, only describes how its file is read into records. Shapes: N images,
C classes, L labels that records name.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import UNSAID, class_order, relative_id, require_classes, split_of
from polytag.data.formats.reading_log import ReadingLog
from polytag.errors import AnnotationError
from polytag.text import nearest


@dataclass(frozen=True, kw_only=True)
class ReadingContext:
    """What every reader receives.

    index     finds the images
    log       collects what was taken as what
    further   classes that the data set has even where no label names them
    unsaid    the target of a class that an annotation does not name: ABSENT, or UNKNOWN
    """

    index: FileIndex
    log: ReadingLog
    further: Sequence[str] = ()
    unsaid: int = ABSENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One image of an annotation file, as its tool wrote it.

    image     the image's name; the id, unless `id` gives another
    where     file and line, for messages
    present, absent, unknown   classes; present outweighs unknown, and both outweigh absent
    others    the target of every class that the record does not name: ABSENT, UNKNOWN, or UNSAID, as the options say
    path      the image's file, where no search is needed
    """

    image: str
    where: str
    present: Sequence[str] = ()
    absent: Sequence[str] = ()
    unknown: Sequence[str] = ()
    others: int = UNSAID
    split: str = ""
    id: str = ""
    group: str = ""
    path: Path | None = None


def dataset_of(
    records: Iterable[Record],
    *,
    source: str,
    context: ReadingContext,
    folders: Sequence[str] = (),
    declared: Sequence[str] = (),
    id_root: Path | None = None,
    join: bool = False,
) -> Dataset:
    """The data set of these records, in their order.

    Images are searched in `folders`. `declared` are the classes in the order of the annotations; without them, the classes are
    those that records name, in alphabetical order. Ids are the names of the images, or with `id_root` their paths relative to it.
    With `join`, the records of one image in one split are one row; else the second is refused.
    Raises AnnotationError, with file and line, for an image that does not exist or is listed twice, and for an undeclared class.
    """
    rows = _Rows(source=source, declared=declared, known=frozenset(declared))
    for record in records:
        key = (record.split, record.id or record.image)
        row = rows.row_of.get(key)
        if row is None:
            path = record.path or context.index.require(record.image, folders, where=record.where)
            rows.add(key, record, path=path, id=record.id or _id_of(record, path, id_root))
        elif not join:
            raise AnnotationError(
                "an image is listed twice",
                where=record.where,
                got=f"{record.image!r}, first in {rows.where_N[row]}",
                expected="every image once",
                next_step="join the labels of an image into one entry",
            )
        else:
            rows.label(row, record)
    return rows.dataset(context)


def with_folder_splits(dataset: Dataset, context: ReadingContext) -> Dataset:
    """The data set with the splits of its images' folders, where nothing else names a split.

    Only where each id has one folder with the name of a split, and there are two splits or more.
    """
    if any(dataset.split_N):
        return dataset
    found_N = [{split for part in id.split("/")[:-1] if (split := split_of(part))} for id in dataset.ids]
    if any(len(found) != 1 for found in found_N) or len(set.union(set[str](), *found_N)) < 2:
        return dataset
    context.log.found("split", "the folders of the images")
    return replace(dataset, split_N=tuple(split for found in found_N for split in found))


def _id_of(record: Record, path: Path, id_root: Path | None) -> str:
    return relative_id(path, id_root) if id_root else record.image.replace("\\", "/").removeprefix("./")


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows so far. Labels are L numbers of a row, a class and a target, because the classes are known at the end only."""

    source: str
    declared: Sequence[str]
    known: frozenset[str]  # the declared ones
    row_of: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    ids: list[str] = field(default_factory=list[str])
    paths: list[Path] = field(default_factory=list[Path])
    split_N: list[str] = field(default_factory=list[str])
    group_N: list[str] = field(default_factory=list[str])
    where_N: list[str] = field(default_factory=list[str])
    others_N: "array[int]" = field(default_factory=lambda: array("b"))
    code_of: dict[str, int] = field(default_factory=dict[str, int])
    row_L: "array[int]" = field(default_factory=lambda: array("q"))
    code_L: "array[int]" = field(default_factory=lambda: array("q"))
    target_L: "array[int]" = field(default_factory=lambda: array("b"))

    def add(self, key: tuple[str, str], record: Record, *, path: Path, id: str) -> None:
        self.row_of[key] = len(self.ids)
        self.ids.append(id)
        self.paths.append(path)
        self.split_N.append(record.split)
        self.group_N.append(record.group)
        self.where_N.append(record.where)
        self.others_N.append(record.others)
        self.label(len(self.ids) - 1, record)

    def label(self, row: int, record: Record) -> None:
        for target, names in ((ABSENT, record.absent), (UNKNOWN, record.unknown), (PRESENT, record.present)):
            for name in names:
                if self.declared and name not in self.known:
                    raise AnnotationError(
                        "a class that the annotations do not declare",
                        where=record.where,
                        got=repr(name) + nearest(name, self.declared),
                        expected="one of " + ", ".join(self.declared[:20]) + (", ..." if len(self.declared) > 20 else ""),
                    )
                self.row_L.append(row)
                self.code_L.append(self.code_of.setdefault(name, len(self.code_of)))
                self.target_L.append(target)

    def dataset(self, context: ReadingContext) -> Dataset:
        names = (*self.declared, *(name for name in context.further if name not in self.known))
        names = names if self.declared else class_order({*self.code_of, *context.further})
        require_classes(names, where=Path(self.source.partition(" ")[2]))
        column = {name: c for c, name in enumerate(names)}
        column_of_code = np.array([column[name] for name in self.code_of], np.int64)
        row_L, target_L = np.asarray(self.row_L, np.int64), np.asarray(self.target_L, np.int8)
        column_L = column_of_code[np.asarray(self.code_L, np.int64)] if len(self.code_L) else np.zeros(0, np.int64)
        others_N = np.asarray(self.others_N, np.int8)
        target_NC = np.repeat(np.where(others_N == UNSAID, context.unsaid, others_N)[:, None].astype(np.int8), len(names), axis=1)
        for target in (ABSENT, UNKNOWN, PRESENT):  # the later ones outweigh the earlier ones
            chosen_L = target_L == target
            target_NC[row_L[chosen_L], column_L[chosen_L]] = target
        return Dataset(
            ids=tuple(self.ids),
            paths=tuple(self.paths),
            target_NC=target_NC,
            split_N=tuple(self.split_N),
            label_set=LabelSet(names=names),
            source=self.source,
            group_N=tuple(self.group_N),
        )
