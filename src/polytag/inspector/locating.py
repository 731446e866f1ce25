"""Images for scores that name none: looked for by id in one folder, and never outside of it."""

import os
from collections.abc import Sequence
from pathlib import Path

from polytag.data.listing import is_image
from polytag.errors import DataError


def locate_images(ids: Sequence[str], folder: Path) -> tuple[str, ...]:
    """For each id the path of its image under the folder, or "".

    An id is a path relative to the folder, a file name, or a file name without its ending; a name that several images have is
    none. A link that leads out of the folder is not followed: ids may come from anyone's file.
    Raises DataError where the folder is none, and where not a single image is found.
    """
    if not folder.is_dir():
        raise DataError("no such folder of images", where=str(folder), expected="a folder")
    root = os.path.realpath(folder)
    path_of: dict[str, str] = {}
    several: set[str] = set()
    for place, _, names in os.walk(root):
        for name in filter(is_image, names):
            path = os.path.join(place, name)
            if os.path.islink(path) and not is_within(path, root):
                continue
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            for key in {relative, os.path.splitext(relative)[0], name, os.path.splitext(name)[0]}:
                if path_of.setdefault(key, path) != path:
                    several.add(key)
    found = tuple("" if each in several else path_of.get(each.replace("\\", "/"), "") for each in ids)
    if not any(found):
        raise DataError(
            "none of the scored images is in the folder",
            where=str(folder),
            got=f"{len(path_of):,} names" + (f", such as {', '.join(sorted(path_of)[:3])}" if path_of else ""),
            expected="files named by the ids of the scores, such as " + ", ".join(ids[:3]),
        )
    return found


def is_within(path: str, root: str) -> bool:
    """Whether a path, links followed, lies under a folder whose own links are followed already."""
    return os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep)
