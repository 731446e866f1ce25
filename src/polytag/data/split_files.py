"""`--split-file`: files that say which images are in which split, such as the official lists of a data set or somebody's folds."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from polytag.contracts import Dataset
from polytag.data.formats.column_names import ID_COLUMNS, first_of
from polytag.data.formats.listing import read_text, split_of
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.rows import CSV_SUFFIXES, JSONL_SUFFIXES, PARQUET_SUFFIXES, cells_of, read_table
from polytag.errors import AnnotationError, UsageError
from polytag.text import counted

_TABLES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES, *JSONL_SUFFIXES)
_COLUMNS = ("split", "subset", "partition", "fold")
_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: PurePosixPath(name).name,
    lambda name: PurePosixPath(name).stem,
)  # a list may leave out folders, and endings


def with_split_files(dataset: Dataset, entries: Sequence[str], *, column: str, log: ReadingLog) -> Dataset:
    """The data set with the splits that files give its images; images that none names keep their own.

    An entry is `NAME=FILE`, a text file with an image per line, which are the split NAME; or `FILE`, such a list whose own name is
    that of a split, or a table with a column of image ids and one of splits, by default the first of the documented names. Images
    are named by id, or without their folders, or without their endings too. Raises UsageError for an entry that cannot be
    understood, AnnotationError, with file and line, for a file that cannot be, an image in two splits, and where none is known.
    """
    split_N = list(dataset.split_N)
    given: dict[int, str] = {}
    for entry in entries:
        name, path = parse_entry(entry)
        listed = _read_entry(path, name=name, column=column)
        row_of = _spelled(dataset.ids, [image for image, _, _ in listed], where=str(path))
        unknown = 0
        for image, split, where in listed:
            row = row_of(image)
            if row is None:
                unknown += 1
                continue
            if given.setdefault(row, split) != split:
                raise AnnotationError(
                    "an image is listed in two splits",
                    where=where,
                    got=f"{image!r} in {split!r}",
                    expected=f"in {given[row]!r} alone",
                )
            split_N[row] = split
        if unknown:
            log.note(f"{counted(unknown, 'names')} in {path.name} {'is' if unknown == 1 else 'are'} of no image of the data")
    rest = len(dataset) - len(given)
    if rest:
        verbs = "is in no split file, and keeps its" if rest == 1 else "are in no split file, and keep their"
        log.note(f"{counted(rest, 'images')} {verbs} own split")
    log.found("split", ", ".join(entries))
    return replace(dataset, split_N=tuple(split_N))


def parse_entry(entry: str) -> tuple[str, Path]:
    """ "train=lists/train.txt" as the split and the file; the split is "" for an entry without one."""
    name, sign, path = entry.partition("=")
    if not sign or os.path.exists(entry):
        name, path = "", entry
    if not path or (sign and not name and path != entry):
        raise UsageError("a split file cannot be understood", where="--split-file", got=repr(entry), expected="FILE or NAME=FILE")
    return split_of(name) or name.strip(), Path(os.path.abspath(path))


def absolute_entry(entry: str) -> str:
    """The entry with an absolute path, for a run that is resumed from another folder."""
    name, path = parse_entry(entry)
    return f"{name}={path}" if name else str(path)


def _read_entry(path: Path, *, name: str, column: str) -> list[tuple[str, str, str]]:
    """(image, split, file and line) of each line."""
    if path.suffix.lower() in _TABLES:
        return _read_split_table(path, column=column)
    name = name or split_of(path.stem) or ""
    if not name:
        raise UsageError(
            "a list without the name of its split",
            where="--split-file",
            got=str(path),
            expected=f"NAME={path}, such as train={path}; or a table that ends in {', '.join(_TABLES)}",
        )
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [(line.strip(), name, f"{path}:{number}") for number, line in lines if line.strip()]


def _read_split_table(path: Path, *, column: str) -> list[tuple[str, str, str]]:
    table = read_table(path)
    there = list(table.columns)
    key, split = first_of(there, ID_COLUMNS), column or first_of(there, _COLUMNS)
    if not key or split not in there:
        raise AnnotationError(
            "the table of splits has no column of images" if not key else "the table has no column of splits",
            where=f"{path}:1",
            got=", ".join(there[:20]),
            expected="one of " + ", ".join(ID_COLUMNS if not key else (column,) if column else _COLUMNS),
            next_step="" if not key else "name it with --split-column",
        )
    names, splits = cells_of(table, key), cells_of(table, split)
    return [
        (name, split_of(value) or value, table.where(row))
        for row, (name, value) in enumerate(zip(names, splits, strict=True))
        if name and value
    ]


def _spelled(ids: Sequence[str], listed: Sequence[str], *, where: str) -> Callable[[str], int | None]:
    """Finds the row of a listed name, by the first spelling in which most of them are ids, each of one image."""
    best: tuple[int, Callable[[str], str], dict[str, int]] | None = None
    for spelled in _SPELLINGS:
        row_of: dict[str, int] = {}
        for row, name in enumerate(ids):
            if row_of.setdefault(spelled(name), row) != row:
                break  # two images of one name
        else:
            number = sum(spelled(name.replace("\\", "/")) in row_of for name in listed)
            if number and (best is None or number > best[0]):
                best = (number, spelled, row_of)
    if best is None:
        raise AnnotationError(
            "no listed image is in the data",
            where=where,
            got=", ".join(map(repr, listed[:3])) or "an empty list",
            expected=f"ids such as {', '.join(map(repr, ids[:3]))}",
        )
    _, spelling, rows = best
    return lambda name: rows.get(spelling(name.replace("\\", "/")))
