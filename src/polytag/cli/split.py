"""`polytag data split`: a table of the data with training, validation and test parts, or with folds."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.reading import ColumnsById, GroupOfImages, reads_annotations, with_grouping
from polytag.cli.say import say
from polytag.errors import UsageError
from polytag.text import word

if TYPE_CHECKING:
    import numpy as np

    from polytag.contracts import Dataset
    from polytag.data.duplicates.joined_groups import JoinedDuplicates
    from polytag.data.read_options import ReadOptions


@reads_annotations
def split(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder or file of labels, in any format that polytag reads.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The table to write: .csv or .parquet.")],
    options: "ReadOptions",
    parts: Annotated[
        str | None,
        typer.Option(metavar="NAME=SHARE,...", help="Parts and their shares.", show_default="train=0.8,val=0.2"),
    ] = None,
    folds: Annotated[int | None, typer.Option(metavar="K", help="Equal parts fold-1 to fold-K, for `train --folds K`.")] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="By time, the earliest images first: dates or numbers, in DATA or --columns."),
    ] = None,
    near: Annotated[bool, typer.Option("--near/--no-near", help="Keep near duplicates in one part; reads every image.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Another number divides otherwise.")] = 0,
    group: GroupOfImages = None,
    columns: ColumnsById = None,
) -> None:
    """Divide a data set, stratified by label or by time; groups and near duplicates stay in one part.

    Images of a split that is no part, such as test, keep it.
    """
    from polytag.cli.terminal import Terminal
    from polytag.cli.what_was_read import print_reading
    from polytag.data.divide import DEFAULT_PARTS, divided, divided_by_time, fold_name, with_folds
    from polytag.data.division import Division, require_new_table, write_division

    if folds is not None and (parts or time):
        raise UsageError("folds are equal parts, stratified by label", got=f"--folds and {'--parts' if parts else '--time'}")
    share_of = parse_parts(parts) if parts else DEFAULT_PARTS
    require_new_table(out)
    reading = with_grouping(options, group=group, columns=columns if group else None)
    dataset, time_N = _read(data, reading, time=time, columns=columns)
    print_reading(Terminal(), dataset)
    say("")
    group_N = dataset.group_N
    dataset, found = _with_duplicates_joined(dataset) if near else (dataset, None)
    method = "labels" if time_N is None else "time"
    if time_N is not None:
        dataset = divided_by_time(dataset, time_N=time_N, share_of=share_of)
    elif folds is not None:
        made = with_folds(dataset, num_folds=folds, seed=seed)
        share_of = {fold_name(number): 1 / folds for number in range(1, folds + 1)}
        dataset, method = made.dataset, "labels" if made.is_made else "annotations"
    else:
        dataset = divided(dataset, share_of=share_of, seed=seed)
    division = Division(
        dataset=dataset,
        method=method,
        share_of=share_of,
        seed=seed,
        group=group or "",
        time=time or "",
        near=found,
        group_N=group_N,
    )
    written = write_division(division, out)
    for line in division.lines():
        say(line)
    also = (f" --folds {folds}" if folds else "") + (f" --group {word(group)}" if group else "")
    say(f"\n{len(dataset):,} images -> {written}\n\nNext:\n  polytag train {word(written)}{also}")


def parse_parts(text: str) -> dict[str, float]:
    """ "train=0.8,val=0.2" as shares by name; percentages that sum to 100 are shares too. Raises UsageError for any other text."""
    shares: dict[str, float] = {}
    for pair in text.split(","):
        name, sign, value = (piece.strip() for piece in pair.partition("="))
        try:
            share = float(value)
        except ValueError:
            share = float("nan")
        if not sign or not name or name in shares or not 0 < share < float("inf"):
            raise UsageError(
                "the parts cannot be read",
                where="--parts",
                got=repr(pair.strip()),
                expected="NAME=SHARE, each name once, divided by commas: such as train=0.8,val=0.1,test=0.1",
            )
        shares[name] = share
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()} if abs(total - 100) < 1e-6 else shares


def _read(data: Path, reading: "ReadOptions", *, time: str | None, columns: Path | None) -> "tuple[Dataset, np.ndarray | None]":
    """The data set, and the time of each image where a column of times is named."""
    from polytag.data.load import load_dataset
    from polytag.data.times import parse_times

    if time is None:
        if columns is not None and not reading.columns_file:
            raise UsageError(
                "a table of columns, none of which is used",
                got="--columns",
                expected="--group or --time COLUMN, naming one of them",
            )
        return load_dataset(data, options=reading), None
    others = tuple(name for name in (reading.group_column,) if name)
    of_time = replace(
        reading,
        group_column=time,
        columns_file=str(columns or ""),
        ignore_columns=(*reading.ignore_columns, *others),
    )
    timed = load_dataset(data, options=of_time)
    time_N = parse_times(timed.group_N, ids=timed.ids, where=f"{columns or timed.source}, column {time!r}")
    if not others:
        return replace(timed, group_N=("",) * len(timed)), time_N
    return load_dataset(data, options=replace(reading, ignore_columns=(*reading.ignore_columns, time))), time_N


def _with_duplicates_joined(dataset: "Dataset") -> "tuple[Dataset, JoinedDuplicates]":
    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.data.duplicates.joined_groups import with_duplicates_joined

    with progress_bar(Terminal(stderr=True)) as progress:
        task = progress.add_task("reading images", total=len(set(dataset.paths)))
        return with_duplicates_joined(dataset, on_image=lambda: progress.advance(task))
