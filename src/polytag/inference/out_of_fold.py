"""Scores of training images by a model that did not see their labels: the linear probe, fold by fold."""

from collections.abc import Callable

from polytag.contracts import Dataset, Predictions
from polytag.errors import DataError
from polytag.inference.feature_cache import features_of
from polytag.inference.predictor import Predictor
from polytag.inference.probe import fit_probe
from polytag.models.checkpoint import Checkpoint
from polytag.runs.args import load_run_data, read_args, read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import Recipe


def out_of_fold(
    predictor: Predictor, dataset: Dataset, *, seed: int = 0, on_batch: Callable[[int], None] = lambda num_images: None
) -> Predictions:
    """Predictions over labelled images, each by a logistic regression over the model's features that left its fold out.

    Four folds of whole images; the strength of the L2 penalty is one for all, chosen on the same folds. The features are those
    of the checkpoint as it is: of a frozen backbone they know nothing of these labels; a fine-tuned one that learned from these
    very images may have learned their wrong labels by heart, and then disbelieves fewer of them. Images that cannot be read
    are left out. Deterministic for a seed and a thread count.

    Raises CheckpointError for data with other classes, DataError for fewer than two images that can be read.
    """
    predictor.checkpoint.require_labels(dataset.label_set)
    feature_ND, rows, _ = features_of(predictor, dataset, on_batch=on_batch)
    if len(rows) < 2:
        raise DataError("too few images to leave one out", where=dataset.source, got=str(len(rows)), expected="2 or more")
    kept = dataset.take(rows)
    probe = fit_probe(feature_ND, kept.target_NC, seed=seed)
    return Predictions(
        ids=kept.ids,
        logit_NC=probe.held_out_logit_NC,
        target_NC=kept.target_NC,
        label_set=kept.label_set,
        image_paths=tuple(str(path) for path in kept.paths),
        source=f"{dataset.source}, out-of-fold",
    )


def training_images(run: RunFolder) -> tuple[Dataset, Recipe]:
    """The images that a run learned from, and its recipe; raises RunError or DataError where either is gone."""
    return load_run_data(read_run_args(run)).split("train"), read_args(run)[0]


def out_of_fold_of_run(
    run: RunFolder, *, device: str = "auto", on_batch: Callable[[int], None] = lambda num_images: None
) -> tuple[Predictions, str]:
    """Out-of-fold predictions over a run's own training images, and a note where its backbone has learned from their labels."""
    dataset, recipe = training_images(run)
    predictor = Predictor.load(Checkpoint.read(run.best), device=device)
    predictions = out_of_fold(predictor, dataset, seed=recipe.seed, on_batch=on_batch)
    note = (
        "the backbone was fine-tuned on these very labels and may have learned wrong ones by heart: a run of the recipe `probe` "
        "finds more of them"
    )
    return predictions, note if recipe.epochs and recipe.backbone_lr else ""
