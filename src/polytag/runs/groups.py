"""groups.csv: the groups of dependent images that a run was trained with, which the other verbs keep to."""

import csv
import io
from collections.abc import Callable, Sequence

from polytag import files
from polytag.contracts import Dataset
from polytag.data.formats.rows import read_table
from polytag.errors import PolytagError, RunError
from polytag.metrics.groups import Groups, groups_of
from polytag.runs.args import read_run_args
from polytag.runs.folder import RunFolder
from polytag.text import word

_COLUMNS = ("id", "group")

Note = Callable[[str], None]
"""Receives a sentence for the user."""


def write_groups(run: RunFolder, dataset: Dataset) -> None:
    """Write the group of every image of the data set, by id: the data may move, and the run has its groups with it."""
    group_of: dict[str, str] = {}
    for name, group in zip(dataset.ids, dataset.group_N, strict=True):
        group_of.setdefault(name, group)  # an id may be in two splits
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(group_of.items())
    files.write_text(run.groups, text.getvalue())


def groups_of_run(run: RunFolder, ids: Sequence[str], *, note: Note) -> Groups | None:
    """The groups of these images in the training of the run; None where it had none, and where it knows none of these images.

    `note` receives a sentence that says which groups are used. Raises RunError for a run without args.yaml or groups.csv,
    AnnotationError for a groups.csv that cannot be read, UsageError where all images are in a single group.
    """
    column = read_run_args(run).options.group_column
    if not column:
        return None
    group_of = _read_groups(run, column=column)
    if not any(group_of.get(name) for name in ids):
        note(f"the run was trained with groups of {column}, and none of these images is in one: each counts by itself")
        return None
    groups = groups_of([group_of.get(name) for name in ids], column=column)
    note(f"--group {column}, as in the training of {run.path.name}: {groups.num_groups:,} groups in {len(ids):,} images")
    return groups


def groups_for_intervals(run: RunFolder, ids: Sequence[str], *, note: Note) -> Groups | None:
    """As `groups_of_run`, but with a note and None where that raises: intervals are then those of independent images."""
    try:
        return groups_of_run(run, ids, note=note) if run.is_run else None
    except PolytagError as error:
        note(f"intervals draw images, not the groups that the run was trained with: {error.what} ({error.where})")
        return None


def _read_groups(run: RunFolder, *, column: str) -> dict[str, str]:
    expected = f"the file that `polytag train --group {word(column)}` wrote"
    next_step = f"name the groups: --group {word(column)} --columns FILE"
    if not run.groups.is_file():
        raise RunError("the groups of the run are missing", where=str(run.groups), expected=expected, next_step=next_step)
    table = read_table(run.groups)
    if tuple(table.columns) != _COLUMNS:
        got = ", ".join(list(table.columns)[:5])
        raise RunError(
            "the groups of the run cannot be read", where=f"{run.groups}:1", got=got, expected=expected, next_step=next_step
        )
    name_N, group_N = (map(str, table.columns[key]) for key in _COLUMNS)
    return dict(zip(name_N, group_N, strict=True))
