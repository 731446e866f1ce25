"""`--features TABLE` of train and predict: vectors that another program computed, in place of images."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from polytag.errors import UsageError

FeaturesFile = Annotated[
    Path | None,
    typer.Option("--features", metavar="TABLE", help="A .parquet, .npy or .npz file of vectors by image id, in place of images."),
]
ClassFeaturesFile = Annotated[
    Path | None,
    typer.Option("--class-features", metavar="TABLE", help="With --features: vectors of class names, for zero-shot scores."),
]
_OF_IMAGES = frozenset(
    ("--backbone", "--backbone-arg", "--weights", "--image-size", "--fit", "--crops", "--augment", "--loss", "--class-weights",
     "--batch-size", "--epochs", "--minutes", "--plan",
     "--head-lr", "--backbone-lr", "--folds", "--device", "--precision", "--cache", "--parts")
)  # fmt: skip
_OF_PREDICTING_IMAGES = frozenset(("--shard", "--ray", "--columns", "--every", "--split", "--device", "--precision", "--parts"))


def recipe_on_features(given: Collection[str], *, recipe: str) -> str:
    """The name of the recipe of a training on features: the probe. Raises UsageError for options on the command line that need
    images."""
    if "--recipe" in given and recipe != "probe":
        raise UsageError("features are trained on by the probe", where="--recipe", got=recipe, expected="probe, or no --recipe")
    _require_none(given, _OF_IMAGES)
    return "probe"


def _require_none(given: Collection[str], others: frozenset[str]) -> None:
    if wrong := sorted(others & set(given)):
        raise UsageError(
            "features take the place of images and network",
            where="--features",
            got=", ".join(wrong),
            expected="no option that needs images",
            next_step="leave those options out",
        )


def predict_from_features(
    model: Path, features: Path, *, images: Collection[str], given: Collection[str], output: Path | None
) -> None:
    """Print the classes above their thresholds of every row of the table, or write the scores into a file."""
    from polytag.cli.terminal import Terminal
    from polytag.data.feature_table import open_feature_table
    from polytag.inference.feature_scores import FeatureClassifier
    from polytag.models.checkpoint import Checkpoint
    from polytag.predictions.table import PredictionsWriter

    if images:
        raise UsageError("features take the place of images", where="IMAGES", got=", ".join(images)[:200], expected="none")
    _require_none(given, _OF_PREDICTING_IMAGES)
    console = Terminal()
    checkpoint = Checkpoint.read(model)
    classifier, table = FeatureClassifier.load(checkpoint), open_feature_table(features)
    if output is None:
        for ids, logit_NC in classifier.score_table(table):
            _print(console, ids, logit_NC, checkpoint=checkpoint)
        return
    writer = PredictionsWriter(
        output,
        label_set=checkpoint.label_set,
        checkpoint_id=checkpoint.id,
        thresholds=checkpoint.thresholds,
        source=str(table.path),
        calibration=checkpoint.calibration_id,
    )
    with writer:
        for ids, logit_NC in classifier.score_table(table):
            writer.write(ids, ids, logit_NC)
    console.print(f"{len(table.ids)} rows scored: {output}", highlight=False, markup=False, soft_wrap=True)


def _print(console: Any, ids: Collection[str], logit_NC: Any, *, checkpoint: Any) -> None:
    import numpy as np

    from polytag.inference.predict import ImageResult

    for name, logit_C in zip(ids, np.asarray(logit_NC), strict=True):
        result = ImageResult(path=name, logit_C=logit_C, label_set=checkpoint.label_set, thresholds=checkpoint.thresholds)
        labels = ", ".join(f"{label} {result.probabilities[label]:.2f}" for label in result.labels) or "–"
        console.print(f"{name}  {labels}", highlight=False, markup=False, soft_wrap=True)
