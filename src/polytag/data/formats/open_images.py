"""Open Images: human-verified labels, present and absent, of images and boxes, as Google, datumaro and FiftyOne lay them out.

https://storage.googleapis.com/openimages/web/download_v7.html
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.formats.listing import UNSAID, child_names, class_order, read_text, reason, split_folders, split_of
from polytag.data.formats.long_tables import ANSWERS, tell_votes
from polytag.data.formats.on_disk import only_on_disk
from polytag.data.formats.records import ReadingContext, dataset_of
from polytag.data.formats.votes import Votes
from polytag.errors import AnnotationError, DataError
from polytag.files import open_regular
from polytag.text import counted

_FILE = re.compile(
    r"(?P<before>.*?)-?annotations-((?P<who>human|machine)-?imagelabels(-boxable)?|(?P<bbox>bbox))\.csv"
    r"|(?P<classifications>classifications)\.csv|(?P<detections>detections)\.csv",
    re.IGNORECASE,
)
_DESCRIPTIONS = re.compile(r"(oidv\d-)?class-descriptions(-boxable)?\.csv|classes\.csv", re.IGNORECASE)
_IMAGES = re.compile(r"(.*?)-?images(-boxable)?-with-rotation\.csv", re.IGNORECASE)
_PLACES = ("", "annotations", "labels", "metadata", "csv_folder")


@dataclass(frozen=True, kw_only=True)
class _LabelFile:
    path: Path
    split: str
    kind: str
    """ "human", "machine" or "boxes"."""


def is_open_images(data: Path) -> bool:
    """Whether there is a file of labels or boxes under the name that Open Images gives it, or the path is one."""
    return bool(_label_files(data))


def read_open_images(data: Path, *, need_images: bool, context: ReadingContext) -> Dataset:
    """Read the labels of people, and the classes of boxes; those of machines are no labels.

    A label with confidence 1 is present, with 0 absent, and every other is unknown. Files without a single 0 and without the source
    of their labels, as datumaro writes them, name all that is present: what they do not name is then absent, also for the images of
    their list that have no row. Images that are not on the disk are left out. The classes that occur are in the order of their
    descriptions. Raises AnnotationError, with file and line, for a confidence outside 0 to 1 and a row without an image or class.
    """
    files = _label_files(data)
    root = data.parent if data.is_file() else data
    machine = [file for file in files if file.kind == "machine"]
    files = [file for file in files if file.kind != "machine"]
    if not files:
        raise DataError(
            "labels of machines only" if machine else "no labels of Open Images",
            where=str(data),
            got=", ".join(file.path.name for file in machine) or "none",
            expected="labels that people verified, such as train-annotations-human-imagelabels.csv",
            next_step="download that file too: a machine's confidence says neither present nor absent",
        )
    if machine:
        context.log.note("labels of machines are not read: " + ", ".join(file.path.name for file in machine))
    names = _descriptions(root)
    votes = Votes(others=UNKNOWN)
    found = [_collect(votes, file, names=names) for file in files]
    context.log.found("images", "column 'ImageID'")
    context.log.found("labels", "column 'LabelName' of " + ", ".join(file.path.name for file in files))
    if any(file.split for file in files):
        context.log.found("split", "the names of the files")
    if num_scores := sum(each.num_scores for each in found):
        context.log.note(f"{counted(num_scores, 'labels')} with a confidence between 0 and 1 {_are(num_scores)} unknown")
    if unnamed := set(votes.labels) - set(names.values()) if names else set[str]():
        context.log.note(f"{counted(len(unnamed), 'classes')} without a description, such as {min(unnamed)!r}")
    _decide_others(votes, files, found, root=root, context=context)
    folders = _image_folders(root, [file.split for file in files])
    records = only_on_disk(votes.records(), context=context, folders=folders, need_images=need_images)
    order = [name for name in dict.fromkeys(names.values()) if name in votes.labels]
    declared = (*order, *class_order(set(votes.labels) - set(order)))
    dataset = dataset_of(records, source=f"openimages {data}", context=context, folders=folders, declared=declared)
    tell_votes(votes, context=context, has_boxes=True)
    return dataset


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


@dataclass(kw_only=True)
class _Found:
    """What the rows of a file have besides labels."""

    num_absent: int = 0
    num_scores: int = 0
    has_source: bool = False


def _decide_others(
    votes: Votes, files: Sequence[_LabelFile], found: Sequence[_Found], *, root: Path, context: ReadingContext
) -> None:
    """Whether a label without a row is unknown, as in Open Images, or absent, as in what datumaro writes."""
    log = context.log
    if any(each.num_absent for each in found):
        log.found("present or absent", "column 'Confidence' (1 or 0); a class without a row is unknown")
        return
    if any(each.has_source for each in found) and context.unsaid == ABSENT:
        log.doubt(
            AnnotationError(
                "labels of Open Images none of which is absent",
                where=str(files[0].path),
                got="confidences of 1 and boxes only",
                expected="also rows with confidence 0, from which a class can be learned",
                next_step="add the file of image labels with its rows of 0; or take what has no row as absent with --yes",
            )
        )
    votes.others = UNSAID
    meaning = "absent" if context.unsaid == ABSENT else "unknown"
    log.found("present or absent", f"no row says absent, so a class without a row is {meaning}")
    for path, split in _split_files(root, _IMAGES):
        for image, _, _, where in _rows(path, ("ImageID",)):
            votes.image(image, where=where, split=split)


# ---- files ----


def _label_files(data: Path) -> list[_LabelFile]:
    if data.is_file():
        match = _FILE.fullmatch(data.name)
        return [_label_file(data, match)] if match and match["before"] is not None else []
    found: list[_LabelFile] = []
    for folder in _folders(data):
        for name in child_names(folder):
            match = _FILE.fullmatch(name)
            if match and (match["before"] is not None or (folder.name == "labels" and folder != data)):
                found.append(_label_file(folder / name, match))
    return found


def _label_file(path: Path, match: re.Match[str]) -> _LabelFile:
    kind = "boxes" if match["bbox"] or match["detections"] else (match["who"] or "human").lower()
    return _LabelFile(path=path, split=_split_in(path), kind=kind)


def _split_in(path: Path) -> str:
    """The split in a file's name, or in the name of the folder above FiftyOne's `labels`."""
    words = re.split(r"[-_.]", path.name)
    return next((split for word in (*words, path.parent.parent.name) if (split := split_of(word))), "")


def _split_files(root: Path, pattern: re.Pattern[str]) -> list[tuple[Path, str]]:
    paths = [folder / name for folder in _folders(root) for name in child_names(folder) if pattern.fullmatch(name)]
    return [(path, _split_in(path)) for path in paths]


def _folders(root: Path) -> list[Path]:
    inside = [folder / place for _, folder in split_folders(root) for place in ("labels", "metadata")]
    return [root / place for place in _PLACES] + inside


def _image_folders(root: Path, splits: Sequence[str]) -> tuple[str, ...]:
    root = root.parent if root.name in ("annotations", "labels", "csv_folder") else root
    named = [folder.name for split, folder in split_folders(root) if split in splits]
    inside = [f"images/{folder.name}" for _, folder in split_folders(root / "images")]
    places = ("", "images", "data", *named, *inside, *(f"{name}/data" for name in named), *(f"{name}/images" for name in named))
    return tuple(str(root / place) for place in places)


# ---- rows ----


def _collect(votes: Votes, file: _LabelFile, *, names: Mapping[str, str]) -> _Found:
    found = _Found()
    columns = ("ImageID", "LabelName") if file.kind == "boxes" else ("ImageID", "LabelName", "Confidence", "Source")
    for image, label, (confidence, source), where in _rows(file.path, columns):
        found.has_source = found.has_source or bool(source)
        number = votes.image(image, where=where, split=file.split)
        answer = PRESENT if file.kind == "boxes" else ANSWERS.get(confidence, None)
        if answer is None:
            if not re.fullmatch(r"0?\.\d+", confidence):
                raise AnnotationError(
                    "a confidence that cannot be read", where=where, got=repr(confidence[:80]), expected="1 (present) or 0 (absent)"
                )
            answer = UNKNOWN
            found.num_scores += 1
        found.num_absent += answer == 0
        votes.add(number, names.get(label, label), answer)
    return found


def _rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, str], str]]:
    """Image, label, confidence and source, and file and line of each row; "" for what is not wanted. Not read as a whole."""
    line = 1
    try:
        with open_regular(path) as content, io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in wanted if name not in header and name != "Source"]
            if missing:
                raise AnnotationError(
                    "the table has no such column",
                    where=f"{path}:1",
                    got=", ".join(header[:20]) or "no line",
                    expected=f"a column {missing[0]!r}",
                )
            places = [header.index(name) if name in wanted and name in header else None for name in _COLUMNS]
            for row in reader:
                line = reader.line_num
                if not row:
                    continue
                cells = [row[place].strip() if place is not None and place < len(row) else "" for place in places]
                if len(row) != len(header) or not cells[0] or ("LabelName" in wanted and not cells[1]):
                    raise AnnotationError(
                        "a row without an image or class" if len(row) == len(header) else "a row does not fit the header",
                        where=f"{path}:{line}",
                        got=",".join(row)[:200],
                        expected=f"{len(header)} fields, with {' and '.join(wanted[:2])}",
                    )
                yield cells[0], cells[1], (cells[2], cells[3]), f"{path}:{line}"
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        got = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise AnnotationError("malformed CSV", where=f"{path}:{line}", got=got, expected="CSV") from error


_COLUMNS = ("ImageID", "LabelName", "Confidence", "Source")


def _descriptions(root: Path) -> dict[str, str]:
    """The name of each class by its code; a name of several codes has its code added."""
    found: dict[str, str] = {}
    for path, _ in _split_files(root, _DESCRIPTIONS):
        for row in csv.reader(io.StringIO(read_text(path), newline="")):
            if len(row) >= 2 and row[0].strip() and row[0] != "LabelName" and row[1].strip():
                found.setdefault(row[0].strip(), row[1].strip())
    codes_of: dict[str, list[str]] = {}
    for code, name in found.items():
        codes_of.setdefault(name, []).append(code)
    return {code: name if len(codes_of[name]) == 1 else f"{name} ({code})" for code, name in found.items()}
