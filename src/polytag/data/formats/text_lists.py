"""Text lists: an image and its labels in each line.

a.jpg<TAB>0,1,0            PaddleClas: a 0 or 1 for each class of label_list.txt
a.jpg 2 7                  datumaro's ImageNet text, MMPretrain: numbers of the classes in synsets.txt, classes.txt, ...
a.jpg cat dog              names, divided by spaces
a.jpg<TAB>cat,traffic light   names that contain spaces, divided by commas or tabs
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.class_lists import ClassList, class_list, is_class_list
from polytag.data.formats.list_labels import ListLine, records_of_lines
from polytag.data.formats.listing import (
    IMAGE_SUFFIXES,
    child_names,
    is_image,
    no_splits_note,
    read_beginning,
    read_text,
    split_folders,
    split_of,
)
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext, dataset_of
from polytag.errors import AnnotationError, DataError

_PLACES = ("", "annotations", "meta", "lists")
_ENDING = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
_NAMED_LINE = re.compile(rf'(?:"(?P<quoted>[^"\t]+)"|(?P<name>[^\t]+?(?:{_ENDING})))(?=[\s,;|]|$)(?P<labels>.*)', re.IGNORECASE)
_BARE_LINE = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<name>\S+))(?P<labels>.*)')
_SYNSETS = "synsets.txt"  # of datumaro, beside which the names of images may have no endings
_MAX_FILES = 100  # more are files of single images
_WORDS = re.compile(r"[-_. ]+")


@dataclass(frozen=True, kw_only=True)
class TextList:
    """A list of images with labels, and the split that its name gives, or ""."""

    path: Path
    split: str


def is_text_list(data: Path) -> bool:
    """Whether there is a text file whose lines are images with labels; of a file itself, whether one of its lines is."""
    if not data.is_file():
        return bool(_all_lists(data))
    lines = read_beginning(data).splitlines() if data.suffix.lower() == ".txt" else []
    matches = filter(None, (_NAMED_LINE.fullmatch(line.strip()) for line in lines[:1000]))
    return any(match["labels"].strip(" \t,;|") for match in matches)


def read_text_lists(data: Path, *, separator: str, context: ReadingContext) -> Dataset:
    """Read lists of images with labels; a line without labels is an image of which every class is absent.

    Numbers are those of the classes in a list of names beside, or else the names themselves. Raises AnnotationError, with file and
    line, for a line that cannot be read and a number without a class.
    """
    found = _all_lists(data)
    lists = [each for each in found if each.split] or found[:1]
    if not lists:
        raise DataError(
            "no list of images with labels",
            where=str(data),
            got=", ".join(name for name in child_names(data) if name.lower().endswith(".txt")) or "no .txt file",
            expected="lines such as 'a.jpg cat dog', 'a.jpg 2 7' or 'a.jpg<TAB>0,1,0'",
        )
    _tell_others(data, lists, [each.path.name for each in found if each not in lists], log=context.log)
    root = data.parent if data.is_file() else data
    if data.is_file() and root.name in _PLACES and class_list(root) is None and class_list(root.parent):
        root = root.parent
    places = (root, *(root / place for place in _PLACES[1:]), *(each.path.parent for each in lists))
    names = next((found for place in places if (found := class_list(place))), None)
    lines = [line for each in lists for line in _lines(each, with_endings=names is None or not _are_bare(each.path, names))]
    log = context.log
    log.found("images", "the lines of " + ", ".join(str(each.path.relative_to(root)) for each in lists))
    if any(each.split for each in lists):
        log.found("split", "the names of the lists")
    folders_of = {each.split: _image_folders(root, lists, each.split) for each in lists}
    records = (
        replace(record, path=context.index.require(record.image, folders_of[record.split], where=record.where))
        for record in records_of_lines(lines, names=names, separator=separator, log=log)
    )
    return dataset_of(records, source=f"text {data}", context=context, declared=names.names if names else ())


# ---- which files ----


def _all_lists(data: Path) -> list[TextList]:
    """The lists in the usual places of a folder, or else in its folders of splits; a file is one itself."""
    if data.is_file():
        return [TextList(path=data, split="")]
    return _lists_in(data, _PLACES) or _lists_in(data, [folder.name for _, folder in split_folders(data)])


def _tell_others(data: Path, lists: Sequence[TextList], others: Sequence[str], *, log: ReadingLog) -> None:
    """Note the lists that are not read; raises DataError where only the order of their names would choose among several."""
    if others and not lists[0].split:
        log.doubt(
            DataError(
                "several lists of images with labels, and none is named after a split",
                where=str(data),
                got=", ".join([lists[0].path.name, *others[:5]]),
                expected="one list, or lists named train, val and test",
                next_step=f"give the file itself, such as {lists[0].path}; or read {lists[0].path.name} alone with --yes",
            )
        )
    log.note(no_splits_note(others))


def _lists_in(data: Path, places: Sequence[str]) -> list[TextList]:
    found: list[TextList] = []
    for place in places:
        names = child_names(data / place)
        stems = {name.rpartition(".")[0] for name in names if is_image(name)}
        texts = [name for name in names if name.lower().endswith(".txt") and name[:-4] not in stems]
        texts = [name for name in texts if not is_class_list(data / place / name)]
        if not 0 < len(texts) <= _MAX_FILES:
            continue
        classes = class_list(data / place) or class_list(data)
        for name in texts:
            found += _if_list(data / place / name, names=classes, split=split_of(place) or "")
    return found


def _if_list(path: Path, *, names: ClassList | None, split: str) -> list[TextList]:
    lines = [line for line in read_beginning(path).splitlines() if line.strip()][:1000]
    if not lines:
        return []
    matches = [_NAMED_LINE.fullmatch(line.strip()) for line in lines]
    labels = [match["labels"].strip(" \t,;|") for match in matches if match]
    is_list = len(labels) == len(lines) and any(labels) and not all(label.lower().endswith(".xml") for label in labels)
    is_list = is_list or (names is not None and names.path.name.lower() == _SYNSETS and _are_numbered(lines, names))
    return [TextList(path=path, split=_split_of(path) or split)] if is_list else []


def _are_bare(path: Path, names: ClassList) -> bool:
    """Whether the names of a list have no endings, as an older datumaro writes them."""
    lines = [line for line in read_beginning(path).splitlines() if line.strip()][:1000]
    return not all(_NAMED_LINE.fullmatch(line.strip()) for line in lines) and _are_numbered(lines, names)


def _are_numbered(lines: Sequence[str], names: ClassList) -> bool:
    """Whether each line is a name with numbers of classes, and some have one."""
    matches = [_BARE_LINE.fullmatch(line.strip()) for line in lines]
    labels = [match["labels"].split() if match else ["?"] for match in matches]
    return any(labels) and all(label.isdecimal() and int(label[:9]) <= len(names.names) for row in labels for label in row)


def _split_of(path: Path) -> str:
    """The split among the words of a file's name; "" for none, and for two as in train_val."""
    splits = {split for word in _WORDS.split(path.stem) if (split := split_of(word))}
    joined = re.search(r"(train|val|test)_?(images?)?_?list", path.stem, re.IGNORECASE)
    return splits.pop() if len(splits) == 1 else split_of(joined[1]) or "" if joined and not splits else ""


def _image_folders(root: Path, lists: Sequence[TextList], split: str) -> tuple[str, ...]:
    """Where the images of a split are: beside its lists, in the usual folders, and in the folders of splits, its own ones first."""
    above = root.parent if root.name in _PLACES[1:] else root
    splits = [folder.name for _, folder in split_folders(above)]
    splits += [f"images/{folder.name}" for _, folder in split_folders(above / "images")]
    splits.sort(key=lambda name: split_of(name.rpartition("/")[2]) != split)
    list_folders = [str(each.path.parent) for each in lists if each.split == split]
    return tuple(dict.fromkeys([*list_folders, *(str(above / place) for place in ("", "images", "data", *splits))]))


# ---- lines ----


def _lines(listed: TextList, *, with_endings: bool) -> list[ListLine]:
    pattern = _NAMED_LINE if with_endings else _BARE_LINE
    found: list[ListLine] = []
    for number, line in enumerate(read_text(listed.path).splitlines(), start=1):
        if not line.strip():
            continue
        match = pattern.fullmatch(line.strip())
        if match is None:
            raise AnnotationError(
                "a line without an image",
                where=f"{listed.path}:{number}",
                got=repr(line.strip()[:200]),
                expected="the name of an image, then its labels",
            )
        where = f"{listed.path}:{number}"
        found.append(ListLine(image=match["quoted"] or match["name"], labels=match["labels"], split=listed.split, where=where))
    return found
