"""`polytag evaluate`: metrics of a predictions file, without a model or an image."""

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.evaluate_model import require_images, scores_of_model
from polytag.cli.leakage import (
    TrainData,
    leakage_of,
    leakage_to_json,
    print_leakage,
    training_images_of,
)
from polytag.cli.reading import reads_annotations
from polytag.cli.say import say
from polytag.cli.scores import Scale, Truth, as_in_training, read_labelled_scores
from polytag.cli.slices import (
    Columns,
    ColumnsFile,
    Group,
    apart_from_groups,
    groups_by,
    groups_of_training,
    numbers_of_truth,
    print_slices,
    require_use_of_columns,
    slices_of,
)
from polytag.cli.weighted import Weight, print_weighted, weighted_by
from polytag.errors import UsageError
from polytag.text import counted, interval_text, number_text, printable

if TYPE_CHECKING:
    from polytag.contracts import Predictions
    from polytag.data.read_options import ReadOptions
    from polytag.metrics.values import Metrics
    from polytag.predictions.thresholds import ThresholdsFile

_MEANINGS = {  # short descriptions of the averages, in the order of the table
    "mAP": "mean of the classes' average precisions",
    "head_mAP": "",  # these three by Metrics.frequency
    "medium_mAP": "",
    "tail_mAP": "",
    "mAP_voc10": "mAP with VOC 2010's AP",
    "mAP_voc07": "mAP with VOC 2007's eleven-point AP",
    "weighted_AP": "classes weighted by their positives; not mAP",
    "micro_AP": "all labels in one ranking; not mAP",
    "samples_AP": "mean over images (LRAP); not mAP",
    "ROC_AUC": "mean of the classes' areas under the ROC curve",
    "coverage": "length of an image's ranking down to its last true class",
    "ranking_loss": "share of an image's pairs in the wrong order",
    "CP": "precision, mean over classes",
    "CR": "recall, mean over classes",
    "CF1": "harmonic mean of CP and CR",
    "OP": "precision of all decisions",
    "OR": "recall of all decisions",
    "OF1": "harmonic mean of OP and OR",
    "top3_CF1": "CF1 of each image's three highest above the threshold",
    "top3_OF1": "OF1 of the same",
    "macro_F1": "mean of the classes' F1",
    "exact_match": "share of images whose labels are all right",
    "samples_jaccard": "Jaccard index of an image's labels, mean over images",
    "samples_F1": "F1 of an image's labels, mean over images",
    "samples_FNR": "share of an image's labels not predicted, mean over images",
    "set_size": "labels predicted for an image, mean over images",
    "Brier": "squared error of the probabilities, mean over classes",
    "calibration_error": "probability against share, 15 bins, mean over classes",
    "accuracy": "share of right decisions, mean over classes",
}


@reads_annotations
def evaluate(
    options: "ReadOptions",
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS|MODEL",
            help="Scores of `train` or `predict`, or any program's; with --images a run, model or export.",
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Score this labelled data set with MODEL, and evaluate the scores.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of --images.", show_default="val, or all where it names none")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="With --images, as of `predict`.", show_default="auto")] = None,
    truth: Truth = None,
    scale: Scale = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability above which a label counts as predicted.", show_default="the run's own, or 0.5"),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A thresholds.json, or any JSON of class name: probability.")
    ] = None,
    slice: Columns = None,
    group: Group = None,
    weight: Weight = None,
    columns: ColumnsFile = None,
    train_data: TrainData = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every number as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the report page.")] = None,
) -> None:
    """Average precision per class with intervals, and every average under its own name with the number of classes it counts."""
    from polytag import files
    from polytag.cli.terminal import Terminal
    from polytag.metrics.evaluate import evaluate_predictions
    from polytag.metrics.frequency import training_frequency
    from polytag.predictions.thresholds import PREDICTIONS

    require_use_of_columns(columns, used=bool(slice or group or weight), options="--slice, --group or --weight")
    errors = Terminal(stderr=True)
    of_truth = apart_from_groups(options, group, truth=truth)
    no_classes = numbers_of_truth((*(slice or ()), weight), truth=truth)
    own: tuple[float, ...] | float = 0.5
    if images is None:
        require_images(split=split, precision=precision)
        labelled = read_labelled_scores(
            predictions, scale=scale, truth=truth, options=of_truth, errors=errors, unless_scored=no_classes
        )
    else:
        if truth is not None or scale is not None:
            raise UsageError("the labels and the scores are those of --images", got="--truth or --scores", expected="neither")
        labelled, own = scores_of_model(
            predictions, images, split=split, precision=precision or "auto", options=options, errors=errors
        )
    table = labelled.predictions
    of_run = predictions if images is None else predictions / PREDICTIONS
    found = _thresholds(of_run, table, threshold=threshold, file=thresholds)
    chosen = found.thresholds if found is not None else own if threshold is None else threshold
    groups = groups_by(labelled, group, file=columns, truth=truth)
    groups = groups or groups_of_training(labelled, predictions, is_required=False)
    weighted = None
    if weight is not None:
        weighted = weighted_by(labelled, weight, file=columns, truth=truth, threshold=chosen, groups=groups)
    trained_on = None
    if train_data is not None:
        trained_on = training_images_of(table, train_data, options=as_in_training(options, predictions))
    frequency = None if trained_on is None else training_frequency(trained_on, table.label_set)
    metrics = evaluate_predictions(table, threshold=chosen, groups=groups, frequency=frequency)
    if found is not None and found.risk_control is not None and not found.chosen_on(table):
        rate = replace(metrics.means["samples_FNR"], promised=found.risk_control.level)
        metrics = replace(metrics, means={**metrics.means, "samples_FNR": rate})
    slices = slices_of(
        labelled, slice or (), file=columns, truth=truth, threshold=chosen, groups=groups, frequency=metrics.frequency
    )
    console = Terminal()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120  # a file or a pipe takes whole lines
    print_metrics(console, metrics)
    if found is not None and (thresholds is not None or set(found.thresholds) != {0.5}):
        print_thresholds(found, metrics, predictions=table)
    for part in slices:
        print_slices(console, part)
    if weighted is not None:
        print_weighted(console, weighted, metrics)
    leaked = None
    if trained_on is not None:
        leaked = leakage_of(table, trained_on, threshold=chosen, metrics=metrics, errors=errors)
        print_leakage(console, *leaked, metrics=metrics, predictions=table)
    if json is not None:
        import json as encoder

        content = metrics.to_json()
        if slices:
            from polytag.metrics.slices import slices_to_json

            content["slices"] = {part.column: slices_to_json(part) for part in slices}
        if weighted is not None:
            content["weighted"] = weighted.to_json()
        if leaked:
            content["leakage"] = leakage_to_json(*leaked, predictions=table)
        files.write_text(json, encoder.dumps(content, indent=1, allow_nan=False) + "\n")
    if report is not None:
        from polytag.report.page import write_report

        write_report(report, metrics=metrics, predictions=table, title=predictions.stem, slices=slices)
        say(f"\nreport: {report}")


def _thresholds(path: Path, table: "Predictions", *, threshold: float | None, file: Path | None) -> "ThresholdsFile | None":
    """The thresholds of a file or of the predictions' run; None where a single one decides, that of the command line or 0.5."""
    from polytag.predictions.thresholds import find_thresholds, read_thresholds, require_same_calibration

    if threshold is not None and file is not None:
        raise UsageError("two kinds of thresholds", got="--threshold and --thresholds", expected="one of them")
    if threshold is not None:
        return None
    found = find_thresholds(path, table) if file is None else read_thresholds(file, label_set=table.label_set)
    if found is not None:
        require_same_calibration(found, table, where=file or path)
    return found


def print_thresholds(found: "ThresholdsFile", metrics: "Metrics", *, predictions: "Predictions") -> None:
    """Say where the thresholds come from, whether these images chose them, and how a guaranteed false negative rate holds here."""
    has_goal, is_same = found.goal not in ("", "default"), found.chosen_on(predictions)
    whose = (
        "one threshold for all classes" if len(set(found.thresholds)) == 1 < len(found.thresholds) else "each class's own threshold"
    )
    say(f"Decisions by {whose}, from {found.where}{f', chosen for {found.goal}' if has_goal else ''}.")
    if has_goal and is_same:
        say("These images chose the thresholds: decisions on new images are likely to be worse.")
    rate = metrics.means["samples_FNR"]
    if not math.isnan(rate.promised):
        say(
            "Guaranteed on average for images that did not choose them: a false negative rate of at most "
            f"{rate.promised:g}. Here: {number_text(rate.value)} ({interval_text(rate.low, rate.high)}), with "
            f"{number_text(metrics.means['set_size'].value, digits=2)} labels predicted for an image."
        )


def print_metrics(console: "Any", metrics: "Metrics") -> None:
    """Print two tables: one line per class, `best_first`, and one line per average. A narrow console drops words, never numbers."""
    from rich.markup import escape
    from rich.table import Table

    from polytag.metrics.values import positives_text

    is_narrow = console.width < 100
    gap = 1 if is_narrow else 2
    classes = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    classes.add_column("class", overflow="fold", min_width=5)
    several = len(set(metrics.threshold_C.tolist())) > 1
    labels = ("pos.", "neg.", "unk.") if is_narrow else ("positives", "negatives", "unknown")
    headings = ("AP", "95% interval", "chance", *labels, "precision", "recall")
    for heading in (*headings, "threshold") if several else headings:
        classes.add_column(heading, justify="right", no_wrap=not several)
    for column in metrics.best_first.tolist():
        classes.add_row(
            escape(metrics.label_set.names[column]),
            number_text(float(metrics.ap_C[column]), digits=4),
            interval_text(float(metrics.ap_low_C[column]), float(metrics.ap_high_C[column])),
            number_text(float(metrics.ap_chance_C[column])),
            positives_text(int(metrics.support_C[column])),
            str(metrics.num_negative_C[column]),
            str(metrics.num_unknown_C[column]),
            number_text(float(metrics.precision_C[column]), digits=4),
            number_text(float(metrics.recall_C[column]), digits=4),
            *([f"{metrics.threshold_C[column]:.4g}"] if several else []),
        )
    console.print(classes)
    if metrics.note:
        console.print(f"\n{printable(metrics.note)}", highlight=False, markup=False)
    console.print()

    averages = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (("average", "left"), ("value", "right"), ("95% interval", "right"), ("over", "right")):
        averages.add_column(heading, justify=justify, no_wrap=True)  # pyright: ignore[reportArgumentType]  rich's literal type
    meanings = {
        name: meaning or metrics.frequency.meanings[name] for name, meaning in _MEANINGS.items() if name in metrics.shown_means
    }
    if metrics.mean_ap.count:
        meanings["mAP"] += f"; {metrics.chance:.3f} by chance"
    rows = [
        (name, number_text(mean.value, digits=4), interval_text(mean.low, mean.high), counted(mean.count, mean.unit))
        for name in meanings
        for mean in [metrics.means[name]]
    ]
    num_left = console.width - 8 - sum(max(map(len, column)) for column in zip(*rows, strict=True))
    has_meanings = num_left >= 30
    if has_meanings:
        averages.add_column("", no_wrap=True, max_width=num_left)
    for row, meaning in zip(rows, meanings.values(), strict=True):
        averages.add_row(*row, *([f"[dim]{meaning}[/dim]"] if has_meanings else []))
    console.print(averages)
    if not has_meanings:
        console.print("[dim]A wider window describes each average.[/dim]")
    if metrics.left_out:
        console.print(f"\n{metrics.left_out}", highlight=False, markup=False)
    known = int(metrics.support_C.sum() + metrics.num_negative_C.sum())
    absent = int(metrics.num_negative_C.sum()) / known if known else math.nan
    console.print(
        f"\n{metrics.num_images} images. {absent:.1%} of the known labels are absent. A model that predicts nothing has about that "
        "accuracy, so accuracy is uninformative.",
        highlight=False,
    )
