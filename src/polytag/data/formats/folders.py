"""Formats by folder names: one folder per label, and Hugging Face's imagefolder with its metadata file.

https://huggingface.co/docs/datasets/image_dataset
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.listing import (
    child_names,
    find_images,
    left_out_note,
    more,
    other_folders_note,
    split_folders,
    split_of,
    walk_images,
)
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.data.formats.rows import read_table
from polytag.data.formats.table_columns import Columns
from polytag.data.formats.tables import TableFile, read_tables
from polytag.errors import AnnotationError, DataError
from polytag.files import open_regular

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_NO_LABELS = frozenset(
    {"images", "imgs", "img", "jpegimages", "pictures", "photos", "labels", "annotations", "data", "image_2", "label_2"}
)
_UNLABELLED = frozenset({"unlabeled", "unlabelled", "_unlabeled"})  # images that nobody has looked at; the last is FiftyOne's
_SET = re.compile(r"[-_ ]?(set|data|dataset|images|imgs|split)$", re.IGNORECASE)  # training_set, train_images
_NO_LABEL = "no_label"  # datumaro's folder of images that were looked at and have none of the labels


# ---- a folder per label ----


def is_folder(data: Path) -> bool:
    """Whether there are images in folders that may be labels; names such as `images` and `train` are not labels."""
    for inside, names, _ in walk_images(data):
        folders = inside.split("/")[:-1]
        label = folders[1:2] if folders and _split_of(folders[0]) else folders[:1]
        if names and label and label[0].lower() not in _NO_LABELS and not _split_of(label[0]):
            return True
    return False


def _split_of(name: str) -> str | None:
    return split_of(name) or split_of(_SET.sub("", name))


def read_folder(data: Path, *, context: ReadingContext) -> Dataset:
    """Read `<label>/<image>`, or `<split>/<label>/<image>`; labels in alphabetical order.

    Files of one split that have the same name in their label's folder and the same content are one image with several labels. A
    label whose folder lacks the image is ABSENT, and so are all for images in datumaro's folder `no_label`. The id is the first
    file's path. Raises DataError where there is no image, and where the folders may be something else than labels.
    """
    below = find_images(data)
    context.log.note(left_out_note(below.left_out))
    context.log.found("labels", "the names of folders")
    found: dict[tuple[str, str, str], tuple[str, list[str]]] = {}  # (split, name, content) -> first file and labels
    for split, folder, labels in _places(below.images, data=data, log=context.log):
        files: dict[str, list[tuple[str, str]]] = {}
        for label, names in labels.items():
            for name in names:
                files.setdefault(name, []).append((label, f"{folder}{label}/{name}"))
        for name, places in files.items():
            for label, path in places:
                content = _digest(data / path) if len(places) > 1 else ""
                found.setdefault((split, name, content), (path, []))[1].append(label)
    if not found:
        raise DataError(
            "no image in a folder of its label", where=str(data), got="none", expected="such as cat/1.jpg or train/cat/1.jpg"
        )
    if any(_NO_LABEL in labels for _, labels in found.values()):
        context.log.note(f"images in the folder {_NO_LABEL}, as datumaro writes it, have none of the labels")
    records = [
        Record(
            image=path,
            id=path,
            path=data / path,
            split=split,
            where=str(data / path),
            present=[x for x in labels if x != _NO_LABEL],
        )
        for (split, _, _), (path, labels) in sorted(found.items(), key=lambda item: item[1][0].split("/"))
    ]
    return dataset_of(records, source=f"folder {data}", context=context)


_Labels = Mapping[str, Sequence[str]]  # the images of each folder, by their paths in there


def _places(images: Sequence[str], *, data: Path, log: ReadingLog, above: str = "") -> Iterator[tuple[str, str, _Labels]]:
    """(split, its folder with a "/", labels): the folders named after splits if they hold folders; else the data folder."""
    outer = _by_folder(images)
    _note_loose(outer, above, log)
    only = next(iter(outer)) if len(outer) == 1 else ""
    if only and not _split_of(only) and _are_deeper(outer):
        _doubt_depth(above, outer, data=data, log=log)
        yield from _places(outer[only], data=data, log=log, above=f"{above}{only}/")
        return
    splits = [name for name in outer if _split_of(name) and any("/" in inside for inside in outer[name])]
    if not splits:
        yield "", above, _labels_in(above, outer, data=data, log=log)
        return
    others = [name for name in outer if name not in splits]
    if len(splits) == 1 and not all(map(split_of, others)):
        log.doubt(
            DataError(
                f"{splits[0]!r} may be a split or a label",
                where=str(data / above),
                got=f"folders in {splits[0]!r}, and beside it " + ", ".join(map(repr, others[:5])) + more(len(others) - 5),
                expected="splits alone, such as train and val, or labels alone",
                next_step=f"give the folder {data / above / splits[0]}; or read {splits[0]!r} as the only split with --yes",
            )
        )
    if others:
        log.note("left out, because they are no splits with folders of labels: " + ", ".join(f"{above}{name}/" for name in others))
    log.found("split", "the names of folders")
    for name in splits:
        labels = _by_folder(outer[name])
        _note_loose(labels, f"{above}{name}/", log)
        yield _split_of(name) or "", f"{above}{name}/", _labels_in(f"{above}{name}/", labels, data=data, log=log)


def _by_folder(paths: Sequence[str]) -> dict[str, list[str]]:
    """The rest of each path by its first folder; "" for what is in none."""
    found: dict[str, list[str]] = {}
    for path in paths:
        folder, _, rest = path.rpartition("/") if "/" not in path else path.partition("/")
        found.setdefault(folder, []).append(rest)
    return found


def _note_loose(folders: dict[str, list[str]], inside: str, log: ReadingLog) -> None:
    """Take away what no folder can label, and say so."""
    if loose := folders.pop("", []):
        log.note(f"left out, in no folder of a label: {inside}{loose[0]}" + more(len(loose) - 1))
    for name in [name for name in folders if name.lower() in _UNLABELLED]:
        log.note(f"left out, not labelled: {inside}{name}/, images: {len(folders.pop(name)):,}")


def _labels_in(folder: str, labels: _Labels, *, data: Path, log: ReadingLog) -> _Labels:
    """These labels; raises DataError where most images are in folders within the labels."""
    log.note(_without_images(data, folder, labels))
    if _are_deeper(labels):
        _doubt_depth(folder, labels, data=data, log=log)
    return labels


def _are_deeper(labels: _Labels) -> bool:
    """Whether more than half of the images are in folders within the labels."""
    is_deeper = ["/" in name for names in labels.values() for name in names]
    return sum(is_deeper) * 2 > len(is_deeper)


def _doubt_depth(folder: str, labels: _Labels, *, data: Path, log: ReadingLog) -> None:
    inner = list(
        dict.fromkeys(f"{label}/{name.partition('/')[0]}" for label, names in labels.items() for name in names if "/" in name)
    )
    outer = ", ".join(list(labels)[:3]) + more(len(labels) - 3)
    log.doubt(
        DataError(
            "the labels may be one folder deeper",
            where=str(data / folder),
            got="images in " + ", ".join(inner[:5]) + more(len(inner) - 5),
            expected="such as cat/1.jpg or train/cat/1.jpg",
            next_step=f"give the folder {data / folder / _innermost(labels)}; or accept its folders as labels or splits with --yes"
            if len(labels) == 1
            else f"give one of these folders; or, if the labels are {outer}, accept them with --yes",
        )
    )


def _innermost(labels: _Labels) -> str:
    """The path of the only folder, and of the only folder within, down to where there are several, or splits."""
    [(name, inside)] = labels.items()
    inner = _by_folder(inside)
    only = next(iter(inner)) if len(inner) == 1 else ""
    return f"{name}/{_innermost(inner)}" if only and not _split_of(only) and _are_deeper(inner) else name


def _without_images(data: Path, inside: str, labels: Mapping[str, object]) -> str:
    """A sentence about folders that may have been meant as labels."""
    folder = data / inside
    empty = [
        name
        for name in child_names(folder)
        if name not in labels
        and not _split_of(name)
        and name.lower() not in (_NO_LABELS | _UNLABELLED)
        and (folder / name).is_dir()
    ]
    if not labels or not empty:
        return ""
    return "folders without an image are no labels: " + ", ".join(f"{inside}{name}/" for name in empty[:4]) + more(len(empty) - 4)


def _digest(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            "an image cannot be opened", where=str(path), got=error.strerror or str(error), expected="a readable file"
        ) from error


# ---- imagefolder ----


def is_imagefolder(data: Path) -> bool:
    """Whether there is a metadata file, in the folder or in a folder named after a split."""
    return bool(_metadata(data))


def read_imagefolder(data: Path, *, columns: Columns, context: ReadingContext) -> Dataset:
    """Read `metadata.csv`, `.jsonl` or `.parquet`, next to the images or in each split's folder.

    Its column `file_name` is relative to the file itself; labels are as in any table. Ids are paths relative to `data`.
    Raises AnnotationError as `read_tables` does, and for a folder with two metadata files.
    """
    files = [TableFile(path=data, split="", image_folders=(str(data.parent),))] if data.is_file() else _metadata(data)
    if not files:
        raise DataError(
            "no metadata file", where=str(data), got="none", expected=" or ".join(_METADATA) + ", or one in each split's folder"
        )
    root = data.parent if data.is_file() else data
    if all(file.split for file in files):
        context.log.note(other_folders_note(data, holds=lambda folder: not set(_METADATA).isdisjoint(child_names(folder))))
    tables = [read_table(file.path) for file in files]
    source = f"imagefolder {data}"
    return read_tables(files, tables, root=root, columns=columns, source=source, ids_as_listed=False, context=context)


def _metadata(data: Path) -> Sequence[TableFile]:
    found: list[TableFile] = []
    for split, place in (("", data), *split_folders(data)):
        metadata = [name for name in child_names(place) if name in _METADATA]
        if len(metadata) > 1:
            raise AnnotationError(
                "two metadata files in one folder", where=str(place), got=", ".join(metadata), expected="one of them"
            )
        found += [TableFile(path=place / name, split=split, image_folders=(str(place),)) for name in metadata]
    return found
