"""Pascal VOC devkits of 2007 to 2012, and folders of VOC's XML files as annotation tools write them.

The lists `ImageSets/Main/<class>_<split>.txt` take precedence: one line per image, its id and 1 (present), -1 (absent) or 0 (only
difficult objects). Without lists, the XML annotations are read. Format: the VOC2012 development kit, section 4.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.formats.listing import TREATMENTS, child_names, is_image, read_text, split_of
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.voc_xml import parse_xml, read_xml, xml_places
from polytag.errors import AnnotationError, DataError

_SPLITS = ("train", "val", "trainval", "test")
_LABEL_WORD = re.compile(r"(.*\S)\s+(?:-1|0|1)")
_XML_WORD = re.compile(r"(?<=\S)\s+\S+\.xml$", re.IGNORECASE)  # PaddleDetection's lists: the image, then its XML file


def is_voc(data: Path) -> bool:
    """Whether a folder is a devkit, or contains devkits or VOC's XML files."""
    return bool(_devkits(data) or xml_places(data))


def read_voc(data: Path, *, difficult: str, context: ReadingContext) -> Dataset:
    """Read `VOCdevkit` with one year in it, `VOC2012` itself, or a folder of XML files; classes in alphabetical order.

    `difficult` is the treatment of a class of which an image contains only difficult objects. An image that is not in a class's
    list is UNKNOWN for that class. `trainval` is ignored where `train` and `val` exist.
    With a `labelmap.txt`, which datumaro and CVAT write, an image in no class's list has the objects of its XML file.
    Raises AnnotationError for invalid content of a list or XML file, DataError where the folder is ambiguous or empty.
    """
    folder = _one_devkit(data)
    main = _main_lists(folder / "ImageSets" / "Main")
    label_map = _label_map(folder / "labelmap.txt")
    if main.of_classes and not (xml_places(folder) and _are_empty(main)):
        context.log.found("labels", "lists in ImageSets/Main")
        context.log.found("split", "lists in ImageSets/Main")
        return _read_lists(folder, main, label_map=label_map, difficult=difficult, context=context)
    if not xml_places(folder):
        raise DataError(
            "no VOC annotations",
            where=str(folder),
            got="no file such as ImageSets/Main/cat_train.txt, and no XML file in Annotations",
            expected="VOC's class lists, or XML annotations",
        )
    context.log.found("labels", "the objects of XML files")
    main = main if main.of_splits else _lists_elsewhere(folder)
    return read_xml(folder, lists=_split_lists(main, log=context.log), label_map=label_map, difficult=difficult, context=context)


def annotation_files(data: Path) -> Mapping[str, Path]:
    """The folder of the XML files of each split, named `<id>.xml`; the key is "" for one folder of all splits."""
    return {place.split: place.folder for place in xml_places(_one_devkit(data))}


def _devkits(data: Path) -> list[Path]:
    """The folder itself, or the years in it or in its folder VOCdevkit."""
    if _has_main(data):
        return [data]
    for folder in (data, data / "VOCdevkit"):
        years = [folder / name for name in child_names(folder) if re.fullmatch(r"VOC\d{4}", name)]
        if years := [year for year in years if _has_main(year) or xml_places(year)]:
            return years
    return []


def _has_main(folder: Path) -> bool:
    return (folder / "ImageSets" / "Main").is_dir()


def _one_devkit(data: Path) -> Path:
    devkits = _devkits(data)
    if len(devkits) > 1:
        raise DataError(
            "several years of VOC in one folder",
            where=str(data),
            got=", ".join(devkit.name for devkit in devkits),
            expected="one",
            next_step=f"give the year's own folder, such as {devkits[-1]}",
        )
    return devkits[0] if devkits else data


# ---- lists ----


@dataclass(frozen=True, kw_only=True)
class _Main:
    """The lists of ImageSets/Main: of every split's images, and by split of every class; splits in the order of `_SPLITS`."""

    of_splits: Mapping[str, Path]
    of_classes: Mapping[str, Mapping[str, Path]]


def _main_lists(main: Path) -> _Main:
    """The lists by their names: `train.txt` (CVAT: `Train.txt`, `default.txt`, any subset), and `cat_train.txt` for each split."""
    stems = [name[:-4] for name in child_names(main) if name.lower().endswith(".txt")]
    usual = [stem for stem in stems if split_of(stem) or stem == "default"]
    of_usual = re.compile(rf".+_({'|'.join(map(re.escape, {*usual, *_SPLITS}))})", re.DOTALL)
    others = {stem for stem in stems if stem not in usual and not of_usual.fullmatch(stem)}
    endings = {stem[at + 1 :] for stem in stems for at, letter in enumerate(stem) if letter == "_"}
    ends = sorted({*usual, *_SPLITS, *(others & endings)})
    of_class = re.compile(rf"(.+)_({'|'.join(map(re.escape, ends))})", re.DOTALL)
    found: dict[str, dict[str, Path]] = {}
    of_splits: dict[str, Path] = {}
    for stem in stems:
        if stem in usual or (stem in others and stem not in found):
            of_splits[_split(stem)] = main / f"{stem}.txt"
        elif match := of_class.fullmatch(stem):
            found.setdefault(_split(match[2]), {})[match[1]] = main / f"{stem}.txt"
    for lists in (found, of_splits):
        if "train" in lists and "val" in lists:
            lists.pop("trainval", None)
    order = [*_SPLITS, *sorted({*found, *of_splits} - set(_SPLITS))]
    return _Main(
        of_splits={split: of_splits[split] for split in order if split in of_splits},
        of_classes={split: found[split] for split in order if split in found},
    )


def _lists_elsewhere(folder: Path) -> _Main:
    """Lists named after splits that people put into ImageSets, or beside the folder of the XML files."""
    for place in (folder / "ImageSets", folder):
        lists = {split_of(name[:-4]): place / name for name in child_names(place) if name.lower().endswith(".txt")}
        if {"train", "val"} <= lists.keys():
            lists.pop("trainval", None)
        if found := {split: lists[split] for split in _SPLITS if split in lists}:
            return _Main(of_splits=found, of_classes={})
    return _Main(of_splits={}, of_classes={})


def _split(stem: str) -> str:
    return split_of(stem) or stem


def _shown(split: str) -> str:
    """The split's name in the data set: none for CVAT's and datumaro's `default`."""
    return "" if split == "default" else split


def _split_lists(main: _Main, *, log: ReadingLog) -> Mapping[str, Mapping[str, str]]:
    """The ids of each split. A list of another name is a split if it has no image of the usual ones."""
    listed = {split: ids for split, path in main.of_splits.items() if (ids := _listed(path))}
    usual = {id for split in listed if split in _SPLITS for id in listed[split]}
    for split in [split for split in listed if split not in _SPLITS]:
        if not usual.isdisjoint(listed[split]):
            log.note(f"left out, because its images are in other lists too: {main.of_splits[split].name}")
            del listed[split]
    return {_shown(split): ids for split, ids in listed.items()}


def _label_map(path: Path) -> tuple[str, ...]:
    """The classes of datumaro's and CVAT's labelmap.txt: `label:color_rgb:parts:actions` in each line."""
    if not path.is_file():
        return ()
    lines = [line.strip() for line in read_text(path).splitlines()]
    return tuple(dict.fromkeys(name for line in lines if not line.startswith("#") and (name := line.split(":")[0].strip())))


def _are_empty(main: _Main) -> bool:
    return not any(read_text(path).strip() for files in main.of_classes.values() for path in files.values())


def _read_lists(folder: Path, main: _Main, *, label_map: Sequence[str], difficult: str, context: ReadingContext) -> Dataset:
    names = tuple(sorted({name for files in main.of_classes.values() for name in files}))
    values = {"1": PRESENT, "-1": ABSENT, "0": TREATMENTS[difficult]}
    image_folders = [str(folder / "JPEGImages")]
    ids: list[str] = []
    paths: list[Path] = []
    split_N: list[str] = []
    blocks: list[np.ndarray] = []
    for split, files in main.of_classes.items():
        path = main.of_splits.get(split)
        listed = _listed(path) if path else {}  # id -> file:line that first names it
        columns = [_column(_file_of(name, split, files), values=values, listed=listed) for name in names]
        block = np.full((len(listed), len(names)), UNKNOWN, dtype=np.int8)
        row_of = {name: row for row, name in enumerate(listed)}
        for c, column in enumerate(columns):
            block[[row_of[name] for name in column], c] = list(column.values())
        if label_map:
            _add_objects(block, listed, names=names, folder=folder, difficult=difficult, log=context.log)
        ids += listed
        paths += [context.index.require(name, image_folders, where=where) for name, where in listed.items()]
        split_N += [_shown(split)] * len(listed)
        blocks.append(block)
    for split in main.of_splits:
        if split in _SPLITS and split not in main.of_classes:
            context.log.note(f"left out, because no class has a list of it: {main.of_splits[split].name}")
    target_NC = np.concatenate(blocks)
    if "background" in names and "background" in label_map and not (target_NC[:, names.index("background")] == PRESENT).any():
        target_NC = np.delete(target_NC, names.index("background"), axis=1)
        names = tuple(name for name in names if name != "background")
        context.log.found("classes", "the lists' names, without the background of labelmap.txt")
    return Dataset(
        ids=tuple(ids),
        paths=tuple(paths),
        target_NC=target_NC,
        split_N=tuple(split_N),
        label_set=LabelSet(names=names),
        source=f"voc {folder}",
    )


def _add_objects(
    block: np.ndarray, listed: Mapping[str, str], *, names: Sequence[str], folder: Path, difficult: str, log: ReadingLog
) -> None:
    """Objects of XML files, which datumaro writes beside the labels, count too; an image in no list of a class has only these."""
    unlisted = (block == UNKNOWN).all(axis=1) if names else np.zeros(len(block), bool)
    if unlisted.any():
        block[unlisted] = ABSENT
        log.note("images in no list of a class have only the objects of their XML file, if any, as datumaro writes it")
    files = {id: path for place in xml_places(folder) for id, path in place.files.items()}
    for row, id in enumerate(listed):
        for name, is_difficult in parse_xml(files[id])[0] if id in files else ():
            if name not in names:
                raise AnnotationError(
                    "an object of a class without a list",
                    where=str(files[id]),
                    got=repr(name),
                    expected="one of " + ", ".join(names),
                )
            value = TREATMENTS[difficult] if is_difficult else PRESENT
            column = names.index(name)
            block[row, column] = PRESENT if PRESENT in (value, block[row, column]) else value


def _file_of(name: str, split: str, files: Mapping[str, Path]) -> Path:
    if name in files:
        return files[name]
    raise AnnotationError(
        "a class has no list for one of the splits",
        where=str(next(iter(files.values())).parent),
        got=f"no {name}_{split}.txt",
        expected=f"a list of class {name!r} for every split",
    )


def _listed(path: Path) -> dict[str, str]:
    """The ids of a split's list, with file and line. An id may hold spaces; some tools write a 1 or the XML file after each."""
    lines = [_XML_WORD.sub("", text.strip()) for text in read_text(path).splitlines()]
    if lines and all(_LABEL_WORD.fullmatch(text) for text in lines if text):
        lines = [match[1] if (match := _LABEL_WORD.fullmatch(text)) else "" for text in lines]
    listed: dict[str, str] = {}
    for line, text in enumerate(lines, start=1):
        if text:
            _refuse_twice(name := _id(text), listed, where=f"{path}:{line}")
            listed[name] = f"{path}:{line}"
    return listed


def _id(text: str) -> str:
    """An id, which some tools write with its folder and ending: `data/JPEGImages/a.jpg`, `images/a.jpg`."""
    name = text.replace("\\", "/").removeprefix("./")
    name = name.rpartition("JPEGImages/")[2].removeprefix("images/") or name
    return name.rpartition(".")[0] if is_image(name) else name


def _column(path: Path, *, values: Mapping[str, int], listed: dict[str, str]) -> dict[str, int]:
    """Targets by id of one class's list; adds new ids to `listed`."""
    column: dict[str, int] = {}
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.rsplit(maxsplit=1)
        if not words:
            continue
        if len(words) != 2:
            raise AnnotationError(
                "a line of a VOC list cannot be read",
                where=f"{path}:{line}",
                got=repr(text.strip()),
                expected="an image id and 1, 0 or -1",
            )
        name, label = _id(words[0].strip()), words[1]
        if label not in values:
            raise AnnotationError(
                "a label outside 1, 0, -1",
                where=f"{path}:{line}",
                got=repr(label),
                expected="1 (present), -1 (absent) or 0 (only difficult objects)",
            )
        if name in column:
            _refuse_twice(name, column, where=f"{path}:{line}")
        column[name] = values[label]
        if name not in listed:
            listed[name] = f"{path}:{line}"
    return column


def _refuse_twice(name: str, seen: Mapping[str, object], *, where: str) -> None:
    if name in seen:
        raise AnnotationError(
            "an image id is listed twice",
            where=where,
            got=repr(name),
            expected="every id once",
            next_step="remove one of the lines",
        )
