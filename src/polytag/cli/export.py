"""`polytag export`: a model as ONNX graphs that answer as it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.reading import reads_annotations

if TYPE_CHECKING:
    from polytag.cli.terminal import Terminal
    from polytag.contracts import Dataset
    from polytag.data.read_options import ReadOptions
    from polytag.models.exported import Exported

_NUM_OWN_IMAGES = 200  # of the run's validation, where no data are named


@reads_annotations
def export(
    options: "ReadOptions",
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder, or a checkpoint folder such as its best/.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    check: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Compare on the images of this data set instead of the run's validation images."),
    ] = None,
) -> None:
    """Write the model as ONNX: from the image to the decision in one graph, which other programs run without polytag.

    Before the folder is there, its graphs are run and compared with the model. Where a decision differs nothing is written.
    """
    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.data.load import load_dataset
    from polytag.export.export import export_model
    from polytag.export.selftest import SIZES

    console, errors = Terminal(), Terminal(stderr=True)
    images: Dataset | list[Path] = load_dataset(check, options=options) if check else _own_images(model)
    with progress_bar(errors) as progress:
        task = progress.add_task("comparing", total=len(SIZES) + len(images))
        made = export_model(model, out, check=images, of="the run's validation", on_image=lambda: progress.advance(task))
    _print(console, made)


def _own_images(model: Path) -> list[Path]:
    """Validation images of a run that are still there, evenly from all of them; none for a checkpoint folder."""
    from polytag.data.images.stored import is_image_there
    from polytag.errors import PolytagError
    from polytag.predictions.table import read_parquet_predictions
    from polytag.runs.folder import RunFolder

    try:
        paths = read_parquet_predictions(RunFolder(path=model).predictions).image_paths
    except PolytagError:
        return []
    there = [Path(path) for path in paths if path and is_image_there(path)]
    return there[:: max(1, -(-len(there) // _NUM_OWN_IMAGES))]


def _print(console: "Terminal", made: "Exported") -> None:
    from polytag.models.exported import IMAGE, PIXELS
    from polytag.text import counted

    checked = made.checked
    console.print(f"{made.folder}", highlight=False, markup=False, soft_wrap=True)
    for name, what in ((IMAGE, "an image of any size -> decisions"), (PIXELS, "resized images -> decisions")):
        size_mb = (made.folder / name).stat().st_size / 1e6
        console.print(f"  {name:12} {size_mb:7.1f} MB   {what}", highlight=False, markup=False)
    console.print(
        f"Compared with the model on {counted(checked.images, 'images')} ({checked.of}): no decision of "
        f"{checked.decisions:,} changed, logits differ by at most {checked.max_logit_difference:.1g}.",
        highlight=False,
        markup=False,
    )
    console.print(
        f"\nNext:\n  polytag predict {made.folder} IMAGE...    # without PyTorch", highlight=False, markup=False, soft_wrap=True
    )
