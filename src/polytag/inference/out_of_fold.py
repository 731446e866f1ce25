"""Out-of-fold scores of training images: by a linear probe that was fitted without their fold."""

from collections.abc import Callable

from polytag.contracts import Dataset, Predictions
from polytag.data.groups import several_groups
from polytag.errors import DataError, UsageError
from polytag.inference.feature_cache import features_of
from polytag.inference.predictor import Predictor
from polytag.inference.probe import fit_probe
from polytag.models.checkpoint import Checkpoint
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import Recipe


def out_of_fold(
    predictor: Predictor, dataset: Dataset, *, seed: int = 0, on_batch: Callable[[int], None] = lambda num_images: None
) -> Predictions:
    """Predictions over labelled images, each by a logistic regression on the model's features that left its fold out.

    Four folds of images share one strength of the L2 penalty, chosen on the same folds. The features of a frozen backbone are
    independent of these labels. A backbone that was fine-tuned on these images may have memorised wrong labels, and then fewer of
    them are found. The images of a group share a fold. Images that cannot be read are left out. Deterministic for a seed and a
    thread count.

    Raises CheckpointError for data with other classes, DataError for fewer than two readable images or groups.
    """
    predictor.checkpoint.require_labels(dataset.label_set)
    feature_ND, rows, _ = features_of(predictor, dataset, on_batch=on_batch)
    if len(rows) < 2:
        raise DataError("too few images for out-of-fold scores", where=dataset.source, got=str(len(rows)), expected="2 or more")
    readable = dataset.take(rows)
    group_N = several_groups(readable, what="out-of-fold scores need several groups", why="share a fold")
    probe = fit_probe(feature_ND, readable.target_NC, group_N=group_N, seed=seed)
    return Predictions(
        ids=readable.ids,
        logit_NC=probe.held_out_logit_NC,
        target_NC=readable.target_NC,
        label_set=readable.label_set,
        image_paths=tuple(str(path) for path in readable.paths),
        source=f"{dataset.source}, out-of-fold",
        absent_means=dataset.absent_means,
    )


def training_images(run: RunFolder) -> tuple[Dataset, Recipe]:
    """The images that a run learned from, and its recipe; raises RunError or DataError where either is gone, UsageError for a run
    of folds, whose every image is scored out-of-fold already."""
    args = read_run_args(run)
    if args.has_all_folds:
        raise UsageError(
            "a run of folds has no training images of its own: all its images are scored out-of-fold",
            where=str(run.path),
            got="--split train",
            expected="the run without --split, or the run of a fold, such as " + str(run.fold(1).path),
        )
    return load_run_data(args).split("train"), args.recipe


def out_of_fold_of_run(
    run: RunFolder, *, device: str = "auto", on_batch: Callable[[int], None] = lambda num_images: None
) -> tuple[Predictions, str]:
    """Out-of-fold predictions over a run's own training images, and a note where its backbone was fine-tuned on their labels."""
    dataset, recipe = training_images(run)
    predictor = Predictor.load(Checkpoint.read(run.best), device=device)
    predictions = out_of_fold(predictor, dataset, seed=recipe.seed, on_batch=on_batch)
    note = "the backbone was fine-tuned on these labels and may have memorised wrong ones: a run of the recipe `probe` finds more"
    return predictions, note if recipe.epochs and recipe.peak_rates[1] else ""
