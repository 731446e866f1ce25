"""Predictions in shards: a Parquet predictions file for each shard of many images, which says what it was made from. No torch.

Beside the header of every predictions file, the metadata of the schema hold a `ShardIdentity` as JSON. Two identities are equal
where the same images would be scored in the same way, so a file with another one is never taken for the result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from polytag.contracts import Predictions
from polytag.errors import PredictionsError
from polytag.parsing import Malformed, parse_json, small_text
from polytag.plain import WrongValue, from_plain
from polytag.predictions.table import HEADER, parquet_schema, predictions_of, read_header

SHARD = b"polytag.shard"
SHARD_VERSION = 1
SUFFIX = ".parquet"


@dataclass(frozen=True, kw_only=True)
class ShardIdentity:
    """What a shard's predictions were made from, and how.

    name         of the shard: of its file, or of the list with a number
    num_bytes, changed   of a file: its size, and its ETag or time of change; 0 and "" of a part of a list
    number, num_shards   of a part of a list: which, from 0 on, of how many; 0 and 0 of a file
    list         of a part of a list: the SHA-256 of all names of the list
    images       of a part of a list: the SHA-256 of the names of its images, and of their sizes and times where they are known
    every        of a video: the seconds from one frame to the next; 0 for others
    columns      the SHA-256 of the table of columns that is joined; "" for none
    engine, precision   that computed the scores, such as onnx and fp32: others give other bits
    """

    name: str
    num_bytes: int = 0
    changed: str = ""
    number: int = 0
    num_shards: int = 0
    list: str = ""
    images: str = ""
    every: float = 0.0
    columns: str = ""
    engine: str = ""
    precision: str = ""


@dataclass(frozen=True, kw_only=True)
class _Stored:
    version: int
    shard: ShardIdentity

    def __post_init__(self):
        if self.version != SHARD_VERSION:
            raise WrongValue("version", self.version, expected=f"version {SHARD_VERSION}")


@dataclass(frozen=True, kw_only=True)
class ShardHeader:
    """What the metadata of a shard's predictions say."""

    shard: ShardIdentity
    checkpoint_id: str
    calibration: str
    classes: tuple[str, ...]


def shard_metadata(shard: ShardIdentity) -> dict[bytes, bytes]:
    """What a predictions file of a shard holds in its metadata, beside the header."""
    return {SHARD: json.dumps({"version": SHARD_VERSION, "shard": asdict(shard)}).encode()}


def read_shard_header(schema: pa.Schema, where: str) -> ShardHeader:
    """Raises PredictionsError for a schema that is not of a shard's predictions."""
    metadata = schema.metadata or {}
    if HEADER not in metadata or SHARD not in metadata:
        raise PredictionsError(
            "not the predictions of a shard",
            where=where,
            got="predictions of no shard" if HEADER in metadata else "a Parquet file of another program",
            expected="a file that `polytag predict --output FOLDER` wrote",
            next_step="keep other files out of a folder of shards",
        )
    header, label_set = read_header(schema, where)
    try:
        stored = from_plain(_Stored, parse_json(small_text(metadata[SHARD])))
    except (Malformed, WrongValue) as error:
        raise PredictionsError(
            "the predictions of a shard do not say of which",
            where=where,
            got=error.got if isinstance(error, WrongValue) else str(error),
            expected="what `polytag predict --output FOLDER` wrote",
            next_step="remove the file and predict again",
        ) from error
    return ShardHeader(
        shard=stored.shard, checkpoint_id=header.checkpoint_id, calibration=header.calibration, classes=label_set.names
    )


def difference(found: ShardHeader, wanted: ShardHeader) -> str:
    """How two headers differ, as "what: found instead of wanted"; "" where they agree."""
    if found.checkpoint_id != wanted.checkpoint_id:
        return f"the model {found.checkpoint_id} instead of {wanted.checkpoint_id}"
    if found.calibration != wanted.calibration:
        return f"the calibration {found.calibration or 'none'} instead of {wanted.calibration or 'none'}"
    if found.classes != wanted.classes:
        return "other classes"
    for field in fields(ShardIdentity):
        was, now = getattr(found.shard, field.name), getattr(wanted.shard, field.name)
        if was != now:
            return f"{_WHAT[field.name]} {_shown(was)} instead of {_shown(now)}"
    return ""


_WHAT = {
    "name": "a shard of the name",
    "num_bytes": "a size in bytes of",
    "changed": "a version or time of change of",
    "number": "the part",
    "num_shards": "a list of as many parts as",
    "list": "a list with the fingerprint",
    "images": "images with the fingerprint",
    "every": "frames every so many seconds:",
    "columns": "joined columns with the fingerprint",
    "engine": "the engine",
    "precision": "the precision",
}


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)[:40] or "none"


# ---- a folder of them ----


def shard_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, by name."""
    return sorted(path for path in folder.glob("*" + SUFFIX) if not path.name.startswith("."))


def is_shard_folder(folder: Path) -> bool:
    """Whether the first Parquet file of a folder holds the predictions of a shard."""
    files = shard_files(folder) if folder.is_dir() else []
    try:
        return bool(files) and SHARD in (pq.read_schema(files[0]).metadata or {})
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return False


def read_shard_folder(folder: Path | str) -> Predictions:
    """All predictions of a folder of shards, in the order of the files' names; rows of unreadable images are left out.

    Raises PredictionsError for a file that is none of a shard, for shards of two models, calibrations or class lists, for parts of
    two lists of one name, for a part of a list that is missing, and for an image that is in two shards.
    """
    folder = Path(folder)
    tables: list[pa.Table] = []
    headers: dict[Path, ShardHeader] = {}
    for path in shard_files(folder):
        table = _table(path)
        headers[path] = read_shard_header(table.schema, str(path))
        _require_alike(headers, path)
        tables.append(table.filter(table["error"].is_null()))
    _require_whole_lists(headers, folder)
    _require_unique(list(headers), tables)
    return predictions_of(pa.concat_tables([_plain(table) for table in tables]), source=str(folder))


def stored_column(path: Path, name: str) -> dict[str, str | None] | None:
    """The cells by id of a column that `predict --columns` joined, in a predictions file or a folder of shards; None without it."""
    if not path.is_dir() and (path.suffix != SUFFIX or not path.is_file()):
        return None
    files = shard_files(path) if path.is_dir() else [path]
    cells: dict[str, str | None] = {}
    for file in files:
        try:
            schema = pq.read_schema(file)
            if HEADER not in (schema.metadata or {}) or name not in extra_columns(schema):
                return None
            table = pq.ParquetFile(file).read(columns=["id", name])
        except (OSError, pa.ArrowException, UnicodeDecodeError):
            return None
        cells.update(zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True))
    return cells if files else None


def extra_columns(schema: pa.Schema) -> Sequence[str]:
    """The names of the joined columns in a predictions file."""
    _, label_set = read_header(schema, "")
    own = set(parquet_schema(label_set).names)
    return [field.name for field in schema if field.name not in own and field.type == pa.string()]


def _plain(table: pa.Table) -> pa.Table:
    """Without the joined columns, which may differ between shards, and without a shard's own metadata."""
    metadata = {HEADER: table.schema.metadata[HEADER]}
    _, label_set = read_header(table.schema, "")
    return table.select(parquet_schema(label_set).names).replace_schema_metadata(metadata)


def _table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path, memory_map=True).read()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise PredictionsError(
            "the predictions of a shard cannot be read",
            where=str(path),
            got=str(error).splitlines()[0],
            expected="a Parquet file that `polytag predict --output FOLDER` wrote",
            next_step="remove the file and predict again",
        ) from error


def _require_alike(headers: Mapping[Path, ShardHeader], path: Path) -> None:
    first, header = next(iter(headers.items())), headers[path]
    for what in ("checkpoint_id", "calibration", "classes"):
        if getattr(first[1], what) != getattr(header, what):
            raise PredictionsError(
                "shards of two models in one folder",
                where=str(path),
                got=f"another {what.replace('_id', '')} than in {first[0].name}",
                expected="shards of one model and calibration",
                next_step="remove the shards of one of them",
            )


def _require_whole_lists(headers: Mapping[Path, ShardHeader], folder: Path) -> None:
    lists: dict[str, list[ShardIdentity]] = {}
    for header in headers.values():
        if header.shard.num_shards:
            lists.setdefault(header.shard.name.rpartition("-")[0], []).append(header.shard)
    for name, parts in lists.items():
        if len({(part.list, part.num_shards) for part in parts}) > 1:
            raise PredictionsError(
                "shards of two lists of images in one folder",
                where=str(folder),
                got=f"{name}: some of one list, some of another",
                expected="shards of one list",
                next_step="remove those of the older list, or predict into a new folder",
            )
        missing = sorted(set(range(parts[0].num_shards)) - {part.number for part in parts})
        if missing:
            raise PredictionsError(
                f"{len(missing):,} of the {parts[0].num_shards:,} shards of a list of images are missing",
                where=str(folder),
                got=f"{name}: without " + ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else ""),
                expected="all shards",
                next_step="run the same `polytag predict` again: it scores those that are missing",
            )


def _require_unique(paths: Sequence[Path], tables: Sequence[pa.Table]) -> None:
    ids = pa.chunked_array([chunk for table in tables for chunk in table["id"].chunks], pa.string())
    if len(ids.unique()) == len(ids):
        return
    seen: dict[str, Path] = {}
    for path, table in zip(paths, tables, strict=True):
        for name in table["id"].to_pylist():
            if name in seen:
                raise PredictionsError(
                    "an image is in two shards",
                    where=str(path),
                    got=f"{name!r}, also in {seen[name].name}",
                    expected="every image once",
                    next_step="remove one of the two shards",
                )
            seen[name] = path
