"""Shared by all annotation formats: reading UTF-8 text, split names, and finding listed images with one scan per folder."""

import errno
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, require_class_name
from polytag.errors import AnnotationError, DataError
from polytag.files import open_regular
from polytag.parsing import Malformed, parse_lenient_json, parse_text_yaml

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Endings of image file names, in any letter case. When a file is decoded, its first bytes decide its format."""

UNSAID = -2
"""A target that the annotations do not name, while they are read: the reading options say whether it is ABSENT or UNKNOWN."""

TREATMENTS: Mapping[str, int] = {"ignore": UNKNOWN, "positive": PRESENT, "negative": ABSENT}
"""The target of a class of which an image contains only doubtful objects: difficult, crowd or small ones."""

_SPLITS = {
    "train": "train", "training": "train", "trainval": "trainval",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_OF_SYSTEMS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}  # macOS, Synology, Windows, Linux
    | {"__pycache__", "node_modules", "site-packages", "venv", "wandb", "mlruns", "lightning_logs"}  # programs and their logs
)
_MAX_RUNS = 20  # folders that are looked into for a training run
_YEAR = re.compile(r"[-_ ]?(19|20)\d\d$")


def split_of(name: str) -> str | None:
    """ "train", "val", "test" or "trainval" for their usual names, such as "Training", "valid" or "val2017"; else None."""
    return _SPLITS.get(_YEAR.sub("", name.strip().lower()))


def note(target_C: np.ndarray, column: int, value: int) -> None:
    """Record an object of a class in a row that starts as UNSAID: PRESENT outweighs UNKNOWN, and both ABSENT, in any order."""
    if value == PRESENT or target_C[column] == UNSAID or (value == UNKNOWN and target_C[column] == ABSENT):
        target_C[column] = value


def read_text(path: Path) -> str:
    """Read an annotation file, UTF-8 with or without a byte order mark; line ends are unchanged.

    Raises AnnotationError, with the line, for a file that is not UTF-8, and for one that cannot be read.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # the "Unicode text" of spreadsheets
        raise AnnotationError(
            "the file is not UTF-8 text",
            where=f"{path}:{line}",
            got="UTF-16" if is_utf16 else f"byte 0x{content[error.start]:02x}",
            expected="UTF-8",
            next_step="save it as UTF-8, for example with "
            f"`iconv -f {'UTF-16' if is_utf16 else 'WINDOWS-1252'} -t UTF-8 {path.name}`",
        ) from error


def read_json(text: str, *, path: Path, first_line: int = 1, without: Sequence[str] = ()) -> object:
    """Decode JSON that starts on `first_line` of a file, without the values of some keys.

    Raises AnnotationError, with the line, for malformed JSON.
    """
    try:
        return parse_lenient_json(text, without=without)
    except Malformed as error:
        where = error.place(path, first_line=first_line) if error.line else f"{path}:{first_line}"
        raise AnnotationError("malformed JSON", where=where, got=error.problem, expected="JSON") from error


def read_text_yaml(text: str, *, path: Path) -> object:
    """Texts of a YAML file; raises AnnotationError, with the line, for malformed YAML, and for what no annotations need."""
    try:
        return parse_text_yaml(text)
    except Malformed as error:
        raise AnnotationError("malformed YAML", where=error.place(path), got=error.problem, expected="YAML") from error


def read_bytes(path: Path) -> bytes:
    """Read an annotation file; raises AnnotationError where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise AnnotationError(
            "an annotation file cannot be read", where=str(path), got=reason(error), expected="a readable file"
        ) from error


def read_beginning(path: Path, *, max_bytes: int = 65_536) -> str:
    """The first whole lines of a file, as far as they are UTF-8, to recognise a format by; "" where it cannot be read."""
    try:
        with open_regular(path) as file:
            content = file.read(max_bytes)
    except (OSError, ValueError):
        return ""
    if len(content) == max_bytes:
        content = content[: content.rfind(b"\n") + 1]
    return content.decode("utf-8-sig", errors="ignore")


def reason(error: Exception) -> str:
    """What the system says of a file that cannot be read."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def existing_path(data: str | Path) -> Path:
    """The absolute path of a folder or file of annotations; raises DataError where there is none."""
    path = Path(os.path.abspath(data))
    if not os.path.exists(path):  # also False for a name that is too long for the system
        raise DataError(
            "the data folder does not exist",
            where=str(path),
            expected="a folder of images and annotations, or an annotation file",
        )
    if not (os.path.isdir(path) or os.path.isfile(path)):
        raise DataError(
            "the data are neither a folder nor a file",
            where=str(path),
            got="a device or a pipe",
            expected="a folder of images and annotations, or an annotation file",
        )
    return path


def child_names(folder: Path) -> list[str]:
    """Names in a folder, sorted, without hidden ones and those of systems; empty where there is no such folder."""
    return list(_scanned(str(folder)).shown)


def child_folders(folder: Path) -> list[str]:
    """The folders among `child_names`."""
    return sorted(name for name in _scanned(str(folder)).folders if not is_clutter(name))


def split_folders(folder: Path) -> list[tuple[str, Path]]:
    """The folders in a folder that have the names of splits, with the splits."""
    return [(split, folder / name) for name in child_folders(folder) if (split := split_of(name))]


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden (`.ipynb_checkpoints`, `._a.jpg`), or one that systems put beside people's files."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def is_image(name: str) -> bool:
    """Whether a file name has the ending of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class ImagesBelow:
    """The images in a folder and below.

    images     paths relative to the folder, with "/", sorted
    left_out   what is none of the user's images: hidden files and folders that hold images, system folders, and training runs
    """

    images: list[str]
    left_out: list[str]


def images_below(folder: Path) -> list[str]:
    """Paths of all images in a folder and below, relative to it, with "/", sorted; without what `find_images` leaves out."""
    return find_images(folder).images


def find_images(folder: Path) -> ImagesBelow:
    """All images in a folder and below, and what was left out. Links to folders are followed, except to others of the same data."""
    found: list[str] = []
    left_out: list[str] = []
    for inside, names, left in walk_images(folder):
        found += [inside + name for name in names]
        left_out += left
    return ImagesBelow(images=sorted(found), left_out=sorted(left_out))


def walk_images(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """For each folder, as it is found: its relative path with a "/" at the end, its images, and what is left out there."""
    seen: set[str] = set()
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        inside = "" if place == str(folder) else Path(place).relative_to(folder).as_posix() + "/"
        is_link_inside = bool(inside) and os.path.islink(place) and real.startswith(root + os.sep)
        if real in seen or is_link_inside:
            folders.clear()
            if not place.startswith(real + os.sep):  # no circle
                yield inside, [], [inside + " (a link to another folder of the data)"]
            continue
        seen.add(real)
        if inside and (_is_run(folders, files) or _holds_runs(place, folders)):
            folders.clear()
            yield inside, [], [inside + " (training runs)"]
            continue
        left_out = [inside + name for name in files if is_image(name) and is_clutter(name)]
        left_out += [inside + name + "/" for name in folders if is_clutter(name) and _is_told(os.path.join(place, name))]
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        yield inside, [name for name in files if is_image(name) and not is_clutter(name)], left_out


def left_out_note(left_out: Sequence[str]) -> str:
    """A sentence about what `find_images` left out; "" for nothing."""
    if not left_out:
        return ""
    return "left out, because people do not put their images there: " + ", ".join(left_out[:4]) + more(len(left_out) - 4)


def other_folders_note(folder: Path, *, holds: Callable[[Path], bool]) -> str:
    """A sentence about folders that hold what those of the splits beside them do, and have no name of a split; "" for none."""
    names = [f"{name}/" for name in child_folders(folder) if not split_of(name) and holds(folder / name)]
    return no_splits_note(names)


def no_splits_note(names: Sequence[str]) -> str:
    """A sentence about folders or files that are left out beside those with names of splits; "" for none."""
    return "left out, because their names are no splits: " + ", ".join(names[:5]) + more(len(names) - 5) if names else ""


def more(number: int) -> str:
    """ " and 3 more"; "" for none."""
    return f" and {number:,} more" if number > 0 else ""


def _is_run(folders: Sequence[str], files: Sequence[str]) -> bool:
    """Whether a folder is the output of a training, polytag's or Ultralytics', whose images are plots and grids."""
    return "args.yaml" in files and ("results.csv" in files or not {"best", "last", "weights"}.isdisjoint(folders))


def _holds_runs(folder: str, folders: Sequence[str]) -> bool:
    """Whether a folder is the `runs` of polytag or Ultralytics, beside whose trainings lie predictions and reports."""
    if os.path.basename(folder) != "runs":
        return False
    inner = [os.path.join(folder, name) for name in folders[:_MAX_RUNS]]
    inner += [os.path.join(place, name) for place in inner for name in child_folders(Path(place))[:_MAX_RUNS]]
    return any(os.path.isfile(os.path.join(place, "args.yaml")) for place in inner)


def _is_told(folder: str) -> bool:
    """Whether a hidden or system folder may be taken for data, so that leaving it out is worth a word."""
    return not os.path.basename(folder).startswith(".") or any(map(is_image, scan(folder)))


def relative_id(path: Path, root: Path) -> str:
    """An image's id: its path relative to the data folder, with "/"; the whole path for an image elsewhere."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names, sorted; by value where all are whole numbers, so that "10" comes after "9"."""
    distinct = set(names)
    if all(re.fullmatch(r"\d{1,18}", name) for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def require_classes(names: Sequence[str], *, where: Path) -> None:
    """Raises DataError where there is no class, a name that cannot be shown, or one name for two classes."""
    if not names:
        raise DataError(
            "no class was found", where=str(where), got="annotations without a single label", expected="at least one label"
        )
    for name in names:
        require_class_name(name, where=str(where))
    if (twice := first_repeated(names)) is not None:
        raise DataError("a class name is given twice", where=str(where), got=repr(twice), expected="every class once")


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that was there before; None where all are distinct."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)


# ---- folders ----


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """The names in a folder, in no order. Links count as what they lead to."""

    names: Sequence[str] = ()
    files: Sequence[str] = ()
    folders: Sequence[str] = ()

    @cached_property
    def shown(self) -> list[str]:
        return sorted(name for name in self.names if not is_clutter(name))


_scans: ContextVar[dict[str, _Scan] | None] = ContextVar("_scans", default=None)


@contextmanager
def scanning_once() -> Generator[None]:
    """Within, each folder is scanned once: thirty formats look for their files in the same few folders."""
    token = _scans.set({})
    try:
        yield
    finally:
        _scans.reset(token)


def scan(folder: str) -> Sequence[str]:
    """The names of the files in a folder, also hidden ones, in no order; empty where there is no such folder."""
    return _scanned(folder).files


def _scanned(folder: str) -> _Scan:
    scans = _scans.get()
    if scans is None:
        return _scan(folder)
    if folder not in scans:
        scans[folder] = _scan(folder)
    return scans[folder]


def _scan(folder: str) -> _Scan:
    if "\0" in folder:
        return _Scan()
    names: list[str] = []
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                names.append(entry.name)
                with suppress(OSError):  # a link to itself is neither
                    if entry.is_file():
                        files.append(entry.name)
                    elif entry.is_dir():
                        folders.append(entry.name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return _Scan()
        raise DataError(
            "a folder cannot be read", where=folder, got=error.strerror or str(error), expected="a readable folder"
        ) from error
    return _Scan(names=names, files=files, folders=folders)
