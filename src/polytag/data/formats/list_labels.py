"""The labels in the lines of a text list: a 0 or 1 for each class, numbers of classes, or names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from polytag.contracts import ABSENT
from polytag.data.formats.class_lists import ClassList
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import Record
from polytag.errors import AnnotationError

_MARKS = "|;,"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListLine:
    """An image, and the rest of its line as it is written."""

    image: str
    labels: str
    split: str
    where: str


def records_of_lines(lines: Sequence[ListLine], *, names: ClassList | None, separator: str, log: ReadingLog) -> Iterator[Record]:
    """A record for each line, all of them read in one way.

    Raises AnnotationError, with file and line, where the ways to read the labels contradict each other.
    """
    parts_N = _divided(lines, separator)
    if _is_vector(lines, parts_N, names=names, log=log):
        assert names is not None
        log.found("labels", f"a 0 or 1 for each class of {names.path.name}")
        return _of_vectors(lines, parts_N, names)
    is_numbered = all(part.isdecimal() for parts in parts_N for part in parts)
    if is_numbered and names:
        log.found("labels", f"numbers of the classes in {names.path.name}")
        return _of_numbers(lines, parts_N, names)
    log.found("labels", "numbers, which no list of class names explains" if is_numbered else "names")
    return _of_names(lines, parts_N)


def _divided(lines: Sequence[ListLine], separator: str) -> list[list[str]]:
    """The labels of each line: by tabs, or the one of | ; , that there is, or else by spaces."""
    rest_N = [line.labels.strip(" \t,;|") for line in lines]
    if separator == "none":
        return [[rest] if rest else [] for rest in rest_N]
    found = [mark for mark in _MARKS if any(mark in rest for rest in rest_N)]
    if separator != "auto":
        mark = separator
    elif len(found) > 1:
        line = next(line for line, rest in zip(lines, rest_N, strict=True) if found[1] in rest)
        raise AnnotationError(
            "the separator of the labels is ambiguous",
            where=line.where,
            got=" and ".join(map(repr, found)),
            expected="one of them",
            next_step="set the option separator, such as --separator ','",
        )
    elif found:
        mark = found[0]
    else:
        mark = "\t" if any("\t" in rest for rest in rest_N) else None
    return [[part for part in (part.strip() for part in rest.replace("\t", mark or " ").split(mark)) if part] for rest in rest_N]


def _is_vector(lines: Sequence[ListLine], parts_N: Sequence[Sequence[str]], *, names: ClassList | None, log: ReadingLog) -> bool:
    """Whether every line has a 0 or 1 for each class."""
    if not {part for parts in parts_N for part in parts} <= {"0", "1", "-1"} or len(set(map(len, parts_N))) != 1:
        return False
    width = len(parts_N[0])
    is_repeated = any(len(set(parts)) < len(parts) for parts in parts_N) or any("-1" in parts for parts in parts_N)
    if not is_repeated and width != 1 and names is None:
        return False
    line = lines[0]
    if names is None or width != len(names.names):
        if not is_repeated:
            return False  # numbers of classes
        raise AnnotationError(
            "a 0 or 1 for each class, and no names for them",
            where=line.where,
            got=f"{width} numbers" + (f", and {len(names.names)} names in {names.path.name}" if names else ""),
            expected=f"a list of {width} class names beside it, one in a line",
            next_step="write the names of the classes, in their order, into label_list.txt in the same folder",
        )
    if not is_repeated:
        log.doubt(
            AnnotationError(
                "labels that may be numbers of classes, or a 0 or 1 for each class",
                where=line.where,
                got=repr(line.labels.strip()),
                expected=f"one of the two for the {width} classes of {names.path.name}",
                next_step="write the names of the classes in the list; or read a 0 or 1 for each class with --yes",
            )
        )
    return True


def _of_vectors(lines: Sequence[ListLine], parts_N: Sequence[Sequence[str]], names: ClassList) -> Iterator[Record]:
    has_zero = any("0" in parts for parts in parts_N)
    for line, parts in zip(lines, parts_N, strict=True):
        if "-1" in parts and not has_zero:
            raise AnnotationError(
                "1 and -1, but never 0: -1 may be absent or unknown",
                where=line.where,
                got=repr(line.labels.strip()[:200]),
                expected="1 (present), 0 (absent), -1 (unknown)",
                next_step="write 0 where -1 means absent",
            )
        chosen = {value: [name for name, part in zip(names.names, parts, strict=True) if part == value] for value in ("1", "-1")}
        yield Record(image=line.image, where=line.where, present=chosen["1"], unknown=chosen["-1"], others=ABSENT, split=line.split)


def _of_numbers(lines: Sequence[ListLine], parts_N: Sequence[Sequence[str]], names: ClassList) -> Iterator[Record]:
    if not names.names:
        raise AnnotationError(
            "an empty list of classes",
            where=str(names.path),
            got="no line",
            expected="a class a line: the labels are numbers",
            next_step="write the names of the classes into it, or remove it where the numbers are the names",
        )
    for line, parts in zip(lines, parts_N, strict=True):
        for part in parts:
            if len(part) > 18 or int(part) not in names.name_of:
                raise AnnotationError(
                    "a number without a class",
                    where=line.where,
                    got=part[:80],
                    expected=f"{min(names.name_of)} to {max(names.name_of)}, for the {len(names.names)} names in {names.path}",
                    next_step="number the lines of that file, such as '1 cat', if the numbers do not start at 0",
                )
        yield Record(image=line.image, where=line.where, present=[names.name_of[int(part)] for part in parts], split=line.split)


def _of_names(lines: Sequence[ListLine], parts_N: Sequence[Sequence[str]]) -> Iterator[Record]:
    for line, parts in zip(lines, parts_N, strict=True):
        yield Record(image=line.image, where=line.where, present=parts, split=line.split)
