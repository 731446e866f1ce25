"""`polytag export`: a model as graphs for other engines that answer as it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.parts import BackboneFile, backbone_of
from polytag.cli.reading import reads_annotations
from polytag.cli.scores import as_in_training

if TYPE_CHECKING:
    from polytag.cli.terminal import Terminal
    from polytag.data.read_options import ReadOptions
    from polytag.models.exported import Exported


@reads_annotations
def export(
    options: "ReadOptions",
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder, or a checkpoint folder such as its best/.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    to: Annotated[
        str, typer.Option(metavar="ENGINES", help="onnx, openvino, executorch, or several with commas between.")
    ] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write graphs in 8-bit integers, if they decide nearly as the model does.")
    ] = False,
    calibrate_on: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="With --int8: measure its ranges on these images instead of the run's training images."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Compare on this data set, or its split val, instead of the run's validation images."),
    ] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Add web/: a page that runs the model in the browser, with ONNX Runtime Web from npm.")
    ] = False,
    parts: BackboneFile = None,
) -> None:
    """Write the model as graphs from the image to the decision, which other programs run without polytag.

    Before the folder is there, its graphs are run and compared with the model. Where a decision differs nothing is written.
    """
    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.data.load import load_dataset, load_labels
    from polytag.errors import UsageError
    from polytag.export.export import export_model, targets_of
    from polytag.models.checkpoint import Checkpoint

    console, errors = Terminal(), Terminal(stderr=True)
    targets = targets_of([name.strip() for name in to.split(",")])
    if calibrate_on is not None and not int8:
        raise UsageError("nothing is calibrated without --int8", where="--calibrate-on", expected="--int8 with it, or neither")
    checkpoint = Checkpoint.read(model, backbone=backbone_of(parts))
    images = None
    if check is not None and int8:  # whose labels are used
        images = load_labels(check, options=as_in_training(options, model), classes=checkpoint.label_set.names, need_images=True)
    elif check is not None:
        images = load_dataset(check, options=options)
    with progress_bar(errors) as progress:
        task = progress.add_task("making the graphs", total=None)
        made = export_model(
            checkpoint,
            out,
            to=targets,
            int8=int8,
            check=images,
            web=web,
            calibrate_on=load_dataset(calibrate_on, options=options) if calibrate_on else None,
            on_image=lambda num_images: progress.update(task, advance=1, total=num_images),
            note=lambda what: progress.update(task, description=what),
        )
    _print(console, made)
    if web:
        console.print(
            f"  python -m http.server --directory {made.folder / 'web'}    # then open http://localhost:8000",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _print(console: "Terminal", made: "Exported") -> None:
    from polytag.export.readme import checked_text
    from polytag.models.exported import IMAGE
    from polytag.text import counted, word

    console.print(f"{made.folder}", highlight=False, markup=False, soft_wrap=True)
    for name, file in made.files.items():
        size_mb = (made.folder / name).stat().st_size / 1e6
        what = "an image of any size -> decisions" if name == IMAGE else "resized images -> decisions"
        what = "the numbers of the graph" if name.endswith(".bin") else what
        console.print(f"  {name:22} {file.precision} {size_mb:7.1f} MB   {what}", highlight=False, markup=False)
    for checked in dict.fromkeys(file.checked for file in made.files.values()):
        names = [name for name, file in made.files.items() if file.checked == checked and not name.endswith(".bin")]
        console.print(
            f"{', '.join(names)}: compared with the model on {counted(checked.images, 'images')} ({checked.of}): "
            f"{checked_text(checked)}.",
            highlight=False,
            markup=False,
        )
    if any(file.engine != "executorch" for file in made.files.values()):
        command = f"polytag predict {word(made.folder)} IMAGE...    # without PyTorch"
        console.print(f"\nNext:\n  {command}", highlight=False, markup=False, soft_wrap=True)
