"""Options for reading scores, shared by every verb that evaluates them, and their reader."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.say import say

if TYPE_CHECKING:
    from polytag.data.read_options import ReadOptions
    from polytag.predictions.read import LabelledPredictions

Scale = Annotated[
    str | None,
    typer.Option(
        "--scores", metavar="logit|probability|rank", help="Kind of the scores, if the file does not record it; never guessed."
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(metavar="DATA", help="True labels, if the file has none: a data set, or a table by id."),
]


def as_in_training(options: "ReadOptions", path: Path) -> "ReadOptions":
    """The options with the classes of the run that the path is of, which a note on stderr says."""
    from polytag.runs import args

    options, text = args.as_in_training(options, path)
    if text:
        say(f"note: {text}", file=sys.stderr)
    return options


def say_where_nothing_is_saved(run: Path) -> None:
    """A run of folds can be evaluated, but has no one model that would keep thresholds or a calibration."""
    from polytag.runs.folder import RunFolder

    if RunFolder(path=run).has_folds:
        say(f"\nNothing is saved: a run of folds has a model for each of them. To save, give a fold, such as {run / 'fold-1'}.")


def read_labelled_scores(
    path: Path,
    *,
    scale: str | None,
    truth: Path | None,
    options: "ReadOptions",
    errors: "Any",
    unless_scored: tuple[str, ...] = (),
) -> "LabelledPredictions":
    """Scores with their true labels; prints notes to the console `errors`. Raises PredictionsError where no label is known.

    `unless_scored` names columns of the truth that are no classes, unless the scores have a class of the name.
    """
    from polytag.errors import PredictionsError
    from polytag.predictions.read import read_labelled

    if truth is not None:
        options = as_in_training(options, path)
    labelled = read_labelled(path, scale=scale or "", truth=truth, options=options, unless_scored=unless_scored)
    for note in labelled.notes:
        errors.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if not labelled.predictions.has_probabilities:
        note = "these scores are ranks: every metric that needs a probability is undefined"
        errors.print(f"note: {note}", highlight=False, soft_wrap=True)
    if not (labelled.predictions.target_NC >= 0).any():
        raise PredictionsError(
            "these predictions have no labels to evaluate against",
            where=str(path),
            expected="at least one known label",
            next_step="give --truth DATA, the labelled data set that the images are from",
        )
    return labelled
