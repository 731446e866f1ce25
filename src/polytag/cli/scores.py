"""Options for reading scores, for every verb that judges them, and what they read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from polytag.data.load import ReadOptions
    from polytag.predictions.read import LabelledPredictions

Scale = Annotated[
    str | None,
    typer.Option(
        "--scores", metavar="logit|probability|rank", help="What the numbers are, where the file does not say: never guessed."
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(metavar="DATA", help="Labels to judge against, where the file has none: a data set, or a table by id."),
]


def read_labelled_scores(
    path: Path, *, scale: str | None, truth: Path | None, options: "ReadOptions", errors: "Any"
) -> "LabelledPredictions":
    """Scores with their truth; notes go to `errors`, a console. Raises PredictionsError where no label is known."""
    from polytag.errors import PredictionsError
    from polytag.predictions.read import read_labelled

    labelled = read_labelled(path, scale=scale or "", truth=truth, options=options)
    for note in labelled.notes:
        errors.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if not labelled.predictions.has_probabilities:
        note = "only the order of these scores means something: every number that needs a probability is undefined"
        errors.print(f"note: {note}", highlight=False, soft_wrap=True)
    if not (labelled.predictions.target_NC >= 0).any():
        raise PredictionsError(
            "these predictions carry no truth to be judged against",
            where=str(path),
            expected="at least one known label",
            next_step="give --truth DATA, the labelled data set that the images are from",
        )
    return labelled
