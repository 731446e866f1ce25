"""`polytag bench`: the speed of this machine, and where the time goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from polytag.bench.speed import Speed
    from polytag.cli.terminal import Terminal

_ROWS = {
    "decode_core": "decode and augment, one core",
    "decode": "decode and augment, all cores",
    "forward": "forward pass, decoded images",
    "predict": "predict, from file to score",
    "step": "training step, decoded images",
}


def bench(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|MODEL|EXPORT]", help="Measure scoring with this model, not training.", show_default=False),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="A model name of timm. [default: resnet18]", show_default=False)] = None,
    image_size: Annotated[int | None, typer.Option(metavar="PX", help="Side of the square input. [default: the recipe's]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16; of an export auto, fp32 or int8.")] = "auto",
    engine: Annotated[str, typer.Option(help="Of MODEL: auto, torch, onnx or openvino.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="Time for each number.")] = 2.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers to this file.")] = None,
) -> None:
    """Measure this machine for half a minute: peak arithmetic, decoding, a forward pass, a training step. Or how a model scores."""
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.terminal import Terminal

    console, errors = Terminal(), Terminal(stderr=True)
    if model is not None:
        for option, value in (("--backbone", backbone), ("--image-size", image_size)):
            if value is not None:
                raise UsageError(f"{option} does not go with a model, which has its own", where=option, got=str(value))
        with errors.status("measuring") as status:
            _bench_model(
                model, engine=engine, device=device, precision=precision, seconds=seconds, json_file=json_file,
                console=console, note=lambda what: status.update(f"measuring: {what}"),
            )  # fmt: skip
        return
    if engine not in ("auto", "torch"):
        raise UsageError(
            "a backbone is measured in PyTorch", where="--engine", got=repr(engine), expected="a MODEL, with this option"
        )
    from polytag.bench.speed import measure_speed

    keep_freed_memory_on_cpu(device)
    with errors.status("measuring") as status:
        speed = measure_speed(
            backbone=backbone or "resnet18",
            image_size_px=image_size,
            device=device,
            precision=precision,
            seconds=seconds,
            note=lambda what: status.update(f"measuring: {what}"),
        )
    _write(json_file, speed.to_json())
    _print_speed(console, speed)


def _bench_model(
    name: str,
    *,
    engine: str,
    device: str,
    precision: str,
    seconds: float,
    json_file: Path | None,
    console: "Terminal",
    note: "Callable[[str], None]",
) -> None:
    from polytag.bench.model_speed import measure_model
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.exported import read_model

    model = read_model(name)
    if isinstance(model, Checkpoint):
        keep_freed_memory_on_cpu(device)
    speed = measure_model(model, engine=engine, device=device, precision=precision, seconds=seconds, note=note)
    _write(json_file, speed.to_json())
    views = f", {speed.num_views} views" if speed.num_views > 1 else ""
    console.print(f"{speed.processor}, {speed.num_cores} cores", highlight=False)
    _print_load(console, speed.load_before)
    console.print(f"\n{name}: {speed.engine}, {speed.precision}, {speed.image_size_px} px{views}", highlight=False, markup=False)
    table = _table("")
    table.add_column("", justify="right", no_wrap=True)
    table.add_row("from the folder to the first answer", f"{speed.load_seconds:.2f} s")
    for size, milliseconds in speed.milliseconds.items():
        table.add_row("an image on one core" + (f", in batches of {size}" if size > 1 else ""), f"{milliseconds:.1f} ms")
    table.add_row("all cores, decoded images", f"{speed.scored_images_per_second:.1f} images/s")
    table.add_row("all cores, from JPEG files", f"{speed.predict_images_per_second:.1f} images/s")
    console.print(table)


def _write(json_file: Path | None, values: dict[str, object]) -> None:
    import json

    from polytag import files

    if json_file is not None:
        files.write_text(json_file, json.dumps(values, indent=2) + "\n")


def _print_load(console: "Terminal", load: float) -> None:
    if load > 0.5:
        console.print(f"Other programs use the machine (load {load:.1f}), so every number is too low.", soft_wrap=True)


def _print_speed(console: "Terminal", speed: "Speed") -> None:
    console.print(
        f"{speed.processor}, {speed.num_cores} cores; {speed.device}, {speed.num_threads} threads, {speed.precision}",
        highlight=False,
    )
    _print_load(console, speed.load_before)
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


def _table(first: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def _rates(speed: "Speed") -> "Table":
    table = _table("")
    for name in ("images/s", "GFLOP/s", "of the 3 x 3 peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, title in _ROWS.items():
        rate = speed.rates[name]
        counted = (f"{rate.gflops:.0f}", f"{rate.peak_share:.0%}") if rate.gflops else ("", "")
        table.add_row(title, f"{rate.images_per_second:.1f}", *counted)
    return table
