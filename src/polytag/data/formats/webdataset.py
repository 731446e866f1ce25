"""webdataset's tar shards: the files of a sample share their name up to the first full stop, `000123.jpg` and `000123.json`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.column_names import LABELS_COLUMNS, first_of
from polytag.data.formats.listing import is_image, read_json, read_text
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.shards import IMAGE, LABELS, UNKNOWN_LABELS, Shard, ShardRows, read_shards, shards_below
from polytag.data.formats.table_columns import Columns
from polytag.data.images.stored import TAR, tar_members
from polytag.errors import AnnotationError, DataError

LABEL_SUFFIXES = (".json", ".cls", ".txt")
"""Endings of the files of a sample that may hold its labels, the first one that there is."""

_CLASS_FILES = ("classes.txt", "labels.txt", "class_names.txt")


def is_webdataset(data: Path) -> bool:
    """Whether a folder holds tar shards, or a file is one, by the names."""
    return data.suffix.lower() == TAR if data.is_file() else bool(shards_below(data, TAR))


def read_webdataset(data: Path, *, columns: Columns, context: ReadingContext) -> Dataset:
    """Read tar shards. Labels are those of a sample's .json (a key such as `labels`), .cls (numbers) or .txt (a list).

    Numbers are the classes of `classes.txt` beside the shards, where there is one. A sample without a file of labels is unknown.
    Raises AnnotationError, with shard and sample, for what cannot be read.
    """
    shards = [Shard(path=data, split="")] if data.is_file() else shards_below(data, TAR)
    if not shards:
        raise DataError("no webdataset shard", where=str(data), got="none", expected="files ending in .tar")
    root = data.parent if data.is_file() else data
    names = _class_names(root)
    return read_shards(
        shards,
        lambda shard: _rows(shard, field=columns.labels, names=names, context=context),
        root=root,
        columns=Columns(labels=LABELS, separator=columns.separator),
        source=f"webdataset {data}",
        context=context,
    )


def _rows(shard: Shard, *, field: str, names: Sequence[str], context: ReadingContext) -> ShardRows:
    images: dict[str, str] = {}
    labels: dict[str, tuple[str, bytes]] = {}
    for member, content in tar_members(shard.path, with_content=LABEL_SUFFIXES):
        folder, _, file_name = member.name.rpartition("/")
        if any(part.startswith(".") for part in member.name.split("/")):
            continue
        key = (folder + "/" if folder else "") + file_name.partition(".")[0]
        suffix = "." + file_name.lower().rpartition(".")[2]
        if is_image(file_name):
            if key in images:
                raise AnnotationError(
                    "a sample with two images",
                    where=f"{shard.path}/{key}",
                    got=f"{images[key]!r} and {member.name!r}",
                    expected="one image a sample",
                    next_step="name the files of two samples differently before their first full stop",
                )
            images[key] = member.name
        elif suffix in LABEL_SUFFIXES and LABEL_SUFFIXES.index(suffix) < _rank(labels.get(key)):
            if len(content) < member.size:
                raise AnnotationError(
                    "a file of labels is too large",
                    where=f"{shard.path}/{member.name}",
                    got=f"{member.size:,} bytes",
                    expected="at most a megabyte",
                )
            labels[key] = suffix, content
    if lost := sum(key not in images for key in labels):
        context.log.note(f"{lost:,} samples without an image are left out, such as {next(k for k in labels if k not in images)!r}")
    if images and (bare := [key for key in images if key not in labels]):
        context.log.note(f"images without a file of labels count as unlabelled, such as {bare[0]!r} in {shard.path.name}")
    cells = [
        _labels(*labels[key], field=field, names=names, where=f"{shard.path}/{key}{labels[key][0]}") if key in labels else None
        for key in images
    ]
    context.log.found("labels", f"{next(iter(labels.values()))[0]} of each sample" if labels else "none")
    return ShardRows(
        columns={IMAGE: [f"{shard.path}/{name}" for name in images.values()], LABELS: cells},
        ids=list(images.values()),
        classes=tuple(names),
        unknown=[_unknown(*labels.get(key, ("", b"")), where=f"{shard.path}/{key}.json") for key in images],
    )


def _rank(found: tuple[str, bytes] | None) -> int:
    return LABEL_SUFFIXES.index(found[0]) if found else len(LABEL_SUFFIXES)


def _labels(suffix: str, content: bytes, *, field: str, names: Sequence[str], where: str) -> object:
    """The cell of a table: a list of names, a text with several, or None for unknown."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError("the file is not UTF-8 text", where=where, got=f"byte {error.start}", expected="UTF-8") from error
    if suffix == ".json":
        return _named(_json_labels(text, field=field, where=where), names, where=where)
    if suffix == ".cls" and re.fullmatch(r"[\s,\d]+", text):
        return _named(re.findall(r"\d+", text), names, where=where)
    if suffix == ".cls":
        return [text.strip()]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines if len(lines) != 1 else lines[0]


def _json_labels(text: str, *, field: str, where: str) -> object:
    value = read_json(text, path=Path(where))
    if isinstance(value, Mapping):
        name = field or first_of(value, LABELS_COLUMNS)
        if name not in value:
            raise AnnotationError(
                "no labels in the JSON of a sample",
                where=where,
                got="the keys " + ", ".join(map(str, list(value)[:10])),
                expected="one of " + ", ".join(LABELS_COLUMNS) if not field else f"the key {field!r}",
                next_step="name the key of the labels with the option labels_column",
            )
        value = value[name]
    if isinstance(value, Mapping) and all(each in (0, 1) for each in value.values()):
        return [name for name, each in value.items() if each]
    if isinstance(value, Mapping | float | bool):
        raise AnnotationError(
            "labels that are no list", where=where, got=repr(value)[:100], expected="a list of names or numbers, a name or a number"
        )
    return value


def _unknown(suffix: str, content: bytes, *, where: str) -> list[str]:
    """The classes that the JSON of a sample says are unknown."""
    if suffix != ".json" or UNKNOWN_LABELS.encode() not in content:
        return []
    value = read_json(content.decode("utf-8-sig"), path=Path(where))
    names = value.get(UNKNOWN_LABELS, []) if isinstance(value, Mapping) else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AnnotationError("unknown labels that are no list", where=where, got=repr(names)[:100], expected="a list of names")
    return [str(name) for name in names]


def _named(value: object, names: Sequence[str], *, where: str) -> object:
    """Numbers as the names of their classes, where those are known; anything else as it is."""
    numbers = value if isinstance(value, list) else [value]
    are_names = all(isinstance(number, str) and number in names for number in numbers)  # of classes that are called by numbers
    if not names or are_names or not all(str(number).isdecimal() for number in numbers):
        return value
    for number in numbers:
        if int(str(number)) >= len(names):
            raise AnnotationError("a class number without a name", where=where, got=str(number), expected=f"0 to {len(names) - 1}")
    return [names[int(str(number))] for number in numbers]


def _class_names(root: Path) -> tuple[str, ...]:
    path = next((root / name for name in _CLASS_FILES if (root / name).is_file()), None)
    return () if path is None else tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
