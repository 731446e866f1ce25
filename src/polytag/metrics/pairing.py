"""Pairs tables of scores by image, class and label, or raises an error with examples of where they differ."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, LabelSet, Predictions
from polytag.errors import PredictionsError
from polytag.text import counted

_MAX_EXAMPLES = 3
_TARGET = {PRESENT: "present", ABSENT: "absent", UNKNOWN: "unknown"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Paired:
    """R tables with the same images and the same classes, both in the order of the first.

    tables                   with equal `target_NC`
    num_images_left_out      R: images of each table that another lacks
    classes_left_out         R: class names of each table that another lacks
    num_labels_left_out      labels on which the tables disagree, which count as unknown
    """

    tables: tuple[Predictions, ...]
    num_images_left_out: tuple[int, ...]
    classes_left_out: tuple[tuple[str, ...], ...]
    num_labels_left_out: int


def pair(tables: Sequence[Predictions], *, names: Sequence[str], intersect: bool = False) -> Paired:
    """Pair tables by image id and class name; the order of either does not matter.

    Raises PredictionsError, with examples, if the tables differ in classes, in images or in the label of an image. With
    `intersect`, images and classes that a table lacks are left out and counted, and a label on which the tables disagree counts as
    unknown; raises PredictionsError if nothing remains.
    """
    class_names = _shared([table.label_set.names for table in tables])
    ids = _shared([table.ids for table in tables])
    if not class_names or not ids:
        what = "class" if not class_names else "image"
        raise PredictionsError(
            f"the runs have no {what} in common",
            where=_listed(names),
            got="; ".join(
                f"{name}: {_examples(table.label_set if what == 'class' else table.ids)}"
                for name, table in zip(names, tables, strict=True)
            ),
            expected=f"the same {'classes' if what == 'class' else 'images'}, by {'name' if what == 'class' else 'id'}",
        )
    if not intersect:
        _refuse_others("classes", [table.label_set.names for table in tables], names=names, num_shared=len(class_names))
        _refuse_others("images", [table.ids for table in tables], names=names, num_shared=len(ids))
    aligned = [_aligned(table, ids=ids, class_names=class_names) for table in tables]
    disagree_NC = np.any([table.target_NC != aligned[0].target_NC for table in aligned[1:]], axis=0)
    if disagree_NC.any():
        if not intersect:
            raise _disagreement(aligned, names=names, disagree_NC=disagree_NC)
        target_NC = np.where(disagree_NC, UNKNOWN, aligned[0].target_NC)
        aligned = [replace(table, target_NC=target_NC) for table in aligned]
    if not (aligned[0].target_NC >= 0).any():
        raise PredictionsError(
            "no label of these predictions is known: there is nothing to compare on",
            where=_listed(names),
            expected="at least one known label",
            next_step="give --truth DATA, the labelled data set that the images are from",
        )
    shared_classes = set(class_names)
    return Paired(
        tables=tuple(aligned),
        num_images_left_out=tuple(len(table) - len(ids) for table in tables),
        classes_left_out=tuple(tuple(name for name in table.label_set if name not in shared_classes) for table in tables),
        num_labels_left_out=int(disagree_NC.sum()),
    )


def _shared(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The items that all lists have, in the order of the first."""
    others = [set(other) for other in lists[1:]]
    return tuple(item for item in lists[0] if all(item in other for other in others))


def _aligned(table: Predictions, *, ids: tuple[str, ...], class_names: tuple[str, ...]) -> Predictions:
    if table.ids != ids:
        row_of = {name: row for row, name in enumerate(table.ids)}
        table = table.take(np.array([row_of[name] for name in ids]))
    if table.label_set.names != class_names:
        column_of = {name: column for column, name in enumerate(table.label_set)}
        columns = [column_of[name] for name in class_names]
        probability_NC = table.given_probability_NC
        table = replace(
            table,
            logit_NC=table.logit_NC[:, columns],
            target_NC=table.target_NC[:, columns],
            given_probability_NC=None if probability_NC is None else probability_NC[:, columns],
            label_set=LabelSet(names=class_names),
        )
    return table


def _refuse_others(what: str, lists: Sequence[tuple[str, ...]], *, names: Sequence[str], num_shared: int) -> None:
    first = set(lists[0])
    for name, items in zip(names[1:], lists[1:], strict=True):
        if set(items) == first:
            continue
        other = set(items)
        parts = [
            f"{len(only):,} only in {owner}: {_examples(only)}"
            for owner, only in (
                (names[0], [item for item in lists[0] if item not in other]),
                (name, [item for item in items if item not in first]),
            )
            if only
        ]
        raise PredictionsError(
            f"the runs have different {what}",
            where=_listed((names[0], name)),
            got="; ".join(parts),
            expected=f"the same {what}, in any order",
            next_step=f"give --intersect to compare on the {counted(num_shared, what)} that all runs have",
        )


def _disagreement(tables: Sequence[Predictions], *, names: Sequence[str], disagree_NC: np.ndarray) -> PredictionsError:
    """The error for labels that differ between the tables, with the first few of them."""
    first = tables[0]
    examples: list[str] = []
    for row, column in np.argwhere(disagree_NC)[:_MAX_EXAMPLES]:
        labels = [_TARGET[int(table.target_NC[row, column])] for table in tables]
        other = next(number for number, label in enumerate(labels) if label != labels[0])
        image = f"{first.ids[row]!r}, class {first.label_set.names[column]!r}"
        examples.append(f"{image}: {labels[0]} in {names[0]}, {labels[other]} in {names[other]}")
    num_labels, num_images = int(disagree_NC.sum()), int(disagree_NC.any(axis=1).sum())
    return PredictionsError(
        f"the runs disagree on {counted(num_labels, 'labels')} of {counted(num_images, 'images')}",
        where=_listed(names),
        got="; ".join(examples) + ("; ..." if num_labels > len(examples) else ""),
        expected="the same labels for all runs",
        next_step="give --truth DATA to evaluate all runs on the labels of one data set, or --intersect to leave those labels out",
    )


def _examples(items: Iterable[str]) -> str:
    items = list(items)
    return ", ".join(items[:_MAX_EXAMPLES]) + (", ..." if len(items) > _MAX_EXAMPLES else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1]
