"""`polytag push`: a model as a repository of the hub that timm and polytag load."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polytag.cli.terminal import Terminal
    from polytag.export.push import Pushed


def push(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder, or a checkpoint folder such as its best/.")],
    to: Annotated[str, typer.Argument(metavar="hf://OWNER/NAME", help="A repository of the hub, made if there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also push this export of the model, for use without PyTorch.")
    ] = None,
    license: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="The license in the card, such as apache-2.0.", show_default="what the card on the hub says"
        ),
    ] = "",
) -> None:
    """Put a model on the Hugging Face hub, with a model card, for `timm.create_model("hf-hub:...")` and for polytag.

    Before, timm loads what will be pushed and is compared with the model. A push is one commit: all of it is there, or nothing.
    """
    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.export.push import push_model

    console, errors = Terminal(), Terminal(stderr=True)
    with progress_bar(errors) as progress:
        task = progress.add_task("comparing with timm", total=None)

        def on_image(num_images: int) -> None:
            progress.update(task, advance=1, total=num_images)
            if progress.tasks[0].finished:
                progress.update(task, description="pushing")

        done = push_model(model, to, private=private, export=export, license=license, on_image=on_image)
    _print(console, done)


def _print(console: "Terminal", done: "Pushed") -> None:
    from polytag.text import counted

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(f"{done.address}: {'nothing has changed there' if done.is_same else done.url}")
    for name, num_bytes in done.files:
        say(f"  {name:26} {num_bytes / 1e6:9.3f} MB")
    compared = done.compared
    if compared is None:
        say("timm cannot load this model: it has no such head. `polytag train --head linear` makes one that it loads.")
    else:
        say(
            f"timm's model of these files was compared on {counted(compared.images, 'images')}: "
            f"logits differ by at most {compared.max_logit_difference:.1g}."
        )
    if not done.license:
        say("The card says no license: --license NAME adds one.")
    say(f"\nNext:\n  polytag predict {done.address} IMAGE...")
    if compared is not None:
        say(f'  timm.create_model("hf-hub:{done.address.repo}", pretrained=True)')
