"""Finding the images that annotations list, with one scan of each folder instead of one system call for each image."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from polytag.data.formats.listing import images_below, is_image, scan
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.images.stored import is_image_there, split_stored
from polytag.errors import AnnotationError


class FileIndex:
    """Finds files: scans each folder once, on first use.

    first        folders to search before those that a reader names
    below        the folder in which an image of no named folder is searched by its name alone, at any depth; None: nowhere
    must_exist   False for labels that score predictions, which need no images: `require` then never fails
    log          notes where a search by name, or in another spelling, was needed

    The search below is for data whose images are in none of the named folders: where some are there, one that is not is missing,
    even if a file elsewhere has its name.
    """

    def __init__(
        self,
        *,
        first: Sequence[str] = (),
        below: Path | None = None,
        must_exist: bool = True,
        log: ReadingLog | None = None,
    ):
        self._first = tuple(first)
        self._below = below
        self.must_exist = must_exist
        self._log = log or ReadingLog()
        self._files: dict[str, frozenset[str]] = {}
        self._by_stem: dict[str, dict[str, list[str]]] = {}
        self._by_spelling: dict[str, dict[str, list[str]]] = {}
        self._deep: dict[str, list[str]] | None = None
        self._deep_in: dict[str, dict[str, set[str]]] = {}  # of a name in several folders: its images by each folder above them
        self._name_of: dict[str, str] = {}  # the listed name of each file that was found by its name alone
        self._is_in_place = False
        self._has_told_spelling = False

    def exists(self, path: Path) -> bool:
        """Whether the file exists, or the image inside a file."""
        return path.name in self._names(str(path.parent)) or _is_stored(path)

    def find(self, name: str, folders: Sequence[str], *, elsewhere: bool = True) -> Path | None:
        """The image of this name (relative to one of the folders, or absolute) in the first folder that has it.

        A name without the ending of an image matches the one image of that stem. Backslashes are read as "/" where the unchanged
        name does not exist. Last, a name in another letter case or Unicode form matches the one image with that spelling, and then,
        unless `elsewhere` is False, the one image of that name in a deeper folder. Raises AnnotationError where a name matches two.
        """
        folders = (*self._first, *folders)
        found = self._in_place(name, folders)
        if found is None:
            return self._deeper(name.replace("\\", "/")) if elsewhere else None
        if self._name_of and not self._is_in_place:
            inside, listed = next(iter(self._name_of.items()))
            self._log.doubt(
                AnnotationError(
                    "some images are in the folders of the annotations, and some were found elsewhere by their name alone",
                    where=str(self._below),
                    got=f"{inside!r} for {listed!r}",
                    expected="all images in " + " or ".join(dict.fromkeys(folders)),
                    next_step="put the missing images there; or accept the others with --yes",
                )
            )
        self._is_in_place = True
        return found

    def _in_place(self, name: str, folders: Sequence[str]) -> Path | None:
        spellings = tuple(dict.fromkeys((name, name.replace("\\", "/"))))
        for spelled in spellings:
            for folder in folders:
                path = os.path.join(folder, spelled)
                place, file_name = os.path.split(path)
                if file_name in self._names(place) or _is_stored(path):
                    return Path(os.path.normpath(path) if ".." in path else path)
                if not is_image(spelled) and (stem_match := self._one_of_stem(place, file_name)):
                    return Path(place, stem_match)
        others = (self._in_another_spelling(os.path.join(folder, spellings[-1])) for folder in folders)
        return next((path for path in others if path), None)

    def require(self, name: str, folders: Sequence[str], *, where: str) -> Path:
        """As `find`; raises AnnotationError, with `where` the image is listed, if no folder has it.

        Where images need not exist, returns the path in the first folder instead.
        """
        path = self.find(name, folders)
        if path is None:
            folders = (*self._first, *folders)
            if not self.must_exist:
                return Path(os.path.normpath(os.path.join((*folders, "")[0], name.replace("\0", ""))))
            raise AnnotationError(
                "a listed image does not exist",
                where=where,
                got=repr(name if len(name) <= 200 else name[:200] + "..."),
                expected="an image in " + " or ".join(dict.fromkeys(folders) or [f"a folder below {self._below}"]),
                next_step="put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list",
            )
        return path

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._files:
            self._files[folder] = frozenset(scan(folder))
        return self._files[folder]

    def _one_of_stem(self, folder: str, stem: str) -> str | None:
        if folder not in self._by_stem:
            stems: dict[str, list[str]] = {}
            for file_name in self._names(folder):
                if is_image(file_name):
                    stems.setdefault(os.path.splitext(file_name)[0], []).append(file_name)
            self._by_stem[folder] = stems
        return _only(self._by_stem[folder].get(stem, []), name=stem, where=folder)

    def _in_another_spelling(self, path: str) -> Path | None:
        """The image whose name differs in letter case or Unicode form only."""
        place, file_name = os.path.split(path)
        if place not in self._by_spelling:
            self._by_spelling[place] = _by_spelling(filter(is_image, self._names(place)))
        found = _only(self._by_spelling[place].get(_spelling(file_name), []), name=file_name, where=place)
        if found is None:
            return None
        if not self._has_told_spelling:
            self._log.note(
                f"images whose names differ in capitals or Unicode form only are taken, such as {found!a} for {file_name!a}"
            )
        self._has_told_spelling = True
        return Path(place, found)

    def _deeper(self, name: str) -> Path | None:
        """The image of this name in any folder below `below`; of several, the one whose folders agree."""
        if self._below is None or self._is_in_place or not self.must_exist:
            return None
        if self._deep is None:
            self._deep = {}
            for inside in images_below(self._below):
                for key in {_spelling(os.path.basename(inside)), _spelling(os.path.splitext(os.path.basename(inside))[0])}:
                    self._deep.setdefault(key, []).append(inside)
        folders, _, file_name = name.rpartition("/")
        key = _spelling(file_name)
        found = self._deep.get(key, [])
        if len(found) > 1:
            found = self._agreeing(key, found, folders.split("/"))
        one = _only(found, name=name, where=str(self._below))
        if one is None:
            return None
        if self._name_of.setdefault(one, name) != name:
            raise AnnotationError(
                "two listed images fit one file",
                where=str(self._below),
                got=f"{self._name_of[one]!r} and {name!r}",
                expected=f"one image for {one!r}",
                next_step="name the folder of the images with the option image_dirs (--image-dir)",
            )
        if len(self._name_of) == 1:
            self._log.note(f"images are found by their name below {self._below}, such as {one!r} for {name!r}")
        return self._below / one

    def _agreeing(self, key: str, images: list[str], folders: Sequence[str]) -> list[str]:
        """Those of the images of one name that lie in these folders; an inner folder outweighs one further out."""
        if key not in self._deep_in:
            inside_of = self._deep_in[key] = dict[str, set[str]]()
            for inside in images:
                for folder in inside.split("/")[:-1]:
                    inside_of.setdefault(folder, set()).add(inside)
        agreeing = [self._deep_in[key].get(folder, set[str]()) for folder in reversed(folders)]
        agreeing = [each for each in agreeing if 0 < len(each) < len(images)]  # one that all are in tells nothing apart
        if not agreeing:
            return images
        found = agreeing[0]
        for each in agreeing[1:]:
            found = found & each or found
        return list(found)


def _is_stored(path: str | Path) -> bool:
    """Whether an image inside a file is at this path."""
    return split_stored(path) is not None and is_image_there(path)


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _by_spelling(names: "filter[str]") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        for key in {_spelling(name), _spelling(os.path.splitext(name)[0])}:
            found.setdefault(key, []).append(name)
    return found


def _only(names: Sequence[str], *, name: str, where: str) -> str | None:
    """The only one of these names, None for none; raises AnnotationError for several."""
    if len(names) > 1:
        raise AnnotationError(
            "one id fits two images",
            where=where,
            got=", ".join(sorted(names)[:5]),
            expected=f"one image for the id {name!r}",
            next_step="remove or rename one of them",
        )
    return names[0] if names else None
