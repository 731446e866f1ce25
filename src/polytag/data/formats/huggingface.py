"""Hugging Face data sets with their images inside: Parquet shards, as on the Hub, and folders of `save_to_disk`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytag.contracts import Dataset
from polytag.data.formats.column_names import LABELS_COLUMNS, first_of
from polytag.data.formats.listing import read_json, read_text, split_of
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.shards import IMAGE, UNKNOWN_LABELS, Shard, ShardRows, read_shards, shards_below
from polytag.data.formats.table_columns import Columns
from polytag.data.images.stored import ARROW, PARQUET, open_image, row_container
from polytag.errors import AnnotationError, DataError, ImageError
from polytag.files import require_regular

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_NUM_LOOKED_AT = 16  # rows, to see whether the shards hold bytes
_NAMES_OF_COLUMNS = ("image", "img", "photo", "image_bytes")  # of binary columns without a struct


def is_huggingface(data: Path) -> bool:
    """Whether a folder or file is a saved data set, or its Parquet files have a column of images. Raises DataError."""
    if data.is_file():
        return data.suffix.lower() in (PARQUET, ARROW) and _image_column(data) is not None
    if (data / _SPLITS).is_file() or (data / _STATE).is_file():
        return True
    shards = shards_below(data, PARQUET) or shards_below(data, ARROW)
    return bool(shards) and _image_column(shards[0].path) is not None


def read_huggingface(data: Path, *, columns: Columns, context: ReadingContext) -> Dataset:
    """Read the shards of a data set. Names of classes are those of its ClassLabel features, in their order.

    Raises AnnotationError, with shard and row, for what cannot be read, and for shards that only name their images where those are
    not found.
    """
    shards = _shards(data)
    if not shards:
        raise DataError(
            "no shard of a Hugging Face data set", where=str(data), got="none", expected=f".parquet files, or {_SPLITS} or {_STATE}"
        )
    labels = columns.labels or _labels_column(shards[0].path)
    return read_shards(
        shards,
        lambda shard: _rows(shard, image=columns.image, context=context),
        root=data.parent if data.is_file() else data,
        columns=replace(columns, image="", labels="" if columns.classes else labels),
        source=f"hf {data}",
        context=context,
    )


def _shards(data: Path) -> list[Shard]:
    if data.is_file():
        return [Shard(path=data, split="")]
    if (data / _SPLITS).is_file():
        names = _texts(read_json(read_text(data / _SPLITS), path=data / _SPLITS), "splits", data / _SPLITS)
        return [shard for name in names for shard in _saved(data / Path(name).name, split=split_of(name) or name)]
    return (
        _saved(data, split=split_of(data.name) or "")
        if (data / _STATE).is_file()
        else shards_below(data, PARQUET) or shards_below(data, ARROW)
    )


def _saved(folder: Path, *, split: str) -> list[Shard]:
    """The Arrow files that state.json lists; those of the folder alone."""
    path = folder / _STATE
    state = read_json(read_text(path), path=path)
    files = state.get("_data_files") if isinstance(state, Mapping) else None
    names = [each.get("filename") for each in files if isinstance(each, Mapping)] if isinstance(files, list) else []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise AnnotationError("a saved data set without its files", where=str(path), got=repr(files)[:100], expected="_data_files")
    return [Shard(path=folder / str(name), split=split) for name in names]


def _texts(value: object, key: str, path: Path) -> list[str]:
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise AnnotationError("a saved data set without splits", where=str(path), got=repr(found)[:100], expected=f"a list {key!r}")
    return [str(each) for each in found]


# ---- rows ----


def _rows(shard: Shard, *, image: str, context: ReadingContext) -> ShardRows:
    container = row_container(shard.path)
    name = image or _image_column(shard.path)
    if name is None or name not in container.column_names:
        raise AnnotationError(
            "no column of images", where=str(shard.path), got=repr(name), expected="one of " + ", ".join(container.column_names)
        )
    table = table_without_images(shard.path, container.column_names)
    features = _features(table.schema)
    cells: dict[str, Sequence[object]] = {}
    classes: tuple[str, ...] = ()
    for column in table.column_names:
        if column in container.column_names:
            continue
        values: list[Any] = table.column(column).to_pylist()
        if names := _class_names(features.get(column)):
            values, classes = _named(values, names, where=f"{shard.path}, column {column!r}"), names
        cells[column] = values
    unknown = [[*map(str, names)] if isinstance(names, list) else [] for names in cells.pop(UNKNOWN_LABELS, ())]
    paths = [f"{shard.path}/{name}/{row}" for row in range(container.num_rows(name))]
    ids = _names(table.column(name), len(paths)) if name in table.column_names else [""] * len(paths)
    if not _has_bytes(paths):
        paths = _listed(ids, shard, name, context)
    return ShardRows(columns={IMAGE: paths, **cells}, ids=ids, classes=classes, unknown=unknown)


def _named(values: Sequence[Any], names: tuple[str, ...], *, where: str) -> list[list[str] | None]:
    """The names of ClassLabel's numbers, one or a list a row; None for unknown, which is null or -1."""
    found: list[list[str] | None] = []
    for row, value in enumerate(values):
        numbers: list[Any] = value if isinstance(value, list) else [value]
        if value is None or numbers == [-1]:
            found.append(None)
            continue
        for number in numbers:
            if not isinstance(number, int) or not 0 <= number < len(names):
                got, expected = repr(number), f"0 to {len(names) - 1}"
                raise AnnotationError("a class number without a name", where=f"{where}, row {row}", got=got, expected=expected)
        found.append([names[number] for number in numbers])
    return found


def _has_bytes(paths: Sequence[str]) -> bool:
    """Whether any of a few rows holds an image; True for a shard without rows."""
    looked_at = paths[:: max(1, len(paths) // _NUM_LOOKED_AT)]
    for path in looked_at:
        try:
            with open_image(path) as file:
                if file.read(1):
                    return True
        except (ImageError, OSError):
            return True  # said of the image itself, when it is read
    return not paths


def _listed(names: Sequence[str], shard: Shard, column: str, context: ReadingContext) -> list[str]:
    """The images by the names that a shard without bytes gives; raises AnnotationError where the first is not found."""
    first = next((name for name in names if name), "")
    if "" in names or context.index.find(first, [str(shard.path.parent)]) is None:
        raise AnnotationError(
            "a shard that names its images but does not hold them",
            where=str(shard.path),
            got=f"no bytes in column {column!r}" + (f", only names such as {first!r}" if first else ""),
            expected="the bytes of the images, or image files of these names",
            next_step="name the folder of the images with the option image_dirs (--image-dir); or write the data set with "
            "`save_to_disk` or `push_to_hub`, which put the images in",
        )
    context.log.note("the shards hold no images, which are found by the names in them")
    return list(names)


def _names(column: Any, num_rows: int) -> list[str]:
    """The field `path` of each image, "" without one."""
    found = [value.get("path") if isinstance(value, dict) else None for value in column.to_pylist()]
    return [str(name or "") for name in found] if len(found) == num_rows else [""] * num_rows


# ---- columns ----


def table_without_images(path: Path, columns: Sequence[str]) -> Any:
    """A shard without the bytes in these columns, which stay where they are; raises AnnotationError."""
    import pyarrow as pa  # 0.1 s that other formats need not pay
    import pyarrow.parquet as pq

    from polytag.data.images.container import Damaged
    from polytag.data.images.row_file import BYTES_FIELD, child_without, read_arrow, reading

    try:
        require_regular(path)
        if path.suffix.lower() == ARROW:
            with reading("an Arrow file"):
                table = pa.Table.from_batches(read_arrow(str(path)))
                return child_without(table, columns)
        with reading("a Parquet file"), pq.ParquetFile(path) as file:
            leaves = [file.schema.column(number).path for number in range(len(file.schema))]
            inside = set(columns) | {f"{name}.{BYTES_FIELD}" for name in columns}
            return file.read(columns=[leaf for leaf in leaves if leaf not in inside], use_threads=False)
    except Damaged as error:
        raise error.error(AnnotationError, str(path)) from error
    except OSError as error:
        got = error.strerror or str(error)
        raise AnnotationError("a shard cannot be read", where=str(path), got=got, expected="a readable file") from error


def schema_of(path: Path) -> Any:
    """The columns of a shard; None where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        if path.suffix.lower() == PARQUET:
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as file:
            if file.read(6) == b"ARROW1":
                return pa.ipc.open_file(file).schema
            file.seek(0)
            return pa.ipc.open_stream(file).schema
    except (pa.ArrowException, OSError, ValueError):
        return None


def _image_column(path: Path) -> str | None:
    """The feature Image; else the first struct with bytes, or binary column with a name of images."""
    from polytag.data.images.row_file import image_columns

    schema = schema_of(path)
    if schema is None or b"signature" in (schema.metadata or {}):  # datumaro's
        return None
    found, features = image_columns(schema), _features(schema)
    declared = [name for name in found if isinstance(feature := features.get(name), Mapping) and feature.get("_type") == "Image"]
    likely = [name for name, below in found.items() if below == ("bytes",) or (not below and name.lower() in _NAMES_OF_COLUMNS)]
    return next(iter(declared or likely), None)


def _labels_column(path: Path) -> str:
    """The column of labels: by its name, else the only one of the type ClassLabel; "" for neither. Raises AnnotationError."""
    schema = schema_of(path)
    if schema is None:
        return ""
    if found := first_of(schema.names, LABELS_COLUMNS):
        return found
    named = [name for name, feature in _features(schema).items() if _class_names(feature)]
    if len(named) > 1:
        raise AnnotationError(
            "several columns of labels",
            where=str(path),
            got=", ".join(named),
            expected="one",
            next_step="name it with the option labels_column",
        )
    return named[0] if named else ""


def _features(schema: Any) -> Mapping[str, object]:
    """The features that `datasets` writes beside the schema; {} where there are none."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    value = read_json(text.decode("utf-8", "replace"), path=Path("huggingface"))
    for key in ("info", "features"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _class_names(feature: object) -> tuple[str, ...]:
    """The names of a ClassLabel, or of a list of them; () for other features. A list is written in three ways by age."""
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, Mapping) and feature.get("_type") in ("Sequence", "List", "LargeList"):
            feature = feature.get("feature")
        else:
            break
    names = feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()
