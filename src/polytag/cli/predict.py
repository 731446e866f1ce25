"""`polytag predict`: a table for one image, one line per image for several, a file for many, a folder of shards for very many."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.features import FeaturesFile, predict_from_features
from polytag.cli.given_options import command_line_options
from polytag.cli.parts import BackboneFile, backbone_of
from polytag.cli.reading import reads_annotations
from polytag.cli.scores import as_in_training
from polytag.errors import ImageError, UsageError

if TYPE_CHECKING:
    from polytag.contracts import Dataset
    from polytag.data.read_options import ReadOptions
    from polytag.inference.images import Images
    from polytag.inference.predict import ImageResult


@reads_annotations
def predict(
    context: typer.Context,
    options: "ReadOptions",
    model: Annotated[Path, typer.Argument(help="A run, a checkpoint such as its best/, an export, or hf://OWNER/NAME.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Image files, folders of images, files that hold some, addresses of these; - reads a list from stdin.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER/", help="Write a .parquet, .csv or .jsonl file, or a folder of shards, instead of printing."
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Into a folder: every N-th shard, from the K-th on, 0 being the first.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Into a folder: on a Ray cluster; auto is the machine's own, local a new one on it."),
    ] = None,
    columns: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table by image id, whose columns are joined to the predictions.")
    ] = None,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="From frame to frame of a video.")] = 1.0,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="IMAGES is a labelled data set: score this split and store its labels."),
    ] = None,
    features: FeaturesFile = None,
    parts: BackboneFile = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16; of an export auto, fp32 or int8.")] = "auto",
) -> None:
    """Score images: every class's probability, and the classes above their thresholds.

    An image that cannot be read is reported and does not stop the others; the exit status is then 1, but not with a folder.
    """
    from polytag.cli.predict_many import is_folder, predict_many, require_folder, require_seconds
    from polytag.cli.standard_input import with_standard_input

    if features is not None:
        target = Path(output) if output else None
        predict_from_features(model, features, images=images or (), given=command_line_options(context), output=target)
        return
    if not images:
        raise UsageError("no images", where="IMAGES", expected="files, folders or addresses; or --features TABLE")
    require_seconds(every)

    if output is None or not is_folder(output):
        require_folder({"--shard": shard, "--ray": ray}, output)
        _predict_some(
            model,
            images if split is not None else with_standard_input(images),
            output=Path(output) if output else None,
            columns=columns,
            every_seconds=every,
            split=split,
            device=device,
            precision=precision,
            parts=parts,
            options=options,
        )
        return
    if parts is not None:
        raise UsageError(
            "--parts and a folder do not go together",
            where="--output",
            got=output,
            expected="a file, with --parts",
            next_step="`polytag export MODEL OUT --parts FILE.py` makes a model without code of your own; predict with it",
        )
    if split is not None:
        raise UsageError("--split and a folder do not go together", where="--output", got=output, expected="a file, with --split")
    predict_many(
        model,
        with_standard_input(images),
        output=output,
        shard=shard,
        ray=ray,
        columns=columns,
        every_seconds=every,
        device=device,
        precision=precision,
    )


def _predict_some(
    model: Path,
    images: list[str],
    *,
    output: Path | None,
    columns: Path | None,
    every_seconds: float,
    split: str | None,
    device: str,
    precision: str,
    parts: Path | None,
    options: "ReadOptions",
) -> None:
    """Print the scores, or write them into one file."""
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.terminal import Terminal
    from polytag.inference.images import local_images
    from polytag.inference.listing import opened
    from polytag.inference.predict import score_images
    from polytag.inference.scorers import scorer_of
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.exported import read_model

    console, errors = Terminal(), Terminal(stderr=True)
    if columns is not None and output is None:
        raise UsageError(
            "--columns needs a file to join to", where="--columns", got="no --output", expected="--output FILE.parquet"
        )
    checkpoint = read_model(model) if parts is None else Checkpoint.read(model, backbone=backbone_of(parts))
    dataset, left_out = None, ""
    with ExitStack() as stack:
        if split is not None:
            dataset = _split_of(images, split=split, options=as_in_training(options, model), classes=checkpoint.label_set.names)
            checkpoint.require_labels(dataset.label_set)
            found = local_images(dataset.paths)
        else:
            found, left_out = stack.enter_context(opened(images, every_seconds=every_seconds, are_distinct=True))
        if left_out:
            errors.print(left_out, highlight=False, markup=False, soft_wrap=True)
        if isinstance(checkpoint, Checkpoint):
            keep_freed_memory_on_cpu(device)
        results = score_images(checkpoint, scorer_of(checkpoint, device=device, precision=precision), found)
        if output is None:
            num_failed = _print_results(results, is_one=len(found) == 1, console=console, errors=errors)
        else:
            num_failed = _write(
                results,
                output=output,
                checkpoint=checkpoint,
                images=found,
                dataset=dataset,
                columns=columns,
                console=console,
                errors=errors,
            )
    if num_failed:
        raise typer.Exit(ImageError.exit_status)


def _print_results(results: "Any", *, is_one: bool, console: "Any", errors: "Any") -> int:
    num_failed = 0
    for result in results:
        if result.error:
            num_failed += 1
            _print_error(errors, result)
        elif is_one:
            _print_table(console, result)
        else:
            labels = ", ".join(f"{name} {result.probabilities[name]:.2f}" for name in result.labels) or "–"
            console.print(f"{result.path}  {labels}", highlight=False, markup=False, soft_wrap=True)
    return num_failed


def _write(
    results: "Any",
    *,
    output: Path,
    checkpoint: "Any",
    images: "Images",
    dataset: "Dataset | None",
    columns: Path | None,
    console: "Any",
    errors: "Any",
) -> int:
    from polytag.cli.progress import progress_bar
    from polytag.data.columns import NO_COLUMNS, read_columns
    from polytag.predictions.table import PredictionsWriter

    ids = [name.as_posix() if isinstance(name, Path) else name for name in images.names] if dataset is None else dataset.ids
    joined = NO_COLUMNS if columns is None else read_columns(columns)
    joined.require_some(ids)
    num_failed = 0
    writer = PredictionsWriter(
        output,
        label_set=checkpoint.label_set,
        checkpoint_id=checkpoint.id,
        thresholds=checkpoint.thresholds,
        source=dataset.source if dataset else "",
        calibration=checkpoint.calibration_id,
        absent_means=dataset.absent_means if dataset else "absent",
        columns=joined,
    )
    with writer, progress_bar(errors) as progress:
        tracked = progress.track(results, total=len(images), description="predicting")
        for row, (name, result) in enumerate(zip(ids, tracked, strict=True)):
            if result.error:
                num_failed += 1
                writer.fail(name, str(result.path), result.error)
                _print_error(errors, result)
            else:
                target_NC = dataset.target_NC[row : row + 1] if dataset else None
                writer.write([name], [str(result.path)], result.logit_C[None], target_NC)
    console.print(f"{len(images) - num_failed} images scored: {output}", highlight=False, markup=False, soft_wrap=True)
    return num_failed


def _split_of(paths: list[str], *, split: str, options: "ReadOptions", classes: tuple[str, ...]) -> "Dataset":
    from polytag.data.load import load_labels

    if len(paths) != 1:
        raise UsageError(
            "--split takes one data set", where="IMAGES", got=f"{len(paths)} paths", expected="one folder or file of labels"
        )
    return load_labels(Path(paths[0]), options=options, classes=classes, need_images=True).split(split)


def _print_error(errors: "Any", result: "ImageResult") -> None:
    errors.print(f"{result.path}: {result.error}", highlight=False, markup=False, soft_wrap=True)


def _print_table(console: "Any", result: "ImageResult") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(Path(result.path).name), title_justify="left", box=None, pad_edge=False)
    table.add_column("class")
    table.add_column("probability", justify="right")
    table.add_column("")
    present = set(result.labels)
    for name, probability in list(result.probabilities.items())[:20]:
        bar = "█" * round(24 * probability)
        table.add_row(escape(name), f"{probability:.3f}", bar, style="bold" if name in present else "dim")
    console.print(table)
