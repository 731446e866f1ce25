"""Exports a review: the data set with its decisions, and the list of changed labels, as new files."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polytag import files
from polytag.contracts import Dataset
from polytag.data.convert import TABLES, convert
from polytag.data.corrections import Change, Correction, apply_corrections
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.data.settings import with_settings
from polytag.data.splits import lacks_validation, with_validation_split
from polytag.errors import RunError, UsageError
from polytag.inspector.review.added import add_labelled
from polytag.inspector.review.rows import Decision
from polytag.inspector.review.store import open_review, review_file_of
from polytag.metrics.label_issues import MEANINGS
from polytag.predictions.read import is_own, read_predictions
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder
from polytag.text import cell, word

CHANGES_COLUMNS = ("split", "image", "class", "before", "after", "reviewer", "note", "time")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The written data set, which `load_dataset` reads, with the column of its groups ("" for none), the list of changes, the
    number of confirmed labels, and of the labelled images of lists those that were added, and that were known already."""

    data: Path
    group_column: str
    changes_file: Path
    changes: tuple[Change, ...]
    num_confirmed: int
    num_added: int
    num_known: int


def export_labels(
    run: Path,
    out: Path,
    *,
    to: str | None = None,
    data: Path | None = None,
    lists: Sequence[Path] = (),
    options: ReadOptions,
) -> Exported:
    """Apply the decisions of a run's review to its data set, and write it and a list of changes as new files.

    The labelled images of `lists`, which `polytag labels next` made, are added to the training images. The args.yaml of a run
    folder gives the data and the reading options; data without splits get those of the training. The list of changes is next to
    OUT: `<OUT without ending>-changes.csv`. Raises RunError where there is no review, no change, or an existing output; UsageError
    for a predictions file without `data`; DataError where the decisions do not fit the data.
    """
    decisions = _decisions(run, is_needed=not lists)
    dataset = _reviewed_data(run, data=data, options=options, names_splits=bool(lists) or any(each.split for each in decisions))
    added = add_labelled(dataset, lists)
    decisions = [*_with_ids_of(dataset, decisions, run=run), *added.decisions]
    corrections = [
        Correction(split=each.split, image_id=each.image_id, class_name=each.class_name, label=each.label)
        for each in decisions
        if each.label is not None
    ]
    corrected, changes = apply_corrections(added.dataset, corrections)
    if not changes:
        raise _nothing(run, got=f"{len(corrections):,} decisions, all equal to the data")
    format = to or (out.suffix.lower()[1:] if out.suffix.lower() in (".csv", ".parquet") else "csv")
    used = read_run_args(RunFolder(path=run)).options if data is None or run.is_dir() else with_settings(options, data)[0]
    group_column = used.group_column if format in TABLES else ""
    decision_of = {(each.split, each.image_id, each.class_name): each for each in decisions}
    text = changes_to_csv(changes, decision_of)
    changes_file = _changes_file(out, format=format, text=text)
    is_new = not changes_file.exists()
    changes_file.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(changes_file, text)  # first, so that data without their list are never left by a kill
    try:
        written = convert(corrected, out, to=format, group_column=group_column)
    except BaseException:
        if is_new:
            changes_file.unlink(missing_ok=True)
        raise
    return Exported(
        data=written,
        group_column=group_column,
        changes_file=changes_file,
        changes=changes,
        num_confirmed=len(corrections) - len(changes),
        num_added=added.num_images,
        num_known=added.num_known,
    )


def changes_to_csv(changes: tuple[Change, ...], decision_of: Mapping[tuple[str, str, str], Decision]) -> str:
    """One line per changed label, with reviewer, note and time; decisions by split ("" for none), image and class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CHANGES_COLUMNS)
    for each in changes:
        key = (each.split, each.image_id, each.class_name)
        decision = decision_of[key] if key in decision_of else decision_of["", each.image_id, each.class_name]
        before, after = MEANINGS[each.before], MEANINGS[each.after]
        writer.writerow([cell(text) for text in (*key, before, after, decision.author, decision.note, decision.time)])
    return text.getvalue()


def _decisions(run: Path, *, is_needed: bool) -> list[Decision]:
    """The decisions of all splits; raises RunError where there is none and some are needed."""
    if not run.exists():
        raise RunError("nothing to export", where=str(run), expected="a run folder, or a predictions file")
    path = review_file_of(run)
    with open_review(path) as store:
        decisions = [row for split in store.splits() for row in store.current(split).values() if row.label is not None]
    if not decisions and is_needed:
        raise _nothing(run, got="no decision in the review" if path.exists() else f"no {path.name}")
    return decisions


def _nothing(run: Path, *, got: str) -> Exception:

    command = f"polytag inspect {word(run)}" + (" --split train" if run.is_dir() and not RunFolder(path=run).has_folds else "")
    return RunError(
        "no label was changed: nothing to export",
        where=str(run),
        got=got,
        expected="a review with at least one changed label",
        next_step=f"review labels in the browser: {command}",
    )


def _reviewed_data(run: Path, *, data: Path | None, options: ReadOptions, names_splits: bool) -> Dataset:

    if run.is_dir():
        folder = RunFolder(path=run)
        if not folder.is_run:
            raise RunError(
                "no run in this folder",
                where=str(run),
                got=f"no {folder.args.name}",
                expected="a folder that `polytag train` made",
            )
        if options != ReadOptions():
            raise UsageError(
                "the run records how its data are read", where=str(run), expected="no options for reading labels with a run"
            )
        args = read_run_args(folder)
        return load_run_data(replace(args, data=data or args.data))
    if data is None:
        raise UsageError(
            "a predictions file does not contain the whole data set",
            where=str(run),
            expected="--data DATA, the labelled data set of its images",
        )
    dataset = load_dataset(data, options=options)
    return with_validation_split(dataset) if lacks_validation(dataset) and names_splits else dataset


def _with_ids_of(dataset: Dataset, decisions: list[Decision], *, run: Path) -> list[Decision]:
    """The decisions with the data set's ids; polytag's predictions files may use other ids, and contain the paths."""
    if run.is_dir() or not is_own(run):
        return decisions
    predictions, ids = read_predictions(run), set(dataset.ids)
    by_path = {str(path): name for path, name in zip(dataset.paths, dataset.ids, strict=True)}
    paths = {name: os.path.abspath(path) for name, path in zip(predictions.ids, predictions.image_paths, strict=True) if path}
    id_of = {name: by_path[path] for name, path in paths.items() if name not in ids and path in by_path}
    return [replace(each, image_id=id_of.get(each.image_id, each.image_id)) for each in decisions]


def _changes_file(out: Path, *, format: str, text: str) -> Path:
    """A path next to the data and not among them, where it would be read as a second table of labels.

    The same list may be there already, of an export that was killed before it wrote the data. Raises RunError for another file.
    """
    path = Path(os.path.abspath(out))
    path = path.with_name((path.stem if path.suffix.lower() == f".{format}" else path.name) + "-changes.csv")
    if path.exists() and not (path.is_file() and path.read_bytes() == text.encode()):
        raise RunError(
            "the output exists already",
            where=str(path),
            expected="a new name",
            next_step="choose another name, or remove it; nothing is overwritten",
        )
    return path
