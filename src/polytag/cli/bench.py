"""`polytag bench`: the speed of this machine, and where the time goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from polytag.bench.speed import Speed

_ROWS = {
    "decode_core": "decode and augment, one core",
    "decode": "decode and augment, all cores",
    "forward": "forward pass, decoded images",
    "predict": "predict, from file to score",
    "step": "training step, decoded images",
}


def bench(
    backbone: Annotated[str, typer.Option(help="A model name of timm.")] = "resnet18",
    image_size: Annotated[int | None, typer.Option(metavar="PX", help="Side of the square input. [default: the recipe's]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="Time for each of a dozen numbers.")] = 2.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers to this file.")] = None,
) -> None:
    """Measure this machine for half a minute: peak arithmetic, decoding, a forward pass, a training step."""
    import json

    from polytag import files
    from polytag.bench.speed import measure_speed
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.terminal import Terminal

    console, errors = Terminal(), Terminal(stderr=True)
    keep_freed_memory_on_cpu(device)
    with errors.status("measuring") as status:
        speed = measure_speed(
            backbone=backbone,
            image_size_px=image_size,
            device=device,
            precision=precision,
            seconds=seconds,
            note=lambda what: status.update(f"measuring: {what}"),
        )
    if json_file is not None:
        files.write_text(json_file, json.dumps(speed.to_json(), indent=2) + "\n")
    console.print(
        f"{speed.processor}, {speed.num_cores} cores; {speed.device}, {speed.num_threads} threads, {speed.precision}",
        highlight=False,
    )
    if speed.load_before > 0.5:
        console.print(f"Other programs use the machine (load {speed.load_before:.1f}), so every number is too low.", soft_wrap=True)
    console.print()
    console.print(_peaks(speed))
    console.print()
    console.print(f"{speed.backbone} at {speed.image_size_px} px, batches of {speed.batch_size}, scoring {speed.scoring}")
    console.print(_rates(speed))
    console.print()
    console.print(
        f"A training step with decoding, without overlap: {speed.input_share:.0%} input, {1 - speed.input_share:.0%} arithmetic. "
        "Cached images take less from the second epoch on.",
        highlight=False,
        soft_wrap=True,
    )


def _peaks(speed: "Speed") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("peak arithmetic, GFLOP/s", *speed.peaks):
        table.add_column(name, justify="left" if "peak" in name else "right")
    table.add_row("matrix product", *(f"{peak.product_gflops:.0f}" for peak in speed.peaks.values()))
    table.add_row("3 x 3 convolution", *(f"{peak.convolution_gflops:.0f}" for peak in speed.peaks.values()))
    return table


def _rates(speed: "Speed") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("images/s", "GFLOP/s", "of the 3 x 3 peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, title in _ROWS.items():
        rate = speed.rates[name]
        counted = (f"{rate.gflops:.0f}", f"{rate.peak_share:.0%}") if rate.gflops else ("", "")
        table.add_row(title, f"{rate.images_per_second:.1f}", *counted)
    return table
