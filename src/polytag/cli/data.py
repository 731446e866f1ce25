"""`polytag data`: check a data set, show the cache, convert labels, download VOC; split.py divides one."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli import split as splitting
from polytag.cli.reading import ColumnsById, GroupOfImages, reads_annotations, with_grouping
from polytag.text import counted, word

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from polytag.contracts import Dataset
    from polytag.data.check import DataCheck
    from polytag.data.duplicates.groups import ModelFeatures
    from polytag.data.read_options import ReadOptions

_BAR_WIDTH = 30
_SPLIT_WIDTH = 29  # width in characters of the counts of one split
_NUM_GROUPS, _NUM_MEMBERS = 10, 5  # printed near duplicates; the JSON file has all

app = typer.Typer(help="Check, divide, convert and fetch data sets.", no_args_is_help=True, add_completion=False)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="A folder or file of labels, in any format that polytag reads.")]


@app.command()
@reads_annotations
def check(
    data: Data,
    options: "ReadOptions",
    read_images: Annotated[bool, typer.Option(help="Decode every image, or only check that the files exist.")] = True,
    near: Annotated[
        bool,
        typer.Option(
            "--near", help="Also find near duplicates: other versions of one image, such as resized, tinted, cropped or mirrored."
        ),
    ] = False,
    near_model: Annotated[
        Path | None, typer.Option(metavar="RUN|MODEL", help="Also find images with similar features of this model.")
    ] = None,
    min_cosine: Annotated[float, typer.Option(metavar="0..1", help="Smallest cosine of the features of two duplicates.")] = 0.85,
    group: GroupOfImages = None,
    columns: ColumnsById = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result to this file.")] = None,
) -> None:
    """Count labels, read every image, find duplicates. Exit status 0: training can start; 1: it cannot."""
    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.cli.what_was_read import print_reading
    from polytag.data import check as checking
    from polytag.data.load import load_dataset
    from polytag.files import write_text

    console = Terminal()
    dataset = load_dataset(data, options=with_grouping(options, group=group, columns=columns))
    print_reading(console, dataset)
    console.print()
    with progress_bar(console) as progress:
        features = None
        if near_model is not None:
            extracting = progress.add_task("features", total=len(dataset))
            features = _features(
                near_model, dataset, cosine=min_cosine, on_batch=lambda num_images: progress.advance(extracting, num_images)
            )
        task = progress.add_task("reading images", total=len(set(dataset.paths)))
        found = checking.check(
            dataset, read_images=read_images, near=near, features=features, on_image=lambda: progress.advance(task)
        )
    if json_file is not None:
        write_text(json_file, json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    print_check(console, found)
    if not found.can_train:
        raise typer.Exit(1)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of them.")] = False,
) -> None:
    """Show or remove the cached images and features."""
    from datetime import datetime

    from polytag.cli.terminal import Terminal
    from polytag.data.cache import store

    console = Terminal()
    folder = store.store_folder()
    if clear:
        console.print(f"{store.clear() / 1e6:,.1f} MB removed from {folder}", highlight=False, markup=False, soft_wrap=True)
        return
    cached = store.cache_files()
    for each in cached:
        used = datetime.fromtimestamp(each.used).strftime("%Y-%m-%d %H:%M")
        console.print(
            f"{each.num_bytes / 1e6:10,.1f} MB  last used {used}  {each.path.name}", highlight=False, markup=False, soft_wrap=True
        )
    total = sum(each.num_bytes for each in cached)
    console.print(f"{total / 1e6:10,.1f} MB  in {folder}", highlight=False, markup=False, soft_wrap=True)


app.command("split")(splitting.split)


@app.command()
@reads_annotations
def convert(
    data: Data,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder to write.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="csv, parquet, voc, coco, imagefolder, hf or webdataset.")],
    options: "ReadOptions",
    group: GroupOfImages = None,
    columns: ColumnsById = None,
) -> None:
    """Write the labels in another format."""
    from polytag.cli.terminal import Terminal
    from polytag.data import convert as converting
    from polytag.data.load import load_dataset
    from polytag.data.settings import with_settings

    options, _ = with_settings(with_grouping(options, group=group, columns=columns), data)
    dataset = load_dataset(data, options=options)
    of_settings = options.group_column if to in converting.TABLES else ""
    written = converting.convert(dataset, out, to=to, group_column=group or of_settings)
    Terminal().print(
        f"{len(dataset):,} images, {len(dataset.label_set):,} classes -> {written}", highlight=False, markup=False, soft_wrap=True
    )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="voc2007|voc2012", help="The data set.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put it.")],
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="A mirror, with the paths of the official server.")] = None,
) -> None:
    """Download, check and unpack Pascal VOC; an interrupted download is resumed."""
    from rich.progress import DownloadColumn, TaskID, TransferSpeedColumn

    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.data.fetch import fetch as fetching

    console = Terminal()
    tasks: dict[str, TaskID] = {}
    with progress_bar(console, DownloadColumn(), TransferSpeedColumn(), transient=False) as progress:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, completed=done)
                if not console.is_terminal:
                    console.print(what, highlight=False, markup=False, soft_wrap=True)
            progress.update(tasks[what], completed=done, total=total)

        place = fetching.fetch(name, folder, base_url=base_url, on_progress=show)
    console.print(f"{'fetched' if tasks else 'already there'}: {place}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nNext:\n  polytag train {word(place)}", highlight=False, markup=False, soft_wrap=True)


def print_check(console: "Console", found: "DataCheck") -> None:
    """Print the result, most important last: counts, labels per image, duplicates, warnings, verdict."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(f"[bold]{found.num_images:,} images, {len(found.classes):,} classes[/bold]", highlight=False)
    console.print(Text(found.source, style="dim"), soft_wrap=True)
    console.print()
    if found.num_images:
        widest_name = max(len("images"), *(len(name) for name in found.classes))
        num_side_by_side = max(1, (console.width - widest_name - 1) // _SPLIT_WIDTH)
        for start in range(0, len(found.splits), num_side_by_side):
            columns = range(start, min(start + num_side_by_side, len(found.splits)))
            console.print(Padding(_class_table(found, columns), (0, 0, 1, 1)))
        console.print(Padding(_labels_table(found, "-" if console.options.ascii_only else "━"), (0, 0, 1, 1)))
        console.print(
            f" {found.mean_labels_per_image:.2f} labels per image; {found.unknown_share:.1%} of all labels are unknown.\n"
        )
    _print_duplicates(console, found)
    for style, mark, sentences in (("yellow", "warning", found.warnings), ("red", "problem", found.problems)):
        for sentence in sentences:
            console.print(Text.assemble((f"{mark}: ", f"bold {style}"), sentence), soft_wrap=True)
    if found.can_train:
        console.print(
            Text.assemble(("Training can start.", "bold green"), "" if found.images_were_read else " Images were not read.")
        )
    else:
        console.print(Text("Training cannot start.", style="bold red"))


def _features(model: Path, dataset: "Dataset", *, cosine: float, on_batch: "Callable[[int], None]") -> "ModelFeatures":
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.data.duplicates.groups import ModelFeatures
    from polytag.errors import UsageError
    from polytag.inference.feature_cache import features_of
    from polytag.inference.predictor import Predictor
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.heads import backbone_features

    if not 0 < cosine <= 1:
        raise UsageError("cosine out of range", where="--min-cosine", got=str(cosine), expected="above 0 and at most 1")
    keep_freed_memory_on_cpu()
    predictor = Predictor.load(Checkpoint.read(model))
    feature_ND, row_N, _ = features_of(predictor, dataset, on_batch=on_batch)
    return ModelFeatures(feature_ND=backbone_features(predictor.model, feature_ND), row_N=row_N, cosine=cosine)


def _print_duplicates(console: "Console", found: "DataCheck") -> None:
    """Print one line per group of near duplicates, by pixels and by a model, groups across splits first."""
    from rich.text import Text

    from polytag.data.duplicates.groups import across_splits

    near = [
        (group.images, f"{group.bits} bits, detail {group.correlation:.2f}{group.orientation}")
        for group in found.near_duplicates or ()
    ]
    by_pixels = [set(group.images) for group in found.near_duplicates or ()]
    by_model = [
        (group.images, f"cosine {group.cosine:.2f}")
        for group in found.feature_duplicates or ()
        if not any(set(group.images) <= images for images in by_pixels)
    ]
    for heading, was_searched, groups in (
        ("near duplicates", found.near_duplicates is not None, near),
        (
            "further near duplicates by the model" if by_pixels else "near duplicates by the model",
            found.feature_duplicates is not None,
            by_model,
        ),
    ):
        if not was_searched:
            continue
        groups = sorted(groups, key=lambda group: not across_splits(group[0]))
        num_across = sum(across_splits(images) for images, _ in groups)
        number = counted(len(groups), "groups") if groups else "none"
        console.print(Text(f" {heading}: {number}" + (f", {num_across:,} across splits" if groups else ""), style="bold"))
        for images, how in groups[:_NUM_GROUPS]:
            names = [f"{image.id} ({image.split})" if image.split else image.id for image in images]
            more = f" and {len(names) - _NUM_MEMBERS:,} more" if len(names) > _NUM_MEMBERS else ""
            console.print(Text.assemble("   ", " ≈ ".join(names[:_NUM_MEMBERS]) + more, (f"  {how}", "dim")), soft_wrap=True)
        if len(groups) > _NUM_GROUPS:
            console.print(Text(f"   … and {len(groups) - _NUM_GROUPS:,} more in --json", style="dim"))
        console.print()


def _class_table(found: "DataCheck", splits: Sequence[int]) -> "RenderableType":
    """The counts of these splits, given by index, side by side."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("\nclass", no_wrap=True)
    for s in splits:
        table.add_column("")  # space between the splits
        for heading in (f"{found.splits[s] or 'all'}\npresent", "\nabsent", "\nunknown"):
            table.add_column(heading, justify="right", no_wrap=True)
    for c, name in enumerate(found.classes):
        cells = [Text(name)]
        for s in splits:
            present, absent, unknown = (int(counts[s, c]) for counts in (found.present_SC, found.absent_SC, found.unknown_SC))
            cells += [
                Text(""),
                Text(f"{present:,}", style="" if present else "bold yellow"),
                Text(f"{absent:,}", style="" if absent else "bold yellow"),
                Text(f"{unknown:,}", style="" if unknown else "dim"),
            ]
        table.add_row(*cells)
    table.add_section()
    totals = [Text("images", style="bold")]
    for s in splits:
        totals += [Text(""), Text(f"{found.num_images_S[s]:,}", style="bold"), Text(""), Text("")]
    table.add_row(*totals)
    return table


def _labels_table(found: "DataCheck", bar: str) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("labels", justify="right")
    table.add_column("images", justify="right")
    table.add_column("")
    largest = max(found.labels_per_image.values())
    for num_labels, num_images in found.labels_per_image.items():
        length = math.ceil(_BAR_WIDTH * num_images / largest)
        table.add_row(Text(str(num_labels)), Text(f"{num_images:,}"), Text(bar * length, style="cyan"))
    return table
