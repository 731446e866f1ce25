"""Columns that say which split an image is in: names, flags such as `is_valid`, and CelebA's numbers."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from polytag.data.formats.class_columns import JointColumns, facts_of, is_blank_cell, target_of
from polytag.data.formats.column_names import SPLIT_COLUMNS, first_of, ignoring, joined_name, rank_of_labels
from polytag.data.formats.listing import split_of
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.rows import Table
from polytag.errors import AnnotationError

_SPLIT_FLAG = re.compile(r"(is)?(train|training|val|valid|validation|test|testing)")


def split_columns(all_of: JointColumns, rest: Sequence[str]) -> tuple[str, ...]:
    """The split column by its name, by what its cells are, or as one flag for each split."""
    known = first_of(rest, SPLIT_COLUMNS[:-1])
    if known:
        return (known,)
    flags = [name for name in _flags(all_of, rest) if joined_name(name).startswith("is")]
    if flags:
        return tuple(flags)
    labels = [name for name in rest if rank_of_labels(name) is not None]
    for name in rest:
        if (len(labels) > 1 or name not in labels) and _are_splits(all_of.first_cells(name)):
            return (name,)
    return ()


def doubt_split_flags(all_of: JointColumns, rest: Sequence[str], *, log: ReadingLog) -> None:
    """A doubt about columns of 1 and 0 called `train` or the like, which beside labels in cells may be the split."""
    if flags := _flags(all_of, rest):
        log.doubt(
            AnnotationError(
                "a column of 1 and 0 that may be the split",
                where=f"{all_of.tables[0].path}:1",
                got=", ".join(map(repr, flags)),
                expected=f"a column called {SPLIT_COLUMNS[0]!r}, or {'is_' + flags[0]!r}",
                next_step=f"take it as the split with --split-column {flags[0]!r}; or leave it out with " + ignoring(flags),
            )
        )


def _flags(all_of: JointColumns, names: Sequence[str]) -> list[str]:
    return [name for name in names if _SPLIT_FLAG.fullmatch(joined_name(name)) and all_of.facts(name).is_class]


def _are_splits(cells: Iterator[object]) -> bool:
    first = next(cells, None)
    return first is not None and all(isinstance(cell, str) and split_of(cell) for cell in chain((first,), cells))


def splits_of(table: Table, names: Sequence[str], *, log: ReadingLog) -> list[str]:
    """Split names, the usual ones as train, val and test; flags such as fastai's `is_valid`, and CelebA's numbers, become these."""
    are_flags = all(_SPLIT_FLAG.fullmatch(joined_name(name)) for name in names)
    if are_flags and (joined_name(names[0]).startswith("is") or facts_of(table.columns[names[0]]).is_class):
        return _splits_of_flags(table, names, log=log)
    cells = table.columns[names[0]]
    texts = ["" if is_blank_cell(cell) else str(cell).strip() for cell in cells]
    different = set(texts)
    known = {text: split_of(text) or text for text in different}
    numbers = {"0": "train", "1": "val", "2": "test"}
    if joined_name(names[0]) == "partition" and different - {""} <= {*numbers, *(f"{number}.0" for number in numbers)}:
        known = {text: numbers.get(text[:1], "") for text in different}
        log.found("partition", "0 is train, 1 is val, 2 is test, as in CelebA")
    return [known[text] for text in texts]


def _splits_of_flags(table: Table, names: Sequence[str], *, log: ReadingLog) -> list[str]:
    splits = [split_of(joined_name(name).removeprefix("is")) or "" for name in names]
    other = {"train": "val"}.get(splits[0], "train") if len(names) == 1 else ""
    if len(names) == 1:
        log.found("split flag", f"{names[0]!r}: 1 is {splits[0]}, 0 is {other}")
    found: list[str] = []
    for row in range(len(table)):
        targets = [target_of(table.columns[name][row]) for name in names]
        chosen = {split for split, target in zip(splits, targets, strict=True) if target == 1}
        if len(chosen) > 1 or None in targets:
            raise AnnotationError(
                "the split of an image cannot be told",
                where=table.where(row),
                got=", ".join(f"{table.columns[name][row]!r} in {name!r}" for name in names),
                expected="1 in one of these columns, and 0 in the others",
                next_step="correct the row, or name another column with --split-column",
            )
        found.append(chosen.pop() if chosen else other if 0 in targets else "")
    return found
