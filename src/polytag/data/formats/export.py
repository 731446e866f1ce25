"""Files that annotation tools and services export, one for all images or for each split, recognised by their content."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.export_content import Content, ExportFile
from polytag.data.formats.export_kinds import COCO, LABELME, SUFFIXES, Kind, advice_for, kind_of
from polytag.data.formats.listing import child_folders, child_names, split_folders, split_of
from polytag.data.formats.records import ReadingContext, Record, dataset_of, with_folder_splits
from polytag.data.formats.references import ImageFinder
from polytag.data.formats.rows import CSV_SUFFIXES
from polytag.errors import AnnotationError, DataError

_PLACES = ("annotations", "Annotations", "labels", "manifests")
_MAX_FILES = 12  # of one folder: more are a file for each image


def kinds_in(data: Path) -> dict[Path, Kind]:
    """The kind of each annotation file in a folder, in its folder of annotations, or in its folders of splits."""
    found: dict[Path, Kind] = {}
    for place in (data, *(data / name for name in child_folders(data) if name in _PLACES or _split_in(name))):
        inside = [name for name in child_names(place) if name.lower().endswith((*SUFFIXES, *CSV_SUFFIXES))]
        for name in inside[:_MAX_FILES]:
            if name != "metadata.jsonl" and os.path.isfile(place / name):
                with suppress(AnnotationError):  # a file that cannot be read is named when it is needed
                    if kind := kind_of(place / name):
                        found[place / name] = kind
    return found


def is_export(kinds: Mapping[Path, Kind]) -> bool:
    """Whether one of these files is an export that is read here."""
    return any(kind.read for kind in kinds.values())


def is_export_file(path: Path) -> bool:
    """Whether a file is an export that is read here; raises AnnotationError for one of a tool that is known by name only."""
    kind = kind_of(path) if path.suffix.lower() in (*SUFFIXES, *CSV_SUFFIXES) else None
    if kind is not None and (kind.advice or kind is LABELME):
        require_export(path)
    return kind is not None and kind.read is not None


def hides_coco(kinds: Mapping[Path, Kind]) -> bool:
    """Whether files that have the names of COCO's are those of other tools."""
    return COCO not in kinds.values() and any(path.suffix.lower() == ".json" for path in kinds)


def hides_tables(kinds: Mapping[Path, Kind]) -> bool:
    """Whether a table in the folder is VIA's CSV."""
    return any(path.suffix.lower() in CSV_SUFFIXES for path in kinds)


def name_unread(kinds: Mapping[Path, Kind], *, beside_others: bool = False) -> None:
    """Raises AnnotationError for the first file of a tool known by name only; with `beside_others`, if it has annotations."""
    for path, kind in kinds.items():
        if kind.advice and (kind.is_annotation or not beside_others):
            raise advice_for(path, kind)


def require_export(path: Path) -> Kind:
    """The kind of a file that is to be read as an export; raises AnnotationError for any other."""
    kind = kind_of(path)
    if kind is not None and kind.read:
        return kind
    if kind is not None and kind.advice:
        raise advice_for(path, kind)
    raise AnnotationError(
        "no tool's export was recognised",
        where=str(path),
        got=kind.title if kind else "a file without the keys of any",
        expected="the JSON of a tool in docs/reference/formats.md",
        next_step="give the folder of all files"
        if kind is LABELME
        else "export it as COCO, or as CSV with the columns image and labels",
    )


def read_export(data: Path, *, label_field: str, separator: str, context: ReadingContext) -> Dataset:
    """Read one file, or all files of one tool in the usual places of a folder.

    `label_field` is the control, field or attribute with the labels, "" for the only one. Raises AnnotationError for invalid
    content, and DataError where the files do not belong together.
    """
    files = {data: ""} if data.is_file() else _files(data)
    kinds = {path: require_export(path) for path in files}
    contents: list[Content] = []
    for path, split in files.items():
        file = ExportFile(path=path, split=split, label_field=label_field, separator=separator, log=context.log)
        read = kinds[path].read
        assert read
        contents.append(read(file))
    root = _root(data.parent) if data.is_file() else data
    first = contents[0]
    context.log.found("tool", next(iter(kinds.values())).title)
    context.log.found("labels", first.labels)
    finder = ImageFinder(context=context, below=root)
    records = (
        replace(record, path=finder.path(record.image, folders, split=record.split, where=record.where))
        for path, content in zip(files, contents, strict=True)
        for folders in [image_folders(path)]
        for record in content.records
    )
    dataset = dataset_of(
        records,
        source=f"export {data}",
        context=context,
        declared=declared_of([content.declared for content in contents], [content.records for content in contents]),
        id_root=root,
    )
    return with_folder_splits(dataset, context)


def _files(data: Path) -> dict[Path, str]:
    """The files of one kind with their splits: one file, files with the names of splits, or one in each folder of a split."""
    kinds = {path: kind for path, kind in kinds_in(data).items() if kind.read}
    if not kinds:
        raise DataError(
            "no tool's export was recognised",
            where=str(data),
            got=", ".join(child_names(data)[:8]) or "an empty folder",
            expected="the JSON, JSON Lines or CSV file of a tool in docs/reference/formats.md",
        )
    splits = {path: _split_of_file(path, data) or (path.stem if kind.names_splits else "") for path, kind in kinds.items()}
    if len(kinds) == 1:
        return dict.fromkeys(kinds, "")
    titles = dict.fromkeys(kind.title for kind in kinds.values())
    if len(titles) > 1 or not all(splits.values()):
        raise DataError(
            "several exports in one folder",
            where=str(data),
            got=", ".join(f"{path.relative_to(data)} ({kind.title})" for path, kind in list(kinds.items())[:4]),
            expected="one file, or files of one tool with the names of splits",
            next_step=f"give the file itself, such as {next(iter(kinds))}",
        )
    return splits


def _split_of_file(path: Path, data: Path) -> str:
    return _split_in(path.stem) or (_split_in(path.parent.name) if path.parent != data else "")


def _split_in(name: str) -> str:
    """The one split that a name has as a word: "train_annotations", "validation-mltable-folder"."""
    found = {split for word in re.split(r"[-_. ]", name) if (split := split_of(word))}
    return found.pop() if len(found) == 1 else ""


def _root(folder: Path) -> Path:
    """The folder of the images of an annotation file: one above a folder of annotations."""
    return folder.parent if folder.name in _PLACES else folder


def image_folders(path: Path) -> tuple[str, ...]:
    """Where the images of an annotation file usually are, the likeliest first."""
    root = _root(path.parent)
    stems = [path.stem, *(folder.name for split, folder in split_folders(root) if split == split_of(path.stem))]
    places = [root / "images" / stem for stem in stems] + [root / stem for stem in stems]
    places += [root, root / "images", root / "data", path.parent]
    return tuple(dict.fromkeys(map(str, places)))


def declared_of(declared: Sequence[Sequence[str]], records: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    """The classes that files declare, in order, and after them those that only occur; none where no file declares any."""
    names = dict.fromkeys(name for each in declared for name in each)
    if not names:
        return ()
    occurring = {name for each in records for record in each for name in (*record.present, *record.absent, *record.unknown)}
    return (*names, *sorted(occurring - set(names)))
