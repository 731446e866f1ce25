"""`polytag thresholds`: thresholds for a goal, some with a guarantee, saved in the run."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.reading import reads_annotations
from polytag.cli.scores import Scale, Truth, read_labelled_scores, say_where_nothing_is_saved
from polytag.cli.slices import ColumnsFile, apart_from_groups, groups_by, groups_of_training, require_use_of_columns
from polytag.text import interval_text, number_text, word

if TYPE_CHECKING:
    from polytag.data.read_options import ReadOptions
    from polytag.metrics.operating_points import OperatingPoint, OperatingPoints

    _Columns = list[tuple[str, Callable[[OperatingPoint], str]]]


@reads_annotations
def thresholds(
    options: "ReadOptions",
    run: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A run folder, or scores with their labels.")],
    goal: Annotated[
        str, typer.Option(metavar="f1|f2|precision=P|recall=R|top=SHARE|fnr=RATE", help="Goal of each threshold.")
    ] = "f1",
    confidence: Annotated[
        float | None, typer.Option(help="Guarantee the goal on new images with this probability, such as 0.95.")
    ] = None,
    shared: Annotated[bool, typer.Option("--shared", help="One threshold for all classes, for their decisions together.")] = False,
    joint: Annotated[bool, typer.Option("--joint", help="Guarantee all classes together, not each by itself.")] = False,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With a guarantee: for a new patient, scene or video.")
    ] = None,
    columns: ColumnsFile = None,
    on: Annotated[
        Path | None,
        typer.Option(metavar="PREDICTIONS", help="Choose on these scores of the run's model instead of its validation."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the result without changing the run.")] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the thresholds to this file.")] = None,
    truth: Truth = None,
    scale: Scale = None,
) -> None:
    """Choose the probability above which each class is predicted, and save it in the run and its best/ model.

    For a file of scores, and for a run of folds, the thresholds are printed, and written with --json.
    """
    from polytag.cli.terminal import Terminal
    from polytag.errors import UsageError
    from polytag.metrics.goals import Goal
    from polytag.metrics.operating_points import choose_thresholds
    from polytag.predictions.thresholds import write_thresholds
    from polytag.runs.folder import predictions_path
    from polytag.runs.model import of_this_model, open_run

    chosen_goal = Goal.parse(goal)
    require_use_of_columns(columns, used=group is not None, options="--group")
    found = open_run(run)
    if on is not None and found is None:
        raise UsageError("--on needs a run with one model", where="--on", got=str(run), expected="a run folder, or that of a fold")
    source = predictions_path(run) if found is None else on or found.folder.predictions
    options = apart_from_groups(options, group, truth=truth)
    labelled = read_labelled_scores(source, scale=scale, truth=truth, options=options, errors=Terminal(stderr=True))
    groups, predictions = groups_by(labelled, group, file=columns, truth=truth), labelled.predictions
    if groups is None and (confidence is not None or chosen_goal.kind == "fnr"):
        groups = groups_of_training(labelled, run)
    if found is not None:
        predictions = of_this_model(found, predictions, where=source)
    points = choose_thresholds(predictions, goal=chosen_goal, confidence=confidence, joint=joint, shared=shared, groups=groups)
    console = Terminal()
    print_points(console, points)
    if found is not None and on is None and points.guarantee:
        calibrated = ", and calibrated on them" if points.risk_control and predictions.calibration else ""
        console.print(
            f"\nbest/ was selected among the epochs by its mAP on these images{calibrated}, which the guarantee does not account "
            "for. It holds for scores of other images: --on PREDICTIONS.",
            highlight=False,
            markup=False,
        )
    if json is not None:
        write_thresholds(json, points, checkpoint_id=predictions.checkpoint_id, calibration=predictions.calibration)
    if found is None or dry_run:
        say_where_nothing_is_saved(run)
        return
    from polytag.inference.decisions import save_thresholds

    save_thresholds(found, points)
    console.print(
        f"\nSaved in {found.folder.thresholds} and in best/: `polytag predict` and "
        f"`polytag evaluate {word(found.folder.predictions)}` use them.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def print_points(console: "Any", points: "OperatingPoints") -> None:
    """Print one line per class, the reasons of unattainable goals, and the guarantee."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")
    columns = _columns(points)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for point in points.points:
        table.add_row(escape(point.name), *(cell_of(point) for _, cell_of in columns), style="" if point.attainable else "dim")
    console.print(table)
    failed = [point for point in points.points if not point.attainable]
    if failed:
        console.print("\nNot attainable:")
    for point in failed:
        console.print(f"  {point.name}: {point.reason}", highlight=False, markup=False)
    console.print("\n" + _promise(points), highlight=False, markup=False)


def _columns(points: "OperatingPoints") -> "_Columns":
    """Headings and cells; a guaranteed bound replaces the interval of its metric."""
    guaranteed, kind = points.confidence is not None, points.goal.kind
    bound: _Columns = [("at most" if kind == "top" else "at least", lambda point: number_text(point.bound))]
    precision: _Columns = [("95%", lambda point: _interval(point.precision_low, point.precision_high))]
    recall: _Columns = [("95%", lambda point: _interval(point.recall_low, point.recall_high))]
    share: _Columns = []
    if kind == "top":
        share = [("share", lambda point: number_text(point.share)), *(bound if guaranteed else [])]
        precision = recall = []
    return [
        ("threshold", _threshold),
        *share,
        ("precision", lambda point: number_text(point.precision)),
        *(bound if guaranteed and kind == "precision" else precision),
        ("recall", lambda point: number_text(point.recall)),
        *(bound if guaranteed and kind == "recall" else recall),
        ("predicted", lambda point: f"{point.num_predicted:,}"),
        ("positives", lambda point: f"{point.num_positives:,}"),
    ]


def _promise(points: "OperatingPoints") -> str:
    goal, num_classes = points.goal, len(points.points)
    num_attained = sum(point.attainable for point in points.points)
    wanted = {
        "f": f"have a best F{goal.level:g}",
        "precision": f"reach a precision of {goal.level:g}",
        "recall": f"reach a recall of {goal.level:g}",
        "top": f"are predicted for at most {goal.level:g} of the images",
    }.get(goal.kind, "")
    text = f"{num_attained} of {num_classes} classes {wanted}, chosen on {points.num_images:,} images. "
    if points.is_shared:
        text = f"One threshold for all {num_classes} classes, chosen for their decisions together on {points.num_images:,} images. "
    if (control := points.risk_control) is not None:
        text = (
            f"One threshold for all {num_classes} classes, chosen on {control.num_images:,} images with a present label. Their "
            f"sets have {control.set_size:.2f} labels on average and a false negative rate of {control.false_negative_rate:.3f}. "
        )
    if points.guarantee:
        text += points.guarantee
        text += " The 95% intervals count images, not groups." if points.groups is not None and goal.kind != "top" else ""
    else:
        text += (
            "The thresholds are the best on these images, without a guarantee for new ones; the intervals do not account for the "
            "choice."
        )
        text += "" if goal.kind == "f" or points.is_shared else " --confidence 0.95 gives a guarantee."
    if num_attained < num_classes:
        fallback = {
            "precision": "never predicted",
            "top": "never predicted",
            "recall": "predicted for every image",
            "f": "left at 0.5",
        }
        text += f" Where it is not attainable, the class is {fallback[goal.kind]}."
    return text


def _threshold(point: "OperatingPoint") -> str:
    if point.threshold in (0.0, 1.0):
        return "always" if point.threshold == 0 else "never"
    if point.threshold < 0.0005:
        return f"{point.threshold:.1e}"
    return f"{point.threshold:.4f}" if point.threshold <= 0.9995 else f"{point.threshold:.6f}"


def _interval(low: float, high: float) -> str:
    return interval_text(low, high, digits=2, dash="–")
