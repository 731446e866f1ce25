"""Scores the shards of one process, one after the other, and skips those whose predictions are there."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from polytag.data.columns import NO_COLUMNS, IdColumns
from polytag.download.retries import NotThere
from polytag.errors import DataError, FetchError
from polytag.inference.bulk.results import Results
from polytag.inference.bulk.shards import Shard, identity_of, opened_shard
from polytag.inference.images import Images
from polytag.inference.predict import score_images
from polytag.inference.scorers import Scorer
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported
from polytag.predictions.shard_files import ShardHeader, ShardIdentity, shard_metadata
from polytag.predictions.table import PredictionsWriter, parquet_schema

_NUM_ASKED = 16  # shards of which it is asked at once what is there


@dataclass(frozen=True, kw_only=True)
class ShardDone:
    """What became of a shard.

    num_images   that its predictions have a row for; 0 if `was_there` or `error`
    unreadable   the name and the reason of each image that could not be read
    was_there    whether its predictions were there before
    error        why there are no predictions; "" if there are
    """

    name: str
    num_images: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    was_there: bool = False
    error: str = ""


def score_shards(
    model: Checkpoint | Exported,
    shards: Sequence[Shard],
    results: Results,
    *,
    scorer: Scorer,
    columns: IdColumns = NO_COLUMNS,
    on_image: Callable[[], None] = lambda: None,
) -> Iterator[ShardDone]:
    """Score each shard whose predictions are missing. A shard whose images cannot be read is an error of its own, and the next one
    is scored.

    Raises PredictionsError where predictions are there that are others, before anything is scored; UsageError for columns with
    names of predictions; RunError where a result cannot be written, CheckpointError or ExportError where the model fails.
    """
    columns.require_other_names(parquet_schema(model.label_set).names)
    with ThreadPoolExecutor(_NUM_ASKED) as pool:  # a store takes a while to answer each question
        headers = list(pool.map(lambda shard: _header_now(model, shard, columns, scorer), shards))
        there = list(pool.map(lambda each: _is_done(results, *each), zip(shards, headers, strict=True)))
    for shard, header, is_there in zip(shards, headers, there, strict=True):
        if is_there:
            yield ShardDone(name=shard.result, was_there=True)
        elif isinstance(header, DataError):
            yield ShardDone(name=shard.result, error=str(header))
        else:
            yield _score(model, scorer, shard, header, results, columns, on_image)


def _is_done(results: Results, shard: Shard, header: ShardHeader | DataError) -> bool:
    return isinstance(header, ShardHeader) and results.is_done(shard.result, header)


def _header(model: Checkpoint | Exported, identity: ShardIdentity) -> ShardHeader:
    return ShardHeader(shard=identity, checkpoint_id=model.id, calibration=model.calibration_id, classes=model.label_set.names)


def _header_now(model: Checkpoint | Exported, shard: Shard, columns: IdColumns, scorer: Scorer) -> ShardHeader | DataError:
    try:
        return _header(model, replace(identity_of(shard), columns=columns.sha256, engine=scorer.engine, precision=scorer.precision))
    except OSError as error:
        return FetchError("a file of images cannot be read", where=shard.place, got=error.strerror or str(error))
    except DataError as error:
        return error


def _score(
    model: Checkpoint | Exported,
    scorer: Scorer,
    shard: Shard,
    header: ShardHeader,
    results: Results,
    columns: IdColumns,
    on_image: Callable[[], None],
) -> ShardDone:
    unreadable: list[tuple[str, str]] = []
    try:
        with opened_shard(shard) as images:
            columns.require_some([str(name) for name in images.names])
            fill = partial(_fill, model, scorer, shard, header, images, columns, unreadable, on_image)
            results.write(shard.result, fill)
            return ShardDone(name=shard.result, num_images=len(images), unreadable=tuple(unreadable))
    except DataError as error:
        return ShardDone(name=shard.result, error=str(error))


def _fill(
    model: Checkpoint | Exported,
    scorer: Scorer,
    shard: Shard,
    header: ShardHeader,
    images: Images,
    columns: IdColumns,
    unreadable: list[tuple[str, str]],
    on_image: Callable[[], None],
    path: Path,
) -> None:
    """Write the predictions of a shard; raises DataError where its images changed meanwhile."""
    with PredictionsWriter(
        path,
        label_set=model.label_set,
        checkpoint_id=model.id,
        source=shard.name,
        calibration=model.calibration_id,
        metadata=shard_metadata(header.shard),
        columns=columns,
    ) as writer:
        for result in score_images(model, scorer, images):
            name = str(result.path)
            if result.error:
                writer.fail(name, name, result.error)
                unreadable.append((name, result.error))
            else:
                writer.write([name], [name], result.logit_C[None])
            on_image()
        _require_same(shard, header.shard)


def _require_same(shard: Shard, before: ShardIdentity) -> None:
    try:
        now = identity_of(shard)
    except (OSError, NotThere):
        now = None
    if now is None or replace(now, columns=before.columns, engine=before.engine, precision=before.precision) != before:
        raise FetchError(
            "the images were changed while they were scored",
            where=shard.place or shard.name,
            got="another size or time of change",
            expected="the same images before and after",
            next_step="predict again when they are complete",
        )
