"""`polytag predict --output FOLDER/`: a predictions file for each shard of many images."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from polytag.errors import DataError, UsageError
from polytag.text import counted

if TYPE_CHECKING:
    from polytag.inference.bulk.score import ShardDone

_MAX_TOLD = 5  # unreadable images a shard
_MAX_SHARDS = 1_000_000


def is_folder(output: str) -> bool:
    """Whether an output is a folder of shards: one that is there, an address, or a name with a slash at the end."""
    return "://" in output or output.endswith(("/", os.sep)) or Path(output).is_dir()


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
    columns: Path | None,
    device: str,
    precision: str,
) -> None:
    """Score the shards of this process and print a line for each. Exits with 1 where a shard failed."""
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.data.columns import NO_COLUMNS, read_columns
    from polytag.inference.bulk.results import results_at
    from polytag.inference.bulk.score import score_shards
    from polytag.inference.bulk.shards import shards_of
    from polytag.inference.scorers import scorer_of
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.exported import read_model

    console, errors = Terminal(), Terminal(stderr=True)
    first, every = part_of(shard)
    checkpoint = read_model(model)
    _require_apart(output, sources)
    shards, left_out = shards_of(sources)
    if left_out:
        errors.print(left_out, highlight=False, markup=False, soft_wrap=True)
    joined = NO_COLUMNS if columns is None else read_columns(columns)
    results = results_at(output)
    own = shards[first::every]
    if isinstance(checkpoint, Checkpoint):
        keep_freed_memory_on_cpu(device)
    scorer = scorer_of(checkpoint, device=device, precision=precision)
    done: list[ShardDone] = []
    with progress_bar(errors) as progress:
        task = progress.add_task("predicting", total=None)
        found = score_shards(
            checkpoint, own, results, scorer=scorer, columns=joined, on_image=lambda: progress.update(task, advance=1)
        )
        for each in found:
            done.append(each)
            _print_shard(console, errors, each)
    _print_sum(console, done, of=len(shards), address=results.address)
    if any(each.error for each in done):
        raise typer.Exit(DataError.exit_status)


def _require_apart(output: str, sources: Sequence[str]) -> None:
    """Raises UsageError where the results would lie among the images that the next run finds."""
    if "://" in output:
        return
    folder = os.path.realpath(output)
    for source in sources:
        if os.path.isdir(source) and os.path.commonpath([folder, inside := os.path.realpath(source)]) == inside:
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
