"""Long tables: a row for each image and label, or for each box, under the column names of any tool.

filename,label                                    as many rows for an image as it has labels
filename,label,confidence                         1: present, 0: absent; a class without a row is unknown
filename,width,height,class,xmin,ymin,xmax,ymax   TensorFlow's boxes
path,x1,y1,x2,y2,class                            boxes without a header (`headerless.py`)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.formats.class_columns import JointColumns
from polytag.data.formats.column_names import IMAGE_COLUMNS, LABELS_COLUMNS, PASSED_OVER, first_of
from polytag.data.formats.label_columns import METADATA
from polytag.data.formats.label_lists import doubt_blank_labels
from polytag.data.formats.listing import UNSAID, is_image, scan
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext, dataset_of
from polytag.data.formats.rows import OWN_COLUMNS, Table, cells_of
from polytag.data.formats.split_columns import doubt_split_flags, split_columns, splits_of
from polytag.data.formats.table_columns import Columns
from polytag.data.formats.tables import TableFile, require_column, tell_rows
from polytag.data.formats.votes import Votes
from polytag.errors import AnnotationError
from polytag.text import counted

LONG_IMAGE_COLUMNS = (*IMAGE_COLUMNS, "imageid", "image id", "image name", "image index", "photo", "photo_id", "uri", "url")
LONG_LABEL_COLUMNS = (
    *LABELS_COLUMNS, "labelname", "label_name", "class_name", "classname", "class_label", "category_name", "tag_name", "concept",
    "object", "object_name", "attribute", "finding", "finding_name", "diagnosis", "species", "name", "label_id", "labelid",
    "class_id", "classid", "category_id", "tag_id",
)  # fmt: skip
CONFIDENCE_COLUMNS = ("confidence", "present", "is_present", "value", "answer")
_SCORE_COLUMNS = (*CONFIDENCE_COLUMNS, "score", "scores", "probability", "prob", "proba", "conf", "certainty", "likelihood")
_ANNOTATOR_COLUMNS = (
    "annotator", "annotator_id", "annotator id", "rater", "rater_id", "rad_id", "reader", "reader_id", "worker", "worker_id",
    "workerid", "labeler", "labeler_id", "labeller", "user", "user_id",
)  # fmt: skip
_BOX_COLUMNS = re.compile(r"x_?min|x_?1|x_?c|x_?center|left|bbox.*", re.IGNORECASE)
_FRACTION = re.compile(r"0?\.\d*[1-9]\d*(e-?\d+)?")
ANSWERS = {
    "1": PRESENT, "1.0": PRESENT, "true": PRESENT, "yes": PRESENT,
    "0": ABSENT, "0.0": ABSENT, "false": ABSENT, "no": ABSENT,
    "-1": UNKNOWN, "-1.0": UNKNOWN,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LongLayout:
    """The columns of a long table by role; "" for a role without one."""

    image: str
    label: str
    confidence: str = ""
    splits: tuple[str, ...] = ()
    annotator: str = ""
    has_boxes: bool = False

    @property
    def used(self) -> frozenset[str]:
        """The columns that have a role."""
        return frozenset({self.image, self.label, self.confidence, *self.splits, self.annotator} - {""})


def long_layout(table: Table, columns: Columns) -> LongLayout | None:
    """The columns of a table that has several rows of single labels for an image, or a confidence of 0; else None."""
    there = list(table.columns)
    chosen = {columns.image, columns.labels, columns.split, columns.group} - {""}
    if tuple(there[:3]) == OWN_COLUMNS or columns.classes or not len(table) or not chosen <= set(there):
        return None
    there = [name for name in there if name in chosen or not _is_ignored(name, columns)]
    image = columns.image or first_of(there, LONG_IMAGE_COLUMNS)
    rest = [name for name in there if name not in (image, columns.group, columns.labels)]
    splits = (columns.split,) if columns.split else split_columns(JointColumns([table]), rest)
    others = [name for name in there if name not in (image, *splits, columns.group) and not PASSED_OVER.fullmatch(name)]
    label = columns.labels or first_of(others, LONG_LABEL_COLUMNS)
    label = label or (others[0] if len(others) == 1 and None in _answers(table, others[0]) else "")
    if not image or not label or _has_lists(table, label, columns.separator):
        return None
    confidence = first_of(others, CONFIDENCE_COLUMNS)
    if confidence and ABSENT not in _answers(table, confidence):
        confidence = ""  # of no row it says that the label is absent
    if not confidence and not _is_repeated(table, (image, *splits)):
        return None
    return LongLayout(
        image=image,
        label=label,
        confidence=confidence,
        splits=splits,
        annotator="" if confidence else first_of(others, _ANNOTATOR_COLUMNS),
        has_boxes=any(_BOX_COLUMNS.fullmatch(name) for name in others),
    )


def _is_ignored(name: str, columns: Columns) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in columns.ignore)


def _is_repeated(table: Table, names: Sequence[str]) -> bool:
    """Whether two rows have the same cells in these columns."""
    try:
        return len(set(zip(*(table.columns[name] for name in names), strict=True))) < len(table)
    except TypeError:  # lists and objects of JSON and Parquet, which name no image
        return False


def _doubt_scores(table: Table, others: Sequence[str], layout: LongLayout, *, context: ReadingContext) -> None:
    """A doubt about a column of confidences that says of no row that its label is absent, and holds fractions."""
    name = first_of([name for name in others if name in table.columns], _SCORE_COLUMNS)
    if layout.confidence or not name:
        return
    for row, cell in enumerate(cells_of(table, name)):
        if cell is not None and _FRACTION.fullmatch(cell):
            context.log.doubt(
                AnnotationError(
                    "confidences that may be the scores of a model",
                    where=table.where(row),
                    got=f"{cell!r} in column {name!r}",
                    expected="1 (present) or 0 (absent)",
                    next_step="decide from which confidence on a label is present, and write 1 and 0; "
                    "or take every row as present with --yes",
                )
            )
            return


def _doubt_answers(table: Table, others: Sequence[str], layout: LongLayout, *, context: ReadingContext) -> None:
    """A doubt about a column of 1 and 0 that may say of which rows the label is absent; of boxes, it says something else."""
    if layout.confidence or layout.has_boxes:
        return
    for name in others:
        if name not in table.columns or METADATA.fullmatch(name):
            continue
        if {PRESENT, ABSENT} <= (answers := _answers(table, name)) and None not in answers:
            context.log.doubt(
                AnnotationError(
                    "a column of 1 and 0 that may say which labels are absent",
                    where=f"{table.path}:1",
                    got=f"column {name!r}, with a row for each image and label",
                    expected=f"a column called {CONFIDENCE_COLUMNS[1]!r} for that",
                    next_step=f"rename it to {CONFIDENCE_COLUMNS[1]!r}; or take the label of every row as present with "
                    f"--ignore-column {name!r}",
                )
            )


def _doubt_lists(table: Table, layout: LongLayout, columns: Columns, *, context: ReadingContext) -> None:
    """A doubt about a table with label lists beside one with a row for each image and label."""
    if _has_lists(table, layout.label, columns.separator):
        context.log.doubt(
            AnnotationError(
                "label lists beside a table with a row for each image and label",
                where=f"{table.path}:1",
                got=f"cells that may hold several labels in column {layout.label!r}",
                expected="one label in a cell, as in the other table",
                next_step="write a row for each label; or take a cell as one label with --separator none",
            )
        )


def _answers(table: Table, name: str) -> set[int | None]:
    """The answers in the cells that are not empty; None for a cell that is no answer."""
    return {ANSWERS.get(cell.lower()) for cell in set(cells_of(table, name)) if cell is not None}


def _has_lists(table: Table, name: str, separator: str) -> bool:
    """Whether a cell of the column has several labels."""
    marks = {"auto": ("|", ";", ",", "["), "none": ()}.get(separator, (separator,))
    texts = {cell for cell in table.columns[name] if isinstance(cell, str)}
    return any(mark in text for text in texts for mark in marks) or any(isinstance(cell, list) for cell in table.columns[name])


def read_long_tables(
    files: Sequence[TableFile],
    tables: Sequence[Table],
    *,
    layout: LongLayout,
    columns: Columns,
    source: str,
    context: ReadingContext,
) -> Dataset:
    """Read long tables into one data set, a row for each of their images, in the order in which they first occur.

    A class that no row of an image names is unsaid, so absent by default; with a column of confidences, unknown. Answers that
    contradict each other make a label unknown. Raises AnnotationError, with file and line, for a row without an image and a
    confidence that is no answer.
    """
    votes_of = [Votes(others=UNKNOWN if layout.confidence else UNSAID) for _ in tables]
    log = context.log
    tell_rows(files, tables, has_lists=True, log=log)
    all_of = JointColumns(tables)
    unused = [name for name in all_of.names if name not in layout.used and name != columns.group]
    others = [name for name in unused if not _is_ignored(name, columns) and not PASSED_OVER.fullmatch(name)]
    if not layout.splits:
        doubt_split_flags(all_of, others, log=log)
    for file, table, votes in zip(files, tables, votes_of, strict=True):
        for name in sorted(layout.used | {columns.group} - {""}):
            require_column(table, name, others=tables)
        _doubt_lists(table, layout, columns, context=context)
        _doubt_scores(table, others, layout, context=context)
        _doubt_answers(table, others, layout, context=context)
        num_disputed = _collect(votes, table, layout=layout, split=file.split, group=columns.group, log=log)
        if num_disputed:
            log.note(f"labels that only some annotators of an image gave are unknown: {num_disputed:,} in {table.path.name}")
    log.found("images", f"column {layout.image!r}")
    unit = "box" if layout.has_boxes else "image and label"
    log.found("labels", f"column {layout.label!r}, one row for each {unit}")
    if layout.confidence:
        log.found("present or absent", f"column {layout.confidence!r}; a class without a row is unknown")
    if layout.splits:
        log.found("split", "column " + " and ".join(map(repr, layout.splits)))
    if layout.annotator:
        log.found("annotators", f"column {layout.annotator!r}; a label is present if all of an image's gave it")
    if unused:
        log.found("ignored", ", ".join(map(repr, unused)))
    records = (
        replace(record, path=context.index.require(record.image, file.image_folders, where=record.where))
        for file, votes in zip(files, votes_of, strict=True)
        for record in votes.records()
    )
    dataset = dataset_of(records, source=source, context=context)
    for votes in votes_of:
        tell_votes(votes, context=context, has_boxes=layout.has_boxes)
    tell_images_without_a_row(dataset, context=context)
    return dataset


def tell_votes(votes: Votes, *, context: ReadingContext, has_boxes: bool = False) -> None:
    """Note what was given twice and what contradicts itself; an object of a class may occur as often as it likes."""
    if votes.num_repeated and not has_boxes:
        context.log.note(
            f"the image and label of another row are repeated in {counted(votes.num_repeated, 'rows')}, which changes nothing"
        )
    if votes.num_contradicted:
        verb = "is" if votes.num_contradicted == 1 else "are"
        context.log.note(
            f"{counted(votes.num_contradicted, 'labels')} {verb} present in one row and absent in another, and so unknown"
        )


def tell_images_without_a_row(dataset: Dataset, *, context: ReadingContext) -> None:
    """Note how many images lie beside those of a long table that have no row: without a label, or never annotated."""
    used = {str(path) for path in dataset.paths}
    folders = sorted({str(path.parent) for path in dataset.paths})
    without = [f"{folder}/{name}" for folder in folders for name in scan(folder) if is_image(name)]
    without = sorted(path for path in without if path not in used)
    if without:
        context.log.note(
            f"{counted(len(without), 'images')} {'is' if len(without) == 1 else 'are'} in no row, such as "
            f"{without[0].rpartition('/')[2]!r}: whether they have no label or were never annotated cannot be told, "
            "so they are left out"
        )


def _collect(votes: Votes, table: Table, *, layout: LongLayout, split: str, group: str, log: ReadingLog) -> int:
    """Add the rows of a table to the votes; the number of labels that some annotators of an image gave, and others not."""
    images, labels = cells_of(table, layout.image), cells_of(table, layout.label)
    confidences = cells_of(table, layout.confidence) if layout.confidence else [None] * len(table)
    given_labels = ((label, row) for row, label in enumerate(labels) if label is not None)
    doubt_blank_labels(given_labels, table=table, name=layout.label, log=log)
    splits = splits_of(table, layout.splits, log=log) if layout.splits else None
    annotators = cells_of(table, layout.annotator) if layout.annotator else [None] * len(table)
    asked: dict[int, set[str | None]] = {}
    given: dict[tuple[int, str], set[str | None]] = {}
    groups = cells_of(table, group) if group else None
    for row, (image, label, confidence) in enumerate(zip(images, labels, confidences, strict=True)):
        if image is None:
            if label is None:
                continue  # an empty row of a spreadsheet
            raise AnnotationError("no image name", where=table.where(row), got="an empty cell", expected="a file name")
        number = votes.image(
            image,
            where=table.where(row),
            split=splits[row] if splits else split,
            group=(groups[row] or "") if groups else "",
        )
        if layout.annotator:
            asked.setdefault(number, set()).add(annotators[row])
            if label is not None:
                given.setdefault((number, label), set()).add(annotators[row])
        elif label is not None:
            votes.add(number, label, _answer(table, row, confidence, layout=layout))
    for (number, label), people in given.items():
        votes.add(number, label, PRESENT if people == asked[number] else UNKNOWN)
    return sum(people != asked[number] for (number, _), people in given.items())


def _answer(table: Table, row: int, confidence: str | None, *, layout: LongLayout) -> int:
    if not layout.confidence:
        return PRESENT
    if confidence is None:
        return UNKNOWN
    try:
        return ANSWERS[confidence.lower()]
    except KeyError:
        raise AnnotationError(
            "a confidence that is neither present nor absent",
            where=table.where(row),
            got=f"{confidence!r} in column {layout.confidence!r}",
            expected="1 (present), 0 (absent), -1 or nothing (unknown)",
            next_step="decide from which confidence on a label is present, and write 1 and 0",
        ) from None
