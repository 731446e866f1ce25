"""`polytag predict --output FOLDER/`: a predictions file for each shard of many images."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from polytag.errors import DataError, UsageError
from polytag.text import counted

if TYPE_CHECKING:
    from polytag.inference.bulk.results import Results
    from polytag.inference.bulk.score import ShardDone
    from polytag.inference.bulk.shards import Shard
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.exported import Exported

_MAX_TOLD = 5  # unreadable images a shard
_MAX_SHARDS = 1_000_000


def is_folder(output: str) -> bool:
    """Whether an output is a folder of shards: one that is there, an address, or a name with a slash at the end."""
    from polytag.data.remote.addresses import as_path, is_address

    return is_address(output) or output.endswith(("/", os.sep)) or Path(as_path(output)).is_dir()


def require_folder(options: Mapping[str, object], output: str | None) -> None:
    """Raises UsageError for an option that only a folder of shards has."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"{name} is for a folder of shards",
                where="--output",
                got=output or "no --output",
                expected="a folder: a name with a slash at the end",
            )


def require_seconds(every: float) -> None:
    """Raises UsageError for seconds from frame to frame that are none."""
    if not 0.001 <= every <= 86_400:
        raise UsageError("no time from frame to frame", where="--every", got=f"{every:g}", expected="0.001 to 86,400 seconds")


def part_of(text: str | None) -> tuple[int, int]:
    """K and N of "K/N", (0, 1) for None; raises UsageError unless 0 <= K < N."""
    if text is None:
        return 0, 1
    found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text, re.ASCII)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 <= number < count <= _MAX_SHARDS:
        raise UsageError(
            "no part of the shards",
            where="--shard",
            got=repr(text),
            expected="K/N with K from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4",
        )
    return number, count


def predict_many(
    model: Path,
    sources: Sequence[str],
    *,
    output: str,
    shard: str | None,
    ray: str | None,
    columns: Path | None,
    every_seconds: float,
    device: str,
    precision: str,
) -> None:
    """Score the shards of this process, or of a cluster, and print a line for each. Exits with 1 where a shard failed."""
    from polytag.cli.terminal import Terminal
    from polytag.inference.bulk.results import results_at
    from polytag.inference.bulk.shards import shards_of
    from polytag.models.exported import read_model

    console, errors = Terminal(), Terminal(stderr=True)
    first, every = part_of(shard)
    checkpoint = read_model(model)
    _require_apart(output, sources)
    shards, left_out = shards_of(sources, every_seconds=every_seconds)
    if left_out:
        errors.print(left_out, highlight=False, markup=False, soft_wrap=True)
    own = shards[first::every]
    results = results_at(output)
    if ray is None:
        found = _here(checkpoint, own, results, columns=columns, device=device, precision=precision, errors=errors)
    else:
        found = _on_ray(own, model=model, output=output, columns=columns, device=device, precision=precision, address=ray)
    done: list[ShardDone] = []
    for each in found:
        done.append(each)
        _print_shard(console, errors, each)
    _print_sum(console, done, of=len(shards), address=results.address)
    if any(each.error for each in done):
        raise typer.Exit(DataError.exit_status)


def _here(
    model: "Checkpoint | Exported",
    shards: "Sequence[Shard]",
    results: "Results",
    *,
    columns: Path | None,
    device: str,
    precision: str,
    errors: "Any",
) -> "Iterator[ShardDone]":
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.progress import progress_bar
    from polytag.data.columns import NO_COLUMNS, read_columns
    from polytag.inference.bulk.score import score_shards
    from polytag.inference.scorers import scorer_of
    from polytag.models.checkpoint import Checkpoint

    joined = NO_COLUMNS if columns is None else read_columns(columns)
    if isinstance(model, Checkpoint):
        keep_freed_memory_on_cpu(device)
    scorer = scorer_of(model, device=device, precision=precision)
    with progress_bar(errors) as progress:
        task = progress.add_task("predicting", total=None)
        yield from score_shards(
            model, shards, results, scorer=scorer, columns=joined, on_image=lambda: progress.update(task, advance=1)
        )


def _on_ray(
    shards: "Sequence[Shard]",
    *,
    model: Path,
    output: str,
    columns: Path | None,
    device: str,
    precision: str,
    address: str,
) -> "Iterator[ShardDone]":
    from polytag.data.remote.addresses import as_path, is_address
    from polytag.inference.bulk.ray_tasks import Job, score_on_ray

    job = Job(
        model=str(model) if model.as_posix().startswith("hf:/") else os.path.abspath(model),
        output=output if is_address(output) else os.path.abspath(as_path(output)),
        columns=os.path.abspath(columns) if columns else "",
        device=device,
        precision=precision,
    )
    return score_on_ray(job, shards, address=address)


def _require_apart(output: str, sources: Sequence[str]) -> None:
    """Raises UsageError where the results would lie among the images that the next run finds."""
    from polytag.data.remote.addresses import as_path, is_address

    for source in sources:
        if is_address(output) and is_address(source):
            is_inside = f"{output.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
        elif is_address(output) or is_address(source) or not os.path.isdir(as_path(source)):
            continue
        else:
            folder, inside = os.path.realpath(as_path(output)), os.path.realpath(as_path(source))
            is_inside = os.path.commonpath([folder, inside]) == inside
        if is_inside:
            raise UsageError(
                "the output lies inside the folder of the images",
                where="--output",
                got=output,
                expected=f"a folder outside {source}",
            )


def _print_shard(console: "Any", errors: "Any", done: "ShardDone") -> None:
    for name, reason in done.unreadable[:_MAX_TOLD]:
        errors.print(f"{name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if (more := len(done.unreadable) - _MAX_TOLD) > 0:
        errors.print(
            f"{done.name}: {counted(more, 'more images')} could not be read", highlight=False, markup=False, soft_wrap=True
        )
    if done.error:
        errors.print(f"{done.name}: {done.error}", highlight=False, markup=False, soft_wrap=True)
    elif not done.was_there:
        unreadable = f", {len(done.unreadable):,} of them unreadable" if done.unreadable else ""
        line = f"{done.name}  {counted(done.num_images, 'images')}{unreadable}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_sum(console: "Any", done: "Sequence[ShardDone]", *, of: int, address: str) -> None:
    num_there = sum(each.was_there for each in done)
    num_failed = sum(bool(each.error) for each in done)
    num_now = len(done) - num_there - num_failed
    num_images = sum(each.num_images - len(each.unreadable) for each in done)
    parts = [f"{num_now:,} scored now ({counted(num_images, 'images')})"] if num_now else []
    parts += [f"{num_there:,} there before"] if num_there else []
    parts += [f"{num_failed:,} failed"] if num_failed else []
    share = f"{len(done):,} of {counted(of, 'shards')}" if len(done) < of else counted(of, "shards")
    console.print(
        f"{share}: {', '.join(parts) or 'none of them is this part'}: {address}", highlight=False, markup=False, soft_wrap=True
    )
