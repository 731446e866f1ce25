"""datumaro's Arrow files: images, and annotations in a binary form of its own, of which only labels without attributes are read."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytag.contracts import Dataset
from polytag.data.formats.huggingface import schema_of, table_without_images
from polytag.data.formats.listing import read_json, split_of
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.data.formats.shards import shards_below
from polytag.data.images.stored import ARROW, row_container
from polytag.errors import AnnotationError

_SIGNATURE = b"signature:datumaro_arrow"
_MEDIA = "media"
_LABEL = b"\x01" + bytes(16) + b"\xff" * 4 + bytes(4)  # type 1; no id, attributes or group; no object, no more; then the class


def is_datumaro_arrow(data: Path) -> bool:
    """Whether a file, or the first Arrow file of a folder, says that datumaro wrote it."""
    path = data if data.is_file() else next((shard.path for shard in shards_below(data, ARROW)), None)
    schema = schema_of(path) if path is not None and path.suffix.lower() == ARROW else None
    return schema is not None and (schema.metadata or {}).get(b"signature") == _SIGNATURE


def read_datumaro_arrow(data: Path, *, context: ReadingContext) -> Dataset:
    """Read the labels of images inside Arrow files; raises AnnotationError for other annotations, with how to export them."""
    paths = [data] if data.is_file() else [shard.path for shard in shards_below(data, ARROW)]
    records: list[Record] = []
    classes: tuple[str, ...] = ()
    for path in paths:
        container = row_container(path)
        table = table_without_images(path, [_MEDIA] if _MEDIA in container.column_names else [])
        classes = classes or _classes(table.schema, path)
        columns = {name: table.column(name).to_pylist() for name in ("id", "subset", "annotations") if name in table.column_names}
        if len(columns) < 3 or _MEDIA not in container.column_names:
            raise _unread(path, "a file without its columns " + ", ".join(("id", "subset", "annotations", _MEDIA)))
        for row, (name, subset, annotations) in enumerate(zip(*columns.values(), strict=True)):
            where = f"{path}, row {row}"
            records.append(
                Record(
                    image=str(name),
                    where=where,
                    present=_present(annotations, classes, where),
                    split=split_of(str(subset)) or ("" if subset in (None, "default") else str(subset)),
                    path=path / _MEDIA / str(row),
                )
            )
    context.log.found("images", f"inside {paths[0].name}")
    context.log.found("labels", "annotations of the type label")
    return dataset_of(records, source=f"datumaro-arrow {data}", context=context, declared=classes)


def _present(content: Any, classes: tuple[str, ...], where: str) -> list[str]:
    size = len(_LABEL) + 4
    if not isinstance(content, bytes) or len(content) < 4:
        raise _unread(where, "no annotations")
    (count,) = struct.unpack_from("<i", content)
    parts = [content[at : at + size] for at in range(4, len(content), size)]
    if count != len(parts) or any(len(part) != size or not part.startswith(_LABEL) for part in parts):
        raise _unread(where, "annotations other than labels, or with attributes")
    numbers = [int.from_bytes(part[-4:], "little") for part in parts]
    if any(number >= len(classes) for number in numbers):
        raise _unread(where, f"the class number {max(numbers)} of {len(classes)} classes")
    return [classes[number] for number in numbers]


def _classes(schema: Any, path: Path) -> tuple[str, ...]:
    text = (schema.metadata or {}).get(b"categories", b"")[4:].decode("utf-8", "replace")
    value: object = read_json(text, path=path)
    for key in ("label", "labels"):
        value = value.get(key) if isinstance(value, Mapping) else None
    names = [each.get("name") if isinstance(each, Mapping) else None for each in value] if isinstance(value, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise _unread(path, "no class names")
    return tuple(map(str, names))


def _unread(where: Path | str, got: str) -> AnnotationError:
    return AnnotationError(
        "datumaro's Arrow annotations cannot be read",
        where=str(where),
        got=got,
        expected="labels without attributes",
        next_step="export them as COCO or VOC: `datum convert -i FOLDER -if arrow -f coco -o OUT -- --save-media`",
    )
