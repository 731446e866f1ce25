"""What every reader of an exported file receives and returns, and the checks that they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.data.formats.label_lists import label_lists
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import Record
from polytag.data.formats.rows import Table
from polytag.errors import AnnotationError, UsageError
from polytag.plain import shown
from polytag.text import counted, nearest


@dataclass(frozen=True, kw_only=True)
class ExportFile:
    """One file of an export, as a reader receives it.

    split         of its name or folder, "" for none
    label_field   the control, field or attribute that the user names; "": the only one
    separator     of labels in one text; "auto": found from all texts, as in a table
    """

    path: Path
    split: str = ""
    label_field: str = ""
    separator: str = "auto"
    log: ReadingLog


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file says: records whose `image` is the tool's reference, where the labels were, and the declared classes in order."""

    records: Sequence[Record]
    labels: str
    declared: Sequence[str] = ()


def items_of(values: object, *, where: str, expected: str = "a list of objects") -> list[dict[str, object]]:
    """A list of objects; raises AnnotationError for anything else."""
    if not isinstance(values, list):
        raise wrong(values, where=where, expected=expected)
    for number, item in enumerate(values):
        if not isinstance(item, dict):
            raise wrong(item, where=f"{where}[{number}]", expected="an object")
    return values


def object_of(value: object, *, where: str) -> dict[str, object]:
    """An object with names; raises AnnotationError for anything else."""
    if not isinstance(value, dict):
        raise wrong(value, where=where, expected="an object")
    return value


def text_of(value: object, *, where: str, expected: str = "a text") -> str:
    """A text that is not empty, or a whole number as text; raises AnnotationError for anything else."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 128:
        return str(value)
    raise wrong(value, where=where, expected=expected)


def texts_of(value: object, *, where: str) -> list[str]:
    """A list of texts, or one text; raises AnnotationError for anything else."""
    if not isinstance(value, list):
        return [text_of(value, where=where, expected="a label or a list of labels")]
    return [text_of(item, where=where, expected="labels as text") for item in value]


def divided_labels(values: Mapping[str, object], file: ExportFile, *, name: str) -> list[Sequence[str]]:
    """The labels of each image, whose value is a list of texts or one text; `values` are named by the place they stand in.

    They are read as a column of label lists: one text may hold several labels, and vectors of 0 and 1 are refused. Raises
    AnnotationError for other values, and, unless doubts are accepted, where the texts do not tell.
    """
    cells = [value if isinstance(value, str) else texts_of(value, where=where) for where, value in values.items()]
    table = Table(path=file.path, columns={name: cells}, line_N=range(len(cells)), places=list(values))
    return [labels or () for labels in label_lists([table], name, separator=file.separator, log=file.log)[0]]


def class_of(number: object, names: Sequence[str] | Mapping[int, str], *, where: str) -> str:
    """The class of a number, or of a text with a number; raises AnnotationError for one that the file does not declare."""
    if isinstance(number, str) and number.isdecimal() and len(number) < 19:
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool):
        if isinstance(names, Mapping):
            if number in names:
                return names[number]
        elif 0 <= number < len(names):
            return names[number]
    raise AnnotationError(
        "a label whose class the file does not declare",
        where=where,
        got=shown(number),
        expected=f"the number of one of {counted(len(names), 'classes')}",
    )


def wrong(value: object, *, where: str, expected: str) -> AnnotationError:
    """The error of a value of another kind."""
    return AnnotationError("a value that cannot be read", where=where, got=shown(value), expected=expected)


def chosen_field(fields: Mapping[str, str], file: ExportFile, *, usual: Sequence[str] = ()) -> str:
    """The field that holds the labels, of fields with a description each.

    The one that the user names, or the only one, or the only one with a usual name; raises AnnotationError for several, which
    `--yes` answers with the first, and UsageError for a name that is not there.
    """
    described = ", ".join(f"{name!r} ({what})" if what else repr(name) for name, what in list(fields.items())[:12])
    if file.label_field:
        if file.label_field in fields:
            chosen = file.label_field
        else:
            raise UsageError(
                "no field of labels has this name",
                where=str(file.path),
                got=repr(file.label_field) + nearest(file.label_field, list(fields)),
                expected=f"one of {described}" if fields else "annotations with labels",
            )
    else:
        usually = [name for name in fields if name.lower() in usual]
        if len(fields) > 1 and len(usually) != 1:
            file.log.doubt(
                AnnotationError(
                    "labels in several fields",
                    where=str(file.path),
                    got=described,
                    expected="one of them",
                    next_step=f"choose one with the option labels_column, such as --labels-column {next(iter(fields))!r}",
                )
            )
        chosen = usually[0] if len(usually) == 1 else next(iter(fields))
    if ignored := [name for name in fields if name != chosen]:
        file.log.note(f"fields {', '.join(map(repr, ignored[:8]))} are not read, because the labels are in {chosen!r}")
    return chosen


def told_left_out(file: ExportFile, num_images: int, *, why: str) -> None:
    """Note that images are not part of the data because nobody has annotated them."""
    if num_images:
        file.log.note(f"{counted(num_images, 'images')} left out, {why}")


def told_without(file: ExportFile, records: Sequence[Record]) -> None:
    """Note how many images have no label, which the file does not tell from images that nobody has looked at."""
    if num_images := sum(not record.present for record in records):
        file.log.note(f"{counted(num_images, 'images')} without a label: all classes count as absent")
