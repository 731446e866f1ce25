"""`polytag labels issues`: the labels that a model contradicts, ranked, with an estimate of how many are wrong."""

import csv as tables
import io
import json as encoder
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli import labels_export, labels_next
from polytag.cli.reading import ColumnsById, reads_annotations
from polytag.cli.say import say
from polytag.cli.scores import Scale, Truth
from polytag.cli.slices import FoldGroup, apart_from_groups, groups_by, groups_of_training, require_use_of_columns
from polytag.text import whole_text

if TYPE_CHECKING:
    from rich.console import Console

    from polytag.data.read_options import ReadOptions
    from polytag.metrics.label_issues import ClassLabelIssues, LabelIssues
    from polytag.predictions.read import LabelledPredictions

app = typer.Typer(
    help="Find wrong labels, export corrected ones, choose images to label next.", no_args_is_help=True, add_completion=False
)
app.command("export")(labels_export.export)
app.command("next")(labels_next.next_labels)


@app.command()
@reads_annotations
def issues(
    options: "ReadOptions",
    run: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A run folder, or held-out scores with their labels.")],
    class_names: Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help="Only this class; repeatable.")] = None,
    top: Annotated[int, typer.Option(metavar="K", help="Largest number of listed labels per class and kind.")] = 20,
    split: Annotated[
        str, typer.Option(metavar="val|train", help="Images of a run: validation, or training, scored out-of-fold.")
    ] = "val",
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write estimates and label issues as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the label issues, one per line.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with the images.")] = None,
    truth: Truth = None,
    scale: Scale = None,
    group: FoldGroup = None,
    columns: ColumnsById = None,
) -> None:
    """List the labels that held-out scores contradict most: wrong presents, wrong absents, and unknown labels to fill in."""
    from polytag import files
    from polytag.cli.terminal import Terminal
    from polytag.metrics.label_issues import find_label_issues

    errors = Terminal(stderr=True)
    require_use_of_columns(columns, used=bool(group), options="--group")
    options = apart_from_groups(options, group, truth=truth)
    labelled = _read(run, split=split, truth=truth, scale=scale, options=options, is_grouped=group is not None, errors=errors)
    groups = groups_by(labelled, group, file=columns, truth=truth) or groups_of_training(labelled, run)
    found = find_label_issues(labelled.predictions, top=top, classes=class_names or (), groups=groups)
    print_label_issues(Terminal(), found)
    if json is not None:
        files.write_text(json, encoder.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if csv is not None:
        files.write_text(csv, label_issues_to_csv(found))
    if report is not None:
        from polytag.report.label_issues import write_label_issues

        write_label_issues(report, found, title=_title(run, split))
        say(f"\nreport: {report}")


def print_label_issues(console: "Console", found: "LabelIssues") -> None:
    """Print one line per class with its estimates, the most suspicious labels, and unknown labels that are probably present."""
    from rich.markup import escape
    from rich.table import Table

    from polytag.metrics.label_issues import MEANINGS
    from polytag.report.ranking import probability_text

    classes = Table(box=None, pad_edge=False, header_style="bold")
    classes.add_column("\nclass", overflow="fold")
    for heading in ("labelled\npresent", "look\nwrong", "labelled\nabsent", "look\nwrong", "\nunknown", "probably\npresent"):
        classes.add_column(heading, justify="right", no_wrap=True)
    for part in found.classes:
        classes.add_row(escape(part.name), *_counts(part))
    console.print(classes)
    without_estimate = [part for part in found.classes if part.reason]
    if without_estimate:
        console.print("\nRanked without an estimate:")
    for part in without_estimate:
        console.print(f"  {part.name}: {part.reason}", highlight=False, markup=False)
    console.print(
        "\nThe numbers of wrong labels are estimates of confident learning, and no bounds: too high where the model's own mistakes "
        "are counted, too low where many labels of a class are missing.",
        highlight=False,
        markup=False,
    )
    for heading, listed in (("Most suspicious", found.issues), ("Unknown, and probably present", found.fill_ins)):
        if not listed:
            continue
        table = Table(box=None, pad_edge=False, header_style="bold", title=f"\n{heading}", title_justify="left")
        for name in ("class", "given", "probability", "image"):
            table.add_column(name, overflow="fold", justify="right" if name == "probability" else "left")
        for each in listed[: found.top]:
            table.add_row(escape(each.class_name), MEANINGS[each.given], probability_text(each.probability), escape(each.id))
        console.print(table, highlight=False)
        if len(listed) > found.top:
            console.print(f"[dim]… and {len(listed) - found.top:,} more in --csv, --json and --report[/dim]", highlight=False)
    if not found.issues:
        console.print("\nThe model contradicts no given label.", highlight=False)


def label_issues_to_csv(found: "LabelIssues") -> str:
    """class, given, probability, is_counted, id, image_path: the label issues of all classes, then the labels to fill in."""
    from polytag.metrics.label_issues import MEANINGS
    from polytag.text import cell

    text = io.StringIO()
    writer = tables.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for each in (*found.issues, *found.fill_ins):
        counted = "yes" if each.is_counted else "no"
        names = map(cell, (each.class_name, each.id, each.image_path))
        writer.writerow([next(names), MEANINGS[each.given], f"{each.probability:.6g}", counted, *names])
    return text.getvalue()


CSV_COLUMNS = ("class", "given", "probability", "is_counted", "id", "image_path")


def _read(
    run: Path, *, split: str, truth: Path | None, scale: str | None, options: "ReadOptions", is_grouped: bool, errors: "Console"
) -> "LabelledPredictions":
    """Held-out scores with labels: a run's validation, its training images out-of-fold, or any file."""
    from polytag.cli.scores import read_labelled_scores
    from polytag.errors import UsageError

    if split not in ("val", "train"):
        raise UsageError("unknown split", where="--split", got=repr(split), expected="val or train")
    if split == "val":
        from polytag.runs.folder import predictions_path

        file = predictions_path(run)
        return read_labelled_scores(file, scale=scale, truth=truth, options=options, errors=errors)
    if not run.is_dir() or truth is not None or scale is not None or is_grouped:
        raise UsageError(
            "training images are scored out-of-fold by a run's own model, in the groups of its training",
            where="--split train",
            got=str(run) if not run.is_dir() else "--group" if is_grouped else "--truth or --scores",
            expected="a run folder alone",
        )
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.cli.progress import progress_bar
    from polytag.inference.out_of_fold import out_of_fold_of_run
    from polytag.predictions.read import LabelledPredictions
    from polytag.runs.folder import RunFolder

    keep_freed_memory_on_cpu()
    with progress_bar(errors) as progress:
        task = progress.add_task("features", total=None)
        predictions, note = out_of_fold_of_run(RunFolder(path=run), on_batch=lambda num_images: progress.advance(task, num_images))
    if note:
        errors.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    return LabelledPredictions(predictions=predictions)


def _title(run: Path, split: str) -> str:
    name = run.resolve().name if run.is_dir() else run.stem
    return f"{name}, training images" if split == "train" else name


def _counts(part: "ClassLabelIssues") -> tuple[str, ...]:
    unknown = f"{part.num_unknown:,}" if part.num_unknown else "[dim]0[/dim]"
    fill_in = f"{part.num_fill_in:,}" if part.num_fill_in else "[dim]0[/dim]"
    return (
        f"{part.num_present:,}",
        _estimate(part.wrong_present),
        f"{part.num_absent:,}",
        _estimate(part.wrong_absent),
        unknown,
        fill_in,
    )


def _estimate(value: float) -> str:
    return f"[bold]{whole_text(value)}[/bold]" if value >= 0.5 else whole_text(value)
