"""`polytag train`: labelled images in, an evaluated model out."""

import math
import os
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.features import ClassFeaturesFile, FeaturesFile, recipe_on_features
from polytag.cli.given_options import command_line_options
from polytag.cli.parts import PartsFile, parts_of
from polytag.cli.reading import ColumnsById, GroupOfImages, reads_annotations, with_grouping
from polytag.errors import UsageError
from polytag.machine import process_seconds
from polytag.text import word

if TYPE_CHECKING:
    from polytag.data.read_options import ReadOptions
    from polytag.metrics.values import Metrics
    from polytag.runs.recipe import Recipe
    from polytag.training.folds import TrainedFolds
    from polytag.training.one_run import TrainedRun


_BEGAN = time.monotonic() - process_seconds()  # of the command, which imports this module at its start


@reads_annotations
def train(
    context: typer.Context,
    options: "ReadOptions",
    data: Annotated[Path | None, typer.Argument(help="Labelled images, in any format that `polytag data check` reads.")] = None,
    recipe: Annotated[str, typer.Option(help="finetune, probe or baseline.")] = "finetune",
    minutes: Annotated[
        float | None, typer.Option(min=0.2, metavar="M", help="Train the best model that this time allows, in place of --epochs.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="A model name of timm. [default: the recipe's]")] = None,
    backbone_arg: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of the timm model; repeatable.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="pretrained, random, or a safetensors file.")] = None,
    head: Annotated[str | None, typer.Option(help="What reads the backbone: auto, linear, concat-pool or csra.")] = None,
    image_size: Annotated[int | None, typer.Option(metavar="PX", help="Side of the square input.")] = None,
    fit: Annotated[str | None, typer.Option(help="squash (the whole image) or crop (the centre).")] = None,
    crops: Annotated[str | None, typer.Option(help="Views scored and averaged: center, flip, five or ten.")] = None,
    augment: Annotated[str | None, typer.Option(help="none, light, standard or strong.")] = None,
    loss: Annotated[str | None, typer.Option(help="auto (bce, or what suits partial labels), bce, focal, asl or ll-r.")] = None,
    class_weights: Annotated[str | None, typer.Option(help="none, or balanced: positives of rare classes count more.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2)] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Images of a batch that go through the network at once. [default: all]")
    ] = None,
    grad_checkpointing: Annotated[
        bool, typer.Option("--grad-checkpointing", help="Compute activations again in the backward pass: less memory, more time.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=0)] = None,
    head_lr: Annotated[float | None, typer.Option(help="Peak learning rate of the classifier.")] = None,
    backbone_lr: Annotated[float | None, typer.Option(help="Peak learning rate of the backbone.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, metavar="K", help="K models, each validated on the fold that it did not learn from.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    cache: Annotated[str | None, typer.Option(help="Cache of decoded images: auto, none, disk or gpu.")] = None,
    difficult: Annotated[
        str | None, typer.Option(help="VOC's difficult-only labels: ignore, positive or negative. [default: the recipe's]")
    ] = None,
    group: GroupOfImages = None,
    columns: ColumnsById = None,
    features: FeaturesFile = None,
    class_features: ClassFeaturesFile = None,
    parts: PartsFile = None,
    track: Annotated[
        list[str] | None, typer.Option(metavar="TRACKER", help="Also show the run in tensorboard, mlflow or wandb; repeatable.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Repeat the plan.json of a run with --minutes.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="[default: runs/DATA-RECIPE]")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="Resume an interrupted run.")] = None,
) -> None:
    """Train, judge and report: from labelled images to a model and a page with its metrics."""
    _require_one_start(context, data=data, resume=resume)
    changes: dict[str, Any] = {
        "backbone": backbone, "weights": weights, "head": head, "image_size_px": image_size, "fit": fit, "crops": crops,
        "augment": augment, "loss": loss, "class_weights": class_weights, "batch_size": batch_size, "epochs": epochs,
        "micro_batch_size": micro_batch_size, "grad_checkpointing": grad_checkpointing or None,
        "head_lr": head_lr, "backbone_lr": backbone_lr, "seed": seed, "device": device, "precision": precision,
        "difficult": difficult, "cache": cache, "minutes": minutes,
        "backbone_args": parse_backbone_args(backbone_arg) if backbone_arg else None,
    }  # fmt: skip
    from polytag.runs.args import read_run_args
    from polytag.runs.folder import open_run_folder
    from polytag.runs.recipe import recipe_named

    if class_features is not None and features is None and resume is None:
        raise UsageError(
            "vectors of class names go with those of images", where="--class-features", expected="--features TABLE too"
        )
    if features is not None:
        recipe = recipe_on_features(command_line_options(context), recipe=recipe)
    if resume is not None:
        begun = read_run_args(open_run_folder(resume))
        chosen, folds = begun.recipe, begun.folds if begun.has_all_folds else None
    else:
        given = {name: value for name, value in changes.items() if value is not None}
        chosen = _planned(context, plan) if plan is not None else replace(recipe_named(recipe), **_with_minutes(given, folds=folds))
    options = with_grouping(options, group=group, columns=columns)
    trackers = [name.strip() for names in track or () for name in names.split(",")]
    _run(
        chosen,
        data=data,
        features=(features, class_features),
        folds=folds,
        resume=resume,
        output=output,
        options=options,
        parts=parts,
        trackers=trackers,
    )


def _run(
    recipe: "Recipe",
    *,
    data: Path | None,
    features: tuple[Path | None, Path | None],
    folds: int | None,
    resume: Path | None,
    output: Path | None,
    options: "ReadOptions",
    parts: Path | None,
    trackers: list[str],
) -> None:
    """Trains or resumes with progress on the console; ends with status 130, and the command that resumes, after Ctrl-C."""
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.progress import ConsoleCallback, LastingConsole
    from polytag.training import folds as training_folds
    from polytag.training import train as training
    from polytag.training.callback import listed
    from polytag.training.loop import Interrupted
    from polytag.training.tracking.callback import stopping
    from polytag.training.tracking.track import tracking

    is_first = os.environ.get("RANK", "0") == "0"
    console = LastingConsole(quiet=not is_first)  # of the processes that torchrun starts, only the first prints and tells
    keep_freed_memory_on_cpu(recipe.device)
    callback = ConsoleCallback(console)
    tracked = tracking(trackers if is_first else (), note=callback.note)
    with callback, stopping(*tracked):
        own = parts_of(parts)
        own["callbacks"] = [callback, *tracked, *listed(own.get("callbacks", ()))]
        try:
            if folds is not None:
                if resume is not None:
                    found = training_folds.resume_folds(resume, **own)
                else:
                    assert data is not None
                    found = training_folds.train_folds(data, num_folds=folds, recipe=recipe, output=output, options=options, **own)
            elif resume is not None:
                found = training.resume(resume, **own)
            else:
                assert data is not None
                found = training.train(
                    data,
                    recipe=recipe,
                    output=output,
                    options=options,
                    features=features[0] or "",
                    class_features=features[1] or "",
                    began=_BEGAN,
                    **own,
                )
        except Interrupted as interrupted:
            given = {"--parts": parts, "--track": ",".join(trackers)}
            also = "".join(f" {flag} {word(value)}" for flag, value in given.items() if value)
            again = f"polytag train --resume {word(interrupted)}{also}"
            console.print(f"\nStopped; nothing is lost. Go on with:\n  {again}", highlight=False, markup=False)
            raise typer.Exit(130) from None
    if isinstance(found, training_folds.TrainedFolds):
        print_folds(console, found)
    else:
        print_result(console, found)


def _require_one_start(context: typer.Context, *, data: Path | None, resume: Path | None) -> None:
    """Raises UsageError unless there is either DATA or `--resume` without other options but its parts and trackers."""
    if (data is None) == (resume is None):
        raise UsageError(
            "give either DATA or --resume RUN_DIR",
            got="neither" if data is None else "both",
            next_step="`polytag train DATA`, or `polytag train --resume runs/NAME`",
        )
    if resume is not None and (others := command_line_options(context) - {"--resume", "--parts", "--track"}):
        raise UsageError(
            "a resumed run keeps its recipe",
            where="--resume",
            got=", ".join(sorted(others)),
            next_step="leave those options out, or start a new run",
        )


def _with_minutes(given: dict[str, Any], *, folds: int | None) -> dict[str, Any]:
    """The recipe's changes; with --minutes the plan chooses the backbone, where neither it nor its weights are named.

    Raises UsageError for --minutes beside another length.
    """
    if "minutes" not in given:
        return given
    if "epochs" in given or folds is not None:
        raise UsageError(
            "--minutes decides how long one model is trained",
            where="--minutes",
            got=f"--epochs {given['epochs']}" if "epochs" in given else f"--folds {folds}",
            next_step="leave one of the two out",
        )
    from polytag.runs.recipe import AUTO

    return given if {"backbone", "weights"} & given.keys() else {**given, "backbone": AUTO}


def _planned(context: typer.Context, plan: Path) -> "Recipe":
    """The recipe of a plan, to be repeated; raises UsageError beside options that the plan decides."""
    from polytag.runs.plan import read_plan, repeated
    from polytag.runs.recipe import Recipe

    decided = {f"--{each.name.replace('_', '-')}" for each in fields(Recipe)} | {"--image-size", "--recipe", "--folds"}
    if others := decided & command_line_options(context):
        raise UsageError(
            "a plan decides these itself",
            where="--plan",
            got=", ".join(sorted(others)),
            next_step="leave those options out, or make another plan with --minutes",
        )
    return repeated(read_plan(plan))


def parse_backbone_args(pairs: list[str]) -> dict[str, object]:
    """Parse KEY=VALUE pairs, with values as YAML scalars (3, 0.1, true, same); raises UsageError for a pair without `=`."""
    from polytag.parsing import Malformed, parse_yaml

    parsed: dict[str, object] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError("not a KEY=VALUE pair", where="--backbone-arg", got=repr(pair), expected="such as pad_type=same")
        try:
            parsed[key] = parse_yaml(value)
        except Malformed as error:
            raise UsageError(
                "the value is not YAML", where="--backbone-arg", got=f"{pair!r}: {error}", expected="such as 0.1"
            ) from error
    return parsed


def print_folds(console: "Any", run: "TrainedFolds") -> None:
    """Print the result of a run of folds: mAP of all images and of each fold, files, and the next commands."""
    from polytag.training.folds import spread_of

    spread = spread_of(run.map_of_folds)
    for number, each in enumerate(run.runs, start=1):
        mean = each.metrics.mean_ap
        console.print(
            f"fold {number}  mAP {mean.value:.4f}  over {mean.count} classes, {each.metrics.num_images} images", highlight=False
        )
    console.print(f"folds   mAP {spread['mean']:.4f} ± {spread['sd']:.4f}", highlight=False)
    _print_mean(console, "out-of-fold mAP", run.metrics, of=f"{len(run.runs)} models")
    path = run.folder.path
    lines = [
        f"\n  report   {run.folder.report}",
        f"  scores   {run.folder.predictions}",
        "\nNext:",
        f"  polytag inspect {word(path)}",
        f"  polytag labels issues {word(path)}",
        f"  polytag predict {word(run.folder.fold(1).path)} IMAGE...",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_mean(console: "Any", name: str, metrics: "Metrics", *, of: str) -> None:
    mean = metrics.mean_ap
    interval = "" if math.isnan(mean.low) else f"  {mean.low:.3f} – {mean.high:.3f}"
    console.print()
    console.print(
        f"[bold]{name} {mean.value:.4f}[/bold]{interval}  over {mean.count} classes, {metrics.num_images} images ({of})",
        highlight=False,
    )


def print_result(console: "Any", run: "TrainedRun") -> None:
    """Print the result of a run: mAP, files, and the next commands."""
    _print_mean(console, "validation mAP", run.metrics, of=f"epoch {run.checkpoint.facts.get('epoch', '?')}")
    path = run.folder.path
    console.print(f"\n  report   {run.folder.report}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"  model    {run.folder.best}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nNext:", highlight=False)
    console.print(f"  polytag inspect {word(path)}", highlight=False, markup=False, soft_wrap=True)
    wanted = "IMAGE..." if run.checkpoint.num_features is None else "--features TABLE"
    console.print(f"  polytag predict {word(path)} {wanted}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"  polytag evaluate {word(run.folder.predictions)}", highlight=False, markup=False, soft_wrap=True)
