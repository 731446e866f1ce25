"""`polytag calibrate`: calibrated probabilities, fitted on validation and saved in the run."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.reading import ColumnsById, reads_annotations
from polytag.cli.scores import Scale, Truth, read_labelled_scores, say_where_nothing_is_saved
from polytag.cli.slices import FoldGroup, apart_from_groups, groups_by, groups_of_training, require_use_of_columns
from polytag.text import json_number

if TYPE_CHECKING:
    import numpy as np

    from polytag.contracts import LabelSet, Predictions
    from polytag.data.read_options import ReadOptions
    from polytag.metrics.calibration import CalibrationFit


@reads_annotations
def calibrate(
    options: "ReadOptions",
    run: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A run folder, or scores with their labels.")],
    method: Annotated[str, typer.Option(help="platt, temperature or isotonic; none removes a calibration.")] = "platt",
    folds: Annotated[int, typer.Option(help="Parts of the images for the cross-fitted numbers.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the folds.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the result without changing the run.")] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the calibration to this file.")] = None,
    truth: Truth = None,
    scale: Scale = None,
    group: FoldGroup = None,
    columns: ColumnsById = None,
) -> None:
    """Fit an increasing map of each class's scores, so that of the images with probability 0.8, eight in ten have the class.

    The map is saved in best/, and all other verbs use it. No two scores change their order, nor do decisions at chosen thresholds
    change. Scores that are closer afterwards than float32 can tell become equal, and are counted.
    """
    from polytag import files
    from polytag.cli.terminal import Terminal
    from polytag.errors import PredictionsError, UsageError
    from polytag.inference.decisions import save_calibration
    from polytag.metrics.calibration import fit_calibration
    from polytag.runs.folder import RunFolder, predictions_path
    from polytag.runs.model import open_run

    console, found = Terminal(), open_run(run)
    if method == "none" and found is None:
        raise UsageError(
            "no calibration to remove", where="--method", got=f"none, for {run}", expected="a run folder with one model"
        )
    folder = RunFolder(path=run)
    raw_path = folder.uncalibrated if folder.uncalibrated.is_file() else folder.predictions
    source = predictions_path(run) if found is None else raw_path
    require_use_of_columns(columns, used=bool(group), options="--group")
    options = apart_from_groups(options, group, truth=truth)
    labelled = read_labelled_scores(source, scale=scale, truth=truth, options=options, errors=Terminal(stderr=True))
    predictions = labelled.predictions
    if predictions.calibration or (found is not None and predictions.checkpoint_id != found.checkpoint.id):
        raise PredictionsError(
            "these are not the uncalibrated scores of the run's model",
            where=str(source),
            got=f"checkpoint {predictions.checkpoint_id or 'none'}, calibration {predictions.calibration or 'none'}",
            expected=f"checkpoint {found.checkpoint.id}, calibration none" if found else "calibration none",
            next_step="calibrate on uncalibrated scores",
        )
    if method == "none":
        assert found is not None
        if not dry_run:
            save_calibration(found, predictions, None)
        console.print("Calibration removed: probabilities are those of the model.")
        return
    groups = groups_by(labelled, group, file=columns, truth=truth) or groups_of_training(labelled, run)
    fit = fit_calibration(predictions, method=method, num_folds=folds, seed=seed, groups=groups)
    print_fit(console, fit, predictions.label_set)
    print_merged(console, fit, predictions)
    values = fit_to_json(fit, predictions.label_set, seed=seed)
    if json is not None:
        files.write_text(json, _encoded(values))
    if found is None or dry_run:
        say_where_nothing_is_saved(run)
        return
    goal = save_calibration(found, predictions, fit.calibration, facts=_encoded(values))
    chosen_for = f"for {goal} " if goal else ""
    moved = (
        "stay 0.5, now of the calibrated probability" if goal == "default" else f"{chosen_for}are converted: no decision changes"
    )
    console.print(
        f"\nSaved in best/ and {folder.calibration}; {folder.predictions.name} contains calibrated scores now. Thresholds {moved}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def print_fit(console: "Any", fit: "CalibrationFit", label_set: "LabelSet") -> None:
    """Print one line per class and one of the means: before, and cross-fitted after."""
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")
    for heading in ("positives", "log-loss", "", "Brier", "", "error", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    pairs = [(getattr(fit.before, name), getattr(fit.after, name)) for name in ("log_loss_C", "brier_C", "error_C")]
    for column, name in enumerate(label_set):
        cells = [cell for before_C, after_C in pairs for cell in _change(before_C[column], after_C[column])]
        table.add_row(escape(name), f"{fit.num_positives_C[column]:,}", *cells)
    known = fit.num_known_C > 0
    means = [cell for before_C, after_C in pairs for cell in _change(np.mean(before_C[known]), np.mean(after_C[known]))]
    table.add_row(f"mean of {int(known.sum())}", "", *means, style="bold")
    console.print(table)
    noted = [f"  {name}: {note}" for name, note in zip(label_set, fit.notes, strict=True) if note]
    if noted:
        console.print("\n".join(["", "Classes without their own map:", *noted]), highlight=False, markup=False)
    kept = f", and none of {fit.groups.num_groups:,} groups of {fit.groups.column} was divided" if fit.groups else ""
    worse = int((fit.after.log_loss_C > fit.before.log_loss_C).sum())
    console.print(
        f"\nBefore → after, by {fit.calibration.method}, cross-fitted: each of {fit.num_folds} parts of the images was corrected "
        f"by a map fitted on the others{kept}. Log-loss, Brier score and expected calibration error: 0 is best. "
        + (
            f"{worse} of {len(label_set)} classes have a higher log-loss after."
            if worse
            else "No class has a higher log-loss after."
        ),
        highlight=False,
        markup=False,
    )


def print_merged(console: "Any", fit: "CalibrationFit", predictions: "Predictions") -> None:
    """Say how many scores become equal, if any: calibrated logits are stored as float32, and AP may change with such ties."""
    import numpy as np

    from polytag.metrics.calibration import num_merged

    before_NC = predictions.logit_NC.astype(np.float32)
    merged_C = num_merged(before_NC, fit.calibration.apply(before_NC))
    if merged_C.any():
        worst = int(merged_C.argmax())
        console.print(
            f"\n{int(merged_C.sum()):,} of {before_NC.size:,} scores are rounded to that of a neighbour and tie with it, most of "
            f"{predictions.label_set.names[worst]} ({merged_C[worst]:,}).",
            highlight=False,
            markup=False,
        )


def fit_to_json(fit: "CalibrationFit", label_set: "LabelSet", *, seed: int) -> dict[str, Any]:
    """The content of calibration.json: plain values, NaN written as null."""
    per_class = {
        name: {
            "num_positives": int(fit.num_positives_C[column]),
            "num_known": int(fit.num_known_C[column]),
            **{
                f"{key}_{when}": json_number(values_C[column])
                for when, quality in (("before", fit.before), ("after", fit.after))
                for key, values_C in (
                    ("log_loss", quality.log_loss_C),
                    ("brier", quality.brier_C),
                    ("calibration_error", quality.error_C),
                )
            },
            "note": fit.notes[column],
        }
        for column, name in enumerate(label_set)
    }
    return {
        "version": 1,
        "calibration": fit.calibration.to_json(),
        "num_folds": fit.num_folds,
        "seed": seed,
        "group": fit.groups.column if fit.groups else None,
        "per_class": per_class,
    }


def _encoded(values: dict[str, Any]) -> str:
    import json

    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _change(before: "np.floating | float", after: "np.floating | float") -> tuple[str, str]:
    return ("–", "") if math.isnan(before) else (f"{before:.4f}", f"→ {after:.4f}")
