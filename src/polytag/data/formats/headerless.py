"""CSV files without a header: RetinaNet's boxes, Google's import files, and an image with its labels in a row.

images/a.jpg,10,20,300,200,cat            RetinaNet: a box and its class; "images/b.jpg,,,,," has none
TRAIN,gs://bucket/a.jpg,cat,dog           AutoML and Vertex AI: a set or nothing, an address, labels; or a label and its box
a.jpg,cat,dog                             an image and its labels
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from polytag.contracts import PRESENT
from polytag.data.formats.delimited import BEGINNING, dialect_of
from polytag.data.formats.export_content import Content, ExportFile
from polytag.data.formats.listing import child_names, is_image, read_text
from polytag.data.formats.references import names_of
from polytag.data.formats.votes import Votes
from polytag.errors import AnnotationError
from polytag.text import printable

_NUMBER = re.compile(r"-?\d+(\.\d*)?|-?\.\d+")
_SETS: Mapping[str, str] = {
    "TRAIN": "train",
    "TRAINING": "train",
    "VALIDATE": "val",
    "VALIDATION": "val",
    "TEST": "test",
    "UNASSIGNED": "",
}
_CLASSES = ("classes.csv", "class_list.csv", "class_mapping.csv", "classes.txt")


def is_headerless(head: str) -> bool:
    """Whether the rows at the beginning of a CSV are images with labels, the first one included."""
    try:
        rows = [row for row in csv.reader(head.splitlines()[:50], delimiter=dialect_of(head).delimiter) if any(row)]
    except csv.Error:
        return False
    return len(rows) > 0 and all(_place_of_image(row) is not None for row in rows) and any(map(_has_labels, rows))


def read_headerless(file: ExportFile) -> Content:
    """The rows of an image are joined; one without a label has an image on which every class is absent.

    The classes of RetinaNet are in the order of its list of classes. Raises AnnotationError, with file and line, for a row that is
    not like the first ones, or has a number as its label beside words.
    """
    votes = Votes()
    text = read_text(file.path)
    rows = list(_rows(text, file.path))
    layout = "boxes of RetinaNet" if all(map(_is_box, (row for row, _ in rows))) else "labels after the image"
    if layout != "boxes of RetinaNet" and any(row[0].strip().upper() in _SETS for row, _ in rows):
        layout = "labels after the set and the image, as Google's import files have them"
    for row, where in rows:
        place = _place_of_image(row)
        if place is None:
            raise AnnotationError(
                "a row without an image",
                where=where,
                got=printable(",".join(row))[:200],
                expected="rows like the first, with " + layout,
                next_step="add a header such as file_name,labels if the columns are others",
            )
        split = _SETS.get(row[0].strip().upper(), "") if place else file.split
        image = votes.image(row[place].strip(), where=where, split=split or file.split)
        for label in _labels(row, place, where=where):
            votes.add(image, label, PRESENT)
    declared = _declared(file.path) if layout == "boxes of RetinaNet" else ()
    return Content(records=list(votes.records()), labels=f"{layout}, in rows without a header", declared=declared)


def _rows(text: str, path: Path) -> Iterator[tuple[list[str], str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect_of(text[:BEGINNING]).delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield row, f"{path}:{line}"
            line = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError("malformed CSV", where=f"{path}:{line}", got=str(error), expected="CSV") from error


def _place_of_image(row: Sequence[str]) -> int | None:
    """The place of the image in a row: first, or after a set."""
    if _is_image(row[0]):
        return 0
    is_set = row[0].strip().upper() in _SETS or not row[0].strip()
    return 1 if len(row) > 1 and is_set and _is_image(row[1]) else None


def _is_image(cell: str) -> bool:
    return any(map(is_image, names_of(cell))) and "\n" not in cell


def _has_labels(row: Sequence[str]) -> bool:
    place = _place_of_image(row)
    return place is not None and any(cell.strip() and not _NUMBER.fullmatch(cell.strip()) for cell in row[place + 1 :])


def _is_box(row: Sequence[str]) -> bool:
    """Whether a row is RetinaNet's: an image, four numbers or none, and a class or none."""
    if len(row) != 6 or not _is_image(row[0]):
        return False
    corners = [cell.strip() for cell in row[1:5]]
    return not any(cell.strip() for cell in row[1:]) or all(map(_NUMBER.fullmatch, corners))


def _labels(row: Sequence[str], place: int, *, where: str) -> list[str]:
    rest = [cell.strip() for cell in row[place + 1 :]]
    if _is_box(row):
        return rest[4:] if rest[4:] != [""] else []
    given = [cell for cell in rest if cell]
    numbers = [cell for cell in given if _NUMBER.fullmatch(cell)]
    if len(given) > 1 and given[1:] == numbers and len(numbers) >= 4:
        return given[:1]  # a label and its box
    if numbers and len(given) > 1:
        raise AnnotationError(
            "numbers beside labels, in a table without a header",
            where=where,
            got=printable(",".join(row))[:200],
            expected="an image and its labels, or a box with its class",
            next_step="add a header that names the columns, such as file_name,labels",
        )
    return given


def _declared(path: Path) -> tuple[str, ...]:
    """The names in the list of classes beside the file, by their numbers; none where it is no such list."""
    name = next((name for name in child_names(path.parent) if name.lower() in _CLASSES), None)
    if name is None:
        return ()
    rows = [row for row in csv.reader(io.StringIO(read_text(path.parent / name), newline="")) if any(row)]
    if not all(len(row) == 2 and row[1].strip().isdecimal() and row[0].strip() for row in rows):
        return ()
    names = [row[0].strip() for row in sorted(rows, key=lambda row: int(row[1].strip()[:18]))]
    return tuple(dict.fromkeys(names))
