"""Finds the image files of scores by id, in the given folders and never outside them."""

import os
from collections.abc import Sequence
from pathlib import Path

from polytag.data.formats.listing import is_image
from polytag.errors import DataError


def find_images(ids: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """Return for each id the path of its image in the first folder that has one, or "".

    An id is a path relative to a folder, a file name, or a file name without its suffix. A name that ambiguous images of a folder
    share matches none of them. Links that lead out of their folder are not followed, because the ids may come from anyone's file.
    Raises DataError for a path that is not a folder, and where no image is found.
    """
    paths = [""] * len(ids)
    path_of: dict[str, str] = {}
    for folder in folders:
        path_of, ambiguous = _names_in(folder)
        for row, each in enumerate(ids):
            if not paths[row] and each not in ambiguous:
                paths[row] = path_of.get(each.replace("\\", "/"), "")
    if not any(paths):
        raise DataError(
            "none of the scored images is in the folder",
            where=", ".join(map(str, folders)),
            got=f"{len(path_of):,} names" + (f", such as {', '.join(sorted(path_of)[:3])}" if path_of else ""),
            expected="files named by the ids of the scores, such as " + ", ".join(ids[:3]),
        )
    return tuple(paths)


def _names_in(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Return the images under a folder by every name that an id may use, and the names that several images share."""
    if not folder.is_dir():
        raise DataError("no such folder of images", where=str(folder), expected="a folder")
    root = os.path.realpath(folder)
    path_of: dict[str, str] = {}
    ambiguous: set[str] = set()
    for place, _, names in os.walk(root):
        for name in filter(is_image, names):
            path = os.path.join(place, name)
            if os.path.islink(path) and not is_within(path, root):
                continue
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            for key in {relative, os.path.splitext(relative)[0], name, os.path.splitext(name)[0]}:
                if path_of.setdefault(key, path) != path:
                    ambiguous.add(key)
    return path_of, ambiguous


def is_within(path: str, root: str) -> bool:
    """Whether a path is inside a folder once its links are resolved. The folder must be resolved already."""
    return os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep)
