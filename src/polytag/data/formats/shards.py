"""Data sets whose images are inside their files: Hugging Face's Parquet and Arrow shards, webdataset's tar files, datumaro's Arrow.

The rows of each shard become a table whose image column names places inside it (`data/images/stored.py`), so labels may be lists,
texts or a column a class, as in any table.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, UNKNOWN, Dataset, LabelSet
from polytag.data.formats.listing import child_folders, child_names, class_order, split_of
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.rows import Table
from polytag.data.formats.table_columns import Columns
from polytag.data.formats.tables import TableFile, read_tables
from polytag.errors import AnnotationError, DataError

IMAGE, LABELS = "image", "labels"
"""The columns of the table that a shard becomes."""

UNKNOWN_LABELS = "unknown_labels"
"""The column, or the key of a sample, in which `polytag data convert` names the classes that are unknown for an image."""

_NUMBERED = re.compile(r"(?P<name>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of images, and the split that its name or folder gives; "" for none."""

    path: Path
    split: str


@dataclass(frozen=True, kw_only=True)
class ShardRows:
    """What a shard holds.

    columns   those of a table, with the paths of the images in the column `image`
    ids       the name of each image, "" where the shard gives none
    classes   the declared ones, in their order; () where none are declared
    unknown   the classes of each image that are said to be unknown; () where none are
    """

    columns: dict[str, Sequence[object]]
    ids: Sequence[str]
    classes: tuple[str, ...] = ()
    unknown: Sequence[Sequence[str]] = ()


def shards_below(folder: Path, suffix: str) -> list[Shard]:
    """The shards of a data set: in the folder, in `data`, or in folders named after splits; sorted. [] where there are none.

    Raises DataError for several data sets side by side, as of a repository with several configurations.
    """
    for place in (folder, folder / "data"):
        if found := _files(place, suffix):
            return [shard_of(path) for path in found]
    inside = {child: found for child in map(folder.joinpath, child_folders(folder)) if (found := _files(child, suffix))}
    if len(inside) > 1 and not all(split_of(child.name) for child in inside):
        raise DataError(
            "several data sets in one folder",
            where=str(folder),
            got=", ".join(child.name for child in inside),
            expected="the shards of one data set",
            next_step=f"give the folder of one, such as {next(iter(inside))}",
        )
    return [shard_of(path) for found in inside.values() for path in found]


def read_shards(
    shards: Sequence[Shard],
    rows_of: Callable[[Shard], ShardRows],
    *,
    root: Path,
    columns: Columns,
    source: str,
    context: ReadingContext,
) -> Dataset:
    """The data set of all shards, in their order; raises AnnotationError with shard and row for what cannot be read."""
    _require_all(shards, context)
    context.log.found("images", f"inside {shards[0].path.name}" + (f" and {len(shards) - 1} more" if len(shards) > 1 else ""))
    rows = [rows_of(shard) for shard in shards]
    tables = [
        Table(path=shard.path, columns=each.columns, line_N=range(len(each.ids))) for shard, each in zip(shards, rows, strict=True)
    ]
    classes = next((each.classes for each in rows if each.classes), ())
    for shard, each in zip(shards, rows, strict=True):
        if each.classes != classes:
            raise AnnotationError(
                "two shards declare different classes",
                where=str(shard.path),
                got=", ".join(each.classes[:10]) or "none",
                expected=", ".join(classes[:10]),
            )
    dataset = read_tables(
        [TableFile(path=shard.path, split=shard.split, image_folders=(str(shard.path.parent), str(root))) for shard in shards],
        tables,
        root=root,
        columns=replace(columns, image=columns.image or IMAGE),
        source=source,
        ids_as_listed=True,
        context=replace(context, further=(*context.further, *classes)),
    )
    return _with_ids(_in_order(_with_unknown(dataset, rows), classes), shards, rows)


def _with_unknown(dataset: Dataset, rows: Sequence[ShardRows]) -> Dataset:
    """The data set with the labels unknown that the shards say are."""
    unknown_of = {
        str(image): names for each in rows if each.unknown for image, names in zip(each.columns[IMAGE], each.unknown, strict=True)
    }
    if not any(unknown_of.values()):
        return dataset
    names = list(dict.fromkeys((*dataset.label_set, *(name for names in unknown_of.values() for name in names))))
    column = {name: c for c, name in enumerate(names)}
    target_NC = np.full((len(dataset), len(names)), ABSENT, np.int8)
    target_NC[:, : len(dataset.label_set)] = dataset.target_NC
    for row, image in enumerate(dataset.ids):
        target_NC[row, [column[name] for name in unknown_of.get(image, ())]] = UNKNOWN
    return replace(dataset, target_NC=target_NC, label_set=LabelSet(names=tuple(names)))


def _in_order(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The classes in their declared order, any others after them."""
    if not classes:
        return dataset
    names = (*classes, *(name for name in class_order(dataset.label_set.names) if name not in classes))
    column = {name: c for c, name in enumerate(dataset.label_set.names)}
    return replace(dataset, target_NC=dataset.target_NC[:, [column[name] for name in names]], label_set=LabelSet(names=names))


def _with_ids(dataset: Dataset, shards: Sequence[Shard], rows: Sequence[ShardRows]) -> Dataset:
    """The names of the images as ids where each split has each once; else with the shard's name in front, or its row."""
    place_of = {
        str(image): (shard.path.stem, name, row)
        for shard, each in zip(shards, rows, strict=True)
        for row, (image, name) in enumerate(zip(each.columns[IMAGE], each.ids, strict=True))
    }
    places = [place_of.get(id, ("", id, 0)) for id in dataset.ids]
    ids = [name for _, name, _ in places]
    if not _are_distinct(ids, dataset):
        ids = [f"{shard}/{name}" for shard, name, _ in places]
    if not _are_distinct(ids, dataset):
        ids = [f"{shard}/{row}" for shard, _, row in places]
    return replace(dataset, ids=tuple(ids))


def _are_distinct(ids: Sequence[str], dataset: Dataset) -> bool:
    return all(ids) and len(set(zip(dataset.split_N, ids, strict=True))) == len(ids)


def _require_all(shards: Sequence[Shard], context: ReadingContext) -> None:
    """Doubts a set of shards that their own names say is not whole."""
    numbers: dict[tuple[str, int], set[int]] = {}
    for shard in shards:
        if found := _NUMBERED.fullmatch(shard.path.stem):
            numbers.setdefault((found["name"], int(found["count"])), set()).add(int(found["number"]))
    for (name, count), there in numbers.items():
        if len(there) < count:
            context.log.doubt(
                AnnotationError(
                    "some shards are missing",
                    where=str(shards[0].path.parent),
                    got=f"{len(there)} of {count} shards of {name!r}",
                    expected="all of them",
                    next_step="fetch the others; or read those that are there with --yes",
                )
            )


def shard_of(path: Path) -> Shard:
    """A shard, with the split that its own name gives, or its folder's."""
    numbered = _NUMBERED.fullmatch(path.stem)
    name = numbered["name"] if numbered else re.split(r"[-_.]?\d", path.stem)[0]
    split = split_of(name) or split_of(name.rpartition("-")[2]) or split_of(path.parent.name) or ""
    return Shard(path=path, split=split or (name if numbered and name not in ("data", "shard") else ""))


def _files(folder: Path, suffix: str) -> list[Path]:
    with suppress(DataError):  # a folder beside the data that cannot be read
        return [folder / name for name in child_names(folder) if name.lower().endswith(suffix) and (folder / name).is_file()]
    return []
