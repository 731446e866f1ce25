"""`polytag demo`: the whole workflow on generated images."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the images and the run.")] = Path("demo"),
) -> None:
    """Generate scenes of handwriting, train a small network from random weights, judge it, and write the report.

    Takes under three minutes on two cores and needs no download.
    """
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.progress import ConsoleCallback, LastingConsole
    from polytag.cli.train import print_result
    from polytag.demo.recipe import DEMO
    from polytag.demo.scenes import write_scenes
    from polytag.training.train import train

    console = LastingConsole()
    scenes = output / "scenes"
    if scenes.is_dir():
        console.print(f"Images of an earlier demo: {scenes}", highlight=False, markup=False)
    else:
        console.print(
            f"Generating 2,400 images of handwritten digits as a Pascal VOC devkit: {scenes}",
            highlight=False,
            markup=False,
        )
        write_scenes(scenes)
    console.print(f"Training {DEMO.backbone} from random weights for {DEMO.epochs} epochs\n", highlight=False)
    keep_freed_memory_on_cpu(DEMO.device)
    with ConsoleCallback(console) as callback:
        run = train(scenes, recipe=DEMO, output=output / "run", callbacks=[callback])
    print_result(console, run)
