"""Formats by folder names: one folder per label, and Hugging Face's imagefolder with its metadata file.

https://huggingface.co/docs/datasets/image_dataset
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, Dataset, LabelSet
from polytag.data.formats.listing import child_names, class_order, images_below, split_of
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.rows import read_table
from polytag.data.formats.tables import Columns, TableFile, read_tables
from polytag.errors import AnnotationError, DataError
from polytag.files import open_regular

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_NO_LABELS = ("images", "imgs", "img", "jpegimages", "pictures", "photos", "labels", "annotations", "data")


# ---- a folder per label ----


def is_folder(data: Path) -> bool:
    """Whether there are images in folders that may be labels; names such as `images` and `train` are not labels."""
    return any(
        label.lower() not in _NO_LABELS and not split_of(label) and images_below(place / label)
        for _, place in _split_places(data)
        for label in _folders(place)
    )


def read_folder(data: Path, *, context: ReadingContext) -> Dataset:
    """Read `<label>/<image>`, or `<split>/<label>/<image>`; labels in alphabetical order.

    Files of one split that have the same name in their label's folder and the same content are one image with several labels. A
    label whose folder lacks the image is ABSENT. The id is the first file's path. Raises DataError where there is no image.
    """
    context.log.found("labels", "the names of folders")
    found: dict[tuple[str, str, str], tuple[Path, set[str]]] = {}  # (split, name, content) -> first file and labels
    for split, place in _split_places(data):
        files: dict[str, list[tuple[str, Path]]] = {}
        for label in _folders(place):
            for name in images_below(place / label):
                files.setdefault(name, []).append((label, place / label / name))
        for name, places in files.items():
            for label, path in places:
                content = _digest(path) if len(places) > 1 else ""
                found.setdefault((split, name, content), (path, set()))[1].add(label)
    if not found:
        raise DataError(
            "no image in a folder of its label", where=str(data), got="none", expected="such as cat/1.jpg or train/cat/1.jpg"
        )
    rows = sorted(found.items(), key=lambda item: item[1][0])
    names = class_order(label for _, (_, labels) in rows for label in labels)
    column = {name: c for c, name in enumerate(names)}
    target_NC = np.full((len(rows), len(names)), ABSENT, dtype=np.int8)
    for target_C, (_, (_, labels)) in zip(target_NC, rows, strict=True):
        target_C[[column[label] for label in labels]] = PRESENT
    return Dataset(
        ids=tuple(path.relative_to(data).as_posix() for _, (path, _) in rows),
        paths=tuple(path for _, (path, _) in rows),
        target_NC=target_NC,
        split_N=tuple(split for (split, _, _), _ in rows),
        label_set=LabelSet(names=names),
        source=f"folder {data}",
    )


def _split_places(data: Path) -> list[tuple[str, Path]]:
    """(split, folder of label folders): the folders named after splits if all are and contain folders; else the data folder."""
    names = _folders(data)
    splits = [(split_of(name) or "", data / name) for name in names]
    if names and all(split and _folders(place) for split, place in splits):
        return splits
    return [("", data)]


def _folders(place: Path) -> list[str]:
    return [name for name in child_names(place) if (place / name).is_dir()]


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
    tables = [read_table(file.path) for file in files]
    source = f"imagefolder {data}"
    return read_tables(files, tables, root=root, columns=columns, source=source, ids_as_listed=False, context=context)


def _metadata(data: Path) -> Sequence[TableFile]:
    names = child_names(data)
    places = [("", data)] + [(split, data / name) for name in names if (split := split_of(name))]
    found: list[TableFile] = []
    for split, place in places:
        metadata = [name for name in child_names(place) if name in _METADATA]
        if len(metadata) > 1:
            raise AnnotationError(
                "two metadata files in one folder", where=str(place), got=", ".join(metadata), expected="one of them"
            )
        found += [TableFile(path=place / name, split=split, image_folders=(str(place),)) for name in metadata]
    return found
