"""Corrections: reviewed labels that replace the labels of a data set.

An image id may be in two splits, so a correction names the split; "" is for ids in one split only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polytag.contracts import Dataset
from polytag.errors import DataError

_NUM_NAMED = 3  # images or classes that a message names


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The correct label of an image and class: PRESENT, ABSENT or UNKNOWN."""

    split: str
    image_id: str
    class_name: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """A label of the data set before and after its correction; `split` is the image's own."""

    split: str
    image_id: str
    class_name: str
    before: int
    after: int


def apply_corrections(dataset: Dataset, corrections: Sequence[Correction]) -> tuple[Dataset, tuple[Change, ...]]:
    """The data set with these labels, and the changed ones, in the data set's order of images and classes.

    Raises DataError for an unknown image or class, an id in several splits where the correction names none, and two corrections
    that disagree.
    """
    row_of, rows_of_id = _rows(dataset)
    column_of = {name: column for column, name in enumerate(dataset.label_set)}
    _require_known(dataset, corrections, row_of=row_of, rows_of_id=rows_of_id)
    label_of: dict[tuple[int, int], int] = {}
    for each in corrections:
        row = row_of.get((each.split, each.image_id))
        cell = (rows_of_id[each.image_id][0] if row is None else row, column_of[each.class_name])
        if label_of.setdefault(cell, each.label) != each.label:
            raise DataError(
                "two corrections of one label disagree",
                where=dataset.source,
                got=f"{label_of[cell]} and {each.label} for class {each.class_name!r} of {each.image_id!r}",
                expected="one correction per label",
            )
    target_NC = dataset.target_NC.copy()
    changes: list[Change] = []
    for (row, column), label in sorted(label_of.items()):
        before = int(target_NC[row, column])
        if label != before:
            target_NC[row, column] = label
            changes.append(
                Change(
                    split=dataset.split_N[row],
                    image_id=dataset.ids[row],
                    class_name=dataset.label_set.names[column],
                    before=before,
                    after=label,
                )
            )
    return replace(dataset, target_NC=target_NC), tuple(changes)


def _rows(dataset: Dataset) -> tuple[dict[tuple[str, str], int], dict[str, list[int]]]:
    row_of = {key: row for row, key in enumerate(zip(dataset.split_N, dataset.ids, strict=True))}
    rows_of_id: dict[str, list[int]] = {}
    for row, name in enumerate(dataset.ids):
        rows_of_id.setdefault(name, []).append(row)
    return row_of, rows_of_id


def _require_known(
    dataset: Dataset,
    corrections: Sequence[Correction],
    *,
    row_of: dict[tuple[str, str], int],
    rows_of_id: dict[str, list[int]],
) -> None:
    classes = [repr(name) for name in dict.fromkeys(each.class_name for each in corrections) if name not in dataset.label_set.names]
    if classes:
        raise DataError(
            f"{len(classes):,} corrected {'class is' if len(classes) == 1 else 'classes are'} not in the data set",
            where=dataset.source,
            got=_first(classes),
            expected="one of " + _first(list(dataset.label_set)),
            next_step="give the data set that was reviewed",
        )
    images = dict.fromkeys((each.split, each.image_id) for each in corrections)
    unknown = [_named(*key) for key in images if key not in row_of and (key[0] or key[1] not in rows_of_id)]
    if unknown:
        raise DataError(
            f"{len(unknown):,} corrected {'image is' if len(unknown) == 1 else 'images are'} not in the data set",
            where=dataset.source,
            got=_first(unknown),
            expected=f"ids such as {_first([_named(*key) for key in row_of])}",
            next_step="give the data set that was reviewed",
        )
    ambiguous = [name for split, name in images if not split and (split, name) not in row_of and len(rows_of_id[name]) > 1]
    if ambiguous:
        splits = ", ".join(repr(dataset.split_N[row]) for row in rows_of_id[ambiguous[0]])
        raise DataError(
            f"{len(ambiguous):,} corrected {'image is' if len(ambiguous) == 1 else 'images are'} in several splits",
            where=dataset.source,
            got=f"{_first([repr(name) for name in ambiguous])}; the first in {splits}",
            expected="the split in the correction, or ids in one split only",
            next_step="remove the image from one of the splits; `polytag data check` lists all such",
        )


def _named(split: str, image_id: str) -> str:
    return f"{image_id!r} in split {split!r}" if split else repr(image_id)


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NUM_NAMED]) + (", ..." if len(names) > _NUM_NAMED else "")
