"""The images of a written data set: distinct names, and links or copies under them."""

import os
import re
import shutil
from pathlib import Path

from polytag import files
from polytag.contracts import Dataset
from polytag.data.formats.listing import is_image
from polytag.data.images.read import suffix_of
from polytag.data.images.stored import is_image_there, open_image, split_stored
from polytag.errors import DataError, RunError


def image_names(dataset: Dataset, *, without: str = "") -> list[str]:
    """N names without endings, one for each image file: its id, with "_" for spaces and whatever has a meaning in a path.

    Nor does a name have any of the characters `without`. Raises DataError for a file that is two images of one split.
    """
    replaced = re.compile(rf"[\s/\\:\0{re.escape(without)}]+")
    id_of: dict[Path, str] = {}
    used: set[str] = set()
    number_of: dict[str, int] = {}  # the last one that a word got, so that a million equal words cost no search
    first: dict[tuple[str, Path], str] = {}
    for name, path, split in zip(dataset.ids, dataset.paths, dataset.split_N, strict=True):
        if (other := first.setdefault((split, path), name)) != name:
            raise DataError(
                "two images of a split are one file",
                where=dataset.source,
                got=f"{other!r} and {name!r}, both {path}",
                expected="a file for each image",
                next_step="join their labels; or convert to csv, parquet or hf, which hold both",
            )
        if path in id_of:
            continue
        stem = os.path.splitext(name)[0] if is_image(name) else name
        word = wanted = replaced.sub("_", stem).strip("._") or "image"
        while word.lower() in used:  # some file systems ignore letter case
            number = number_of[wanted.lower()] = number_of.get(wanted.lower(), 1) + 1
            word = f"{wanted}-{number}"
        used.add(word.lower())
        id_of[path] = word
    return [id_of[path] for path in dataset.paths]


def place_image(source: Path, name: Path) -> Path:
    """Put the image under this name with the ending of its path; an image inside a file gets the ending of its format.

    It becomes a hard link where the file system allows, else a copy. Returns the file.
    """
    if split_stored(source) is not None:
        with open_image(source) as image:
            content = image.read()
        target = name.with_name(name.name + suffix_of(content, where=str(source)))
        files.write_bytes(target, content, durable=False)
        return target
    target = name.with_name(name.name + source.suffix.lower())
    real = os.path.realpath(source)  # a hard link to a symbolic link would break with it
    try:
        os.link(real, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(real, target)
    return target


def require_images(dataset: Dataset) -> None:
    """Raises DataError for an image that is no longer there."""
    for path in dataset.paths:
        if not is_image_there(path):
            raise DataError("an image does not exist", where=str(path), expected="the file that existed when the data were read")


def require_new(path: Path) -> None:
    """Raises RunError where something exists already, other than an empty folder: nothing is overwritten."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(
            "the output exists already",
            where=str(path),
            expected="a new name, or an empty folder",
            next_step="choose another name, or remove it; nothing is overwritten",
        )
