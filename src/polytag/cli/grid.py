"""`polytag grid`: the highest or lowest scored images of a class as one PNG image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.reading import reads_annotations
from polytag.cli.say import say
from polytag.cli.scores import Scale, Truth

if TYPE_CHECKING:
    from polytag.data.read_options import ReadOptions


@reads_annotations
def grid(
    options: "ReadOptions",
    run: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A run folder, or scores.")],
    class_names: Annotated[list[str], typer.Option("--class", metavar="NAME", help="May be given several times.")],
    top: Annotated[int, typer.Option(metavar="K", min=1, max=1000, help="How many images.")] = 50,
    lowest: Annotated[bool, typer.Option("--lowest", help="The lowest scores instead of the highest.")] = False,
    positives: Annotated[bool, typer.Option("--positives", help="Only images that are labelled with the class.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png|DIR", show_default="<class>-top.png or <class>-bottom.png, here"),
    ] = None,
    truth: Truth = None,
    scale: Scale = None,
) -> None:
    """The ranked images of a class with score and truth, ten a row; an orange frame is a wrong decision at the threshold."""
    from io import BytesIO

    from polytag import files
    from polytag.cli.terminal import Terminal
    from polytag.errors import UsageError
    from polytag.inspector.open import OpenOptions, open_inspection
    from polytag.report.grids import draw_grid, file_name

    if len(class_names) > 1 and output is not None and output.suffix.lower() == ".png":
        raise UsageError("one file for several classes", where="--output", got=str(output), expected="a folder")
    errors = Terminal(stderr=True)
    open_options = OpenOptions(image_dirs=options.image_dirs, truth=truth, scale=scale)
    inspection = open_inspection(
        run,
        open_options,
        options=options,
        note=lambda text: errors.print(f"note: {text}", highlight=False, markup=False, soft_wrap=True),
    )
    predictions = inspection.predictions
    threshold_of = {name: float(inspection.threshold_C[predictions.label_set.index(name)]) for name in class_names}
    for name, threshold in threshold_of.items():  # an unknown name has raised before anything is drawn
        content = BytesIO()
        drawn = draw_grid(predictions, class_name=name, threshold=threshold, top=top, lowest=lowest, positives=positives)
        drawn.save(content, "PNG")
        own_name = file_name(name, predictions.label_set, lowest=lowest, positives=positives)
        path = output if output is not None and output.suffix.lower() == ".png" else (output or Path()) / own_name
        with files.saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, content.getvalue())
        say(path)
