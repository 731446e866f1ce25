"""Lists of class names in a text file beside the annotations, one in each line, with or without numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.data.formats.listing import child_names, is_image, read_beginning, read_text
from polytag.errors import AnnotationError

_NAME = re.compile(
    r"(.*[-_])?((label|class|category|tag|attribute)_?(list|names?|map)|classes|labels|synsets|categories|classmap|names)\.txt",
    re.IGNORECASE,
)
_NUMBER_FIRST = re.compile(r"(\d{1,9})[\s,:;]+(.+)")
_NUMBER_LAST = re.compile(r"(.+?)[\s,:;]+(\d{1,9})")


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """The names in the order of their numbers, and the name of each number."""

    path: Path
    names: tuple[str, ...]
    name_of: Mapping[int, str]


def is_class_list(path: Path) -> bool:
    """Whether a file has the name of a list of classes, and does not begin with the name of an image."""
    if not _NAME.fullmatch(path.name):
        return False
    words = re.split(r"[\s,;|]+", next(iter(read_beginning(path).splitlines()), ""))
    return not any(is_image(word.strip('"')) for word in words)


def require_whole_lines(names: Sequence[str], *, path: Path) -> None:
    """Raises AnnotationError for an empty line among names that are numbered by their lines."""
    if "" in names:
        raise AnnotationError(
            "an empty line among the class names",
            where=f"{path}:{names.index('') + 1}",
            got=f"{len(names)} lines",
            expected="a name in every line, because the line is the number of the class",
            next_step="remove the line, if the classes were numbered without it; or write a name for its number into it",
        )


def class_list(folder: Path) -> ClassList | None:
    """The list of class names in a folder; None for none, and for several that may differ."""
    found = [name for name in child_names(folder) if is_class_list(folder / name)]
    return _read(folder / found[0]) if len(found) == 1 else None


def _read(path: Path) -> ClassList:
    """Names are numbered from 0 by their lines, unless every line has a number of its own, first or last."""
    all_lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    lines = [line for line in all_lines if line]
    for pattern, number, name in ((_NUMBER_FIRST, 1, 2), (_NUMBER_LAST, 2, 1)):
        matches = [pattern.fullmatch(line) for line in lines]
        pairs = [(int(match[number]), match[name].strip()) for match in matches if match]
        numbers = sorted(key for key, _ in pairs)
        if lines and len(pairs) == len(lines) and numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            name_of = dict(sorted(pairs))
            return ClassList(path=path, names=tuple(name_of.values()), name_of=name_of)
    require_whole_lines(all_lines, path=path)
    return ClassList(path=path, names=tuple(lines), name_of=dict(enumerate(lines)))
